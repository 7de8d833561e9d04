"""Remembered answers, from an app's and a provider's socket: what is served again, and what never is."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider, frames
from outrider.mock.behaviour import Behaviour
from support.callers import with_keys
from support.remembering import (
    CHAT,
    LAST,
    STREAM,
    STREAM_HEAD,
    WHOLE,
    App,
    answer,
    chunk,
    event,
    question,
    remembering,
)  # fmt: skip
from support.running import client_of, running, total, until

STREAMED = STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST


async def test_the_same_question_is_answered_once_by_the_provider_and_then_from_memory(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        app = await world.app()
        first = await world.first(app, question())
        assert app.said == "miss"
        assert await app.ask(question()) == first
        assert (app.said, app.field("age"), app.status) == ("hit", "0", 200)
        other = await world.app()
        # Another order of keys, white space and spelling of a number: the same question.
        body = json.dumps(dict(reversed(json.loads(question()).items()))).replace(
            '"temperature": 0', '"temperature":0.0'
        )
        assert await other.ask(body.encode()) == first
        assert other.said == "hit"
        assert (world.calls, world.counted("hit"), world.counted("miss")) == (1, 2, 1)
        assert len(world.state.memory) == 1


async def test_a_stream_is_remembered_and_given_again_as_it_came(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        app = await world.app()
        asked = question(stream=True, stream_options={"include_usage": True})
        assert await world.first(app, asked, STREAMED) == b"".join(STREAM)
        assert await app.ask(asked) == b"".join(STREAM)
        assert (app.said, world.calls) == ("hit", 1)
        assert b"transfer-encoding: chunked" in app.head
        assert app.field("content-type") == "text/event-stream"


LINES = (b'{"is_finished":false,"event_type":"text-generation","text":"Hi"}\n',
         b'{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE","response":{}}\n')  # fmt: skip
INVOKED = tuple(
    frames.event("chunk", json.dumps({"bytes": base64.b64encode(text).decode()}).encode())
    for text in (b'{"generation":"Hi","stop_reason":null}', b'{"generation":"","stop_reason":"stop"}')
)


@pytest.mark.parametrize(
    ("path", "kind", "pieces"),
    [
        (b"/cohere/v1/chat", b"application/stream+json", LINES),
        (
            b"/bedrock/model/meta.llama3-8b-instruct-v1:0/invoke-with-response-stream",
            frames.CONTENT_TYPE.encode(),
            INVOKED,
        ),
    ],
    ids=["lines", "frames"],
)
async def test_a_stream_of_lines_or_frames_is_shared_while_it_comes_and_remembered(
    tmp_path: Path, path: bytes, kind: bytes, pieces: tuple[bytes, ...]
) -> None:
    providers: dict[str, Any] = {"cohere": {"kind": None}, "bedrock": {"kind": None, "region": "us-east-1"}}
    async with remembering(tmp_path, providers=providers) as world:
        first, second = await world.app(), await world.app()
        asked = json.dumps({"model": "m", "message": "Hi", "prompt": "Hi", "temperature": 0, "stream": True}).encode()
        await first.send(asked, path=path)
        peer = await world.called()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind
        await peer.send(head + chunk(pieces[0]))
        await second.send(asked, path=path)
        assert pieces[0] in await second.peer.until(pieces[0])  # while the provider has yet to say the rest
        await peer.send(chunk(pieces[1]) + LAST)
        peer.close()
        assert await first.answer() == b"".join(pieces)
        third = await world.app()
        assert await third.ask(asked, path=path) == b"".join(pieces)
        assert (third.said, world.calls, world.counted("joined")) == ("hit", 1, 1)


async def test_a_client_of_http_1_0_gets_a_remembered_stream_up_to_the_close(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        app = await world.app()
        asked = question(stream=True)
        await world.first(app, asked, STREAMED)
        old = await world.app()
        head = b"POST %b HTTP/1.0\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        await old.peer.send(head % (CHAT, world.sidecar.proxy_addresses[0][1], len(asked)) + asked)
        data = await old.peer.rest()
        assert data.endswith(b"\r\n\r\n" + b"".join(STREAM))
        assert b"x-outrider-cache: hit" in data
        assert b"transfer-encoding" not in data


async def test_the_usage_chunk_that_only_one_app_asked_for_reaches_only_that_one(tmp_path: Path) -> None:
    usage = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    pieces = (*STREAM[:-1], usage, STREAM[-1])
    local = {"kind": "openai"}
    async with remembering(tmp_path, providers={"local": local}) as world:
        asks, asks_not = question(stream=True, stream_options={"include_usage": True}), question(stream=True)
        app = await world.app()
        wire = STREAM_HEAD + b"".join(map(chunk, pieces)) + LAST
        assert await world.first(app, asks_not, wire) == b"".join(STREAM)
        assert await app.ask(asks) == b"".join(pieces)
        assert app.said == "hit"
        assert await app.ask(asks_not) == b"".join(STREAM)
        assert app.said == "hit"
        # What a remembered answer used was counted when it was made.
        assert total(world.sidecar, "outrider_tokens_total") == 3
        assert total(world.sidecar, "outrider_cache_saved_tokens_total") == 6


async def test_many_questions_in_one_packet_are_answered_in_order(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        app = await world.app()
        first = await world.first(app, question("a"))
        second = await world.first(app, question("b"), answer({**WHOLE, "id": "other"}))
        for text in "abab":
            await app.send(question(text))
        assert [await app.answer() for _ in range(4)] == [first, second] * 2
        assert world.calls == 2


async def test_an_answer_larger_than_the_buffers_arrives_whole_at_a_slow_reader(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    large = json.dumps(WHOLE).replace("Hello.", text).encode()
    async with remembering(tmp_path, {"answer_bytes": 8 << 20}, caps={"write_buffer_bytes": 16384}) as world:
        app = await world.app()
        await world.first(app, question(), answer(large))
        slow = await world.app(receive_buffer=4096)
        await slow.send(question())
        await world.turns()
        assert await slow.answer() == large
        assert slow.said == "hit"


# -- what is not asked of the memory


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.1},
        {"temperature": None},
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"background": True},
        {"web_search_options": {}} | {"web_search_options": {"x": 1}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "mcp", "server_url": "https://x"}]},
    ],
    ids=str,
)
async def test_what_may_differ_or_leaves_more_than_an_answer_is_asked_anew(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    asked = question(**fields)
    async with remembering(tmp_path) as world:
        app = await world.app()
        for _ in range(2):
            await world.first(app, asked)
            assert app.said == "bypass"
        assert len(world.state.memory) == 0


async def test_own_functions_and_a_null_are_no_reason_to_ask_anew(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    async with remembering(tmp_path) as world:
        app = await world.app()
        await world.first(app, question(tools=tools, store=False, previous_response_id=None))
        await app.ask(question(tools=tools, store=False, previous_response_id=None))
        assert app.said == "hit"


async def test_the_responses_api_keeps_what_it_is_not_told_not_to_keep(tmp_path: Path) -> None:
    done = answer({"id": "r", "object": "response", "status": "completed", "output": []})
    path = b"/local/v1/responses"
    async with remembering(tmp_path) as world:
        app = await world.app()
        await world.first(app, question(), done, path=path)
        assert app.said == "bypass"
        await world.first(app, question(store=False), done, path=path)
        assert app.said == "miss"
        await app.ask(question(store=False), path=path)
        assert app.said == "hit"


async def test_embeddings_follow_from_their_input_without_a_temperature(tmp_path: Path) -> None:
    asked, path = b'{"model":"e","input":"hello"}', b"/local/v1/embeddings"
    async with remembering(tmp_path) as world:
        app = await world.app()
        made = answer({"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}})
        first = await world.first(app, asked, made, path=path)
        assert await app.ask(asked, path=path) == first


# -- what is not remembered


CUT = STREAM_HEAD + chunk(STREAM[0]) + chunk(STREAM[1])
FAILED = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'


@pytest.mark.parametrize(
    "reply",
    [
        answer({"error": {"message": "no"}}, 500),
        answer({"error": {"message": "slow down"}}, 429),
        answer({"error": {"message": "in a good answer"}}),
        answer({**WHOLE, "choices": []}),
        answer(json.dumps(WHOLE).encode().replace(b'"stop"', b'"length"')),
        answer(json.dumps(WHOLE).encode().replace(b'"stop"', b'"content_filter"')),
        answer(json.dumps(WHOLE).encode()[:-5]),
        answer(b"<html>welcome to the hotel's network</html>"),
        answer(lines=b"set-cookie: session=of-somebody\r\n"),
        answer(lines=b"vary: *\r\n"),
        answer(status=203),
        answer(json.dumps(WHOLE | {"pad": "x" * 70_000}).encode()),
        STREAM_HEAD + b"".join(map(chunk, STREAM[:-1])) + LAST,
        STREAM_HEAD + b"".join(map(chunk, (*STREAM[:2], FAILED, STREAM[3]))) + LAST,
        STREAM_HEAD + b"".join(map(chunk, (*STREAM[:2], event(None, finish_reason="length"), STREAM[3]))) + LAST,
        STREAM_HEAD + b"".join(map(chunk, (*STREAM, b'data: {"more"'))) + LAST,
    ],
    ids=range(16),
)  # fmt: skip
async def test_an_answer_that_is_not_good_and_whole_is_never_given_again(tmp_path: Path, reply: bytes) -> None:
    async with remembering(tmp_path, {"answer_bytes": 65_536}) as world:
        app = await world.app()
        for _ in range(2):
            await world.first(app, question(), reply)
            assert app.said == "miss"
        assert (world.calls, len(world.state.memory), world.state.flights) == (2, 0, {})


async def test_an_answer_that_breaks_off_is_never_given_again(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        for _ in range(2):
            app = await world.app()
            await app.send(question(stream=True))
            peer = await world.called()
            await peer.send(CUT)
            assert b"Hel" in await app.peer.until(b"lo.")
            peer.reset()
            assert b'data: {"error":' in await app.peer.until(LAST)
        assert (world.calls, len(world.state.memory)) == (2, 0)


async def test_a_balancers_cookie_keeps_no_answer_out_and_is_not_given_again(tmp_path: Path) -> None:
    lines = b"set-cookie: __cf_bm=x; path=/\r\nx-ratelimit-remaining-requests: 7\r\nage: 99\r\nx-request-id: req_1\r\n"
    lines += b"x-outrider-cache: hit\r\nx-outrider-error: forged\r\n"
    async with remembering(tmp_path) as world:
        app = await world.app()
        await world.first(app, question(), answer(lines=lines))
        assert (app.said, app.field("age"), app.field("x-outrider-error")) == ("miss", "", "")
        await app.ask(question())
        assert (app.said, app.field("age"), app.field("x-request-id")) == ("hit", "0", "req_1")
        assert app.field("set-cookie") == app.field("x-ratelimit-remaining-requests") == ""


async def test_an_answer_that_came_packed_is_read_before_it_is_remembered(tmp_path: Path) -> None:
    accepts = b"accept-encoding: gzip\r\n"
    async with remembering(tmp_path) as world:
        app = await world.app()
        packed = gzip.compress(json.dumps(WHOLE).encode())
        reply = answer(packed, lines=b"content-encoding: gzip\r\n")
        assert await world.first(app, question(), reply, accepts) == packed
        assert await app.ask(question(), accepts) == packed
        assert (app.said, app.field("content-encoding")) == ("hit", "gzip")
        await world.first(app, question())  # one that cannot unpack it is another question
        assert app.said == "miss"
        for bad in (packed[:-4], packed + b"x", b"no gzip"):
            await world.first(app, question(bad.hex()), answer(bad, lines=b"content-encoding: gzip\r\n"), accepts)
        assert len(world.state.memory) == 2


# -- whose answer it is


async def test_no_answer_crosses_from_one_question_to_another(tmp_path: Path) -> None:
    """Each differs from the first in one thing; none may be given what the first was given."""
    questions: list[tuple[bytes, bytes, bytes]] = [
        (question(), b"", CHAT),
        (question("Hi."), b"", CHAT),
        (question(model="m2"), b"", CHAT),
        (question(messages=[{"role": "system", "content": "Be rude"}, {"role": "user", "content": "Hi"}]), b"", CHAT),
        (question(max_tokens=5), b"", CHAT),
        (question(seed=1), b"", CHAT),
        (question(user="u"), b"", CHAT),
        (question(), b"", CHAT + b"?a=1"),
        (question(), b"", b"/second/v1/chat/completions"),
        (question(), b"", b"/local/v1/completions"),
        (question(), b"openai-organization: org-2\r\n", CHAT),
        (question(), b"openai-beta: assistants=v2\r\n", CHAT),
        (question(), b"anthropic-beta: tools-2024\r\n", CHAT),
        (question(), b"anthropic-version: 2023-06-01\r\n", CHAT),
        (question(), b"x-tenant: 2\r\n", CHAT),
        (question(), b"cookie: session=2\r\n", CHAT),
        (question(), b"authorization: Bearer sk-app-1\r\n", CHAT),
        (question(), b"authorization: Bearer sk-app-2\r\n", CHAT),
        (question(), b"api-key: sk-app-1\r\n", CHAT),
    ]
    async with remembering(tmp_path, {"scope": "global"}, providers={"local": {}, "second": {}}) as world:
        app = await world.app()
        given = {}
        for number, (body, lines, path) in enumerate(questions):
            mine = {**WHOLE, "id": f"answer {number}"}
            given[number] = await world.first(app, body, answer(mine), lines, path)
            assert app.said == "miss", (number, body, lines, path)
        for number, (body, lines, path) in enumerate(questions):
            assert await app.ask(body, lines, path) == given[number]
            assert json.loads(app.body)["id"] == f"answer {number}"
            assert app.said == "hit"
        assert world.calls == len(questions)


async def test_what_says_nothing_about_the_answer_makes_no_other_question(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        app = await world.app()
        await world.first(app, question(), lines=b"x-stainless-retry-count: 0\r\nuser-agent: a\r\n")
        lines = b"x-stainless-retry-count: 1\r\nuser-agent: b\r\ntraceparent: 00-1\r\nidempotency-key: k\r\n"
        await app.ask(question(), lines + b"x-outrider-cache: hit\r\n")
        assert app.said == "hit"


@pytest.mark.parametrize(
    ("scope", "sharing"), [("principal", {"ann"}), ("team", {"ann", "amy"}), ("global", {"ann", "amy", "ben"})]
)
async def test_callers_share_answers_only_as_far_as_the_scope_goes(
    tmp_path: Path, scope: str, sharing: set[str]
) -> None:
    sections, auth = with_keys(tmp_path, {"ann": "a", "amy": "a", "ben": "b"})
    providers = {"local": {"credential": {"env": "OPENAI_API_KEY"}}}
    async with remembering(tmp_path, {"scope": scope}, providers=providers, **sections) as world:
        app = await world.app()
        await world.first(app, question(), lines=auth["ann"])
        for name in auth:
            if name in sharing:
                await app.ask(question(), auth[name])
                assert (name, app.said) == (name, "hit")
            else:
                await world.first(app, question(), answer({**WHOLE, "id": name}), auth[name])
                assert (name, app.said) == (name, "miss")
        for name in auth:
            await app.ask(question(), auth[name])
            assert json.loads(app.body)["id"] == ("c1" if name in sharing else name)


# -- Cache-Control


async def test_cache_control_of_a_request_is_heeded(tmp_path: Path) -> None:
    newer = answer({**WHOLE, "id": "newer"})
    async with remembering(tmp_path) as world:
        app = await world.app()
        await app.ask(question(), b"cache-control: only-if-cached\r\n")
        assert (app.status, app.field("x-outrider-error")) == (504, "not_cached")
        first = await world.first(app, question(), lines=b"cache-control: no-store\r\n")
        assert (app.said, len(world.state.memory)) == ("bypass", 0)
        first = await world.first(app, question())
        assert await app.ask(question(), b"cache-control: only-if-cached\r\n") == first
        # no-cache asks anew, and what comes is remembered.
        second = await world.first(app, question(), newer, b"cache-control: no-cache\r\n")
        assert (app.said, second != first) == ("miss", True)
        assert await app.ask(question(), b"cache-control: max-age=60\r\n") == second
        await world.first(app, question(), newer, b"cache-control: max-age=0\r\n")
        assert app.said == "miss"


# -- age


def age(world: Any, seconds: float) -> None:
    """Everything that is remembered becomes so much older."""
    for _, entry in world.state.memory.items():
        entry.at_ns -= int(seconds * 1e9)


async def test_what_is_too_old_is_asked_anew(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"ttl_s": 60}) as world:
        app = await world.app()
        await world.first(app, question())
        age(world, 59)
        await app.ask(question())
        assert (app.said, app.field("age")) == ("hit", "59")
        age(world, 2)
        await world.first(app, question())
        assert app.said == "miss"
        await app.ask(question())
        assert (app.said, app.field("age")) == ("hit", "0")


async def test_what_is_a_little_too_old_is_given_and_renewed_behind_it(tmp_path: Path) -> None:
    newer = {**WHOLE, "id": "newer"}
    async with remembering(tmp_path, {"ttl_s": 60, "stale_while_revalidate_s": 60}) as world:
        app = await world.app()
        first = await world.first(app, question())
        age(world, 90)
        assert await app.ask(question()) == first
        assert (app.said, app.field("age")) == ("stale", "90")
        peer = await world.called()
        assert await app.ask(question()) == first  # while it is being renewed, once
        await peer.send(answer(newer))
        peer.close()
        for _ in range(100):
            await world.turns()
            if not world.state.flights:
                break
        assert json.loads(await app.ask(question()))["id"] == "newer"
        assert (app.said, world.calls) == ("hit", 2)


async def test_what_is_renewed_is_asked_for_as_the_rules_want_it(tmp_path: Path) -> None:
    headers = {"set": {"x-team": "blue"}, "remove": ["openai-organization"]}
    rule = {"id": "edit", "description": "d", "then": {"rewrite": {"headers": headers}}}
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"version": 1, "rules": [rule]}))
    settings = {"ttl_s": 60, "stale_while_revalidate_s": 60}
    async with remembering(tmp_path, settings, policies=[str(rules)]) as world:
        app = await world.app()
        lines = b"openai-organization: org-1\r\n"
        await world.first(app, question(), lines=lines)
        asked = world.asked_head
        assert b"x-team: blue\r\n" in asked
        assert b"org-1" not in asked
        age(world, 90)
        await app.ask(question(), lines)
        assert app.said == "stale"
        peer = await world.called()
        await peer.send(answer())
        peer.close()
        assert world.asked_head == asked
        await until(lambda: not world.state.flights, "it is renewed")


@pytest.mark.parametrize("failure", ["unreachable", "reset", "500", "429"])
async def test_what_is_old_is_given_where_the_provider_fails_and_said_to_be(tmp_path: Path, failure: str) -> None:
    async with remembering(tmp_path, {"ttl_s": 60, "stale_if_error_s": 600}) as world:
        app = await world.app()
        first = await world.first(app, question())
        age(world, 100)
        if failure == "unreachable":
            await world.provider.__aexit__(None, None, None)
            await app.send(question())
        else:
            await app.send(question())
            peer = await world.called()
            if failure == "reset":
                peer.reset()
            else:
                await peer.send(answer({"error": {"message": "no"}}, int(failure)))
        assert await app.answer() == first
        assert (app.said, app.status, app.field("age")) == ("stale", 200, "100")


async def test_what_is_older_than_that_is_not_given(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"ttl_s": 60, "stale_if_error_s": 60}) as world:
        app = await world.app()
        await world.first(app, question())
        age(world, 121)
        await world.first(app, question(), answer({"error": {}}, 500))
        assert app.status == 500


# -- rules


@pytest.mark.parametrize(("word", "temperature", "said"), [("on", 0.7, "hit"), ("off", 0, "bypass")])
async def test_a_rule_says_whether_a_call_may_be_answered_from_memory(
    tmp_path: Path, word: str, temperature: float, said: str
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f"version: 1\nrules:\n  - {{id: remember, description: d, match: {{model: m}}, then: {{cache: {word}}}}}\n"
    )
    async with remembering(tmp_path, policies=[str(rules)]) as world:
        app = await world.app()
        asked = question(temperature=temperature)
        first = await world.first(app, asked)
        if said == "hit":
            assert await app.ask(asked) == first
        else:
            await world.first(app, asked)
        assert app.said == said


# -- redaction


@pytest.mark.parametrize("streams", [False, True])
async def test_rules_on_answers_hold_for_remembered_ones_too(tmp_path: Path, streams: bool) -> None:
    """What is kept is what the provider said; each app gets it redacted."""
    redact = {"always": [{"detectors": ["email"], "action": "mask", "where": ["answer"]}]}
    said = "write to ann@example.com today"
    pieces = (event("write to ann@exa"), event("mple.com today"), *STREAM[2:])
    reply = (
        STREAM_HEAD + b"".join(map(chunk, pieces)) + LAST
        if streams
        else answer(json.dumps(WHOLE).replace("Hello.", said).encode())
    )
    async with remembering(tmp_path, redact=redact) as world:
        app = await world.app()
        first = await world.first(app, question(stream=streams), reply)
        assert (app.said, b"example.com" in first) == ("miss", False)
        again = await app.ask(question(stream=streams))
        assert (app.said, b"example.com" in again, b"today" in again) == ("hit", False, True)
        (entry,) = [entry for _, entry in world.state.memory.items()]
        assert b"mple.com" in entry.wire


async def test_what_is_pseudonymised_is_nobodys_question_and_all_else_is_as_ever(tmp_path: Path) -> None:
    redact = {"always": [{"detectors": ["email"], "action": "pseudonymise"}]}
    async with remembering(tmp_path, redact=redact) as world:
        app = await world.app()
        for _ in range(2):
            await world.first(app, question("mail ann@example.com"))
            assert app.said == "bypass"
        await world.first(app, question("no address"))
        await app.ask(question("no address"))
        assert app.said == "hit"


# -- other dialects


async def test_streams_of_every_known_end_are_remembered(tmp_path: Path) -> None:
    """The mock speaks like the providers; a second app is given what the first one was."""
    asked = {"temperature": 0, "stream": True}
    talks = [{"role": "user", "content": "hi"}]
    calls: list[tuple[bytes, dict[str, Any]]] = [
        (b"/openai/v1/chat/completions", {**asked, "model": "gpt-4o", "messages": talks}),
        (b"/openai/v1/responses", {**asked, "model": "gpt-4o", "input": "hi", "store": False}),
        (b"/anthropic/v1/messages", {**asked, "model": "claude-sonnet-4-5", "max_tokens": 900, "messages": talks}),
        (
            b"/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"temperature": 0}},
        ),
        (
            b"/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"temperature": 0}},
        ),
        (
            b"/bedrock/model/anthropic.claude-3-haiku-20240307-v1:0/converse-stream",
            {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"temperature": 0}},
        ),
        (b"/ollama/api/chat", {"model": "llama3.2", "messages": talks, "options": {"temperature": 0}}),
    ]
    async with MockProvider(tls=False, behaviour=Behaviour(events=5)) as mock:
        providers: dict[str, Any] = {
            name: {"connect_to": mock.http_url} for name in ("openai", "anthropic", "gemini", "ollama")
        }
        providers["bedrock"] = {"connect_to": mock.http_url, "region": "us-east-1"}
        async with running(tmp_path, providers, cache={"mode": "exact"}) as sidecar:
            app = App(sidecar, await client_of(sidecar))
            keys = b"authorization: Bearer sk-x\r\nx-api-key: sk-x\r\nx-goog-api-key: sk-x\r\n"
            for number, (path, body) in enumerate(calls, 1):
                lines = keys + b"anthropic-version: 2023-06-01\r\n"
                first = await app.ask(json.dumps(body).encode(), lines, path)
                assert (app.status, app.said) == (200, "miss"), (path, first[:300])
                assert await app.ask(json.dumps(body).encode(), lines, path) == first
                assert (app.said, path) == ("hit", path)
                assert len(mock.journal) == number
            app.peer.close()


# -- limits


async def test_a_hit_counts_for_limits_on_requests_and_borrows_no_tokens(tmp_path: Path) -> None:
    limits = [
        {"name": "requests", "key": ["provider"], "requests": "3/h"},
        {"name": "tokens", "key": ["provider"], "tokens": "1000/h", "burst": 60},
    ]
    async with remembering(tmp_path, limits=limits) as world:
        app = await world.app()
        await world.first(app, question())
        for _ in range(2):  # 42 of 60 tokens are spent: a call would be refused
            await app.ask(question())
            assert (app.said, app.status) == ("hit", 200)
        await app.ask(question())
        assert (app.status, app.field("x-outrider-decision")) == (429, "requests")


# -- pace


async def test_a_remembered_stream_is_given_at_a_pace_and_stops_when_the_app_leaves(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"tokens_per_s": 100}) as world:
        app = await world.app()
        asked = question(stream=True)
        await world.first(app, asked, STREAMED)
        (entry,) = [entry for _, entry in world.state.memory.items()]
        assert len(entry.beats) == len(STREAM)
        assert await app.ask(asked) == b"".join(STREAM)
        assert app.said == "hit"
        await app.send(asked)
        await app.peer.until(b"Hel")
        app.peer.close()
        await world.turns()


async def test_a_remembered_stream_is_given_at_the_pace_at_which_it_came(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"pace": "recorded"}) as world:
        app = await world.app()
        asked = question(stream=True)
        await app.send(asked)
        peer = await world.called()
        await peer.send(STREAM_HEAD + chunk(STREAM[0]))
        await app.peer.until(b"Hel")
        await peer.send(chunk(b"".join(STREAM[1:])) + LAST)
        await app.peer.until(LAST)
        (entry,) = [entry for _, entry in world.state.memory.items()]
        assert len(entry.beats) == 2
        entry.beats = (entry.beats[0], (entry.beats[1][0], 30.0))
        assert await app.ask(asked) == b"".join(STREAM)
        assert app.said == "hit"
