"""Ollama's own API: chat, generate, embed, tags, version. Streams are newline-delimited JSON, and are the default.

Counts and durations stand in the last object only; durations are in nanoseconds. A local Ollama asks for no key; a
mock that was given one for `ollama` asks for `Authorization: Bearer`, as ollama.com does.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from .checks import json_object, texts_in
from .reply import Call, Refusal, Stream, Whole, bearer, dump
from .words import Prompt, Reply, Tool, count, think, vector

MODELS = ("llama3.2:latest", "qwen3:latest")
_DIMENSIONS = 8
_NOT_THERE = re.compile(r"(?i)^(unknown|not-found|nonexistent|does-not-exist)")


def answer(call: Call) -> Whole | Stream:
    """Answer like Ollama. Raises: Refusal."""
    if call.keys and bearer(call.headers) not in call.keys:
        raise Refusal(401, "unauthorized")
    match call.method, call.operation:
        case "GET", "/api/tags":
            return Whole(dump({"models": [_tag(call, name) for name in MODELS]}), content_type=_JSON)
        case "GET", "/api/version":
            return Whole(dump({"version": "0.12.0"}), content_type=_JSON)
        case "POST", "/api/chat" | "/api/generate":
            return _generate(call)
        case "POST", "/api/embed":
            return _embed(call)
        case _, "/api/tags" | "/api/version" | "/api/chat" | "/api/generate" | "/api/embed":
            raise Refusal(405, "405 method not allowed")
    raise Refusal(404, "404 page not found")


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in Ollama's shape; for a path or method that it does not have, plain text."""
    if refusal.message.startswith("40"):
        return Whole(refusal.message.encode(), refusal.status, "text/plain", refusal.headers)
    return Whole(dump({"error": refusal.message}), refusal.status, _JSON, refusal.headers)


_JSON = "application/json; charset=utf-8"


def _fail(message: str, param: str | None) -> NoReturn:
    raise Refusal(400, message, param=param)


def _asked(call: Call) -> tuple[dict[str, Any], str]:
    body = json_object(call.body, _fail)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        _fail("model is required", "model")
    if _NOT_THERE.match(model):
        raise Refusal(404, f"model '{model}' not found")
    return body, model


def _embed(call: Call) -> Whole:
    body, model = _asked(call)
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        _fail("invalid input type", "input")
    size = body.get("dimensions") or _DIMENSIONS
    return Whole(
        dump(
            {
                "model": model,
                "embeddings": [vector(text, size) for text in texts],
                "total_duration": 14_143_917,
                "load_duration": 1_019_500,
                "prompt_eval_count": sum(map(count, texts)),
            }
        ),
        content_type=_JSON,
    )


def _generate(call: Call) -> Whole | Stream:
    body, model = _asked(call)
    reply = think(_prompt(call, body))
    if body.get("stream") is False:
        return Whole(dump(_last(call, model, reply, reply.text, body)), content_type=_JSON)
    failed = dump({"error": "an error was encountered while running the model"}) + b"\n"
    return Stream(_lines(call, model, reply, body), "application/x-ndjson", lambda _: failed)


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    chat = call.operation == "/api/chat"
    messages = body.get("messages") if chat else [{"role": "user", "content": body.get("prompt") or ""}]
    if not isinstance(messages, list | None):
        _fail("json: cannot unmarshal into Go struct field ChatRequest.messages", "messages")
    messages = messages or []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant", "tool"):
            _fail("invalid role: must be one of [system, user, assistant, tool]", "messages")
    users = [message for message in messages if message["role"] == "user"]
    system = [] if chat else list(texts_in(body.get("system") or []))
    functions = [tool.get("function") or {} for tool in body.get("tools") or ()]
    limit = (body.get("options") or {}).get("num_predict")
    return Prompt(
        texts=system + [text for message in messages for text in texts_in(message.get("content"))],
        messages=len(messages) + bool(system),
        last_user=" ".join(texts_in(users[-1].get("content"))) if users else "",
        tools=[Tool(function.get("name", ""), function.get("parameters") or {}) for function in functions],
        after_tool_result=bool(messages) and messages[-1]["role"] == "tool",
        max_tokens=limit if isinstance(limit, int) and limit > 0 else None,
        events=call.behaviour.events,
        schema={} if body.get("format") == "json" else body.get("format") or None,
    )


def _part(call: Call, text: str, reply: Reply | None) -> dict[str, Any]:
    """`message` for chat, `response` for generate; with a reply, its tool calls too."""
    if call.operation == "/api/generate":
        return {"response": text}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reply is not None and reply.tools:
        uses = [{"function": {"name": use.name, "arguments": use.arguments}} for use in reply.tools]
        message["tool_calls"] = uses
    return {"message": message}


def _frame(call: Call, model: str) -> dict[str, Any]:
    return {"model": model, "created_at": _at(call)}


def _at(call: Call) -> str:
    return datetime.datetime.fromtimestamp(call.now_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000001Z")


def _last(call: Call, model: str, reply: Reply, text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    streamed = body.get("stream") is not False
    part = _part(call, text, None if streamed else reply)
    context = {"context": [1, 2, 3]} if call.operation == "/api/generate" else {}
    return (
        _frame(call, model)
        | part
        | {
            "done": True,
            "done_reason": "length" if reply.truncated else "stop",
            **context,
            "total_duration": 1_230_275_417,
            "load_duration": 988_875,
            "prompt_eval_count": reply.prompt_tokens,
            "prompt_eval_duration": 33_914_000,
            "eval_count": reply.completion_tokens,
            "eval_duration": 1_194_343_000,
        }
    )


def _lines(call: Call, model: str, reply: Reply, body: Mapping[str, Any]) -> Iterator[bytes]:
    if reply.tools:
        yield dump(_frame(call, model) | _part(call, "", reply) | {"done": False}) + b"\n"
    for piece in reply.pieces:
        yield dump(_frame(call, model) | _part(call, piece, None) | {"done": False}) + b"\n"
    yield dump(_last(call, model, reply, "", body)) + b"\n"


def _tag(call: Call, name: str) -> dict[str, Any]:
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    }
    digest = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"
    return {
        "name": name,
        "model": name,
        "modified_at": _at(call),
        "size": 2_019_393_189,
        "digest": digest,
        "details": details,
    }
