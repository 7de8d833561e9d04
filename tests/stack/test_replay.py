"""Answers given in pieces, between fake transports: with the client's framing, at its pace, ended once."""

from collections.abc import Callable
from typing import Any

import pytest

from ext.relay_rig import FakeTransport
from outrider.stack.replay import END, Paced, Source, Told, Whole, chunk
from outrider_ext.relay import Downstream, Exchange, Hub, Owner

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(5)]


class Clock:
    """A loop whose time stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._timers: list[tuple[float, Callable[[], None], Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Timer":
        timer = Timer()
        self._timers.append((self.now_s + delay_s, callback, timer))
        return timer

    def go(self, ms: float) -> None:
        until_s = self.now_s + ms / 1000
        while due := [one for one in self._timers if one[0] <= until_s and not one[2].is_cancelled]:
            first = min(due, key=lambda one: one[0])
            self._timers.remove(first)
            self.now_s = first[0]
            first[1]()
        self.now_s = until_s

    @property
    def waiting(self) -> int:
        return sum(not timer.is_cancelled for _, _, timer in self._timers)


class Timer:
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Rig(Owner):
    """An owner that answers every request from a source."""

    def __init__(self) -> None:
        self.hub = Hub(self, None)  # type: ignore[arg-type]
        self.ends: list[Exchange] = []
        self.asked: list[Exchange] = []
        self.failed: list[str] = []
        self.holds_end = False
        self.client = FakeTransport(Downstream(self.hub, None))
        self.hub.on_waiting = lambda: None

    def on_request(self, x: Exchange) -> None:
        x.holds_end = self.holds_end
        self.asked.append(x)

    def on_answer(self, x: Exchange) -> bytes:
        x.sse = x.answer_head.chunked
        return b"x-own: 1\r\n"

    def on_failed(self, x: Exchange, kind: str, detail: str) -> None:
        self.failed.append(kind)
        x.answer(b"HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n", 502)

    def on_end(self, x: Exchange) -> None:
        self.ends.append(x)

    def ask(self, method: bytes = b"GET", version: bytes = b"1.1", more: bytes = b"") -> Exchange:
        self.client.give(method + b" / HTTP/" + version + b"\r\nhost: a\r\n" + more + b"\r\n")
        return self.asked[-1]


def stream_wire() -> tuple[bytes, list[tuple[int, float]]]:
    out, beats = STREAM_HEAD, []
    for number, event in enumerate(EVENTS):
        out += chunk(event)
        beats.append((len(out), number * 10.0))
    return out + END, beats


def test_a_whole_answer_goes_out_at_once_and_the_connection_is_kept() -> None:
    rig = Rig()
    for _ in range(3):
        x = rig.ask()
        Whole(rig.hub, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").begin(x)
        assert rig.client.take() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-own: 1\r\n\r\nhello"
        assert (x.ended, x.outcome, x.sent_ns, x.answer_bytes) == (True, 0, 0, 5)
    assert (len(rig.ends), rig.hub.exchanges, len(rig.hub.upstreams)) == (3, 0, 0)


def test_a_question_for_the_head_gets_no_body() -> None:
    rig = Rig()
    Whole(rig.hub, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").begin(rig.ask(b"HEAD"))
    assert rig.client.take().endswith(b"content-length: 5\r\nx-own: 1\r\n\r\n")
    assert len(rig.ends) == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_stream_has_the_framing_of_its_client(version: bytes) -> None:
    rig = Rig()
    Whole(rig.hub, stream_wire()[0]).begin(rig.ask(version=version))
    head, _, body = rig.client.take().partition(b"\r\n\r\n")
    if version == b"1.0":
        assert b"transfer-encoding" not in head
        assert body == b"".join(EVENTS)
        assert rig.client.is_closed
    else:
        assert body == b"".join(map(chunk, EVENTS)) + END
        assert not rig.client.is_closed


def test_the_last_bytes_wait_where_the_owner_holds_them() -> None:
    rig = Rig()
    rig.holds_end = True
    Whole(rig.hub, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").begin(rig.ask())
    assert rig.client.take() == b""
    assert len(rig.ends) == 1
    rig.hub.let_go(rig.hub.take_waiting())
    assert rig.client.take().endswith(b"hello")


def test_a_client_that_does_not_read_is_given_no_more_until_it_does() -> None:
    rig = Rig()
    size = 1_000_000
    source = Whole(rig.hub, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    x = rig.ask()
    original = rig.client.write

    def write(data: bytes) -> None:
        original(data)
        if not source.is_paused:
            rig.client.protocol.pause_writing()

    rig.client.write = write  # type: ignore[method-assign]
    source.begin(x)
    got = 0
    for _ in range(100):
        piece = len(rig.client.take())
        assert piece <= 65_536 + 200
        got += piece
        if x.ended:
            break
        rig.client.protocol.resume_writing()
    assert x.ended
    assert got >= size


def test_pieces_come_at_their_times_and_late_ones_together() -> None:
    rig, clock = Rig(), Clock()
    wire, beats = stream_wire()
    Paced(rig.hub, wire, beats, clock).begin(rig.ask())
    assert rig.client.take().endswith(chunk(EVENTS[0]))
    clock.go(9)
    assert rig.client.take() == b""
    clock.go(2)
    assert rig.client.take() == chunk(EVENTS[1])
    rig.client.protocol.pause_writing()
    clock.go(15)
    assert rig.client.take() == b""
    rig.client.protocol.resume_writing()
    assert rig.client.take() == chunk(EVENTS[2])
    clock.go(20)
    assert rig.client.take() == chunk(EVENTS[3]) + chunk(EVENTS[4]) + END
    assert (len(rig.ends), clock.waiting) == (1, 0)


def test_the_clock_stops_when_the_client_leaves() -> None:
    rig, clock = Rig(), Clock()
    wire, beats = stream_wire()
    Paced(rig.hub, wire, beats, clock).begin(rig.ask())
    rig.client.lose()
    assert clock.waiting == 0
    assert [x.outcome for x in rig.ends] == [2]


def test_a_giver_is_told_once_that_its_client_left() -> None:
    rig = Rig()
    gone: list[int] = []
    source = Told(rig.hub, lambda: None, lambda: gone.append(1))
    x = rig.ask()
    source.begin(x)
    source.give(STREAM_HEAD + chunk(EVENTS[0]))
    rig.client.lose()
    source.give(chunk(EVENTS[1]))
    source.end_cut()
    assert gone == [1]
    assert [x.outcome for x in rig.ends] == [2]


def test_an_answer_that_will_not_end_is_a_failure_before_and_a_cut_after_its_first_byte() -> None:
    for given, outcome in ((b"", 1), (STREAM_HEAD + chunk(EVENTS[0]), 3)):
        rig = Rig()
        x = rig.ask()
        source = Source(rig.hub)
        source.begin(x)
        if given:
            source.give(given)
        source.end_cut()
        source.end_cut()
        assert [one.outcome for one in rig.ends] == [outcome]
        assert rig.failed == ([] if given else ["closed"])


def test_what_a_source_gives_that_is_no_answer_is_a_failure() -> None:
    rig = Rig()
    Whole(rig.hub, b"nonsense\r\n\r\n").begin(rig.ask())
    assert rig.failed == ["bad_answer"]
    assert rig.client.take().startswith(b"HTTP/1.1 502")
