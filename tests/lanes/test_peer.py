"""Whether a client that sent FIN still reads, asked of the kernel about real sockets."""

import socket
from collections.abc import Iterator

import pytest

from outrider.lanes.peer import is_gone


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(ours, the client's)."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((request.param, 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname()[:2])
        ours, _ = listener.accept()
    with ours, client:
        yield ours, client


def test_a_client_that_is_there_or_half_closed_is_not_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    assert not is_gone(ours)
    client.shutdown(socket.SHUT_WR)
    assert ours.recv(1) == b""
    assert not is_gone(ours)


def test_a_client_that_closed_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    client.close()
    assert ours.recv(1) == b""
    assert is_gone(ours)


def test_a_client_that_reset_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    assert is_gone(ours)


def test_a_socket_that_is_closed_itself_has_nobody() -> None:
    sock = socket.socket()
    sock.close()
    assert is_gone(sock)


def test_an_ipv4_client_of_an_ipv6_listener_is_found() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen(1)
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        ours, _ = listener.accept()
    with ours, client:
        client.shutdown(socket.SHUT_WR)
        assert ours.recv(1) == b""
        assert not is_gone(ours)
        client.close()
        assert is_gone(ours)


def test_the_peer_of_a_unix_socket_is_believed_to_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not is_gone(ours)
