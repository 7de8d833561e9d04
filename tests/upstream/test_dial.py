"""Dialling on real loopback sockets: addresses are checked, deadlines hold, a corporate proxy is gone through."""

import asyncio
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from outrider.errors import DestinationDeniedError, UpstreamConnectError, UpstreamTimeoutError
from outrider.secrets.secret import Secret
from outrider.upstream.dial import RESOLVED_S, Dialer
from outrider.upstream.guard import AddressGuard
from support.wire import Peer, Provider


@pytest.fixture
async def server(no_leaked_tasks: None) -> AsyncIterator[Provider]:
    async with Provider() as one:
        yield one


def dialer(**more: Any) -> Dialer:
    return Dialer(AddressGuard(), connect_s=more.pop("connect_s", 5.0), **more)


async def test_a_connection_is_ready_to_use(server: Provider) -> None:
    sock = await dialer().connect("127.0.0.1", server.port, private_ok=True)
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.get_inheritable()
    near, far = Peer(sock), await server.accept()
    await near.send(b"hello")
    assert await far.exactly(5) == b"hello"
    near.close()


async def test_a_name_that_resolves_to_a_private_address_is_refused_and_nothing_is_dialled(server: Provider) -> None:
    with pytest.raises(DestinationDeniedError, match="localhost resolves to the private address"):
        await dialer().connect("localhost", server.port, private_ok=False)
    assert not server.has_caller()


async def test_the_given_address_is_dialled_for_the_name_and_checked(server: Provider) -> None:
    sock = await dialer().connect("api.example", server.port, private_ok=True, address="127.0.0.1")
    sock.close()
    with pytest.raises(DestinationDeniedError, match=r"api\.example resolves to a metadata service"):
        await dialer().connect("api.example", 80, private_ok=True, address="169.254.169.254")


async def test_a_closed_port_is_a_sentence() -> None:
    async with Provider() as gone:
        port = gone.port
    with pytest.raises(UpstreamConnectError, match=f"^connecting to 127.0.0.1:{port} failed: connection refused$"):
        await dialer().connect("127.0.0.1", port, private_ok=True)


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a" * 64 + ".example", "xn--\udcff.example"])
async def test_a_name_that_cannot_be_resolved_is_a_sentence(name: str) -> None:
    with pytest.raises(UpstreamConnectError, match="could not be resolved"):
        await dialer().connect(name, 443, private_ok=True)


async def test_every_address_is_tried_in_order(server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    one = dialer()
    async with Provider() as gone:
        dead = gone.port

    async def resolve(host: str, port: int) -> list[tuple[int, str, int]]:
        return [(socket.AF_INET, "127.0.0.1", dead), (socket.AF_INET, "127.0.0.1", server.port)]

    monkeypatch.setattr(one, "resolve", resolve)
    sock = await one.connect("two.example", 443, private_ok=True)
    assert sock.getpeername()[1] == server.port
    sock.close()


async def test_names_are_remembered_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    one = dialer(clock=lambda: now[0])
    asked = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(asyncio, "get_running_loop", lambda: SimpleNamespace(getaddrinfo=getaddrinfo))
    for seconds in (0.0, RESOLVED_S - 1, RESOLVED_S + 1):
        now[0] = seconds
        assert await one.resolve("h.example", 443) == [(socket.AF_INET, "192.0.2.1", 443)]
    assert asked == ["h.example", "h.example"]


async def test_a_peer_that_never_answers_is_a_timeout(server: Provider) -> None:
    """The proxy accepts and says nothing; the deadline covers every step."""
    one = dialer(connect_s=0.05, proxy=SimpleNamespace(host="127.0.0.1", port=server.port, authorization=None))
    with pytest.raises(UpstreamTimeoutError, match=r"^connecting to api.example:443 took longer than 0.05 s$"):
        await one.connect("api.example", 443, private_ok=False)


# -- a corporate proxy


async def through(server: Provider, answer: bytes, *, secret: bytes | None = None, host: str = "api.example") -> Any:
    """(what the proxy was sent, the socket or the error)."""
    settings = SimpleNamespace(
        host="127.0.0.1", port=server.port, authorization=Secret(secret) if secret is not None else None
    )
    task = asyncio.get_running_loop().create_task(dialer(proxy=settings).connect(host, 443, private_ok=False))
    far = await server.accept()
    head = await far.head()
    await far.send(answer)
    if not answer.startswith(b"HTTP/1.1 2"):
        far.close()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return head, result


async def test_the_proxy_is_asked_to_connect_and_no_byte_after_its_head_is_eaten(server: Provider) -> None:
    head, sock = await through(server, b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nserver speaks first")
    assert head == b"CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n\r\n"
    near = Peer(sock)
    assert await near.exactly(19) == b"server speaks first"
    near.close()


async def test_the_proxy_gets_its_credential_and_ipv6_its_brackets(server: Provider) -> None:
    head, sock = await through(
        server, b"HTTP/1.0 200 OK\r\n\r\n".replace(b"1.0", b"1.1"), secret=b"Basic dTpw", host="2606:4700::1"
    )
    assert head.startswith(b"CONNECT [2606:4700::1]:443 HTTP/1.1\r\n")
    assert b"proxy-authorization: Basic dTpw\r\n" in head
    sock.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Auth\r\n\r\n", b"HTTP/1.1 403 No\r\n\r\n", b"rubbish\r\n\r\n", b"", b"x" * 20000]
)
async def test_a_proxy_that_refuses_is_a_sentence_without_its_credential(server: Provider, answer: bytes) -> None:
    _, error = await through(server, answer, secret=b"Basic dTpw")
    assert isinstance(error, UpstreamConnectError)
    assert f"the proxy 127.0.0.1:{server.port}" in str(error)
    assert "dTpw" not in str(error)


async def test_what_config_names_is_dialled_directly(server: Provider) -> None:
    one = dialer(proxy=SimpleNamespace(host="127.0.0.1", port=1, authorization=None))
    sock = await one.connect("127.0.0.1", server.port, private_ok=True, direct=True)
    sock.close()


async def test_a_literal_private_address_is_refused_before_the_proxy_is_asked(server: Provider) -> None:
    one = dialer(proxy=SimpleNamespace(host="127.0.0.1", port=server.port, authorization=None))
    with pytest.raises(DestinationDeniedError):
        await one.connect("10.0.0.1", 443, private_ok=False)
    assert not server.has_caller()


async def test_cancelling_closes_what_was_opened(server: Provider) -> None:
    settings = SimpleNamespace(host="127.0.0.1", port=server.port, authorization=None)
    task = asyncio.get_running_loop().create_task(dialer(proxy=settings).connect("api.example", 443, private_ok=False))
    far = await server.accept()
    await far.head()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await far.rest() == b""
