"""The admin port: health, metrics, the CA's certificate; and, for who shows the token, what changes something.

Whoever is refused (another name in Host, a page of another origin, a method that would change something) is told of by
`on_refused(status=, error=, message=)`.

Rules: answers only to its own name in Host (a web page that rebinds DNS reaches loopback too) and to no page of another
origin; what changes something is a POST of a small JSON object, and is read after the token was; neither health nor
readiness waits for a provider. It is served by the relay's own connections: a web framework for a few pages would be a
fifth of the sidecar's memory.
Does not know: exchanges with providers.
"""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import orjson

from outrider.admin.token import AdminToken
from outrider_ext import http1
from outrider_ext.relay import Downstream, Exchange, Hub, Owner

H_HOST = http1.header_id(b"host")
H_ORIGIN = http1.header_id(b"origin")
H_FETCH_SITE = http1.header_id(b"sec-fetch-site")
H_AUTHORIZATION = http1.header_id(b"authorization")
_KEY = re.compile("[0-9a-f]{64}")
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_CHANGE_BYTES = 65_536  # of a change's body
_SWEEP_S = 1.0
_INDEX = """outrider admin
/healthz   the process is alive
/readyz    the listeners are open
/metrics   Prometheus
/ca.pem    the certificate that intercepted apps have to trust
/api/v1/cache/invalidate   POST {"all": true}, or "key", "model", "principal": forget answers; needs the token
"""

type Page = tuple[int, str, bytes | Awaitable[bytes]]  # status, content type, body
type Change = Callable[[dict[str, Any]], int | Awaitable[int]]  # how many went; raises ValueError with a sentence


def _none(asked: dict[str, Any]) -> int:
    return 0


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
        token: AdminToken | None = None,
        forget: Change = _none,
    ) -> None:
        self._sockets = list(sockets)
        changes: dict[bytes, Change] = {b"/api/v1/cache/invalidate": lambda asked: forget(wanted_of(asked))}
        pages: dict[bytes, Callable[[], Page]] = {
            b"/": lambda: (200, _TEXT, _INDEX.encode()),
            b"/healthz": lambda: (200, _TEXT, b"ok\n"),
            b"/readyz": lambda: _readiness(is_ready(), trouble()),
            b"/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics()),
            b"/ca.pem": lambda: (200, "application/x-pem-file", ca_pem),
        }
        self._owner = _Pages(pages, changes, token, _own_names(self._sockets), _ports(self._sockets), on_refused)
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


def wanted_of(asked: dict[str, Any]) -> dict[str, Any]:
    """What is to be forgotten, {} for all.

    asked: {"all": true}, or "key" (hex) alone, or "model" and "principal", both of which have to hold.
    Raises: ValueError with the end of a sentence.
    """
    if asked == {"all": True}:
        return {}
    if not asked or set(asked) - {"key", "model", "principal"}:
        raise ValueError('needs {"all": true}, or one or more of "key", "model" and "principal"')
    if not all(isinstance(value, str) and value for value in asked.values()):
        raise ValueError("key, model and principal are text")
    if "key" in asked and (len(asked) > 1 or not _KEY.fullmatch(asked["key"])):
        raise ValueError("a key stands alone, and is 64 hex digits")
    return asked


def _readiness(is_ready: bool, trouble: str) -> Page:
    """trouble: what hinders, or is only to be known, in a sentence."""
    said = f"{trouble}\n" if trouble else "" if is_ready else "draining\n"
    return (200, _TEXT, f"ready\n{said}".encode()) if is_ready else (503, _TEXT, said.encode())


class _Pages(Owner):
    """Answers every request at once, but for a page that has to be asked for elsewhere."""

    def __init__(
        self,
        pages: dict[bytes, Callable[[], Page]],
        changes: dict[bytes, Change],
        token: AdminToken | None,
        names: frozenset[str],
        ports: set[str],
        on_refused: Callable[..., None],
    ) -> None:
        self._on_refused = on_refused
        self._pages = pages
        self._changes = changes
        self._token = token
        self._names = names
        self._ports = ports
        self._tasks: set[asyncio.Task[None]] = set()

    def on_request(self, x: Exchange) -> None:
        page = self._page(x)
        if page is not None:
            self._give(x, page)
        elif x.body_complete:
            self.on_body(x)
        else:
            x.hold(_CHANGE_BYTES)

    def on_body(self, x: Exchange) -> None:
        """A change that may be made."""
        self._give(x, self._changed(x))

    def _give(self, x: Exchange, page: Page) -> None:
        status, kind, body = page
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
        is_change = x.target.partition(b"?")[0] in self._changes
        lines += ("allow: POST\r\n" if is_change else "allow: GET, HEAD\r\n") if status == 405 else ""
        lines += "www-authenticate: Bearer\r\n" if status == 401 else ""
        lines += "connection: close\r\n" if x.must_close else ""
        x.answer(lines.encode("ascii") + b"\r\n" + (b"" if x.method == b"HEAD" else body), status)

    def _page(self, x: Exchange) -> Page | None:
        """None for a change that may be made, once its body is there."""
        if not self._is_own_name((x.head.get(H_HOST) or b"").decode("latin-1").lower()):
            return self._refused(421, "host", "This port answers to its own name only.")
        if x.head.get(H_ORIGIN) is not None or x.head.get(H_FETCH_SITE) in (b"cross-site", b"same-site"):
            return self._refused(403, "origin", "Web pages of another origin may not ask here.")
        path = x.target.partition(b"?")[0]
        if path in self._changes:
            return self._refusal(x)
        page = self._pages.get(path)
        if page is None:
            return 404, _TEXT, b"There is no such page; / lists them.\n"
        if x.method not in (b"GET", b"HEAD"):
            return self._refused(405, "method", "Pages here are only read.")
        return page()

    def _refused(self, status: int, what: str, sentence: str) -> Page:
        """Told by what it was refused for, and with nothing that the caller chose."""
        self._on_refused(status=status, error=f"admin_{what}", message=sentence)
        return status, _TEXT, f"{sentence}\n".encode()

    def _refusal(self, x: Exchange) -> Page | None:
        if x.method != b"POST":
            return self._refused(405, "method", "This changes something: POST it.")
        if self._token is None:
            return 404, _TEXT, b"There is nothing to change here.\n"
        if not self._token.is_shown_in(x.head.get(H_AUTHORIZATION)):
            return self._refused(
                401, "token", f"This needs `authorization: Bearer` and the token that stands in {self._token.path}."
            )
        return None

    def _changed(self, x: Exchange) -> Page:
        if x.body is None or len(x.body) > _CHANGE_BYTES:
            return 413, _TEXT, b"The body is too large.\n"
        try:
            asked = orjson.loads(x.body)
            if not isinstance(asked, dict):
                raise ValueError("is no JSON object")
            count = self._changes[x.target.partition(b"?")[0]](asked)
        except ValueError as exc:
            return 400, _TEXT, f"The body {exc}.\n".encode("utf-8", "replace")
        return 200, _JSON, _told(count)

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


async def _told(count: int | Awaitable[int]) -> bytes:
    return orjson.dumps({"forgotten": count if isinstance(count, int) else await count}) + b"\n"


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
