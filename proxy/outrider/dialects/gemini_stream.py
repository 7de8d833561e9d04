"""Gemini's streams: every chunk is an answer of its own, and calls come whole (or, from Vertex, by JSON path).

Rules
- Text of one kind that follows text of that kind is one part.
- Usage repeats in every chunk and is cumulative: the last one counts.
- A written stream says the finish reasons and the usage in its last chunk, where the SDKs look for both.

Does not know: SSE and arrays are the same chunks; only the writer frames them.
"""

import re
from typing import Any, Final

import orjson

from outrider.dialects.base import Frame, Json, Notes
from outrider.dialects.canonical import (
    ArgumentsDelta,
    CitationDelta,
    DataDelta,
    End,
    ErrorEvent,
    Finish,
    FinishReason,
    LogprobsDelta,
    Media,
    Opaque,
    Part,
    PartStart,
    PartStop,
    ProviderError,
    Refusal,
    Request,
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
from outrider.dialects.frames import sse_frame
from outrider.dialects.gemini_parts import camels, finish_of, finish_written, read_part, usage_written, write_part
from outrider.dialects.logprobs import from_gemini, to_gemini
from outrider.dialects.native_errors import broken_off, google_error, written_google
from outrider.dialects.pieces import MAX_HELD, HoldingWriter, TooLongError, Whole
from outrider.dialects.usage import gemini_usage
from outrider.dialects.values import text

__all__ = ["GeminiStreamReader", "GeminiStreamWriter"]

_CHOICES_MAX: Final = 64  # Google gives 8 at most


class _Open:
    """One candidate: what is open of it, how many parts it had."""

    def __init__(self) -> None:
        self.parts = 0
        self.kind: type[Text] | type[Thinking] | None = None
        self.has_calls = False
        self.finish: tuple[FinishReason, str | None] | None = None
        self.partial: _PartialCall | None = None


class GeminiStreamReader:
    """How it ended is said at the end: Vertex says STOP in every chunk, and may say something else in the last."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._open: dict[int, _Open] = {}
        self._started = False
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over:
            return []
        try:
            body = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            return (
                []
                if frame.data.strip() == b"[DONE]"
                else self._fail("The provider's stream has a chunk that is not JSON.")
            )
        if type(body) is list:  # one chunk of an array that holds them all
            body = body[0] if body else None
        if type(body) is not dict:
            return []
        if "error" in body:
            self._over = True
            return [ErrorEvent(google_error(0, body))]
        return self._chunk(camels(body))

    def _fail(self, sentence: str) -> list[StreamEvent]:
        self._over = True
        return [broken_off(sentence)]

    def _chunk(self, body: Json) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        raw = body.get("usageMetadata")
        usage = gemini_usage(camels(raw), body.get("modelVersion")) if type(raw) is dict else None
        if not self._started:
            self._started = True
            events.append(Start(text(body.get("responseId")), text(body.get("modelVersion")), usage=usage))
        rows = body.get("candidates")
        for row in rows if type(rows) is list else ():
            if type(row) is dict:
                self._candidate(row, events)
            if self._over:
                return events
        if not rows and type(body.get("promptFeedback")) is dict and not self._open:
            self._open[0] = _Open()
            self._open[0].finish = "content_filter", text(body["promptFeedback"].get("blockReason")) or None
        self._usage = usage or self._usage
        return events

    def _candidate(self, row: Json, events: list[StreamEvent]) -> None:
        index = row.get("index")
        index = index if type(index) is int and 0 <= index < _CHOICES_MAX else 0
        state = self._open.get(index)
        if state is None:
            state = self._open[index] = _Open()
        content = row.get("content")
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is dict:
                self._part(index, state, part, events)
        if len(row) > 2:
            self._more(index, state, row, events)
        finish, native = finish_of(row.get("finishReason"), state.has_calls)
        if finish is not None:
            state.finish = finish, native

    def _more(self, index: int, state: _Open, row: Json, events: list[StreamEvent]) -> None:
        logprobs = row.get("logprobsResult")
        if type(logprobs) is dict and (read := from_gemini(logprobs)) is not None:
            events.append(LogprobsDelta(index, read))
        cited = row.get("citationMetadata")
        sources = (cited.get("citationSources") or cited.get("citations")) if type(cited) is dict else None
        if type(sources) is list and state.kind is Text:
            for source in sources:
                if type(source) is dict:
                    made = source | ({"url": source["uri"]} if "uri" in source else {})
                    events.append(CitationDelta(index, state.parts - 1, made))

    def _part(self, index: int, state: _Open, raw: Json, events: list[StreamEvent]) -> None:
        call = raw.get("functionCall", raw.get("function_call"))
        if type(call) is dict and (state.partial is not None or _is_partial(call)):
            self._partial(index, state, camels(call), raw, events)
            return
        part = read_part(raw)
        kind = type(part)
        if kind is Text or kind is Thinking:
            self._text(index, state, part, events)  # type: ignore[arg-type]
            return
        self._close(index, state, events)
        number = state.parts
        state.parts += 1
        if isinstance(part, ToolCall):
            state.has_calls = True
            arguments, part.arguments = part.arguments, ""
            events += (
                PartStart(index, number, part),
                ArgumentsDelta(index, number, arguments),
                PartStop(index, number),
            )
        else:
            events += (PartStart(index, number, part), PartStop(index, number))

    def _text(self, index: int, state: _Open, part: Text | Thinking, events: list[StreamEvent]) -> None:
        kind = type(part)
        if not part.text and not part.signature:
            return
        if state.kind is not kind and (part.text or state.kind is None):
            self._close(index, state, events)
            state.kind = kind
            events.append(PartStart(index, state.parts, kind("")))
            state.parts += 1
        number = state.parts - 1
        if part.text:
            events.append(TextDelta(index, number, part.text))
        if part.signature:
            events.append(SignatureDelta(index, number, part.signature))

    def _close(self, index: int, state: _Open, events: list[StreamEvent]) -> None:
        if state.kind is not None:
            events.append(PartStop(index, state.parts - 1))
            state.kind = None
        if state.partial is not None:
            self._end_partial(index, state, events)

    # A call in pieces: the first names it, the pieces set values at paths, the last has no willContinue.

    def _partial(self, index: int, state: _Open, call: Json, raw: Json, events: list[StreamEvent]) -> None:
        if state.partial is None:
            self._close(index, state, events)
            state.partial = _PartialCall()
            state.has_calls = True
            signature = raw.get("thoughtSignature")
            begun = ToolCall(text(call.get("id")), text(call.get("name")), "", signature=signature)
            events.append(PartStart(index, state.parts, begun))
            state.parts += 1
        try:
            for piece in call.get("partialArgs") or ():
                if type(piece) is dict:
                    state.partial.take(camels(piece))
        except TooLongError as exc:
            events += self._fail(str(exc))
            return
        if type(call.get("args")) is dict:
            state.partial.args |= call["args"]
        if call.get("willContinue") is not True:
            self._end_partial(index, state, events)

    def _end_partial(self, index: int, state: _Open, events: list[StreamEvent]) -> None:
        if state.partial is not None:
            number = state.parts - 1
            arguments = orjson.dumps(state.partial.args).decode()
            events += (ArgumentsDelta(index, number, arguments), PartStop(index, number))
            state.partial = None

    def end(self) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        if not self._open or any(state.finish is None for state in self._open.values()):
            return [broken_off()]
        events: list[StreamEvent] = []
        for index, state in self._open.items():
            self._close(index, state, events)
            if state.finish is not None:
                events.append(Finish(index, state.finish[0], native=state.finish[1]))
        if self._usage is not None:
            events.append(UsageEvent(self._usage))
        return [*events, End()]


def _is_partial(call: Json) -> bool:
    return (
        "partialArgs" in call or "partial_args" in call or call.get("willContinue", call.get("will_continue")) is True
    )


_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\['([^']*)'\]")
_VALUES: Final = ("stringValue", "numberValue", "boolValue", "nullValue")
_DEPTH_MAX: Final = 32


class _PartialCall:
    """Arguments that come as (JSON path, value); strings at one path are joined."""

    def __init__(self) -> None:
        self.args: Json = {}
        self._held = 0

    def take(self, piece: Json) -> None:
        """Raises: TooLongError."""
        path = [step[0] or step[2] or int(step[1] or 0) for step in _STEP.findall(text(piece.get("jsonPath")))]
        name = next((name for name in _VALUES if name in piece), None)
        if not path or len(path) > _DEPTH_MAX or name is None:
            return
        value: Any = None if name == "nullValue" else piece[name]
        self._held += 64 + (len(value) if type(value) is str else 0)
        if self._held > MAX_HELD:
            raise TooLongError
        self._set(path, value)

    def _set(self, path: list[Any], value: Any) -> None:
        holder: Any = self.args
        for given, after in zip(path, [*path[1:], None], strict=True):
            step = given
            inner: Any = value if after is None else [] if type(after) is int else {}
            if type(holder) is list and type(step) is int:
                while len(holder) <= step:
                    holder.append(None)
                before = holder[step]
            elif type(holder) is dict:
                step = str(given)
                before = holder.get(step)
            else:
                return
            if after is None and type(before) is str and type(value) is str:
                holder[step] = before + value
            elif after is None or type(before) is not type(inner):
                holder[step] = inner
            holder = holder[step]


# -- written


class GeminiStreamWriter(HoldingWriter):
    def __init__(self, request: Request, notes: Notes) -> None:
        super().__init__(notes)
        self._model = request.model
        self._id = ""
        self._kinds: dict[tuple[int, int], type[Part]] = {}
        self._whole = Whole()
        self._finished: dict[int, Json] = {}
        self._cited: dict[int, list[Json]] = {}

    def _take(self, event: StreamEvent, out: list[bytes]) -> None:
        kind = type(event)
        if kind is TextDelta:
            self._text(event, out)  # type: ignore[arg-type]
        elif kind is PartStart:
            self._start(event, out)  # type: ignore[arg-type]
        elif kind is PartStop:
            self._stop(event.choice, event.part, out)  # type: ignore[union-attr]
        elif isinstance(event, (ArgumentsDelta, DataDelta, SignatureDelta)):
            if (event.choice, event.part) in self._whole:
                self._whole.add(event)
            elif isinstance(event, SignatureDelta):
                self._notes.add("signatures left out")
        elif isinstance(event, Start):
            self._id, self._model = event.id, event.model or self._model
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish(event, out)
        elif isinstance(event, UsageEvent):
            self._usage = event.usage
        elif isinstance(event, ErrorEvent):
            self._error(event.error, out)
        elif isinstance(event, End):
            self._end(out)
        else:
            self._aside(event, out)

    def _aside(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, LogprobsDelta):
            result = to_gemini(event.logprobs)
            if result is not None:
                self._chunk([{"content": {"role": "model"}, "index": event.choice, "logprobsResult": result}], out)
        elif isinstance(event, CitationDelta):
            inner = event.citation.get("url_citation")
            url = (inner if type(inner) is dict else event.citation).get("url")
            if type(url) is str:
                self._cited.setdefault(event.choice, []).append({"uri": url})
            else:
                self._notes.add("citations left out")

    def _start(self, event: PartStart, out: list[bytes]) -> None:
        value = event.value
        key = (event.choice, event.part)
        if isinstance(value, (Text, Thinking, Refusal)):
            self._kinds[key] = type(value)
            if value.text:
                self._text(TextDelta(*key, value.text), out)
            if isinstance(value, Thinking) and value.hidden:
                self._notes.add("sealed thoughts left out")
        elif isinstance(value, Opaque):
            self._notes.add(f"{value.kind} left out")
        elif isinstance(value, ToolCall) and value.server:
            self._notes.add(f"{value.name} left out")
        else:
            self._whole.begin(event)

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        part: Json = {"text": event.text}
        if self._kinds.get((event.choice, event.part)) is Thinking:
            part["thought"] = True
        self._parts(event.choice, [part], out)

    def _stop(self, choice: int, part: int, out: list[bytes]) -> None:
        self._kinds.pop((choice, part), None)
        if (choice, part) in self._whole:
            self._give(self._whole.end(choice, part), out)

    def _give(self, ready: list[tuple[int, Part]], out: list[bytes]) -> None:
        for choice, value in ready:
            made = write_part(value, False, self._notes)
            if made is None:
                continue
            if isinstance(value, ToolCall):
                if value.id:
                    made["functionCall"]["id"] = value.id
                if value.signature:
                    self._notes.add("signatures left out")
            elif isinstance(value, Media) and not value.data and not value.url:
                continue
            self._parts(choice, [made], out)

    def _parts(self, choice: int, parts: list[Json], out: list[bytes]) -> None:
        self._chunk([{"content": {"parts": parts, "role": "model"}, "index": choice}], out)

    def _finish(self, event: Finish, out: list[bytes]) -> None:
        self._give(self._whole.end_all(), out)
        finish = finish_written(event.reason, None, self._notes)
        self._finished[event.choice] = {
            "content": {"parts": [{"text": ""}], "role": "model"},
            "finishReason": finish,
            "index": event.choice,
        }

    def _end(self, out: list[bytes]) -> None:
        for choice, row in self._finished.items():
            if choice in self._cited:
                row["citationMetadata"] = {"citationSources": self._cited[choice]}
        usage = usage_written(self._usage) if self._usage is not None else None
        if self._finished or usage:
            self._chunk(list(self._finished.values()), out, usage)
        self._over = True

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        out.append(sse_frame(orjson.dumps(written_google(error))))
        self._over = True

    def _chunk(self, candidates: list[Json], out: list[bytes], usage: Json | None = None) -> None:
        body: Json = {"candidates": candidates, "modelVersion": self._model}
        if usage is not None:
            body["usageMetadata"] = usage
        if self._id:
            body["responseId"] = self._id
        out.append(sse_frame(orjson.dumps(body)))
