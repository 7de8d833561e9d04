"""Which recorded answers of real providers are whole, and that nothing less than a whole one is taken for one."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.providers import BUILT_IN
from outrider.providers.model import Operation
from outrider.stack.cacheable import Requests, is_cacheable, is_complete, unpacked
from outrider_ext.remember import FIXED, NEVER, OPEN
from support.vectors import rows

SHORT = ("length", "content_filter", "max_tokens", "MAX_TOKENS", "SAFETY", "guardrail_intervened")


def recorded() -> Iterator[tuple[Operation, bytes, bytes]]:
    """(operation, content-type, body) of every good answer that the cache could be asked to keep."""
    for row in rows("exchanges"):
        provider = BUILT_IN.get(row["provider"])
        if provider is None or row["status"] != 200 or not row.get("resp") or not row["ct"]:
            continue
        match = provider.match(row["method"].encode(), row["path"].partition("?")[0].encode())
        if match.known and is_cacheable(match.operation, provider.kind):
            yield match.operation, row["ct"].lower().encode(), row["resp"].encode()


def test_recorded_answers_are_whole_where_they_ended_whole() -> None:
    counts: Counter[bool] = Counter()
    for operation, kind, body in recorded():
        whole = is_complete(operation, kind, body)
        counts[whole] += 1
        if not whole and kind.startswith((b"application/json", b"text/event-stream")):
            says_why = any(f'"{word}"'.encode() in body for word in SHORT)
            is_odd = operation.dialect in ("", "tgi.generate", "cohere.generate", "openai.chat", "gemini.generate")
            assert says_why or is_odd, (operation, kind, body[-300:])
    print(dict(counts))
    assert counts[True] > 550


def test_no_part_of_a_whole_answer_is_taken_for_one() -> None:
    for operation, kind, body in recorded():
        if not is_complete(operation, kind, body):
            continue
        end = len(body.rstrip())
        for at in {1, end // 3, end // 2, end - 40, end - 2, end - 1}:
            if 0 < at < end:
                assert not is_complete(operation, kind, body[:at]), (operation, body[max(at - 200, 0) : at])


REQUESTS: list[tuple[str, str, bytes, int]] = [
    ("openai.chat", "chat", b'{"temperature":0}', FIXED),
    ("openai.chat", "chat", b'{"temperature":0.0}', FIXED),
    ("openai.chat", "chat", b'{"temperature":0e5}', FIXED),
    ("openai.chat", "chat", b'{"temperature":-0.0}', FIXED),
    ("openai.chat", "chat", b'{"temperature":0.1}', OPEN),
    ("openai.chat", "chat", b'{"temperature":1e-9}', OPEN),
    ("openai.chat", "chat", b'{"temperature":"0"}', OPEN),
    ("openai.chat", "chat", b'{"temperature":null}', OPEN),
    ("openai.chat", "chat", b"{}", OPEN),
    ("openai.chat", "chat", b'{"temperature":0,"temperature":1}', NEVER),
    ("openai.chat", "chat", b'{"temperature":0', NEVER),
    ("openai.chat", "chat", b'{"temperature":0,"tools":[{"type":"function"}]}', FIXED),
    ("openai.chat", "chat", b'{"temperature":0,"tools":[{"type":"web_search"}]}', NEVER),
    ("openai.chat", "chat", b'{"temperature":0,"tools":{"type":"function"}}', NEVER),
    ("openai.chat", "chat", b'{"temperature":0,"t\\u006fols":[{"type":"web_search"}]}', NEVER),
    ("openai.chat", "chat", b'{"temperature":0,"store":true}', NEVER),
    ("openai.chat", "chat", b'{"temperature":0,"store":null}', FIXED),
    ("openai.responses", "responses", b'{"temperature":0}', NEVER),
    ("openai.responses", "responses", b'{"temperature":0,"store":false}', FIXED),
    ("openai.responses", "responses", b'{"store":false}', OPEN),
    ("anthropic.messages", "messages", b'{"temperature":0,"tools":[{"name":"f","input_schema":{}}]}', FIXED),
    ("anthropic.messages", "messages", b'{"temperature":0,"tools":[{"type":"code_execution_20250522"}]}', NEVER),
    ("anthropic.messages", "messages", b'{"temperature":0,"mcp_servers":[{"url":"https://x"}]}', NEVER),
    ("gemini.generate", "generate_content", b'{"generationConfig":{"temperature":0}}', FIXED),
    ("gemini.generate", "generate_content", b'{"generationConfig":{"temperature":0.5}}', OPEN),
    ("gemini.generate", "generate_content", b'{"generationConfig":{"temperature":0},"cachedContent":"c"}', NEVER),
    (
        "gemini.generate", "generate_content",
        b'{"generationConfig":{"temperature":0},"tools":[{"functionDeclarations":[]}]}', FIXED,
    ),
    ("gemini.generate", "generate_content", b'{"tools":[{"googleSearch":{}}]}', NEVER),
    ("bedrock.converse", "converse", b'{"inferenceConfig":{"temperature":0}}', FIXED),
    ("ollama.chat", "chat", b'{"options":{"temperature":0}}', FIXED),
    ("ollama.chat", "chat", b'{"options":{"temperature":0,"temperature":1}}', NEVER),
    ("openai.embeddings", "embeddings", b'{"input":"x"}', FIXED),
    ("openai.embeddings", "embeddings", b"no json", NEVER),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "name", "body", "is_what"), REQUESTS)
def test_requests_are_read_the_same_on_the_usual_way_and_closely(
    dialect: str, name: str, body: bytes, is_what: int
) -> None:
    requests = Requests(Operation(name, dialect))
    assert requests.question.read(body) == is_what
    assert requests.look(body) == is_what


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode), st.sampled_from(REQUESTS))
def test_whatever_a_body_is_it_is_read_without_an_error(body: bytes, row: tuple[str, str, bytes, int]) -> None:
    requests = Requests(Operation(row[1], row[0]))
    assert requests.question.read(body) in (NEVER, OPEN, FIXED)
    cut = row[2][: len(body)]
    assert requests.question.read(cut) in (NEVER, OPEN, FIXED)
    for kind in (b"application/json", b"text/event-stream", b"application/x-ndjson", b"text/plain", b""):
        assert isinstance(is_complete(Operation(row[1], row[0]), kind, body), bool)


@given(st.binary(max_size=100))
def test_what_does_not_unpack_is_nothing(body: bytes) -> None:
    assert unpacked(body, b"br", 1000) is None
    found: Any = unpacked(body, b"gzip", 1000)
    assert found is None or len(found) <= 1000
