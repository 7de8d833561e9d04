"""Embeddings from one dialect to another, judged by the official SDKs where there is one."""

import json
from base64 import b64decode
from struct import iter_unpack
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import Notes, UnreadableError
from outrider.dialects.canonical import Usage
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.count_tokens import written_question
from outrider.dialects.embeddings import (
    DIALECTS,
    FIELDS,
    EmbeddingsAnswer,
    dialect_for,
    joined,
    split,
    translate_answer,
    translate_request,
)
from support import vectors, wire_judges
from support.sdk_judges import Transport

VECTOR = [0.5, -0.25, 1.0]
REQUESTS: dict[str, dict[str, Any]] = {
    "openai.embeddings": {"model": "m", "input": ["a", "b"]},
    "gemini.embed": {"requests": [{"content": {"parts": [{"text": one}]}, "model": "models/m"} for one in "ab"]},
    "cohere.embed": {"model": "m", "texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"]},
    "ollama.embed": {"model": "m", "input": ["a", "b"]},
    "ollama.embeddings": {"model": "m", "prompt": "a"},
    "bedrock.titan_embed": {"inputText": "a"},
    "bedrock.cohere_embed": {"texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"]},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai.embeddings": {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 1, "embedding": VECTOR}, {"index": 0, "embedding": [0.0]}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    },
    "gemini.embed": {"embeddings": [{"values": [0.0]}, {"values": VECTOR}]},
    "cohere.embed": {
        "id": "1",
        "embeddings": {"float": [[0.0], VECTOR]},
        "meta": {"billed_units": {"input_tokens": 4.0}},
    },
    "ollama.embed": {"model": "m", "embeddings": [[0.0], VECTOR], "prompt_eval_count": 4},
    "bedrock.cohere_embed": {"id": "1", "embeddings": [[0.0], VECTOR], "response_type": "embeddings_floats"},
}


def ask(source: str, target: str, **more: Any) -> tuple[list[dict[str, Any]], list[str]]:
    notes = Notes()
    request = DIALECTS[source].read_request(REQUESTS[source] | more, "m")
    return translate_request(request, DIALECTS[target], notes), notes.phrases


@pytest.mark.parametrize(
    ("model", "said"), [("m", "models/m"), ("models/m", "models/m"), ("tunedModels/m", "tunedModels/m")]
)
def test_googles_bodies_name_a_model_with_its_collection_once(model: str, said: str) -> None:
    request = DIALECTS["openai.embeddings"].read_request({"model": model, "input": ["a", "b"]}, None)
    (body,) = translate_request(request, DIALECTS["gemini.embed"], Notes())
    assert [one["model"] for one in body["requests"]] == [said, said]
    asked = {"contents": [{"parts": [{"text": "a"}]}]}
    assert written_question("gemini.generate", asked, model)["generateContentRequest"]["model"] == said


@pytest.mark.parametrize("source", DIALECTS)
@pytest.mark.parametrize("target", DIALECTS)
def test_texts_arrive_in_order_whatever_the_dialects(source: str, target: str) -> None:
    bodies, _ = ask(source, target)
    texts = [one for body in bodies for one in DIALECTS[target].read_request(body, "m").inputs]
    assert texts == DIALECTS[source].read_request(REQUESTS[source], "m").inputs


@pytest.mark.parametrize("source", ANSWERS)
@pytest.mark.parametrize("client", [name for name in DIALECTS if DIALECTS[name].inputs_max > 1])
def test_vectors_come_back_in_the_order_of_the_inputs(source: str, client: str) -> None:
    request = DIALECTS[client].read_request(REQUESTS[client], "m")
    body = translate_answer([ANSWERS[source]], DIALECTS[source], DIALECTS[client], request)
    answer = DIALECTS[client].read_answer(json.loads(json.dumps(body)))
    assert answer.vectors == [[0.0], VECTOR]
    if "gemini" not in source and source != "bedrock.cohere_embed" and client != "gemini.embed":
        assert answer.usage is not None
        assert answer.usage.input_tokens == 4


