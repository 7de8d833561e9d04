"""Streams of OpenAI Chat Completions: chunks to events, events to chunks.

Rules
- A tool call is known by its index; who leaves the index out, or gives every call the same one, is told by a new id.
- Tool calls stay open until the choice is finished, since their pieces may be interleaved. Text ends thoughts, and what
  is neither ends text.
- The first chunk may have no choices (Azure), the last one has none (usage); `[DONE]` or a finish of every choice is
  the end, anything else was cut.

Does not know: framing on the way in.
"""

import time
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
from outrider.dialects.openai_parts import (
    FINISH,
    arguments_text,
    chat_usage,
    url_annotation,
    usage_body,
    written_finish,
)
from outrider.dialects.values import listed, new_id, text

__all__ = ["CUT", "ChatStreamReader", "ChatStreamWriter", "cut"]

CUT: Final = "The provider's stream ended before it was complete."


def cut() -> ErrorEvent:
    return ErrorEvent(ProviderError(0, "server", CUT, code="stream_cut"))


# -- read


class _Choice:
    """One choice's open parts. open_kind: of the part that text goes to, None where that is none."""

    __slots__ = ("finished", "index", "open_kind", "open_part", "parts", "tools")

    def __init__(self, index: int) -> None:
        self.index = index
        self.parts = 0  # begun so far
        self.open_kind: type[Part] | None = None
        self.open_part = -1
        self.tools: dict[Any, tuple[int, str]] = {}  # index of the wire -> (part, id)
        self.finished = False

    def begin(self, value: Part, events: list[StreamEvent]) -> int:
        part = self.parts
        self.parts += 1
        events.append(PartStart(self.index, part, value))
        return part

    def say(self, kind: type[Text] | type[Thinking] | type[Refusal], words: str, events: list[StreamEvent]) -> None:
        if self.open_kind is not kind:
            self.close_text(events)
            self.open_part = self.begin(kind(""), events)
            self.open_kind = kind
        events.append(TextDelta(self.index, self.open_part, words))

    def close_text(self, events: list[StreamEvent]) -> None:
        if self.open_kind is not None:
            events.append(PartStop(self.index, self.open_part))
            self.open_kind = None

    def close(self, events: list[StreamEvent]) -> None:
        self.close_text(events)
        for part, _ in sorted(self.tools.values()):
            events.append(PartStop(self.index, part))
        self.tools = {}


