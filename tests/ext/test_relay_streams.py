"""Streams of events through the relay, what is kept of answers for reading, and the secret that never comes back."""

import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ext.relay_rig import SECRET, Rig
from outrider_ext.relay import CUT, Exchange
from support.messages import Answer, chunked, cut_at, read_answers

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CLOSE_EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CUTS = st.lists(st.integers(0, 5000), max_size=30)


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def streaming(head: bytes = EVENTS, *, event_bytes: int = 1 << 20) -> Rig:
    """A rig in the middle of an answer, with its head already out."""
    rig = Rig()
    rig.hub.event_bytes = event_bytes
    rig.owner.canary = SECRET

    def answer(x: Exchange) -> bytes:
        x.sse = b"event-stream" in head
        return b""

    rig.owner.answer = answer
    rig.client(GET)
    rig.provider(head)
    assert rig.out().startswith(b"HTTP/1.1 200 OK\r\n")
    return rig


# -- events


def test_an_event_leaves_before_the_next_one_came_and_as_the_very_bytes() -> None:
    rig = streaming()
    for k in range(3):
        wire = chunk(b"data: %d\n\n" % k)
        rig.provider(wire)
        assert rig.out() == wire
    rig.provider(b"0\r\n\r\n")
    assert rig.out() == b"0\r\n\r\n"
    assert rig.owner.ends[0].events == 3
    rig.finish()


def test_an_event_cut_in_two_leaves_whole_when_its_end_came() -> None:
    rig = streaming()
    rig.provider(chunk(b"data: a\n\ndata: b"))
    assert rig.out() == chunk(b"data: a\n\n")
    rig.provider(chunk(b"b\n"))
    assert rig.out() == b""
    rig.provider(chunk(b"\n"))
    assert rig.out() == chunk(b"data: bb\n\n")
    rig.finish()


def test_comments_leave_at_once() -> None:
    rig = streaming()
    rig.provider(chunk(b": ping\n"))
    assert rig.out() == chunk(b": ping\n")
    rig.provider(chunk(b"data: half"))
    assert rig.out() == b""
    rig.finish()


def test_an_unfinished_event_is_passed_on_at_the_end() -> None:
    rig = streaming()
    rig.provider(chunk(b"data: a\n\ndata: [DONE]\n") + b"0\r\n\r\n")
    assert rig.out() == chunk(b"data: a\n\n") + chunk(b"data: [DONE]\n") + b"0\r\n\r\n"
    rig.finish()


def test_an_unfinished_event_is_passed_on_before_a_cut() -> None:
    rig = streaming()
    rig.provider(chunk(b"data: a\n\ndata: half"))
    rig.provider_ends()
    assert rig.out() == chunk(b"data: a\n\n") + chunk(b"data: half")
    assert rig.owner.ends[0].outcome == CUT
    assert rig.down.is_closed
    rig.finish()


def test_an_event_beyond_the_cap_passes_unread_and_holds_nothing() -> None:
    rig = streaming(event_bytes=100)
    rig.provider(chunk(b"data: " + b"x" * 60))
    assert rig.out() == b""
    rig.provider(chunk(b"x" * 60))
    assert rig.out() == chunk(b"data: " + b"x" * 120)
    rig.provider(chunk(b"y" * 60))
    assert rig.out() == chunk(b"y" * 60)
    rig.provider(chunk(b"\n\ndata: z\n\n"))
    assert rig.out() == chunk(b"\n\ndata: z\n\n")
    rig.finish()


def test_events_of_a_close_delimited_answer_are_framed_anew() -> None:
    rig = streaming(CLOSE_EVENTS)
    rig.provider(b"data: a\n\ndata: b\n")
    assert rig.out() == chunk(b"data: a\n\n")
    rig.provider(b"\n")
    assert rig.out() == chunk(b"data: b\n\n")
    rig.provider_ends()
    assert rig.out() == b"0\r\n\r\n"
    rig.finish()


