"""A real redis-server of the test's own (a folder, a port, no persistence), and a proxy that spoils its wire."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from bench.ports import free_ports
from redis.backoff import NoBackoff
from redis.retry import Retry

# Generous: a machine that is busy and slow is not a failure. What ended meanwhile is noticed at once (Server.start).
DEADLINE_S = 90.0
STARTS = 5  # ports tried; each was free a moment before
BUS = 10_000  # a node of a cluster listens on its port + this too


def free_port() -> int:
    """A port whose bus port is free too."""
    return free_ports(1, also=BUS)[0]


class Server:
    """start() again after stop() is a restart with empty memory, on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("Needs redis-server; `make debian-packages` installs it.")
        self.folder = folder
        self.options = options
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Raises: AssertionError with the end of the server's log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        is_known = self.port != 0  # to others, who look for it there
        for _ in range(STARTS):
            if not is_known:
                self.port = free_port()
            if self._has_started():
                return self
            self.stop()
        raise AssertionError(f"redis-server ended at each of {STARTS} starts; its log ends:\n{self.log_end()}")

    def _has_started(self) -> bool:
        """False: it ended before it answered, as it does where another process has its port."""
        command = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--appendonly", "no", "--daemonize", "no", "--logfile", str(self.folder / "log"),
            "--repl-diskless-sync-delay", "0", *self.arguments(),
        ]  # fmt: skip
        with (self.folder / "output").open("ab") as output:
            self._process = process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for(lambda: process.poll() is not None or self._answers(), self.log_end)
        return process.poll() is None

    def arguments(self) -> tuple[str, ...]:
        """What a server of another kind is given besides; its port is known."""
        return self.options

    def _answers(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(redis.RedisError, OSError):
            # Soon again where nothing comes: whoever holds the port may be silent, and ours about to end for it.
            told = self.call("INFO", "server", timeout_s=0.5)
            return bool(told["process_id"] == self._process.pid)
        return False

    def log_end(self) -> str:
        texts = [
            path.read_text(errors="replace") for path in (self.folder / "output", self.folder / "log") if path.exists()
        ]
        return "\n".join("".join(texts).splitlines()[-10:]) or "(it wrote nothing)"

    def call(self, *words: Any, timeout_s: float = 30.0) -> Any:
        # The client's own retries would wait up to a second each for a server that is about to listen.
        with redis.Redis("127.0.0.1", self.port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*words)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_for(condition: Callable[[], bool], tell: Callable[[], str], timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about in {timeout_s:.0f} s: {tell()}"
        time.sleep(0.002)


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Wire:
    """Between a store and its server. delay_s: of every answer. is_silent: bytes vanish, the connections stay open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay_s = 0.0
        self.is_silent = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            behind, other = await asyncio.open_connection("127.0.0.1", self._to)
            await asyncio.gather(self._pump(reader, other, 0), self._pump(behind, writer, 1))
        except OSError:
            pass
        except asyncio.CancelledError:
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    one.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: int) -> None:
        while data := await reader.read(65536):
            if is_answer and self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not self.is_silent:
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError
