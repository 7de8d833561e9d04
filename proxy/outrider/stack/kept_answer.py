"""What may be kept of an answer that was redacted in flight: masked as the app got it, its pseudonyms unresolved.

Rules
- It is read once more from what the provider sent, by the same redactors; only the vault is an empty one, so that a
  pseudonym stays one: what it stands for is nowhere in what is kept.
- What cannot be read whole (cut, broken off, blocked) is not kept at all.
- Nothing is counted a second time.
Does not know: where it is kept, how much of it.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from outrider.errors import SidecarError
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.events import Events
from outrider.stack.redact import BINARY, FramesRedactor, LinesRedactor, Redacting, SseRedactor, WholeRedactor, ways_of
from outrider_ext import http1
from outrider_ext.sse import event_spans

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_CONTENT_TYPE: Final = http1.header_id(b"content-type")


class NotKeptError(Exception):
    """str(exc) says why, in a few words."""


def kept_answer(x: "Exchange", redacting: Redacting, data: bytes, *, is_cut: bool) -> bytes:
    """data: the body as the provider sent it. is_cut: not all of it is there. Raises: NotKeptError."""
    kind = (x.answer_head.get(_CONTENT_TYPE) or b"").lower()
    if is_cut or kind.startswith(BINARY):
        raise NotKeptError("longer than caps.usage_bytes" if is_cut else "no text")
    try:
        return _read(x, Redacting(redacting.plan.untold(), Vault()), kind, data)
    except SidecarError as error:
        raise NotKeptError(f"it could not be redacted whole ({error.code})") from error


def _read(x: "Exchange", redacting: Redacting, kind: bytes, data: bytes) -> bytes:
    events = Events(ways_of(redacting))
    cap_bytes = len(data) + 1
    if kind.startswith(b"text/event-stream"):
        call: Any = SimpleNamespace(strip_usage=False, error=None)
        stream = SseRedactor(events, call, redacting)
        spans = event_spans(data)  # as the relay hands them over: whole events, then what stands behind the last one
        end = spans[-1][1] if spans else 0
        return stream.run(x, data[:end]) + stream.end(x, data[end:])
    if kind.startswith(b"application/vnd.amazon.eventstream"):
        return FramesRedactor(events, cap_bytes).pipe(x, data, is_last=True)
    if kind.startswith((b"application/x-ndjson", b"application/jsonl", b"application/stream+json")):
        return LinesRedactor(events, cap_bytes).pipe(x, data, is_last=True)
    return WholeRedactor(redacting).answer(x, data)