def test_the_first_event_is_timed_once() -> None:
    rig = streaming()
    x = rig.owner.requests[0]
    rig.provider(chunk(b"data: hal"))
    assert x.first_event_ns == 0
    rig.provider(chunk(b"f\n\n"))
    first = x.first_event_ns
    assert first >= x.head_ns > 0
    rig.provider(chunk(b"data: b\n\n"))
    assert x.first_event_ns == first
    rig.finish()


LINES = st.sampled_from([b"data: x", b"data: " + b"y" * 40, b"event: e", b": c", b"id: 1"])
ENDS = st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)


@given(STREAMS, CUTS, CUTS, st.sampled_from([20, 1 << 20]), st.booleans())
def test_any_cut_of_a_stream_gives_the_same_bytes_and_as_many_events(
    stream: bytes, cuts: list[int], wire_cuts: list[int], event_bytes: int, is_chunked: bool
) -> None:
    def through(pieces: list[bytes], wire_cuts: list[int]) -> tuple[bytes, bool, int]:
        rig = streaming(EVENTS if is_chunked else CLOSE_EVENTS, event_bytes=event_bytes)
        for piece in cut_at(chunked(*pieces) if is_chunked else b"".join(pieces), wire_cuts):
            rig.provider(piece)
        if not is_chunked:
            rig.provider_ends()
        answer = read_answers(EVENTS + rig.out(), [b"GET"])[0]
        rig.finish()
        return answer.body, answer.whole, rig.owner.ends[0].events

    whole = through([stream] if stream else [], [])
    assert whole[:2] == (stream, True)
    assert through(list(cut_at(stream, cuts)), wire_cuts) == whole


@given(st.lists(st.sampled_from([b"a", b"bb", b"c" * 30]), min_size=1, max_size=8), CUTS)
def test_every_write_of_a_stream_is_whole_events(data: list[bytes], cuts: list[int]) -> None:
    rig = streaming()
    for piece in cut_at(b"".join(chunk(b"data: " + one + b"\n\n") for one in data), cuts):
        rig.provider(piece)
        written = rig.out()
        if written:
            body = read_answers(EVENTS + written, [b"GET"])[0].body
            assert body.startswith(b"data: ")
            assert body.endswith(b"\n\n")
    rig.finish()


# -- rewriting


def rewriting(*, every: bool) -> tuple[Rig, list[bytes]]:
    rig, seen = Rig(), []

    def rewrite(x: Exchange, run: bytes) -> bytes:
        seen.append(run)
        return run.replace(b'data: {"usage":1}\n\n', b"").replace(b" a", b" AA")

    def answer(x: Exchange) -> bytes:
        x.sse, x.tap_needle, x.rewrite, x.rewrite_all = True, b'"usage"', rewrite, every
        return b""

    rig.owner.answer = answer
    rig.client(GET)
    return rig, seen


def test_a_rewrite_sees_runs_of_whole_events_in_which_the_needle_stands() -> None:
    rig, seen = rewriting(every=False)
    rig.provider(EVENTS + chunk(b"data: a\n\n"))
    rig.provider(chunk(b'data: a\n\ndata: {"us'))
    rig.provider(chunk(b'age":1}\n\n'))
    rig.provider(b"0\r\n\r\n")
    assert seen == [b'data: {"usage":1}\n\n']
    assert rig.answer().body == b"data: a\n\ndata: a\n\n"
    rig.finish()


def test_a_rewrite_of_everything_sees_every_event_and_drops_the_length() -> None:
    rig, seen = rewriting(every=True)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\ndata: a\n\ndata: b\n\n")
    assert seen == [b"data: a\n\ndata: b\n\n"]
    answer = rig.answer()
    assert answer.get(b"content-length") is None
    assert answer.body == b"data: AA\n\ndata: b\n\n"
    rig.finish()


def test_an_unfinished_event_at_the_end_is_not_rewritten() -> None:
    rig, seen = rewriting(every=True)
    rig.provider(EVENTS + chunk(b"data: a\n\ndata: a\n") + b"0\r\n\r\n")
    assert seen == [b"data: a\n\n"]
    assert rig.answer().body == b"data: AA\n\ndata: a\n"
    rig.finish()


