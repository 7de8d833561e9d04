"""The app tries to reach what it may not: metadata services, private addresses, the sidecar itself."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from attacks.attack_rig import SECRET, Recorder, ask, bearer, guarded, key_of
from outrider.door.contract import Origin
from outrider.runtime import Sidecar
from support.running import running, total

METADATA = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::a9fe:a9fe",
    "fd00:ec2::254",
    "169.254.170.2",
    "100.100.100.200",
]
NEVER = [*METADATA, "0.0.0.0", "::", "224.0.0.1", "ff02::1", "169.254.1.1", "fe80::1", "255.255.255.255"]
PRIVATE = [
    "127.0.0.1",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd12::1",
    "::ffff:10.0.0.1",
    "2002:0a00:0001::1",
]


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sidecar, str], None]:
    """Let every name of this sidecar resolve to one address."""

    def begin(sidecar: Sidecar, address: str) -> None:
        async def resolve(host: str, port: int) -> list[Any]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [(family, address, port)]

        monkeypatch.setattr(sidecar.snapshot.dialer, "resolve", resolve)

    return begin


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, {}, listen={"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}) as one:
        yield one


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, {}, egress={"private": "deny"}) as one:
        yield one


def shown(address: str) -> bytes:
    return (f"[{address}]" if ":" in address else address).encode()


async def assert_unreachable(sidecar: Sidecar, authority: bytes) -> None:
    head = await ask(sidecar, b"", connect=authority)
    assert head.startswith(b"HTTP/1.1 403"), head
    head = await ask(sidecar, b"GET http://" + authority + b"/ HTTP/1.1\r\nhost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403"), head
    assert total(sidecar, "outrider_connections_upstream_opened") == 0


@pytest.mark.parametrize("address", NEVER)
async def test_metadata_and_link_local_are_never_reached_as_an_address(sidecar: Sidecar, address: str) -> None:
    await assert_unreachable(sidecar, shown(address) + b":80")


@pytest.mark.parametrize("address", NEVER)
async def test_metadata_and_link_local_are_never_reached_by_a_name(
    sidecar: Sidecar, resolving: Callable[[Sidecar, str], None], address: str
) -> None:
    resolving(sidecar, address)
    await assert_unreachable(sidecar, b"innocent.example:80")


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_not_reached_where_config_denies_them(
    strict: Sidecar, resolving: Callable[[Sidecar, str], None], address: str
) -> None:
    await assert_unreachable(strict, shown(address) + b":80")
    resolving(strict, address)
    await assert_unreachable(strict, b"innocent.example:80")


@pytest.mark.parametrize("address", ["10.1.2.3", "127.0.0.1", "169.254.169.254"])
async def test_a_providers_name_that_resolves_to_a_private_address_is_not_called(
    sidecar: Sidecar, resolving: Callable[[Sidecar, str], None], address: str
) -> None:
    """Even where tunnels may go there: a client's key would travel."""
    resolving(sidecar, address)
    request = b"GET /v1/models HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer own\r\n\r\n"
    assert (await ask(sidecar, request, connect=b"api.openai.com:80")).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "name", [b"localhost", b"127.0.0.1", b"LOCALHOST.", b"[::1]", b"[::ffff:127.0.0.1]", b"self.example"]
)
async def test_the_sidecar_is_not_reached_through_itself(
    tmp_path: Path, resolving: Callable[[Sidecar, str], None], name: bytes
) -> None:
    listen = {"proxy": ["127.0.0.1:0", "[::1]:0"], "admin": "127.0.0.1:0"}
    async with running(tmp_path, {}, listen=listen) as sidecar:
        for host, port in sidecar.proxy_addresses + sidecar.admin_addresses:
            if name == b"self.example":
                resolving(sidecar, host)
            elif (":" in host) != (name == b"[::1]") and not name.lower().startswith(b"localhost"):
                continue
            await assert_unreachable(sidecar, name + b":%d" % port)


async def test_a_sidecar_on_all_addresses_knows_itself_under_each(tmp_path: Path) -> None:
    own = _address_of_this_machine()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    listen = {"proxy": "0.0.0.0:0", "admin": "0.0.0.0:0"}
    async with running(tmp_path, {}, listen=listen) as sidecar:
        for _, port in sidecar.proxy_addresses + sidecar.admin_addresses:
            for host in (own, "127.0.0.1", "127.7.7.7"):
                await assert_unreachable(sidecar, f"{host}:{port}".encode())


