"""Redaction on its way: the request's body before it leaves, the answer before it arrives, streams event by event.

Rules
- What is to be redacted comes from `redact.always` and from rules (`call.redactions`). A request or an answer that then
  cannot be read is refused, never passed on unread: an unknown coding, a WebSocket, an event or a body beyond the caps.
- A body in which nothing is found is not touched. Most are scanned as bytes, once, and never parsed.
- An answer that has to be read is asked for without a content-encoding. A plain one is held until it is whole, a stream
  is not; of its events those that differ in their text alone are compared and not parsed.
- A stream in which something blocked is found ends there, with an error event of the app's dialect.
- Nothing that was found is in an error, an event or a log line.
Does not know: what is looked for (govern/redact), where text stands (govern/redact/texts).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outrider.dialects.errors import stream_error
from outrider.dialects.streams import framing_of
from outrider.errors import BadRequestError, ForbiddenError, SidecarError, UpstreamBrokenError
from outrider.govern.jsontext import dump, load, written
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.events import RAW, Events, Out, Ways, in_json
from outrider.govern.redact.plan import Plan, Plans, UnknownDetectorError
from outrider.govern.redact.stream import JSON_TEXT, TEXT
from outrider.govern.redact.texts import Slot, drop_logprobs, read_event, walk
from outrider.govern.redaction import Redaction
from outrider.stack.call import Call, LayerHook, Route, behind
from outrider.stack.document import Document, document_of, plain_body
from outrider.stack.meter import without_extra_chunk
from outrider_ext import http1
from outrider_ext.bodytext import body_text
from outrider_ext.eventholes import NUMBER, PADDING, Template
from outrider_ext.eventholes import TEXT as TEXT_HOLE
from outrider_ext.eventstream import EventStreamError, EventStreamReader, encode
from outrider_ext.redacthooks import BodyScan, ScanRequest, WhenRedacting
from outrider_ext.sse import event_data, event_spans

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_CONTENT_TYPE: Final = http1.header_id(b"content-type")
_CONTENT_ENCODING: Final = http1.header_id(b"content-encoding")
_AUTHORIZATION: Final = http1.header_id(b"authorization")
BINARY: Final = (
    b"audio/",
    b"video/",
    b"image/",
    b"font/",
    b"application/octet-stream",
    b"application/zip",
    b"application/pdf",
)
_DATA_LINE: Final = re.compile(rb"^data(?::[^\r\n]*)?(?:\r\n|\r|\n)", re.MULTILINE)
_BOUNDARY: Final = re.compile(rb'(?i)boundary="?([^";,\s]{1,100})"?')
MAX_KNOWN: Final = 8
MAX_LESSONS: Final = 32
_NOT_REDACTED: Final = "the rest of the answer could not be redacted, so it was not passed on"
_PART_HEAD: Final = b"\r\n\r\n"


class Redacting(NamedTuple):
    """What the answer of one exchange needs."""

    plan: Plan
    vault: Vault


class Redact:
    """The filter. always: rows for every exchange. asked: rules may add some. cap_bytes: of a held body or answer."""

    def __init__(self, plans: Plans, always: tuple[Redaction, ...], *, asked: bool, cap_bytes: int) -> None:
        self._plans = plans
        self._always = always
        self._asked = asked
        self._cap_bytes = cap_bytes
        self._last: tuple[object, Plan | None] = (plans, None)

    # -- the request

    def body(self, route: Route) -> LayerHook | None:
        return ScanRequest(self._scan, self._request, _expect) if self._always or self._asked else None

    def _scan(self, asked: Any) -> BodyScan | None:
        plan = self._plan(asked)
        if plan is None:
            return None
        hits = None if plan.request is None else plan.request.scanner.hits
        return BodyScan(hits, plan, plan.answer is not None and plan.redacts_answers)

    def _request(self, x: "Exchange", call: Call) -> None:
        plan = self._plan(call.redactions)
        if plan is None:
            return
        if x.allow_upgrade:
            raise ForbiddenError(
                "what goes over a WebSocket cannot be redacted, and a rule asks for it; use plain HTTP"
            )
        vault = Vault()
        if plan.request is not None:
            self._redact_body(x, call, plan, vault)
        if plan.answer is not None and (vault.by_token or plan.redacts_answers):
            call.redacting = Redacting(plan, vault)
            call.plain_answer = True

    def _plan(self, asked: Any) -> Plan | None:
        """The last one is found by identity: rules that were decided once hand out the same rows."""
        if self._last[0] is asked:
            return self._last[1]
        rows = self._always if not asked else (*self._always, *asked)
        try:
            plan = self._plans.of(rows) if rows else None
        except UnknownDetectorError as exc:
            raise ForbiddenError(f"a rule asks for a redaction that cannot be done: {exc}") from exc
        self._last = (asked, plan)
        return plan

    def _redact_body(self, x: "Exchange", call: Call, plan: Plan, vault: Vault) -> None:
        plain = plain_body(x, self._cap_bytes)
        if not plain:
            return
        assert plan.request is not None
        document: Document | None = call.document
        if document is None or not document.changed:
            text = body_text(plain)
            if text is not None and not plan.request.scanner.hits(text):
                return
        call.redacted = vault.redacted
        redact = plan.request_text(vault)
        kind = (x.head.get(_CONTENT_TYPE) or b"").lower()
        if kind.startswith(b"multipart/"):
            self._send(x, call, plain, redact_parts(plain, x.head.get(_CONTENT_TYPE) or b"", redact))
            return
        document = document_of(x, call, self._cap_bytes)
        if document.value is None:
            self._send(x, call, plain, redact_other(plain, redact, is_binary=kind.startswith(BINARY)))
        elif walk(document.value, visitor(plan.request.scanner.hits, redact)):
            document.change()
            _check_signature(x, call)

    def _send(self, x: "Exchange", call: Call, plain: bytes, changed: bytes) -> None:
        """A body that is no JSON object."""
        if changed == plain:
            return
        if plain is not x.body:
            document = document_of(x, call, self._cap_bytes)
            document.changed, document.value = True, None
        x.body = changed
        _check_signature(x, call)

    # -- the answer

    def answer(self, route: Route) -> LayerHook | None:
        return WhenRedacting(self._answer) if self._always or self._asked else None

    def _answer(self, x: "Exchange", call: Call) -> None:
        redacting: Redacting = call.redacting
        call.redacted = redacting.vault.redacted
        coding = x.answer_head.get(_CONTENT_ENCODING)
        if coding is not None and coding.lower() != b"identity":
            shown = coding.decode("latin-1")[:40]
            raise UpstreamBrokenError(
                f"the answer came as {shown!r} though asked for plain: it cannot be redacted and is not passed on"
            )
        if x.status == 101:
            raise ForbiddenError(
                "what goes over a WebSocket cannot be redacted, and a rule asks for it; use plain HTTP"
            )
        kind = (call.spoken_kind or x.answer_head.get(_CONTENT_TYPE) or b"").lower()
        events = Events(ways_of(redacting))
        if call.spoken_kind is not None:
            self._behind_translation(x, call, kind, events)
            return
        framing = framing_of(kind)
        if framing == "sse":
            x.sse = True
            stream = SseRedactor(events, call, redacting)
            x.rewrite, x.rewrite_all, x.rewrite_end = stream.run, True, stream.end
        elif framing:
            x.pipe = _PIPES[framing](events, self._cap_bytes).pipe
        elif not kind.startswith(BINARY):
            x.whole, x.whole_cap = WholeRedactor(redacting).answer, self._cap_bytes
            return
        x.last_words = last_words(call, framing or "sse")

    def _behind_translation(self, x: "Exchange", call: Call, kind: bytes, events: Events) -> None:
        """What the translation gives, in the app's own dialect, is what is redacted."""
        if x.whole is not None:
            translate, redactor = x.whole, WholeRedactor(call.redacting)
            x.whole = lambda x, body: redactor.answer(x, translate(x, body))
            return
        framing = framing_of(kind)
        if framing == "sse":
            pipe = SseRedactor(events, call, call.redacting).pipe
        else:
            pipe = _PIPES[framing](events, self._cap_bytes).pipe
        behind(x, pipe)
        x.last_words = last_words(call, framing)


