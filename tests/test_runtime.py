"""A running sidecar over its life: reload, drain, signals."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from outrider.config import ConfigError, load
from outrider.errors import StartError
from outrider.runtime import CROWD_CONNECTIONS, Sidecar
from support.running import client_of, get, local, running, settings, statuses, total, until
from support.wire import Peer, Provider, connect

OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def sidecar(tmp_path: Path, provider: Provider) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, local(provider.url), telemetry={"log": str(tmp_path / "log")}) as one:
        yield one


def rewrite(sidecar: Sidecar, **sections: Any) -> None:
    """Change the configuration file; None takes a section out."""
    path = sidecar.config.path
    assert path is not None
    document = yaml.safe_load(path.read_text()) | sections
    path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))


def events(sidecar: Sidecar, name: str) -> int:
    return int(total(sidecar, "outrider_events_total", event=name))


async def exchange(app: Peer, sidecar: Sidecar, behind: Peer | None) -> bytes:
    await app.send(get(sidecar))
    if behind is not None:
        await behind.head()
        await behind.send(OK_2)
    return (await app.answer())[0]


# -- reload


async def test_a_reload_holds_for_the_next_request_of_a_kept_connection(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    rewrite(sidecar, limits=[{"name": "one", "requests": "1/h"}])
    sidecar.reload_from_file()
    assert events(sidecar, "reloaded") == 1
    await app.send(get(sidecar))
    behind = await provider.accept()  # the pool is the new configuration's
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    assert b"429" in await exchange(app, sidecar, None)
    rewrite(sidecar, limits=None)
    sidecar.reload_from_file()
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    assert b"200" in (await app.answer())[0]


async def test_a_stream_in_flight_goes_on_over_a_reload(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(CHUNKED + b"1\r\na\r\n")
    await app.until(b"a\r\n")
    rewrite(sidecar, providers={})
    sidecar.reload_from_file()
    await behind.send(b"1\r\nb\r\n0\r\n\r\n")
    assert await app.until(b"0\r\n\r\n") == b"1\r\nb\r\n0\r\n\r\n"
    assert await behind.rest() == b""  # its pool is gone, so nobody keeps it
    assert b"404" in await exchange(app, sidecar, None)


async def test_who_waits_for_a_connection_is_served_over_a_reload(tmp_path: Path, provider: Provider) -> None:
    upstream = {"max_connections_per_host": 1}
    async with running(tmp_path, local(provider.url), upstream=upstream) as sidecar:
        first, second = await client_of(sidecar), await client_of(sidecar)
        await first.send(get(sidecar))
        behind = await provider.accept()
        await behind.head()
        await second.send(get(sidecar))
        await until(lambda: sidecar.hub.exchanges == 2, "the second waits")
        rewrite(sidecar, limits=[{"name": "many", "requests": "1000/s"}])
        sidecar.reload_from_file()
        for app in (first, second):
            await behind.send(OK_2)
            assert b"200" in (await app.answer())[0]
            app.close()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"limits": [{"name": "x", "requests": "many"}]}, "limits"),
        ({"unknown": 1}, "unknown"),
        ({"providers": {"local": {"kind": "nobody"}}}, "local"),
        ({"providers": {"openai": {"upstream_ca": "/no/such.pem"}}}, "such.pem"),
    ],
)
async def test_a_broken_reload_changes_nothing_and_says_why(
    sidecar: Sidecar, provider: Provider, app: Peer, tmp_path: Path, sections: dict[str, Any], words: str
) -> None:
    config, snapshot = sidecar.config, sidecar.snapshot
    rewrite(sidecar, **sections)
    sidecar.reload_from_file()
    assert (sidecar.config, sidecar.snapshot, sidecar.lane.router) == (config, snapshot, snapshot.router)
    assert events(sidecar, "reload_failed") == 1
    assert events(sidecar, "reloaded") == 0
    sidecar.json_log.flush()
    log = tmp_path / "log"
    await until(lambda: "reload_failed" in log.read_text(), "the log says it")
    assert "the old configuration stays in force" in log.read_text()
    assert words in log.read_text()


async def test_a_change_of_the_file_is_noticed(sidecar: Sidecar) -> None:
    rewrite(sidecar, limits=[{"name": "one", "requests": "1/h"}])
    await until(lambda: events(sidecar, "reloaded") == 1, "the change was noticed")
    assert [limit.name for limit in sidecar.config.limits] == ["one"]


async def test_a_file_that_others_may_write_is_not_read_again(sidecar: Sidecar, tmp_path: Path) -> None:
    assert sidecar.config.path is not None
    sidecar.config.path.chmod(0o666)
    rewrite(sidecar, limits=[{"name": "one", "requests": "1/h"}])
    log = tmp_path / "log"
    await until(lambda: "reload_refused" in log.read_text(), "the log says that it was refused")
    assert sidecar.config.limits == ()


# -- start


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path, no_leaked_tasks: None) -> None:
    """The files-left-open check of every test is the judge."""
    async with Provider() as taken:
        address = f"127.0.0.1:{taken.port}"
        for sections in (
            {"listen": {"proxy": address, "admin": None}},
            {"listen": {"proxy": "127.0.0.1:0", "admin": address}},
        ):
            sidecar = Sidecar(load(settings(tmp_path, {}, **sections), {}), {})
            with pytest.raises(StartError, match=address):
                await sidecar.start()
    sidecar = Sidecar(load(settings(tmp_path, {"openai": {"upstream_ca": str(tmp_path / "no.pem")}}), {}), {})
    with pytest.raises((StartError, ConfigError)):
        await sidecar.start()


# -- drain


async def test_draining_finishes_what_is_in_flight_and_takes_nothing_new(tmp_path: Path, provider: Provider) -> None:
    sidecar = Sidecar(load(settings(tmp_path, local(provider.url)), {}), {})
    await sidecar.start()
    app, idle = await client_of(sidecar), await client_of(sidecar)
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(CHUNKED + b"1\r\na\r\n")
    await app.until(b"a\r\n")
    drain = asyncio.get_running_loop().create_task(sidecar.drain())
    assert await idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await connect(sidecar.proxy_addresses[0])
    assert not drain.done()
    await behind.send(b"1\r\nb\r\n0\r\n\r\n")
    assert await app.rest() == b"1\r\nb\r\n0\r\n\r\n"
    await drain
    assert statuses(sidecar) == {"200": 1}
    app.close()
    idle.close()


async def test_draining_does_not_cut_the_end_of_an_answer_that_is_read_slowly(
    tmp_path: Path, provider: Provider
) -> None:
    sidecar = Sidecar(load(settings(tmp_path, local(provider.url), caps={"write_buffer_bytes": 1 << 24}), {}), {})
    await sidecar.start()
    app = await client_of(sidecar, receive_buffer=4096)
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    size = 8 << 20
    await behind.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    await until(lambda: sidecar.hub.exchanges == 0, "the provider's part is over")
    drain = asyncio.get_running_loop().create_task(sidecar.drain())
    await app.head()
    assert len(await app.exactly(size)) == size
    await drain
    app.close()


async def test_a_drain_has_an_end(tmp_path: Path, provider: Provider) -> None:
    sidecar = Sidecar(load(settings(tmp_path, local(provider.url), timeouts={"drain_s": 0.1}), {}), {})
    await sidecar.start()
    app = await client_of(sidecar)
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await asyncio.wait_for(sidecar.drain(), 60)
    with pytest.raises(ConnectionResetError):
        await app.rest()
    assert statuses(sidecar) == {"0": 1}
    app.close()


# -- signals


class Process:
    """`outrider run` as users run it."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "outrider", "run", "--config", str(path)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        assert self._process.stderr is not None
        line = self._process.stderr.readline().decode()
        assert "listening on 127.0.0.1:" in line, line + self._process.stderr.read().decode()
        self.address = ("127.0.0.1", int(line.rsplit(":", 1)[1]))

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def code(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self._process.wait), 120)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def get(self) -> bytes:
        return b"GET /local/v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % self.address[1]


