"""What a log may keep of an exchange's text (`telemetry.audit.content: redacted`).

Rules
- Personal data, secrets and what `redact.patterns` and `redact.words` find is masked, whether or not it is redacted in
  flight, and whether or not the exchange was let through.
- An answer that was redacted in flight is read once more from what the provider sent, by the same redactors and with an
  empty vault, so that a pseudonym stays one: what it stands for is nowhere in what is kept.
- What cannot be read whole (cut, broken off, blocked, no text) is not kept at all; of a stream that broke off, all but
  its last piece is.
- Nothing is counted: it was counted in flight, or is none of its business.
Does not know: where it is kept, how much of it.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from outrider.dialects.streams import framing_of
from outrider.errors import SidecarError
from outrider.govern.jsontext import load
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.configured import configured
from outrider.govern.redact.events import Events
from outrider.govern.redaction import Redaction
from outrider.stack.call import Call
from outrider.stack.document import plain_body
from outrider.stack.redact import (
    BINARY,
    FramesRedactor,
    LinesRedactor,
    Redacting,
    SseRedactor,
    WholeRedactor,
    redact_other,
    redact_parts,
    ways_of,
)
from outrider_ext import http1
from outrider_ext.sse import event_data, event_spans

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_CONTENT_TYPE: Final = http1.header_id(b"content-type")


class NotKeptError(Exception):
    """str(exc) says why, in a few words."""


class KeptText:
    """settings: `redact:` of the configuration. cap_bytes: of a body that came compressed.

    request(x, call) -> the request as it left, or would have; answer(x, call) -> the answer. Both raise NotKeptError.
    """

    def __init__(self, settings: Any, cap_bytes: int) -> None:
        """Raises: RedactError."""
        plans, _ = configured(settings, lambda *labels: None)
        names = ("pii", "secrets", *settings.patterns, *settings.words)
        self._masks = plans.of((Redaction(detectors=names, action="mask"),))
        self._cap_bytes = cap_bytes

    def request(self, x: "Exchange", call: Call) -> bytes:
        if not x.body:
            return b""
        value = x.head.get(_CONTENT_TYPE) or b""
        kind = value.lower()
        redact = self._masks.request_text(Vault())
        try:
            document = call.document
            plain = x.body if document is not None and document.written_plain else plain_body(x, self._cap_bytes)
            if kind.startswith(b"multipart/"):
                return redact_parts(plain, value, redact)
            return redact_other(plain, redact, is_binary=kind.startswith(BINARY))
        except SidecarError as error:
            raise NotKeptError(f"it could not be redacted whole ({error.code})") from error

    def answer(self, x: "Exchange", call: Call) -> bytes:
        data, is_cut = x.take_tapped()
        if not data:
            return b""
        kind = (x.answer_head.get(_CONTENT_TYPE) or b"").lower()
        if is_cut or kind.startswith(BINARY):
            raise NotKeptError("longer than caps.usage_bytes" if is_cut else "no text")
        redacting: Redacting | None = call.redacting
        try:
            if redacting is not None:
                data = _read(x, Redacting(redacting.plan.untold(), Vault()), kind, data)
            return _read(x, Redacting(self._masks, Vault()), kind, data)
        except SidecarError as error:
            raise NotKeptError(f"it could not be redacted whole ({error.code})") from error


def _is_json(data: bytes) -> bool:
    try:
        load(data)
    except (ValueError, RecursionError):
        return False
    return True


def _read(x: "Exchange", redacting: Redacting, kind: bytes, data: bytes) -> bytes:
    events = Events(ways_of(redacting))
    cap_bytes = len(data) + 1
    framing = framing_of(kind)
    if framing == "sse":
        call: Any = SimpleNamespace(strip_usage=False, error=None)
        stream = SseRedactor(events, call, redacting)
        spans = event_spans(data)  # as the relay hands them over: whole events, then what stands behind the last one
        end = spans[-1][1] if spans else 0
        rest = data[end:] if _is_json(event_data(data[end:] + b"\n\n")) else b""
        return stream.run(x, data[:end]) + stream.end(x, rest)
    if framing == "eventstream":
        return FramesRedactor(events, cap_bytes).pipe(x, data, is_last=True)
    if framing == "ndjson":
        end = data.rfind(b"\n") + 1
        return LinesRedactor(events, cap_bytes).pipe(x, data if _is_json(data[end:]) else data[:end], is_last=True)
    if data.lstrip()[:1] in (b"{", b"[") and not _is_json(data):  # its escapes would hide what a detector looks for
        raise NotKeptError("it broke off")
    return WholeRedactor(redacting).answer(x, data)
