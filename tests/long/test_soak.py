"""Many at once, and many one after the other; clients that vanish, a provider that dies. Nothing is left behind.

What is counted: connections, exchanges, tasks, files, memory, and that metrics and usage have each exchange once.
The provider's streams advance when the test says so (`tick`), not by the clock.
"""

import asyncio
import gc
import os
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from outrider.runtime import Sidecar
from support.running import client_of, get, local, post, running, statuses, total, until

BODY = b'{"model":"gpt-5","stream":true,"stream_options":{"include_usage":true}}'
EVENT = b'data: {"choices":[{"delta":{"content":"w"}}],"usage":null}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n\ndata: [DONE]\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 69\r\n\r\n"
    b'{"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}} '
)


class Streams:
    """The provider: every chat request opens a stream; `tick` writes an event to each, `finish` ends them."""

    def __init__(self) -> None:
        self.open: set[_Stream] = set()
        self.connections: set[_Stream] = set()

    async def __aenter__(self) -> "Streams":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Stream(self), "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for one in list(self.connections):
            one.transport.abort()
        await self._server.wait_closed()
        await until(lambda: not self.connections, "the provider's connections are gone")

    def tick(self) -> None:
        for one in self.open:
            one.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))

    def finish(self) -> None:
        for one in list(self.open):
            one.finish()

    def die(self, count: int) -> None:
        for one in list(self.open)[:count]:
            one.transport.abort()


class _Stream(asyncio.Protocol):
    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._streams.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._held.startswith(b"GET") and self._held.endswith(b"\r\n\r\n"):
            self._held = b""
            self.transport.write(PLAIN)
        elif self._held.endswith(BODY):
            self._held = b""
            self.transport.write(STREAM_HEAD)
            self._streams.open.add(self)

    def finish(self) -> None:
        self._streams.open.discard(self)
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.open.discard(self)
        self._streams.connections.discard(self)


class App(asyncio.Protocol):
    """A client that counts events."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.got = b""
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True

    @property
    def events(self) -> int:
        return self.got.count(b"data: ")


@pytest.fixture
def many_files() -> Iterator[None]:
    """A thousand streams are four thousand sockets in this one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if wanted < 8192:
        pytest.skip("The limit of open files is below 8192; raise it with ulimit -n.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4


def usages(sidecar: Sidecar) -> int:
    return int(total(sidecar, "gen_ai_client_token_usage_count", gen_ai_token_type="input"))


async def stream_round(sidecar: Sidecar, provider: Streams, count: int) -> None:
    """`count` streams at once: of five, one client vanishes, one provider's connection dies, three end well."""
    loop = asyncio.get_running_loop()
    asked, told_before, usage_before = post(sidecar, BODY), sum(statuses(sidecar).values()), usages(sidecar)
    apps = [App(asked) for _ in range(count)]
    for app in apps:
        await loop.create_connection(lambda app=app: app, *sidecar.proxy_addresses[0])  # type: ignore[misc]
    await until(lambda: len(provider.open) == count, "every stream is open")
    assert len(sidecar.hub.clients) == sidecar.hub.exchanges == count
    for tick in range(1, 4):
        provider.tick()
        await until(lambda tick=tick: all(app.events == tick for app in apps), "every app has the event")  # type: ignore[misc]
    for app in apps[: count // 5]:
        app.transport.abort()
    await until(lambda: len(provider.open) == count - count // 5, "the calls of the vanished are cancelled")
    provider.die(count // 5)
    await until(lambda: sum(app.is_closed for app in apps) == 2 * (count // 5), "the cut streams are cut")
    provider.tick()
    provider.finish()
    ended = [app for app in apps if not app.is_closed]
    await until(lambda: all(app.got.endswith(b"0\r\n\r\n") for app in ended), "the others end well")
    assert all(app.events == 6 for app in ended)
    for app in ended:
        app.transport.close()
    await until(lambda: not sidecar.hub.clients, "the sidecar let every client go")
    assert sidecar.hub.exchanges == 0
    assert sum(statuses(sidecar).values()) - told_before == count
    assert usages(sidecar) - usage_before == count
    await until(lambda: all(app.is_closed for app in apps), "the apps are gone")


async def short_round(sidecar: Sidecar, count: int, width: int = 50) -> None:
    """`count` connections of one request each; every other one says that it will close."""
    before = statuses(sidecar).get("200", 0)

    async def worker(number: int) -> None:
        more = b"connection: close\r\n" if number % 2 else b""
        for _ in range(count // width):
            app = await client_of(sidecar)
            await app.send(get(sidecar, b"/local/v1/models", more))
            assert (await app.answer())[1].startswith(b'{"usage"')
            app.close()

    async with asyncio.TaskGroup() as group:
        for number in range(width):
            group.create_task(worker(number))
    await until(lambda: not sidecar.hub.clients, "the sidecar let every client go")
    assert sidecar.hub.exchanges == 0
    assert statuses(sidecar)["200"] - before == count // width * width


def at_rest(sidecar: Sidecar, idle_max: int) -> None:
    assert not sidecar.hub.clients
    assert sidecar.hub.exchanges == 0
    assert len(sidecar.hub.upstreams) <= idle_max
    assert {task.get_name() for task in sidecar._tasks} == set()


async def soak(sidecar: Sidecar, provider: Streams, *, streams: int, short: int, rounds: int) -> list[int]:
    """Files after each round, which must not grow; what is kept idle is bounded."""
    idle_max = sidecar.config.upstream.pool_max_idle
    counts = []
    for _ in range(rounds):
        await stream_round(sidecar, provider, streams)
        await short_round(sidecar, short)
        at_rest(sidecar, idle_max)
        await until(lambda: len(provider.connections) == len(sidecar.hub.upstreams), "the provider agrees")
        counts.append(files() - 2 * len(provider.connections))
    return counts


async def test_a_small_crowd_leaves_nothing_behind(no_leaked_tasks: None, tmp_path: Path) -> None:
    tracemalloc.start()  # before anything: what replaces an older object is not more
    try:
        async with Streams() as provider, running(tmp_path, local(provider.url)) as sidecar:
            counts = await soak(sidecar, provider, streams=50, short=200, rounds=3)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            counts += await soak(sidecar, provider, streams=50, short=200, rounds=2)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(set(counts)) == 1, counts
    assert grown < 60_000, f"{grown} bytes more after 500 more exchanges"


@pytest.mark.long
async def test_a_large_crowd_leaves_nothing_behind(no_leaked_tasks: None, many_files: None, tmp_path: Path) -> None:
    async with Streams() as provider, running(tmp_path, local(provider.url)) as sidecar:
        counts = await soak(sidecar, provider, streams=1000, short=10_000, rounds=1)
        gc.collect()
        before = rss_kb()
        counts += await soak(sidecar, provider, streams=1000, short=10_000, rounds=2)
        gc.collect()
        assert len(set(counts)) == 1, counts
        assert rss_kb() - before < 15_000, "kB more after 22,000 more exchanges"
