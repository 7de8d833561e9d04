"""A configured answer for when nobody can answer: an ordinary one in the dialect that the app speaks, marked as ours.

Rules: it is marked by `x-outrider-degraded: static`, and its model is called `outrider-static`; it has no usage, since
nothing was used; a dialect that is not in the table gets none, and its app the error.
Does not know: why nobody answered.
"""

from typing import TYPE_CHECKING, Any

import orjson

from outrider.stack.call import Call

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_MODEL = "outrider-static"
type Json = dict[str, Any]


def _chat(text: str) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {"id": "chatcmpl-static", "object": "chat.completion", "created": 0, "model": _MODEL, "choices": [choice],
            "usage": usage}  # fmt: skip


def _chat_events(text: str) -> list[tuple[str, Json | None]]:
    base = {"id": "chatcmpl-static", "object": "chat.completion.chunk", "created": 0, "model": _MODEL}
    delta = {"role": "assistant", "content": text}
    return [
        ("", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        ("", {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        ("", None),
    ]


def _messages(text: str) -> Json:
    return {"id": "msg_static", "type": "message", "role": "assistant", "model": _MODEL,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0}}  # fmt: skip


def _messages_events(text: str) -> list[tuple[str, Json | None]]:
    start = {**_messages(text), "content": [], "stop_reason": None}
    delta = {"type": "text_delta", "text": text}
    rows: list[Json] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": 0}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return [(str(row["type"]), row) for row in rows]


def _gemini(text: str) -> Json:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "modelVersion": _MODEL,
            "usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}}  # fmt: skip


def _gemini_events(text: str) -> list[tuple[str, Json | None]]:
    return [("", _gemini(text))]


_WHOLE = {"openai.chat": _chat, "anthropic.messages": _messages, "gemini.generate": _gemini}
_EVENTS = {
    "openai.chat": _chat_events,
    "anthropic.messages": _messages_events,
    "gemini.generate": _gemini_events,
}


def static_message(x: "Exchange", call: Call, text: str) -> bytes | None:
    """The whole HTTP/1.1 answer; None where there is none in this dialect."""
    dialect = call.route.operation.dialect
    if dialect not in _WHOLE:
        return None
    streams = call.stream or (dialect == "gemini.generate" and b":stream" in x.target)
    if streams:
        if dialect == "gemini.generate" and b"alt=sse" not in x.target:
            return None
        body = b"".join(_event(name, data) for name, data in _EVENTS[dialect](text))
    else:
        body = orjson.dumps(_WHOLE[dialect](text))
    kind = b"text/event-stream" if streams else b"application/json"
    close = b"connection: close\r\n" if x.must_close else b""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-outrider-request-id: %b\r\n"
        b"x-outrider-degraded: static\r\ncache-control: no-store\r\n%b\r\n%b"
        % (kind, len(body), call.request_id, close, body)
    )


def _event(name: str, data: Json | None) -> bytes:
    head = b"event: %b\n" % name.encode() if name else b""
    return head + b"data: " + (orjson.dumps(data) if data is not None else b"[DONE]") + b"\n\n"
