"""A configured answer for when nobody can answer: an ordinary one in the dialect that the app speaks, marked as ours.

Rules: it is marked by `x-outrider-degraded: static`, and its model is called `outrider-static`; its usage is nothing,
since nothing was used; where a call asks for something else than a text (embeddings, a ranking), or cannot be read,
there is none, and the app gets the error.
Does not know: why nobody answered, how a dialect writes (dialects).
"""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson

from outrider.dialects.streams import CONTENT_TYPES
from outrider.stack.call import Call

if TYPE_CHECKING:
    from outrider.dialects.base import Dialect
    from outrider.dialects.canonical import Request, StreamEvent
    from outrider_ext.relay import Exchange

_MODEL: Final = "outrider-static"
_ID: Final = "static"


def static_message(x: "Exchange", call: Call, body: bytes, text: str) -> bytes | None:
    """The whole HTTP/1.1 answer; None where there is none. body: the app's own."""
    from outrider.dialects.frames import ArrayWriter
    from outrider.dialects.registry import dialect
    from outrider.stack.translate import JSON_TYPE, wants_array

    spoken = dialect(call.route.operation.dialect)
    request = _read(spoken, call, body) if spoken is not None else None
    if spoken is None or request is None:
        return None
    if request.stream:
        kind, told = CONTENT_TYPES[spoken.framing], _stream(spoken, request, text)
        if wants_array(x, call):
            kind, told = JSON_TYPE, ArrayWriter().take(told, True)
    else:
        kind, told = JSON_TYPE, _whole(spoken, request, text)
    close = b"connection: close\r\n" if x.must_close else b""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-outrider-request-id: %b\r\n"
        b"x-outrider-degraded: static\r\ncache-control: no-store\r\n%b\r\n%b"
        % (kind, len(told), call.request_id, close, told)
    )


def _read(spoken: "Dialect", call: Call, body: bytes) -> "Request | None":
    from outrider.dialects.base import UnreadableError

    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    in_path = spoken.model_in == "path"
    stream = bool(call.route.operation.stream) if in_path else None
    for model in (call.route.model, call.model) if in_path else (None,):  # an alias may say nothing of a body's form
        with suppress(UnreadableError):
            return spoken.read_request(value, model=model, stream=stream)
    return None


def _whole(spoken: "Dialect", request: "Request", text: str) -> bytes:
    from outrider.dialects.base import Notes
    from outrider.dialects.canonical import Answer, Choice, Text
    from outrider_ext.tokens import Usage

    choice = Choice([Text(text)], "stop")
    answer = Answer("outrider", _ID, _MODEL, [choice], Usage(0, 0), int(time.time()))
    return orjson.dumps(spoken.write_answer(answer, request, Notes()))


def _stream(spoken: "Dialect", request: "Request", text: str) -> bytes:
    from outrider.dialects import canonical
    from outrider.dialects.base import Notes
    from outrider_ext.tokens import Usage

    events: list[StreamEvent] = [
        canonical.Start(_ID, _MODEL, int(time.time())),
        canonical.PartStart(0, 0, canonical.Text("")),
        canonical.TextDelta(0, 0, text),
        canonical.PartStop(0, 0),
        canonical.Finish(0, "stop"),
        canonical.UsageEvent(Usage(0, 0)),
        canonical.End(),
    ]
    return spoken.stream_writer(request, Notes()).write(events)
