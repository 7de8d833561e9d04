"""Whole sidecars that share their state through Redis: what apps meet, over the wire."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from outrider.config import load
from outrider.errors import StartError
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, new_key
from outrider.runtime import Sidecar
from outrider.store.leases import LeasedSlots
from store.servers import running as redis_running
from support.running import client_of, get, local, post, running, settings, total, until
from support.wire import Peer, Provider

OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def answering(provider: Provider, answer: bytes = OK_2) -> AsyncIterator[None]:
    """The provider answers whatever comes."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(behind: Peer) -> None:
        with contextlib.suppress(Exception):
            while True:
                await behind.head()
                await behind.send(answer)

    async def accept() -> None:
        while True:
            tasks.append(asyncio.get_running_loop().create_task(serve(await provider.accept())))

    tasks.append(asyncio.get_running_loop().create_task(accept()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def statuses(sidecar: Sidecar, count: int) -> list[bytes]:
    app = await client_of(sidecar)
    found = []
    for _ in range(count):
        await app.send(get(sidecar))
        found.append((await app.answer())[0].split(b" ")[1])
    app.close()
    return found


def fleet_settings(port: int, **more: Any) -> dict[str, Any]:
    return {"state": {"url": f"redis://127.0.0.1:{port}", "fleet_key": {"env": "FLEET_KEY"}, **more}}


async def test_two_sidecars_share_a_limit_and_places_over_the_wire(tmp_path: Path, provider: Provider) -> None:
    environ = {"FLEET_KEY": "of-the-whole-fleet"}
    limits = [{"name": "whole", "requests": "30/h"}, {"name": "few", "concurrent": 2}]
    with redis_running(tmp_path / "redis") as redis:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        shared = {"environ": environ, "limits": limits, **fleet_settings(redis.port)}
        async with (
            answering(provider),
            running(tmp_path / "a", local(provider.url), **shared) as one,
            running(tmp_path / "b", local(provider.url), **shared) as two,
        ):
            for sidecar in (one, two):
                store: Any = sidecar._shared.ledger.store
                await until(lambda store=store: store.fleet == 2, "they know of each other")  # type: ignore[misc]
                store.borrow_s = 5.0
            first = await statuses(one, 20)
            assert first.count(b"200") == 20
            held: Any = one._shared.ledger.store
            await until(
                lambda: not held._queue and all(item.is_idle for item in held._alive.values()),
                "what it held was given back",
            )
            both = first + await statuses(two, 20)
            assert both.count(b"200") == 30
            assert both.count(b"429") == 10
            assert total(two, "outrider_limit_decisions_total", decision="reject") == 10


async def test_64_clients_that_leave_as_they_like_never_take_more_places_than_the_fleet_has(
    tmp_path: Path, provider: Provider
) -> None:
    places, most, seen = 8, 0, Counter[bytes]()
    with redis_running(tmp_path / "redis") as redis:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        queue = {"queue": {"max_wait_s": 30, "max_waiting": 100}}
        shared: dict[str, Any] = {
            "environ": {"FLEET_KEY": "k"},
            "limits": [{"name": "few", "concurrent": places, "on_exceed": queue}],
            **fleet_settings(redis.port),
        }
        async with (
            answering(provider),
            running(tmp_path / "a", local(provider.url), **shared) as one,
            running(tmp_path / "b", local(provider.url), **shared) as two,
        ):
            sidecars, stores = (one, two), [cast(Any, one._shared.ledger.store), cast(Any, two._shared.ledger.store)]
            for store in stores:
                store.borrow_s = 5.0
            await until(lambda: all(store.fleet == 2 for store in stores), "they know of each other")

            def taken() -> int:
                found = [item for store in stores for item in store._alive.values() if isinstance(item, LeasedSlots)]
                return sum(item._mine for item in found)

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, taken())
                    await asyncio.sleep(0.001)

            async def client(number: int) -> None:
                for call in range(2):
                    sidecar = sidecars[(number + call) % 2]
                    app = await client_of(sidecar)
                    await app.send(get(sidecar))
                    if (number + call) % 4 == 0:
                        app.reset()
                    elif (number + call) % 4 == 1:
                        app.close()
                    else:
                        seen[(await app.answer())[0].split(b" ")[1]] += 1
                        app.close()

            watching = asyncio.get_running_loop().create_task(watch())
            await asyncio.gather(*(client(number) for number in range(64)))
            await until(lambda: taken() == 0, "every place came back")
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            print(f"128 calls of 64 clients over two sidecars: {dict(seen)}, at most {most} of {places} at once")
            assert seen == {b"200": 64}
            assert 1 < most <= places


@pytest.mark.parametrize(("rule", "admitted"), [("local", 20), ("deny", 0), ("allow", 25)])
async def test_without_redis_a_sidecar_starts_and_its_rule_holds(
    tmp_path: Path, provider: Provider, rule: str, admitted: int
) -> None:
    shared = {"environ": {"FLEET_KEY": "k"}, "limits": [{"name": "whole", "requests": "20/h"}]}
    async with (
        answering(provider),
        running(tmp_path, local(provider.url), **shared, **fleet_settings(1, on_store_error=rule)) as sidecar,
    ):
        found = await statuses(sidecar, 25)
        assert found.count(b"200") == admitted
        assert total(sidecar, "outrider_events_total", event=f"store_error_{_PAST[rule]}") > 0


@pytest.mark.parametrize(("rule", "admitted"), [("local", 5), ("deny", 0), ("allow", 5)])
async def test_a_hard_budget_denies_where_the_store_does_not_answer_and_config_says_deny(
    tmp_path: Path, provider: Provider, rule: str, admitted: int
) -> None:
    shared = {
        "environ": {"FLEET_KEY": "k"},
        "budgets": [
            {"name": "hard", "tokens": "100000/day"},
            {"name": "told", "tokens": "9/day", "on_exceed": "alert"},
        ],
    }
    async with (
        answering(provider),
        running(tmp_path, local(provider.url), **shared, **fleet_settings(1, on_store_error=rule)) as sidecar,
    ):
        app = await client_of(sidecar)
        found = []
        for _ in range(5):
            await app.send(post(sidecar, b'{"model":"m","messages":[]}'))
            found.append(await app.answer())
        app.close()
        assert [head.split(b" ")[1] for head, _ in found].count(b"200") == admitted
        if rule == "deny":
            head, body = found[0]
            assert head.startswith(b"HTTP/1.1 429")
            assert b"\r\nretry-after: 1\r\n" in head
            assert b"\r\nx-outrider-decision: hard\r\n" in head
            assert b"store of state.url does not answer, and on_store_error is deny" in body
            assert total(sidecar, "outrider_limit_decisions_total", limit="hard", decision="reject") == 5
        rows: Any = {row.name: row for row in sidecar.snapshot.rules._rows.values()}
        assert all(row.open == 0 for row in rows.values())


async def test_what_a_fleet_has_spent_refuses_the_first_call_of_a_sidecar_that_starts(
    tmp_path: Path, provider: Provider
) -> None:
    with redis_running(tmp_path / "redis") as redis:
        shared = {
            "environ": {"FLEET_KEY": "k"},
            "budgets": [{"name": name, "tokens": "1000/day", "soft": [80]} for name in ("one", "two", "three")],
            "telemetry": {"log": str(tmp_path / "log")},
        }
        body = b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":890,"total_tokens":900}}'
        told = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        async with answering(provider, told):
            for turn in range(2):
                async with running(tmp_path, local(provider.url), **shared, **fleet_settings(redis.port)) as sidecar:
                    store: Any = sidecar._shared.ledger.store
                    store.borrow_s = 5.0
                    app = await client_of(sidecar)
                    await app.send(post(sidecar, b'{"model":"m","max_tokens":900,"messages":[]}'))
                    head, body = await app.answer()
                    if turn:
                        assert head.startswith(b"HTTP/1.1 429"), body
                        assert b"budget one" in body
                    else:
                        assert head.startswith(b"HTTP/1.1 200"), body
                    await until(lambda store=store: all(i.is_idle for i in store._alive.values()), "told")  # type: ignore[misc]
                    app.close()
        marks = [line for line in (tmp_path / "log").read_text().splitlines() if "budget_threshold" in line]
        assert len(marks) == 3  # each budget's 80 %, by the first of the two


async def test_a_key_that_one_sidecar_revokes_is_refused_by_all_on_open_connections_and_after_redis_restarts(
    tmp_path: Path, provider: Provider
) -> None:
    hasher, keys = KeyHasher.open(tmp_path / "hmac", create=True), [new_key(), new_key()]
    whole = [hasher.hash_of(key.encode()).hex() for key in keys]
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    revoked.chmod(0o600)
    environ = {"FLEET_KEY": "k", "OPENAI_API_KEY": "sk-real"}
    providers = local(provider.url, credential={"env": "OPENAI_API_KEY"})
    with redis_running(tmp_path / "redis") as redis:
        shared: dict[str, Any] = {
            "environ": environ,
            "principals": [{"id": "ann", "from": {"keys": [{"hash": HASH_PREFIX + one} for one in whole]}}],
            **fleet_settings(redis.port),
        }
        listed = {"hmac_key": str(tmp_path / "hmac")}
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
        async with (
            answering(provider),
            running(tmp_path / "a", providers, virtual_keys={**listed, "revoked_file": str(revoked)}, **shared) as one,
            running(
                tmp_path / "b", providers, virtual_keys=listed,
                telemetry={"log": "off", "audit": {"path": str(tmp_path / "log" / "audit.jsonl")}}, **shared,
            ) as two,
        ):  # fmt: skip
            app = await client_of(two)

            async def status(key: str) -> bytes:
                await app.send(get(two, more=f"authorization: Bearer {key}\r\n".encode()))
                return (await app.answer())[0].split(b" ")[1]

            assert [await status(key) for key in keys] == [b"200", b"200"]
            revoked.write_text(whole[0] + "\n")
            one.snapshot.revoked_file.refresh()  # as each second
            began_s = asyncio.get_running_loop().time()
            while await status(keys[0]) != b"401":
                assert asyncio.get_running_loop().time() < began_s + 5.0  # a second, and a busy machine
            print(f"refused by the other one after {1000 * (asyncio.get_running_loop().time() - began_s):.1f} ms")
            assert await status(keys[1]) == b"200"
            redis.stop()
            store: Any = two._shared.ledger.store
            await until(lambda: store.is_down, "noticed")
            assert [await status(key) for key in keys] == [b"401", b"200"]
            redis.start()
            await until(lambda: redis.call("HLEN", store._fleet_keys[1]) == 1, "it is written again")
            async with running(tmp_path / "c", providers, virtual_keys=listed, **shared) as late:
                peer = await client_of(late)
                await peer.send(get(late, more=f"authorization: Bearer {keys[0]}\r\n".encode()))
                assert (await peer.answer())[0].startswith(b"HTTP/1.1 401")
                peer.close()
            app.close()
        text = (tmp_path / "log" / "audit-0.jsonl").read_text()
        assert f'"event":"key_revoked","source":"fleet","count":1,"keys":["{whole[0][:12]}"]' in text


_PAST = {"local": "local", "deny": "denied", "allow": "allowed"}


async def test_a_key_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    config = load(settings(tmp_path, {}, **fleet_settings(1)), {})
    with pytest.raises(StartError, match=r"outrider\.yaml:\d+: state\.fleet_key: .*FLEET_KEY"):
        await Sidecar(config, {}).start()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory", "memory"),
        ("shm", "shm"),
        ("redis://r", "redis://r:6379"),
        ("redis://u:p%40ss@r:7000,[::1]:7001/3", "redis://r:7000,[::1]:7001"),
        ("rediss://r?cluster=true", "rediss+cluster://r:6379"),
        ("redis+cluster://a,b:1", "redis+cluster://a:6379,b:1"),
        ("redis+unix:///run/redis.sock", "redis:///run/redis.sock"),
    ],
)
def test_what_state_takes_and_that_it_shows_no_password(tmp_path: Path, url: str, shown: str) -> None:
    state = load(settings(tmp_path, {}, state=url), {}).state
    assert str(state.url) == shown
    assert "p@ss" not in repr(state)
    if "u:p" in url:
        assert (state.url.user, state.url.database) == ("u", 3)
        assert state.url.password is not None
        assert state.url.password.expose() == b"p@ss"


@pytest.mark.parametrize(
    "state",
    [
        "redis", "http://r", "redis://", "redis://r/x", "redis://r?ssl=1", "redis+cluster://r/1", "redis://r:0", 7,
        {"url": "shm", "fleet_key": "sk-literal"}, {"url": "shm", "fleet_key": {"env": "A", "file": "b"}},
        {"on_store_error": "maybe"},
    ],
)  # fmt: skip
def test_what_state_does_not_take_is_said_without_quoting_it(tmp_path: Path, state: Any) -> None:
    with pytest.raises(StartError) as caught:
        load(settings(tmp_path, {}, state=state), {})
    assert "state" in str(caught.value)
    assert "sk-literal" not in str(caught.value)
