"""Answers that must not go on: a stream in which something blocked is found, and one that came in another coding."""

import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from outrider.runtime import Sidecar
from outrider_ext.eventstream import EventStreamReader, encode
from support.running import client_of, get, post, running, statuses, until
from support.wire import Peer, Provider

MAIL = "ada.planted@example.com"
JSON = b"content-type: application/json\r\n"
BLOCKS = {"always": [{"detectors": ["email"], "action": "block", "where": "answer"}]}
MASKS = {"always": [{"detectors": ["pii"]}]}


class Stream(NamedTuple):
    """How one dialect streams. event(text) -> its wire; error(answer) -> the sentence of its error event."""

    kind: str
    path: bytes
    body: bytes
    content_type: bytes
    event: Any
    error: Any


def sse(name: str, value: Any) -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def last_data(out: bytes) -> Any:
    return json.loads([line[6:] for line in out.split(b"\n") if line.startswith(b"data: ")][-1])


def frame(text: str) -> bytes:
    value = {"contentBlockIndex": 0, "delta": {"text": text}}
    headers = {":event-type": "contentBlockDelta", ":content-type": "application/json", ":message-type": "event"}
    return encode(headers, json.dumps(value).encode())


def exception(out: bytes) -> str:
    last = EventStreamReader().receive_data(out)[-1]
    assert last.headers[":message-type"] == "exception"
    return str(json.loads(last.payload)["message"])


CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
STREAMS = {
    "chat": Stream(
        "openai", b"/local/v1/chat/completions", CHAT, b"text/event-stream",
        lambda text: sse("", {"choices": [{"index": 0, "delta": {"content": text}}]}),
        lambda out: last_data(out)["error"]["message"],
    ),
    "responses": Stream(
        "openai", b"/local/v1/responses", b'{"model":"m","stream":true,"input":"hi"}', b"text/event-stream",
        lambda text: sse("response.output_text.delta", {
            "type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0,
            "delta": text}),
        lambda out: last_data(out)["message"],
    ),
    "anthropic": Stream(
        "anthropic", b"/local/v1/messages", CHAT, b"text/event-stream",
        lambda text: sse("content_block_delta", {
            "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        lambda out: last_data(out)["error"]["message"],
    ),
    "gemini": Stream(
        "gemini", b"/local/v1beta/models/m:streamGenerateContent?alt=sse", b'{"contents":[]}', b"text/event-stream",
        lambda text: sse("", {"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}}]}),
        lambda out: last_data(out)["error"]["message"],
    ),
    "ollama": Stream(
        "ollama", b"/local/api/chat", CHAT, b"application/x-ndjson",
        lambda text: json.dumps({"message": {"content": text}, "done": False}).encode() + b"\n",
        lambda out: json.loads(out.split(b"\n")[-2])["error"],
    ),
    "bedrock": Stream(
        "bedrock", b"/local/model/m/converse-stream", b'{"messages":[]}', b"application/vnd.amazon.eventstream",
        frame, exception,
    ),
}  # fmt: skip


@asynccontextmanager
async def asked(
    folder: Path, stream: Stream, redact: Any, more: bytes = b""
) -> AsyncIterator[tuple[Sidecar, Peer, Peer, bytes]]:
    """(sidecar, app, the provider's end, the head that arrived there)."""
    log = folder / "log"
    async with Provider() as provider:
        providers = {"local": {"kind": stream.kind, "hosts": ["llm.internal"], "connect_to": provider.url}}
        async with running(folder, providers, redact=redact, telemetry={"log": str(log)}) as sidecar:
            app = await client_of(sidecar)
            await app.send(post(sidecar, stream.body, stream.path, JSON + b"authorization: Bearer x\r\n" + more))
            behind = await provider.accept()
            try:
                yield sidecar, app, behind, await behind.head()
            finally:
                app.close()


async def has_left(behind: Peer) -> None:
    """The provider is told that nobody listens any more."""
    with contextlib.suppress(ConnectionResetError):
        await behind.rest()


async def body_of(app: Peer) -> bytes:
    """A chunked body, to its proper end."""
    body = b""
    while size := int((await app.until(b"\r\n"))[:-2], 16):
        body += await app.exactly(size)
        await app.exactly(2)
    assert await app.exactly(2) == b"\r\n"
    return body


@pytest.mark.parametrize("cut", [0, 4, 9, len(MAIL)])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_ends_with_an_error_event_where_something_blocked_is_found(
    tmp_path: Path, name: str, cut: int
) -> None:
    stream = STREAMS[name]
    async with asked(tmp_path, stream, BLOCKS) as (sidecar, app, behind, _):
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: " + stream.content_type + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        )

        async def say(text: str) -> None:
            wire = stream.event(text)
            await behind.send(b"%x\r\n%b\r\n" % (len(wire), wire))

        await say("Hello ")
        head = await app.head()
        assert head.startswith(b"HTTP/1.1 200")
        await say("write to " + MAIL[:cut])
        await say(MAIL[cut:])
        await say(" now")
        out = await body_of(app)
        assert b"Hello " in out
        assert b"planted" not in out and b"example.com" not in out and b"ada" not in out  # noqa: PT018
        sentence = stream.error(out)
        assert "email" in sentence and "action: block" in sentence  # noqa: PT018
        await has_left(behind)
        sidecar.json_log.flush()
        await until(lambda: (tmp_path / "log").read_text().count("\n") >= 1, "the line is written")
        (line,) = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
        assert (line["status"], line["error"], line["outcome"]) == (200, "denied", "ok")
        assert "planted" not in json.dumps(line)
        assert statuses(sidecar) == {"200": 1}
        await app.send(get(sidecar, b"/nobody/v1"))  # the connection is as good as before
        assert (await app.head()).startswith(b"HTTP/1.1 404")


async def test_the_error_event_waits_for_the_audit_log_as_every_end_does(tmp_path: Path) -> None:
    stream, audit = STREAMS["chat"], tmp_path / "audit" / "a.jsonl"
    async with Provider() as provider:
        providers = {"local": {"kind": "openai", "hosts": ["llm.internal"], "connect_to": provider.url}}
        telemetry = {"log": "off", "audit": {"path": str(audit)}}
        async with running(tmp_path, providers, redact=BLOCKS, telemetry=telemetry) as sidecar:
            app = await client_of(sidecar)
            await app.send(post(sidecar, stream.body, stream.path, JSON + b"authorization: Bearer x\r\n"))
            behind = await provider.accept()
            await behind.head()
            await behind.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + stream.event("Hello "))
            await app.head()
            await behind.send(stream.event(f"{MAIL} "))
            assert "action: block" in stream.error(await body_of(app))
            (file,) = [path for path in audit.parent.iterdir() if path.suffix == ".jsonl"]
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            (line,) = [line for line in lines if line["event"] == "exchange"]
            assert (line["status"], line["error"]) == (200, "denied")
            await app.send(get(sidecar, b"/nobody/v1"))
            assert (await app.head()).startswith(b"HTTP/1.1 404")
            app.close()


async def test_what_is_blocked_before_anything_went_on_is_a_plain_refusal(tmp_path: Path) -> None:
    async with asked(tmp_path, STREAMS["chat"], BLOCKS) as (_, app, behind, _):
        wire = STREAMS["chat"].event(f"write to {MAIL} now")
        await behind.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + wire)
        head, body = await app.answer()
        assert head.startswith(b"HTTP/1.1 403")
        assert b"planted" not in body
        await has_left(behind)


async def test_an_http_1_0_app_gets_the_error_event_and_the_end(tmp_path: Path) -> None:
    stream = STREAMS["chat"]
    async with Provider() as provider:
        providers = {"local": {"kind": "openai", "hosts": ["llm.internal"], "connect_to": provider.url}}
        async with running(tmp_path, providers, redact=BLOCKS) as sidecar:
            app = await client_of(sidecar)
            wire = post(sidecar, stream.body, stream.path, JSON + b"authorization: Bearer x\r\n")
            await app.send(wire.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            behind = await provider.accept()
            await behind.head()
            await behind.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + stream.event("Hello "))
            await app.until(b"Hello ")
            await behind.send(stream.event(f"{MAIL} "))
            out = await app.rest()
            assert "action: block" in stream.error(out)
            assert b"planted" not in out
            app.close()


async def test_an_event_that_is_too_large_to_be_read_ends_the_stream_with_an_error_event(tmp_path: Path) -> None:
    stream = STREAMS["chat"]
    async with Provider() as provider:
        providers = {"local": {"kind": "openai", "hosts": ["llm.internal"], "connect_to": provider.url}}
        async with running(tmp_path, providers, redact=MASKS, caps={"event_bytes": 4096}) as sidecar:
            app = await client_of(sidecar)
            await app.send(post(sidecar, stream.body, stream.path, JSON + b"authorization: Bearer x\r\n"))
            behind = await provider.accept()
            await behind.head()
            await behind.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + stream.event("Hello "))
            await app.until(b"Hello ")
            await app.until(b"\r\n")
            await behind.send(b"data: " + b"x" * 10_000)
            out = await body_of(app)
            assert "could not be redacted" in stream.error(out)
            assert b"xxxx" not in out
            app.close()


@pytest.mark.parametrize("redact", [MASKS, {}], ids=["masked", "left alone"])
@pytest.mark.parametrize(
    "kind",
    ["application/x-ndjson", "Application/NDJSON", "application/jsonl", "application/stream+json;charset=utf-8"],
)
async def test_lines_that_break_off_end_in_a_line_whatever_the_provider_calls_them(
    tmp_path: Path, kind: str, redact: Any
) -> None:
    stream = STREAMS["ollama"]
    async with asked(tmp_path, stream, redact) as (_, app, behind, _head):
        line = stream.event("Hello you ")
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"
            % (kind.encode(), len(line), line)
        )
        await app.head()
        behind.end()
        lines = (await body_of(app)).splitlines()
        assert [json.loads(one).get("message") for one in lines[:-1]]
        assert "before its answer was complete" in json.loads(lines[-1])["error"]


