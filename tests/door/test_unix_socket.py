"""Listening on unix:PATH: the file's mode, stale files, the end; and a door behind it that never spins."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from door import hellos
from door.world import World, read_all, read_exactly
from outrider.door.contract import Deny
from outrider.door.listener import bind
from outrider.door.unix_socket import listen_unix, unix_credentials
from outrider.errors import StartError
from outrider.runtime import Sidecar
from support.running import KEY, local, running
from support.wire import Provider


def test_the_file_has_its_mode_and_goes_with_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    [sock] = bind([f"unix:{path}"], unix_mode=0o660)
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o660
    sock.close()
    assert not path.exists()
    sock.close()


def test_by_default_only_this_user_gets_in(tmp_path: Path) -> None:
    [sock] = bind([f"unix:{tmp_path / 's'}"])
    assert stat.S_IMODE((tmp_path / "s").lstat().st_mode) == 0o600
    sock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="Needs root to give a file to a group that is not ours.")
def test_the_file_has_its_group(tmp_path: Path) -> None:
    sock = listen_unix(tmp_path / "s", mode=0o660, group=54321, backlog=1)
    assert (tmp_path / "s").lstat().st_gid == 54321
    sock.close()
    with pytest.raises(StartError, match="no group 'nobody-has-this'"):
        listen_unix(tmp_path / "s", mode=0o660, group="nobody-has-this", backlog=1)


def test_a_dead_listeners_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    [sock] = bind([f"unix:{path}"])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    sock.close()


def test_a_living_listeners_file_is_not(tmp_path: Path) -> None:
    [sock] = bind([f"unix:{tmp_path / 's'}"])
    with pytest.raises(StartError, match="another program listens there"):
        bind([f"unix:{tmp_path / 's'}"])
    assert (tmp_path / "s").exists()
    sock.close()


def test_a_file_that_is_no_socket_is_not(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(StartError, match="no socket"):
        bind(["127.0.0.1:0", f"unix:{tmp_path / 's'}"])
    assert (tmp_path / "s").read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with pytest.raises(StartError, match="no socket"):
        bind([f"unix:{tmp_path / 'link'}"])


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no such file or directory; make its folder"):
        bind([f"unix:{tmp_path / 'none' / 's'}"])


def test_the_file_of_whoever_came_after_us_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    [sock] = bind([f"unix:{path}"])
    path.unlink()
    [next_one] = bind([f"unix:{path}"])
    sock.close()
    assert path.exists()
    next_one.close()


def test_the_peer_is_whoever_connected(tmp_path: Path) -> None:
    [sock] = bind([f"unix:{tmp_path / 's'}"])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        accepted, _ = sock.accept()
        with accepted:
            assert unix_credentials(accepted) == (os.getpid(), os.geteuid(), os.getegid())
    sock.close()


# -- a door behind it

CONNECT = b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n"


@pytest.fixture(name="world")
async def fixture_world() -> AsyncIterator[World]:
    one = World()
    yield one
    await one.close()


def arrive(world: World) -> socket.socket:
    client, ours = socket.socketpair()
    client.setblocking(False)
    world.clients.append(client)
    world.accepted.append(ours)
    world.proxy.handle(ours, "")
    return client


@pytest.mark.parametrize("cuts", [(1,), (3, 4, 5), (len(CONNECT) - 1,), tuple(range(1, len(CONNECT)))])
async def test_a_head_in_pieces_is_waited_for_without_spinning(world: World, cuts: tuple[int, ...]) -> None:
    """A Unix socket heeds no SO_RCVLOWAT: watched, it would wake the loop for as long as a byte lies there."""
    client = arrive(world)
    for start, end in zip((0, *cuts), (*cuts, len(CONNECT)), strict=True):
        client.send(CONNECT[start:end])
        await world.settle(20)
        world.clock.advance(0.005)
        await world.settle()
    assert (await read_exactly(client, 12)) == b"HTTP/1.1 200"
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    await world.settle(20)
    [(_, origin, _)] = world.host.served
    assert (origin.host, origin.peer) == ("api.openai.com", ("unix", os.getpid()))
    assert world.loop.wakeups <= 4


async def test_a_client_that_leaves_inside_its_head_is_let_go(world: World) -> None:
    client = arrive(world)
    client.send(CONNECT[:20])
    await world.settle()
    world.clock.advance(0.005)
    await world.settle()
    assert world.proxy.open_count == 1
    client.close()
    world.clock.advance(0.005)
    await world.settle()
    assert world.proxy.open_count == 0
    assert world.loop.wakeups <= 4


async def test_a_client_that_stalls_inside_its_head_meets_the_deadline(world: World) -> None:
    client = arrive(world)
    client.send(CONNECT[:20])
    await world.settle()
    for _ in range(12):
        world.clock.advance(1.0)
        await world.settle()
    assert (await read_exactly(client, 12)) == b"HTTP/1.1 408"
    client.close()
    await world.settle(20)


# -- who calls, as the door asks and says


async def test_the_kernel_is_asked_about_the_socket_that_was_redirected(world: World) -> None:
    plain = world.arrive(world.proxy, b"GET / HTTP/1.1\r\n")
    redirected = world.arrive(world.transparent, b"GET / HTTP/1.1\r\n")
    assert world.host.asked == [(plain.getsockname(), None), (redirected.getsockname(), ("203.0.113.7", 443))]
    assert world.host.served[0][1].caller is not world.host.served[1][1].caller


async def test_a_refused_token_is_a_407_that_asks_for_one(world: World) -> None:
    world.host.token_refusal = Deny("proxy_token_refused", 407, "Not you.")
    client = world.arrive(world.proxy, CONNECT.replace(b"\r\n\r\n", b"\r\nProxy-Authorization: Basic eA==\r\n\r\n"))
    answer = await read_all(client)
    assert answer.startswith(b'HTTP/1.1 407 Not you.\r\nproxy-authenticate: Basic realm="outrider"\r\n')
    assert world.host.tokens == [b"Basic eA=="]
    assert not world.host.dialled


async def test_a_caller_who_may_have_no_tunnel_gets_none_on_any_way(world: World) -> None:
    world.host.tunnel_refusal = Deny("principal_required", 401, "Who are you?")
    client = world.arrive(world.proxy, b"CONNECT other.example:443 HTTP/1.1\r\nhost: other.example\r\n\r\n")
    assert (await read_all(client)).startswith(b"HTTP/1.1 401 Who are you?")
    client = world.arrive(world.transparent, hellos.hello(b"other.example"))
    assert (await read_all(client))[5:7] == bytes((2, 49))  # fatal, access_denied
    client = world.arrive(world.transparent, b"\x00\x01 something else")
    with pytest.raises(ConnectionResetError):  # what it sent was not read
        await read_all(client)
    assert not world.host.dialled
    assert not world.host.tunnels


# -- the whole sidecar


async def ask(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head


async def test_a_sidecar_on_unix_sockets_alone_serves_and_leaves_nothing(tmp_path: Path) -> None:
    proxy, admin = tmp_path / "proxy", tmp_path / "admin"
    listen = {"proxy": f"unix:{proxy}", "admin": f"unix:{admin}"}
    sidecar: Sidecar
    async with Provider() as provider:
        keyed = local(provider.url, credential={"env": "OPENAI_API_KEY"})
        async with running(tmp_path, keyed, listen=listen) as sidecar:
            assert sidecar.proxy_paths == [str(proxy)]
            assert (await ask(admin, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert (await ask(admin, b"GET / HTTP/1.1\r\nhost: evil\r\n\r\n")).startswith(b"HTTP/1.1 421 ")
            key = sidecar.placeholder.value.encode()
            request = b"GET /local/v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + key + b"\r\n\r\n"
            asked = asyncio.ensure_future(ask(proxy, request))
            behind = await provider.accept()
            head = await behind.head()
            await behind.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert (await asked).startswith(b"HTTP/1.1 204 ")
            behind.close()
            assert KEY.encode() in head
            assert (await ask(proxy, b"GET /local/v1/models HTTP/1.1\r\nhost: evil\r\n\r\n"))[9:12] == b"421"
    assert not proxy.exists()
    assert not admin.exists()
