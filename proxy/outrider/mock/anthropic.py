"""Anthropic's Messages API: plain and streamed, tools, thinking, token counting.

`input_tokens` excludes what was read from or written to the cache. A stream says its input side in `message_start` and
the cumulative output in `message_delta`; a `ping` comes after the first block opened. Unknown fields are refused.
Auth is `x-api-key`, or Bearer; `anthropic-version` is required. Source: the official SDK's types, recorded exchanges.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from .checks import json_object, texts_in
from .reply import Call, Refusal, Stream, Whole, bearer, dump, is_json, sse
from .words import Prompt, Reply, Tool, count, halves, think

MODELS = ("claude-sonnet-4-6", "claude-opus-4-1", "claude-haiku-4-5")
COUNT_FIELDS = frozenset(
    ["cache_control", "messages", "model", "output_config", "speed", "system", "thinking", "tool_choice", "tools"]
)
FIELDS = COUNT_FIELDS | frozenset(
    [
        "container",
        "context_management",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "metadata",
        "output_format",
        "service_tier",
        "stop_sequences",
        "stream",
        "temperature",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    ]
)
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


_VERTEX = re.compile(r"/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)$")
_NOT_ON_VERTEX = ("mcp-client-2025-04-04", "files-api-2025-04-14", "advanced-tool-use-2025-11-20")


def answer(call: Call) -> Whole | Stream:
    """Answer like Anthropic. Raises: Refusal."""
    _check_access(call)
    found = _VERTEX.search(call.path) if call.provider == "vertex" else None
    if found is not None:
        return _raw_predict(call, found[1], streams=found[2] == "streamRawPredict")
    if call.operation == "/models" and call.method == "GET":
        return _models(call)
    if call.operation not in ("/messages", "/messages/count_tokens"):
        raise Refusal(404, "Not Found")
    if call.method != "POST":
        raise Refusal(405, "Method Not Allowed", kind="invalid_request_error")
    if not is_json(call.headers):
        _fail("content-type: must be application/json", None)
    body = json_object(call.body, _fail)
    counting = call.operation.endswith("count_tokens")
    check(body, COUNT_FIELDS if counting else FIELDS, needs_model=True, needs_max_tokens=not counting)
    if not body["model"].startswith("claude"):
        raise Refusal(404, f"model: {body['model']}")
    reply = think(prompt(body, call.behaviour.events))
    if counting:
        return Whole(dump({"input_tokens": reply.prompt_tokens}), headers=_headers(call))
    if body.get("stream"):
        failed = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
        parts = (sse(event, event["type"]) for event in events(call, body, reply))
        return Stream(parts, "text/event-stream; charset=utf-8", lambda _: failed, _headers(call))
    return Whole(dump(message(call, body, reply)), headers=_headers(call))


def _raw_predict(call: Call, model: str, *, streams: bool) -> Whole | Stream:
    """As Vertex has it: model and streaming in the path, the version in the body, betas that it knows."""
    body = json_object(call.body, _fail)
    if body.pop("anthropic_version", None) != "vertex-2023-10-16":
        _fail("Field required", "anthropic_version")
    if "model" in body:
        _fail("Extra inputs are not permitted", "model")
    unknown = [name for name in call.headers.get("anthropic-beta", "").split(",") if name.strip() in _NOT_ON_VERTEX]
    if unknown:
        _fail(f"Unexpected value(s) `{unknown[0].strip()}` for the `anthropic-beta` header", None)
    check(body, FIELDS, needs_model=False, needs_max_tokens=True)
    named = {**body, "model": model}
    reply = think(prompt(body, call.behaviour.events))
    if not streams:
        return Whole(dump(message(call, named, reply)))
    failed = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    parts = (sse(event, event["type"]) for event in events(call, named, reply))
    return Stream(parts, "text/event-stream; charset=utf-8", lambda _: failed)


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in Anthropic's shape."""
    error = {"type": refusal.kind or _KINDS.get(refusal.status, "api_error"), "message": refusal.message}
    shape = {"type": "error", "error": error, "request_id": f"req_{call.seed[:24]}"}
    return Whole(dump(shape), refusal.status, headers=_headers(call) | refusal.headers)


def _fail(text: str, param: str | None) -> NoReturn:
    raise Refusal(400, f"{param}: {text}" if param else text)


def _check_access(call: Call) -> None:
    key = call.headers.get("x-api-key") or bearer(call.headers)
    if key is None:
        raise Refusal(401, "x-api-key header is required")
    if call.keys and key not in call.keys:
        raise Refusal(401, "invalid x-api-key" if "x-api-key" in call.headers else "Invalid bearer token")
    if call.provider != "vertex" and "anthropic-version" not in call.headers:
        _fail("header is required", "anthropic-version")


def check(body: Mapping[str, Any], fields: frozenset[str], *, needs_model: bool, needs_max_tokens: bool) -> None:
    """Refuse what the Messages API refuses; Bedrock calls it without a model. Raises: Refusal."""
    required = ["messages"] + ["model"] * needs_model + ["max_tokens"] * needs_max_tokens
    for name in sorted(required):
        if body.get(name) is None:
            _fail("Field required", name)
    unknown = sorted(set(body) - fields)
    if unknown:
        _fail("Extra inputs are not permitted", unknown[0])
    if needs_model and (not isinstance(body["model"], str) or not body["model"]):
        _fail("Input should be a valid string", "model")
    tokens = body.get("max_tokens")
    if needs_max_tokens and (not isinstance(tokens, int) or isinstance(tokens, bool)):
        _fail("Input should be a valid integer", "max_tokens")
    if isinstance(tokens, int) and tokens < 1:
        _fail("Input should be greater than or equal to 1", "max_tokens")
    _check_messages(body["messages"])
    _check_tools(body)


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        _fail("Input should be a valid list", "messages")
    if not messages:
        _fail("at least one message is required", "messages")
    used: set[str] = set()
    for i, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            text = f'Unexpected role "{role}". Allowed roles are "user", "assistant" and "system"'
            _fail(text, f"messages.{i}.role")
        if not isinstance(message.get("content"), str | list):
            _fail("Field required", f"messages.{i}.content")
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block.get("type") == "tool_use":
                used.add(str(block.get("id")))
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in used:
                text = f"unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}"
                _fail(text, f"messages.{i}.content")


