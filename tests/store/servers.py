"""A real redis-server of the test's own (a folder, a free port, no persistence), and a proxy that spoils its wire."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

DEADLINE_S = 20.0


def free_port() -> int:
    """Below 55,536: a cluster's node listens on the port 10,000 above too."""
    for _ in range(200):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port < 55_536:
            return port
    raise AssertionError("no port was free")


class Server:
    """start() again after stop() is a restart with empty memory."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("Needs redis-server; `make debian-packages` installs it.")
        self.folder = folder
        self.options = options
        self.port = port if port is not None else free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--appendonly", "no", "--daemonize", "no", "--logfile", str(self.folder / "log"),
            "--repl-diskless-sync-delay", "0", *self.options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(self.call("PING"))
        return False

    def call(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*words)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_for(condition: Any, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


async def until(condition: Any, what: str, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about: {what}"
        await asyncio.sleep(0.002)


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
