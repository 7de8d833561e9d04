"""Parts of a stream for dialects that cannot say them as they come: tool calls whole, or one part at a time.

Rules
- Parts leave in the order in which they began.
- What is held is bounded: beyond MAX_HELD characters a TooLongError, and the stream ends in an error event.

Does not know: any dialect.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Final

from outrider.dialects.base import Notes
from outrider.dialects.canonical import (
    ArgumentsDelta,
    CitationDelta,
    DataDelta,
    End,
    ErrorEvent,
    Finish,
    Media,
    Opaque,
    Part,
    PartStart,
    PartStop,
    ProviderError,
    SignatureDelta,
    Start,
    StreamEvent,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    Usage,
    UsageEvent,
)

__all__ = ["MAX_HELD", "HoldingWriter", "InOrder", "OneAnswerWriter", "TooLongError", "Whole"]

MAX_HELD: Final = 8 << 20
type _Delta = TextDelta | ArgumentsDelta | SignatureDelta | CitationDelta | DataDelta
_DELTAS: Final = frozenset({TextDelta, ArgumentsDelta, SignatureDelta, CitationDelta, DataDelta})


class TooLongError(Exception):
    """A part that has to be held is longer than may be."""

    def __init__(self) -> None:
        super().__init__(f"A part of the answer is longer than {MAX_HELD} characters, the most that is held.")


class Whole:
    """Parts that are given only when they are whole: begin, add, end -> those that may leave now."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[Part, list[str]]] = {}
        self._done: set[tuple[int, int]] = set()
        self._held = 0

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._open

    def begin(self, event: PartStart) -> None:
        self._open[event.choice, event.part] = (copy(event.value), [])  # the events are not ours to change

    def add(self, event: _Delta) -> None:
        """Raises: TooLongError."""
        part, pieces = self._open[event.choice, event.part]
        piece = ""
        if isinstance(event, TextDelta):
            piece = event.text
        elif isinstance(event, ArgumentsDelta):
            piece = event.json
        elif isinstance(event, DataDelta):
            piece = event.data
        elif isinstance(event, SignatureDelta) and isinstance(part, (Thinking, ToolCall, Text)):
            part.signature = event.signature
        self._held += len(piece)
        if self._held > MAX_HELD:
            raise TooLongError
        pieces.append(piece)

    def end(self, choice: int, part: int) -> list[tuple[int, Part]]:
        """(choice, part) of all that are whole and before which nothing of their choice is open."""
        self._done.add((choice, part))
        ready = []
        for key in list(self._open):
            if key[0] != choice:
                continue
            if key not in self._done:
                break
            self._done.discard(key)
            ready.append((choice, self._joined(*self._open.pop(key))))
        return ready

    def end_all(self) -> list[tuple[int, Part]]:
        """What is open when the choice is over, whole or not."""
        left = [(key[0], self._joined(*held)) for key, held in self._open.items()]
        self._open.clear()
        return left

    def _joined(self, part: Part, pieces: list[str]) -> Part:
        more = "".join(pieces)
        self._held -= len(more)
        if isinstance(part, ToolCall):
            part.arguments += more
        elif isinstance(part, Media):
            part.data = (part.data or "") + more
        elif not isinstance(part, Opaque) and hasattr(part, "text"):
            part.text += more
        return part


class InOrder:
    """Events with parts that follow each other: those of a later part wait until the earlier one has stopped."""

    def __init__(self) -> None:
        self._live: tuple[int, int] | None = None
        self._waiting: dict[tuple[int, int], list[StreamEvent]] = {}
        self._held = 0

    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        """What may be said now. Raises: TooLongError."""
        kind = type(event)
        if kind is Finish:
            return [*self.drain(), event]
        if kind is not PartStart and kind is not PartStop and kind not in _DELTAS:
            return [event]
        key = (event.choice, event.part)  # type: ignore[union-attr]
        if kind is PartStart and self._live is None:
            self._live = key
            return [event]
        if key == self._live:
            return [event] if kind is not PartStop else [event, *self._next()]
        self._hold(key, event)
        return []

    def drain(self) -> list[StreamEvent]:
        """The rest: what was not stopped is stopped."""
        events: list[StreamEvent] = []
        while self._live is not None:
            events.append(PartStop(*self._live))
            events += self._next()
        return events

    def _hold(self, key: tuple[int, int], event: StreamEvent) -> None:
        self._held += _length(event)
        if self._held > MAX_HELD:
            raise TooLongError
        self._waiting.setdefault(key, []).append(event)

    def _next(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        self._live = None
        while self._waiting:
            key = next(iter(self._waiting))
            held = self._waiting.pop(key)
            self._held -= sum(map(_length, held))
            events += held
            if type(held[-1]) is not PartStop:
                self._live = key
                break
        return events


class HoldingWriter(ABC):
    """A writer of a stream that holds some of its parts: where one is too long, the stream ends in an error event."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._usage: Usage | None = None
        self._over = False

    def write(self, events: list[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self._over:
                break
            try:
                self._take(event, out)
            except TooLongError as exc:
                self._error(ProviderError(0, "server", str(exc)), out)
        return b"".join(out)

    @abstractmethod
    def _take(self, event: StreamEvent, out: list[bytes]) -> None:
        """Raises: TooLongError."""

    @abstractmethod
    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        """The stream's last words."""


class OneAnswerWriter(HoldingWriter):
    """Of a dialect whose streams have room for one answer."""

    def _take(self, event: StreamEvent, out: list[bytes]) -> None:
        self._event(event, out)

    def _event(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, TextDelta):
            if event.choice == 0:
                self._text(event, out)
        elif isinstance(event, (Start, UsageEvent)):
            self._usage = event.usage or self._usage
            if isinstance(event, Start):
                self._start(event, out)
        elif isinstance(event, ErrorEvent):
            self._error(event.error, out)
        elif isinstance(event, End):
            self._end(out)
        elif event.choice != 0:
            self._notes.add("all answers but the first left out")
        else:
            self._of_choice(event, out)

    def _start(self, event: Start, out: list[bytes]) -> None:
        """What is said before any part."""

    @abstractmethod
    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        """A piece of the text."""

    @abstractmethod
    def _of_choice(self, event: StreamEvent, out: list[bytes]) -> None:
        """Whatever else belongs to the answer."""

    @abstractmethod
    def _end(self, out: list[bytes]) -> None:
        """All that is left to say."""


def _length(event: StreamEvent) -> int:
    if type(event) is ArgumentsDelta:
        return len(event.json) + 64
    if type(event) is TextDelta:
        return len(event.text) + 64
    return len(event.data) + 64 if type(event) is DataDelta else 64
