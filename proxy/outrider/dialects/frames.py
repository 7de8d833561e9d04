"""Frames of a stream: bytes however cut to Frames, and Frames to bytes, for the four framings there are.

Rules
- What is held is bounded: one frame of at most `max_frame_bytes`.
- A frame that stands whole at the end of the bytes counts, also where its last line end is missing: several servers
  leave it out. Of one that is cut there nothing is lost without a word: a cut line of text is given as it is, since
  whether it is whole shows in what it says, and a cut object or binary frame is an error.
- After an error there is nothing more to be had: each call says it again.

Does not know: what frames mean.
Source: WHATWG HTML 9.2 (sse), Smithy's event stream (eventstream), ollama docs/api.md (ndjson), Gemini's
streamGenerateContent without alt=sse (json-array).
"""

import re
from collections.abc import Callable
from typing import Final

from outrider.dialects.base import Frame, Framing
from outrider_ext.eventstream import EventStreamError, EventStreamReader, Message, encode
from outrider_ext.sse import SseError, SseEvent, SseReader

__all__ = ["ArrayWriter", "FrameError", "FrameReader", "eventstream_frame", "ndjson_frame", "sse_frame"]

MAX_FRAME_BYTES: Final = 8 << 20


class FrameError(Exception):
    """The bytes are not of this framing, or exceed the limit; the message is safe to show.

    frames: whole ones of the same chunk, before the break.
    """

    def __init__(self, message: str, frames: list[Frame]) -> None:
        super().__init__(message)
        self.frames = frames


