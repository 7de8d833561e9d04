"""Answers of a provider that speaks another dialect than the app: remembered as the app gets them."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from support.remembering import LAST, STREAM_HEAD, World, answer, chunk, question, remembering
from support.running import total

MODELS = {"smart": {"targets": ["claude/claude-x"]}}
PROVIDERS: dict[str, Any] = {
    "local": {},
    "claude": {"kind": "anthropic", "credential": {"env": "OPENAI_API_KEY"}, "require_placeholder": False},
}
WHOLE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "Hello."}],
    "usage": {"input_tokens": 30, "output_tokens": 12},
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**WHOLE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": {"output_tokens": 12}},
    {"type": "message_stop"},
]  # fmt: skip


def sse(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def streamed(events: list[dict[str, Any]]) -> bytes:
    return STREAM_HEAD + b"".join(chunk(sse(event)) for event in events) + LAST


def translating(
    folder: Path, cache: dict[str, Any] | None = None, **sections: Any
) -> AbstractAsyncContextManager[World]:
    return remembering(folder, cache, providers=PROVIDERS, **{"models": MODELS, **sections})


def asked(text: str = "Hi", **fields: Any) -> bytes:
    return question(text, model="smart", max_tokens=50, **fields)


def told(data: bytes) -> tuple[str, bool, bool]:
    """(the text of an OpenAI stream, whether it holds usage, whether it ended)."""
    events = [event[6:] for event in data.split(b"\n\n") if event]
    values = [json.loads(event) for event in events if event != b"[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for value in values for choice in value["choices"])
    return text, any(value.get("usage") for value in values), events[-1] == b"[DONE]"


async def test_a_translated_answer_is_remembered_as_the_app_got_it(tmp_path: Path) -> None:
    async with translating(tmp_path) as world:
        app = await world.app()
        first = await world.first(app, asked(), answer(WHOLE))
        assert world.asked_head.startswith(b"POST /v1/messages ")
        assert json.loads(first)["choices"][0]["message"]["content"] == "Hello."
        assert app.said == "miss"
        assert await app.ask(asked()) == first
        assert (app.said, app.field("content-type"), world.calls) == ("hit", "application/json", 1)
        assert total(world.sidecar, "outrider_cache_saved_tokens_total") == 42


@pytest.mark.parametrize("asks_first", [True, False])
async def test_a_translated_stream_is_remembered_with_its_usage_for_those_who_ask_for_it(
    tmp_path: Path, asks_first: bool
) -> None:
    with_usage = asked(stream=True, stream_options={"include_usage": True})
    first, second = (with_usage, asked(stream=True)) if asks_first else (asked(stream=True), with_usage)
    async with translating(tmp_path) as world:
        app = await world.app()
        got = await world.first(app, first, streamed(EVENTS))
        assert told(got) == ("Hello.", asks_first, True)
        assert await app.ask(first) == got
        assert app.said == "hit"
        assert told(await app.ask(second)) == ("Hello.", not asks_first, True)
        assert (app.said, app.field("content-type").split(";")[0], world.calls) == ("hit", "text/event-stream", 1)


async def test_identical_calls_share_a_translated_stream_as_it_comes(tmp_path: Path) -> None:
    body = asked(stream=True)
    async with translating(tmp_path) as world:
        first, second = await world.app(), await world.app()
        await first.send(body)
        peer = await world.called()
        await peer.send(STREAM_HEAD + b"".join(chunk(sse(event)) for event in EVENTS[:3]))
        assert b"Hel" in await first.peer.until(b'"Hel"')
        await second.send(body)
        assert b"Hel" in await second.peer.until(b'"Hel"')
        await peer.send(b"".join(chunk(sse(event)) for event in EVENTS[3:]) + LAST)
        peer.close()
        for app in (first, second):
            assert b"[DONE]" in await app.peer.until(b"[DONE]")
        assert (world.calls, world.counted("joined"), len(world.state.memory)) == (1, 1, 1)


BROKEN = [
    streamed(EVENTS[:4]),
    streamed([*EVENTS[:4], {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}]),
    streamed([*EVENTS[:5], {**EVENTS[5], "delta": {"stop_reason": "max_tokens"}}, EVENTS[6]]),
    STREAM_HEAD + b"".join(chunk(sse(event)) for event in EVENTS[:4]),
    answer({**WHOLE, "stop_reason": "max_tokens"}),
    answer(b"no json"),
    answer(WHOLE, lines=b"set-cookie: a=b\r\n"),
    answer({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400),
]


@pytest.mark.parametrize("wire", BROKEN, ids=range(len(BROKEN)))
async def test_a_translated_answer_that_is_not_whole_is_not_remembered(tmp_path: Path, wire: bytes) -> None:
    body = asked(stream=wire.startswith(STREAM_HEAD))
    async with translating(tmp_path) as world:
        app = await world.app()
        await app.send(body)
        peer = await world.called()
        await peer.send(wire)
        peer.close()
        await app.peer.until(b"\r\n\r\n")
        await world.turns()
        assert len(world.state.memory) == 0
        assert not world.state.flights


async def test_of_an_attempt_that_was_given_up_nothing_is_copied(tmp_path: Path) -> None:
    """A stream whose first event says that the provider is overloaded is tried again at the next target."""
    models = {"smart": {"targets": ["claude/claude-x", "claude/claude-y"]}}
    body = asked(stream=True)
    async with translating(tmp_path, models=models) as world:
        first, second = await world.app(), await world.app()
        await first.send(body)
        peer = await world.called()
        await second.send(body)
        await peer.send(streamed([{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}]))
        peer.close()
        peer = await world.called()
        await peer.send(streamed(EVENTS))
        peer.close()
        got = [await app.answer() for app in (first, second)]
        assert [told(data) for data in got] == [("Hello.", False, True)] * 2
        assert await first.ask(body) == got[0]
        assert (first.said, world.calls) == ("hit", 2)


async def test_what_is_old_is_given_where_a_target_of_another_dialect_fails(tmp_path: Path) -> None:
    resilience = {"retry": {"attempts": 1}}
    async with translating(tmp_path, {"ttl_s": 60, "stale_if_error_s": 600}, resilience=resilience) as world:
        app = await world.app()
        first = await world.first(app, asked(), answer(WHOLE))
        (entry,) = [entry for _, entry in world.state.memory.items()]
        entry.at_ns -= 100 * 10**9
        broken = answer({"type": "error", "error": {"type": "api_error", "message": "no"}}, 500)
        for wire in (broken, b"nonsense\r\n\r\n"):
            assert await world.first(app, asked(), wire) == first
            assert (app.said, app.status) == ("stale", 200)


async def test_what_is_taken_out_of_answers_is_taken_out_for_each_who_gets_it(tmp_path: Path) -> None:
    redact = {"always": [{"detectors": ["email"], "action": "mask", "where": ["answer"]}]}
    whole = {**WHOLE, "content": [{"type": "text", "text": "Ask ann@example.com."}]}
    async with translating(tmp_path, redact=redact) as world:
        app = await world.app()
        first = await world.first(app, asked(), answer(whole))
        assert b"ann@example.com" not in first
        (entry,) = [entry for _, entry in world.state.memory.items()]
        assert b"ann@example.com" in entry.wire  # the provider's side; each who gets it passes the redaction
        assert await app.ask(asked()) == first
        assert app.said == "hit"


async def test_other_words_find_a_translated_answer(tmp_path: Path) -> None:
    providers = {**PROVIDERS, "near": {"credential": {"env": "OPENAI_API_KEY"}}}
    semantic = {"provider": "near", "model": "embed-1", "timeout_ms": 20_000}
    async with remembering(tmp_path, {"semantic": semantic}, providers=providers, models=MODELS) as world:
        app = await world.app()
        vector = answer({"data": [{"index": 0, "embedding": [1, 0]}]})

        async def asks(text: str) -> None:
            await app.send(asked(text))
            peer = await world.called()
            await peer.send(vector)
            peer.close()

        await asks("Why?")
        peer = await world.called()
        await peer.send(answer(WHOLE))
        peer.close()
        first = await app.answer()
        await asks("What for?")
        assert await app.answer() == first
        assert app.said == "semantic"
