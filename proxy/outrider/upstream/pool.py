"""Connections to one destination: kept while idle, opened when needed, capped, and waited for when the cap is reached.

Rules: the newest idle connection is used first, so that the others grow old and go; a waiting exchange has a place in a
bounded queue and gives it up when its client leaves; nothing here outlives `close()`.
Does not know: HTTP, providers' names, credentials.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from outrider.errors import OverloadedError, SidecarError, UpstreamConnectError, UpstreamTimeoutError
from outrider.upstream.dial import Dialer
from outrider_ext.relay import Hub, Idle, Upstream

MAX_WAITING = 4096


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a pool's connections lead.

    host, port: who the provider is (its certificate's name). dial_host, dial_port: where it is reached. named: config
    names that address, so it may be private and is dialled directly. context: None is plain HTTP.
    """

    host: str
    port: int
    dial_host: str
    dial_port: int
    named: bool
    private_ok: bool
    context: ssl.SSLContext | None

    @property
    def is_plain(self) -> bool:
        """Plain HTTP to an address that config does not name."""
        return self.context is None and not self.named


class Pool(Idle):
    """take() -> an idle connection or None (Idle, compiled); open(done, fail) -> something with cancel().

    done(connection) or fail(error: SidecarError) is called once, never both, never after cancel().
    """

    def __init__(
        self, hub: Hub, dialer: Dialer, destination: Destination, *, max_idle: int, max_connections: int, tls_s: float
    ) -> None:
        super().__init__(hub, max_idle)
        self.destination = destination
        self._dialer = dialer
        self._max_connections = max_connections
        self._tls_s = tls_s
        self._waiting: deque[_Ticket] = deque()
        self.opened = 0  # connections made, ever
        self.count = 0  # open or being opened
        self._closed = False

    @property
    def idle_count(self) -> int:
        return len(self.idle)

    def open(
        self,
        done: Callable[[Upstream], None],
        fail: Callable[[SidecarError], None],
        spawn: Callable[..., "asyncio.Task[None]"],
    ) -> "_Ticket":
        ticket = _Ticket(self, done, fail)
        if self.count < self._max_connections:
            self._start(ticket, spawn)
        elif len(self._waiting) >= MAX_WAITING:
            ticket.is_open = False
            fail(OverloadedError(f"too many requests wait for a connection to {self.destination.host}"))
        else:
            ticket.spawn = spawn
            self._waiting.append(ticket)
            self.handing_on = True
        return ticket

    def _start(self, ticket: "_Ticket", spawn: Callable[..., "asyncio.Task[None]"]) -> None:
        self.count += 1
        ticket.task = spawn(self._connect(ticket), name=f"connect {self.destination.host}")

    async def _connect(self, ticket: "_Ticket") -> None:
        try:
            connection = await self._make()
        except SidecarError as error:
            self._free_place()
            ticket.settle(None, error)
            return
        except BaseException as exc:
            self._free_place()
            if isinstance(exc, Exception):  # ours, and reported by the task; who waits has to know all the same
                ticket.settle(None, UpstreamConnectError(f"connecting to {self.destination.host} failed"))
            raise
        if not ticket.settle(connection, None):
            self.release(connection)

    async def _make(self) -> Upstream:
        to = self.destination
        loop = asyncio.get_running_loop()
        sock = await self._dialer.connect(
            to.dial_host, to.dial_port, private_ok=to.private_ok or to.named, direct=to.named
        )
        # From here on the descriptor is the loop's, which closes it on any failure. uvloop may forget to tell the
        # socket object (a reset while the handshake begins), which would close the same number again when it is
        # collected, whoever has it by then: so it is made to let go.
        made = Upstream(self.hub, self)
        try:
            if to.context is None:
                await loop.create_connection(lambda: made, sock=sock)
            else:
                await loop.create_connection(
                    lambda: made, sock=sock, ssl=to.context, server_hostname=to.host,
                    ssl_handshake_timeout=self._tls_s, ssl_shutdown_timeout=2.0,
                )  # fmt: skip
        except ssl.SSLCertVerificationError as exc:
            sock.detach()
            raise UpstreamConnectError(
                f"the certificate of {to.host} was not accepted: {exc.verify_message}; "
                "set upstream_ca if the provider's CA is a private one"
            ) from exc
        except (TimeoutError, ConnectionAbortedError) as exc:
            sock.detach()
            raise UpstreamTimeoutError(f"the TLS handshake with {to.host} took longer than {self._tls_s:g} s") from exc
        except OSError as exc:
            sock.detach()
            raise UpstreamConnectError(f"the TLS handshake with {to.host} failed: {_tls_reason(exc)}") from exc
        except BaseException:
            sock.detach()
            self.hub.upstreams.discard(made)  # uvloop closes it, and does not tell it where it was made already
            raise
        self.opened += 1
        return made

    def release(self, connection: Upstream) -> None:
        """A connection is free: for who waits first, else kept."""
        while self._waiting and not connection.closed:
            if self._waiting.popleft().settle(connection, None):
                return
        self.handing_on = self._closed or bool(self._waiting)
        if self._closed or len(self.idle) >= self.max_idle or len(self.hub.upstreams) > self.hub.max_open:
            connection.close()
        elif not connection.closed:
            self.idle.append(connection)

    def leave(self, ticket: "_Ticket") -> None:
        """Who waited gave up: its place in the queue is somebody else's."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(ticket)

    def discard(self, connection: Upstream) -> None:
        """A connection is gone; its place goes to who waits."""
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)
        self._free_place()

    def _free_place(self) -> None:
        self.count -= 1
        while self._waiting and self.count < self._max_connections:
            ticket = self._waiting.popleft()
            if ticket.is_open and ticket.spawn is not None:
                self._start(ticket, ticket.spawn)

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back and nobody waits for it."""
        self._closed = self.handing_on = True
        for connection in list(self.idle):
            connection.close()


class _Ticket:
    """One exchange's wait for a connection."""

    __slots__ = ("_done", "_fail", "is_open", "pool", "spawn", "task")

    def __init__(self, pool: Pool, done: Callable[[Upstream], None], fail: Callable[[SidecarError], None]) -> None:
        self.pool = pool
        self._done = done
        self._fail = fail
        self.is_open = True
        self.task: asyncio.Task[None] | None = None
        self.spawn: Callable[..., asyncio.Task[None]] | None = None

    def cancel(self) -> None:
        """The client left. A connection that is being made goes to the pool: the handshake is half paid for."""
        self.is_open = False
        if self.spawn is not None:
            self.pool.leave(self)

    def settle(self, connection: Upstream | None, error: SidecarError | None) -> bool:
        """Hand over the result; False when nobody waits any more."""
        if not self.is_open:
            return False
        self.is_open = False
        if connection is not None:
            self._done(connection)
        elif error is not None:
            self._fail(error)
        return True


def _tls_reason(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or "TLS error").lower().replace("_", " ")
    return (
        exc.strerror or ("closed by the other side" if isinstance(exc, ConnectionError) else type(exc).__name__)
    ).lower()
