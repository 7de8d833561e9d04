"""What ties a call to a provider, in requests and in answers."""

import json
from typing import Any

import pytest

from outrider.dialects.bonds import MADE, MAX_BONDS, PROOF_CHARS, Made, bonds, may_have_bonds

PROOF = "gAAAAABo" + "x" * 400


def told(dialect: str, *pieces: bytes) -> list[str]:
    found: list[str] = []
    made = Made(MADE[dialect], found.append)
    for piece in pieces:
        made(None, piece)
    made(None, b"")
    return found


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"previous_response_id": "resp_1"}, [("previous_response_id", "resp_1")]),
        ({"previous_response_id": None, "conversation": None, "container": None}, []),
        ({"conversation": {"id": "conv_1"}}, [("conversation", "conv_1")]),
        ({"conversation": "conv_1"}, [("conversation", "conv_1")]),
        ({"container": {"id": "c1", "skills": []}}, [("container", "c1")]),
        ({"container": {"skills": []}}, []),
        ({"cachedContent": "cachedContents/7"}, [("cachedContent", "cachedContents/7")]),
        ({"prompt": {"id": "pmpt_1"}}, [("prompt", "pmpt_1")]),
        ({"prompt": "Once upon a time"}, []),
        (
            {"input": [{"type": "reasoning", "encrypted_content": PROOF}, {"type": "item_reference", "id": "rs_1"}]},
            [("encrypted_content", PROOF[:PROOF_CHARS]), ("item_reference", "rs_1")],
        ),
        (
            {"contents": [{"parts": [{"functionCall": {}, "thoughtSignature": PROOF}]}]},
            [("thoughtSignature", PROOF[:PROOF_CHARS])],
        ),
        ({"contents": [{"parts": [{"thoughtSignature": "skip_thought_signature_validator"}]}]}, []),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            [("file_id", "file-1")],
        ),
        ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "signature": PROOF}]}]}, []),
        ({"messages": [{"role": "user", "content": "my previous_response_id"}]}, []),
    ],
)
def test_requests_say_what_they_go_on_with(document: Any, wanted: Any) -> None:
    assert bonds(document) == wanted
    if wanted:
        assert may_have_bonds(json.dumps(document).encode())


def test_a_plain_request_is_not_even_read() -> None:
    assert not may_have_bonds(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')


def test_whatever_is_sent_the_search_is_bounded() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert bonds({"input": [deep]}) == []
    many = [{"encrypted_content": PROOF}] * 5000
    assert len(bonds({"input": many, "conversation": 7, "contents": "x"})) == MAX_BONDS


ANSWERS = {
    "openai.responses": (
        json.dumps({"id": "resp_9", "output": [{"type": "reasoning", "id": "rs_1", "encrypted_content": PROOF}]}),
        ["resp_9", "rs_1", PROOF[:PROOF_CHARS]],
    ),
    "anthropic.messages": (json.dumps({"id": "msg_1", "container": {"id": "container_1", "x": 1}}), ["container_1"]),
    "gemini.generate": (
        json.dumps({"candidates": [{"content": {"parts": [{"thoughtSignature": PROOF}]}}]}, indent=1),
        [PROOF[:PROOF_CHARS]],
    ),
}


@pytest.mark.parametrize("dialect", list(ANSWERS))
def test_answers_are_read_however_they_were_cut(dialect: str) -> None:
    text, wanted = ANSWERS[dialect]
    body = text.encode()
    assert told(dialect, body) == wanted
    for at in range(len(body) + 1):
        assert told(dialect, body[:at], body[at:]) == wanted
    assert told(dialect, *(body[i : i + 1] for i in range(len(body)))) == wanted


def test_what_a_model_says_is_no_bond() -> None:
    body = json.dumps({"output": [{"text": 'his "id": "resp_1" and "container": {"id": "x"}'}]}).encode()
    for dialect in MADE:
        assert told(dialect, body) == []
