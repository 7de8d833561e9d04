"""Connected sockets to providers and tunnel destinations.

Rules: a name is resolved by us, every address is checked by the guard, and the address that was checked is the one that
is dialled; a deadline on every step; through `upstream.proxy` (an HTTP proxy's CONNECT) where config names one, except
for addresses that config itself names. Foreign exceptions end here.
Does not know: HTTP beyond CONNECT, TLS, pools.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from weakref import WeakValueDictionary

from outrider.config.values import ProxyUrl
from outrider.errors import UpstreamConnectError, UpstreamTimeoutError
from outrider.upstream.guard import AddressGuard

type Endpoint = tuple[int, str, int]  # address family, address, port

RESOLVED_S = 15.0  # how long an answer of the resolver is used again; short, since clouds move
_RESOLVED_MAX = 1024
_PROXY_HEAD_BYTES = 16384


class Dialer:
    """connect(host, port) -> a connected, non-blocking socket with TCP_NODELAY.

    proxy: an HTTP proxy to go through, or None. Raises (all calls): DestinationDeniedError, UpstreamConnectError,
    UpstreamTimeoutError, each one sentence that names the host that was asked for.
    """

    def __init__(
        self,
        guard: AddressGuard,
        *,
        connect_s: float,
        proxy: ProxyUrl | None = None,
        mark: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.guard = guard
        self._connect_s = connect_s
        self._proxy = _ProxyHop(proxy) if proxy is not None else None
        self._mark = mark
        self._clock = clock
        self._resolved: dict[tuple[str, int], tuple[float, list[Endpoint]]] = {}
        self._ends: WeakValueDictionary[tuple[str, int], socket.socket] = WeakValueDictionary()

    async def connect(
        self, host: str, port: int, *, private_ok: bool, address: str | None = None, direct: bool = False
    ) -> socket.socket:
        """private_ok: private addresses may be dialled. address: dial this IP. direct: not through the proxy."""
        try:
            async with asyncio.timeout(self._connect_s):
                if self._proxy is not None and not direct:
                    return await self._through_proxy(self._proxy, host, port, private_ok=private_ok)
                return await self._dial(host, port, address, private_ok=private_ok)
        except TimeoutError as exc:
            raise UpstreamTimeoutError(f"connecting to {host}:{port} took longer than {self._connect_s:g} s") from exc

    def is_own_end(self, address: str, port: int) -> bool:
        """Whether our end of a connection that was made here, and is still open, has this name."""
        sock = self._ends.get((address, port))
        return sock is not None and sock.fileno() >= 0

    async def _dial(self, host: str, port: int, address: str | None, *, private_ok: bool) -> socket.socket:
        failure: Exception | None = None
        for family, ip, to_port in await self.resolve(address or host, port):
            self.guard.check(host, ip_address(ip.partition("%")[0]), to_port, private_ok=private_ok)
            try:
                return await self._connect_socket(family, ip, to_port)
            except OSError as exc:
                failure = exc
        self._resolved.pop((address or host, port), None)
        raise UpstreamConnectError(f"connecting to {host}:{port} failed: {_reason(failure)}") from failure

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Addresses of host, in the resolver's order; remembered for a moment."""
        now = self._clock()
        known = self._resolved.get((host, port))
        if known is not None and known[0] > now:
            return known[1]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as exc:  # UnicodeError: no name that DNS could hold
            raise UpstreamConnectError(f"the name {host} could not be resolved: {_reason(exc)}") from exc
        endpoints: list[Endpoint] = [(row[0], str(row[4][0]), int(row[4][1])) for row in found]
        if len(self._resolved) >= _RESOLVED_MAX:
            self._resolved.clear()
        self._resolved[host, port] = (now + RESOLVED_S, endpoints)
        return endpoints

    async def _connect_socket(self, family: int, ip: str, port: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
            address, own_port = sock.getsockname()[:2]
            self._ends[address, own_port] = sock
        except BaseException:
            sock.close()
            raise
        return sock

    async def _through_proxy(self, proxy: "_ProxyHop", host: str, port: int, *, private_ok: bool) -> socket.socket:
        """The proxy resolves the name, so only a literal address can be checked here."""
        try:
            literal = ip_address(host)
        except ValueError:
            pass
        else:
            self.guard.check(host, literal, port, private_ok=private_ok)
        sock = await self._dial(proxy.host, proxy.port, None, private_ok=True)
        try:
            await proxy.open(sock, host, port)
        except BaseException:
            sock.close()
            raise
        return sock


class _ProxyHop:
    """CONNECT through a corporate proxy (RFC 9110 section 9.3.6)."""

    def __init__(self, settings: ProxyUrl) -> None:
        self.host = settings.host
        self.port = settings.port
        self._authorization = settings.authorization

    async def open(self, sock: socket.socket, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name = authority.encode("ascii")
        await loop.sock_sendall(
            sock, b"CONNECT " + name + b" HTTP/1.1\r\nhost: " + name + b"\r\n" + self._credential() + b"\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = await loop.sock_recv(sock, 1)  # never a byte of what follows the head
            if not byte or len(head) > _PROXY_HEAD_BYTES:
                raise UpstreamConnectError(
                    f"the proxy {self.host}:{self.port} closed instead of answering CONNECT {authority}"
                )
            head += byte
        self._check(head, authority)

    def _credential(self) -> bytes:
        secret = self._authorization
        return b"" if secret is None else b"proxy-authorization: " + secret.expose() + b"\r\n"

    def _check(self, head: bytes, authority: str) -> None:
        status = head.split(b" ", 2)[1:2]
        if not status or not status[0][:3].isdigit() or not status[0].startswith(b"2"):
            shown = status[0][:3].decode("latin-1") if status else "nothing"
            raise UpstreamConnectError(f"the proxy {self.host}:{self.port} refused CONNECT {authority} with {shown}")


def _reason(exc: Exception | None) -> str:
    if isinstance(exc, socket.gaierror):
        return exc.strerror or "no such name"
    if isinstance(exc, UnicodeError):
        return "it is no host name"
    if isinstance(exc, OSError) and exc.errno:
        return os.strerror(exc.errno).lower()
    return "no address answered" if exc is None else type(exc).__name__
