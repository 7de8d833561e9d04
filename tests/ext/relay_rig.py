"""The relay between fake transports: bytes are handed in and what was written is read back, without a loop.

A fake transport keeps the promises that the relay relies on: `write` after `close` is dropped, `connection_lost` comes
once and later (at `settle`), no bytes come while reading is paused. tests/ext/test_relay_wire.py has the real ones.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from outrider_ext import http1, relay
from outrider_ext.relay import Downstream, Exchange, Hub, Upstream
from support.messages import Answer, read_answers

DROP = http1.mask_of(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade")
SECRET = b"sk-the-real-and-only-secret"


class FakeTransport:
    def __init__(self, protocol: Any, *, tls: bool = False) -> None:
        self.protocol = protocol
        self.written = bytearray()
        self.writes = 0
        self.is_reading = True
        self.is_closed = self.was_aborted = self.wrote_eof = self.is_lost = False
        self.at_eof = False
        self.tls = tls
        self.waiting: list[bytes] = []  # bytes in the kernel while reading is paused
        protocol.connection_made(self)

    # -- the relay's side

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.wrote_eof, "written after the end"
        if not self.is_closed:
            self.written += data
            self.writes += 1

    def set_write_buffer_limits(self, high: int) -> None:
        self.high_water = high

    def pause_reading(self) -> None:
        assert self.is_reading, "paused twice"
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading, "resumed twice"
        self.is_reading = True

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        self.wrote_eof = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.was_aborted = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return object() if name == "sslcontext" and self.tls else default

    # -- the test's side

    def give(self, data: bytes) -> None:
        """Bytes from the peer; they wait while reading is paused, as they would in the kernel."""
        self.waiting.append(data)
        self.deliver()

    def deliver(self) -> None:
        while self.waiting and self.is_reading and not self.is_closed:
            self.protocol.data_received(self.waiting.pop(0))

    def give_eof(self) -> None:
        self.at_eof = True
        if not self.protocol.eof_received():
            self.is_closed = True

    def lose(self, exc: Exception | None = None) -> None:
        if not self.is_lost:
            self.is_closed = self.is_lost = True
            self.protocol.connection_lost(exc)

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data


class FakePool:
    """Keeps connections; makes new ones at once."""

    def __init__(self, rig: "Rig") -> None:
        self.rig = rig
        self.idle: list[Upstream] = []
        self.discarded = 0

    def take(self) -> Upstream:
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
        return self.rig.open_upstream()

    def release(self, connection: Upstream) -> None:
        self.idle.append(connection)

    def discard(self, connection: Upstream) -> None:
        self.discarded += 1
        if connection in self.idle:
            self.idle.remove(connection)


class Owner(relay.Owner):
    """Forwards everything; a test replaces what it asks about. Counts the calls that have to come exactly once."""

    def __init__(self, rig: "Rig") -> None:
        self.rig = rig
        self.requests: list[Exchange] = []
        self.ends: list[Exchange] = []
        self.failures: list[tuple[str, str]] = []
        self.bad: list[tuple[int, str]] = []
        self.closed_clients = 0
        self.gone = False
        self.canary: bytes | None = None
        self.decide: Callable[[Exchange], None] = self.forward
        self.body: Callable[[Exchange], None] = self.forward
        self.answer: Callable[[Exchange], bytes] = lambda x: b""
        self.failed: Callable[[Exchange, str, str], None] = lambda x, kind, detail: self.say(x, 502, kind.encode())

    def on_request(self, x: Exchange) -> None:
        self.requests.append(x)
        self.decide(x)

    def on_body(self, x: Exchange) -> None:
        self.body(x)

    def on_answer(self, x: Exchange) -> bytes:
        return self.answer(x)

    def on_failed(self, x: Exchange, kind: str, detail: str) -> None:
        self.failures.append((kind, detail))
        self.failed(x, kind, detail)

    def on_end(self, x: Exchange) -> None:
        assert x in self.requests
        assert x not in self.ends, "an exchange ended twice"
        self.ends.append(x)

    def on_bad_request(self, client: Downstream, status: int, message: str) -> bytes:
        self.bad.append((status, message))
        return b"HTTP/1.1 %d Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status

    def on_client_closed(self, client: Downstream) -> None:
        self.closed_clients += 1

    def is_gone(self, client: Downstream) -> bool:
        return self.gone

    # -- what a decision may be

    def forward(self, x: Exchange) -> None:
        self.send(x, self.rig.pool.take())

    def send(self, x: Exchange, connection: Upstream) -> None:
        drop, extra = DROP, b""
        if x.body is not None and (x.head.chunked or x.head.content_length >= 0):
            drop |= http1.mask_of(b"content-length", b"transfer-encoding", b"expect")
            extra = b"content-length: %d\r\n" % len(x.body)
        if x.allow_upgrade:
            extra += b"connection: Upgrade\r\nupgrade: websocket\r\n"
        x.forward(connection, x.head.build_request(x.target, drop, extra), x.body, self.canary)

    def say(self, x: Exchange, status: int, body: bytes) -> None:
        close = b"connection: close\r\n" if x.must_close else b""
        shown = b"" if x.method == b"HEAD" else body
        x.answer(b"HTTP/1.1 %d Own\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), close, shown), status)


class Rig:
    """One client and the providers' connections that it caused.

    client(data), provider(data): bytes from either peer. sent(): what the provider was sent; out(): what the client
    was sent, raw; answers(*methods): the same, read.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.owner = Owner(self)
        self.hub = Hub(self.owner, None)  # type: ignore[arg-type]
        self.pool = FakePool(self)
        self.ups: list[FakeTransport] = []
        self.down = FakeTransport(Downstream(self.hub, SimpleNamespace(kind="forward")), tls=tls)

    def open_upstream(self) -> Upstream:
        connection = Upstream(self.hub, self.pool)
        self.ups.append(FakeTransport(connection))
        return connection

    @property
    def up(self) -> FakeTransport:
        return self.ups[-1]

    @property
    def downstream(self) -> Downstream:
        protocol: Downstream = self.down.protocol
        return protocol

    def client(self, data: bytes) -> None:
        self.down.give(data)
        self.settle()

    def provider(self, data: bytes) -> None:
        self.up.give(data)
        self.settle()

    def provider_ends(self, exc: Exception | None = None) -> None:
        """FIN (or close_notify) without an error; otherwise a reset."""
        if exc is None:
            self.up.give_eof()
        else:
            self.up.lose(exc)
        self.settle()

    def settle(self) -> None:
        """What the loop does next: waiting bytes, and connection_lost for what was closed."""
        for _ in range(8):
            for transport in (self.down, *self.ups):
                transport.deliver()
                if transport.is_closed:
                    transport.lose()

    def sent(self) -> bytes:
        return b"".join(up.take() for up in self.ups)

    def out(self) -> bytes:
        return self.down.take()

    def answers(self, *methods: bytes) -> list[Answer]:
        return read_answers(self.out(), methods, closed=self.down.is_closed)

    def answer(self, method: bytes = b"GET") -> Answer:
        found = self.answers(method)
        assert len(found) == 1, found
        return found[0]

    def finish(self) -> None:
        """Everybody leaves; then every exchange has ended once and nothing is left."""
        self.down.lose()
        self.settle()
        for up in self.ups:
            up.lose()
        assert self.owner.ends == self.owner.requests
        assert self.hub.exchanges == 0
        assert self.hub.clients == set()
        assert self.hub.upstreams == set()
        assert self.owner.closed_clients == 1
        assert self.pool.discarded == len(self.ups)
