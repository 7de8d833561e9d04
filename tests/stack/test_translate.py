"""Calls that are served in another dialect than the app's, over the wire: failures, refusals, notes, files by URL."""

import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from e2e.rig import REAL, Ride, riding
from e2e.test_refusals import answer_of, intercepted
from e2e.test_sdk_matrix import TARGETS
from e2e.test_unified_api import (
    ASKED,
    CHAT,
    HELLO,
    JSON,
    MESSAGES,
    RESPONSES,
    USER,
    VERSION,
    Api,
    aliases,
    api,
    streamed_text_of,
    text_of,
)
from outrider.mock.behaviour import Behaviour
from outrider_ext.eventstream import EventStreamReader
from support.running import client_of, post
from support.sdks import PIXEL

# What each provider is asked for a chat, so that one of two is told to fail.
PATHS = {
    "openai": "/v1/chat", "anthropic": "/v1/messages", "gemini": "/v1beta/", "bedrock": "/model/", "ollama": "/api/",
    "cohere": "/v2/", "replicate": "/predictions",
}  # fmt: skip
STREAMING = [provider for provider in TARGETS if provider != "replicate"]  # whose answers come whole
NEXT = dict(zip(TARGETS, [*list(TARGETS)[1:], next(iter(TARGETS))], strict=True))
PAIRS = aliases(**{f"{first}-first": [f"{first}/{TARGETS[first]}", f"{second}/{TARGETS[second]}"]
                   for first, second in NEXT.items()})  # fmt: skip


# -- an error of the provider's


@pytest.mark.parametrize(
    ("app", "provider", "said", "told"),
    [
        (CHAT, "anthropic", 529, 503),
        (RESPONSES, "anthropic", 529, 503),
        (MESSAGES, "gemini", 503, 529),
        (MESSAGES, "openai", 503, 529),
        (CHAT, "gemini", 503, 503),
        (CHAT, "bedrock", 404, 404),
    ],
)
async def test_a_failure_has_the_status_that_the_apps_dialect_has_for_it(
    tmp_path: Path, app: bytes, provider: str, said: int, told: int
) -> None:
    log = tmp_path / "log"
    more: dict[str, Any] = {"resilience": {"retry": {"attempts": 1}}, "telemetry": {"log": str(log)}}
    async with api(tmp_path, **more) as ride:
        ride.mock.next(status=said)
        body = {"model": f"to-{provider}", "messages": USER, "input": HELLO, "max_tokens": 9}
        answer = await ride.ask(app, body, VERSION)
        assert (answer.status, "error" in json.loads(answer.body)) == (told, True)
        assert ride.served() == [provider]
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["status"] for row in logged if row["event"] == "exchange"] == [told]


# -- before content, another target serves it


@pytest.mark.parametrize("first", NEXT)
async def test_what_fails_before_content_is_served_by_a_target_of_another_dialect(tmp_path: Path, first: str) -> None:
    timeouts = {"first_byte_s": 0.2, "first_event_s": 0.2}
    resilience = {"retry": {"attempts": 2, "base_ms": 1, "max_ms": 2, "min_per_s": 1000}, "timeouts": timeouts,
                  "breaker": {"failures": 1000, "min_calls": 100_000}}  # fmt: skip
    faults: dict[str, dict[str, Any]] = {
        "500": {"status": 500}, "429": {"status": 429, "headers": {"retry-after": "30"}}, "503": {"status": 503},
        "reset": {"cut_after_bytes": 0, "cut": "reset"}, "no head": {"stall": "head"},
    }  # fmt: skip
    streams_only = {"an error first": {"error_after": 0}, "cut before content": {"cut_after": 0, "cut": "reset"}}
    async with api(tmp_path, models=PAIRS, resilience=resilience) as ride:
        healths = ride.sidecar._shared.healths
        for path in (CHAT, MESSAGES, RESPONSES):
            for stream in (False, True):
                for name, fault in (faults | (streams_only if stream and first in STREAMING else {})).items():
                    where = (path, stream, name)
                    for health in healths.all():
                        health.breaker._close()
                        health.breaker._cooling_until_ns = 0
                    ride.mock.next(
                        path="/v1/responses" if (first, path) == ("openai", RESPONSES) else PATHS[first], **fault
                    )
                    asked = {"model": f"{first}-first", "stream": stream, **ASKED[path]}
                    answer = await ride.ask(path, asked, VERSION)
                    assert answer.status == 200, (where, answer.body)
                    said = streamed_text_of(path, answer.events) if stream else text_of(path, answer.json)
                    assert said == f"Echo: {HELLO}", (where, answer.body)
                    assert ride.served() == [first, NEXT[first]], where