def test_bodies_of_invoke_model_are_told_by_the_model() -> None:
    assert dialect_for("bedrock.invoke", "amazon.titan-embed-text-v2:0") is DIALECTS["bedrock.titan_embed"]
    assert dialect_for("bedrock.invoke", "cohere.embed-english-v3") is DIALECTS["bedrock.cohere_embed"]
    assert dialect_for("bedrock.invoke", "amazon.nova-lite-v1:0") is None
    assert dialect_for("gemini.embed", "m") is DIALECTS["gemini.embed"]


def test_many_inputs_for_a_model_that_takes_one_are_many_calls_and_one_answer() -> None:
    bodies, _ = ask("openai.embeddings", "bedrock.titan_embed")
    assert bodies == [{"inputText": "a"}, {"inputText": "b"}]
    answers = [{"embedding": [float(index)], "inputTextTokenCount": 3} for index in range(2)]
    request = DIALECTS["openai.embeddings"].read_request(REQUESTS["openai.embeddings"], None)
    body = translate_answer(answers, DIALECTS["bedrock.titan_embed"], DIALECTS["openai.embeddings"], request)
    assert [row["embedding"] for row in body["data"]] == [[0.0], [1.0]]
    assert body["usage"] == {"prompt_tokens": 6, "total_tokens": 6}


@given(st.integers(1, 40), st.integers(1, 12))
def test_what_was_split_is_joined_in_order(inputs: int, most: int) -> None:
    request = DIALECTS["openai.embeddings"].read_request({"model": "m", "input": [str(n) for n in range(inputs)]}, None)
    parts = split(request, most)
    assert all(1 <= len(part.inputs) <= most for part in parts)
    answers = [EmbeddingsAnswer("x", [[float(str(one))] for one in part.inputs], usage=Usage(1, 0)) for part in parts]
    whole = joined(answers)
    assert whole.vectors == [[float(n)] for n in range(inputs)]
    assert whole.usage == Usage(len(parts), 0)


def test_base64_is_written_for_who_asked_and_read_from_who_sent_it() -> None:
    request = DIALECTS["openai.embeddings"].read_request(
        {"model": "m", "input": "a", "encoding_format": "base64"}, None
    )
    answer = {"model": "m", "embeddings": [VECTOR], "prompt_eval_count": 1}
    body = translate_answer([answer], DIALECTS["ollama.embed"], DIALECTS["openai.embeddings"], request)
    packed = body["data"][0]["embedding"]
    assert [number for (number,) in iter_unpack("<f", b64decode(packed))] == VECTOR
    assert DIALECTS["openai.embeddings"].read_answer(body).vectors == [VECTOR]


