"""Streams of Cohere's v2 chat.

Rules
- Content and tool calls are numbered apart, each from 0; the plan (tool_plan) has no number, no start and no end.
- message-end says the reason and the usage; an error is a message-end with the reason ERROR.
- A written stream has one part open at a time.

Does not know: framing on the way in.
Source: cohere/types/*_event.py of the Python SDK; recorded streams.
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
from outrider.dialects.frames import sse_frame
from outrider.dialects.logprobs import from_cohere
from outrider.dialects.native_errors import broken_off, cut
from outrider.dialects.pieces import InOrder, OneAnswerWriter
from outrider.dialects.usage import cohere_usage
from outrider.dialects.values import new_id, text

__all__ = ["FINISH", "NAME", "CohereStreamReader", "CohereStreamWriter", "finish_written", "usage_written"]

NAME: Final = "cohere.chat"
FINISH: Final[dict[str, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop_sequence",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "ERROR_TOXIC": "content_filter",
    "ERROR_LIMIT": "length",
    "TIMEOUT": "error",
    "USER_CANCEL": "error",
}
_FINISH_BACK: Final[dict[FinishReason, str]] = {
    "stop": "COMPLETE",
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR_TOXIC",
    "refusal": "COMPLETE",
    "pause": "COMPLETE",
    "error": "ERROR",
}


def finish_written(finish: FinishReason | None, native: str | None, notes: Notes) -> str:
    if native is not None:
        return native
    if finish in ("pause", "refusal"):
        notes.add("the turn was paused" if finish == "pause" else "the model refused")
    return _FINISH_BACK[finish or "stop"]


def usage_written(usage: Usage) -> Json:
    """What was billed and what was processed are two numbers at Cohere; others know one."""
    units = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    made: Json = {"billed_units": units, "tokens": dict(units)}
    if usage.cache_read_tokens:
        made["cached_tokens"] = usage.cache_read_tokens
    return made


class CohereStreamReader:
    def __init__(self) -> None:
        self._content: dict[int, int] = {}  # the event's index -> the part's
        self._calls: dict[int, int] = {}
        self._plan = -1
        self._parts = 0
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over or frame.data == b"[DONE]":
            return []
        try:
            body = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            self._over = True
            return [broken_off("The provider's stream has an event that is not JSON.")]
        if type(body) is not dict:
            return []
        kind = body.get("type")
        reader = _READERS.get(kind) if type(kind) is str else None
        if reader is None:
            if "message" in body and kind is None:  # an error in place of an event
                self._over = True
                return [
                    ErrorEvent(ProviderError(0, "server", cut(body["message"]) or "The provider reported an error."))
                ]
            return []
        events: list[StreamEvent] = []
        delta = body.get("delta")
        reader(self, body, delta if type(delta) is dict else {}, events)
        return events

    def _start(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        events.append(Start(text(body.get("id")), ""))

    def _begin(self, part: Part, events: list[StreamEvent]) -> int:
        number = self._parts
        self._parts += 1
        events.append(PartStart(0, number, part))
        return number

    def _end_plan(self, events: list[StreamEvent]) -> None:
        if self._plan >= 0:
            events.append(PartStop(0, self._plan))
            self._plan = -1

    def _plan_delta(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        words = text(_message(delta).get("tool_plan"))
        if words:
            if self._plan < 0:
                self._plan = self._begin(Thinking("", rest={"tool_plan": ""}), events)
            events.append(TextDelta(0, self._plan, words))

    def _content_start(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        self._end_plan(events)
        content = _inner(delta, "content")
        kind = Thinking if content.get("type") == "thinking" else Text
        number = self._content[_index(body)] = self._begin(kind(""), events)
        words = text(content.get("thinking" if kind is Thinking else "text"))
        if words:
            events.append(TextDelta(0, number, words))

    def _content_delta(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        content = _inner(delta, "content")
        number = self._content.get(_index(body))
        thought = text(content.get("thinking"))
        if number is None:
            self._end_plan(events)
            number = self._content[_index(body)] = self._begin(Thinking("") if thought else Text(""), events)
        words = thought or text(content.get("text"))
        if words:
            events.append(TextDelta(0, number, words))
        rows = body.get("logprobs")
        if type(rows) is dict:
            events.append(LogprobsDelta(0, from_cohere([rows])))

    def _content_end(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        number = self._content.pop(_index(body), None)
        if number is not None:
            events.append(PartStop(0, number))

    def _call_start(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        self._end_plan(events)
        call = _call(delta)
        function = call.get("function")
        function = function if type(function) is dict else {}
        begun = ToolCall(text(call.get("id")), text(function.get("name")), "")
        number = self._calls[_index(body)] = self._begin(begun, events)
        if function.get("arguments"):
            events.append(ArgumentsDelta(0, number, text(function["arguments"])))

    def _call_delta(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        function = _call(delta).get("function")
        number = self._calls.get(_index(body))
        if type(function) is dict and number is not None:
            events.append(ArgumentsDelta(0, number, text(function.get("arguments"))))

    def _call_end(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        number = self._calls.pop(_index(body), None)
        if number is not None:
            events.append(PartStop(0, number))

    def _citation(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        citation = _inner(delta, "citations")
        at = citation.get("content_index")
        number = self._content.get(at if type(at) is int else 0)
        if number is None:
            number = next(reversed(self._content.values()), None)
        if number is not None and citation:
            events.append(CitationDelta(0, number, citation))

    def _message_end(self, body: Json, delta: Json, events: list[StreamEvent]) -> None:
        self._end_plan(events)
        for number in (*self._content.values(), *self._calls.values()):
            events.append(PartStop(0, number))
        self._over = True
        native = text(delta.get("finish_reason"))
        if delta.get("error") or native == "ERROR":
            message = cut(delta.get("error")) or "The provider reported an error."
            events.append(ErrorEvent(ProviderError(0, "server", message, native or None)))
            return
        events.append(Finish(0, FINISH.get(native, "stop"), native=native or None))
        usage = delta.get("usage")
        read = cohere_usage(usage) if type(usage) is dict else None
        if read is not None:
            events.append(UsageEvent(read))
        events.append(End())

    def end(self) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        return [broken_off()]


def _message(delta: Json) -> Json:
    message = delta.get("message")
    return message if type(message) is dict else {}


def _inner(delta: Json, name: str) -> Json:
    inner = _message(delta).get(name)
    return inner if type(inner) is dict else {}


def _call(delta: Json) -> Json:
    return _inner(delta, "tool_calls")


def _index(body: Json) -> int:
    index = body.get("index")
    return index if type(index) is int else 0


_READERS: Final[dict[str, Any]] = {
    "message-start": CohereStreamReader._start,
    "tool-plan-delta": CohereStreamReader._plan_delta,
    "content-start": CohereStreamReader._content_start,
    "content-delta": CohereStreamReader._content_delta,
    "content-end": CohereStreamReader._content_end,
    "tool-call-start": CohereStreamReader._call_start,
    "tool-call-delta": CohereStreamReader._call_delta,
    "tool-call-end": CohereStreamReader._call_end,
    "citation-start": CohereStreamReader._citation,
    "message-end": CohereStreamReader._message_end,
}


class CohereStreamWriter(OneAnswerWriter):
    def __init__(self, request: Request, notes: Notes) -> None:
        super().__init__(notes)
        self._order = InOrder()
        self._kind: type[Part] | None = None  # of the open part; None: it is left out
        self._content = -1
        self._calls = -1
        self._begun = False
        self._finish: Finish | None = None

    def _take(self, event: StreamEvent, out: list[bytes]) -> None:
        for ready in self._order.feed(event):
            self._event(ready, out)

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        if event.text:
            self._words(event.text, out)

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._begin(event.id, out)

    def _begin(self, answer_id: str, out: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            message: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
            body = {"id": answer_id or new_id(""), "type": "message-start", "delta": {"message": message}}
            out.append(sse_frame(orjson.dumps(body), "message-start"))

    def _of_choice(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, PartStart):
            self._begin("", out)
            self._part(event.value, out)
        elif isinstance(event, ArgumentsDelta):
            if self._kind is ToolCall and event.json:
                self._say("tool-call-delta", {"tool_calls": {"function": {"arguments": event.json}}}, self._calls, out)
        elif isinstance(event, PartStop):
            if self._kind is ToolCall:
                out.append(_frame("tool-call-end", {"type": "tool-call-end", "index": self._calls}))
            elif self._kind is not None:
                out.append(_frame("content-end", {"type": "content-end", "index": self._content}))
            self._kind = None
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, SignatureDelta):
            self._notes.add("signatures left out")
        elif isinstance(event, (CitationDelta, LogprobsDelta)):
            self._notes.add(f"{'citations' if isinstance(event, CitationDelta) else 'logprobs'} left out")
        elif isinstance(event, DataDelta) and event.transcript and self._kind is Text:
            self._words(event.transcript, out)

    def _part(self, value: Part, out: list[bytes]) -> None:
        self._kind = None
        if isinstance(value, ToolCall) and not value.server:
            self._calls += 1
            self._kind = ToolCall
            function = {"name": value.name, "arguments": value.arguments}
            call = {"id": value.id or new_id("call_"), "type": "function", "function": function}
            self._say("tool-call-start", {"tool_calls": call}, self._calls, out)
            return
        if isinstance(value, (Opaque, ToolCall, Media)):
            self._notes.add(f"{value.name if isinstance(value, ToolCall) else value.kind} left out")
            if not isinstance(value, Media) or not value.text:
                return
        if isinstance(value, Thinking) and value.hidden:
            self._notes.add("sealed thoughts left out")
            return
        self._content += 1
        self._kind = Thinking if isinstance(value, Thinking) else Text
        word = "thinking" if self._kind is Thinking else "text"
        content = {"type": word, word: getattr(value, "text", "") or ""}
        self._say("content-start", {"content": content}, self._content, out)

    def _words(self, words: str, out: list[bytes]) -> None:
        if self._kind is not None:
            inner = {"thinking" if self._kind is Thinking else "text": words}
            self._say("content-delta", {"content": inner}, self._content, out)

    def _say(self, kind: str, message: Json, index: int, out: list[bytes]) -> None:
        out.append(_frame(kind, {"type": kind, "index": index, "delta": {"message": message}}))

    def _end(self, out: list[bytes]) -> None:
        self._begin("", out)
        for event in self._order.drain():
            self._event(event, out)
        finish = self._finish
        delta: Json = {"finish_reason": finish_written(finish.reason if finish else "stop", None, self._notes)}
        if self._usage is not None:
            delta["usage"] = usage_written(self._usage)
        out.append(_frame("message-end", {"type": "message-end", "delta": delta}))
        self._over = True

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        delta = {"finish_reason": "ERROR", "error": cut(error.message)}
        out.append(_frame("message-end", {"type": "message-end", "delta": delta}))
        self._over = True


def _frame(kind: str, body: Json) -> bytes:
    return sse_frame(orjson.dumps(body), kind)