# -- codings


PLAIN = json.dumps({"choices": [{"message": {"content": f"write to {MAIL} now"}}]}).encode()
STREAMED = STREAMS["chat"].event(f"write to {MAIL} now") + b"data: [DONE]\n\n"
PACKED = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "in another case": (b"GZip", gzip.compress),
    "twice": (b"gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    "named plain and packed": (b"identity, gzip", gzip.compress),
    "that nobody knows": (b"zzz", lambda data: data),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("name", PACKED)
async def test_an_answer_in_a_coding_that_was_not_asked_for_is_not_passed_on(
    tmp_path: Path, name: str, kind: str
) -> None:
    coding, pack = PACKED[name]
    more = b"accept-encoding: gzip, br\r\n"
    async with asked(tmp_path, STREAMS["chat"], MASKS, more) as (_, app, behind, head):
        assert b"accept-encoding: identity\r\n" in head
        assert head.lower().count(b"accept-encoding") == 1
        body = pack(STREAMED if kind == "text/event-stream" else PLAIN)
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (kind.encode(), coding, len(body), body)
        )
        refusal, answer = await app.answer()
        assert refusal.startswith(b"HTTP/1.1 502")
        assert b"planted" not in answer
        assert body not in answer
        assert "asked for plain" in json.loads(answer)["error"]["message"]


async def test_an_answer_packed_by_its_framing_is_not_passed_on(tmp_path: Path) -> None:
    async with asked(tmp_path, STREAMS["chat"], MASKS) as (_, app, behind, _):
        packed = gzip.compress(PLAIN)
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
        )
        head, _ = await app.answer()
        assert head.startswith(b"HTTP/1.1 502")


async def test_an_answer_that_says_it_is_plain_is_redacted(tmp_path: Path) -> None:
    async with asked(tmp_path, STREAMS["chat"], MASKS) as (_, app, behind, _):
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: identity\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(PLAIN), PLAIN)
        )
        _, answer = await app.answer()
        assert b"write to [EMAIL] now" in answer


# -- numbers


async def test_numbers_keep_their_spelling_in_a_redacted_request_and_its_answer(tmp_path: Path) -> None:
    big = b"1234567890123456789012345678901234567890"
    said = b'{"model":"m","temperature":1.0,"seed":%b,"top_p":1e-1,"messages":[{"role":"user","content":"%b"}]}'
    stream = STREAMS["chat"]._replace(body=said % (big, MAIL.encode()))
    async with asked(tmp_path, stream, MASKS) as (_, app, behind, head):
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert await behind.exactly(size) == said % (big, b"[EMAIL]")
        answer = b'{"choices":[{"message":{"content":"%b"},"n":1.50}],"id":%b}'
        body = answer % (MAIL.encode(), big)
        await behind.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert (await app.answer())[1] == answer % (b"[EMAIL]", big)
