"""Ollama's streams: a line a piece, the last one with `done: true`, the reason and the counts.

Rules
- Calls come whole in a line of their own, and may come before, between and after text.
- An error is a line {"error": "…"} and ends the stream.

Does not know: chat and generate differ only in where the words stand.
"""

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
from outrider.dialects.frames import ndjson_frame
from outrider.dialects.logprobs import from_ollama, to_ollama
from outrider.dialects.moments import iso, seconds
from outrider.dialects.native_errors import broken_off, cut, written_ollama
from outrider.dialects.pieces import OneAnswerWriter, Whole
from outrider.dialects.usage import ollama_usage
from outrider.dialects.values import argument_object, new_id, rest_of, text

__all__ = [
    "OllamaStreamReader",
    "OllamaStreamWriter",
    "call_written",
    "done_reason",
    "read_call",
    "usage_written",
]


def call_written(call: ToolCall, index: int, notes: Notes) -> Json:
    function: Json = {"name": call.name, "arguments": argument_object(call.arguments, notes)}
    if index:
        function = {"index": index, **function}
    made: Json = {"function": function}
    if call.id:
        made["id"] = call.id
    return made


_CALL_FIELDS: Final = frozenset({"id", "type", "function"})


def read_call(row: Json) -> ToolCall:
    function = row.get("function")
    function = function if type(function) is dict else {}
    given = function.get("arguments")
    arguments = given if type(given) is str else orjson.dumps(given).decode() if given else "{}"
    return ToolCall(text(row.get("id")), text(function.get("name")), arguments, rest=rest_of(row, _CALL_FIELDS))


def done_reason(finish: FinishReason | None, native: str | None, notes: Notes) -> str:
    if native is not None:
        return native
    if finish in ("content_filter", "refusal", "pause"):
        notes.add(f"the answer ended for {finish}, given as stop")
    elif finish == "error":
        notes.add("the answer broke off")  # there is no word for it; "length", too, says that something is missing
    return "length" if finish in ("length", "error") else "stop"


def usage_written(usage: Usage | None) -> Json:
    if usage is None:
        return {}
    return {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}


class OllamaStreamReader:
    def __init__(self) -> None:
        self._parts = 0
        self._kind: type[Text] | type[Thinking] | None = None
        self._has_calls = False
        self._started = False
        self._done = False
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over or self._done:
            return []
        try:
            body = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            self._over = True
            return [broken_off("The provider's stream has a line that is not JSON.")]
        if type(body) is not dict:
            return []
        if "error" in body:
            self._over = True
            return [ErrorEvent(ProviderError(0, "server", cut(body["error"]) or "The provider reported an error."))]
        events: list[StreamEvent] = []
        if not self._started:
            self._started = True
            events.append(Start("", text(body.get("model")), seconds(body.get("created_at"))))
        self._line(body, events)
        return events

    def _line(self, body: Json, events: list[StreamEvent]) -> None:
        message = body.get("message")
        is_chat = type(message) is dict
        said: Json = message if type(message) is dict else body
        self._words(Thinking, text(said.get("thinking")), events)
        self._words(Text, text(said.get("content" if is_chat else "response")), events)
        rows = said.get("tool_calls") if is_chat else None
        for row in rows if type(rows) is list else ():
            if type(row) is dict:
                self._call(row, events)
        images = said.get("images") if is_chat else None
        for data in images if type(images) is list else ():
            if type(data) is str:
                self._whole(Media("image", "image/png", data), events)
        rows = body.get("logprobs")
        if type(rows) is list:
            events.append(LogprobsDelta(0, from_ollama(rows)))
        if body.get("done") is True:
            self._end_of(body, events)

    def _words(self, kind: type[Text] | type[Thinking], words: str, events: list[StreamEvent]) -> None:
        if not words:
            return
        if self._kind is not kind:
            self._close(events)
            self._kind = kind
            events.append(PartStart(0, self._parts, kind("")))
            self._parts += 1
        events.append(TextDelta(0, self._parts - 1, words))

    def _call(self, row: Json, events: list[StreamEvent]) -> None:
        call = read_call(row)
        arguments, call.arguments = call.arguments, ""
        self._close(events)
        number = self._parts
        self._parts += 1
        self._has_calls = True
        events += (PartStart(0, number, call), ArgumentsDelta(0, number, arguments), PartStop(0, number))

    def _whole(self, part: Part, events: list[StreamEvent]) -> None:
        self._close(events)
        events += (PartStart(0, self._parts, part), PartStop(0, self._parts))
        self._parts += 1

    def _close(self, events: list[StreamEvent]) -> None:
        if self._kind is not None:
            events.append(PartStop(0, self._parts - 1))
            self._kind = None

    def _end_of(self, body: Json, events: list[StreamEvent]) -> None:
        self._close(events)
        native = text(body.get("done_reason")) or None
        finish: FinishReason = "length" if native == "length" else "tool_calls" if self._has_calls else "stop"
        events.append(Finish(0, finish, native=native))
        usage = ollama_usage(body, body.get("model"))
        if usage is not None:
            events.append(UsageEvent(usage))
        events.append(End())
        self._done = True

    def end(self) -> list[StreamEvent]:
        if self._over or self._done:
            return []
        self._over = True
        return [broken_off()]


