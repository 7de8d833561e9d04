"""Who holds the other end of a connection, by the kernel's tables: real sockets, other users in child processes."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.lanes.sock_diag import SockDiag, inode_in, is_local, question, read_answer

NOBODY_ELSES_UID = 54321
ROOT = os.geteuid() == 0


@pytest.fixture(name="diag")
def fixture_diag() -> Iterator[SockDiag]:
    diag = SockDiag()
    yield diag
    diag.close()


@contextmanager
def connected(family: int = socket.AF_INET, to: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket]]:
    """(client, accepted)"""
    host = "::" if family == socket.AF_INET6 and "ffff" in to else to
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((host, 0))
        listening.listen()
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.connect((to, listening.getsockname()[1]))
            accepted, _ = listening.accept()
            with accepted:
                yield client, accepted


@pytest.mark.parametrize(
    ("family", "to"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")]
)
def test_the_peer_of_a_loopback_connection_is_its_user(diag: SockDiag, family: int, to: str) -> None:
    with connected(family, to) as (_, accepted):
        for _ in range(3):
            assert diag.uid_of(accepted.getpeername(), accepted.getsockname()) == os.geteuid()


def test_a_dual_stack_client_of_an_ipv4_listener_is_found(diag: SockDiag) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", listening.getsockname()[1]))
        accepted, peer = listening.accept()
        with accepted:
            assert diag.uid_of(peer, accepted.getsockname()) == os.geteuid()


@pytest.mark.skipif(not ROOT, reason="Needs root to be another user in a child process.")
def test_the_socket_of_another_user_is_that_users(diag: SockDiag) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.setgroups([])
            os.setgid(NOBODY_ELSES_UID)
            os.setuid(NOBODY_ELSES_UID)
            sock = socket.socket()
            sock.connect(listening.getsockname())
            os.read(ours, 1)
            os._exit(0)
        os.close(ours)
        try:
            accepted, peer = listening.accept()
            with accepted:
                assert diag.uid_of(peer, accepted.getsockname()) == NOBODY_ELSES_UID
        finally:
            os.close(theirs)
            os.waitpid(child, 0)


def test_what_nobody_holds_has_no_owner(diag: SockDiag) -> None:
    """A closed end and TIME_WAIT stay in the tables, and their uid reads as root's."""
    with connected() as (client, accepted):
        peer, own = accepted.getpeername(), accepted.getsockname()
        client.close()
        assert diag.uid_of(peer, own) is None  # FIN_WAIT2
        accepted.close()
        assert diag.uid_of(peer, own) is None  # TIME_WAIT


def test_a_listener_at_the_peers_address_is_not_its_owner(diag: SockDiag) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert diag.uid_of(listening.getsockname(), ("127.0.0.1", 9)) is None


def test_what_was_never_there_has_no_owner(diag: SockDiag) -> None:
    assert diag.uid_of(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
    assert diag.uid_of(("203.0.113.9", 443), ("127.0.0.1", 8484)) is None


@pytest.mark.parametrize("broken", [(), ("x", 1), ("127.0.0.1",), ("127.0.0.1", -1), ("::1", 70000), (None, 1)])
def test_a_broken_address_has_no_owner_and_breaks_nothing(diag: SockDiag, broken: Any) -> None:
    assert diag.uid_of(broken, ("127.0.0.1", 2)) is None
    with connected() as (_, accepted):
        assert diag.uid_of(accepted.getpeername(), accepted.getsockname()) == os.geteuid()


def test_an_answer_to_an_earlier_question_is_not_taken(diag: SockDiag) -> None:
    with connected() as (_, one), connected() as (_, two):
        assert diag.uid_of(one.getpeername(), one.getsockname()) == os.geteuid()
        assert diag._socket is not None
        diag._socket.send(question(two.getpeername(), ("127.0.0.1", 1), 77))  # left unread: not found
        assert diag.uid_of(one.getpeername(), one.getsockname()) == os.geteuid()


def test_one_socket_serves_all_questions(diag: SockDiag) -> None:
    with connected() as (_, accepted):
        diag.uid_of(accepted.getpeername(), accepted.getsockname())
        first = diag._socket
        for _ in range(50):
            diag.uid_of(accepted.getpeername(), accepted.getsockname())
        assert diag._socket is first


@given(st.binary(max_size=160))
def test_garbage_is_no_answer(message: bytes) -> None:
    header = struct.pack("=LHHLL", len(message) + 16, 20, 0, 1, 0)
    for shape in (message, header + message):
        assert read_answer(shape, 1, 2) is None or len(message) >= 72
        inode_in(shape)


def answer(state: int, uid: int, inode: int, ports: tuple[int, int] = (1, 2), kind: int = 20) -> bytes:
    identity = struct.pack("!HH", *ports).ljust(48, b"\0")
    body = struct.pack("=BBBB48sLLLLL", 2, state, 0, 0, identity, 0, 0, 0, uid, inode)
    return struct.pack("=LHHLL", 16 + len(body), kind, 0, 1, 0) + body


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (answer(1, 1000, 5), (1000, 5)),
        (answer(8, 1000, 5), (1000, 5)),  # CLOSE_WAIT: it still holds its end
        (answer(1, 0, 0), None),
        (answer(6, 0, 5), None),
        (answer(7, 0, 5), None),
        (answer(10, 1000, 5), None),
        (answer(12, 0, 5), None),
        (answer(1, 1000, 5, (1, 3)), None),
        (answer(1, 1000, 5, kind=2), None),
        (answer(1, 1000, 5)[:-1], None),
    ],
)
def test_only_a_held_end_of_this_connection_has_an_owner(message: bytes, expected: Any) -> None:
    assert read_answer(message, 1, 2) == expected


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.6", "10.0.0.5", False),
        ("2001:db8::1", "2001:db8::2", False),
    ],
)
def test_who_is_on_this_machine(theirs: str, ours: str, expected: bool) -> None:
    assert is_local(theirs, ours) == expected
