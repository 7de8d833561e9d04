"""What a call is about and what it used: the model, whether it streams, and the provider's own count of tokens.

Rules: JSON is not parsed for this, `jsonscan` finds the fields; an OpenAI stream that did not ask for usage is made to,
and the extra chunk is taken out again; where no count came, the usage is estimated and says so, never 0; an answer is
read from a bounded copy after it went on, so reading never delays it.
"""

import zlib
from typing import TYPE_CHECKING

from outrider.dialects.streams import framing_of, units_of
from outrider.dialects.usage import READERS, Usage, UsageReader, estimate
from outrider.errors import BadRequestError
from outrider.stack.call import Call, LayerHook, Route
from outrider_ext.eventstream import EventStreamError, EventStreamReader
from outrider_ext.jsonscan import DuplicateKeyError, FieldScan, JsonScanError
from outrider_ext.layers import CountTokens, ReadFields, TapAnswer
from outrider_ext.sse import event_data, event_spans

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

# In the order that layers.ReadFields knows them by; the last is the object that may hold such fields, by dialect.
_FIELDS = (
    b"model", b"stream", b"stream_options", b"max_tokens", b"max_completion_tokens", b"max_output_tokens", b"n",
)  # fmt: skip
# dialect's family -> (the object, (most tokens, choices) inside it)
_INNER = {
    "gemini": (b"generationConfig", (b"maxOutputTokens", b"candidateCount")),
    "bedrock": (b"inferenceConfig", (b"maxTokens",)),
    "ollama": (b"options", (b"num_predict",)),
}
_OPTIONS = 2
_ASK = b'"stream_options":{"include_usage":true}'
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Meter:
    """The filter. inject: set stream_options.include_usage where it is missing."""

    of_attempt = True

    def __init__(self, *, inject: bool) -> None:
        self._inject = inject
        self._scans = {
            family: (FieldScan((*_FIELDS, name)), FieldScan(names)) for family, (name, names) in _INNER.items()
        }
        self._scan = FieldScan((*_FIELDS, b"parameters"))
        self._options = FieldScan((b"include_usage",))

    # -- the request's body

    def body(self, route: Route) -> LayerHook | None:
        reads_model = route.operation.model_in == "body"
        if not reads_model and not route.operation.stream:
            return None
        inject = self._inject and route.operation.stream_usage == "inject"
        scan, inner = self._scans.get(route.operation.dialect.partition(".")[0], (self._scan, None))
        return ReadFields(
            scan, self._options, reads_model, _ASK if inject else None, self._ask_for_usage, _misread, inner
        )

    def _ask_for_usage(self, x: "Exchange", call: Call, body: bytes) -> None:
        """Where the request has `stream_options` that do not ask for it."""
        options = self._options
        start, end = self._scan.span(_OPTIONS)
        if body[start:end] == b"null":
            x.body = body[:start] + b'{"include_usage":true}' + body[end:]
        else:
            try:
                options.scan(body, start, end)
            except JsonScanError:
                return
            at, until = options.span(0)
            if at < 0:
                comma = b"" if options.empty else b","
                x.body = body[: options.inside] + b'"include_usage":true' + comma + body[options.inside :]
            else:
                x.body = body[:at] + b"true" + body[until:]
        call.strip_usage = True

    # -- the answer

    def answer(self, route: Route) -> LayerHook | None:
        array = route.operation.dialect == "gemini.generate" and bool(route.operation.stream)  # without ?alt=sse
        return TapAnswer(READERS.get(route.operation.usage), without_extra_chunk, _gzip_decoder, units_of, array)

    def end(self, route: Route) -> LayerHook | None:
        reader = READERS.get(route.operation.usage)
        if reader is None:
            return None
        framing = route.operation.stream

        def read(x: "Exchange", call: Call) -> Usage | None:
            found = _read(x, call, reader, framing)
            if found is None and x.answer_bytes:
                return estimate(x.request_bytes, x.answer_bytes if not x.sse else _text_bytes(x))
            return found

        return CountTokens(reader.usual, read)


def _misread(error: Exception) -> None:
    """What is not a JSON object the provider refuses in its own words."""
    if isinstance(error, DuplicateKeyError):
        raise BadRequestError(str(error)) from error


def _gzip_decoder() -> object:
    return zlib.decompressobj(_GZIP_WINDOW)


def _read(x: "Exchange", call: Call, reader: UsageReader, framing: str) -> Usage | None:
    if reader.header_names:
        values = {name: value for name in reader.header_names if (value := x.answer_head.get_name(name)) is not None}
        read = reader.read_headers(values)
        if read is not None:
            return read
    if x.sse:
        return _from_events(x.first_hit, x.last_hit, reader)
    data, truncated = x.take_tapped()
    if not data:
        return None
    came = framing_of(call.answer_kind)
    if came == "sse":  # encoded, so it went on unread
        return _from_events(data, data, reader)
    if came == "eventstream":
        return _from_frames(data, reader, truncated=truncated)
    if "ndjson" in (framing, came):
        lines = [line for line in data.split(b"\n") if reader.has_usage(line)]
        return reader.read_events(lines[0], lines[-1]) if lines else reader.read_body(data)
    return reader.read_body(data)


def _from_events(first: bytes | None, last: bytes | None, reader: UsageReader) -> Usage | None:
    if first is None or last is None:
        return None
    runs = (first,) if first is last else (first, last)
    found = [
        data
        for run in runs
        for start, end in event_spans(_closed(run))
        if reader.has_usage(data := event_data(run[start:end]))
    ]
    return reader.read_events(found[0], found[-1]) if found else None


def _closed(run: bytes) -> bytes:
    """An unfinished last event, closed, so that what it says counts."""
    return run if run.endswith((b"\n\n", b"\r\r", b"\n\r\n")) else run + b"\n\n"


def _from_frames(data: bytes, reader: UsageReader, *, truncated: bool) -> Usage | None:
    if truncated:
        return reader.read_body(data)
    try:
        payloads = [message.payload for message in EventStreamReader().receive_data(data)]
    except EventStreamError:
        return None
    found = [payload for payload in payloads if reader.has_usage(payload)]
    return reader.read_events(found[0], found[-1]) if found else None


def _text_bytes(x: "Exchange") -> int:
    """Bytes of text in a stream, roughly: every event wraps a few letters in about 180 bytes of JSON."""
    return max(1, x.answer_bytes - 180 * x.events)


def without_extra_chunk(x: "Exchange", run: bytes) -> bytes:
    """The run without the usage chunk that the app did not ask for: the one whose choices are empty."""
    kept, since = bytearray(), 0
    for start, end in event_spans(run):
        data = event_data(run[start:end])
        if b'"usage"' in data and _has_no_choices(data):
            kept += run[since:start]
            since = end
    return bytes(kept + run[since:]) if since else run  # comments between events stay


def _has_no_choices(data: bytes) -> bool:
    scan = FieldScan((b"choices", b"usage"))
    try:
        scan.scan(data)
    except JsonScanError:
        return False
    choices, usage = scan.raw(0), scan.raw(1)
    return choices is not None and choices.strip(b"[] \t\r\n") == b"" and usage not in (None, b"null")