class FrameReader:
    """feed(chunk) -> 0..n frames, in order; end() -> what the end of the bytes completes. Raises: FrameError."""

    def __init__(self, framing: Framing, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._source: _Source = _SOURCES[framing](max_frame_bytes)

    def feed(self, chunk: bytes) -> list[Frame]:
        try:
            return self._source.feed(chunk)
        except FrameError as exc:
            self._source = _Broken(str(exc))
            raise

    def end(self) -> list[Frame]:
        try:
            return self._source.end()
        except FrameError as exc:
            self._source = _Broken(str(exc))
            raise


class _Broken:
    def __init__(self, message: str) -> None:
        self._message = message

    def feed(self, chunk: bytes) -> list[Frame]:
        raise FrameError(self._message, [])

    def end(self) -> list[Frame]:
        raise FrameError(self._message, [])


class _Sse:
    def __init__(self, max_frame_bytes: int) -> None:
        self._reader = SseReader(max_frame_bytes)

    def feed(self, chunk: bytes) -> list[Frame]:
        try:
            return _of_sse(self._reader.receive_data(chunk))
        except SseError as exc:
            raise FrameError(str(exc), _of_sse(exc.events)) from exc

    def end(self) -> list[Frame]:
        return self.feed(b"\n\n")


def _of_sse(events: list[SseEvent]) -> list[Frame]:
    return [
        Frame(event.data, "" if event.name == b"message" else event.name.decode("utf-8", "replace")) for event in events
    ]


class _EventStream:
    def __init__(self, max_frame_bytes: int) -> None:
        self._reader = EventStreamReader(max_payload_bytes=max_frame_bytes)

    def feed(self, chunk: bytes) -> list[Frame]:
        try:
            return _of_messages(self._reader.receive_data(chunk))
        except EventStreamError as exc:
            raise FrameError(str(exc), _of_messages(exc.messages)) from exc

    def end(self) -> list[Frame]:
        try:
            self._reader.finish()
        except EventStreamError as exc:
            raise FrameError(str(exc), []) from exc
        return []


def _of_messages(messages: list[Message]) -> list[Frame]:
    frames = []
    for message in messages:
        headers = message.headers
        is_exception = headers.get(":message-type") in ("exception", "error")
        name = headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code") or ""
        frames.append(Frame(message.payload, str(name), is_exception))
    return frames


class _Lines:
    """One JSON text a line."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._tail = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        if b"\n" not in chunk:
            self._hold(chunk, [])
            return []
        first, *whole, last = chunk.split(b"\n")
        frames: list[Frame] = []
        for line in (bytes(self._tail) + first, *whole):
            if len(line) > self._max_frame_bytes:
                self._fail(frames)
            if line := line.strip():
                frames.append(Frame(line))
        self._tail.clear()
        self._hold(last, frames)
        return frames

    def end(self) -> list[Frame]:
        line = bytes(self._tail).strip()
        self._tail.clear()
        return [Frame(line)] if line else []

    def _hold(self, part: bytes, frames: list[Frame]) -> None:
        if len(self._tail) + len(part) > self._max_frame_bytes:
            self._fail(frames)
        self._tail += part

    def _fail(self, frames: list[Frame]) -> None:
        raise FrameError(f"The stream has a line of over {self._max_frame_bytes} bytes.", frames)


class _Array:
    """The objects of one JSON array. The plan: only quotes, backslashes, braces and brackets are looked at."""

    _MARKS = re.compile(rb'["{}\[\]]')
    _IN_STRING = re.compile(rb'["\\]')

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._held = bytearray()
        self._at = 0  # looked at up to here
        self._begin = -1  # of the open object
        self._depth = 0  # of brackets and braces below the array's own
        self._in_string = False

    def feed(self, chunk: bytes) -> list[Frame]:
        self._held += chunk
        frames: list[Frame] = []
        while (mark := self._next_mark()) >= 0:
            self._take(mark, frames)
        keep = self._begin if self._begin >= 0 else self._at
        del self._held[:keep]
        self._at -= keep
        self._begin = 0 if self._begin >= 0 else -1
        if len(self._held) > self._max_frame_bytes:
            self._fail(frames)
        return frames

    def _fail(self, frames: list[Frame]) -> None:
        raise FrameError(f"The stream has an object of over {self._max_frame_bytes} bytes.", frames)

    def end(self) -> list[Frame]:
        if self._begin >= 0:
            raise FrameError(f"The stream ended inside an object, after {len(self._held)} of its bytes.", [])
        return []

    def _next_mark(self) -> int:
        found = (self._IN_STRING if self._in_string else self._MARKS).search(self._held, self._at)
        if found is None:
            self._at = len(self._held)
            return -1
        at = found.start()
        if self._held[at] == 0x5C:  # what it escapes may not be here yet: it is looked at together with it
            if at + 1 == len(self._held):
                self._at = at
                return -1
            self._at = at + 2
            return at
        self._at = at + 1
        return at

    def _take(self, at: int, frames: list[Frame]) -> None:
        mark = self._held[at]
        if mark == 0x22:
            self._in_string = not self._in_string
        elif mark in b"{[" and not self._in_string:
            if mark == 0x7B and self._begin < 0:
                self._begin, self._depth = at, 0
            if self._begin >= 0:
                self._depth += 1
        elif mark in b"}]" and self._begin >= 0 and not self._in_string:
            self._depth -= 1
            if self._depth == 0:
                if at + 1 - self._begin > self._max_frame_bytes:
                    self._fail(frames)
                frames.append(Frame(bytes(self._held[self._begin : at + 1])))
                self._begin = -1


type _Source = _Sse | _EventStream | _Lines | _Array | _Broken
_SOURCES: Final[dict[Framing, Callable[[int], _Source]]] = {
    "sse": _Sse,
    "eventstream": _EventStream,
    "ndjson": _Lines,
    "json-array": _Array,
    "": lambda max_frame_bytes: _Broken("This dialect has no streams."),
}


# -- and back


def sse_frame(data: bytes, name: str = "") -> bytes:
    """data: without line ends, as JSON is."""
    if name:
        return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
    return b"data: %s\n\n" % data


class ArrayWriter:
    """Events as server-sent events give them, as the objects of one JSON array: take(bytes, is_last) -> bytes."""

    def __init__(self) -> None:
        self._frames = FrameReader("sse")
        self._before = b"["
        self._closed = False

    def take(self, data: bytes, is_last: bool) -> bytes:
        if self._closed:
            return b""
        frames = self._frames.feed(data)
        if is_last:
            frames += self._frames.end()
        out = []
        for frame in frames:
            out.append(self._before + frame.data)
            self._before = b",\r\n"
        if is_last:
            self._closed = True
            out.append(b"]" if self._before != b"[" else b"[]")
        return b"".join(out)


def ndjson_frame(data: bytes) -> bytes:
    return data + b"\n"


def eventstream_frame(data: bytes, name: str, *, is_exception: bool = False) -> bytes:
    kind, key = ("exception", ":exception-type") if is_exception else ("event", ":event-type")
    return encode({key: name, ":content-type": "application/json", ":message-type": kind}, data)