async def test_a_target_that_cannot_carry_it_is_passed_over_and_one_that_failed_is_asked_again(tmp_path: Path) -> None:
    models = aliases(two=["openai/gpt-4o", "anthropic/claude-sonnet-4-6"])
    async with api(tmp_path, models=models) as ride:
        ride.mock.fail(500, path="/v1/chat")
        answer = await ride.ask(CHAT, {"model": "two", "messages": USER, "n": 2})
        assert (answer.status, ride.served()) == (200, ["openai", "openai"]), answer.body
        ride.mock.fail(500, path="/v1/chat", times=2)
        answer = await ride.ask(CHAT, {"model": "two", "messages": USER, "n": 2})
        assert answer.status == 500, answer.body
        ride.served()


# -- after content, the app's own dialect says that it broke off

APPS: dict[str, tuple[bytes, Any]] = {
    "chat": (CHAT, {"messages": USER, "stream": True}),
    "responses": (RESPONSES, {"input": HELLO, "stream": True}),
    "messages": (MESSAGES, {"messages": USER, "stream": True, "max_tokens": 50}),
    "gemini": (b"/gemini/v1beta/models/%b:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": HELLO}]}]}),
    "gemini array": (b"/gemini/v1beta/models/%b:streamGenerateContent", {"contents": [{"parts": [{"text": HELLO}]}]}),
    "bedrock": (b"/bedrock/model/%b/converse-stream", {"messages": [{"role": "user", "content": [{"text": HELLO}]}]}),
    "ollama": (b"/ollama/api/chat", {"messages": USER}),
    "cohere": (b"/cohere/v2/chat", {"messages": USER, "stream": True}),
}


def parts_of(app: str, body: bytes) -> list[Any]:
    """What the app's SDK sees, one JSON value for each part; raises where the framing is broken."""
    if app == "bedrock":
        messages = EventStreamReader().receive_data(body)
        return [json.loads(one.payload) | {"kind": one.headers[":message-type"]} for one in messages]
    if app == "ollama":
        assert body.endswith(b"\n")
        return [json.loads(line) for line in body.splitlines()]
    if app == "gemini array":
        return list(json.loads(body))
    events = body.replace(b"\r\n", b"\n")
    assert events.endswith(b"\n\n")
    return [json.loads(line[6:]) for line in events.split(b"\n") if line.startswith(b"data: {")]


def is_error(app: str, part: Any) -> bool:
    if app == "bedrock":
        return bool(part["kind"] == "exception")
    if app == "cohere":
        return part["type"] == "message-end" and part["delta"]["finish_reason"] == "ERROR"
    if app in ("responses", "messages"):
        return part["type"] in ("error", "response.failed")
    return "error" in part


async def ask_as(ride: Api, app: str, model: str) -> Any:
    path, fields = APPS[app]
    if b"%b" in path:
        shown = ride.sidecar.placeholder.value.encode()
        more = b"x-goog-api-key: %b\r\n" % shown if app.startswith("gemini") else b""
        return await ride.ask(path % model.encode(), fields, more)
    return await ride.ask(path, {"model": model, **fields}, VERSION)


@pytest.mark.parametrize("app", APPS)
async def test_a_translated_stream_that_breaks_off_ends_in_the_apps_own_error(tmp_path: Path, app: str) -> None:
    async with api(tmp_path) as ride:
        for provider in STREAMING:
            model = f"to-{provider}"
            whole = await ask_as(ride, app, model)
            assert whole.status == 200, (provider, whole.body)
            assert not any(is_error(app, part) for part in parts_of(app, whole.body))
            for fault in ({"cut_after": 4, "cut": "close"}, {"cut_after": 5, "cut": "abort"}, {"error_after": 4}):
                ride.mock.next(events=9, **fault)
                cut = await ask_as(ride, app, model)
                parts = parts_of(app, cut.body)
                assert cut.status == 200, (provider, fault)
                assert len(parts) > 1, (provider, fault, cut.body)
                assert is_error(app, parts[-1]), (provider, fault, parts[-3:])
                assert not any(is_error(app, part) for part in parts[:-1]), (provider, fault)


