"""Answers that are not passed on or are held until it is known what they are, and two connections that race."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.relay_rig import FakeTransport, Rig
from outrider_ext.relay import CUT, OK, Exchange, Upstream

POST = b"POST /c HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"
BAD = b"HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def discarding(rig: Rig) -> None:
    """Every answer but a 200 is discarded and the request sent again."""

    def answer(x: Exchange) -> bytes:
        if x.status != 200:
            x.discard()
            rig.owner.forward(x)
        return b""

    rig.owner.answer = answer


@given(st.lists(st.integers(1, len(BAD) + 4), max_size=4))
def test_a_discarded_answer_leaves_no_byte_and_its_connection_is_kept(cuts: list[int]) -> None:
    rig = Rig()
    discarding(rig)
    rig.client(POST)
    first, data, at = rig.up, BAD + b"fault", 0
    for end in [*sorted(set(cuts)), len(data)]:
        first.give(data[at:end])
        at = end
    rig.settle()
    assert len(rig.ups) == 2
    rig.provider(GOOD)
    assert rig.answer(b"POST").body == b"ok"
    assert len(rig.pool.idle) == 2
    assert rig.owner.requests[0].outcome == OK
    rig.finish()


def test_a_long_answer_that_nobody_wants_costs_its_connection() -> None:
    rig = Rig()
    discarding(rig)
    rig.client(POST)
    first = rig.up
    first.give(b"HTTP/1.1 500 No\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 70_000)
    rig.settle()
    assert first.is_closed
    rig.provider(GOOD)
    assert rig.answer(b"POST").status == 200
    rig.finish()


def test_an_answer_that_nobody_wants_and_that_does_not_end_is_closed_soon() -> None:
    rig = Rig()
    discarding(rig)
    rig.client(POST)
    first = rig.up
    first.give(BAD + b"fa")
    rig.hub.sweep(first.protocol.last_ns + 3_000_000_000)
    assert first.is_closed
    rig.settle()
    rig.finish()


def test_an_answer_that_nobody_wants_is_not_read_for_long_however_slowly_it_comes() -> None:
    rig = Rig()
    discarding(rig)
    rig.client(POST)
    first = rig.up
    first.give(BAD)
    began = first.protocol.last_ns
    first.give(b"f")
    rig.hub.sweep(began + 2_000_000_001)
    assert first.is_closed
    rig.settle()
    rig.finish()


def test_a_connection_whose_request_was_not_sent_whole_is_not_kept() -> None:
    """What follows on it would be read as the rest of that request."""
    rig = Rig()

    def answer(x: Exchange) -> bytes:
        x.discard()
        rig.owner.say(x, 503, b"later")
        return b""

    rig.owner.answer = answer
    rig.client(b"POST /c HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n12345")
    rig.provider(BAD + b"fault")
    assert rig.up.is_closed
    assert rig.pool.idle == []
    assert rig.answer(b"POST").status == 503
    rig.finish()


def test_where_there_is_no_answer_yet_nothing_is_kept() -> None:
    rig = Rig()
    rig.client(POST)
    rig.owner.requests[0].discard()
    assert rig.up.is_closed
    rig.owner.forward(rig.owner.requests[0])
    rig.provider(GOOD)
    assert rig.answer(b"POST").body == b"ok"
    rig.finish()


def judged(rig: Rig, judge: Callable[[Exchange, bytes, bool], Any], *, sse: bool = True) -> None:
    def answer(x: Exchange) -> bytes:
        x.sse = sse
        x.judge = judge
        return b""

    rig.owner.answer = answer


def test_nothing_goes_on_before_it_is_known_what_it_is() -> None:
    rig, seen = Rig(), b""

    def judge(x: Exchange, data: bytes, is_last: bool) -> bool | None:
        nonlocal seen
        seen += data
        return True if b"data" in seen else None

    judged(rig, judge)
    rig.client(POST)
    rig.provider(STREAM)
    rig.provider(chunk(b": ping\n\n"))
    assert rig.out() == b""
    rig.provider(chunk(b"data: 1\n\n"))
    rig.provider(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
    assert rig.answer(b"POST").body == b": ping\n\ndata: 1\n\ndata: 2\n\n"
    rig.finish()


def test_an_answer_may_be_discarded_for_what_it_says() -> None:
    rig = Rig()

    def judge(x: Exchange, data: bytes, is_last: bool) -> bool | None:
        if b"error" not in data:
            return True
        x.discard()
        rig.owner.forward(x)
        return False

    judged(rig, judge)
    rig.client(POST)
    first = rig.up
    first.give(STREAM + chunk(b"data: error\n\n"))
    first.give(chunk(b"data: more\n\n") + b"0\r\n\r\n")
    rig.settle()
    rig.up.give(STREAM + chunk(b"data: fine\n\n") + b"0\r\n\r\n")
    assert rig.answer(b"POST").body == b"data: fine\n\n"
    assert len(rig.pool.idle) == 2
    assert rig.owner.requests[0].events == 1
    rig.finish()


def test_who_waits_is_not_given_a_connection_with_bytes_after_the_discarded_answer() -> None:
    """It would be closed under the request that was sent on it just then."""
    rig = Rig()

    def judge(x: Exchange, data: bytes, is_last: bool) -> bool | None:
        x.discard()
        return False

    judged(rig, judge, sse=False)
    given: list[Upstream] = []
    rig.pool.release = given.append  # type: ignore[method-assign]
    rig.client(POST)
    rig.provider(GOOD + b"more")
    assert given == []
    assert rig.up.is_closed
    rig.finish()


@pytest.mark.parametrize("cut", [STREAM, STREAM + chunk(b"data: 1\n"), GOOD[:-1]])
def test_what_breaks_before_it_is_known_may_be_sent_again(cut: bytes) -> None:
    rig = Rig()
    judged(rig, lambda x, data, is_last: True if is_last or b"\n\n" in data else None, sse=cut != GOOD[:-1])
    rig.owner.failed = lambda x, kind, detail: rig.owner.forward(x)
    rig.client(POST)
    rig.provider(cut)
    rig.provider_ends(ConnectionResetError())
    assert rig.out() == b""
    rig.provider(GOOD)
    assert rig.answer(b"POST").body == b"ok"
    rig.finish()


# -- two that race


def racing() -> tuple[Rig, Exchange, FakeTransport, FakeTransport]:
    rig = Rig()
    rig.client(POST)
    x, first = rig.owner.requests[0], rig.up
    x.waits_first = True
    assert x.race(rig.open_upstream(), b"POST /d HTTP/1.1\r\ncontent-length: 2\r\n\r\n", b"{}", None)
    assert rig.up.take() == b"POST /d HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    return rig, x, first, rig.up


@pytest.mark.parametrize("winner", [0, 1])
def test_who_answers_first_counts_and_the_other_is_closed(winner: int) -> None:
    rig, x, *ups = racing()
    ups[winner].give(GOOD)
    rig.settle()
    assert ups[1 - winner].is_closed
    assert rig.answer(b"POST").body == b"ok"
    assert x.rival is None
    rig.finish()


def test_a_head_alone_wins_nothing() -> None:
    rig, _, first, second = racing()
    first.give(STREAM)
    second.give(STREAM + chunk(b"data: 2\n\n") + b"0\r\n\r\n")
    rig.settle()
    assert first.is_closed
    assert rig.answer(b"POST").body == b"data: 2\n\n"
    rig.finish()


@pytest.mark.parametrize("loser", [0, 1])
def test_who_fails_leaves_it_to_the_other(loser: int) -> None:
    rig, x, *ups = racing()
    ups[loser].lose(ConnectionResetError())
    rig.settle()
    assert not rig.owner.failures
    assert x.rival is None
    ups[1 - loser].give(GOOD)
    assert rig.answer(b"POST").body == b"ok"
    rig.finish()


def test_when_both_fail_the_owner_decides() -> None:
    rig, _, first, second = racing()
    for up in (first, second):
        up.lose(ConnectionResetError())
    assert len(rig.owner.failures) == 1
    assert rig.answer(b"POST").status == 502
    rig.finish()


def test_a_client_that_leaves_closes_both() -> None:
    rig, _, first, second = racing()
    rig.down.lose()
    rig.settle()
    assert first.is_closed
    assert second.is_closed
    rig.finish()


def test_it_is_too_late_for_a_race_once_an_answer_has_begun() -> None:
    rig = Rig()
    rig.client(POST)
    rig.provider(GOOD[:-1])
    late: Upstream = rig.open_upstream()
    assert not rig.owner.requests[0].race(late, b"", b"", None)
    assert rig.pool.idle == [late]
    rig.ups[0].give(b"k")
    rig.settle()
    rig.finish()


# -- a broken stream


def test_a_broken_stream_is_ended_with_the_owners_event_and_a_cut_event_is_left_out() -> None:
    rig = Rig()
    judged(rig, lambda x, data, is_last: True)
    rig.owner.on_cut = lambda x, kind, detail: b"data: sorry\n\n"  # type: ignore[method-assign]
    rig.client(POST)
    rig.provider(STREAM + chunk(b"data: 1\n\ndata: 2"))
    rig.provider_ends(ConnectionResetError())
    found = rig.answer(b"POST")
    assert found.body == b"data: 1\n\ndata: sorry\n\n"
    assert found.whole
    assert rig.owner.requests[0].outcome == CUT
    assert rig.down.is_closed
    assert not rig.down.was_aborted
    rig.finish()