def last_words(call: Call, framing: str) -> Callable[["Exchange", Exception | None], bytes]:
    """How a stream ends that may not go on: the error event of the app's own dialect, for its SDK to raise."""

    def words(x: "Exchange", failure: Exception | None) -> bytes:
        error = failure if isinstance(failure, SidecarError) else UpstreamBrokenError(_NOT_REDACTED)
        call.error = error
        dialect = call.route.operation.dialect or call.route.error_dialect
        return stream_error(dialect, framing, error.code, str(error))

    return words


def _expect(call: Call, plan: Plan) -> None:
    """Nothing of the request was found, and the answer is to be redacted all the same."""
    call.redacting = Redacting(plan, Vault())
    call.plain_answer = True


def _check_signature(x: "Exchange", call: Call) -> None:
    """The app's own SigV4 signature covers the body as it was."""
    value = x.head.get(_AUTHORIZATION)
    if value is not None and value.startswith(b"AWS4-") and not call.route.attempt.injects:
        raise BadRequestError(
            "the request was redacted, so the app's own signature does not match any more; "
            f"set providers.{call.route.provider}.credential so that the sidecar signs"
        )


# -- bodies


def visitor(
    hits: Callable[[bytes], list[int]], redact: Callable[[bytes, str], bytes]
) -> Callable[[str, str], str | None]:
    def visit(text: str, kind: str) -> str | None:
        data = text.encode("utf-8", "surrogatepass")
        if kind != JSON_TEXT and not hits(data):
            return None
        changed = redact(data, kind)
        return None if changed == data else changed.decode("utf-8", "surrogatepass")

    return visit