@pytest.mark.parametrize("provider", STREAMING)
async def test_a_translated_stream_goes_on_as_it_comes(tmp_path: Path, provider: str) -> None:
    async with api(tmp_path) as ride:
        ride.mock.next(events=9, stall="events", stall_after=5)
        body = json.dumps({"model": f"to-{provider}", "stream": True, "messages": USER}).encode()
        peer = await client_of(ride.sidecar)
        await peer.send(post(ride.sidecar, body, CHAT, JSON + ride.shown))
        assert b"Echo:" in await peer.until(b'"Echo:"')
        assert ride.mock.stalled == 1 or await ride.mock.until(lambda: ride.mock.stalled == 1) is None
        ride.mock.release()
        assert b"[DONE]" in await peer.until(b"[DONE]")
        peer.close()


async def test_an_answer_after_a_failed_one_has_one_head(tmp_path: Path) -> None:
    async with api(tmp_path, models=PAIRS) as ride:
        for stream in (False, True):
            ride.mock.next(path="/model/", cut_after_bytes=0, cut="close")
            answer = await ride.ask(CHAT, {"model": "bedrock-first", "messages": USER, "stream": stream})
            assert ride.served() == ["bedrock", "ollama"]
            names = [line.partition(b":")[0].lower() for line in answer.head.split(b"\r\n")[1:-2]]
            assert len(names) == len(set(names)), answer.head


async def test_googles_array_is_an_array_whoever_serves_and_redacted_too(tmp_path: Path) -> None:
    always = [{"detectors": ["pii"], "action": "mask", "where": ["answer"]}]
    for more in ({}, {"redact": {"always": always}}):
        async with api(tmp_path, **more) as ride:
            for provider in TARGETS:
                path, _ = APPS["gemini array"]
                fields = {"contents": [{"role": "user", "parts": [{"text": "write to ada.planted@example.com now"}]}]}
                shown = b"x-goog-api-key: %b\r\n" % ride.sidecar.placeholder.value.encode()
                answer = await ride.ask(path % f"to-{provider}".encode(), fields, shown)
                assert (answer.header("content-type") or "").startswith("application/json")
                said = "".join(
                    part.get("text", "")
                    for item in answer.json
                    for candidate in item.get("candidates", ())
                    for part in candidate["content"].get("parts", ())
                )
                assert said.startswith("Echo: write to "), (provider, said)
                assert ("ada.planted@example.com" in said) == (not more), (provider, said)


# -- what is left out is said, and what cannot be carried is refused by name


AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
NOTED: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"seed": 7}, "seed"),
    ("anthropic", {"logit_bias": {"5": 1}}, "logit_bias"),
    ("gemini", {"service_tier": "flex"}, "service"),
    ("ollama", {"parallel_tool_calls": False}, "one tool call at a time"),
    ("bedrock", {"presence_penalty": 0.5}, "presence_penalty"),
    ("cohere", {"x_of_nobody": 1}, "x_of_nobody"),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"n": 2}, "several answers (n)"),
    ("bedrock", {"n": 2}, "several answers (n)"),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [AUDIO]}]},
        "audio",
    ),
    (
        "cohere",
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        "file id",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "fields", "says"), NOTED)
async def test_what_is_left_out_is_said_in_the_answers_head(
    tmp_path: Path, provider: str, fields: dict[str, Any], says: str
) -> None:
    async with api(tmp_path) as ride:
        for stream in (False, True):
            asked = {"model": f"to-{provider}", "messages": USER, "stream": stream, **fields}
            answer = await ride.ask(CHAT, asked)
            assert answer.status == 200, answer.body
            assert says in (answer.header("x-outrider-translated") or ""), answer.head