# -- what is kept for reading


@pytest.mark.parametrize("pieces", [1, 7, 40])
def test_the_first_and_the_last_event_with_the_needle_are_kept(pieces: int) -> None:
    rig = Rig()
    hits: list[bytes | None] = []

    def answer(x: Exchange) -> bytes:
        x.sse, x.tap_needle = True, b'"usage"'
        return b""

    rig.owner.answer = answer
    keep = rig.owner.ends.append
    rig.owner.on_end = lambda x: (hits.extend((x.first_hit, x.last_hit)), keep(x))  # type: ignore[assignment,func-returns-value]
    stream = (
        b'data: {"usage":null}\n\ndata: {"usage": {"a":1}}\n\ndata: {"usage": null}\n\n'
        b'data: {"usage":{"b":2}}\n\ndata: {"usage":null}\n\ndata: [DONE]\n\n'
    )
    rig.client(GET)
    rig.provider(EVENTS)
    step = -(-len(stream) // pieces)
    for at in range(0, len(stream), step):
        rig.provider(chunk(stream[at : at + step]))
    rig.provider(b"0\r\n\r\n")
    assert hits[0] is not None
    assert hits[1] is not None
    assert b'{"a":1}' in hits[0]
    assert b'{"b":2}' in hits[1]
    rig.finish()


def tapping(usage_bytes: int, *, gzip: bool = False) -> tuple[Rig, list[tuple[bytes, bool]]]:
    rig, taken = Rig(), []
    rig.hub.usage_bytes = usage_bytes

    def answer(x: Exchange) -> bytes:
        x.tap_body = True
        x.decoder = zlib.decompressobj(31) if gzip else None
        return b""

    def end(x: Exchange) -> None:
        taken.append(x.take_tapped())
        rig.owner.ends.append(x)

    rig.owner.answer = answer
    rig.owner.on_end = end  # type: ignore[method-assign]
    rig.client(GET)
    return rig, taken


def test_a_copy_of_a_plain_answer_is_kept_whole() -> None:
    rig, taken = tapping(1000)
    rig.provider(CHUNKED + chunk(b"abc"))
    rig.provider(chunk(b"def") + b"0\r\n\r\n")
    assert taken == [(b"abcdef", False)]
    assert rig.answer().body == b"abcdef"
    rig.finish()


def test_of_an_answer_beyond_the_cap_both_ends_are_kept() -> None:
    rig, taken = tapping(300_000)
    body = b"".join(b"%09d " % k for k in range(200_000))
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
    for piece in cut_at(body, range(0, len(body), 50_000)):
        rig.provider(piece)
    kept, truncated = taken[0]
    assert truncated
    assert len(kept) <= 300_000
    assert kept.startswith(body[:60_000])
    assert kept.endswith(body[-60_000:])
    assert rig.answer().body == body
    rig.finish()


@pytest.mark.parametrize("pieces", [1, 9])
def test_a_gzip_answer_is_kept_decoded_and_passed_on_encoded(pieces: int) -> None:
    rig, taken = tapping(1000, gzip=True)
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b'{"usage": 1}') + packer.flush()
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(packed))
    for piece in cut_at(packed, range(0, len(packed), -(-len(packed) // pieces))):
        rig.provider(piece)
    assert taken == [(b'{"usage": 1}', False)]
    assert rig.answer().body == packed
    rig.finish()


def test_a_gzip_bomb_is_kept_within_the_cap() -> None:
    rig, taken = tapping(200_000, gzip=True)
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"0" * 50_000_000) + packer.flush()
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(packed))
    for piece in cut_at(packed, range(0, len(packed), 5000)):
        rig.provider(piece)
    assert len(taken[0][0]) <= 400_000
    rig.finish()


def test_an_answer_that_is_not_what_its_encoding_says_passes_unread() -> None:
    rig, taken = tapping(1000, gzip=True)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nnot gzip")
    assert taken == [(b"", False)]
    assert rig.answer().body == b"not gzip"
    rig.finish()


# -- the secret


def test_an_answer_with_the_secret_in_its_head_becomes_a_502() -> None:
    rig = Rig()
    rig.owner.canary = SECRET
    rig.client(GET)
    rig.provider(b"HTTP/1.1 401 No\r\nx-you-sent: Bearer " + SECRET + b"\r\ncontent-length: 0\r\n\r\n")
    assert rig.answer().status == 502
    assert rig.owner.failures == [("secret_echoed", "the answer contained the credential")]
    assert rig.up.is_closed
    rig.finish()


def test_an_answer_whose_first_bytes_hold_the_secret_becomes_a_502() -> None:
    rig = Rig()
    rig.owner.canary = SECRET
    rig.client(GET)
    body = b'{"error": "Incorrect API key: ' + SECRET + b'"}'
    rig.provider(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert rig.answer().status == 502
    rig.finish()


def leak_bodies(kind: str) -> tuple[bytes, bytes]:
    body = b"x" * 10 + b"sk-the-" + SECRET + b"y" * 10
    if kind == "length":
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body
    if kind == "chunked":
        return CHUNKED, body
    return EVENTS, b"data: " + body + b"\n\n"


@given(st.sampled_from(["length", "chunked", "events"]), CUTS, CUTS)
def test_the_secret_never_passes_whole_however_it_is_cut(kind: str, cuts: list[int], wire_cuts: list[int]) -> None:
    head, body = leak_bodies(kind)
    rig = streaming(head)
    pieces = list(cut_at(body, cuts))
    for piece in cut_at(body if kind == "length" else chunked(*pieces), wire_cuts):
        rig.provider(piece)
    told = read_answers(head + rig.out(), [b"GET"])[0]
    assert SECRET not in told.body
    assert not told.whole
    assert rig.down.is_closed
    assert rig.up.is_closed
    assert rig.owner.ends[0].outcome == CUT
    assert rig.owner.ends[0].detail == "the answer contained the credential"
    rig.finish()


@given(st.binary(max_size=200), CUTS)
def test_what_only_looks_like_the_secret_passes(noise: bytes, cuts: list[int]) -> None:
    body = SECRET[:-1] + noise + SECRET[:9] + SECRET[1:]
    assume(SECRET not in body)  # the noise may complete it
    rig = streaming(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
    for piece in cut_at(body, cuts):
        rig.provider(piece)
    assert rig.out() == body
    rig.finish()


def test_the_secret_does_not_pass_through_a_switched_connection() -> None:
    rig = Rig()
    rig.owner.canary = SECRET

    def decide(x: Exchange) -> None:
        x.allow_upgrade = True
        rig.owner.forward(x)

    rig.owner.decide = decide
    rig.client(b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    rig.provider(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello")
    rig.provider(b"\x81\x1b" + SECRET[:10])
    rig.provider(SECRET[10:])
    switched: Answer
    head, _, rest = rig.out().partition(b"\r\n\r\n")
    switched = read_answers(head + b"\r\n\r\n", [b"GET"])[0]
    assert switched.status == 101
    assert SECRET not in rest
    assert rig.down.is_closed
    rig.finish()


LETTERS = st.sampled_from([b"Q", b"a", b"7", b"e", b"-"])
TEXTS = st.lists(LETTERS, max_size=80).map(b"".join)


@given(
    st.lists(LETTERS, min_size=1, max_size=70).map(b"".join),
    TEXTS,
    TEXTS,
    st.integers(0, 1),
    st.integers(0, 20),
)
def test_a_secret_is_found_wherever_it_stands_and_only_there(
    secret: bytes, before: bytes, after: bytes, there: int, often: int
) -> None:
    body = before + secret[:-1] * often + secret * there + after
    rig = Rig()
    rig.owner.canary = secret
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
    assume(not rig.owner.failures)  # one byte of a head is a secret, too
    if body:
        rig.provider(body)
    is_told = rig.owner.ends[-1].detail == "the answer contained the credential"
    assert is_told == (secret in body)
    rig.finish()