def _address_of_this_machine() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(sock.getsockname()[0])
    return None if address.startswith("127.") else address


@pytest.mark.parametrize(
    "authority",
    [
        b"2130706433:80", b"0x7f000001:80", b"0177.0.0.1:80", b"127.1:80", b"127.0.0.1.:80", b"[::1%25lo]:80",
        b"[::1]x:80", b"a..b:80", b"a b:80", b"-a:80", b"x@127.0.0.1:80", b"127.0.0.1:80:80", b"127.0.0.1:0",
        b"127.0.0.1:99999", b"127.0.0.1:+80", b"\xe2\x91\xa0.example:80", b"a%00b:80", b".",
    ],
)  # fmt: skip
async def test_a_second_spelling_of_an_address_is_a_bad_request(sidecar: Sidecar, authority: bytes) -> None:
    assert (await ask(sidecar, b"", connect=authority)).startswith(b"HTTP/1.1 400")
    head = await ask(sidecar, b"GET http://" + authority + b"/ HTTP/1.1\r\nhost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")


async def test_a_provider_is_not_reached_uninspected_inside_a_tunnel_to_another_host(sidecar: Sidecar) -> None:
    async with Recorder() as front:
        authority = b"127.0.0.1:%d" % front.port
        for request in (
            b"GET /v1/models HTTP/1.1\r\nhost: api.openai.com\r\n\r\n",
            b"GET http://api.openai.com/v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
            b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        ):
            assert not (await ask(sidecar, request, connect=authority)).startswith(b"HTTP/1.1 200 OK")
        assert front.requests == 0


@pytest.mark.parametrize("host", [b"evil.example:%d", b"localhost.:%d", b"127.0.0.1", b""])
async def test_the_admin_port_answers_to_no_other_name_and_to_no_page(sidecar: Sidecar, host: bytes) -> None:
    address = sidecar.admin_addresses[0]
    name = host % address[1] if b"%d" in host else host
    own = b"127.0.0.1:%d" % address[1]
    for fields, status in (
        (b"host: " + name, b"421"),
        (b"host: " + own + b"\r\norigin: http://" + own, b"403"),
        (b"host: " + own + b"\r\nsec-fetch-site: cross-site", b"403"),
        (b"host: " + own, b"200"),
    ):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /metrics HTTP/1.1\r\n" + fields + b"\r\nconnection: close\r\n\r\n")
        assert (await reader.read())[9:12] == status
        writer.close()
        await writer.wait_closed()


# -- redirected by iptables, plain HTTP: the packets' destination and Host may say different things


async def redirected(sidecar: Sidecar, address: str, port: int, data: bytes) -> bytes:
    """The answer to what a redirected client sends that called address:port."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    sidecar.serve_http(ours, Origin("transparent", "transparent", None, port, False, ("127.0.0.1", 1), address), None)
    try:
        await loop.sock_sendall(theirs, data)
        return await asyncio.wait_for(loop.sock_recv(theirs, 65536), 60)
    finally:
        theirs.close()


async def test_a_redirected_client_reaches_a_provider_by_name_and_all_else_by_address(tmp_path: Path) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nhost: %b\r\n%b\r\n"
    async with Recorder() as provider, Recorder() as evil, guarded(tmp_path, provider) as sidecar:
        for host in (b"api.openai.com", b"API.openai.com.", b"api.openai.com:80"):
            await redirected(sidecar, "127.0.0.1", 80, request % (host, bearer(sidecar)))
        assert (provider.requests, evil.requests) == (3, 0)
        assert provider.seen.count(SECRET) == 3
        for host in (b"api.openai.com:%d" % evil.port, b"innocent.example", b"169.254.169.254", b"api.openai.com:443"):
            answer = await redirected(sidecar, "127.0.0.1", evil.port, request % (host, bearer(sidecar)))
            assert answer[9:10] == b"4"
            await redirected(sidecar, "127.0.0.1", evil.port, request % (host, b""))
        assert evil.requests <= 4
        assert provider.requests == 3
        assert SECRET not in evil.seen
        assert key_of(sidecar) not in evil.seen
        answer = await redirected(sidecar, "169.254.169.254", 80, request % (b"innocent.example", b""))
        assert answer.startswith(b"HTTP/1.1 403")
        host, port = sidecar.proxy_addresses[0]
        answer = await redirected(sidecar, host, port, request % (b"innocent.example", b""))
        assert answer.startswith(b"HTTP/1.1 403")
