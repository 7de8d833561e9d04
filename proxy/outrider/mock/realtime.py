"""OpenAI's Realtime API over WebSocket, as far as a proxy must carry it: a session, text in, text and usage out.

On connecting comes `session.created`. `session.update` answers `session.updated`, `conversation.item.create` answers
`conversation.item.created`, and `response.create` echoes the last user text word by word and ends with
`response.done`, which carries the usage. Anything else answers an `error` event. The key comes as Bearer, as Azure's
`api-key`, or as the subprotocol `openai-insecure-api-key.KEY` beside `realtime`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from . import openai
from .checks import texts_in
from .journal import Journalled
from .reply import Call, Refusal, bearer
from .words import Prompt, think

_KEY_PROTOCOL = "openai-insecure-api-key."


async def serve(
    request: web.BaseRequest, call: Call, entry: Journalled, changed: Callable[[], None]
) -> web.StreamResponse:
    """Speak until the client closes; a bad path, model or key is refused before the upgrade, in OpenAI's shape."""
    try:
        _check(call)
    except Refusal as refusal:
        whole = openai.refuse(refusal, call)
        entry.status, entry.completed = whole.status, True
        return web.Response(
            body=whole.body, status=whole.status, headers=dict(whole.headers), content_type="application/json"
        )
    socket = web.WebSocketResponse(protocols=("realtime",))
    await socket.prepare(request)
    entry.status = 101
    session = _Session(call)
    for event in session.open():
        await _say(socket, event)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        entry.messages.append(message.data)
        changed()
        for event in session.take(message.data):
            await _say(socket, event)
            entry.sent_events += 1
    entry.completed = True
    return socket


async def _say(socket: web.WebSocketResponse, event: Mapping[str, Any]) -> None:
    await socket.send_str(orjson.dumps(event).decode())


def _check(call: Call) -> None:
    if call.operation not in ("/realtime", "/openai/realtime"):
        raise Refusal(404, f"Invalid URL ({call.method} {call.path})")
    protocols = [part.strip() for part in call.headers.get("sec-websocket-protocol", "").split(",")]
    carried = next((part.removeprefix(_KEY_PROTOCOL) for part in protocols if part.startswith(_KEY_PROTOCOL)), None)
    key = bearer(call.headers) or carried or (call.headers.get("api-key") if call.provider == "azure" else None)
    if key is None:
        raise Refusal(401, "Missing bearer or basic authentication in header")
    if call.keys and key not in call.keys:
        raise Refusal(401, "Incorrect API key provided.")
    if not (call.query.get("model") or call.query.get("deployment")):
        raise Refusal(400, "You must provide a model parameter", param="model")


class _Session:
    """Events in, events out; no socket."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._model = call.query.get("model") or call.query.get("deployment", "")
        self._texts: list[str] = []
        self._number = 0

    def open(self) -> Iterator[dict[str, Any]]:
        yield self._event("session.created", session=self._session({}))

    def take(self, text: str) -> Iterator[dict[str, Any]]:
        try:
            event = orjson.loads(text)
            kind = event["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            yield self._error("Could not parse the event.", "invalid_json")
            return
        if kind == "session.update":
            yield self._event("session.updated", session=self._session(event.get("session") or {}))
        elif kind == "conversation.item.create":
            item = event.get("item") or {}
            self._texts += texts_in(item.get("content"))
            yield self._event("conversation.item.created", item=item)
        elif kind == "response.create":
            yield from self._respond()
        else:
            yield self._error(f"Invalid value: '{kind}'.", "invalid_value")

    def _session(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": f"sess_{self._call.seed[:20]}", "object": "realtime.session", "model": self._model, **changes}

    def _respond(self) -> Iterator[dict[str, Any]]:
        last = self._texts[-1] if self._texts else ""
        reply = think(Prompt(self._texts, len(self._texts), last, events=self._call.behaviour.events))
        response: dict[str, Any] = {"id": f"resp_{self._call.seed[:20]}", "object": "realtime.response"}
        yield self._event(
            "response.created", response=response | {"status": "in_progress", "output": [], "usage": None}
        )
        for piece in reply.pieces:
            yield self._event("response.output_text.delta", response_id=response["id"], delta=piece)
        yield self._event("response.output_text.done", response_id=response["id"], text=reply.text)
        part = {"type": "output_text", "text": reply.text}
        item = {"type": "message", "role": "assistant", "content": [part]}
        usage = {
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "input_tokens": reply.prompt_tokens,
            "output_tokens": reply.completion_tokens,
        }
        yield self._event(
            "response.done", response=response | {"status": "completed", "output": [item], "usage": usage}
        )

    def _error(self, message: str, code: str) -> dict[str, Any]:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
        return self._event("error", error=error)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "event_id": f"event_{self._number:06}", **fields}
