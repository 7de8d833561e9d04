"""Pools of connections: reuse, the cap, the queue before it, and who gives up."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from outrider.errors import OverloadedError, SidecarError, StartError, UpstreamConnectError, UpstreamTimeoutError
from outrider.mock import tls as mock_tls
from outrider.upstream import pool as pool_module
from outrider.upstream.dial import Dialer
from outrider.upstream.guard import AddressGuard
from outrider.upstream.pool import Destination, Pool
from outrider.upstream.tls import client_context
from outrider_ext.relay import Hub, Upstream
from support.running import until
from support.wire import Provider


class Waiter:
    """What an exchange hands to a pool."""

    def __init__(self) -> None:
        self.connection: Upstream | None = None
        self.error: SidecarError | None = None
        self.calls = 0

    def done(self, connection: Upstream) -> None:
        self.connection, self.calls = connection, self.calls + 1

    def fail(self, error: SidecarError) -> None:
        self.error, self.calls = error, self.calls + 1


class Bench:
    """A pool, and the tasks that it spawned."""

    def __init__(
        self, port: int, *, host: str = "api.example", context: ssl.SSLContext | None = None, **more: Any
    ) -> None:
        self.hub = Hub(None, asyncio.get_running_loop())
        self.tasks: set[asyncio.Task[None]] = set()
        self.tickets: list[Any] = []
        destination = Destination(host, 443, "127.0.0.1", port, True, False, context)
        settings = {"max_idle": 2, "max_connections": 3, "tls_s": 5.0} | more
        self.pool = Pool(self.hub, Dialer(AddressGuard(), connect_s=5.0), destination, **settings)

    def spawn(self, coro: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self.tasks.add(task)
        return task

    def ask(self) -> tuple[Waiter, Any]:
        waiter = Waiter()
        self.tickets.append(self.pool.open(waiter.done, waiter.fail, self.spawn))
        return waiter, self.tickets[-1]

    async def given(self) -> Upstream:
        waiter, _ = self.ask()
        await self.settled()
        assert waiter.connection is not None, waiter.error
        return waiter.connection

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def end(self) -> None:
        self.pool.close()
        for ticket in self.tickets:
            ticket.cancel()
        for connection in list(self.hub.upstreams):
            connection.close()
        await until(lambda: not self.hub.upstreams, "all closed")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert self.pool.count == 0


@pytest.fixture
async def server(no_leaked_tasks: None) -> AsyncIterator[Provider]:
    async with Provider() as one:
        yield one


async def test_the_newest_idle_connection_is_used_first_and_dead_ones_never(server: Provider) -> None:
    bench = Bench(server.port)
    assert bench.pool.take() is None
    first, second = await bench.given(), await bench.given()
    bench.pool.release(first)
    bench.pool.release(second)
    assert bench.pool.idle_count == 2
    assert bench.pool.take() is second
    first.close()
    assert bench.pool.take() is None
    assert (bench.pool.opened, bench.pool.count) == (2, 1)
    await bench.end()


async def test_no_more_than_the_cap_is_kept_idle(server: Provider) -> None:
    bench = Bench(server.port, max_idle=1)
    connections = [await bench.given() for _ in range(3)]
    for connection in connections:
        bench.pool.release(connection)
    assert bench.pool.idle_count == 1
    assert bench.pool.count == 1
    await bench.end()


async def test_at_the_cap_who_asks_waits_in_order_for_what_is_given_back(server: Provider) -> None:
    bench = Bench(server.port)
    connections = [await bench.given() for _ in range(3)]
    waiters = [bench.ask()[0] for _ in range(2)]
    assert [waiter.calls for waiter in waiters] == [0, 0]
    bench.pool.release(connections[0])
    assert waiters[0].connection is connections[0]
    bench.pool.release(connections[0])
    assert waiters[1].connection is connections[0]
    assert bench.pool.opened == 3
    await bench.end()


async def test_the_place_of_a_connection_that_died_goes_to_who_waits(server: Provider) -> None:
    bench = Bench(server.port, max_connections=1)
    connection = await bench.given()
    waiter, _ = bench.ask()
    connection.close()
    await bench.settled()
    assert waiter.connection is not None
    assert waiter.connection is not connection
    assert bench.pool.count == 1
    await bench.end()


async def test_who_gives_up_is_passed_over(server: Provider) -> None:
    bench = Bench(server.port, max_connections=1)
    connection = await bench.given()
    (gone, ticket), (stays, _) = bench.ask(), bench.ask()
    ticket.cancel()
    bench.pool.release(connection)
    assert gone.calls == 0
    assert stays.connection is connection
    await bench.end()


async def test_who_gives_up_while_its_connection_is_made_leaves_it_to_the_pool(server: Provider) -> None:
    bench = Bench(server.port)
    waiter, ticket = bench.ask()
    ticket.cancel()
    await bench.settled()
    assert waiter.calls == 0
    assert bench.pool.idle_count == 1
    await bench.end()


async def test_who_waits_for_a_place_that_frees_and_gave_up_takes_none(server: Provider) -> None:
    bench = Bench(server.port, max_connections=1)
    connection = await bench.given()
    _, ticket = bench.ask()
    ticket.cancel()
    connection.close()
    await bench.settled()
    assert bench.pool.count == 0
    await bench.end()


async def test_a_full_queue_refuses(server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_WAITING", 1)
    bench = Bench(server.port, max_connections=1)
    await bench.given()
    bench.ask()
    refused, _ = bench.ask()
    assert isinstance(refused.error, OverloadedError)
    await bench.end()


async def test_places_of_those_who_gave_up_do_not_fill_the_queue(
    server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_WAITING", 1)
    bench = Bench(server.port, max_connections=1)
    await bench.given()
    _, ticket = bench.ask()
    ticket.cancel()
    waiter, _ = bench.ask()
    assert waiter.error is None
    await bench.end()


async def test_closing_serves_who_waits_and_closes_what_nobody_waits_for(server: Provider) -> None:
    """A reload closes the pools of the configuration before it; requests that began under it go on."""
    bench = Bench(server.port, max_connections=1)
    connection = await bench.given()
    waiter, _ = bench.ask()
    bench.pool.close()
    bench.pool.release(connection)
    assert waiter.connection is connection
    bench.pool.release(connection)
    assert connection.closed
    await bench.end()


async def test_a_failure_is_told_and_frees_the_place() -> None:
    async with Provider() as gone:
        port = gone.port
    bench = Bench(port, max_connections=1)
    for _ in range(3):
        waiter, _ = bench.ask()
        await bench.settled()
        assert isinstance(waiter.error, UpstreamConnectError)
        assert bench.pool.count == 0


async def test_any_failure_is_told(server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(server.port)

    async def fails(*_: Any, **__: Any) -> None:
        raise UnicodeError("label too long")

    monkeypatch.setattr(bench.pool._dialer, "connect", fails)
    waiter, _ = bench.ask()
    await bench.settled()
    assert isinstance(waiter.error, SidecarError)
    assert "label" not in str(waiter.error)
    assert bench.pool.count == 0


# -- TLS


@pytest.fixture(name="tls", scope="module")
def fixture_tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for kind in mock_tls.CERTIFICATES:
        mock_tls.ensure(folder / kind, ["api.example"], datetime.datetime.now(datetime.UTC), kind)
    return folder


async def handshake(folder: Path, *, trust: Path | None, host: str = "api.example") -> Waiter:
    async with Provider(mock_tls.server_context(folder)) as server:
        bench = Bench(server.port, host=host, context=client_context(trust))
        waiter, _ = bench.ask()
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            await server.accept()
        await bench.settled()
        await bench.end()
        return waiter


async def test_a_certificate_is_verified_for_the_providers_name(tls: Path) -> None:
    good = tls / "good"
    assert (await handshake(good, trust=good / "ca.pem")).connection is not None


@pytest.mark.parametrize(
    ("kind", "trusted", "host", "words"),
    [
        ("good", False, "api.example", "unable to get local issuer"),
        ("good", True, "other.example", "mismatch"),
        ("expired", True, "api.example", "expired"),
        ("wrong-name", True, "api.example", "mismatch"),
    ],
)
async def test_a_certificate_that_is_not_right_is_a_sentence(
    tls: Path, kind: str, trusted: bool, host: str, words: str
) -> None:
    waiter = await handshake(tls / kind, trust=tls / kind / "ca.pem" if trusted else None, host=host)
    assert isinstance(waiter.error, UpstreamConnectError)
    assert f"the certificate of {host} was not accepted" in str(waiter.error)
    assert words in str(waiter.error)


async def test_old_tls_is_refused(tls: Path) -> None:
    context = mock_tls.server_context(tls / "good")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    assert client_context().minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_server_that_speaks_no_tls_or_nothing_is_a_sentence(server: Provider) -> None:
    bench = Bench(server.port, context=client_context())
    waiter, _ = bench.ask()
    far = await server.accept()
    await far.send(b"HTTP/1.1 400 Bad\r\n\r\n")
    await bench.settled()
    assert isinstance(waiter.error, UpstreamConnectError)
    assert "TLS handshake with api.example failed" in str(waiter.error)
    far.close()
    waiter, _ = bench.ask()
    far = await server.accept()
    far.reset()
    await bench.settled()
    assert isinstance(waiter.error, UpstreamConnectError | UpstreamTimeoutError)
    await bench.end()


async def test_a_server_that_stalls_in_the_handshake_is_a_timeout(server: Provider) -> None:
    bench = Bench(server.port, context=client_context(), tls_s=0.05)
    waiter, _ = bench.ask()
    await server.accept()
    await bench.settled()
    assert isinstance(waiter.error, UpstreamTimeoutError)
    assert str(waiter.error) == "the TLS handshake with api.example took longer than 0.05 s"
    await bench.end()


def test_a_ca_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"missing\.pem cannot be used: No such file"):
        client_context(tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(StartError, match="holds no PEM certificate"):
        client_context(tmp_path / "empty.pem")
