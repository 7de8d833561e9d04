"""Which recorded answers of real providers are whole, and that nothing less than a whole one is taken for one."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.mock.frames import event, exception
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
            is_odd = operation.dialect in ("", "tgi.generate", "cohere.generate", "openai.chat", "gemini.generate",
                                          "bedrock.invoke")  # fmt: skip
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
    (
        "bedrock.converse", "converse",
        b'{"inferenceConfig":{"temperature":0},"toolConfig":{"tools":[{"toolSpec":{}}]}}', FIXED,
    ),
    ("bedrock.converse", "converse", b'{"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}', NEVER),
    ("bedrock.converse", "converse", b'{"toolConfig":[]}', OPEN),
    ("bedrock.converse", "converse", b'{"toolConfig":1}', NEVER),
    ("bedrock.invoke", "invoke_model", b'{"anthropic_version":"bedrock-2023-05-31","temperature":0}', FIXED),
    ("bedrock.invoke", "invoke_model", b'{"prompt":"x"}', OPEN),
    ("bedrock.invoke", "invoke_model", b'{"inputText":"x","textGenerationConfig":{"temperature":0}}', FIXED),
    ("bedrock.invoke", "invoke_model", b'{"toolConfig":{"tools":[{"x":1}]}}', NEVER),
    ("cohere.chat_v1", "chat", b'{"temperature":0,"message":"x"}', FIXED),
    ("cohere.chat_v1", "chat", b'{"temperature":0,"conversation_id":"c"}', NEVER),
    ("cohere.chat_v1", "chat", b'{"temperature":0,"connectors":[{"id":"web-search"}]}', NEVER),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "name", "body", "is_what"), REQUESTS)
def test_requests_are_read_the_same_on_the_usual_way_and_closely(
    dialect: str, name: str, body: bytes, is_what: int
) -> None:
    requests = Requests(Operation(name, dialect))
    assert requests.question.read(body) == is_what
    assert requests.look(body) == is_what


def test_what_looks_things_up_is_asked_anew_unless_it_was_told_not_to() -> None:
    chat = Operation("chat", "openai.chat")
    assert is_cacheable(chat, "perplexity")
    assert not is_cacheable(Operation("responses", "openai.responses"), "perplexity")
    assert is_cacheable(Operation("embeddings", "openai.embeddings"), "perplexity")
    requests = Requests(chat, "perplexity")
    for body, is_what in (
        (b'{"temperature":0}', NEVER),
        (b'{"temperature":0,"disable_search":false}', NEVER),
        (b'{"temperature":0,"disable_search":true}', FIXED),
        (b'{"disable_search":true}', OPEN),
    ):
        assert requests.question.read(body) == is_what
    assert Requests(Operation("embeddings", "openai.embeddings"), "perplexity").question.read(b"{}") == FIXED


def test_vectors_of_a_model_in_the_path_follow_from_their_input() -> None:
    invoke = Operation("invoke_model", "bedrock.invoke")
    for model in (
        "amazon.titan-embed-text-v2:0", "us.cohere.embed-v4:0", "cohere.embed-english-v3", "cohere.rerank-v3-5:0",
        "amazon.rerank-v1:0",
    ):  # fmt: skip
        assert Requests(invoke, "bedrock", model).question.read(b'{"inputText":"x"}') == FIXED
    assert Requests(invoke, "bedrock", "meta.llama3-embed").question.read(b'{"inputText":"x"}') == OPEN
    assert is_complete(invoke, b"application/json", b'{"embedding":[0.1],"inputTextTokenCount":1}')


def invoked(*chunks: bytes) -> bytes:
    events = [{"bytes": base64.b64encode(chunk).decode()} for chunk in chunks]
    return b"".join(event("chunk", json.dumps(one).encode()) for one in events)


CLAUDE = (
    b'{"type":"message_start","message":{"stop_reason":null}}',
    b'{"type":"content_block_delta"}',
    b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}',
    b'{"type":"message_stop"}',
)
INVOKED = [
    (CLAUDE, True),
    (CLAUDE[:-1], False),
    (CLAUDE[:-2] + CLAUDE[-1:], False),
    ((CLAUDE[0], CLAUDE[2].replace(b"end_turn", b"max_tokens"), CLAUDE[3]), False),
    ((b'{"generation":"a","stop_reason":null}', b'{"generation":"","stop_reason":"stop"}'), True),
    ((b'{"generation":"a","stop_reason":null}',), False),
    ((b'{"generation":"a","stop_reason":"length"}',), False),
    ((b'{"messageStart":{}}', b'{"messageStop":{"stopReason":"end_turn"}}', b'{"metadata":{}}'), True),
    ((b'{"outputText":"a","completionReason":"FINISH"}',), True),
    ((b'{"outputText":"a","completionReason":"LENGTH"}',), False),
    ((), False),
]


@pytest.mark.parametrize(("chunks", "is_whole"), INVOKED)
def test_a_stream_of_invoke_model_is_whole_when_its_model_said_so(chunks: tuple[bytes, ...], is_whole: bool) -> None:
    invoke, kind = Operation("invoke_model", "bedrock.invoke"), b"application/vnd.amazon.eventstream"
    body = invoked(*chunks)
    assert is_complete(invoke, kind, body) is is_whole
    for at in range(len(body)):
        assert not is_complete(invoke, kind, body[:at]) or body[:at] == invoked(*chunks[:-1])
    failed = exception("modelStreamErrorException", b'{"message":"no"}')
    assert not is_complete(invoke, kind, body + failed)
    assert not is_complete(Operation("x", "other"), kind, body)


@pytest.mark.parametrize(
    ("lines", "is_whole"),
    [
        (
            (
                b'{"is_finished":false,"event_type":"text-generation","text":"a"}',
                b'{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE","response":{}}',
            ),
            True,
        ),
        ((b'{"is_finished":false,"event_type":"text-generation","text":"a"}',), False),
        ((b'{"is_finished":true,"event_type":"stream-end","finish_reason":"MAX_TOKENS","response":{}}',), False),
        ((b'{"is_finished":true,"event_type":"stream-end","finish_reason":"ERROR","response":{}}',), False),
        ((b'{"is_finished":true,"event_type":"stream-end"}',), False),
    ],
)
def test_lines_of_cohere_are_whole_when_the_last_one_says_so(lines: tuple[bytes, ...], is_whole: bool) -> None:
    operation = Operation("chat", "cohere.chat_v1")
    assert is_complete(operation, b"application/stream+json", b"\n".join(lines) + b"\n") is is_whole


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