@pytest.mark.parametrize(("provider", "fields", "says"), REFUSED)
async def test_what_cannot_be_carried_is_a_400_that_names_it_unless_another_target_has_it(
    tmp_path: Path, provider: str, fields: dict[str, Any], says: str
) -> None:
    models = aliases(two=[f"{provider}/{TARGETS[provider]}", "openai/gpt-4o"])
    async with api(tmp_path, models=models) as ride:
        for stream in (False, True):
            asked = {"messages": USER, **fields, "stream": stream}
            answer = await ride.ask(CHAT, {"model": f"to-{provider}", **asked})
            assert (answer.status, answer.header("x-outrider-error")) == (400, "cannot_translate"), answer.body
            assert says in answer.message
            assert ride.served() == []
            await ride.ask(CHAT, {"model": "two", **asked})
            assert ride.served() == ["openai"]


# -- files by URL


@asynccontextmanager
async def file_server() -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    from base64 import b64decode

    asked: list[dict[str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append({name.lower(): value for name, value in request.headers.items()})
        if request.path == "/away":
            return web.Response(status=302, headers={"location": "http://169.254.169.254/latest/meta-data"})
        if request.path != "/pixel.png":
            return web.Response(status=404)
        return web.Response(body=b64decode(PIXEL), content_type="image/png")

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


def with_image(path: bytes, url: str) -> dict[str, Any]:
    if path == CHAT:
        parts: list[Any] = [{"type": "text", "text": HELLO}, {"type": "image_url", "image_url": {"url": url}}]
        return {"messages": [{"role": "user", "content": parts}]}
    if path == MESSAGES:
        parts = [{"type": "image", "source": {"type": "url", "url": url}}, {"type": "text", "text": HELLO}]
        return {"messages": [{"role": "user", "content": parts}], "max_tokens": 50}
    parts = [{"type": "input_text", "text": HELLO}, {"type": "input_image", "image_url": url}]
    return {"input": [{"role": "user", "content": parts}]}


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_an_image_by_url_is_fetched_for_who_wants_bytes_and_left_a_url_for_who_does_not(
    tmp_path: Path, path: bytes
) -> None:
    async with file_server() as (port, asked), api(tmp_path, egress={"allow_private": ["127.0.0.0/8"]}) as ride:
        url = f"http://127.0.0.1:{port}/pixel.png"
        for provider in ("gemini", "bedrock", "ollama"):
            answer = await ride.ask(path, {"model": f"to-{provider}", **with_image(path, url)}, VERSION)
            assert answer.status == 200, answer.body
            sent = ride.last().body
            assert PIXEL.encode() in sent
            assert url.encode() not in sent
        assert len(asked) == 3
        shown = ride.sidecar.placeholder.value
        assert not any(shown in value for head in asked for value in head.values())
        assert not any({"authorization", "x-api-key", "cookie"} & set(head) for head in asked)
        for provider in ("openai", "anthropic", "cohere"):
            answer = await ride.ask(path, {"model": f"to-{provider}", **with_image(path, url)}, VERSION)
            if answer.status == 200:
                assert url.encode() in ride.last().body
        assert len(asked) == 3


async def test_what_an_app_must_not_reach_is_not_fetched(tmp_path: Path) -> None:
    async with file_server() as (port, asked):
        async with api(tmp_path) as ride:
            for url in (f"http://127.0.0.1:{port}/pixel.png", f"http://[::1]:{port}/pixel.png", "http://10.0.0.1/a.png",
                        "http://169.254.169.254/latest/meta-data", "http://2130706433/a.png",
                        f"{ride.url}/v1/models"):  # fmt: skip
                answer = await ride.ask(CHAT, {"model": "to-bedrock", **with_image(CHAT, url)})
                assert answer.status in (400, 403), (url, answer.body)
            assert ride.served() == []
        assert asked == []
        async with api(tmp_path, egress={"allow_private": ["127.0.0.0/8"]}) as ride:
            for name, status in (("away", 403), ("nothing.png", 400)):
                asking = {"model": "to-ollama", **with_image(CHAT, f"http://127.0.0.1:{port}/{name}")}
                answer = await ride.ask(CHAT, asking)
                assert answer.status == status, answer.body
            own = await ride.ask(CHAT, {"model": "to-ollama", **with_image(CHAT, f"{ride.url}/v1/models")})
            assert own.status == 403, own.body
            assert ride.served() == []


# -- apps that were not told


def request_to(host: str, key: str, fields: dict[str, Any], target: str = "/v1/chat/completions") -> bytes:
    body = json.dumps(fields).encode()
    head = (
        f"POST {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    )
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def test_an_app_of_one_provider_behind_https_proxy_is_served_by_another(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = {"gpt-5": {"targets": ["anthropic/claude-sonnet-4-6"]}, "smart": {"targets": ["gemini/gemini-2.5-flash"]}}
    with riding(tmp_path, tmp_path_factory.getbasetemp(), {"models": models}) as ride:
        with intercepted(ride) as tls:
            for model, provider in (("gpt-5", "anthropic"), ("smart", "gemini"), ("gpt-4o", "openai")):
                answer = exchange(tls, ride, {"model": model, "messages": USER})
                assert json.loads(answer)["choices"][0]["message"]["content"] == f"Echo: {HELLO}"
                assert json.loads(answer)["object"] == "chat.completion"
                assert ride.entry.provider == provider
                key = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(provider, "authorization")
                assert ride.entry.header(key) in (REAL[provider], f"Bearer {REAL[provider]}")
        with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as plain:
            fields = {"model": "gpt-5", "messages": USER}
            plain.sendall(
                request_to("api.openai.com", ride.placeholder, fields, "http://api.openai.com/v1/chat/completions")
            )
            answer = answer_of(plain)
            assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 403 ")), answer
        ride.assert_hidden()
        asked = {(row[0], row[2]) for row in ride.requests() if row[3] == "200"}
        assert {("anthropic", "claude-sonnet-4-6"), ("gemini", "gemini-2.5-flash"), ("openai", "gpt-4o")} <= asked


def exchange(tls: ssl.SSLSocket, ride: Ride, fields: dict[str, Any]) -> bytes:
    tls.sendall(request_to("api.openai.com", ride.placeholder, fields))
    head, _, body = answer_of(tls).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head + body
    return body


SEED_NOTE = "seed left out; max_tokens set to 4096"
NOTED = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Yes.", "citations": [{"type": "char_location", "cited_text": "y"}]}],
    "usage": {"input_tokens": 3, "output_tokens": 1},
}  # fmt: skip


def streamed(message: dict[str, Any]) -> bytes:
    """A message of Anthropic's as its events."""
    (part,) = message["content"]
    citation = {"type": "citations_delta", "citation": part["citations"][0]}
    events = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": citation},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part["text"]}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in events)


@pytest.mark.parametrize("more", [{}, {"redact": {"always": [{"detectors": ["pii"], "action": "mask"}]}}])
async def test_what_an_answer_leaves_out_is_said_too(tmp_path: Path, more: dict[str, Any]) -> None:
    log = tmp_path / "audit.jsonl"
    async with api(tmp_path, telemetry={"audit": {"path": str(log)}}, **more) as ride:
        asked = {"model": "to-anthropic", "messages": USER, "seed": 1}
        ride.mock.next(Behaviour(body=json.dumps(NOTED).encode()))
        whole = await ride.ask(CHAT, asked)
        assert whole.json["choices"][0]["message"]["content"] == "Yes."
        assert whole.header("x-outrider-translated") == f"{SEED_NOTE}; citations left out"
        assert whole.head.lower().count(b"x-outrider-translated") == 1
        # The head of a stream has left by then.
        ride.mock.next(Behaviour(body=streamed(NOTED), headers={"Content-Type": "text/event-stream"}))
        stream = await ride.ask(CHAT, asked | {"stream": True})
        assert streamed_text_of(CHAT, stream.events) == "Yes."
        assert stream.header("x-outrider-translated") == SEED_NOTE
        ride.mock.fail(404)
        assert (await ride.ask(CHAT, asked)).header("x-outrider-translated") == SEED_NOTE
    (file,) = tmp_path.glob("audit-0*.jsonl")
    told = [line.get("translated") for line in map(json.loads, file.read_text().splitlines()) if "operation" in line]
    assert told == [f"{SEED_NOTE}; citations left out"] * 2 + [SEED_NOTE]
