"""What the relay does for those who share an answer: copies, answers without their client, requests made again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.relay_rig import SECRET, Rig
from outrider_ext.relay import Exchange

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
BODY = b"data: one\n\ndata: two\n\ndata: three\n\n"
ANSWERS = {
    "chunked": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:20], BODY[20:]))
    + b"0\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY,
}


def copying(rig: Rig, *, sse: bool = False, goes_on: bool = False, changes: bool = False) -> list[bytes]:
    """Every answer is copied; what was told, in order."""
    told: list[bytes] = []

    def answer(x: Exchange) -> bytes:
        x.sse, x.goes_on = sse, goes_on
        x.sink = lambda x, piece: told.append(piece)
        if changes:
            x.rewrite, x.rewrite_all = lambda x, run: run.upper(), True
        return b""

    rig.owner.answer = answer
    return told


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ANSWERS)), st.booleans(), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_a_copy_is_what_the_provider_sent_however_it_was_cut(kind: str, sse: bool, cuts: list[int]) -> None:
    rig, wire, at = Rig(), ANSWERS[kind], 0
    told = copying(rig, sse=sse, changes=sse)
    rig.client(GET)
    for size in (*cuts, len(wire)):
        if wire[at : at + size]:
            rig.provider(wire[at : at + size])
        at += size
    assert b"".join(told) == BODY
    assert told.index(b"") == len(told) - 1
    assert rig.answer().body == (BODY.upper() if sse else BODY)
    rig.finish()


@pytest.mark.parametrize("end", ["cut", "client"])
def test_a_copy_of_an_answer_that_does_not_end_has_no_end(end: str) -> None:
    rig = Rig()
    told = copying(rig)
    rig.client(GET)
    rig.provider(ANSWERS["length"][:-5])
    if end == "cut":
        rig.provider_ends(ConnectionResetError())
    rig.finish()
    assert told == [BODY[:-5]]


def test_a_copy_that_cannot_be_made_harms_nobody() -> None:
    rig = Rig()

    def answer(x: Exchange) -> bytes:
        def fail(x: Exchange, piece: bytes) -> None:
            raise ValueError("no room")

        x.sink = fail
        return b""

    rig.owner.answer = answer
    rig.client(GET)
    rig.provider(ANSWERS["chunked"])
    assert rig.answer().body == BODY
    assert isinstance(rig.owner.ends[0].failure, ValueError)
    rig.finish()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(SECRET)), st.integers(1, 20))
def test_no_copy_holds_more_of_the_secret_than_its_client_does(shown: int, step: int) -> None:
    """A provider that sends the credential back: whole, in parts, or only its beginning."""
    rig = Rig()
    rig.owner.canary = SECRET
    told = copying(rig)
    rig.client(GET)
    body = b"x" * 30 + SECRET[:shown] + b"!" * 10
    wire = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    for at in range(0, len(wire), step):
        if not rig.up.is_closed:
            rig.provider(wire[at : at + step])
    copied = b"".join(told)
    if shown == len(SECRET):
        assert SECRET not in copied
        assert len(copied) < 30 + 12, "at most the key's well-known prefix"
        assert b"" not in told
    else:
        assert copied == body
    rig.finish()


def test_an_answer_goes_on_without_its_client_and_is_read_at_full_speed() -> None:
    rig = Rig()
    told = copying(rig, goes_on=True)
    rig.client(GET)
    rig.provider(ANSWERS["length"][:-20])
    rig.downstream.pause_writing()  # it reads no more, and then it leaves
    assert not rig.up.is_reading
    rig.down.lose()
    rig.settle()
    (x,) = rig.owner.requests
    assert (x.orphaned, x.ended, rig.up.is_reading) == (True, False, True)
    rig.provider(ANSWERS["length"][-20:])
    assert (b"".join(told), x.ended, x.outcome, x.detail) == (BODY, True, 2, "client left")
    assert len(rig.pool.idle) == 1, "the connection is kept"
    rig.finish()


def test_one_that_goes_on_ends_when_it_is_told_to_or_its_provider_does() -> None:
    for how in ("abort", "provider"):
        rig = Rig()
        copying(rig, goes_on=True)
        rig.client(GET)
        rig.provider(ANSWERS["length"][:-20])
        rig.down.lose()
        rig.settle()
        (x,) = rig.owner.requests
        if how == "abort":
            x.abort("nobody wants it")
        else:
            rig.provider_ends(ConnectionResetError())
        assert (x.ended, x.outcome) == (True, 2)
        rig.finish()


def test_a_client_that_leaves_before_its_request_was_sent_takes_it_with_it() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: setattr(x, "goes_on", True)
    rig.client(GET)
    rig.down.lose()
    assert [x.outcome for x in rig.owner.ends] == [2]
    rig.finish()


def test_a_request_is_made_once_more_without_its_client() -> None:
    rig = Rig()
    told = copying(rig)
    rig.client(b"POST /a?b HTTP/1.1\r\nhost: a\r\nx-own: 1\r\ncontent-length: 2\r\n\r\nhi")
    (x,) = rig.owner.requests
    first = rig.sent()
    twin = x.twin()
    rig.provider(ANSWERS["length"])
    assert rig.answer(b"POST").body == BODY
    rig.client(GET)  # the head of the connection is another one now
    rig.sent()
    rig.owner.requests.append(twin)
    assert (twin.method, twin.target, twin.body, twin.head.get_name(b"x-own")) == (b"POST", b"/a?b", b"hi", b"1")
    rig.owner.forward(twin)
    assert rig.sent() == first
    rig.provider(ANSWERS["chunked"])
    assert twin.ended
    assert b"".join(told) == BODY * 2
    assert rig.out() == b""
    rig.down.lose()
    rig.settle()
    for up in rig.ups:
        up.lose()
    assert rig.hub.exchanges == 0
    assert sorted(map(id, rig.owner.ends)) == sorted(map(id, rig.owner.requests))
