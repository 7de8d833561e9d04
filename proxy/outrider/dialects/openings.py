"""What the beginning of a stream is: content, or an error that a provider says after its 200.

Rules: only the first event that means something is looked at; comments and pings are passed over; what is not
understood is content. Cost: linear in what has come, once per piece, and only until it is known.
Does not know: HTTP, who decides what follows.
"""

from typing import TYPE_CHECKING, Final, Literal

import orjson

from outrider_ext.eventstream import EventStreamError, EventStreamReader
from outrider_ext.sse import event_data, event_name, event_spans

if TYPE_CHECKING:
    from outrider.dialects.base import Framing

type Verdict = Literal["content", "again"]

CONTENT: Final = "content"
AGAIN: Final = "again"


def opening(data: bytes, framing: "Framing", *, is_last: bool) -> Verdict | None:
    """CONTENT for content, AGAIN for an error, None while it cannot be said."""
    if framing == "sse":
        found = _sse(data, is_last=is_last)
    elif framing == "ndjson":
        found = _lines(data, is_last=is_last)
    elif framing == "eventstream":
        found = _frames(data)
    else:
        found = _array(data, is_last=is_last)
    if found is None and is_last:
        return AGAIN if not data.strip() else CONTENT  # a stream of nothing is no answer
    return found


def _sse(data: bytes, *, is_last: bool) -> Verdict | None:
    for start, end in event_spans(data + b"\n\n" if is_last else data):
        event = data[start:end]
        name, value = event_name(event), event_data(event)
        if name == b"ping" or (not value and name in (b"", b"message")):
            continue
        if name == b"error":
            return AGAIN
        return AGAIN if _is_error(value) else CONTENT
    return None


def _lines(data: bytes, *, is_last: bool) -> Verdict | None:
    line, newline, _ = data.lstrip().partition(b"\n")
    if not newline and not (line and is_last):
        return None
    return AGAIN if _is_error(line) else CONTENT


def _frames(data: bytes) -> Verdict | None:
    try:
        messages = EventStreamReader().receive_data(data)
    except EventStreamError:
        return CONTENT
    if not messages:
        return None
    kind = messages[0].headers.get(":message-type")
    return AGAIN if kind in ("exception", "error") else CONTENT


def _array(data: bytes, *, is_last: bool) -> Verdict | None:
    text = data.lstrip().removeprefix(b"[").lstrip()
    if not text:
        return None
    if not text.startswith(b"{"):
        return CONTENT
    key = text[1:].lstrip()
    if len(key) < len(b'"error"') and not is_last:
        return None
    return AGAIN if key.startswith(b'"error"') else CONTENT


def _is_error(value: bytes) -> bool:
    """A JSON object with an `error` that says something, or of the type `error`; or Cohere's end that is one."""
    if b'"error"' not in value and b'"ERROR"' not in value:
        return False
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(found, dict):
        return False
    if found.get("type") == "message-end" and isinstance(delta := found.get("delta"), dict):
        return bool(delta.get("error")) or delta.get("finish_reason") == "ERROR"
    return bool(found.get("error")) or found.get("type") == "error"