@pytest.mark.parametrize(
    ("source", "target", "more", "words"),
    [
        ("openai.embeddings", "cohere.embed", {"input": [[1, 2]]}, "tokens in place of text"),
        ("openai.embeddings", "ollama.embeddings", {"dimensions": 64}, "dimensions"),
        ("cohere.embed", "openai.embeddings", {"embedding_types": ["int8"]}, "vectors as int8"),
        ("cohere.embed", "ollama.embed", {"images": ["data:image/png;base64,aGk="]}, "pictures"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_name(source: str, target: str, more: Any, words: str) -> None:
    with pytest.raises(CannotCarryError, match=words):
        ask(source, target, **more)


def test_tasks_are_carried_where_both_have_them_and_noted_where_not() -> None:
    bodies, notes = ask("cohere.embed", "gemini.embed")
    assert {row["taskType"] for row in bodies[0]["requests"]} == {"RETRIEVAL_QUERY"}
    assert notes == []
    bodies, notes = ask("cohere.embed", "openai.embeddings")
    assert notes == ["input type query left out"]
    _, notes = ask("openai.embeddings", "cohere.embed")
    assert notes == ["input type given as search_document"]


def test_an_answer_with_too_few_vectors_is_unreadable() -> None:
    request = DIALECTS["openai.embeddings"].read_request(REQUESTS["openai.embeddings"], None)
    with pytest.raises(UnreadableError, match="1 vectors for 2 inputs"):
        translate_answer([{"embeddings": [[1.0]]}], DIALECTS["ollama.embed"], DIALECTS["openai.embeddings"], request)


def test_what_only_one_dialect_knows_goes_back_to_it_alone() -> None:
    bodies, _ = ask("ollama.embed", "ollama.embed", options={"num_ctx": 5})
    assert bodies[0]["options"] == {"num_ctx": 5}
    bodies, notes = ask("ollama.embed", "openai.embeddings", options={"num_ctx": 5})
    assert "options" not in bodies[0]
    assert notes == ["options left out"]


def test_the_official_sdks_read_the_vectors() -> None:
    source = DIALECTS["openai.embeddings"]

    def written(client: str) -> bytes:
        request = DIALECTS[client].read_request(REQUESTS[client], "m")
        return json.dumps(translate_answer([ANSWERS[source.name]], source, DIALECTS[client], request)).encode()

    client, transport = wire_judges.gemini()
    wire_judges._set(transport, written("gemini.embed"))
    done = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert [one.values for one in done.embeddings] == [[0.0], VECTOR]
    client, transport = wire_judges.cohere()
    wire_judges._set(transport, written("cohere.embed"))
    done = client.embed(model="m", texts=["a", "b"], input_type="search_query", embedding_types=["float"])
    assert done.embeddings.float_ == [[0.0], VECTOR]
    client, transport = wire_judges.ollama()
    wire_judges._set(transport, written("ollama.embed"))
    assert [list(one) for one in client.embed(model="m", input=["a", "b"]).embeddings] == [[0.0], VECTOR]
    import openai

    there = Transport()
    there.kind = "application/json"
    request = source.read_request({"model": "m", "input": ["a", "b"], "encoding_format": "base64"}, None)
    body = translate_answer([ANSWERS["ollama.embed"]], DIALECTS["ollama.embed"], source, request)
    there.body = json.dumps(body).encode()
    with httpx2.Client(transport=there) as http:
        made = openai.OpenAI(api_key="k", base_url="http://x", http_client=http).embeddings.create(
            model="m", input=["a", "b"]
        )
    assert [one.embedding for one in made.data] == [[0.0], VECTOR]


KINDS = {"/v2/embed": "cohere.embed", "/v1/embeddings": "openai.embeddings", "/api/embeddings": "ollama.embeddings"}


def test_recorded_embeddings_say_the_same_in_every_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    counted = refused = 0
    for row in vectors.rows("exchanges"):
        name = next((name for path, name in KINDS.items() if row["path"].endswith(path)), None)
        if "batchEmbedContents" in row["path"]:
            name = "gemini.embed"
        if name is None or row["status"] >= 300 or not row.get("resp"):
            continue
        source = DIALECTS[name]
        body = json.loads(row["req"])
        request, answer = source.read_request(body, "m"), source.read_answer(json.loads(row["resp"]))
        if name != "gemini.embed":
            assert body.keys() <= FIELDS[name].keys(), row["url"]
        for target in DIALECTS.values():
            try:
                bodies = translate_request(request, target, Notes())
            except CannotCarryError:
                refused += 1
                continue
            assert [one for made in bodies for one in target.read_request(made, "m").inputs] == request.inputs
            if len(answer.vectors) <= target.inputs_max:
                back = target.read_answer(target.write_answer(answer, target.read_request(bodies[0], "m")))
                assert back.vectors == answer.vectors
            counted += 1
    with capsys.disabled():
        print(f"\nembeddings: {counted} translated, {refused} refused by name")
    assert counted > 50


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.data())
def test_garbage_is_a_sentence_or_a_request(name: str, data: st.DataObject) -> None:
    body = data.draw(st.dictionaries(st.sampled_from([*FIELDS[name], "embeddings", "embedding", "data"]), _JSON))
    for read in (lambda: DIALECTS[name].read_request(body, "m"), lambda: DIALECTS[name].read_answer(body)):
        try:
            read()
        except UnreadableError as exc:
            assert str(exc).endswith(".")  # noqa: PT017
