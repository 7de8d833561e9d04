"""Event boundaries and the decoding reader, compiled and interpreted alike, judged by a plain reference and vectors."""

import base64
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from support.vectors import rows

BUILDS = both("sse")
BOM = b"\xef\xbb\xbf"
LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n)")

PIECES = [
    b"data: x",
    b"data",
    b"data:",
    b"event: e",
    b"id: 1",
    b"id: \0",
    b"id",
    b": note",
    b":",
    b"x",
    b" ",
    b"\xef",
    BOM,
]
STREAMS = st.lists(st.sampled_from([*PIECES, b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\n\r"]), max_size=30).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 120), max_size=12)


@pytest.fixture(params=BUILDS, ids=["compiled", "interpreted"])
def sse(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def cut_up(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in pairwise(edges)]


def reference(stream: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """((begin, end, bytes before the one that completes it) of each event, last boundary), by the rules alone."""
    events, boundary, begin = [], 0, -1
    offset = 3 if stream.startswith(BOM) else 0
    for line in LINE.finditer(stream, offset):
        if line[1] and not line[1].startswith(b":"):
            begin = line.start() if begin < 0 else begin
        elif not line[1] and begin >= 0:
            events.append((begin, line.end(), line.start() - boundary))
            begin = -1
        if begin < 0:
            boundary = line.end()
    return events, boundary


class Caller:
    """Uses a splitter as a relay does: holds the open tail, passes on what may go, reads what may be read."""

    def __init__(self, splitter: Any) -> None:
        self.splitter = splitter
        self.held = b""
        self.passed = b""
        self.runs: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        framed = b"<<" + chunk + b">>"  # the range lies inside a larger buffer
        start, end = 2, 2 + len(chunk)
        cut = self.splitter.feed(framed, start, end)
        read_from, read_to = self.splitter.read_from, self.splitter.read_to
        assert start <= read_from <= read_to <= cut <= end
        if read_to > read_from:
            self.runs.append((self.held if read_from == start else b"") + framed[read_from:read_to])
        if cut > start or self.splitter.overlong:
            self.passed += self.held
            self.held = b""
        self.passed += framed[start:cut]
        self.held += framed[cut:end]
        assert self.splitter.overlong or len(self.held) == self.splitter.open_bytes


@given(STREAMS, CUTS)
def test_any_split_lets_the_same_bytes_go_as_early_as_the_rules_allow(stream: bytes, cuts: list[int]) -> None:
    for build in BUILDS:
        caller = Caller(build.SseSplitter())
        fed = b""
        for chunk in cut_up(stream, cuts):
            before = caller.splitter.total_events
            caller.feed(chunk)
            fed += chunk
            events, boundary = reference(fed)
            # A begun byte order mark is still a line of its own to the reference: it holds it as we do.
            assert caller.passed == fed[:boundary]
            assert caller.splitter.total_events == len(events)
            assert caller.splitter.events == len(events) - before


@given(STREAMS)
def test_byte_by_byte_each_event_is_complete_at_its_last_needed_byte(stream: bytes) -> None:
    for build in BUILDS:
        caller = Caller(build.SseSplitter())
        for at in range(len(stream)):
            caller.feed(stream[at : at + 1])
            events, boundary = reference(stream[: at + 1])
            assert (len(caller.passed), caller.splitter.total_events) == (boundary, len(events))


@given(STREAMS, CUTS, st.integers(1, 30))
def test_any_split_counts_the_same_overlong_events_and_reads_all_others(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    whole, _ = reference(stream)
    too_long = [event for event in whole if event[2] > limit]
    for build in BUILDS:
        caller = Caller(build.SseSplitter(limit))
        for chunk in cut_up(stream, cuts):
            caller.feed(chunk)
            assert not caller.splitter.overlong or caller.held == b""
            assert len(caller.held) <= limit
        assert caller.passed + caller.held == stream
        assert (caller.splitter.total_events, caller.splitter.overlong_events) == (len(whole), len(too_long))
        read = [run[a:b].rstrip(b"\r\n") for run in caller.runs for a, b in build.event_spans(run)]
        must = [stream[a:b].rstrip(b"\r\n") for a, b, before in whole if before <= limit]
        if stream.count(BOM) == 0:  # a run may begin with a mark that is none, see event_spans
            rest = iter(read)
            assert all(event in rest for event in must)


@given(st.binary(max_size=200), CUTS, st.integers(1, 40))
def test_both_builds_agree_on_any_bytes(stream: bytes, cuts: list[int], limit: int) -> None:
    seen = []
    for build in BUILDS:
        splitter = build.SseSplitter(limit)
        seen.append(
            [
                (splitter.feed(chunk, 0, len(chunk)), splitter.events, splitter.open_bytes, splitter.overlong)
                for chunk in cut_up(stream, cuts)
            ]
            + [build.event_spans(stream), build.event_data(stream), build.event_name(stream)]
        )
    assert seen[0] == seen[1]


def test_a_line_feed_that_belongs_to_a_carriage_return_of_the_last_feed_goes_at_once(sse: ModuleType) -> None:
    splitter = sse.SseSplitter()
    assert splitter.feed(b"data: a\r\n\r", 0, 10) == 10
    assert splitter.events == 1
    assert splitter.feed(b"\n", 0, 1) == 1
    assert (splitter.events, splitter.total_events, splitter.open_bytes) == (0, 1, 0)
    assert splitter.feed(b"data: b\r", 0, 8) == 0
    assert splitter.feed(b"\n", 0, 1) == 0  # inside a block it is part of what is held
    assert splitter.open_bytes == 9


def test_comments_between_events_leave_at_once_and_count_for_nothing(sse: ModuleType) -> None:
    splitter = sse.SseSplitter()
    assert splitter.feed(b": ping\n", 0, 7) == 7
    assert splitter.feed(b"\n\n: ping\r\n", 0, 10) == 10
    assert (splitter.events, splitter.total_events) == (0, 0)
    assert splitter.feed(b"data: a\n: inside\n", 0, 17) == 0
    assert splitter.feed(b"\n", 0, 1) == 1
    assert splitter.total_events == 1


def test_an_overlong_event_passes_unheld_and_the_next_event_is_found(sse: ModuleType) -> None:
    splitter = sse.SseSplitter(10)
    assert splitter.feed(b"data: 12345", 0, 11) == 11
    assert splitter.overlong
    assert (splitter.read_from, splitter.read_to) == (0, 0)
    assert splitter.feed(b"67890", 0, 5) == 5
    assert (splitter.read_from, splitter.read_to, splitter.open_bytes) == (5, 5, 16)
    assert splitter.feed(b"\n\ndata: a\n\ndata", 0, 15) == 11
    assert (splitter.read_from, splitter.read_to) == (2, 11)
    assert (splitter.events, splitter.overlong_events, splitter.overlong) == (2, 1, False)


def test_a_comment_without_end_is_not_held_beyond_the_limit(sse: ModuleType) -> None:
    splitter = sse.SseSplitter(8)
    assert splitter.feed(b":" + b"x" * 20, 0, 21) == 21
    assert splitter.overlong
    assert splitter.feed(b"xx\ndata: a\n\n", 0, 12) == 12
    assert (splitter.total_events, splitter.overlong_events, splitter.overlong) == (1, 0, False)


def test_reset_forgets_the_stream_before(sse: ModuleType) -> None:
    splitter = sse.SseSplitter(4)
    splitter.feed(b"data: open\r", 0, 11)
    splitter.reset()
    assert (splitter.open_bytes, splitter.overlong, splitter.total_events) == (0, False, 0)
    assert splitter.feed(b"\n" + BOM, 0, 4) == 1  # a blank line, then a field line
    splitter.reset()
    assert splitter.feed(BOM + b"\n", 0, 4) == 4  # at the start it is a mark before a blank line


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 5), (3, 2)])
def test_a_range_outside_the_data_is_refused(sse: ModuleType, start: int, end: int) -> None:
    with pytest.raises(IndexError):
        sse.SseSplitter().feed(b"data", start, end)


def test_an_empty_feed_changes_nothing(sse: ModuleType) -> None:
    splitter = sse.SseSplitter()
    splitter.feed(b"data: a\n\r", 0, 9)
    assert splitter.feed(b"xx", 1, 1) == 1
    assert (splitter.events, splitter.total_events) == (0, 1)
    assert splitter.feed(b"\n", 0, 1) == 1  # still the carriage return's


def test_a_limit_below_one_byte_is_refused(sse: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sse.SseSplitter(0)


def test_spans_cover_each_event_from_its_first_field_to_its_blank_line(sse: ModuleType) -> None:
    run = b": hi\n\ndata: a\n: in\n\r\n\rid: 1\r\r" + b"data: open\n"
    assert [run[a:b] for a, b in sse.event_spans(run)] == [b"data: a\n: in\n\r\n", b"id: 1\r\r"]
    assert sse.event_spans(b"") == []
    assert sse.event_spans(BOM) == []
    assert sse.event_spans(BOM + b": x\ndata: a\n\n") == [(7, 16)]


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"data: a\n\n", b"message", b"a"),
        (b"data:a\ndata:  b\r\ndata\r\n\r\n", b"message", b"a\n b\n"),
        (b"event: one\nevent: two\ndata: a", b"two", b"a"),
        (b"event: one\nevent:\ndata: a", b"message", b"a"),
        (b"event:x\n\n", b"x", b""),
        (b"datax: a\n data: b\nDATA: c\n\n", b"message", b""),
        (BOM + b"data: a\n\n", b"message", b"a"),
        (b"data: a\n\ndata: next\n\n", b"message", b"a"),
        (b"", b"message", b""),
    ],
)
def test_name_and_data_of_one_event_are_read_as_the_standard_says(
    sse: ModuleType, event: bytes, name: bytes, data: bytes
) -> None:
    assert (sse.event_name(event), sse.event_data(event)) == (name, data)


def events_of(reader: Any, chunks: list[bytes]) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    for chunk in chunks:
        yield from ((event.name, event.data, event.id) for event in reader.receive_data(chunk))


def test_vectors_are_read_whole_byte_by_byte_and_with_trailing_data(sse: ModuleType) -> None:
    for row in rows("sse"):
        chunks = [base64.b64decode(chunk) for chunk in row["chunks"]]
        stream = b"".join(chunks)
        want = [(e["type"].encode(), e["data"].encode(), e["id"] and e["id"].encode()) for e in row["events"]]
        want = [(name, data, b"" if ident == "" else ident) for name, data, ident in want]
        for cut in (chunks, [stream], [bytes([byte]) for byte in stream], [stream + b"data: open\n"]):
            assert list(events_of(sse.SseReader(1 << 22), cut)) == want, row["id"]


def outcome(build: ModuleType, limit: int, chunks: list[bytes]) -> tuple[list[Any], bool]:
    """Events, and whether the reader refused the stream."""
    reader = build.SseReader(limit)
    events: list[Any] = []
    refused = False
    for chunk in chunks:
        try:
            events += reader.receive_data(chunk)
        except build.SseError as error:
            events += error.events
            refused = True
            break
    return [(e.name, e.data, e.id) for e in events], refused


@given(STREAMS, CUTS, st.sampled_from([6, 12, 20, 1 << 20]))
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int], limit: int) -> None:
    want = outcome(BUILDS[0], limit, [stream])
    for build in BUILDS:
        assert outcome(build, limit, cut_up(stream, cuts)) == want
        assert outcome(build, limit, [bytes([byte]) for byte in stream]) == want


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(1, 80))
def test_garbage_gives_events_or_the_declared_error(chunks: list[bytes], limit: int) -> None:
    outcomes = [outcome(build, limit, chunks) for build in BUILDS]
    assert outcomes[0] == outcomes[1]


