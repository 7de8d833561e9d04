"""Streams of OpenAI Responses: events to canonical events, and back.

Rules
- A part is known by its item's output_index and its own index in it. What an item says at its end and has not said in
  deltas (servers that send whole arguments at once) is said then.
- The last event repeats the whole answer, so all of it is held; so is the number of each event.
- Items of other parts may be open at once; a message item takes texts that follow each other.

Does not know: framing on the way in.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

from outrider.dialects import openai_errors
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
from outrider.dialects.openai_chat_stream import cut
from outrider.dialects.openai_items import read_item, reasoning_item, usage_body, written_call
from outrider.dialects.openai_parts import url_annotation
from outrider.dialects.usage import openai_usage
from outrider.dialects.values import listed, new_id, text

__all__ = ["ResponsesStreamReader", "ResponsesStreamWriter"]


# -- read


class _Open:
    """A part that has begun. said: what of it went out."""

    __slots__ = ("closed", "part", "said")

    def __init__(self, part: int) -> None:
        self.part = part
        self.said: list[str] = []
        self.closed = False


class ResponsesStreamReader:
    def __init__(self, finish_of: Callable[[Json, list[Part]], FinishReason]) -> None:
        self._finish_of = finish_of
        self._parts: dict[tuple[int, str, int], _Open] = {}  # (output_index, kind, index in the item)
        self._begun = 0
        self._calls = False
        self._started = False
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
        events: list[StreamEvent] = []
        if reader is not None:
            reader(self, event, events)
        elif kind is None and event.get("error"):
            self._error(event, events)
        return events

    def end(self) -> list[StreamEvent]:
        if self._ended:
            return []
        self._ended = True
        return [cut()]

    # -- parts

    def _open(self, event: Json, kind: str, index: Any, value: Callable[[], Part], events: list[StreamEvent]) -> _Open:
        output = event.get("output_index")
        key = (output if type(output) is int else -1, kind, index if type(index) is int else 0)
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = _Open(self._begun)
            self._begun += 1
            events.append(PartStart(0, found.part, value()))
        return found

    def _say(self, found: _Open, words: Any, events: list[StreamEvent], *, is_arguments: bool = False) -> None:
        if type(words) is str and words and not found.closed:
            found.said.append(words)
            events.append((ArgumentsDelta if is_arguments else TextDelta)(0, found.part, words))

    def _close(self, found: _Open, whole: Any, events: list[StreamEvent], *, is_arguments: bool = False) -> None:
        """whole: all of it, as its end repeats it."""
        if found.closed:
            return
        self._rest(found, whole, events, is_arguments=is_arguments)
        found.closed = True
        events.append(PartStop(0, found.part))

    def _rest(self, found: _Open, whole: Any, events: list[StreamEvent], *, is_arguments: bool = False) -> None:
        """What of the whole was not said yet; nothing where it is another text than what was said."""
        said = "".join(found.said)
        if type(whole) is str and len(whole) > len(said) and whole.startswith(said):
            self._say(found, whole[len(said) :], events, is_arguments=is_arguments)

    # -- events

    def _created(self, event: Json, events: list[StreamEvent]) -> None:
        response = event.get("response")
        if self._started or type(response) is not dict:
            return
        self._started = True
        created = response.get("created_at")
        created_s = int(created) if isinstance(created, (int, float)) else None
        tier = response.get("service_tier")
        events.append(Start(text(response.get("id")), text(response.get("model")), created_s, service_tier=tier))

    def _text_delta(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "text", event.get("content_index"), lambda: Text(""), events)
        self._say(found, event.get("delta"), events)
        if event.get("logprobs"):
            events.append(LogprobsDelta(0, {"content": event["logprobs"]}))

    def _text_done(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "text", event.get("content_index"), lambda: Text(""), events)
        self._rest(found, event.get("text"), events)  # annotations may follow: closed with its part

    def _refusal_delta(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "refusal", event.get("content_index"), lambda: Refusal(""), events)
        self._say(found, event.get("delta"), events)

    def _part_done(self, event: Json, events: list[StreamEvent]) -> None:
        part = event.get("part")
        if type(part) is dict:
            self._content_done(event, event.get("content_index"), part, events)

    def _content_done(self, event: Json, index: Any, part: Json, events: list[StreamEvent]) -> None:
        if part.get("type") == "output_text":
            found = self._open(event, "text", index, lambda: Text(""), events)
            self._close(found, part.get("text"), events)
        elif part.get("type") == "refusal":
            found = self._open(event, "refusal", index, lambda: Refusal(""), events)
            self._close(found, part.get("refusal"), events)

    def _annotation(self, event: Json, events: list[StreamEvent]) -> None:
        if type(event.get("annotation")) is dict:
            found = self._open(event, "text", event.get("content_index"), lambda: Text(""), events)
            if not found.closed:
                events.append(CitationDelta(0, found.part, event["annotation"]))

    def _summary_delta(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "summary", event.get("summary_index"), self._summary(event), events)
        self._say(found, event.get("delta"), events)

    def _summary_done(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "summary", event.get("summary_index"), self._summary(event), events)
        self._close(found, event.get("text"), events)

    @staticmethod
    def _summary(event: Json) -> Callable[[], Part]:
        return lambda: Thinking(id=event.get("item_id"), summary=True)

    def _thought_delta(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "thought", event.get("content_index"), self._thought(event), events)
        self._say(found, event.get("delta"), events)

    def _thought_done(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._open(event, "thought", event.get("content_index"), self._thought(event), events)
        self._close(found, event.get("text"), events)

    @staticmethod
    def _thought(event: Json) -> Callable[[], Part]:
        return lambda: Thinking(id=event.get("item_id"))

    def _item_added(self, event: Json, events: list[StreamEvent]) -> None:
        item = event.get("item")
        if type(item) is dict and item.get("type") in ("function_call", "custom_tool_call"):
            self._call(event, item, events)

    def _call(self, event: Json, item: Json, events: list[StreamEvent]) -> _Open:
        self._calls = True
        call = read_item(item, lambda content: [])
        assert isinstance(call, ToolCall)
        call.arguments = ""
        return self._open(event, "call", 0, lambda: call, events)

    def _arguments_delta(self, event: Json, events: list[StreamEvent]) -> None:
        found = self._parts.get((event.get("output_index", -1), "call", 0))
        if found is not None:
            self._say(found, event.get("delta"), events, is_arguments=True)

    def _item_done(self, event: Json, events: list[StreamEvent]) -> None:
        item = event.get("item")
        if type(item) is not dict:
            return
        kind = item.get("type")
        if kind in ("function_call", "custom_tool_call"):
            whole = item.get("input" if kind == "custom_tool_call" else "arguments")
            self._close(self._call(event, item, events), whole, events, is_arguments=True)
        elif kind == "message":
            for index, part in enumerate(listed(item.get("content"))):
                if type(part) is dict:
                    self._content_done(event, index, part, events)
        elif kind == "reasoning":
            self._reasoning_done(event, item, events)
        else:
            found = self._open(event, "item", 0, lambda: read_item(item, lambda content: []), events)
            self._close(found, None, events)

    def _reasoning_done(self, event: Json, item: Json, events: list[StreamEvent]) -> None:
        event = event | {"item_id": item.get("id")}
        for index, part in enumerate(listed(item.get("summary"))):
            if type(part) is dict:
                found = self._open(event, "summary", index, self._summary(event), events)
                self._close(found, part.get("text"), events)
        for index, part in enumerate(listed(item.get("content"))):
            if type(part) is dict:
                found = self._open(event, "thought", index, self._thought(event), events)
                self._close(found, part.get("text"), events)
        if type(item.get("encrypted_content")) is str:
            sealed = Thinking(hidden=item["encrypted_content"], id=item.get("id"))
            self._close(self._open(event, "sealed", 0, lambda: sealed, events), None, events)

    # -- ends

    def _completed(self, event: Json, events: list[StreamEvent]) -> None:
        response = event.get("response")
        response = response if type(response) is dict else {}
        self._created(event, events)
        if not self._begun:  # all at once, at the end: in any other case the places may differ, and text be said twice
            for index, item in enumerate(listed(response.get("output"))):
                if type(item) is dict:
                    self._item_done({"output_index": index, "item": item}, events)
        for found in self._parts.values():
            self._close(found, None, events)
        self._ended = True
        reason = self._finish_of(response, [])
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        events.append(Finish(0, reason))
        usage = response.get("usage")
        tier = response.get("service_tier")
        counted = openai_usage(usage, response.get("model"), tier) if type(usage) is dict else None
        if counted is not None:
            events.append(UsageEvent(counted, tier))
        events.append(End())

    def _failed(self, event: Json, events: list[StreamEvent]) -> None:
        response = event.get("response")
        error = response.get("error") if type(response) is dict else None
        self._error({"error": error if type(error) is dict else {"message": "The provider failed."}}, events)

    def _error(self, event: Json, events: list[StreamEvent]) -> None:
        self._ended = True
        if not event.get("error"):  # its fields stand in the event itself
            event = {"error": {key: event.get(key) for key in ("message", "code", "param")}}
        events.append(ErrorEvent(openai_errors.error_of(0, event)))


_READERS: Final[dict[str, Any]] = {
    "response.created": ResponsesStreamReader._created,
    "response.in_progress": ResponsesStreamReader._created,
    "response.output_text.delta": ResponsesStreamReader._text_delta,
    "response.output_text.done": ResponsesStreamReader._text_done,
    "response.output_text.annotation.added": ResponsesStreamReader._annotation,
    "response.refusal.delta": ResponsesStreamReader._refusal_delta,
    "response.content_part.done": ResponsesStreamReader._part_done,
    "response.reasoning_summary_text.delta": ResponsesStreamReader._summary_delta,
    "response.reasoning_summary_text.done": ResponsesStreamReader._summary_done,
    "response.reasoning_text.delta": ResponsesStreamReader._thought_delta,
    "response.reasoning_text.done": ResponsesStreamReader._thought_done,
    "response.output_item.added": ResponsesStreamReader._item_added,
    "response.output_item.done": ResponsesStreamReader._item_done,
    "response.function_call_arguments.delta": ResponsesStreamReader._arguments_delta,
    "response.custom_tool_call_input.delta": ResponsesStreamReader._arguments_delta,
    "response.completed": ResponsesStreamReader._completed,
    "response.incomplete": ResponsesStreamReader._completed,
    "response.failed": ResponsesStreamReader._failed,
    "error": ResponsesStreamReader._error,
}


# -- written


class _Piece:
    """One part on its way out: its item, its place, and what it has said."""

    __slots__ = ("content", "delta", "item", "said", "where")

    def __init__(self, item: Json, where: Json, content: Json | None, delta: bytes) -> None:
        self.item = item
        self.where = where  # item_id, output_index, and content_index or summary_index
        self.content = content  # of a message or a summary: the piece inside the item
        self.delta = delta  # its delta event up to the text, without the number
        self.said: list[str] = []


class ResponsesStreamWriter:
    def __init__(
        self,
        request: Request,
        notes: Notes,
        response_body: Callable[[str, str, int | None, Request], Json],
        ending: Callable[[FinishReason], Json],
    ) -> None:
        self._request = request
        self._notes = notes
        self._response_body = response_body
        self._ending = ending
        self._response: Json = {}
        self._output: list[Json] = []
        self._pieces: dict[int, _Piece] = {}
        self._message: Json | None = None  # the message item that is open
        self._message_at = -1  # its output_index
        self._number = 0
        self._usage: Usage | None = None
        self._finish: FinishReason = "stop"
        self._ended = False

    def write(self, events: list[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and event.choice == 0:
                piece = self._pieces.get(event.part)
                if piece is not None:
                    self._say(piece, event.text, out)
            elif not self._ended:
                self._other(event, out)
        return b"".join(out)

    def _say(self, piece: _Piece, words: str, out: list[bytes]) -> None:
        piece.said.append(words)
        number = self._number
        self._number = number + 1
        out.append(piece.delta % (number, orjson.dumps(words)))

    def _event(self, kind: str, data: Json, out: list[bytes]) -> None:
        made = orjson.dumps({"type": kind, "sequence_number": self._number} | data)
        self._number += 1
        out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), made))

    def _other(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, Start):
            self._start(event, out)
        elif isinstance(event, UsageEvent):
            self._usage = event.usage
        elif isinstance(event, ErrorEvent):
            self._error(event.error, out)
        elif isinstance(event, End):
            self._end(out)
        elif event.choice != 0:
            self._notes.add("all answers but the first left out")
        elif isinstance(event, Finish):
            self._finish = event.reason
        elif isinstance(event, PartStart):
            self._part_start(event, out)
        elif isinstance(event, PartStop):
            piece = self._pieces.pop(event.part, None)
            if piece is not None:
                self._stop(piece, out)
        else:
            self._delta(event, out)

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._response = self._response_body(event.id, event.model, event.created_s, self._request)
        if event.service_tier is not None:
            self._response["service_tier"] = event.service_tier
        self._event("response.created", {"response": self._response}, out)
        self._event("response.in_progress", {"response": self._response}, out)

    # -- parts

    def _part_start(self, event: PartStart, out: list[bytes]) -> None:
        if not self._response:
            self._start(Start("", ""), out)
        value = event.value
        if isinstance(value, (Text, Refusal)):
            self._pieces[event.part] = piece = self._of_message(isinstance(value, Refusal), out)
            words = value.text
        elif isinstance(value, Thinking):
            if value.hidden is not None and not value.text:
                self._notes.add("sealed thoughts left out")
                return
            self._pieces[event.part] = piece = self._thought(out)
            words = value.text
        elif isinstance(value, ToolCall) and not value.server:
            self._pieces[event.part] = piece = self._call(value, out)
            words = value.arguments
        elif isinstance(value, Media) and value.kind == "audio":  # spoken words are told in text
            self._notes.add("audio left out")
            self._pieces[event.part] = piece = self._of_message(False, out)
            words = value.text or ""
        else:
            self._notes.add(f"{value.kind if isinstance(value, (Opaque, Media)) else 'a part'} left out")
            return
        if words:
            self._say(piece, words, out)

    def _of_message(self, is_refusal: bool, out: list[bytes]) -> _Piece:
        if self._message is None:
            item: Json = {"id": new_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant"}
            item["content"] = []
            self._message, self._message_at = item, len(self._output)
            self._add(item, out)
        message = self._message
        where = {"item_id": message["id"], "output_index": self._message_at, "content_index": len(message["content"])}
        content: Json
        if is_refusal:
            content = {"type": "refusal", "refusal": ""}
        else:
            content = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        message["content"].append(content)
        self._event("response.content_part.added", where | {"part": content}, out)
        if is_refusal:
            return _Piece(message, where, content, _delta("response.refusal.delta", where))
        return _Piece(message, where, content, _delta("response.output_text.delta", where | {"logprobs": []}))

    def _thought(self, out: list[bytes]) -> _Piece:
        self._close_message(out)
        item = reasoning_item(Thinking())
        at = len(self._output)
        self._add(item, out)
        where = {"item_id": item["id"], "output_index": at, "summary_index": 0}
        content = {"type": "summary_text", "text": ""}
        self._event("response.reasoning_summary_part.added", where | {"part": content}, out)
        item["summary"].append(content)
        return _Piece(item, where, content, _delta("response.reasoning_summary_text.delta", where))

    def _call(self, call: ToolCall, out: list[bytes]) -> _Piece:
        self._close_message(out)
        item = written_call(call, False) | {"id": new_id("fc_"), "status": "in_progress"}
        key, kind = ("input", "custom_tool_call_input") if call.is_custom else ("arguments", "function_call_arguments")
        item[key] = ""
        at = len(self._output)
        self._add(item, out)
        where = {"item_id": item["id"], "output_index": at}
        return _Piece(item, where, None, _delta(f"response.{kind}.delta", where))

    def _add(self, item: Json, out: list[bytes]) -> None:
        self._event("response.output_item.added", {"output_index": len(self._output), "item": item}, out)
        self._output.append(item)

    def _delta(self, event: Any, out: list[bytes]) -> None:
        if isinstance(event, LogprobsDelta):
            self._logprobs(event)
            return
        piece = self._pieces.get(event.part)
        if piece is None:
            return
        if isinstance(event, ArgumentsDelta):
            self._say(piece, event.json, out)
        elif isinstance(event, DataDelta):
            if event.transcript:
                self._say(piece, event.transcript, out)
        elif isinstance(event, SignatureDelta):
            self._notes.add("signatures left out")
        elif isinstance(event, CitationDelta):
            self._annotation(piece, event.citation, out)

    def _annotation(self, piece: _Piece, citation: Json, out: list[bytes]) -> None:
        annotation = url_annotation(citation, 0, sum(map(len, piece.said)))
        if annotation is None or piece.content is None or "annotations" not in piece.content:
            self._notes.add("citations left out")
            return
        made = {"type": "url_citation"} | annotation
        annotations = piece.content["annotations"]
        where = piece.where | {"annotation_index": len(annotations), "annotation": made}
        annotations.append(made)
        self._event("response.output_text.annotation.added", where, out)

    def _logprobs(self, event: LogprobsDelta) -> None:
        tokens = event.logprobs.get("content") if type(event.logprobs) is dict else None
        if self._message is not None and self._message["content"]:
            self._message["content"][-1].get("logprobs", []).extend(listed(tokens))

    def _stop(self, piece: _Piece, out: list[bytes]) -> None:
        words = "".join(piece.said)
        content, where, item = piece.content, piece.where, piece.item
        if content is None:
            is_custom = item["type"] == "custom_tool_call"
            key, kind = ("input", "custom_tool_call_input") if is_custom else ("arguments", "function_call_arguments")
            if not words and not is_custom:  # who adds up the deltas parses them in the end
                words = "{}"
                self._say(piece, words, out)
            item[key] = words
            item["status"] = "completed"
            name = {} if is_custom else {"name": item["name"]}
            self._event(f"response.{kind}.done", where | name | {key: item[key]}, out)
            self._event("response.output_item.done", {"output_index": where["output_index"], "item": item}, out)
        elif "summary_index" in where:
            content["text"] = words
            self._event("response.reasoning_summary_text.done", where | {"text": words}, out)
            self._event("response.reasoning_summary_part.done", where | {"part": content}, out)
            self._event("response.output_item.done", {"output_index": where["output_index"], "item": item}, out)
        else:
            key = "refusal" if content["type"] == "refusal" else "text"
            content[key] = words
            more = {"logprobs": content["logprobs"]} if key == "text" else {}
            kind = "response.refusal.done" if key == "refusal" else "response.output_text.done"
            self._event(kind, where | {key: words} | more, out)
            self._event("response.content_part.done", where | {"part": content}, out)

    def _close_message(self, out: list[bytes]) -> None:
        message = self._message
        if message is None:
            return
        for part, piece in tuple(self._pieces.items()):
            if piece.item is message:
                self._stop(self._pieces.pop(part), out)
        message["status"] = "completed"
        self._event("response.output_item.done", {"output_index": self._message_at, "item": message}, out)
        self._message = None

    # -- the end

    def _end(self, out: list[bytes]) -> None:
        if not self._response:
            self._start(Start("", ""), out)
        for part in tuple(self._pieces):
            if self._pieces[part].item is not self._message:
                self._stop(self._pieces.pop(part), out)
        self._close_message(out)
        self._ended = True
        response = self._response | {"output": self._output} | self._ending(self._finish)
        response["usage"] = usage_body(self._usage) if self._usage is not None else None
        self._event(f"response.{response['status']}", {"response": response}, out)

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        self._ended = True
        self._event("error", {"code": error.code or error.kind, "message": error.message, "param": error.param}, out)


def _delta(kind: str, where: Json) -> bytes:
    """A delta's event, with a place for its number and one for its text."""
    fields = orjson.dumps({"type": kind} | where).replace(b"%", b"%%")
    return b"event: %b\ndata: %b" % (kind.encode(), fields[:-1]) + b',"sequence_number":%d,"delta":%b}\n\n'
