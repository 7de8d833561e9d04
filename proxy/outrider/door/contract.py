"""What the door says and what it asks: the words between it and the rest of the product.

Rules: the door imports nothing that dials, mints or decides policy; all of it comes in through `DoorHost`. A socket has
one owner at every moment: whoever takes it in a call that returned closes it; a call that raised took nothing.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from outrider_ext.callers import Caller

ListenerKind = Literal["proxy", "transparent"]
Peer = tuple[Any, ...]  # as getpeername() gives it: (host, port[, flow, scope]); ("unix", pid) for a Unix socket


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse. `message` is one sentence for the app's developer: it becomes reason phrase and body."""

    code: str
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Intercept:
    """A provider claims this host: terminate its TLS. `name` is the provider's; `context` may mint (about 1 ms)."""

    name: str
    context: Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Nobody's business but the egress rule's, which allowed it: pass bytes on unread."""


Verdict = Deny | Intercept | Tunnel


@dataclass(frozen=True, slots=True)
class Origin:
    """How a connection got in, and the destination that is pinned for all of its requests.

    | listener    | kind        | host, port                       | tls        | decided by the lane          |
    | proxy       | forward     | None, None                       | False      | per request, absolute or own |
    | proxy       | connect     | the CONNECT target               | as peeked  | inner Host must equal host   |
    | transparent | transparent | SNI (or the address), orig. port | True       | inner Host must equal host   |
    | transparent | transparent | None, original port              | False      | per request, by Host         |
    `address` is the original destination address, transparent only. `peer` is the client's address, empty when it left
    before it could be asked. `caller` is who opened the connection, as far as the kernel and a CONNECT said.
    """

    listener: ListenerKind
    kind: Literal["forward", "connect", "transparent"]
    host: str | None
    port: int | None
    tls: bool
    peer: Peer
    address: str | None = None
    caller: Caller = field(default_factory=Caller, compare=False)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Deadlines in seconds and caps in bytes; each deadline counts from the start of its phase, however bytes drip."""

    first_byte_s: float = 30.0  # accepted, nothing heard yet
    connect_head_s: float = 10.0  # first byte of a head .. its blank line
    connect_head_bytes: int = 16 << 10
    detect_s: float = 5.0  # after the 200, or redirected: silence longer than this is taken for a server-first protocol
    client_hello_s: float = 10.0
    client_hello_bytes: int = 64 << 10
    linger_s: float = 1.0  # after a refusal: time for the client to read it before the socket is closed
    http2: Literal["deny", "tunnel"] = "deny"  # a client to be intercepted that offers no http/1.1


class Spawn(Protocol):
    def __call__(self, coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]: ...


class Timer(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    """`loop.call_later`, or a fake clock's."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


class DoorHost(Protocol):
    """Everything above the door. No call may block; only `dial` may wait."""

    def verdict(self, host: str, port: int) -> Verdict:
        """deny → intercept → tunnel for a canonical host (a name, or an address without brackets). May be asked for
        names that are then not used (an SNI, a Host field), so it counts nothing."""

    def caller(self, sock: socket.socket, peer: Peer, destination: tuple[str, int] | None) -> Caller:
        """Who opened this connection; `destination` is where it wanted to go before it was redirected. Never raises."""

    def note_token(self, caller: Caller, value: bytes | None) -> Deny | None:
        """A CONNECT came with this Proxy-Authorization, or none: keep it with the caller, or say why not."""

    def admit_tunnel(self, caller: Caller) -> Deny | None:
        """Whether this caller may have a tunnel that nobody looks into."""

    def serve_http(self, sock: socket.socket, origin: Origin, context: ssl.SSLContext | None) -> None:
        """Takes the untouched non-blocking socket: all bytes the client sent (after a CONNECT head) are still in it."""

    async def dial(self, host: str, port: int, *, address: str | None = None) -> socket.socket:
        """A connected non-blocking socket to the destination, owned by the caller. With `address` exactly that IP is
        dialled, guarded like any other. Raises errors.SidecarError; is cancelled when the door closes."""

    def tunnel(self, client: socket.socket, upstream: socket.socket, name: str, caller: Caller) -> None:
        """Takes both sockets and passes bytes both ways from now on; `name` (host:port) and `caller`, who was admitted,
        are for the record."""

    def is_own_address(self, host: str, port: int) -> bool:
        """Whether one of our own listeners stands there (by literal address, or `localhost`), or our end of a
        connection that `dial` made."""

    def count(self, event: str, name: str) -> None:
        """`event` is a key of EVENTS; `name` the destination as far as it is known (the host bounds its variety)."""

    def log(self, level: str, event: str, **fields: object) -> None: ...


EVENTS: dict[str, str] = {
    "connect_bad": "a CONNECT head or authority that was refused",
    "connect_denied": "a CONNECT that the verdict refused, or whose caller may not have a tunnel",
    "loop": "a connection that would have come back to one of our own listeners",
    "dial_failed": "a tunnel whose destination could not be reached",
    "sni_mismatch": "a TLS name that contradicts the pinned destination; refused",
    "sni_differs": "a tunnel whose TLS name is another one than asked for; allowed",
    "host_mismatch": "plain HTTP in a tunnel that names a provider; refused with 421",
    "client_hello_bad": "bytes that began like TLS and are no ClientHello",
    "ech": "a tunnelled ClientHello with encrypted_client_hello",
    "http2_denied": "a client for a provider that offers no http/1.1; refused",
    "http2_tunnelled": "the same, tunnelled uninspected as config asks",
    "opaque_closed": "bytes for a provider that are neither TLS nor HTTP",
    "silent_closed": "a client that said nothing in time",
    "transparent_denied": "a redirected connection that the verdict refused",
    "tls_on_proxy_port": "a client that speaks TLS to the proxy port itself",
    "deadline": "a client that began and did not finish in time",
    "client_left": "a client that closed before it was decided",
    "context_failed": "a certificate that could not be made",
    "door_failed": "an error of ours at the door",
}