@pytest.fixture
def process(tmp_path: Path, provider: Provider) -> Iterator[Process]:
    running_process = Process(settings(tmp_path, local(provider.url), telemetry={"log": str(tmp_path / "log")}))
    yield running_process
    running_process.close()


async def streaming(process: Process, provider: Provider) -> tuple[Peer, Peer]:
    """(app, behind) in the middle of an answer."""
    app = await connect(process.address)
    await app.send(process.get())
    behind = await provider.accept()
    await behind.head()
    await behind.send(CHUNKED + b"1\r\na\r\n")
    await app.until(b"a\r\n")
    return app, behind


async def test_sigterm_finishes_a_stream_and_then_exits(process: Process, provider: Provider) -> None:
    app, behind = await streaming(process, provider)
    process.tell(signal.SIGTERM)
    for _ in range(200):  # the listener closes once the signal was seen
        try:
            (await connect(process.address)).close()
        except (ConnectionRefusedError, ConnectionResetError):
            break
        await asyncio.sleep(0.01)
    await behind.send(b"1\r\nb\r\n0\r\n\r\n")
    assert await app.rest() == b"1\r\nb\r\n0\r\n\r\n"
    assert await process.code() == 0
    app.close()


async def test_a_second_signal_ends_at_once(process: Process, provider: Provider) -> None:
    app, _behind = await streaming(process, provider)
    process.tell(signal.SIGTERM)
    await asyncio.sleep(0.2)  # two signals that come together are one
    process.tell(signal.SIGINT)
    with pytest.raises(ConnectionResetError):
        await app.rest()
    assert await process.code() == 0
    app.close()


async def test_sighup_reloads(process: Process, tmp_path: Path, provider: Provider) -> None:
    settings(
        tmp_path,
        local(provider.url),
        telemetry={"log": str(tmp_path / "log")},
        limits=[{"name": "x", "requests": "1/s"}],
    )
    process.tell(signal.SIGHUP)
    log = tmp_path / "log"
    await until(lambda: '"reloaded"' in log.read_text(), "the log says that it reloaded")
    process.tell(signal.SIGTERM)
    assert await process.code() == 0


# -- memory


async def test_after_a_crowd_its_memory_is_given_back_once(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    monkeypatch.setattr("outrider.runtime.trim_heap", lambda: trims.append(1))
    crowd: list[object] = []
    monkeypatch.setattr(sidecar, "hub", SimpleNamespace(clients=crowd))
    for count, expected in ((CROWD_CONNECTIONS - 1, 0), (0, 0), (CROWD_CONNECTIONS, 0), (101, 0), (100, 1), (0, 1)):
        crowd[:] = [None] * count
        sidecar._return_memory()
        assert len(trims) == expected, count
    monkeypatch.undo()