class ChatStreamReader:
    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._started = False
        self._ended = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._ended:
            return []
        data = frame.data
        if data == b"[DONE]":
            return self._finish()
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return []
        if type(chunk) is not dict:
            return []
        events: list[StreamEvent] = []
        if chunk.get("error") or frame.name == "error":
            self._ended = True
            events.append(ErrorEvent(openai_errors.error_of(0, chunk)))
            return events
        rows = chunk.get("choices")
        if not self._started and (rows or chunk.get("id")):
            self._start(chunk, events)
        for row in rows if type(rows) is list else ():
            if type(row) is dict:
                self._row(row, events)
        if (
            chunk.get("usage") is not None
            or "x_groq" in chunk
            or (rows and type(rows[0]) is dict and "usage" in rows[0])
        ):
            usage = chat_usage(chunk)
            if usage is not None:
                events.append(UsageEvent(usage, chunk.get("service_tier")))
        return events

    def end(self) -> list[StreamEvent]:
        if self._ended:
            return []
        if self._choices and all(choice.finished for choice in self._choices.values()):
            return self._finish()
        self._ended = True
        return [cut()]

    def _finish(self) -> list[StreamEvent]:
        self._ended = True
        events: list[StreamEvent] = []
        for choice in self._choices.values():
            reason: FinishReason = "tool_calls" if choice.tools else "stop"
            choice.close(events)
            if not choice.finished:  # [DONE] without a reason: some servers give none
                events.append(Finish(choice.index, reason))
        events.append(End())
        return events

    def _start(self, chunk: Json, events: list[StreamEvent]) -> None:
        self._started = True
        created = chunk.get("created")
        events.append(
            Start(
                text(chunk.get("id")),
                text(chunk.get("model")),
                created if type(created) is int else None,
                service_tier=chunk.get("service_tier"),
                fingerprint=chunk.get("system_fingerprint"),
            )
        )

    def _row(self, row: Json, events: list[StreamEvent]) -> None:
        index = row.get("index")
        index = index if type(index) is int else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        delta = row.get("delta")
        if type(delta) is dict:
            content = delta.get("content")
            if content and type(content) is str and len(delta) == 1:  # by far the most
                choice.say(Text, content, events)
            else:
                self._delta(choice, delta, events)
        if row.get("logprobs") is not None:
            events.append(LogprobsDelta(index, row["logprobs"]))
        native = row.get("finish_reason")
        if type(native) is str and native and not choice.finished:
            choice.close(events)
            choice.finished = True
            events.append(Finish(index, FINISH.get(native, "stop"), native=native))

    def _delta(self, choice: _Choice, delta: Json, events: list[StreamEvent]) -> None:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and type(thought) is str:
            choice.say(Thinking, thought, events)
        content = delta.get("content")
        if content and type(content) is str:
            choice.say(Text, content, events)
        elif content:
            self._content(choice, listed(content), events)
        refusal = delta.get("refusal")
        if refusal and type(refusal) is str:
            choice.say(Refusal, refusal, events)
        for call in listed(delta.get("tool_calls")):
            if type(call) is dict:
                self._call(choice, call, events)
        legacy = delta.get("function_call")
        if type(legacy) is dict:
            self._call(choice, {"index": "function", "function": legacy}, events)
        audio = delta.get("audio")
        if type(audio) is dict:
            self._audio(choice, audio, events)
        for citation in listed(delta.get("annotations")):
            if type(citation) is dict and choice.open_kind is Text:
                events.append(CitationDelta(choice.index, choice.open_part, citation))

    def _content(self, choice: _Choice, parts: list[Any], events: list[StreamEvent]) -> None:
        """Mistral's: parts instead of text."""
        for part in parts:
            if type(part) is not dict:
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                pieces = inner if type(inner) is list else [{"text": inner}]
                words = "".join(text(piece.get("text")) for piece in pieces if type(piece) is dict)
                if words:
                    choice.say(Thinking, words, events)
            elif text(part.get("text")):
                choice.say(Text, part["text"], events)

    def _call(self, choice: _Choice, call: Json, events: list[StreamEvent]) -> None:
        is_custom = call.get("type") == "custom" or "custom" in call
        inner = call.get("custom" if is_custom else "function")
        inner = inner if type(inner) is dict else {}
        call_id, name = text(call.get("id")), text(inner.get("name"))
        key = call.get("index")
        if type(key) not in (int, str):
            key = call_id or "only"
        known = choice.tools.get(key)
        if known is None or (call_id and name and known[1] and call_id != known[1]):
            choice.close_text(events)
            if known is not None:  # the same index again: the call before it came whole
                events.append(PartStop(choice.index, known[0]))
            part = choice.begin(ToolCall(call_id, name, "", is_custom), events)
            known = choice.tools[key] = (part, call_id)
        piece = text(inner.get("input")) if is_custom else arguments_text(inner)
        if piece:
            events.append(ArgumentsDelta(choice.index, known[0], piece))
        google = call.get("extra_content")
        if type(google) is dict and type(google.get("google")) is dict:
            signature = google["google"].get("thought_signature")
            if type(signature) is str:
                events.append(SignatureDelta(choice.index, known[0], signature))

    def _audio(self, choice: _Choice, audio: Json, events: list[StreamEvent]) -> None:
        if choice.open_kind is not Media:
            choice.close_text(events)
            choice.open_part = choice.begin(Media("audio", data="", rest={"id": audio.get("id")}), events)
            choice.open_kind = Media
        data, words = text(audio.get("data")), text(audio.get("transcript"))
        if data or words:
            events.append(DataDelta(choice.index, choice.open_part, data, words))


# -- written