def test_the_last_event_id_stays_until_another_is_set(sse: ModuleType) -> None:
    stream = b"data: 0\n\nid: 7\ndata: 1\n\ndata: 2\n\nid: 8\n\ndata: 3\n\nid\ndata: 4\n\n"
    assert [event.id for event in sse.SseReader().receive_data(stream)] == [None, b"7", b"7", b"8", b""]


def test_a_comment_of_any_length_is_read_over_without_being_held(sse: ModuleType) -> None:
    reader = sse.SseReader(16)
    for chunk in (b"data: a\n\n:", b"x" * 40, b"x" * 40 + b"\n", BOM + b"data: b\n\n", b"data: c\n\n"):
        events = reader.receive_data(chunk)
    assert events == [sse.SseEvent(b"c")]


def test_a_reader_that_refused_a_stream_stays_refusing(sse: ModuleType) -> None:
    reader = sse.SseReader(16)
    with pytest.raises(sse.SseError, match="exceeds 16 bytes") as refused:
        reader.receive_data(b"data: a\n\ndata: " + b"x" * 40)
    assert refused.value.events == [sse.SseEvent(b"a")]
    with pytest.raises(sse.SseError):
        reader.receive_data(b"\n\ndata: b\n\n")


def test_events_compare_by_value_and_show_what_they_hold(sse: ModuleType) -> None:
    event = sse.SseEvent(b"a", b"n", b"1")
    assert event == sse.SseEvent(b"a", b"n", b"1")
    assert event != sse.SseEvent(b"a", b"n")
    assert event != b"a"
    assert len({event, sse.SseEvent(b"a", b"n", b"1")}) == 1
    assert repr(event) == "SseEvent(data=b'a', name=b'n', id=b'1')"


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_a_megabyte_of_short_lines_takes_linear_time(line_end: bytes) -> None:
    compiled = BUILDS[0]
    run = (b"d" + line_end) * ((1 << 20) // 3) + line_end
    began = time.perf_counter()
    assert compiled.SseSplitter(1 << 22).feed(run, 0, len(run)) == len(run)
    assert compiled.event_spans(run) == [(0, len(run))]
    assert compiled.event_data(run) == b""
    assert compiled.event_name(run) == b"message"
    assert time.perf_counter() - began < 2  # linear: 20 ms; one look to the end for each line: minutes