def redact_other(body: bytes, redact: Callable[[bytes, str], bytes], *, is_binary: bool = False) -> bytes:
    """A body that is no JSON object: an array, JSON lines, plain text; what is not UTF-8 is no text."""
    try:
        value = load(body)
    except (ValueError, RecursionError):
        value = None
    if type(value) in (list, dict):
        visit = visitor(lambda data: [0], redact)
        return written(body, value) if walk(value, visit) else body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body
    if is_binary and b"\0" in body:
        return body
    return redact(body, JSON_TEXT if body.lstrip()[:1] in (b"{", b"[") else TEXT)


def redact_parts(body: bytes, content_type: bytes, redact: Callable[[bytes, str], bytes]) -> bytes:
    """A multipart body: each part that is text. Raises: BadRequestError where the parts cannot be told."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequestError("a multipart body without a boundary cannot be redacted; name it in content-type")
    pieces = body.split(b"--" + found[1])
    for place, piece in enumerate(pieces):
        head, split, content = piece.partition(_PART_HEAD)
        if split:
            pieces[place] = head + split + redact_other(content, redact)
    return (b"--" + found[1]).join(pieces)


def ways_of(redacting: Redacting) -> Ways:
    plan, vault = redacting
    stream = plan.answer_stream(vault)

    def whole(text: str, kind: str) -> str | None:
        data = text.encode("utf-8", "surrogatepass")
        changed = stream(kind).finish(data)
        return None if changed == data else changed.decode("utf-8", "surrogatepass")

    return Ways(stream, whole, plan.redacts_answers)


class WholeRedactor:
    """A plain answer."""

    def __init__(self, redacting: Redacting) -> None:
        self._ways = ways_of(redacting)
        self._redacting = redacting

    def answer(self, x: "Exchange", body: bytes) -> bytes:
        try:
            value = load(body)
        except (ValueError, RecursionError):
            return self._text(body)
        if type(value) is list and any(type(one) is dict and "candidates" in one for one in value):
            return self._array(value)
        changed = self._ways.drops_logprobs and drop_logprobs(value)
        holder = [value]
        changed |= walk(holder, self._ways.whole)
        return written(body, holder[0]) if changed else body

    def _text(self, body: bytes) -> bytes:
        try:
            body.decode()
        except UnicodeDecodeError:
            return body
        return self._ways.stream(TEXT).finish(body)

    def _array(self, value: list[Any]) -> bytes:
        """A stream in the form of an array: its elements are events."""
        events = Events(self._ways)
        out = [data for one in value for _, data in events.event(one)] + [data for _, data in events.end()]
        return b"[" + b",\n".join(out) + b"]"


# -- streams


class SseRedactor:
    """Runs of whole server-sent events. A frame is the event's own lines other than its data."""

    def __init__(self, events: Events, call: Call, redacting: Redacting) -> None:
        self._events = events
        self._call = call
        self._text = redacting.plan.answer_stream(redacting.vault)
        self._known: list[tuple[Template, Slot]] = []
        self._lessons = 0

    def pipe(self, x: "Exchange", data: bytes, is_last: bool) -> bytes:
        """The same, of whole events in the order in which somebody else makes them."""
        out = self.run(x, data) if data else b""
        return out + self.end(x, b"") if is_last else out

    def end(self, x: "Exchange", rest: bytes) -> bytes:
        """The stream ended, perhaps inside an event."""
        out = self.run(x, rest + b"\n\n") if rest.strip() else b""
        return out + self._joined(self._events.end())

    def run(self, x: "Exchange", run: bytes) -> bytes:
        if self._call.strip_usage and b'"usage"' in run:
            run = without_extra_chunk(x, run)
        out, since = [], 0
        for start, end in event_spans(run):
            if start > since:
                out.append(run[since:start])
            since = end
            out.append(self._event(run[start:end]))
        if since < len(run):
            out.append(run[since:])
        return b"".join(out)

    def _event(self, event: bytes) -> bytes:
        for template, slot in self._known:
            if template.match(event):
                start, end = template.start, template.end
                piece = event[start:end]
                if template.escaped:
                    piece = load(b'"' + piece + b'"').encode("utf-8", "surrogatepass")
                self._lessons = 0
                given = self._events.feed_raw(slot, event, start, end, piece)
                return event[:start] + in_json(given) + event[end:]
        return self._new_event(event)

    def _learn(self, event: bytes, pieces: list[str]) -> None:
        """From now on an event that is the same but for its text is not read again."""
        slot = self._events.plain
        if self._lessons > MAX_LESSONS:  # events that are all different are not worth it
            return
        self._lessons += 1
        learned = template_of(event, pieces[0], slot) if slot is not None and len(pieces) == 1 else None
        if learned is not None and slot is not None:
            self._known = [(learned, slot), *self._known[: MAX_KNOWN - 1]]

    def _new_event(self, event: bytes) -> bytes:
        data = event_data(event)
        if not data:
            return event
        frame = _DATA_LINE.sub(b"", event.lstrip(b"\xef\xbb\xbf")).rstrip(b"\r\n")
        try:
            value = load(data)
        except (ValueError, RecursionError):
            flushed = self._joined(self._events.end())
            text = self._text(TEXT).finish(data)
            return flushed + (event if text == data else _sse(frame, text.replace(b"\n", b"\ndata: ")))
        pieces = [slot.holder[slot.name] for slot in read_event(value).slots] if type(value) is dict else []
        out = self._joined(self._events.event(value, frame, data))
        self._learn(event, pieces)
        return out

    def _joined(self, out: Out) -> bytes:
        return b"".join([data if frame is RAW else _sse(frame, data) for frame, data in out])


