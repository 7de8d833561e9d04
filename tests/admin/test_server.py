"""The admin port: who may ask, and what it says."""

import socket
from collections.abc import AsyncIterator

import pytest

from outrider.admin.server import AdminServer
from support.wire import connect

PEM = b"-----BEGIN CERTIFICATE-----\n"


class World:
    ready = True
    port = 0

    async def ask(self, path: str = "/healthz", *fields: str, host: str | None = None) -> tuple[int, bytes]:
        """(status, body)."""
        shown = f"127.0.0.1:{self.port}" if host is None else host
        peer = await connect(("127.0.0.1", self.port))
        lines = "".join(f"{line}\r\n" for line in (f"Host: {shown}", *fields, "Connection: close"))
        await peer.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        head, body = await peer.answer()
        peer.close()
        return int(head.split()[1]), body


@pytest.fixture
async def world(no_leaked_tasks: None) -> AsyncIterator[World]:
    world, sock = World(), socket.create_server(("127.0.0.1", 0))
    world.port = sock.getsockname()[1]
    server = AdminServer([sock], metrics=lambda: b"m 1\n", ca_pem=PEM, is_ready=lambda: world.ready)
    await server.start()
    yield world
    await server.close()


async def test_health_metrics_and_the_certificate(world: World) -> None:
    assert await world.ask("/healthz") == (200, b"ok\n")
    assert await world.ask("/metrics") == (200, b"m 1\n")
    assert await world.ask("/ca.pem") == (200, PEM)
    status, index = await world.ask("/")
    assert status == 200
    assert b"/metrics" in index
    assert (await world.ask("/nothing"))[0] == 404


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"OPTIONS"])
async def test_pages_are_only_read(world: World, method: bytes) -> None:
    peer = await connect(("127.0.0.1", world.port))
    await peer.send(method + b" /metrics HTTP/1.1\r\nhost: localhost:%d\r\ncontent-length: 2\r\n\r\nhi" % world.port)
    head, _ = await peer.answer()
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: GET, HEAD\r\n" in head
    peer.close()


async def test_one_connection_asks_many_times_and_head_has_no_body(world: World) -> None:
    peer = await connect(("127.0.0.1", world.port))
    for method in (b"HEAD", b"GET", b"HEAD", b"GET"):
        await peer.send(method + b" /healthz HTTP/1.1\r\nhost: localhost:%d\r\n\r\n" % world.port)
        head = await peer.head() if method == b"HEAD" else (await peer.answer())[0]
        assert b"\r\ncontent-length: 3\r\n" in head
    peer.close()


async def test_what_is_no_http_is_refused_and_closed(world: World) -> None:
    peer = await connect(("127.0.0.1", world.port))
    await peer.send(b"\x16\x03\x01garbage\r\n\r\n")
    assert (await peer.rest()).startswith(b"HTTP/1.1 ")
    peer.close()


async def test_ready_says_when_it_drains(world: World) -> None:
    assert (await world.ask("/readyz"))[0] == 200
    world.ready = False
    assert await world.ask("/readyz") == (503, b"draining\n")
    assert (await world.ask("/healthz"))[0] == 200


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
async def test_its_own_names_are_answered(world: World, host: str) -> None:
    assert (await world.ask(host=host.format(port=world.port)))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:1", "127.0.0.1.evil.example:{port}"],
)
async def test_foreign_names_are_misdirected(world: World, host: str) -> None:
    for path in ("/healthz", "/metrics", "/nothing"):
        assert (await world.ask(path, host=host.format(port=world.port)))[0] == 421


@pytest.mark.parametrize(
    "field", ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
)
async def test_web_pages_are_refused(world: World, field: str) -> None:
    assert (await world.ask("/metrics", field))[0] == 403
