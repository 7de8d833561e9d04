"""The admin port: health, metrics, the CA's certificate. Nothing here changes anything, so nothing needs a token.

Rules: answers only to its own name in Host (a web page that rebinds DNS reaches loopback too) and to no page of another
origin; neither health nor readiness waits for a provider.
Does not know: exchanges.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from aiohttp import web

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_INDEX = """outrider admin
/healthz   the process is alive
/readyz    the listeners are open
/metrics   Prometheus
/ca.pem    the certificate that intercepted apps have to trust
"""


class AdminServer:
    """start() binds nothing: the sockets are handed in, so that a port in use is said before anything runs."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        metrics: Callable[[], bytes],
        ca_pem: bytes,
        is_ready: Callable[[], bool],
    ) -> None:
        self._sockets = list(sockets)
        self._metrics = metrics
        self._ca_pem = ca_pem
        self._is_ready = is_ready
        self._names = _own_names(self._sockets)
        self._ports = {str(sock.getsockname()[1]) for sock in self._sockets}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._exposition),
                web.get("/ca.pem", self._certificate),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        for sock in self._sockets:
            await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for sock in self._sockets:
            sock.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_own_name(request.headers.get("Host", "").lower()):
            return web.Response(status=421, text="This port answers to its own name only.\n")
        if request.headers.get("Origin") is not None or request.headers.get("Sec-Fetch-Site") in (
            "cross-site",
            "same-site",
        ):
            return web.Response(status=403, text="Web pages of another origin may not ask here.\n")
        return await handler(request)

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

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._is_ready()
        return web.Response(status=200 if ready else 503, text="ready\n" if ready else "draining\n")

    async def _exposition(self, request: web.Request) -> web.Response:
        body = self._metrics()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _certificate(self, request: web.Request) -> web.Response:
        return web.Response(body=self._ca_pem, content_type="application/x-pem-file")


def _own_names(sockets: Sequence[socket.socket]) -> frozenset[str]:
    names = set()
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        names |= {f"{name}:{port}" for name in (shown, "localhost", "127.0.0.1", "[::1]")}
    return frozenset(names)