# What may differ from event to event and is no text: numbers that count, and a padding against listeners.
_HOLES: Final = re.compile(
    rb'"(?:sequence_number|created|created_at|[A-Za-z]*[tT]okenCount|[a-z_]*_tokens)":\s?(?P<number>[0-9]+)(?=[,}])'
    rb'|"obfuscation":\s?"(?P<padding>[^"\\\x00-\x1f]*)"'
)
_SENTINEL: Final = "\x7foutrider\x7f"


def template_of(event: bytes, piece: str, slot: Slot) -> Template | None:
    """None where the text's place in the bytes cannot be told."""
    said = dump(piece)
    if event.count(said) != 1 or event.count(b"\ndata") + event.startswith(b"data") != 1:
        return None
    low = event.index(said) + 1
    high = low + len(said) - 2
    try:  # the proof: what stands there is that text and no other
        again = load(event_data(event[:low] + _SENTINEL.encode() + event[high:]))
    except ValueError:
        return None
    found = read_event(again).slots if type(again) is dict else []
    if len(found) != 1 or found[0].key != slot.key or found[0].holder[found[0].name] != _SENTINEL:
        return None
    holes = [(low, high, TEXT_HOLE)]
    for match in _HOLES.finditer(event):
        name = "number" if match["number"] is not None else "padding"
        if match.end(name) <= low or match.start(name) >= high:
            holes.append((*match.span(name), NUMBER if name == "number" else PADDING))
    holes.sort()
    ends = [0, *(hole[1] for hole in holes)]
    starts = [*(hole[0] for hole in holes), len(event)]
    literals = tuple(event[a:b] for a, b in zip(ends, starts, strict=True))
    return Template(literals, tuple(hole[2] for hole in holes))


