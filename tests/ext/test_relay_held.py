"""The last bytes of an answer that wait until they are let go: which they are, and what may happen meanwhile."""

from collections.abc import Iterator

import pytest

from ext.relay_rig import Rig
from outrider_ext.relay import Exchange

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"
EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"b\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"
)


class Held(Rig):
    """Every exchange holds its end. turn(): what the owner does once a pass of the loop."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.turns = 0
        self.hub.on_waiting = self._wake
        self.decide = self.owner.forward
        self.owner.decide = self._hold

    def _hold(self, x: Exchange) -> None:
        x.holds_end = True
        self.decide(x)

    def _wake(self) -> None:
        self.turns += 1

    def turn(self, *, is_cut: bool = False) -> None:
        self.hub.let_go(self.hub.take_waiting(), is_cut)
        self.settle()


@pytest.fixture
def rig() -> Iterator[Held]:
    one = Held()
    yield one
    one.turn()
    one.finish()


def test_a_whole_answer_waits_and_its_end_was_told_before_it_left(rig: Held) -> None:
    rig.client(GET)
    rig.provider(PLAIN)
    assert rig.out() == b""
    assert len(rig.owner.ends) == 1
    assert rig.turns == 1
    rig.turn()
    assert rig.answer().body == b"abcd"


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_of_an_answer_in_two_pieces_only_the_last_waits(rig: Held, cut: int) -> None:
    rig.client(GET)
    rig.provider(PLAIN[:cut])
    before = rig.out()
    assert before.endswith(PLAIN[PLAIN.index(b"abcd") : cut])
    rig.provider(PLAIN[cut:])
    assert rig.out() == b""
    rig.turn()
    assert (before + rig.out()).endswith(b"\r\n\r\nabcd")


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_of_a_stream_only_what_came_with_its_end_waits(rig: Held, size: int) -> None:
    def answer(x: Exchange) -> bytes:
        x.sse = True
        return b""

    rig.owner.answer = answer
    rig.client(GET)
    for at in range(0, len(EVENTS), size):
        rig.provider(EVENTS[at : at + size])
    early = rig.out()
    if size == 1:
        assert b"data: two\n\n" in early
    assert not early.endswith(b"0\r\n\r\n")
    rig.turn()
    late = rig.out()
    assert late.endswith(b"0\r\n\r\n")
    assert (early + late).count(b"data: ") == 2


def test_an_answer_without_a_body_waits_whole(rig: Held) -> None:
    rig.client(GET)
    rig.provider(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert rig.out() == b""
    rig.turn()
    assert rig.answer().status == 204


def test_an_answer_that_ends_with_the_connection_is_closed_when_it_is_let_go() -> None:
    rig = Held()
    rig.client(b"GET /a HTTP/1.0\r\nhost: h\r\n\r\n")
    rig.provider(b"HTTP/1.1 200 OK\r\n\r\nabc")
    rig.provider_ends()
    assert not rig.down.is_closed
    rig.turn()
    assert rig.down.is_closed
    assert rig.out().endswith(b"abc")
    rig.finish()


def test_an_answer_of_our_own_waits_too(rig: Held) -> None:
    rig.decide = lambda x: rig.owner.say(x, 403, b"no")
    rig.client(GET)
    assert rig.out() == b""
    rig.turn()
    assert rig.answer().status == 403


def test_what_is_pipelined_does_not_overtake_and_comes_next(rig: Held) -> None:
    rig.client(GET + GET.replace(b"/a", b"/b"))
    rig.provider(PLAIN)
    assert len(rig.owner.requests) == 1
    rig.client(GET.replace(b"/a", b"/c"))
    assert len(rig.owner.requests) == 1
    rig.turn()
    assert [x.target for x in rig.owner.requests] == [b"/a", b"/b"]
    rig.provider(PLAIN.replace(b"abcd", b"efgh"))
    rig.turn()
    rig.provider(PLAIN.replace(b"abcd", b"ijkl"))
    rig.turn()
    assert [answer.body for answer in rig.answers(b"GET", b"GET", b"GET")] == [b"abcd", b"efgh", b"ijkl"]


def test_all_that_end_in_one_pass_are_told_of_once(rig: Held) -> None:
    rig.decide = lambda x: rig.owner.say(x, 403, b"no")
    rig.client(GET)
    assert rig.turns == 1
    rig.turn()
    rig.client(GET)
    assert rig.turns == 2


def test_a_client_that_leaves_meanwhile_gets_nothing_and_ends_nothing_twice() -> None:
    rig = Held()
    rig.client(GET)
    rig.provider(PLAIN)
    rig.down.lose(ConnectionResetError())
    rig.turn()
    assert rig.out() == b""
    rig.finish()


def test_a_client_that_half_closed_still_gets_it() -> None:
    rig = Held()
    rig.client(GET)
    rig.provider(PLAIN)
    rig.down.give_eof()
    assert not rig.down.is_closed
    rig.turn()
    assert rig.out().endswith(b"abcd")
    assert rig.down.is_closed
    rig.finish()


def test_what_may_not_leave_is_a_reset_and_no_end() -> None:
    rig = Held()
    rig.client(GET)
    rig.provider(PLAIN)
    rig.turn(is_cut=True)
    assert rig.down.was_aborted
    assert rig.out() == b""
    rig.finish()


def test_the_providers_connection_serves_others_meanwhile(rig: Held) -> None:
    rig.client(GET)
    rig.provider(PLAIN)
    assert len(rig.pool.idle) == 1


def test_an_answer_that_was_cut_waits_for_nothing() -> None:
    rig = Held()
    rig.client(GET)
    rig.provider(PLAIN[:-1])
    rig.provider_ends(ConnectionResetError())
    assert rig.down.is_closed
    assert rig.hub.take_waiting() == []
    rig.finish()


def test_a_request_whose_body_breaks_while_its_answer_waits_is_answered_once() -> None:
    rig = Held()
    rig.decide = lambda x: rig.owner.say(x, 403, b"no")
    rig.client(b"POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    assert rig.out() == b""
    rig.client(b"zz\r\n")
    assert rig.out() == b""
    rig.turn()
    assert rig.out().count(b"HTTP/1.1") == 1
    rig.finish()


def test_draining_waits_for_what_is_held() -> None:
    rig = Held()
    rig.client(GET)
    rig.provider(PLAIN)
    rig.hub.drain()
    rig.settle()
    assert not rig.down.is_closed
    rig.turn()
    assert rig.out().endswith(b"abcd")
    assert rig.down.is_closed
    rig.finish()


def test_a_tunnel_closes_when_it_is_let_go() -> None:
    rig = Held()

    def upgrade(x: Exchange) -> None:
        x.allow_upgrade = True
        rig.owner.forward(x)

    rig.decide = upgrade
    rig.client(b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    rig.provider(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi")
    assert rig.out().endswith(b"hi")
    rig.provider_ends()
    assert not rig.down.is_closed
    rig.turn()
    assert rig.down.is_closed
    rig.finish()
