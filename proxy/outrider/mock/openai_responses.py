"""OpenAI's Responses API: plain, and the stream's events in their order, each with a sequence number.

A stream ends with `response.completed` (or `response.incomplete` when max_output_tokens cut it); there is no `[DONE]`.
Output items: one message, or one function_call for each tool called.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from .checks import in_range, texts_in
from .reply import Call, Refusal, Stream, Whole, dump, sse
from .words import Prompt, Reply, Tool, halves, think

FIELDS = frozenset(
    [
        "access_programs",
        "background",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)


def answer(call: Call, body: Mapping[str, Any]) -> Whole | Stream:
    """Raises: Refusal, with the provider's words, for a body that it would not take."""
    _check(call, body)
    reply = think(_prompt(call, body))
    if body.get("stream"):
        error = {"code": "server_error", "message": "The server had an error", "param": None}
        parts = (sse(event, event["type"]) for event in _numbered(_events(call, body, reply)))
        return Stream(parts, "text/event-stream; charset=utf-8", lambda n: _error(error, n))
    return Whole(dump(_response(call, body, reply, _items(call, reply))))


def _error(error: Mapping[str, Any], number: int) -> bytes:
    return sse({"type": "error", **error, "sequence_number": number}, "error")


def _fail(message: str, param: str | None, code: str | None = None) -> NoReturn:
    raise Refusal(400, message, param=param, code=code)


def _check(call: Call, body: Mapping[str, Any]) -> None:
    unknown = sorted(set(body) - FIELDS)
    if call.official and unknown:
        _fail(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    given = body.get("input")
    if given is None and body.get("prompt") is None and body.get("previous_response_id") is None:
        _fail("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if given is not None and not isinstance(given, str | list):
        _fail("Invalid type for 'input': expected one of a string or array.", "input", "invalid_type")
    for i, item in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(item, dict) or not ("role" in item or "type" in item):
            _fail(f"Missing required parameter: 'input[{i}].role'.", f"input[{i}]", "missing_required_parameter")
    in_range(body, "temperature", 0, 2, _fail)
    in_range(body, "top_p", 0, 1, _fail)
    if body.get("max_output_tokens") is not None:
        in_range(body, "max_output_tokens", 1, 2**31, _fail)
    for i, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict) or not tool.get("type"):
            _fail(f"Missing required parameter: 'tools[{i}].type'.", f"tools[{i}].type", "missing_required_parameter")
        if tool["type"] == "function" and not isinstance(tool.get("name"), str):
            _fail(f"Missing required parameter: 'tools[{i}].name'.", f"tools[{i}].name", "missing_required_parameter")


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    given = body.get("input") or ""
    items: list[Mapping[str, Any]] = [{"role": "user", "content": given}] if isinstance(given, str) else given
    spoken = [item for item in items if "role" in item]
    users = [item for item in spoken if item["role"] == "user"]
    texts = [text for item in spoken for text in texts_in(item.get("content"))]
    texts += [item["output"] for item in items if isinstance(item.get("output"), str)]
    instructions = list(texts_in(body.get("instructions")))
    functions = [tool for tool in body.get("tools") or () if tool["type"] == "function"]
    choice = body.get("tool_choice", "auto")
    return Prompt(
        texts=instructions + texts,
        messages=len(items) + bool(instructions),
        last_user=" ".join(texts_in(users[-1].get("content"))) if users else "",
        tools=[Tool(tool["name"], tool.get("parameters") or {}) for tool in functions],
        tool_choice=f"={choice.get('name')}" if isinstance(choice, Mapping) else choice or "auto",
        parallel=body.get("parallel_tool_calls") is not False,
        after_tool_result=bool(items) and items[-1].get("type") == "function_call_output",
        max_tokens=body.get("max_output_tokens"),
        events=call.behaviour.events,
        schema=_schema((body.get("text") or {}).get("format")),
    )


def _schema(asked: Any) -> Mapping[str, Any] | None:
    match asked:
        case {"type": "json_schema", "schema": Mapping() as schema}:
            return schema
        case {"type": "json_object"}:
            return {}
    return None


def _items(call: Call, reply: Reply) -> list[dict[str, Any]]:
    if not reply.tools:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text}
        status = "incomplete" if reply.truncated else "completed"
        item = {"id": f"msg_{call.seed}", "type": "message", "status": status, "content": [part]}
        return [item | {"role": "assistant"}]
    return [
        {
            "id": f"fc_{call.seed}{i:02}",
            "type": "function_call",
            "status": "completed",
            "arguments": use.text,
            "call_id": f"call_{call.seed[:20]}{i:04}",
            "name": use.name,
        }
        for i, use in enumerate(reply.tools)
    ]


def _usage(call: Call, reply: Reply) -> dict[str, Any]:
    cached, reasoning = call.behaviour.cached_tokens or 0, call.behaviour.reasoning_tokens or 0
    given, made = reply.prompt_tokens + cached, reply.completion_tokens + reasoning
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given + made,
    }


def _response(
    call: Call, body: Mapping[str, Any], reply: Reply, output: list[dict[str, Any]], status: str | None = None
) -> dict[str, Any]:
    """The Response object; with a `status`, one that is not finished yet."""
    done = status is None
    status = status or ("incomplete" if reply.truncated else "completed")
    return {
        "id": f"resp_{call.seed}",
        "object": "response",
        "created_at": call.now_s,
        "status": status,
        "background": bool(body.get("background")),
        "completed_at": call.now_s if status == "completed" else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "presence_penalty": 0.0,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": {"effort": None, "summary": None} | (body.get("reasoning") or {}),
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default" if done else "auto",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": _usage(call, reply) if done else None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _numbered(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events):
        yield event | {"sequence_number": number}


def _events(call: Call, body: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    items = _items(call, reply)
    opening = _response(call, body, reply, [], "in_progress")
    yield {"type": "response.created", "response": opening}
    yield {"type": "response.in_progress", "response": opening}
    for i, item in enumerate(items):
        empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {"arguments": ""}
        yield _at("response.output_item.added", i, item=item | empty | {"status": "in_progress"})
        yield from _message_events(call, i, item, reply) if item["type"] == "message" else _call_events(call, i, item)
        yield _at("response.output_item.done", i, item=item)
    closed = _response(call, body, reply, items)
    yield {"type": f"response.{closed['status']}", "response": closed}


def _at(kind: str, index: int, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "output_index": index, **fields}


def _hidden(call: Call) -> dict[str, str]:
    return {"obfuscation": "x" * 8} if call.official else {}


def _message_events(call: Call, index: int, item: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    part, where = item["content"][0], {"item_id": item["id"], "content_index": 0}
    yield _at("response.content_part.added", index, **where, part=part | {"text": ""})
    for piece in reply.pieces:
        yield _at("response.output_text.delta", index, **where, delta=piece, logprobs=[], **_hidden(call))
    yield _at("response.output_text.done", index, **where, text=part["text"], logprobs=[])
    yield _at("response.content_part.done", index, **where, part=part)


def _call_events(call: Call, index: int, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = "response.function_call_arguments"
    for piece in halves(item["arguments"]):
        yield _at(f"{kind}.delta", index, item_id=item["id"], delta=piece, **_hidden(call))
    yield _at(f"{kind}.done", index, item_id=item["id"], arguments=item["arguments"])