def _sse(frame: bytes, data: bytes) -> bytes:
    lead = frame + b"\n" if frame else b""
    return lead + b"data: " + data + b"\n\n"


class LinesRedactor:
    """One JSON text a line."""

    def __init__(self, events: Events, cap_bytes: int) -> None:
        self._events = events
        self._cap_bytes = cap_bytes
        self._held = b""

    def pipe(self, x: "Exchange", data: bytes, is_last: bool) -> bytes:
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > self._cap_bytes:
            raise UpstreamBrokenError(
                "a line of the answer is larger than caps.held_body_bytes, so it cannot be redacted"
            )
        out = list(self._lines(lines))
        if is_last:
            out += self._lines([self._held])
            out += [data + b"\n" for _, data in self._events.end()]
        return b"".join(out)

    def _lines(self, lines: list[bytes]) -> Iterator[bytes]:
        for line in lines:
            if not line.strip():
                continue
            try:
                value = load(line)
            except (ValueError, RecursionError):
                value = line.decode("utf-8", "replace")
                yield from (orjson_text(data) + b"\n" for _, data in self._events.event(value))
                continue
            yield from (data + b"\n" for _, data in self._events.event(value, None, line))


def orjson_text(data: bytes) -> bytes:
    """The text of a JSON string: a line that is no JSON stays none."""
    return str(load(data)).encode("utf-8", "surrogatepass")


class FramesRedactor:
    """AWS event-stream frames; checksums are made anew."""

    def __init__(self, events: Events, cap_bytes: int) -> None:
        self._events = events
        self._reader = EventStreamReader(max_payload_bytes=cap_bytes)

    def pipe(self, x: "Exchange", data: bytes, is_last: bool) -> bytes:
        try:
            messages = self._reader.receive_data(data) if data else []
            if is_last:
                self._reader.finish()
        except EventStreamError as exc:
            raise UpstreamBrokenError(f"the answer cannot be redacted: {exc}") from exc
        out: Out = []
        for message in messages:
            try:
                value = load(message.payload) if message.payload else None
            except (ValueError, RecursionError):
                value = message.payload.decode("utf-8", "replace")
            if value is None:
                out.append((message.headers, message.payload))
            elif type(value) is str:
                out += [(headers, orjson_text(data)) for headers, data in self._events.event(value, message.headers)]
            else:
                out += self._events.event(value, message.headers, message.payload)
        if is_last:
            out += self._events.end()
        return b"".join([encode(headers, payload) for headers, payload in out])


_PIPES: Final[Mapping[str, type[LinesRedactor] | type[FramesRedactor]]] = {
    "ndjson": LinesRedactor,
    "eventstream": FramesRedactor,
}
