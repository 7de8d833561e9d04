"""ConverseStream: events to canonical events, and back.

Rules
- Text has no start of its own: its first delta starts the part.
- The stop comes before the usage; the usage ends the stream.
- A written stream has one block open at a time, numbered from 0.

Does not know: which framing carries the events (ConverseStream's own, or Nova's chunks of InvokeModel).
"""

from typing import Any, Final

import orjson

from outrider.dialects.base import Frame, Json, Notes
from outrider.dialects.bedrock_parts import FINISH, finish_written, usage_written
from outrider.dialects.canonical import (
    ArgumentsDelta,
    CitationDelta,
    DataDelta,
    End,
    ErrorEvent,
    Finish,
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
    UsageEvent,
)
from outrider.dialects.frames import eventstream_frame
from outrider.dialects.native_errors import aws_exception, broken_off, cut, error_of_aws
from outrider.dialects.pieces import InOrder, OneAnswerWriter
from outrider.dialects.usage import converse_usage
from outrider.dialects.values import new_id, text

__all__ = ["ConverseStreamReader", "ConverseStreamWriter"]


class ConverseStreamReader:
    def __init__(self) -> None:
        self._open: dict[int, tuple[int, type[Part]]] = {}  # block -> (part, what it is)
        self._parts = 0
        self._started = False
        self._finished = False
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over:
            return []
        if frame.is_exception:
            self._over = True
            return [ErrorEvent(error_of_aws(0, frame.data, frame.name))]
        reader = _READERS.get(frame.name)
        if reader is None:
            return []
        try:
            body = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            return self._fail("The provider's stream has an event that is not JSON.")
        return self.take(frame.name, body) if type(body) is dict else []

    def take(self, name: str, body: Json) -> list[StreamEvent]:
        reader = _READERS.get(name)
        if reader is None or self._over:
            return []
        events: list[StreamEvent] = []
        if not self._started:
            self._started = True
            events.append(Start("", ""))
        reader(self, body, events)
        return events

    def _fail(self, sentence: str) -> list[StreamEvent]:
        self._over = True
        return [broken_off(sentence)]

    def _message_start(self, body: Json, events: list[StreamEvent]) -> None:
        pass

    def _begin(self, index: int, part: Part, events: list[StreamEvent]) -> int:
        self._stop(index, events)
        number = self._parts
        self._parts += 1
        self._open[index] = (number, type(part))
        events.append(PartStart(0, number, part))
        return number

    def _block_start(self, body: Json, events: list[StreamEvent]) -> None:
        start = body.get("start")
        start = start if type(start) is dict else {}
        use = start.get("toolUse")
        index = _index(body)
        if type(use) is dict:
            call = ToolCall(
                text(use.get("toolUseId")), text(use.get("name")), "", server=use.get("type") == "server_tool_use"
            )
            self._begin(index, call, events)
        elif type(start.get("image")) is dict:
            form = text(start["image"].get("format")) or "png"
            self._begin(index, Media("image", f"image/{form}", ""), events)
        elif start:
            kind = next(iter(start))
            self._begin(index, Opaque("bedrock.converse", kind, start), events)

    def _block_delta(self, body: Json, events: list[StreamEvent]) -> None:
        delta = body.get("delta")
        if type(delta) is not dict:
            return
        index = _index(body)
        words = delta.get("text")
        if type(words) is str:
            events.append(TextDelta(0, self._part(index, Text, events), words))
        elif type(delta.get("toolUse")) is dict:
            if index in self._open:
                events.append(ArgumentsDelta(0, self._open[index][0], text(delta["toolUse"].get("input"))))
        elif type(delta.get("reasoningContent")) is dict:
            self._thought(index, delta["reasoningContent"], events)
        elif type(delta.get("citation")) is dict:
            events.append(CitationDelta(0, self._part(index, Text, events), delta["citation"]))
        elif type(delta.get("image")) is dict and index in self._open:
            source = delta["image"].get("source")
            if type(source) is dict and type(source.get("bytes")) is str:
                events.append(DataDelta(0, self._open[index][0], source["bytes"]))

    def _part(self, index: int, kind: type[Text] | type[Thinking], events: list[StreamEvent]) -> int:
        found = self._open.get(index)
        return found[0] if found is not None and found[1] is kind else self._begin(index, kind(""), events)

    def _thought(self, index: int, inner: Json, events: list[StreamEvent]) -> None:
        if type(inner.get("redactedContent")) is str:
            self._begin(index, Thinking(hidden=inner["redactedContent"]), events)
            return
        number = self._part(index, Thinking, events)
        if inner.get("text"):
            events.append(TextDelta(0, number, text(inner["text"])))
        if inner.get("signature"):
            events.append(SignatureDelta(0, number, text(inner["signature"])))

    def _block_stop(self, body: Json, events: list[StreamEvent]) -> None:
        self._stop(_index(body), events)

    def _stop(self, index: int, events: list[StreamEvent]) -> None:
        found = self._open.pop(index, None)
        if found is not None:
            events.append(PartStop(0, found[0]))

    def _message_stop(self, body: Json, events: list[StreamEvent]) -> None:
        for index in list(self._open):
            self._stop(index, events)
        native = text(body.get("stopReason"))
        more = body.get("additionalModelResponseFields")
        met = more.get("stop_sequence") if type(more) is dict else None
        self._finished = True
        events.append(Finish(0, FINISH.get(native, "stop"), met if type(met) is str else None, native or None))

    def _metadata(self, body: Json, events: list[StreamEvent]) -> None:
        usage = body.get("usage")
        tier = body.get("serviceTier")
        read = converse_usage(usage, None, tier) if type(usage) is dict else None
        if read is not None:
            events.append(UsageEvent(read, text(tier.get("type")) or None if type(tier) is dict else None))

    def end(self) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        return [End()] if self._finished else [broken_off()]


