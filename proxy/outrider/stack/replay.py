"""Answers of our own, given in pieces: a whole one at once, one at a pace, or one that is still being made.

Rules: what is given is a provider's answer as it came, so that it passes all that an answer passes (rules on answers,
restored pseudonyms, the client's framing, the audit log's last word); it is given no faster than the client reads; a
client that leaves is told of once.
Does not know: where the bytes come from, how long they are good for.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from outrider_ext.relay import Upstream

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange, Hub

GIVEN_BYTES = 65_536  # at once, before the client is asked whether it keeps up
SOON_MS = 0.5  # what is due so soon is not waited for
END = b"0\r\n\r\n"
_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def whole_wire(status: int, lines: bytes, body: bytes) -> bytes:
    """An HTTP/1.1 answer to be given in a provider's place. lines: of its head, CRLF after each."""
    phrase = _PHRASES.get(status, b"")
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, phrase, lines, len(body), body)


def chunk(piece: bytes) -> bytes:
    """A piece of an answer in the framing of an answer whose length nobody knows yet."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class _Nowhere:
    """The pool of connections that there are not."""

    def release(self, connection: Upstream) -> None:
        connection.transport = None  # else the two would hold each other

    def discard(self, connection: Upstream) -> None:
        connection.transport = None


_NOWHERE = _Nowhere()


class Source:
    """What stands where a provider's connection would. A giver derives from it and calls `give`, `end_cut`.

    ready(): the client reads again. gone(): the exchange is over for this source, before its end.
    """

    __slots__ = ("is_over", "is_paused", "upstream")

    def __init__(self, hub: "Hub") -> None:
        self.is_paused = self.is_over = False
        self.upstream = Upstream(hub, _NOWHERE)
        self.upstream.transport = self  # type: ignore[assignment]

    def begin(self, x: "Exchange", sent_ns: int = 0) -> None:
        """sent_ns: when a provider was asked, among others for this exchange."""
        x.replay(self.upstream, sent_ns)

    def give(self, wire: bytes) -> None:
        """The next bytes of the answer's wire form."""
        self.upstream.data_received(wire)

    def end_cut(self) -> None:
        """It will not end as it should."""
        if not self.is_over:
            self.is_over = True
            self.upstream.connection_lost(None)

    def ready(self) -> None:
        """Nothing waits, by default."""

    def gone(self) -> None:
        """Nobody is to be told, by default."""

    # -- the relay's side, as a transport

    def write(self, data: bytes) -> None:
        """Nobody is asked."""

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        self.ready()

    def abort(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.gone()

    close = abort


class Whole(Source):
    """An answer that is there from its beginning to its end."""

    __slots__ = ("_at", "_is_giving", "_wire")

    def __init__(self, hub: "Hub", wire: bytes) -> None:
        super().__init__(hub)
        self._wire = wire
        self._at = 0
        self._is_giving = False

    def begin(self, x: "Exchange", sent_ns: int = 0) -> None:
        super().begin(x, sent_ns)
        if len(self._wire) <= GIVEN_BYTES and not self.is_paused:
            self._at = len(self._wire)
            self.give(self._wire)
        else:
            self.ready()

    def ready(self) -> None:
        if self._is_giving:  # giving has paused and resumed it
            return
        self._is_giving = True
        try:
            while self._at < len(self._wire) and not self.is_paused and not self.is_over:
                piece = self._wire[self._at : self._at + GIVEN_BYTES]
                self._at += len(piece)
                self.give(piece)
        finally:
            self._is_giving = False


class Paced(Source):
    """Pieces of an answer, each at its time. beats: (where the piece ends in the wire form, ms after the first)."""

    __slots__ = ("_at", "_beats", "_began_s", "_loop", "_next", "_timer", "_wire")

    def __init__(self, hub: "Hub", wire: bytes, beats: Sequence[tuple[int, float]], loop: Any) -> None:
        super().__init__(hub)
        self._wire, self._beats, self._loop = wire, beats, loop
        self._at = self._next = 0
        self._timer: Any = None

    def begin(self, x: "Exchange", sent_ns: int = 0) -> None:
        self._began_s = self._loop.time()
        super().begin(x, sent_ns)
        self.ready()

    def ready(self) -> None:
        """All that is due, in one piece; then a timer for the next."""
        if self._timer is not None or self.is_paused or self.is_over:
            return
        passed_ms = (self._loop.time() - self._began_s) * 1000
        until = self._at
        while self._next < len(self._beats) and self._beats[self._next][1] <= passed_ms + SOON_MS:
            until = self._beats[self._next][0]
            self._next += 1
        is_last = self._next == len(self._beats)
        if is_last:
            until = len(self._wire)
        else:
            wait_s = (self._beats[self._next][1] - passed_ms) / 1000
            self._timer = self._loop.call_later(wait_s, self._due)
        if until > self._at:
            piece, self._at = self._wire[self._at : until], until
            self.give(piece)

    def _due(self) -> None:
        self._timer = None
        self.ready()

    def gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Told(Source):
    """An answer that is still being made, by somebody else. on_ready, on_gone: of whoever makes it."""

    __slots__ = ("_on_gone", "_on_ready")

    def __init__(self, hub: "Hub", on_ready: Callable[[], None], on_gone: Callable[[], None]) -> None:
        super().__init__(hub)
        self._on_ready, self._on_gone = on_ready, on_gone

    def ready(self) -> None:
        self._on_ready()

    def gone(self) -> None:
        self._on_gone()
