"""Which answers are streams: by their content-type, and by what the relay cut them into.

Source: WHATWG HTML 9.2, Smithy's event stream, ollama's docs/api.md, Cohere's API v1 (application/stream+json), and the
three names by which servers call JSON lines.
Does not know: what an event says (openings), how events are cut out (frames).
"""

from typing import TYPE_CHECKING, Final

from outrider_ext import http1

if TYPE_CHECKING:
    from outrider.dialects.base import Framing
    from outrider_ext.relay import Exchange

_CONTENT_TYPE = http1.header_id(b"content-type")
_FRAMINGS: "Final[tuple[tuple[bytes, Framing], ...]]" = (
    (b"text/event-stream", "sse"),
    (b"application/x-ndjson", "ndjson"),
    (b"application/ndjson", "ndjson"),
    (b"application/jsonl", "ndjson"),
    (b"application/stream+json", "ndjson"),
    (b"application/vnd.amazon.eventstream", "eventstream"),
)
# What we write of each.
CONTENT_TYPES: "Final[dict[Framing, bytes]]" = {
    "sse": b"text/event-stream; charset=utf-8",
    "ndjson": b"application/x-ndjson",
    "eventstream": b"application/vnd.amazon.eventstream",
    "json-array": b"application/json",
}
_OF_UNITS: "Final[tuple[Framing, ...]]" = ("", "ndjson", "eventstream", "json-array")  # by Exchange.units


def framing_of(content_type: bytes | None) -> "Framing":
    """Of an answer of this type, in any case of letters; "" where it is no stream."""
    if content_type is None:
        return ""
    lower = content_type.lower()
    return next((framing for name, framing in _FRAMINGS if lower.startswith(name)), "")


def units_of(content_type: bytes) -> int:
    """What the relay cuts such an answer into, SSE apart; 0 where it is no stream."""
    framing = framing_of(content_type)
    return 0 if framing == "sse" else _OF_UNITS.index(framing)


def framing_in(x: "Exchange") -> "Framing":
    """Of the answer that is on its way; "" where it is no stream."""
    if x.sse:
        return "sse"
    if x.pipe is not None:  # which sees to whole units itself
        return framing_of(x.answer_head.get(_CONTENT_TYPE))
    return _OF_UNITS[x.units]