def _check_tools(body: Mapping[str, Any]) -> None:
    for i, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            _fail("Field required", f"tools.{i}.name")
        if tool.get("type", "custom") == "custom" and not isinstance(tool.get("input_schema"), dict):
            _fail("Field required", f"tools.{i}.input_schema")
    if body.get("tool_choice") is not None and not body.get("tools"):
        _fail("`tool_choice` may only be specified while providing `tools`.", "tool_choice")
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            _fail("Input should be greater than or equal to 1024", "thinking.enabled.budget_tokens")
        if "max_tokens" in body and body["max_tokens"] <= budget:
            _fail("`max_tokens` must be greater than `thinking.budget_tokens`", None)


def prompt(body: Mapping[str, Any], events: int | None) -> Prompt:
    """The request in no provider's words."""
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    users = [message for message in messages if message["role"] == "user"]
    system = list(texts_in(body.get("system")))
    choice = body.get("tool_choice") or {"type": "auto"}
    names = {"any": "required", "tool": f"={choice.get('name')}"}
    last = messages[-1]["content"]
    return Prompt(
        texts=system + [text for message in messages for text in texts_in(message["content"])],
        messages=len(messages) + bool(system),
        last_user=" ".join(texts_in(users[-1]["content"])) if users else "",
        tools=[Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools") or () if "input_schema" in tool],
        tool_choice=names.get(choice["type"], choice["type"]),
        parallel=not choice.get("disable_parallel_tool_use"),
        after_tool_result=isinstance(last, list) and any(block.get("type") == "tool_result" for block in last),
        max_tokens=body.get("max_tokens"),
        events=events,
        schema=_schema((body.get("output_config") or {}).get("format") or body.get("output_format")),
    )


def _schema(asked: Any) -> Mapping[str, Any] | None:
    match asked:
        case {"type": "json_schema", "schema": Mapping() as schema}:
            return schema
    return None


def message(call: Call, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """The Message object of a plain answer."""
    return {
        "model": body.get("model", ""),
        "id": f"msg_{call.seed[:24]}",
        "type": "message",
        "role": "assistant",
        "content": _blocks(call, body, reply),
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": _usage(call, reply, reply.completion_tokens + (call.behaviour.reasoning_tokens or 0)),
    }


def _stop_reason(reply: Reply) -> str:
    if reply.tools:
        return "tool_use"
    return "max_tokens" if reply.truncated else "end_turn"


def _usage(call: Call, reply: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": call.behaviour.cached_tokens or 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _blocks(call: Call, body: Mapping[str, Any], reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        blocks.append({"type": "thinking", "thinking": "An echo was asked for.", "signature": f"sig{call.seed}"})
    for i, use in enumerate(reply.tools):
        blocks.append(
            {"type": "tool_use", "id": f"toolu_{call.seed[:20]}{i:02}", "name": use.name, "input": use.arguments}
        )
    if not reply.tools:
        blocks.append({"type": "text", "text": reply.text})
    return blocks


def events(call: Call, body: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    """A stream's events as objects, in order; each one's `type` is its event name as well."""
    whole = message(call, body, reply)
    start = whole | {"content": [], "stop_reason": None, "usage": _usage(call, reply, 1)}
    yield {"type": "message_start", "message": start}
    for i, block in enumerate(whole["content"]):
        yield {"type": "content_block_start", "index": i, "content_block": _emptied(block)}
        if i == 0:
            yield {"type": "ping"}
        for delta in _deltas(block, reply):
            yield {"type": "content_block_delta", "index": i, "delta": delta}
        yield {"type": "content_block_stop", "index": i}
    usage = whole["usage"]
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {name: usage[name] for name in names}}
    yield {"type": "message_stop"}


def _emptied(block: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: empty.get(name, value) for name, value in block.items()}


def _deltas(block: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    if block["type"] == "thinking":
        for i, word in enumerate(block["thinking"].split(" ")):
            yield {"type": "thinking_delta", "thinking": word if i == 0 else f" {word}"}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "tool_use":
        yield {"type": "input_json_delta", "partial_json": ""}
        text = next(use.text for use in reply.tools if use.name == block["name"])
        for part in halves(text):
            yield {"type": "input_json_delta", "partial_json": part}
    else:
        for piece in reply.pieces:
            yield {"type": "text_delta", "text": piece}


def _models(call: Call) -> Whole:
    rows = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-09-29T00:00:00Z"} for name in MODELS
    ]
    page = {"data": rows, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    return Whole(dump(page), headers=_headers(call))


def _headers(call: Call) -> dict[str, str]:
    headers = {"request-id": f"req_{call.seed[:24]}", "anthropic-organization-id": "outrider-mock"}
    for name, limit in (("requests", 4000), ("input-tokens", 400_000), ("output-tokens", 80_000), ("tokens", 480_000)):
        used = 1 if name == "requests" else count(call.body.decode("utf-8", "replace"))
        headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, limit - used))
        headers[f"anthropic-ratelimit-{name}-reset"] = "2030-01-01T00:00:00Z"
    return headers
