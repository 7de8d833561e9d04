"""Which content types are streams, and the beginnings of each kind."""

import pytest

from outrider.dialects.openings import opening
from outrider.dialects.streams import CONTENT_TYPES, framing_of, units_of
from outrider_ext.eventstream import encode

FRAMINGS = {
    b"text/event-stream": "sse",
    b"Text/Event-Stream; charset=utf-8": "sse",
    b"application/x-ndjson": "ndjson",
    b"application/ndjson": "ndjson",
    b"application/jsonl": "ndjson",
    b"application/jsonlines": "ndjson",
    b"application/stream+json": "ndjson",
    b"application/vnd.amazon.eventstream": "eventstream",
    b"application/json": "",
    b"text/plain": "",
    b"": "",
    None: "",
}


@pytest.mark.parametrize("kind", FRAMINGS)
def test_a_stream_is_known_by_its_type(kind: bytes | None) -> None:
    assert framing_of(kind) == FRAMINGS[kind]
    if kind is not None:
        assert units_of(kind) == {"sse": 0, "ndjson": 1, "eventstream": 2, "": 0}[FRAMINGS[kind]]


def test_what_is_written_as_a_stream_is_read_as_one() -> None:
    for framing, kind in CONTENT_TYPES.items():
        assert framing_of(kind) == ("" if framing == "json-array" else framing)


BEGINNINGS = [
    ("sse", b": ping\n\nevent: ping\ndata: {}\n\n", None),
    ("sse", b'data: {"error":{"message":"no"}}\n\n', "again"),
    ("sse", b'event: error\ndata: {"type":"overloaded"}\n\n', "again"),
    ("sse", b'data: {"choices":[]}\n\n', "content"),
    ("ndjson", b'{"error":"no"', None),
    ("ndjson", b'{"error":"no"}\n', "again"),
    ("ndjson", b'{"message":{}}\n', "content"),
    ("eventstream", encode({":message-type": "exception"}, b"{}")[:9], None),
    ("eventstream", encode({":message-type": "exception"}, b"{}"), "again"),
    ("eventstream", encode({":message-type": "event"}, b"{}"), "content"),
    ("json-array", b"[", None),
    ("json-array", b'[{"error":', "again"),
    ("json-array", b'[{"candidates":', "content"),
]


@pytest.mark.parametrize(("framing", "data", "verdict"), BEGINNINGS)
def test_a_stream_that_begins_with_an_error_is_asked_for_again(framing: str, data: bytes, verdict: str | None) -> None:
    assert opening(data, framing, is_last=False) == verdict  # type: ignore[arg-type]
    if verdict is None:
        assert opening(b"", framing, is_last=True) == "again"  # type: ignore[arg-type]