class ChatStreamWriter:
    """Text of an event is put between two halves of a chunk that are made once."""

    def __init__(self, request: Request, notes: Notes) -> None:
        self._notes = notes
        self._with_usage = request.stream_usage is True
        self._legacy = request.legacy_functions
        self._model = request.model
        self._head = b""  # up to the choice's index
        self._tail = b""  # from behind a delta's last field
        self._end = b""  # from behind a choice
        self._rows: dict[int, bytes] = {}  # choice -> the head with its index
        self._parts: dict[
            tuple[int, int], bytes | int
        ] = {}  # (choice, part) -> the delta's key, or a tool call's index
        self._calls: dict[int, int] = {}  # choice -> tool calls begun
        self._silent: set[tuple[int, int]] = set()  # tool calls without arguments so far
        self._audio: dict[tuple[int, int], str] = {}
        self._usage: Usage | None = None
        self._ended = False

    def write(self, events: list[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta:
                key = self._parts.get((event.choice, event.part))
                if type(key) is bytes:
                    out.append(self._row(event.choice) + key + orjson.dumps(event.text) + self._tail)
            elif not self._ended:
                self._other(event, out)
        return b"".join(out)

    def _other(self, event: StreamEvent, out: list[bytes]) -> None:
        writer = _WRITERS.get(type(event))
        if writer is not None:
            writer(self, event, out)

    def _row(self, choice: int) -> bytes:
        """A chunk up to its delta's first field; the first chunk of a choice names the role."""
        row = self._rows.get(choice)
        if row is None:
            if not self._head:
                self._start(Start("", self._model), [])
            row = self._rows[choice] = self._head + b'{"index":%d,"delta":{' % choice
            return row + b'"role":"assistant",'
        return row

    def _start(self, event: Start, out: list[bytes]) -> None:
        chunk: Json = {
            "id": event.id or new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": event.created_s if event.created_s is not None else int(time.time()),
            "model": event.model or self._model,
        }
        if event.service_tier is not None:
            chunk["service_tier"] = event.service_tier
        if event.fingerprint is not None:
            chunk["system_fingerprint"] = event.fingerprint
        self._head = b"data: " + orjson.dumps(chunk)[:-1] + b',"choices":['
        self._end = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._tail = b'},"logprobs":null,"finish_reason":null}' + self._end

    def _part_start(self, event: PartStart, out: list[bytes]) -> None:
        value, place = event.value, (event.choice, event.part)
        if isinstance(value, ToolCall):
            self._call(event, value, out)
        elif isinstance(value, (Text, Refusal, Thinking)):
            self._parts[place] = key = _KEYS[type(value)]
            if value.text:
                out.append(self._row(event.choice) + key + orjson.dumps(value.text) + self._tail)
            if isinstance(value, Thinking) and value.hidden:
                self._notes.add("sealed thoughts left out")
            if isinstance(value, Text) and value.citations:
                for citation in value.citations:
                    self._citation(CitationDelta(event.choice, event.part, citation), out)
        elif isinstance(value, Media) and value.kind == "audio":
            own = (value.rest or {}).get("id")
            self._audio[place] = own if type(own) is str else new_id("audio_")
            if value.data:
                self._data(DataDelta(event.choice, event.part, value.data, value.text or ""), out)
        else:
            self._notes.add(f"{value.kind if isinstance(value, (Opaque, Media)) else 'a part'} left out")

    def _call(self, event: PartStart, call: ToolCall, out: list[bytes]) -> None:
        if call.server:
            self._notes.add(f"{call.name} left out")
            return
        index = self._calls.get(event.choice, 0)
        self._calls[event.choice] = index + 1
        self._parts[event.choice, event.part] = index
        if not call.arguments and not call.is_custom:
            self._silent.add((event.choice, event.part))
        if self._legacy:
            if index == 0:
                self._delta(event.choice, {"function_call": {"name": call.name, "arguments": call.arguments}}, out)
            return
        if call.is_custom:
            inner: Json = {"type": "custom", "custom": {"name": call.name, "input": call.arguments}}
        else:
            inner = {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        self._delta(event.choice, {"tool_calls": [{"index": index, "id": call.id or new_id("call_")} | inner]}, out)
        if call.is_custom:
            self._parts[event.choice, event.part] = ~index

    def _arguments(self, event: ArgumentsDelta, out: list[bytes]) -> None:
        index = self._parts.get((event.choice, event.part))
        if type(index) is not int:
            return
        self._silent.discard((event.choice, event.part))
        if self._legacy:
            if index == 0:
                self._delta(event.choice, {"function_call": {"arguments": event.json}}, out)
        elif index < 0:
            self._delta(event.choice, {"tool_calls": [{"index": ~index, "custom": {"input": event.json}}]}, out)
        else:
            piece = b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (index, orjson.dumps(event.json))
            out.append(self._row(event.choice) + piece + self._tail)

    def _part_stop(self, event: PartStop, out: list[bytes]) -> None:
        """Arguments are never nothing: who adds them up parses them in the end."""
        if (event.choice, event.part) in self._silent:
            self._arguments(ArgumentsDelta(event.choice, event.part, "{}"), out)

    def _delta(self, choice: int, delta: Json, out: list[bytes]) -> None:
        out.append(self._row(choice) + orjson.dumps(delta)[1:-1] + self._tail)

    def _data(self, event: DataDelta, out: list[bytes]) -> None:
        audio_id = self._audio.get((event.choice, event.part))
        if audio_id is None:
            return
        audio: Json = {"id": audio_id}
        if event.data:
            audio["data"] = event.data
        if event.transcript:
            audio["transcript"] = event.transcript
        self._delta(event.choice, {"audio": audio}, out)

    def _citation(self, event: CitationDelta, out: list[bytes]) -> None:
        annotation = url_annotation(event.citation, 0, 0)
        if annotation is None:
            self._notes.add("citations left out")
            return
        self._delta(event.choice, {"annotations": [{"type": "url_citation", "url_citation": annotation}]}, out)

    def _signature(self, event: SignatureDelta, out: list[bytes]) -> None:
        self._notes.add("signatures left out")

    def _logprobs(self, event: LogprobsDelta, out: list[bytes]) -> None:
        logprobs = orjson.dumps(event.logprobs)
        row = self._row(event.choice).removesuffix(b",")
        out.append(row + b'},"logprobs":' + logprobs + b',"finish_reason":null}' + self._end)

    def _finish(self, event: Finish, out: list[bytes]) -> None:
        reason = written_finish(event.reason, self._notes) or "stop"
        if reason == "tool_calls" and self._legacy:
            reason = "function_call"
        row = self._row(event.choice).removesuffix(b",")
        out.append(row + b'},"logprobs":null,"finish_reason":"%b"}' % reason.encode() + self._end)

    def _usage_event(self, event: UsageEvent, out: list[bytes]) -> None:
        self._usage = event.usage

    def _error(self, event: ErrorEvent, out: list[bytes]) -> None:
        self._ended = True
        out.append(b"data: " + orjson.dumps(openai_errors.written(event.error)) + b"\n\n")

    def _done(self, event: End, out: list[bytes]) -> None:
        self._ended = True
        if self._with_usage and self._usage is not None:
            if not self._head:
                self._start(Start("", self._model), [])
            out.append(self._head + b'],"usage":' + orjson.dumps(usage_body(self._usage)) + b"}\n\n")
        out.append(b"data: [DONE]\n\n")


_KEYS: Final[dict[type, bytes]] = {Text: b'"content":', Refusal: b'"refusal":', Thinking: b'"reasoning_content":'}
_WRITERS: Final[dict[type, Any]] = {
    Start: ChatStreamWriter._start,
    PartStart: ChatStreamWriter._part_start,
    PartStop: ChatStreamWriter._part_stop,
    ArgumentsDelta: ChatStreamWriter._arguments,
    DataDelta: ChatStreamWriter._data,
    CitationDelta: ChatStreamWriter._citation,
    SignatureDelta: ChatStreamWriter._signature,
    LogprobsDelta: ChatStreamWriter._logprobs,
    Finish: ChatStreamWriter._finish,
    UsageEvent: ChatStreamWriter._usage_event,
    ErrorEvent: ChatStreamWriter._error,
    End: ChatStreamWriter._done,
}
