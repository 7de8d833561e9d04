"""Identical calls in flight share one upstream call: from the sockets of many apps and of one provider."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from outrider.config import load
from outrider.mock import MockProvider
from outrider.mock.behaviour import Behaviour
from outrider.runtime import Sidecar
from support.remembering import (
    LAST,
    STREAM,
    STREAM_HEAD,
    WHOLE,
    App,
    World,
    answer,
    chunk,
    event,
    question,
    remembering,
)  # fmt: skip
from support.running import ENVIRON, client_of, local, running, settings, until

ASKED = question(stream=True)
TEXT = b"".join(STREAM)


async def group(world: World, count: int, asked: bytes = ASKED) -> list[App]:
    """So many apps that asked the same, the first of them the leader; the provider has not been heard yet."""
    apps = []
    for number in range(count):
        app = await world.app()
        await app.send(asked)
        apps.append(app)
        if number == 0:
            await until(lambda: bool(world.state.flights), "the first leads")
    (flight,) = world.state.flights.values()
    await until(lambda: len(flight.followers) == count - 1, "the others follow")
    return apps


@pytest.mark.parametrize("streams", [True, False])
async def test_64_identical_calls_at_once_make_one_call_at_the_provider(tmp_path: Path, streams: bool) -> None:
    asked = question(stream=streams)
    behaviour = Behaviour(events=40, delay_ms=100, pace_ms=1)
    async with (
        MockProvider(tls=False, behaviour=behaviour) as mock,
        running(tmp_path, local(mock.http_url), cache={"mode": "exact"}) as sidecar,
    ):
        apps = [App(sidecar, await client_of(sidecar)) for _ in range(64)]
        await asyncio.gather(*(app.send(asked, b"authorization: Bearer sk-any\r\n") for app in apps))
        bodies = [await app.answer() for app in apps]
        for app in apps:
            app.peer.close()
        assert len(mock.journal) == 1
        assert len(set(bodies)) == 1
        assert {app.status for app in apps} == {200}
        assert sorted(app.said for app in apps) == ["hit"] * 63 + ["miss"]
        if streams:
            assert bodies[0].endswith(b"data: [DONE]\n\n")
        assert sidecar._shared.cache.flights == {}


async def test_a_follower_gets_the_stream_as_it_comes_and_one_that_comes_later_all_of_it(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        leader, follower = await group(world, 2)
        peer = await world.called()
        await peer.send(STREAM_HEAD + chunk(STREAM[0]))
        for app in (leader, follower):
            await app.peer.until(STREAM[0])
        late = await world.app()
        await late.send(ASKED)
        head = await late.peer.head()
        assert b"x-outrider-cache: hit" in head
        await late.peer.until(STREAM[0])
        await peer.send(b"".join(map(chunk, STREAM[1:])) + LAST)
        for app in (leader, follower, late):
            assert (await app.peer.until(LAST)).count(b"data: ") == 3
        assert (world.calls, world.counted("joined"), len(world.state.memory)) == (1, 2, 1)


@pytest.mark.parametrize("when", ["before the head", "in the stream"])
async def test_a_leader_that_leaves_does_not_cancel_the_others(tmp_path: Path, when: str) -> None:
    async with remembering(tmp_path) as world:
        leader, *others = await group(world, 3)
        peer = await world.called()
        if when == "in the stream":
            await peer.send(STREAM_HEAD + chunk(STREAM[0]))
            await leader.peer.until(STREAM[0])
        leader.peer.reset()
        await until(lambda: len(world.sidecar.hub.clients) == 2, "it has left")
        rest = STREAM[1:] if when == "in the stream" else STREAM
        lead = b"" if when == "in the stream" else STREAM_HEAD
        await peer.send(lead + b"".join(map(chunk, rest)) + LAST)
        for app in others:
            assert await app.answer() == TEXT
        # It was complete, so it is remembered; the leader's exchange ended as one whose app left, with its usage.
        assert (world.calls, len(world.state.memory)) == (1, 1)
        await until(lambda: world.sidecar.hub.exchanges == 0, "all have ended")


async def test_when_all_have_left_the_call_is_cancelled(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        apps = await group(world, 3)
        peer = await world.called()
        await peer.send(STREAM_HEAD + chunk(STREAM[0]))
        for app in apps:
            await app.peer.until(STREAM[0])
        for app in apps:
            app.peer.reset()
        with contextlib.suppress(ConnectionResetError):
            while await peer.more():
                pass
        await until(lambda: world.sidecar.hub.exchanges == 0, "all have ended")
        assert (world.state.flights, len(world.state.memory)) == ({}, 0)


async def test_a_follower_that_leaves_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        leader, gone, other = await group(world, 3)
        gone.peer.reset()
        await until(lambda: len(world.sidecar.hub.clients) == 2, "it has left")
        peer = await world.called()
        await peer.send(STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST)
        assert [await leader.answer(), await other.answer()] == [TEXT, TEXT]


async def test_when_the_leader_leaves_before_it_was_sent_the_next_one_leads(tmp_path: Path) -> None:
    settings = {"upstream": {"max_connections_per_host": 1}}
    async with remembering(tmp_path, **settings) as world:
        other = await world.app()  # has the only connection
        await other.send(question("something else"))
        busy = await world.called()
        leader, *others = await group_behind(world, 3)
        leader.peer.reset()
        await until(lambda: len(world.sidecar.hub.clients) == 3, "it has left")
        await busy.send(answer())
        await other.answer()
        await busy.until(ASKED[-20:])  # the next in line, on the connection that came free
        await busy.send(STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST)
        for app in others:
            assert await app.answer() == TEXT
        assert sorted(app.said for app in others) == ["hit", "miss"]


async def group_behind(world: World, count: int) -> list[App]:
    apps = []
    for _ in range(count):
        app = await world.app()
        await app.send(ASKED)
        apps.append(app)
    await until(lambda: len(world.state.flights) == 2, "both lead")
    await until(
        lambda: any(len(flight.followers) == count - 1 for flight in world.state.flights.values()), "the others follow"
    )
    return apps


@pytest.mark.parametrize(
    "failure",
    [
        answer({"error": {"message": "no"}}, 500),
        answer({"error": {"message": "no"}}, 429),
        answer({"error": {"message": "in a good answer"}}),
        answer(lines=b"set-cookie: session=of-somebody\r\n"),
        b"",
    ],
    ids=["500", "429", "error", "cookie", "reset"],
)  # fmt: skip
async def test_what_is_not_good_is_the_leaders_alone_and_each_follower_asks_for_itself(
    tmp_path: Path, failure: bytes
) -> None:
    plain = question()
    async with remembering(tmp_path) as world:
        leader, *others = await group(world, 3, plain)
        peer = await world.called()
        if failure:
            await peer.send(failure)
        peer.close()
        for _ in others:
            own = await world.called()
            await own.send(answer())
            own.close()
        await leader.answer()
        for app in others:
            assert json.loads(await app.answer()) == WHOLE
            assert app.said == "miss"
        assert world.calls == 3


async def test_a_stream_that_breaks_off_breaks_off_for_all_who_were_sent_something(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        apps = await group(world, 3)
        peer = await world.called()
        await peer.send(STREAM_HEAD + chunk(STREAM[0]))
        for app in apps:
            await app.peer.until(STREAM[0])
        peer.reset()
        for app in apps:
            with pytest.raises((ConnectionResetError, AssertionError)):
                await app.peer.until(LAST)
        assert (world.calls, len(world.state.memory)) == (1, 0)


async def test_a_follower_beyond_what_is_kept_asks_for_itself_if_it_was_sent_nothing(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"answer_bytes": 1024}) as world:
        leader, follower = await group(world, 2)
        peer = await world.called()
        large = event("x" * 900)
        await peer.send(STREAM_HEAD + chunk(large))
        await follower.peer.until(b"xx")
        await peer.send(chunk(large))
        await leader.peer.until(large[-20:])
        await until(lambda: not world.state.flights, "nobody joins any more")
        late = await world.app()
        await late.send(ASKED)
        own = await world.called()
        await own.send(STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST)
        own.close()
        assert await late.answer() == TEXT
        await peer.send(b"".join(map(chunk, STREAM)) + LAST)
        for app in (leader, follower):  # who read along gets it all
            assert (await app.peer.until(LAST)).endswith(STREAM[-1] + b"\r\n" + LAST)
        assert world.calls == 2


async def test_a_follower_that_does_not_read_keeps_no_more_than_the_cap_and_holds_up_nobody(tmp_path: Path) -> None:
    caps = {"write_buffer_bytes": 16_384}
    async with remembering(tmp_path, {"answer_bytes": 65_536}, caps=caps) as world:
        leader = await world.app()
        await leader.send(ASKED)
        await until(lambda: bool(world.state.flights), "it leads")
        (flight,) = world.state.flights.values()
        stuck = await world.app(receive_buffer=4096)
        await stuck.send(ASKED)
        await until(lambda: len(flight.followers) == 1, "it follows")
        peer = await world.called()
        await peer.send(STREAM_HEAD)
        piece = event("y" * 8000)
        for _ in range(1500):
            await peer.send(chunk(piece))
            await leader.peer.until(piece[-20:])
            assert sum(map(len, flight._pieces)) <= 65_536 + len(piece)
            if not flight.followers:
                break
        assert not flight.followers, "the one that does not read is cut off"
        await peer.send(chunk(STREAM[-1]) + LAST)
        await leader.peer.until(LAST)


async def test_one_that_asks_anew_joins_nobody(tmp_path: Path) -> None:
    async with remembering(tmp_path) as world:
        leader = await world.app()
        await leader.send(question())
        first = await world.called()
        other = await world.app()
        await world.first(other, question(), answer({**WHOLE, "id": "own"}), b"cache-control: no-cache\r\n")
        assert json.loads(other.body)["id"] == "own"
        await first.send(answer())
        await leader.answer()


async def test_without_single_flight_each_asks_for_itself(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"single_flight": False}) as world:
        apps = [await world.app() for _ in range(3)]
        for app in apps:
            await app.send(question())
        for _ in apps:
            await (await world.called()).send(answer())
        for app in apps:
            await app.answer()


async def test_the_audit_log_and_the_limits_know_who_joined(tmp_path: Path) -> None:
    log = tmp_path / "log" / "audit.jsonl"
    limits = [{"name": "two", "key": ["provider"], "requests": "2/h"}, {"name": "t", "tokens": "1000/h"}]
    sections = {"limits": limits, "telemetry": {"log": "off", "audit": {"path": str(log)}}}
    async with remembering(tmp_path, **sections) as world:
        leader, follower = await group(world, 2)
        third = await world.app()
        await third.ask(ASKED)
        assert third.status == 429  # a follower counts for limits on requests
        peer = await world.called()
        await peer.send(STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST)
        for app in (leader, follower):
            assert await app.answer() == TEXT
    text = "".join(path.read_text() for path in sorted(log.parent.glob("audit*.jsonl")))
    lines = [json.loads(line) for line in text.splitlines()]
    found = [line for line in lines if line.get("event") == "exchange"]
    by_cache = {line.get("cache"): line for line in found}
    assert set(by_cache) == {"joined", "miss", None}  # the last was refused before it was looked for
    joined = by_cache["joined"]
    assert "tokens" not in joined
    assert joined["status"] == 200


async def test_a_sidecar_that_stops_ends_leaders_and_followers(tmp_path: Path) -> None:
    async with MockProvider(tls=False, behaviour=Behaviour(stall="events", stall_after=1)) as mock:
        path = settings(tmp_path, local(mock.http_url), cache={"mode": "exact"})
        sidecar = Sidecar(load(path, ENVIRON), ENVIRON)
        await sidecar.start()
        apps = [App(sidecar, await client_of(sidecar)) for _ in range(3)]
        for app in apps:
            await app.send(ASKED, b"authorization: Bearer sk-any\r\n")
            await app.peer.until(b"data: ")
        apps[0].peer.reset()
        await until(lambda: len(sidecar.hub.clients) == 2, "the leader left")
        await sidecar.stop()
        await until(lambda: not sidecar.hub.upstreams and sidecar.hub.exchanges == 0, "all have ended")
        for app in apps:
            app.peer.close()