def _index(body: Json) -> int:
    index = body.get("contentBlockIndex")
    return index if type(index) is int else 0


_READERS: Final[dict[str, Any]] = {
    "messageStart": ConverseStreamReader._message_start,
    "contentBlockStart": ConverseStreamReader._block_start,
    "contentBlockDelta": ConverseStreamReader._block_delta,
    "contentBlockStop": ConverseStreamReader._block_stop,
    "messageStop": ConverseStreamReader._message_stop,
    "metadata": ConverseStreamReader._metadata,
}


class ConverseStreamWriter(OneAnswerWriter):
    def __init__(self, request: Request, notes: Notes) -> None:
        super().__init__(notes)
        self._order = InOrder()
        self._begun = False
        self._block = -1
        self._kind: type[Part] = Text  # of the open part
        self._is_left_out = False
        self._finish: Finish | None = None

    def _take(self, event: StreamEvent, out: list[bytes]) -> None:
        for ready in self._order.feed(event):
            self._event(ready, out)

    def frame(self, name: str, body: Json) -> bytes:
        """Nova's chunks put it elsewhere."""
        return eventstream_frame(orjson.dumps(body), name)

    def exception(self, name: str, message: str) -> bytes:
        return eventstream_frame(orjson.dumps({"message": message}), name, is_exception=True)

    def _event(self, event: StreamEvent, out: list[bytes]) -> None:
        if not self._begun and type(event) is not ErrorEvent:
            self._begun = True
            out.append(self.frame("messageStart", {"role": "assistant"}))
        super()._event(event, out)

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        if event.text:
            inner: Json = {"text": event.text}
            self._delta({"reasoningContent": inner} if self._kind is Thinking else inner, out)

    def _of_choice(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, PartStart):
            self._part(event.value, out)
        elif isinstance(event, ArgumentsDelta):
            if event.json:
                self._delta({"toolUse": {"input": event.json}}, out)
        elif isinstance(event, PartStop):
            if not self._is_left_out:
                out.append(self.frame("contentBlockStop", {"contentBlockIndex": self._block}))
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, SignatureDelta):
            self._notes.add("signatures left out")
        elif isinstance(event, DataDelta):
            if self._kind is Media:
                self._delta({"image": {"source": {"bytes": event.data}}}, out)
        elif isinstance(event, (CitationDelta, LogprobsDelta)):
            self._notes.add(f"{'citations' if isinstance(event, CitationDelta) else 'logprobs'} left out")

    def _part(self, value: Part, out: list[bytes]) -> None:
        self._kind = type(value)
        self._is_left_out = True
        if isinstance(value, Opaque) or (isinstance(value, ToolCall) and value.server):
            self._notes.add(f"{value.kind if isinstance(value, Opaque) else value.name} left out")
            return
        if isinstance(value, Media) and value.kind != "image":
            self._notes.add(f"{value.kind} left out")
            return
        if isinstance(value, Thinking) and value.hidden:
            self._notes.add("sealed thoughts left out")
            return
        self._is_left_out = False
        self._block += 1
        if isinstance(value, ToolCall):
            start = {"toolUse": {"toolUseId": value.id or new_id("tooluse_"), "name": value.name}}
            out.append(self.frame("contentBlockStart", {"start": start, "contentBlockIndex": self._block}))
            if value.arguments:
                self._delta({"toolUse": {"input": value.arguments}}, out)
        elif isinstance(value, Media):
            start = {"image": {"format": (value.mime or "image/png").rpartition("/")[2]}}
            out.append(self.frame("contentBlockStart", {"start": start, "contentBlockIndex": self._block}))
            if value.data:
                self._delta({"image": {"source": {"bytes": value.data}}}, out)
        elif hasattr(value, "text") and value.text:
            inner: Json = {"text": value.text}
            self._delta({"reasoningContent": inner} if self._kind is Thinking else inner, out)

    def _delta(self, delta: Json, out: list[bytes]) -> None:
        if not self._is_left_out:
            out.append(self.frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": self._block}))

    def _end(self, out: list[bytes]) -> None:
        for event in self._order.drain():
            self._event(event, out)
        finish = self._finish
        stop: Json = {"stopReason": finish_written(finish.reason if finish else "stop", None, self._notes)}
        if finish is not None and finish.stop_sequence is not None:
            stop["additionalModelResponseFields"] = {"stop_sequence": finish.stop_sequence}
        out.append(self.frame("messageStop", stop))
        metadata = {"usage": usage_written(self._usage), "metrics": {"latencyMs": 0}}
        out.append(self.frame("metadata", metadata))
        self._over = True

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        self._over = True
        out.append(self.exception(aws_exception(error), cut(error.message)))
