"""A sidecar that remembers answers, apps that ask it, and a provider that is scripted call by call."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from outrider.runtime import Sidecar
from support.running import client_of, get, local, running, total
from support.wire import Peer, Provider

CHAT = b"/local/v1/chat/completions"
WHOLE: dict[str, Any] = {
    "id": "c1", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
}  # fmt: skip
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def event(text: str | None, **more: Any) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "c1", "choices": [choice | more]}).encode() + b"\n\n"


STREAM = (event("Hel"), event("lo."), event(None, finish_reason="stop"), b"data: [DONE]\n\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(value: Any = WHOLE, status: int = 200, lines: bytes = b"") -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status, lines, len(body), body,
    )  # fmt: skip


def question(text: str = "Hi", **fields: Any) -> bytes:
    return json.dumps(
        {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": text}], **fields}
    ).encode()


class App:
    """One connection. `said` is the field x-outrider-cache of the last answer, `body` its body."""

    def __init__(self, sidecar: Sidecar, peer: Peer) -> None:
        self.sidecar, self.peer = sidecar, peer
        self.head = self.body = b""

    @property
    def said(self) -> str:
        return self.field("x-outrider-cache")

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    def field(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n"):
            if line.lower().startswith(f"{name}: "):
                return line.partition(": ")[2]
        return ""

    async def send(self, body: bytes, lines: bytes = b"", path: bytes = CHAT) -> None:
        more = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) + lines
        await self.peer.send(get(self.sidecar, path, more, b"POST") + body)

    async def answer(self) -> bytes:
        self.head, self.body = await self.peer.answer()
        return self.body

    async def ask(self, body: bytes, lines: bytes = b"", path: bytes = CHAT) -> bytes:
        """Where nobody else has to be asked."""
        await self.send(body, lines, path)
        return await self.answer()


class World:
    def __init__(self, sidecar: Sidecar, provider: Provider) -> None:
        self.sidecar, self.provider = sidecar, provider
        self.calls = 0
        self.asked_head = self.asked_body = b""  # of the call that came last
        self._apps: list[App] = []
        self._behind: list[Peer] = []

    async def app(self, **how: Any) -> App:
        app = App(self.sidecar, await client_of(self.sidecar, **how))
        self._apps.append(app)
        return app

    async def called(self) -> Peer:
        """The provider's side of the next call, on a new connection or on a kept one, its request read."""
        peer = await self._next_peer()
        self.asked_head = head = await peer.head()
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.asked_body = await peer.exactly(size)
        self.calls += 1
        return peer

    async def _next_peer(self) -> Peer:
        peer = await self.provider.accept()
        self._behind.append(peer)
        return peer

    async def first(
        self, app: App, body: bytes, reply: bytes | None = None, lines: bytes = b"", path: bytes = CHAT
    ) -> bytes:
        """The app asks, and the provider is asked, answers and closes."""
        await app.send(body, lines, path)
        peer = await self.called()
        await peer.send(answer() if reply is None else reply)
        peer.close()
        return await app.answer()

    def counted(self, result: str) -> float:
        return total(self.sidecar, "outrider_cache_total", result=result)

    @property
    def state(self) -> Any:
        return self.sidecar._shared.cache

    async def turns(self, count: int = 20) -> None:
        """Let the loop pass what is under way on."""
        for _ in range(count):
            await asyncio.sleep(0)

    def close(self) -> None:
        for app in self._apps:
            app.peer.close()
        for peer in self._behind:
            peer.close()


@contextlib.asynccontextmanager
async def remembering(
    folder: Path,
    cache: dict[str, Any] | None = None,
    *,
    providers: dict[str, Any] | None = None,
    shared: Provider | None = None,
    **sections: Any,
) -> AsyncIterator[World]:
    """shared: the provider of several worlds."""
    async with contextlib.AsyncExitStack() as stack:
        provider = shared if shared is not None else await stack.enter_async_context(Provider())
        named = providers or {"local": {}}
        known = {
            name: {**local(provider.url)["local"], "hosts": [f"{name}.internal"], **more}
            for name, more in named.items()
        }
        async with running(folder, known, cache={"mode": "exact", **(cache or {})}, **sections) as sidecar:
            world = World(sidecar, provider)
            try:
                yield world
            finally:
                world.close()
