"""What a user said last is found in every dialect, and never where a request holds more than words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.stack.last_text import numbers, split_last_text
from support.vectors import rows

SAID: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Why?"}]}),
    ("openai.chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]}),
    ("openai.responses", {"input": "Why?", "store": False}),
    ("openai.responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}]}),
    ("anthropic.messages", {"system": "s", "messages": [{"role": "user", "content": "Why?"}]}),
    ("anthropic.messages", {"messages": [
        {"role": "user", "content": "f"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "4"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "content": [{"type": "text", "text": "Why?", "cache_control": {"type": "ephemeral"}}]}]}),
    ("gemini.generate", {"contents": [{"parts": [{"text": "Why?"}]}]}),
    ("gemini.generate", {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}),
    ("bedrock.converse", {"messages": [{"role": "user", "content": [{"text": "Why?"}]}]}),
    ("cohere.chat", {"messages": [{"role": "user", "content": "Why?"}]}),
    ("cohere.chat_v1", {"message": "Why?", "chat_history": []}),
    ("ollama.chat", {"messages": [{"role": "user", "content": "Why?"}]}),
]  # fmt: skip
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
NONE: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", {"messages": [IMAGE, {"role": "user", "content": "Why?"}]}),
    ("openai.chat", {"messages": [{"role": "tool", "tool_call_id": "1", "content": "4"}]}),
    ("openai.chat", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    ("openai.chat", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("openai.chat", {"messages": []}),
    ("openai.chat", {"messages": [1]}),
    ("openai.responses", {"input": [{"type": "function_call_output", "call_id": "1", "output": "4"}]}),
    ("openai.responses", {"input": [{"type": "web_search_call"}, {"role": "user", "content": "Why?"}]}),
    ("openai.responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}),
    ("anthropic.messages", {"messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "4"}]}]}),
    ("anthropic.messages", {"messages": [
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": {}}]}]},
        {"role": "user", "content": "Why?"}]}),
    ("anthropic.messages", {"messages": [
        {"role": "user", "content": [{"type": "document", "source": {}}, {"type": "text", "text": "Why?"}]}]}),
    ("gemini.generate", {"contents": [{"parts": [{"inlineData": {}}, {"text": "Why?"}]}]}),
    ("gemini.generate", {"contents": [{"parts": [{"functionResponse": {}}]}]}),
    ("gemini.generate", {"contents": [{"role": "model", "parts": [{"text": "Why?"}]}]}),
    ("bedrock.converse", {"messages": [{"role": "user", "content": [{"image": {}}, {"text": "Why?"}]}]}),
    ("bedrock.converse", {"messages": [
        {"role": "user", "content": [{"toolResult": {"content": [{"image": {}}]}}]},
        {"role": "user", "content": [{"text": "Why?"}]}]}),
    ("cohere.chat_v1", {"message": "Why?", "tool_results": [{}]}),
    ("ollama.chat", {"messages": [{"role": "user", "content": "Why?", "images": ["aGk="]}]}),
    ("openai.completions", {"prompt": "Why?"}),
    ("openai.embeddings", {"input": "Why?"}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "body"), SAID)
def test_the_last_text_is_taken_out_and_all_else_stays(dialect: str, body: dict[str, Any]) -> None:
    found = split_last_text(dialect, json.dumps(body).encode())
    assert found is not None
    rest, text = found
    assert text == "Why?"
    assert json.loads(json.dumps(body).replace('"Why?"', "null")) == json.loads(rest)


@pytest.mark.parametrize(("dialect", "body"), NONE)
def test_what_is_more_than_words_has_no_last_text(dialect: str, body: dict[str, Any]) -> None:
    assert split_last_text(dialect, json.dumps(body).encode()) is None


def test_a_key_that_stands_twice_has_none() -> None:
    assert split_last_text("openai.responses", b'{"input":"a","input":"b"}') is None


def test_numbers_are_compared_as_they_are_written() -> None:
    assert numbers("On 2026-01-02, 3.5 of 10,000 at 12:30?") == "2026 01 02 3.5 10,000 12:30"
    assert numbers("none") == ""


@given(st.sampled_from(SAID + NONE), st.binary(max_size=60), st.integers(0, 200))
def test_whatever_a_body_is_it_is_read_without_an_error(
    row: tuple[str, dict[str, Any]], garbage: bytes, at: int
) -> None:
    body = json.dumps(row[1]).encode()
    for one in (garbage, body[:at], body[:at] + garbage + body[at:]):
        split_last_text(row[0], one)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["user", "text", "Why?"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "parts", "toolResult", "output", "message", "input"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(SAID), values)
def test_turns_of_any_shape_are_read_without_an_error(row: tuple[str, dict[str, Any]], value: Any) -> None:
    for name in row[1]:
        split_last_text(row[0], json.dumps({**row[1], name: value}).encode())
        split_last_text(row[0], json.dumps({**row[1], name: [value]}).encode())


def test_recorded_requests_are_read_and_their_images_are_seen() -> None:
    from outrider.providers import BUILT_IN

    found = 0
    for row in rows("exchanges"):
        provider, body = BUILT_IN.get(row["provider"]), (row.get("req") or "").encode()
        if provider is None:
            continue
        match = provider.match(row["method"].encode(), row["path"].partition("?")[0].encode())
        split = split_last_text(match.operation.dialect, body) if match.known else None
        if split is not None:
            found += 1
            assert not any(mark in body for mark in (b'"image_url"', b'"inlineData"', b'"input_image"', b'"document":'))
    print(found)
    assert found > 200
