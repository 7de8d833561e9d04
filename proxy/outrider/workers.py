"""One of several workers: a process that serves, and does what its supervisor says.

Rules
- It is told its configuration (the bytes of the file and of its policies' files as the supervisor read them), its
  addresses and its number; it looks at no such file itself, so that all workers always have the same.
- A reload has two steps: `prepare` makes everything anew and changes nothing, `commit` puts it in force.
- When the supervisor is gone (its end of the channel closed) it drains and ends: nobody serves ungoverned.
- Signals of the terminal reach the whole group: a worker heeds only the supervisor.
Does not know: other workers.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from outrider.config import Config, ConfigError, load_content
from outrider.errors import StartError
from outrider.process import forget_credentials, prepare_memory, settle_memory
from outrider.runtime import Part, Sidecar
from outrider.snapshot import Snapshot
from outrider.store.shm import SharedMemory

MAX_MESSAGE_BYTES = 64 << 20


class Channel:
    """Messages between supervisor and worker: JSON, each after its length in four bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> "Channel":
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer)

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        with contextlib.suppress(OSError, RuntimeError):  # the other end is gone: `receive` says so
            self._writer.write(len(data).to_bytes(4, "big") + data)

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size > MAX_MESSAGE_BYTES:
                return None
            message: dict[str, Any] = json.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return None
        return message

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def config_in(message: dict[str, Any], environ: dict[str, str]) -> Config:
    """The configuration that the supervisor loaded. Raises: ConfigError."""
    path = Path(message["path"]) if message["path"] is not None else None
    content = message["content"].encode("utf-8", "surrogateescape")
    files = {name: text.encode("utf-8", "surrogateescape") for name, text in message["files"].items()}
    return load_content(path, content, environ, only_found=message["only_found"], files=files)


def families(sidecar: Sidecar) -> list[Any]:
    """This worker's metrics as plain data: [name, help, type, [[sample, labels, value], ...]]."""
    return [
        [
            family.name, family.documentation, family.type,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in sidecar.metrics.collect()
    ]  # fmt: skip


class Worker:
    """run() until it is told to end, or nobody is there to tell it."""

    def __init__(self, channel: Channel, sidecar: Sidecar, environ: dict[str, str]) -> None:
        self._channel = channel
        self._sidecar = sidecar
        self._environ = environ
        self._prepared: tuple[Config, Snapshot] | None = None
        self._drain: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            await self._sidecar.start()
        except StartError as exc:
            self._channel.send({"is": "failed", "why": str(exc), "exit_code": exc.exit_code})
            await self._channel.close()
            return
        settle_memory()
        self._channel.send({"is": "ready", "pid": os.getpid()})
        while (message := await self._channel.receive()) is not None:
            if message["do"] == "stop":
                break
            self._obey(message)
        else:
            self._begin_drain()
        if self._drain is not None and message is None:
            await self._drain
        else:
            if self._drain is not None:
                self._drain.cancel()
                await asyncio.gather(self._drain, return_exceptions=True)
            await self._sidecar.stop()
        await self._channel.close()

    def _obey(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "prepare":
                self._channel.send({"is": "prepared", "why": self._prepare(message)})
            case "commit" if self._prepared is not None:
                self._sidecar.apply(*self._prepared, cause=message["cause"])
                self._prepared = None
                self._channel.send({"is": "committed"})
            case "abort" if self._prepared is not None:
                self._prepared[1].close()
                self._prepared = None
            case "metrics":
                self._channel.send({"is": "metrics", "families": families(self._sidecar)})
            case "note":
                self._sidecar.note(message["event"], **message["members"])
            case "drain":
                self._begin_drain()

    def _prepare(self, message: dict[str, Any]) -> str | None:
        """None when it can be put in force, else why not."""
        try:
            config = config_in(message, self._environ)
            self._prepared = (config, self._sidecar.prepare(config))
        except (ConfigError, StartError) as exc:
            return str(exc)
        return None

    def _begin_drain(self) -> None:
        if self._drain is None:
            self._drain = self._sidecar.spawn(self._drained(), name="drain")

    async def _drained(self) -> None:
        await self._sidecar.drain()
        self._channel.send({"is": "drained"})


def main(fd: int) -> int:
    """`python -m outrider.workers FD`: what the supervisor starts."""
    import uvloop

    from outrider.secrets.hygiene import harden_process

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=fd)
    environ = dict(os.environ)
    problems = harden_process()
    prepare_memory()

    async def serve() -> None:
        channel = await Channel.over(sock)
        hello = await channel.receive()
        if hello is None:
            return
        config = config_in(hello, environ)
        memory = SharedMemory.open(hello["memory"]) if hello["memory"] is not None else None
        part = Part(
            hello["number"], tuple(hello["proxy"]), tuple(hello["transparent"]),
            tuple((host, port) for host, port in hello["admin"]), memory,
        )  # fmt: skip
        sidecar = Sidecar(config, environ, part)
        for problem in problems:
            sidecar.log("warning", "hygiene", message=problem)
        forget_credentials(config)
        await Worker(channel, sidecar, environ).run()

    uvloop.run(serve())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
