"""Rerank from one dialect to another."""

import json
from typing import Any

import pytest

from outrider.dialects.base import Notes, UnreadableError
from outrider.dialects.rerank import DIALECTS, FIELDS, translate_request
from support import vectors, wire_judges

ASK: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}


def test_a_query_goes_to_each_in_its_own_words() -> None:
    request = DIALECTS["cohere.rerank"].read_request(ASK, None)
    voyage = translate_request(request, DIALECTS["voyage.rerank"], Notes())
    assert voyage == {"model": "m", "query": "q", "documents": ["a", "b"], "top_k": 1}
    bedrock = translate_request(request, DIALECTS["bedrock.cohere_rerank"], Notes())
    assert bedrock == {"query": "q", "documents": ["a", "b"], "top_n": 1, "api_version": 2}
    amazon = translate_request(request, DIALECTS["bedrock.amazon_rerank"], Notes())
    assert amazon == {"query": "q", "documents": ["a", "b"], "top_n": 1}


def test_the_version_of_a_body_is_no_loss_elsewhere() -> None:
    asked, notes = {"query": "q", "documents": ["a"], "api_version": 2, "max_tokens_per_doc": 9}, Notes()
    request = DIALECTS["bedrock.cohere_rerank"].read_request(asked, "m")
    assert translate_request(request, DIALECTS["bedrock.cohere_rerank"], notes) == asked
    assert translate_request(request, DIALECTS["cohere.rerank"], notes)["model"] == "m"
    assert notes.phrases == ["max_tokens_per_doc left out"]


def test_documents_that_are_objects_are_ranked_by_their_text_elsewhere() -> None:
    notes = Notes()
    asked = ASK | {"documents": [{"text": "a", "title": "t"}], "rank_fields": ["title"]}
    request = DIALECTS["cohere.rerank"].read_request(asked, None)
    assert translate_request(request, DIALECTS["cohere.rerank"], notes) == asked
    assert translate_request(request, DIALECTS["voyage.rerank"], notes)["documents"] == ["a"]
    assert notes.phrases == ["documents ranked by their text alone", "rank_fields left out"]


def test_coheres_sdk_reads_what_another_ranked() -> None:
    request = DIALECTS["cohere.rerank"].read_request(ASK, None)
    answer = DIALECTS["voyage.rerank"].read_answer(
        {"data": [{"index": 1, "relevance_score": 0.75}], "model": "m", "usage": {"total_tokens": 9}}
    )
    client, transport = wire_judges.cohere()
    wire_judges._set(transport, json.dumps(DIALECTS["cohere.rerank"].write_answer(answer, request)).encode())
    done = client.rerank(**ASK)
    assert [(one.index, one.relevance_score) for one in done.results] == [(1, 0.75)]


@pytest.mark.parametrize("body", [{}, {"results": 5}, {"results": [{"index": -1, "relevance_score": 1.0}]}])
def test_an_answer_that_is_none_is_a_sentence(body: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match=r"^The answer has "):
        DIALECTS["cohere.rerank"].read_answer(body)


def test_recorded_ranks_say_the_same_in_every_dialect() -> None:
    counted = 0
    for row in vectors.rows("exchanges"):
        if row["kind"] != "rerank" or row["status"] >= 300:
            continue
        source = DIALECTS["voyage.rerank" if row["provider"] == "voyage" else "cohere.rerank"]
        body = json.loads(row["req"])
        assert body.keys() <= FIELDS[source.name].keys()
        request, answer = source.read_request(body, None), source.read_answer(json.loads(row["resp"]))
        for target in DIALECTS.values():
            asked = target.read_request(translate_request(request, target, Notes()), request.model)
            assert (asked.query, asked.documents, asked.top) == (request.query, request.documents, request.top)
            back = target.read_answer(target.write_answer(answer, asked))
            assert back.results == answer.results
            counted += 1
    assert counted == 28
