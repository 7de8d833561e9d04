"""Questions for tokens: asked in each dialect's types, answered to each SDK, and guessed where nobody can be asked."""

import statistics
from typing import Any

import orjson
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from openai.types.responses.input_token_count_params import InputTokenCountParams

from outrider.dialects.base import Notes, UnreadableError
from outrider.dialects.count_tokens import (
    ASKED,
    MEDIA_TOKENS,
    estimated,
    read_answer,
    read_question,
    written_answer,
    written_question,
)
from outrider.dialects.translate import Translation
from support import sdk_judges, vectors
from support.sdk_types import problems

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "max_tokens": 5,
    "stream": True,
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("anthropic.messages", MessageCountTokensParams), ("openai.responses", InputTokenCountParams)],
)
def test_a_question_is_of_the_sdks_own_type(name: str, kind: Any) -> None:
    translation = Translation(sdk_judges.adapter("openai.chat"), sdk_judges.adapter(name))
    written, _ = translation.request(CHAT, target_model="claude-opus-4-8")
    question = written_question(name, written.body, "m")
    assert problems(question, kind) == []
    assert not {"max_tokens", "stream", "store"} & question.keys()


def test_a_question_in_one_dialect_is_asked_in_another() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "system": "s"}
    body = read_question("anthropic.messages", asked)
    anthropic, responses = sdk_judges.adapter("anthropic.messages"), sdk_judges.adapter("openai.responses")
    written, _ = Translation(anthropic, responses).request(body)
    assert written_question("openai.responses", written.body, "m") == {
        "model": "m",
        "instructions": "s",
        "input": [{"role": "user", "content": "hi"}],
    }


def test_geminis_question_holds_the_call_one_level_down() -> None:
    call = {"contents": [{"parts": [{"text": "x"}]}]}
    question = written_question("gemini.generate", call, "gemini-2.5-pro")
    assert question == {"generateContentRequest": {"model": "models/gemini-2.5-pro"} | call}
    assert read_question("gemini.generate", question)["contents"] == call["contents"]
    assert read_question("gemini.generate", call) == call


def test_the_sdks_read_the_answers() -> None:
    client, transport = sdk_judges._anthropic()
    sdk_judges._set(transport, orjson.dumps(written_answer("anthropic.messages", 7)), False)
    assert client.messages.count_tokens(model="m", messages=[]).input_tokens == 7
    client, transport = sdk_judges._openai()
    sdk_judges._set(transport, orjson.dumps(written_answer("openai.responses", 7)), False)
    count = client.responses.input_tokens.count(model="m", input="x")
    assert (count.input_tokens, count.object) == (7, "response.input_tokens")


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_a_number_or_a_sentence(name: str) -> None:
    assert read_answer(name, written_answer(name, 7)) == 7
    for wrong in ({}, {"input_tokens": -1, "totalTokens": -1}, {"input_tokens": "7", "totalTokens": 7.5}):
        with pytest.raises(UnreadableError, match="no number of tokens"):
            read_answer(name, wrong)


def test_a_dialect_without_a_question_is_told() -> None:
    with pytest.raises(UnreadableError, match="has no question for tokens"):
        read_question("openai.chat", {})


def test_an_estimate_counts_text_tools_and_media_and_says_that_it_is_one() -> None:
    chat = sdk_judges.adapter("openai.chat")
    notes = Notes()
    plain = estimated(chat.read_request(CHAT | {"tools": []}), notes)
    assert plain == -(-len("Be brief.Hello there") // 4)
    assert notes.phrases == ["tokens estimated"]
    assert estimated(chat.read_request(CHAT), notes) > plain
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    with_image = CHAT | {"tools": [], "messages": [*CHAT["messages"], {"role": "user", "content": [image]}]}
    assert estimated(chat.read_request(with_image), notes) == plain + MEDIA_TOKENS


def test_an_estimate_is_of_the_right_size_for_what_was_billed() -> None:
    """Recorded requests of more than 50 tokens and without tools."""
    chat = sdk_judges.adapter("openai.chat")
    ratios = []
    for row in vectors.rows("exchanges"):
        if row["kind"] != "openai.chat" or row["provider"] != "openai" or row["stream"] or row["status"] != 200:
            continue
        body, answer = orjson.loads(row["req"]), orjson.loads(row["resp"] or "{}")
        billed = (answer.get("usage") or {}).get("prompt_tokens", 0)
        if billed > 50 and not body.get("tools") and not body.get("functions"):
            ratios.append(estimated(chat.read_request(body), Notes()) / billed)
    assert len(ratios) > 10
    assert 0.67 < statistics.median(ratios) < 1.5
