"""The events of one streamed answer, redacted: state for every text in it, flushed before its block ends.

Rules
- An event goes on with what of its text can no longer change, be that nothing. What is kept back leaves with the next
  event of the same text; before the event that ends the block an event like the last one is put in, with the rest.
- What an event repeats as a whole is redacted as a whole.
Does not know: framing (a frame is handed back as it was handed in), detectors, dialects (see texts).
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from outrider.govern.jsontext import dump, written
from outrider.govern.redact.stream import TextStream
from outrider.govern.redact.texts import ALL, Event, Json, Key, Slot, drop_logprobs, read_event, walk
from outrider_ext.eventholes import is_plain

type Out = list[tuple[Any, bytes]]  # (frame, JSON)
RAW: Final = object()  # in a frame's place: the bytes are the whole event
MAX_TEXTS: Final = 4096  # an answer with more of them is none


class TooManyTextsError(Exception):
    """The stream names more texts than one answer has."""


class _Text:
    """last, slot, slots: the event that brought the last piece, kept to be said again with the rest."""

    __slots__ = ("frame", "last", "raw", "slot", "slots", "stream", "wrapped")

    def __init__(self, stream: TextStream) -> None:
        self.stream = stream
        self.last: Json = {}
        self.slot: Slot | None = None
        self.slots: list[Slot] = []
        self.frame: Any = None
        self.wrapped: Json | None = None
        self.raw: tuple[bytes, int, int] | None = None  # the last event, as bytes and where its text stands


class Ways(NamedTuple):
    """stream(kind) -> the state of a new text. whole(text, kind) -> the new text or None."""

    stream: Callable[[str], TextStream]
    whole: Callable[[str, str], str | None]
    drops_logprobs: bool


class Events:
    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._texts: dict[Key, _Text] = {}
        self.plain: Slot | None = None  # of the last event, where it held a piece of one text and nothing else changed

    def event(self, event: Any, frame: Any = None, text: bytes | None = None) -> Out:
        """What to send for this event: its JSON, and before it what had to be flushed.

        event: parsed, and taken over. text: what it was parsed from, so that its numbers keep their spelling.
        """
        if type(event) is not dict:
            holder = [event]
            walk(holder, self._ways.whole)
            return [(frame, dump(holder[0]) if text is None else written(text, holder[0]))]
        found = _native_of(event)
        if found is None:
            return self._event(event, frame, None, text)
        native, native_text = found
        return self._event(native, frame, event, native_text)

    def end(self) -> Out:
        """The stream ends: everything that was kept back."""
        return self._flush(ALL, ())

    def feed_raw(self, slot: Slot, event: bytes, start: int, end: int, piece: bytes) -> bytes:
        """The next piece of a text, whose event is known but for it."""
        text = self._text(slot.key, slot.kind)
        text.raw = (event, start, end)
        return text.stream.feed(piece)

    def _event(self, event: Json, frame: Any, wrapped: Json | None, said: bytes | None) -> Out:
        read = read_event(event)
        keys = tuple(slot.key for slot in read.slots)
        out: Out = []
        if read.ends is not None:
            out += self._flush(read.ends, keys)
        if read.alone and keys:
            out += self._flush(keys[0][:1], keys)
        dropped = self._ways.drops_logprobs and drop_logprobs(event)
        self._take(read, keys)
        changed = walk(event, self._ways.whole, skip=frozenset((id(slot.holder), slot.name) for slot in read.slots))
        for slot in read.slots:
            text = self._texts.get(slot.key)
            if text is not None:
                text.raw = None
                text.last, text.slot, text.slots, text.frame, text.wrapped = event, slot, read.slots, frame, wrapped
        out.append((frame, _dumped(event, wrapped, said)))
        alone = len(read.slots) == 1 and read.ends is None and wrapped is None and not (changed or dropped)
        self.plain = read.slots[0] if alone else None
        if read.ends is not None:
            for key in [key for key in self._texts if key[: len(read.ends)] == read.ends]:
                del self._texts[key]
        return out

    def _take(self, read: Event, keys: tuple[Key, ...]) -> None:
        """Each slot's piece; one that has a later piece in the same event is not finished by it."""
        for place, slot in enumerate(read.slots):
            piece = _utf8(slot.holder[slot.name])
            stream = self._text(slot.key, slot.kind).stream
            ends = (
                read.ends is not None and slot.key[: len(read.ends)] == read.ends and slot.key not in keys[place + 1 :]
            )
            given = stream.finish(piece) if ends else stream.feed(piece)
            slot.holder[slot.name] = given.decode("utf-8", "surrogatepass")

    def _text(self, key: Key, kind: str) -> _Text:
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= MAX_TEXTS:
                raise TooManyTextsError(f"an answer with more than {MAX_TEXTS} texts at once cannot be redacted")
            text = self._texts[key] = _Text(self._ways.stream(kind))
        return text

    def _flush(self, prefix: Key, but: tuple[Key, ...]) -> Out:
        out: Out = []
        for key, text in self._texts.items():
            if key[: len(prefix)] != prefix or key in but or not text.stream.pending:
                continue
            rest = text.stream.finish()
            if rest and text.raw is not None:
                event, start, end = text.raw
                out.append((RAW, event[:start] + in_json(rest) + event[end:]))
            elif rest and text.slot is not None:
                for slot in text.slots:
                    slot.holder[slot.name] = ""
                text.slot.holder[text.slot.name] = rest.decode("utf-8", "surrogatepass")
                out.append((text.frame, _dumped(text.last, text.wrapped)))
        return out


def in_json(text: bytes) -> bytes:
    """As it stands between the quotes of a JSON string."""
    return text if is_plain(text) else dump(text.decode("utf-8", "surrogatepass"))[1:-1]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _native_of(event: Json) -> tuple[Json, bytes] | None:
    """The model's own event inside one of Bedrock's invoke stream, and its text."""
    encoded = event.get("bytes")
    if type(encoded) is not str:
        return None
    try:
        text = b64decode(encoded, validate=True)
        native = orjson.loads(text)
    except ValueError:
        return None
    return (native, text) if type(native) is dict else None


def _dumped(event: Json, wrapped: Json | None, said: bytes | None = None) -> bytes:
    """said: the text that the event was read from, where it is not one of ours."""
    data = dump(event) if said is None else written(said, event)
    if wrapped is None:
        return data
    return orjson.dumps({**wrapped, "bytes": b64encode(data).decode("ascii")})
