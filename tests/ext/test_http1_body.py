"""Bodies: length, chunks, until close; what may be passed on as it came. Both builds run everything."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.http1_driver import builds


@pytest.fixture(name="build", params=[0, 1], ids=["compiled", "interpreted"])
def fixture_build(request: pytest.FixtureRequest) -> SimpleNamespace:
    return builds()[request.param]


def chunked(build: SimpleNamespace) -> Any:
    body = build.Body()
    body.begin_chunked()
    return body


def feed(body: Any, data: bytes) -> tuple[bytes, bytes]:
    """(payload, what was left over)"""
    payload, pos = b"", 0
    while pos < len(data) and not body.done:
        pos = body.feed(data, pos, len(data))
        payload += data[body.lo : body.hi]
    return payload, data[pos:]


class Passer:
    """Passes a chunked body on, as the class's documentation says: unchanged where that is allowed, else re-chunked."""

    def __init__(self, build: SimpleNamespace) -> None:
        self.body = chunked(build)
        self.out = b""

    def give(self, piece: bytes) -> None:
        self.body.reset_clean()
        payload, _ = feed(self.body, piece)
        if self.body.clean:
            self.out += piece
            return
        if payload:
            self.out += b"%x\r\n%b\r\n" % (len(payload), payload)
        if self.body.done:
            self.out += b"0\r\n\r\n"


def test_a_length_ends_where_it_says(build: SimpleNamespace) -> None:
    body = build.Body()
    body.begin_length(5)
    assert feed(body, b"ab") == (b"ab", b"")
    assert (body.left, body.received, body.done, body.finish_eof()) == (3, 2, False, False)
    assert feed(body, b"cdeGET") == (b"cde", b"GET")
    assert (body.done, body.finish_eof()) == (True, True)
    body.begin_length(0)
    assert body.done
    with pytest.raises(ValueError, match="negative"):
        body.begin_length(-1)


def test_no_body_is_done_at_once_and_takes_nothing(build: SimpleNamespace) -> None:
    body = build.Body()
    body.begin_none()
    assert body.done
    assert body.feed(b"GET", 0, 3) == 0


def test_until_close_ends_legally_only_there(build: SimpleNamespace) -> None:
    body = build.Body()
    body.begin_until_close()
    assert feed(body, b"abc") == (b"abc", b"")
    assert not body.done
    assert body.finish_eof()
    assert body.done


def test_chunks_cut_by_the_end_of_the_connection_are_a_cut(build: SimpleNamespace) -> None:
    body = chunked(build)
    feed(body, b"5\r\nhello\r\n0\r\n")
    assert not body.finish_eof()


def test_a_call_hands_out_at_most_one_run_and_stops_between_chunks(build: SimpleNamespace) -> None:
    body = chunked(build)
    data = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET"
    seen = []
    pos = 0
    while not body.done:
        pos = body.feed(data, pos, len(data))
        seen.append((data[body.lo : body.hi], pos, body.at_chunk_start))
    assert seen == [(b"abc", 8, True), (b"de", 15, True), (b"", 20, True)]
    assert body.received == 5


def test_a_run_is_handed_out_before_the_error_behind_it(build: SimpleNamespace) -> None:
    body = chunked(build)
    data = b"3\r\nabcX"
    assert body.feed(data, 0, len(data)) == 6
    assert data[body.lo : body.hi] == b"abc"
    with pytest.raises(build.ProtocolError):
        body.feed(data, 6, len(data))


@pytest.mark.parametrize(
    ("data", "clean"),
    [
        (b"3\r\nabc\r\n", True),
        (b"3\r\nabc\r\n0\r\n\r\n", True),
        (b"3\r\nabc\r\nA\r\nabc", False),  # stops inside a chunk: the next piece may have to be re-chunked
        (b"3\r\nabc", False),
        (b"3\r\nabc\r", False),
        (b"3", False),
        (b"3\r\nabc\r\n0\r\n", False),  # a trailer may follow
        (b"03\r\nabc\r\n", False),
        (b"3;a\r\nabc\r\n", False),
        (b"0\r\nA: b\r\n\r\n", False),
        (b"00\r\n\r\n", False),
    ],
)
def test_clean_says_that_the_piece_may_go_out_as_it_came(build: SimpleNamespace, data: bytes, clean: bool) -> None:
    body = chunked(build)
    body.reset_clean()
    feed(body, data)
    assert body.clean is clean


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_a_piece_that_starts_inside_a_chunk_is_not_clean(build: SimpleNamespace, cut: int) -> None:
    body = chunked(build)
    first = b"1\r\na\r\n"
    feed(body, first[:cut])
    body.reset_clean()
    feed(body, first[cut:])
    assert body.at_chunk_start
    assert not body.clean
    body.reset_clean()
    feed(body, b"1\r\nb\r\n")
    assert body.clean


