import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from door.world import FakeClock
from outrider.door.listener import ACCEPTS_PER_WAKEUP, PAUSE_S, Listener, bind, parse_listen_address
from outrider.errors import StartError


class Hall:
    """A listener, what it accepted and what it counted."""

    def __init__(self, max_connections: int = 1000, addresses: tuple[str, ...] = ("127.0.0.1:0",)) -> None:
        self.clock = FakeClock()
        self.accepted: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.listener = Listener(
            bind(addresses),
            lambda sock, peer: self.accepted.append(sock),
            max_connections=max_connections,
            connections=lambda: len(self.accepted),
            count=lambda event, name: self.counts.update([(event, name)]),
            call_later=self.clock.call_later,
        )
        self.listener.start()

    def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(self.listener.addresses[0][:2]))

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    def close(self) -> None:
        self.listener.close()
        for sock in [*self.accepted, *self.clients]:
            sock.close()


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    it = Hall()
    yield it
    it.close()


async def test_what_connects_is_given_away_without_delay_of_small_packets(hall: Hall) -> None:
    hall.connect(3)
    await hall.settle()
    assert len(hall.accepted) == 3
    assert all(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in hall.accepted)


async def test_one_wakeup_accepts_a_bounded_batch_and_the_next_goes_on(hall: Hall) -> None:
    hall.connect(ACCEPTS_PER_WAKEUP + 10)
    hall.listener._accept(hall.listener.sockets[0])
    assert len(hall.accepted) == ACCEPTS_PER_WAKEUP
    await hall.settle()
    assert len(hall.accepted) == ACCEPTS_PER_WAKEUP + 10


async def test_at_the_cap_accepting_pauses_and_goes_on_when_there_is_room() -> None:
    hall = Hall(max_connections=2)
    hall.connect(3)
    await hall.settle()
    assert len(hall.accepted) == 2
    assert hall.counts == {("accept_paused", "max_connections"): 1}
    hall.clock.advance(PAUSE_S)
    await hall.settle()
    assert len(hall.accepted) == 2
    hall.accepted.pop().close()
    hall.clock.advance(PAUSE_S)
    await hall.settle()
    assert len(hall.accepted) == 2
    hall.close()


class BrokenSocket:
    """A listening socket whose accept fails first, then works."""

    def __init__(self, real: socket.socket, *failures: int) -> None:
        self.real, self.failures = real, list(failures)

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            raise OSError(self.failures.pop(0), "fails")
        return self.real.accept()


async def test_without_file_descriptors_accepting_pauses_instead_of_spinning(hall: Hall) -> None:
    hall.connect()
    hall.listener._accept(BrokenSocket(hall.listener.sockets[0], errno.EMFILE))  # type: ignore[arg-type]
    await hall.settle()
    assert hall.accepted == []
    assert hall.counts == {("accept_paused", "EMFILE"): 1}
    hall.clock.advance(PAUSE_S)
    await hall.settle()
    assert len(hall.accepted) == 1


async def test_a_connection_that_was_gone_already_does_not_hold_up_the_next(hall: Hall) -> None:
    hall.connect()
    hall.listener._accept(BrokenSocket(hall.listener.sockets[0], errno.ECONNABORTED))  # type: ignore[arg-type]
    assert len(hall.accepted) == 1
    assert hall.counts == {("accept_failed", "ECONNABORTED"): 1}


async def test_a_closed_listener_accepts_nothing_and_keeps_no_timer() -> None:
    hall = Hall(max_connections=0)
    hall.connect()
    await hall.settle()
    assert hall.clock.pending
    hall.listener.close()
    assert not hall.clock.pending
    assert hall.listener.sockets == []
    hall.listener.close()
    hall.close()


def test_port_0_is_the_same_free_port_on_every_address() -> None:
    sockets = bind(["127.0.0.1:0", "[::1]:0"])
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert all(not sock.getblocking() for sock in sockets)
    finally:
        for sock in sockets:
            sock.close()


def test_a_port_in_use_is_one_sentence_and_leaves_nothing_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind(["127.0.0.1:0", f"127.0.0.1:{port}"])
    message = f"Cannot listen on 127.0.0.1:{port}: another program uses this port; stop it or choose another port."
    assert str(caught.value) == message
    assert caught.value.exit_code == 1


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(StartError, match="this machine has no such address"):
        bind(["203.0.113.7:8484"])


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6_listens_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    real = socket.socket

    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(missing, "no IPv6 here")
        return real(family, *rest)

    monkeypatch.setattr("outrider.door.listener.socket.socket", without_ipv6)
    [only] = bind(["127.0.0.1:0", "[::1]:0"])
    only.close()
    with pytest.raises(StartError, match=r"Cannot listen on \[::1\]:0"):
        bind(["[::1]:0"])


NO_ADDRESSES = ["", "8484", ":8484", "127.0.0.1", "localhost:1", "::1:80", "[127.0.0.1]:80", "127.0.0.1:x", "[::1]"]
NO_ADDRESSES += ["127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1"]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_address_that_is_none_is_bad_input(address: str) -> None:
    with pytest.raises(StartError) as caught:
        parse_listen_address(address)
    assert caught.value.exit_code == 2


def test_no_address_at_all_is_bad_input() -> None:
    with pytest.raises(StartError) as caught:
        bind([])
    assert caught.value.exit_code == 2


def test_addresses_are_split_into_host_and_port() -> None:
    assert parse_listen_address("127.0.0.1:8484") == ("127.0.0.1", 8484)
    assert parse_listen_address("[0::1]:0") == ("::1", 0)
