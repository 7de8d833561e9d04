"""Conversations of several targets, over the wire: whoever began one goes on with it, or the call is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from lanes.test_dispatch_wire import JSON, Ride, alias, ride, status
from outrider.mock.behaviour import Behaviour
from support.running import client_of, post

RESPONSES = b"/one/v1/responses"


async def ask(r: Ride, path: bytes = RESPONSES, **fields: Any) -> tuple[bytes, Any]:
    peer = await client_of(r.sidecar)
    body = {"model": "smart", "input": "Hello"} | fields
    await peer.send(post(r.sidecar, json.dumps(body).encode(), path, JSON + b"accept-encoding: gzip\r\n"))
    head, told = await peer.answer()
    peer.close()
    return head, told


def response_id(told: bytes) -> str:
    if told.startswith(b"{"):
        return str(json.loads(told)["id"])
    first = json.loads(told.split(b"data: ", 2)[1].split(b"\n", 1)[0])
    return str(first["response"]["id"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on_where_it_began_whatever_the_strategy_says(tmp_path: Path, stream: bool) -> None:
    async with ride(tmp_path, alias(strategy="round-robin")) as r:
        began: dict[str, int] = {}
        for number in range(4):
            before = r.calls
            head, told = await ask(r, stream=stream, input=f"Hello {number}")
            assert status((head, told)) == 200
            began[response_id(told)] = 0 if r.calls[0] > before[0] else 1
        assert sorted(began.values()) == [0, 0, 1, 1]
        for previous, where in [*began.items(), *reversed(began.items())]:
            before = r.calls
            assert status(await ask(r, previous_response_id=previous, stream=stream)) == 200
            assert r.calls[where] == before[where] + 1
            assert r.calls[1 - where] == before[1 - where]


async def test_when_who_began_it_fails_nobody_else_is_asked(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.next(status=500)
        _, told = await ask(r)
        assert r.calls == (1, 1)
        previous = response_id(told)
        r.two.next(status=400)
        r.two.draw = lambda: Behaviour(status=429, headers={"retry-after": "60"})
        assert status(await ask(r, previous_response_id=previous)) == 400
        assert status(await ask(r, previous_response_id=previous)) == 429
        head, told = await ask(r, previous_response_id=previous)
        assert r.calls[0] == 1
        assert status((head, told)) == 503
        assert b"previous_response_id binds the call" in told


async def test_what_nobody_remembers_is_for_whom_the_app_addressed(tmp_path: Path) -> None:
    async with ride(tmp_path, alias(strategy="round-robin")) as r:
        for _ in range(3):
            await ask(r, previous_response_id="resp_unknown")
        assert r.calls == (3, 0)


async def test_the_only_provider_there_is_is_asked_and_judges(tmp_path: Path) -> None:
    async with ride(tmp_path, {"smart": {"targets": ["two/gpt-two", "two/gpt-small"]}}) as r:
        await ask(r, previous_response_id="resp_unknown")
        assert r.calls == (0, 1)


async def test_a_proof_of_thoughts_binds_like_an_id(tmp_path: Path) -> None:
    proof = "gAAAAABo" + "y" * 80
    item = {"type": "reasoning", "id": "rs_7", "summary": [], "encrypted_content": proof}
    async with ride(tmp_path, alias(strategy="round-robin")) as r:
        r.sidecar.snapshot.aliases.healths.conversations.remember(proof[:48], "two")
        for _ in range(3):
            await ask(r, input=[item, {"role": "user", "content": "Go on"}])
        assert r.calls == (0, 3)


async def test_a_call_of_two_providers_conversations_is_refused(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        known = r.sidecar.snapshot.aliases.healths.conversations
        known.remember("resp_1", "one")
        known.remember("file-2", "two")
        body = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-2"}]}]
        head, told = await ask(r, previous_response_id="resp_1", input=body)
        assert status((head, told)) == 400
        assert b"x-outrider-error: bound_elsewhere" in head
        assert b"several providers (one, two)" in told
        assert r.calls == (0, 0)


async def test_a_conversation_of_a_provider_that_the_alias_has_no_more_is_refused(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.sidecar.snapshot.aliases.healths.conversations.remember("resp_1", "gone")
        head, told = await ask(r, previous_response_id="resp_1")
        assert status((head, told)) == 400
        assert b"a conversation that gone began, and smart does not lead there" in told


async def test_an_alias_at_home_remembers_nothing(tmp_path: Path) -> None:
    async with ride(tmp_path, {"smart": {"targets": ["one/gpt-one", "one/gpt-small"]}}) as r:
        assert status(await ask(r)) == 200
        assert len(r.sidecar.snapshot.aliases.healths.conversations) == 0
