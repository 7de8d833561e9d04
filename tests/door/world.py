"""A door with a fake of everything above it, a clock that only moves when told, and real loopback sockets."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from outrider.door.contract import Deny, DoorLimits, Intercept, ListenerKind, Origin, Tunnel, Verdict
from outrider.door.door import Door
from outrider.errors import SidecarError
from outrider_ext.callers import Caller


class FakeTimer:
    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s, self.callback, self.is_cancelled = at_s, callback, False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """`call_later` for the door; `advance` fires what is due, in order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[FakeTimer] = []

    def call_later(self, delay: float, callback: Callable[[], None], /) -> FakeTimer:
        timer = FakeTimer(self.now_s + delay, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[FakeTimer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := [timer for timer in self.pending if timer.at_s <= end_s]:
            first = min(due, key=lambda timer: timer.at_s)
            self.timers.remove(first)
            self.now_s = first.at_s
            first.callback()
        self.now_s = end_s


class CountingLoop:
    """The running loop, but every wake-up of a reader is counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wakeups = 0

    def add_reader(self, sock: socket.socket, callback: Callable[..., None], *args: object) -> None:
        def counted() -> None:
            self.wakeups += 1
            callback(*args)

        self._loop.add_reader(sock, counted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class FakeHost:
    """Verdicts from a table, Tunnel for the rest; keeps what it was given."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, int], Verdict] = {}
        self.own: set[tuple[str, int]] = set()
        self.upstreams: dict[tuple[str, int], socket.socket] = {}
        self.far_ends: list[socket.socket] = []
        self.dialled: list[tuple[str, int, str | None]] = []
        self.dial_error: Exception | None = None
        self.dial_gate: asyncio.Event | None = None
        self.served: list[tuple[socket.socket, Origin, ssl.SSLContext | None]] = []
        self.tunnels: list[tuple[socket.socket, socket.socket, str]] = []
        self.counts: Counter[str] = Counter()
        self.logs: list[tuple[str, str, dict[str, object]]] = []
        self.raises: Exception | None = None
        self.asked: list[tuple[Any, tuple[str, int] | None]] = []
        self.tokens: list[bytes | None] = []
        self.token_refusal: Deny | None = None
        self.tunnel_refusal: Deny | None = None

    def verdict(self, host: str, port: int) -> Verdict:
        return self.verdicts.get((host, port), Tunnel())

    def caller(self, sock: socket.socket, peer: Any, destination: tuple[str, int] | None) -> Caller:
        self.asked.append((peer, destination))
        return Caller()

    def note_token(self, caller: Caller, value: bytes | None) -> Deny | None:
        self.tokens.append(value)
        return self.token_refusal

    def admit_tunnel(self, caller: Caller) -> Deny | None:
        return self.tunnel_refusal

    def serve_http(self, sock: socket.socket, origin: Origin, context: ssl.SSLContext | None) -> None:
        if self.raises:
            raise self.raises
        self.served.append((sock, origin, context))

    async def dial(self, host: str, port: int, *, address: str | None = None) -> socket.socket:
        self.dialled.append((host, port, address))
        if self.dial_gate:
            await self.dial_gate.wait()
        if self.dial_error:
            raise self.dial_error
        ours, theirs = tcp_pair()
        self.upstreams[host, port] = theirs
        self.far_ends.append(theirs)
        return ours

    def tunnel(self, client: socket.socket, upstream: socket.socket, name: str, caller: Any) -> None:
        if self.raises:
            raise self.raises
        self.tunnels.append((client, upstream, name))

    def is_own_address(self, host: str, port: int) -> bool:
        return (host, port) in self.own

    def count(self, event: str, name: str) -> None:
        self.counts[event] += 1

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logs.append((level, event, fields))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """(connecting side, accepted side) of one loopback connection, both non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        left = socket.create_connection(listening.getsockname())
        right, _ = listening.accept()
    for sock in (left, right):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return left, right


class World:
    """One door of each flavour; `arrive` gives the client's end of a new connection at one of them."""

    def __init__(self, limits: DoorLimits | None = None) -> None:
        self.host = FakeHost()
        self.clock = FakeClock()
        self.loop = CountingLoop(asyncio.get_running_loop())
        self.destination: tuple[str, int] | None = ("203.0.113.7", 443)
        self.tasks: set[asyncio.Task[None]] = set()
        self.clients: list[socket.socket] = []
        self.accepted: list[socket.socket] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.proxy = self._door("proxy", limits)
        self.transparent = self._door("transparent", limits)
        for port in (443, 80):
            self.host.verdicts["api.openai.com", port] = Intercept("openai", lambda: self.context)
        self.host.verdicts["denied.example", 443] = Deny(
            "destination_denied", 403, "The host denied.example is denied."
        )

    def _door(self, listener: ListenerKind, limits: DoorLimits | None) -> Door:
        return Door(
            self.host,
            listener,
            self.spawn,
            limits,
            loop=self.loop,  # type: ignore[arg-type]
            call_later=self.clock.call_later,
            destination_of=lambda _: self.destination,
        )

    def spawn(self, coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def arrive(self, door: Door | None = None, data: bytes = b"") -> socket.socket:
        client, accepted = tcp_pair()
        self.clients.append(client)
        self.accepted.append(accepted)
        if data:
            client.sendall(data)
        (door or self.proxy).handle(accepted, client.getsockname())
        return client

    async def settle(self, turns: int = 12) -> None:
        """Lets the loop see what is there: loopback delivers within `send`, so turns are enough, never time."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def drip(self, client: socket.socket, data: bytes) -> None:
        """Byte by byte, each looked at before the next is sent (the kernel may hold one back for want of an ACK)."""
        for i in range(len(data)):
            wakeups = self.loop.wakeups
            client.send(data[i : i + 1])
            async with asyncio.timeout(10):
                while self.loop.wakeups == wakeups:
                    await asyncio.sleep(0)
            await self.settle(6)

    async def close(self) -> None:
        self.proxy.close()
        self.transparent.close()
        await self.settle()
        given = [sock for sock, _, _ in self.host.served]
        given += [sock for client, upstream, _ in self.host.tunnels for sock in (client, upstream)]
        for sock in [*given, *self.clients, *self.host.far_ends]:
            sock.close()
        leaked = [sock for sock in self.accepted if sock.fileno() != -1]
        assert not leaked, f"the door left {len(leaked)} sockets open"
        assert self.proxy.open_count == self.transparent.open_count == 0
        assert not self.clock.pending, "a deadline outlived its connection"
        assert not self.tasks


async def read_all(client: socket.socket) -> bytes:
    """Everything until the other side ends; the client then closes, as clients do."""
    loop, data = asyncio.get_running_loop(), b""
    while part := await loop.sock_recv(client, 65536):
        data += part
    client.close()
    return data


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size and (part := await loop.sock_recv(sock, size - len(data))):
        data += part
    return data


class UnreachableError(SidecarError):
    code, status = "test_unreachable", 502
