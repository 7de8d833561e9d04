"""The admin port: health, metrics, the CA's certificate. Nothing here changes anything, so nothing needs a token.

Whoever is refused (another name in Host, a page of another origin, a method that would change something) is told of by
`on_refused(status=, error=, message=)`.

Rules: answers only to its own name in Host (a web page that rebinds DNS reaches loopback too) and to no page of another
origin; neither health nor readiness waits for a provider. It is served by the relay's own connections: a web framework
for five pages would be a fifth of the sidecar's memory.
Does not know: exchanges with providers.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from outrider_ext import http1
from outrider_ext.relay import Downstream, Exchange, Hub, Owner

H_HOST = http1.header_id(b"host")
H_ORIGIN = http1.header_id(b"origin")
H_FETCH_SITE = http1.header_id(b"sec-fetch-site")
_TEXT = "text/plain; charset=utf-8"
_SWEEP_S = 1.0
_INDEX = """outrider admin
/healthz   the process is alive
/readyz    the listeners are open
/metrics   Prometheus
/ca.pem    the certificate that intercepted apps have to trust
"""

type Page = tuple[int, str, bytes | Awaitable[bytes]]  # status, content type, body


class AdminServer:
    """start() binds nothing: the sockets are handed in, so that a port in use is said before anything runs."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        metrics: Callable[[], bytes | Awaitable[bytes]],
        ca_pem: bytes,
        is_ready: Callable[[], bool],
        trouble: Callable[[], str] = lambda: "",
        on_refused: Callable[..., None] = lambda **about: None,
    ) -> None:
        self._sockets = list(sockets)
        pages: dict[bytes, Callable[[], Page]] = {
            b"/": lambda: (200, _TEXT, _INDEX.encode()),
            b"/healthz": lambda: (200, _TEXT, b"ok\n"),
            b"/readyz": lambda: _readiness(is_ready(), trouble()),
            b"/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics()),
            b"/ca.pem": lambda: (200, "application/x-pem-file", ca_pem),
        }
        self._owner = _Pages(pages, _own_names(self._sockets), _ports(self._sockets), on_refused)
        self._servers: list[asyncio.Server] = []
        self._hub: Hub | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._hub = hub = Hub(self._owner, loop)
        for sock in self._sockets:
            create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await create(lambda: Downstream(hub, None), sock=sock))
        self._sweep()

    def _sweep(self) -> None:
        if self._hub is not None:
            self._hub.sweep(time.monotonic_ns())
            self._sweeper = self._hub.loop.call_later(_SWEEP_S, self._sweep)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._owner.close()
        for server in self._servers:
            server.close()
        if self._hub is not None:
            self._hub.drain()
            self._hub.abort_all()
        for server in self._servers:
            await server.wait_closed()
        for sock in self._sockets:
            sock.close()


def _readiness(is_ready: bool, trouble: str) -> Page:
    """trouble: what hinders, or is only to be known, in a sentence."""
    said = f"{trouble}\n" if trouble else "" if is_ready else "draining\n"
    return (200, _TEXT, f"ready\n{said}".encode()) if is_ready else (503, _TEXT, said.encode())


class _Pages(Owner):
    """Answers every request at once, but for a page that has to be asked for elsewhere."""

    def __init__(
        self,
        pages: dict[bytes, Callable[[], Page]],
        names: frozenset[str],
        ports: set[str],
        on_refused: Callable[..., None],
    ) -> None:
        self._on_refused = on_refused
        self._pages = pages
        self._names = names
        self._ports = ports
        self._tasks: set[asyncio.Task[None]] = set()

    def on_request(self, x: Exchange) -> None:
        status, kind, body = self._page(x)
        if isinstance(body, bytes):
            self._answer(x, status, kind, body)
            return
        task = asyncio.get_running_loop().create_task(self._answer_later(x, status, kind, body), name="admin page")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, x: Exchange, status: int, kind: str, body: Awaitable[bytes]) -> None:
        self._answer(x, status, kind, await body)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _answer(self, x: Exchange, status: int, kind: str, body: bytes) -> None:
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        )
        lines += "allow: GET, HEAD\r\n" if status == 405 else ""
        lines += "connection: close\r\n" if x.must_close else ""
        x.answer(lines.encode("ascii") + b"\r\n" + (b"" if x.method == b"HEAD" else body), status)

    def _page(self, x: Exchange) -> Page:
        if not self._is_own_name((x.head.get(H_HOST) or b"").decode("latin-1").lower()):
            return self._refused(421, "host", "This port answers to its own name only.")
        if x.head.get(H_ORIGIN) is not None or x.head.get(H_FETCH_SITE) in (b"cross-site", b"same-site"):
            return self._refused(403, "origin", "Web pages of another origin may not ask here.")
        page = self._pages.get(x.target.partition(b"?")[0])
        if page is None:
            return 404, _TEXT, b"There is no such page; / lists them.\n"
        if x.method not in (b"GET", b"HEAD"):
            return self._refused(405, "method", "Pages here are only read.")
        return page()

    def _refused(self, status: int, what: str, sentence: str) -> Page:
        """Told by what it was refused for, and with nothing that the caller chose."""
        self._on_refused(status=status, error=f"admin_{what}", message=sentence)
        return status, _TEXT, f"{sentence}\n".encode()

    def _is_own_name(self, host: str) -> bool:
        """A name of ours, or an address: a page that rebinds DNS has to ask by name."""
        if host in self._names:
            return True
        name, colon, port = host.rpartition(":")
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return bool(colon) and port in self._ports


def _ports(sockets: Sequence[socket.socket]) -> set[str]:
    return {str(sock.getsockname()[1]) for sock in sockets if sock.family != socket.AF_UNIX}


def _own_names(sockets: Sequence[socket.socket]) -> frozenset[str]:
    names = set()
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            names.add("localhost")  # no web page reaches it
            continue
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        names |= {f"{name}:{port}" for name in (shown, "localhost", "127.0.0.1", "[::1]")}
    return frozenset(names)
