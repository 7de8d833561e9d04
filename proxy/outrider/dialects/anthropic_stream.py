"""Streams of Anthropic Messages: events to canonical events, and back.

Rules
- One block is open at a time: what comes for another one while it is (interleaved tool calls of other dialects) waits
  until it is its turn. An app that knows only the open block then never sees a piece of another.
- Usage of message_start and message_delta is merged field by field, never added up.
- The reason and the usage go out together in message_delta, so they wait for the end.
- A stream ends with message_stop; `ping` and unknown events mean nothing.

Does not know: framing on the way in.
"""

from typing import Any, Final

import orjson

from outrider.dialects import anthropic_errors
from outrider.dialects.anthropic_parts import FINISH, NAME, read_part, usage_body, written_finish, written_part
from outrider.dialects.base import Frame, Json, Notes, UnreadableError
from outrider.dialects.canonical import (
    ArgumentsDelta,
    CitationDelta,
    DataDelta,
    End,
    ErrorEvent,
    Finish,
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
from outrider.dialects.openai_chat_stream import cut
from outrider.dialects.usage import anthropic_usage
from outrider.dialects.values import new_id, text

__all__ = ["AnthropicStreamReader", "AnthropicStreamWriter"]

RESTARTED: Final = "The provider began its answer anew in the middle of it."


class AnthropicStreamReader:
    def __init__(self) -> None:
        self._parts: dict[int, int] = {}  # the block's index -> the part's
        self._begun = 0
        self._usage: Json = {}
        self._model: str | None = None
        self._ended = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._ended:
            return []
        try:
            event = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            return []
        if type(event) is not dict:
            return []
        kind = event.get("type")
        reader = _READERS.get(kind) if type(kind) is str else None
        return reader(self, event) if reader is not None else []

    def end(self) -> list[StreamEvent]:
        if self._ended:
            return []
        self._ended = True
        return [cut()]

    def _message_start(self, event: Json) -> list[StreamEvent]:
        if self._begun:  # what was said cannot be taken back, and the two do not make one answer
            self._ended = True
            return [ErrorEvent(ProviderError(0, "server", RESTARTED, code="stream_restarted"))]
        message = event.get("message")
        message = message if type(message) is dict else {}
        self._model = text(message.get("model"))
        usage = self._merged(message.get("usage"))
        tier = self._usage.get("service_tier")
        return [Start(text(message.get("id")), self._model, usage=usage, service_tier=tier)]

    def _merged(self, usage: Any) -> Usage | None:
        if type(usage) is dict:
            for key, value in usage.items():
                if value is not None:
                    self._usage[key] = value
        return anthropic_usage(self._usage, self._model) if self._usage else None

    def _block_start(self, event: Json) -> list[StreamEvent]:
        block, index = event.get("content_block"), event.get("index")
        if type(block) is not dict or type(index) is not int:
            return []
        try:
            value = read_part(block)
        except UnreadableError:
            value = Opaque(NAME, text(block.get("type")) or "without a type", block)
        part = self._parts[index] = self._begun
        self._begun += 1
        events: list[StreamEvent] = []
        words = ""
        if isinstance(value, ToolCall):
            value.arguments = "" if value.arguments == "{}" else value.arguments
        elif isinstance(value, (Text, Thinking)):
            words, value.text = value.text, ""
        events.append(PartStart(0, part, value))
        if words:
            events.append(TextDelta(0, part, words))
        return events

    def _block_delta(self, event: Json) -> list[StreamEvent]:
        delta = event.get("delta")
        part = self._parts.get(event.get("index", -1))
        if type(delta) is not dict or part is None:
            return []
        kind = delta.get("type")
        if kind == "text_delta":
            return [TextDelta(0, part, text(delta.get("text")))]
        if kind == "input_json_delta":
            return [ArgumentsDelta(0, part, text(delta.get("partial_json")))]
        if kind == "thinking_delta":
            return [TextDelta(0, part, text(delta.get("thinking")))]
        if kind == "signature_delta":
            return [SignatureDelta(0, part, text(delta.get("signature")))]
        if kind == "citations_delta" and type(delta.get("citation")) is dict:
            return [CitationDelta(0, part, delta["citation"])]
        return []

    def _block_stop(self, event: Json) -> list[StreamEvent]:
        part = self._parts.get(event.get("index", -1))
        return [PartStop(0, part)] if part is not None else []

    def _message_delta(self, event: Json) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        usage = self._merged(event.get("usage"))
        if usage is not None:
            events.append(UsageEvent(usage, self._usage.get("service_tier")))
        delta = event.get("delta")
        delta = delta if type(delta) is dict else {}
        native = delta.get("stop_reason")
        if type(native) is str:
            events.append(Finish(0, FINISH.get(native, "stop"), delta.get("stop_sequence"), native))
        return events

    def _message_stop(self, event: Json) -> list[StreamEvent]:
        self._ended = True
        return [End()]

    def _error(self, event: Json) -> list[StreamEvent]:
        self._ended = True
        return [ErrorEvent(anthropic_errors.error_of(0, event))]


_READERS: Final[dict[str, Any]] = {
    "message_start": AnthropicStreamReader._message_start,
    "content_block_start": AnthropicStreamReader._block_start,
    "content_block_delta": AnthropicStreamReader._block_delta,
    "content_block_stop": AnthropicStreamReader._block_stop,
    "message_delta": AnthropicStreamReader._message_delta,
    "message_stop": AnthropicStreamReader._message_stop,
    "error": AnthropicStreamReader._error,
}


# -- written


class _Block:
    """A part on its way out. waiting: what came before it was open; closed: all of it has come."""

    __slots__ = ("closed", "key", "start", "waiting")

    def __init__(self, start: Json | None, key: bytes) -> None:
        self.start = start  # None: left out
        self.key = key  # of its text deltas
        self.waiting: list[StreamEvent] = []
        self.closed = False


class AnthropicStreamWriter:
    def __init__(self, request: Request, notes: Notes) -> None:
        self._notes = notes
        self._model = request.model
        self._blocks: dict[int, _Block] = {}  # part -> block, in the order in which they began; done ones leave
        self._open: int | None = None  # the part whose block is open
        self._index = -1  # of the last block begun
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._started = False
        self._ended = False

    def write(self, events: list[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and event.part == self._open and event.choice == 0:
                self._text(event, self._blocks[event.part], out)
            elif not self._ended:
                self._other(event, out)
        return b"".join(out)

    def _other(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, Start):
            self._start(event, out)
        elif isinstance(event, UsageEvent):
            self._usage = event.usage
        elif isinstance(event, ErrorEvent):
            self._ended = True
            out.append(_event(b"error", anthropic_errors.written(event.error)))
        elif isinstance(event, End):
            self._end(out)
        elif event.choice != 0:
            self._notes.add("all answers but the first left out")
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, PartStart):
            self._part_start(event, out)
        elif isinstance(event, (TextDelta, ArgumentsDelta, SignatureDelta, CitationDelta, DataDelta, PartStop)):
            self._of_part(event, out)
        else:
            self._notes.add("logprobs left out")

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._started = True
        self._usage = event.usage or self._usage
        usage = usage_body(event.usage)
        message: Json = {
            "id": event.id or new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": event.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        out.append(_event(b"message_start", {"type": "message_start", "message": message}))

    # -- blocks

    def _part_start(self, event: PartStart, out: list[bytes]) -> None:
        if not self._started:
            self._start(Start("", self._model), out)
        self._blocks[event.part] = block = self._block(event.value)
        value = event.value
        if isinstance(value, ToolCall) and value.arguments:
            block.waiting.append(ArgumentsDelta(0, event.part, value.arguments))
        if self._open is None:
            self._next(out)

    def _block(self, value: Part) -> _Block:
        """Its start, empty of what comes in deltas."""
        if isinstance(value, (Text, Refusal)):
            return _Block({"type": "text", "text": value.text}, _TEXT)
        if isinstance(value, Thinking) and value.hidden is None:
            return _Block({"type": "thinking", "thinking": value.text, "signature": ""}, _THINKING)
        if isinstance(value, ToolCall) and not value.server:
            call_id = value.id or new_id("toolu_")
            return _Block({"type": "tool_use", "id": call_id, "name": value.name, "input": {}}, b"")
        if isinstance(value, Media):  # spoken words are told in text
            self._notes.add(f"{value.kind} left out")
            return _Block({"type": "text", "text": value.text} if value.text else None, _TEXT)
        is_own = isinstance(value, Opaque) and value.origin == NAME
        return _Block(written_part(value, is_own, self._notes, in_answer=True), b"")

    def _of_part(self, event: Any, out: list[bytes]) -> None:
        block = self._blocks.get(event.part)
        if block is None:
            return
        if event.part != self._open:
            if isinstance(event, PartStop):
                block.closed = True
            elif block.start is not None:
                block.waiting.append(event)
        elif isinstance(event, PartStop):
            self._stop(event.part, out)
            self._next(out)
        else:
            self._delta(event, block, out)

    def _next(self, out: list[bytes]) -> None:
        """Opens the next block and says what waited for it; closes those that are already whole."""
        while self._open is None and self._blocks:
            part, block = next(iter(self._blocks.items()))
            if block.start is None:  # nothing is said of it: the next one need not wait
                self._blocks.pop(part)
                continue
            self._index += 1
            self._open = part
            start = {"type": "content_block_start", "index": self._index, "content_block": block.start}
            out.append(_event(b"content_block_start", start))
            for event in block.waiting:
                self._delta(event, block, out)
            block.waiting = []
            if block.closed:
                self._stop(part, out)

    def _stop(self, part: int, out: list[bytes]) -> None:
        out.append(
            b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index,
        )
        self._blocks.pop(part)
        self._open = None

    def _text(self, event: TextDelta, block: _Block, out: list[bytes]) -> None:
        out.append(_DELTA % (self._index, block.key + orjson.dumps(event.text)))

    def _delta(self, event: StreamEvent, block: _Block, out: list[bytes]) -> None:
        if isinstance(event, TextDelta):
            self._text(event, block, out)
        elif isinstance(event, ArgumentsDelta):
            out.append(_DELTA % (self._index, _ARGUMENTS + orjson.dumps(event.json)))
        elif isinstance(event, DataDelta):
            if event.transcript:
                out.append(_DELTA % (self._index, _TEXT + orjson.dumps(event.transcript)))
        elif isinstance(event, SignatureDelta):
            self._notes.add("signatures left out")
        elif isinstance(event, CitationDelta):
            self._notes.add("citations left out")

    # -- the end

    def _end(self, out: list[bytes]) -> None:
        if not self._started:
            self._start(Start("", self._model), out)
        for block in self._blocks.values():
            block.closed = True
        if self._open is not None:
            self._stop(self._open, out)
        self._next(out)
        self._ended = True
        finish = self._finish
        reason = written_finish(finish.reason if finish is not None else "stop", self._notes)
        delta = {"stop_reason": reason, "stop_sequence": finish.stop_sequence if finish is not None else None}
        usage = usage_body(self._usage)
        out.append(_event(b"message_delta", {"type": "message_delta", "delta": delta, "usage": usage}))
        out.append(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b}}\n\n'
_TEXT: Final = b'"text_delta","text":'
_THINKING: Final = b'"thinking_delta","thinking":'
_ARGUMENTS: Final = b'"input_json_delta","partial_json":'


def _event(name: bytes, data: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(data))
