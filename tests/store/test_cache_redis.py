"""Answers that a fleet remembers, in a real Redis: shared, sealed, forgotten everywhere, and never waited for long."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.config import ConfigError, load
from outrider.stack.cache import Entry
from outrider.stack.far import decoded, encoded
from store.servers import Server
from support.remembering import LAST, STREAM, STREAM_HEAD, WHOLE, World, answer, chunk, question, remembering
from support.running import ENVIRON, total, until
from support.wire import Provider

FLEET = {**ENVIRON, "FLEET_KEY": "the fleet's own key, 32 bytes long", "OTHER_KEY": "another fleet's key, 32 bytes..."}


class Redis(Server):
    """provider: whom all sidecars of the test call."""

    provider: Provider


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path, provider: Provider) -> Iterator[Redis]:
    server = Redis(tmp_path / "redis")
    server.provider = provider
    server.start()
    yield server
    server.stop()


def fleet(tmp_path: Path, name: str, server: Redis, *, key: str = "FLEET_KEY", **cache: Any) -> Any:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    state = {"url": f"redis://127.0.0.1:{server.port}", "fleet_key": {"env": key}, "deadline_ms": 1000}
    return remembering(folder, {"store": "state", **cache}, state=state, environ=FLEET, shared=server.provider)


def values(server: Redis) -> list[bytes]:
    return [key for key in server.call("KEYS", "outrider:c:*") if server.call("TYPE", key) == b"string"]


async def written(server: Redis, count: int) -> None:
    await until(lambda: len(values(server)) == count, "it was written")


async def test_what_one_sidecar_learned_the_others_know(tmp_path: Path, server: Redis) -> None:
    streamed = STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST
    async with fleet(tmp_path, "a", server) as one, fleet(tmp_path, "b", server) as two:
        first, second = await one.app(), await two.app()
        for asked, reply in ((question(), answer()), (question(stream=True), streamed)):
            given = await one.first(first, asked, reply)
            await written(server, 1 if asked == question() else 2)
            assert await second.ask(asked) == given
            assert second.said == "hit"
            assert await second.ask(asked) == given  # from its own memory now
        assert (two.calls, len(two.state.memory)) == (0, 2)
        assert total(two.sidecar, "outrider_cache_saved_tokens_total") >= 2 * 42


async def test_nothing_that_was_asked_or_answered_can_be_read_in_redis(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as world:
        app = await world.app()
        await world.first(app, question("a very private question", model="private-model"))
        await written(server, 1)
        for key in server.call("KEYS", "*"):
            kind = server.call("TYPE", key)
            data = server.call("GET" if kind == b"string" else "DUMP", key)
            for word in (b"private", b"Hello", b"chat", b"anonymous", b"local"):
                assert word not in key + data
        assert 0 < server.call("PTTL", values(server)[0]) <= 3_600_000


async def test_an_answer_that_was_moved_forged_or_cut_is_not_given(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as one:
        app = await one.app()
        await one.first(app, question("cheap"), answer({**WHOLE, "id": "poison"}))
        await written(server, 1)
        (cheap,) = values(server)
        await one.first(app, question("dear"))
        await written(server, 2)
        (dear,) = set(values(server)) - {cheap}
        good = server.call("GET", cheap)
        for bad in (good, b"forged", b"", good[:-1], good + b"x", bytes(12) + good[12:]):
            server.call("SET", dear, bad)
            async with fleet(tmp_path, "b", server) as two:
                other = await two.app()
                await two.first(other, question("dear"))
                assert (other.said, json.loads(other.body)["id"]) == ("miss", "c1")
                assert total(two.sidecar, "outrider_events_total", event="cache_store_forged") == 1


async def test_another_fleet_shares_nothing(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as one, fleet(tmp_path, "b", server, key="OTHER_KEY") as two:
        await one.first(await one.app(), question())
        await written(server, 1)
        app = await two.app()
        await two.first(app, question())
        assert app.said == "miss"
        await written(server, 2)


async def test_what_one_is_told_to_forget_all_forget(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as one, fleet(tmp_path, "b", server) as two:
        first, second = await one.app(), await two.app()
        for model in ("m1", "m2"):
            await one.first(first, question(model=model))
        await written(server, 2)
        for model in ("m1", "m2"):
            await second.ask(question(model=model))
        one.sidecar.forget({"model": "m1"})
        await until(lambda: len(two.state.memory) == 1, "the other has forgotten it")
        await second.ask(question(model="m2"))
        assert second.said == "hit"
        await two.first(second, question(model="m1"), answer({**WHOLE, "id": "new"}))
        assert second.said == "miss"
        await until(lambda: _is_new(server, one, two), "the new one is in Redis")
        await first.ask(question(model="m1"))
        assert (first.said, json.loads(first.body)["id"]) == ("hit", "new")


def _is_new(server: Redis, one: World, two: World) -> bool:
    return one.state.far.now == two.state.far.now == 1 and two.state.far._store._writing == 0


async def test_identical_calls_that_wait_for_redis_are_answered_from_it_together(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as one, fleet(tmp_path, "b", server) as two:
        given = await one.first(await one.app(), question())
        await written(server, 1)
        apps = [await two.app() for _ in range(8)]
        await asyncio.gather(*(app.send(question()) for app in apps))
        assert {await app.answer() for app in apps} == {given}
        assert {app.said for app in apps} == {"hit"}


async def test_who_asks_for_a_remembered_answer_alone_is_given_what_another_remembers(
    tmp_path: Path, server: Redis
) -> None:
    only = b"cache-control: only-if-cached\r\n"
    async with fleet(tmp_path, "a", server) as one, fleet(tmp_path, "b", server) as two:
        given = await one.first(await one.app(), question())
        await written(server, 1)
        app = await two.app()
        assert await app.ask(question(), only) == given
        assert (app.said, two.calls) == ("hit", 0)
        await app.ask(question("never asked"), only)
        assert (app.status, app.field("x-outrider-error"), two.calls) == (504, "not_cached", 0)
        server.stop()
        await app.ask(question("never asked"), only)
        assert (app.status, two.calls) == (504, 0)


async def test_while_redis_is_away_calls_go_to_the_provider(tmp_path: Path, server: Redis) -> None:
    async with fleet(tmp_path, "a", server) as world:
        app = await world.app()
        server.stop()
        await world.first(app, question())
        assert app.said == "miss"
        assert await app.ask(question()) == app.body
        assert app.said == "hit"
        assert total(world.sidecar, "outrider_events_total", event="cache_store_failed") >= 1


def test_an_entry_survives_its_way() -> None:
    entry = Entry(b"HTTP/1.1 200 OK\r\n\r\n\n\n", ((10, 0.0), (20, 1.5)), 5, "p", "m", "ann", 3, 4, 9)
    assert decoded(encoded(entry)) == entry
    for bad in (b"", b"{}\nx", b"[]\nx", b"no json\nx", b'{"beats":[1]}\nx'):
        assert decoded(bad) is None


@pytest.mark.parametrize(
    ("state", "why"), [("memory", "names no Redis"), ("redis://127.0.0.1:1", "fleet_key"), ({}, "names no Redis")]
)
def test_a_fleet_remembers_only_where_it_can_seal(tmp_path: Path, state: Any, why: str) -> None:
    path = tmp_path / "outrider.yaml"
    path.write_text(json.dumps({"version": 1, "cache": {"mode": "exact", "store": "state"}, "state": state}))
    with pytest.raises(ConfigError, match=why):
        load(path, {})