class OllamaStreamWriter(OneAnswerWriter):
    def __init__(self, request: Request, notes: Notes, *, is_generate: bool) -> None:
        super().__init__(notes)
        self._model = request.model
        self._is_generate = is_generate
        self._created = iso(None)
        self._whole = Whole()
        self._thoughts: set[int] = set()
        self._calls = 0
        self._finish: Finish | None = None

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._model = event.model or self._model
        self._created = iso(event.created_s)

    def _of_choice(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, PartStart):
            self._part(event, out)
        elif isinstance(event, (ArgumentsDelta, DataDelta)):
            if (event.choice, event.part) in self._whole:
                self._whole.add(event)
        elif isinstance(event, PartStop):
            if (event.choice, event.part) in self._whole:
                self._give(self._whole.end(event.choice, event.part), out)
        elif isinstance(event, Finish):
            self._give(self._whole.end_all(), out)
            self._finish = event
        elif isinstance(event, LogprobsDelta):
            out.append(self._line("", logprobs=to_ollama(event.logprobs)))
        elif isinstance(event, SignatureDelta):
            self._notes.add("signatures left out")
        elif isinstance(event, CitationDelta):
            self._notes.add("citations left out")

    def _part(self, event: PartStart, out: list[bytes]) -> None:
        value = event.value
        if isinstance(value, Opaque) or (isinstance(value, ToolCall) and value.server):
            self._notes.add(f"{value.kind if isinstance(value, Opaque) else value.name} left out")
        elif isinstance(value, ToolCall) or (isinstance(value, Media) and value.kind == "image"):
            self._whole.begin(event)
        elif isinstance(value, Media):
            self._notes.add(f"{value.kind} left out")
        else:
            if isinstance(value, Thinking):
                self._thoughts.add(event.part)
                if value.hidden:
                    self._notes.add("sealed thoughts left out")
            words = getattr(value, "text", "")
            if words:
                self._text(TextDelta(0, event.part, words), out)

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        if event.part in self._thoughts:
            out.append(self._line("", thinking=event.text))
        else:
            out.append(self._line(event.text))

    def _give(self, ready: list[tuple[int, Part]], out: list[bytes]) -> None:
        for _, part in ready:
            if isinstance(part, Media):
                if part.data:
                    out.append(self._line("", images=[part.data]))
            elif isinstance(part, ToolCall):
                if self._is_generate:
                    self._notes.add("tool calls left out")
                    continue
                if part.signature:
                    self._notes.add("signatures left out")
                part.id = part.id or new_id("call_")
                out.append(self._line("", tool_calls=[call_written(part, self._calls, self._notes)]))
                self._calls += 1

    def _line(self, words: str, logprobs: Any = None, **more: Any) -> bytes:
        body: Json = {"model": self._model, "created_at": self._created}
        if self._is_generate:
            body["response"] = words
            body |= {key: value for key, value in more.items() if key == "thinking"}
        else:
            body["message"] = {"role": "assistant", "content": words, **more}
        body["done"] = False
        if logprobs is not None:
            body["logprobs"] = logprobs
        return ndjson_frame(orjson.dumps(body))

    def _end(self, out: list[bytes]) -> None:
        reason = done_reason(self._finish.reason if self._finish is not None else "stop", None, self._notes)
        body: Json = {"model": self._model, "created_at": self._created}
        if self._is_generate:
            body["response"] = ""
        else:
            body["message"] = {"role": "assistant", "content": ""}
        body |= {"done": True, "done_reason": reason}
        out.append(ndjson_frame(orjson.dumps(body | usage_written(self._usage))))
        self._over = True

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        out.append(ndjson_frame(orjson.dumps(written_ollama(error))))
        self._over = True