def test_extensions_and_trailers_are_bounded_over_the_message(build: SimpleNamespace) -> None:
    body = chunked(build)
    feed(body, b"1;" + b"a" * 3000 + b"\r\nx\r\n")
    with pytest.raises(build.ProtocolError, match="extensions are too large"):
        feed(body, b"1;" + b"a" * 3000)
    body.begin_chunked()
    with pytest.raises(build.ProtocolError, match="trailer section is too large"):
        feed(body, b"0\r\n" + b"A: b\r\n" * 2000)


def test_positions_outside_the_bytes_are_value_errors(build: SimpleNamespace) -> None:
    body = chunked(build)
    for pos, end in ((-1, 2), (0, 4), (3, 2)):
        with pytest.raises(ValueError, match="do not lie within"):
            body.feed(b"abc", pos, end)


RUNS = st.lists(st.binary(min_size=1, max_size=20), max_size=5)
GOOD = st.sampled_from([b"", b"", b"", b";a", b';n="q;\\""'])
FLAWED = st.sampled_from([b"", b"", b"", b";a", b"\n", b" "])


@st.composite
def messages(draw: st.DrawFn, after_size: st.SearchStrategy[bytes] = GOOD) -> tuple[bytes, bytes]:
    """(payload, the same in chunks, some with extensions, leading zeros or trailers)"""
    runs = draw(RUNS)
    data = b"".join(
        (b"0" * draw(st.integers(0, 1))) + b"%x" % len(run) + draw(after_size) + b"\r\n" + run + b"\r\n" for run in runs
    )
    end = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"0;x=y\r\n\r\n"]))
    return b"".join(runs), data + end


def taken(build: SimpleNamespace, pieces: list[bytes]) -> tuple[Any, ...]:
    body = chunked(build)
    payload = b""
    for piece in pieces:
        pos = 0
        while pos < len(piece) and not body.done:
            try:
                pos = body.feed(piece, pos, len(piece))
            except build.ProtocolError as exc:
                return payload, str(exc)
            payload += piece[body.lo : body.hi]
    return payload, body.done, body.received


@given(message=st.one_of(messages(), messages(FLAWED)), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_any_cut_gives_the_same_payload_in_both_builds(message: tuple[bytes, bytes], cuts: list[int]) -> None:
    data = message[1]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    compiled, interpreted = builds()
    whole = taken(compiled, [data])
    assert taken(compiled, pieces) == taken(interpreted, pieces) == whole == taken(interpreted, [data])
    assert taken(compiled, [data[k : k + 1] for k in range(len(data))]) == whole
    if len(whole) == 3:
        assert whole == (message[0], True, len(message[0]))


@given(data=st.lists(st.sampled_from([b"1", b"\r\n", b"0", b";", b"a", b"=", b'"', b"\\", b":", b"\n"])).map(b"".join))
def test_garbage_gives_the_declared_error_or_a_result(data: bytes) -> None:
    compiled, interpreted = builds()
    assert taken(compiled, [data]) == taken(interpreted, [data])


@given(message=messages(), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_what_is_passed_on_has_the_same_payload_and_no_extensions(
    message: tuple[bytes, bytes], cuts: list[int]
) -> None:
    payload, data = message
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for build in builds():
        passer = Passer(build)
        for a, b in pairwise(edges):
            passer.give(data[a:b])
        reader = chunked(build)
        assert feed(reader, passer.out) == (payload, b"")
        assert (reader.done, reader.clean) == (True, True)
