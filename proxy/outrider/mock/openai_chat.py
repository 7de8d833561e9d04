"""OpenAI chat completions: plain and streamed, tools, parallel tool calls, n, usage.

Usage in a stream comes only when `stream_options.include_usage` asks: then every chunk carries `usage: null` and one
more chunk, with `choices: []`, carries the numbers; `data: [DONE]` ends. `prompt_tokens` includes cached tokens,
`completion_tokens` includes reasoning tokens. Tool deltas are keyed by index; id and name are on the first only.
Azure: the first streamed chunk has no choices and carries `prompt_filter_results`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from .checks import in_range, texts_in
from .reply import Call, Refusal, Stream, Whole, dump, sse
from .words import Prompt, Reply, Tool, halves, think

FIELDS = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_FILTERS = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}


def answer(call: Call, body: Mapping[str, Any]) -> Whole | Stream:
    """Raises: Refusal, with the provider's words, for a body that it would not take."""
    _check(call, body)
    reply = think(_prompt(call, body))
    if body.get("stream"):
        error = {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
        return Stream(_chunks(call, body, reply), "text/event-stream; charset=utf-8", lambda _: sse(error))
    return Whole(dump(_completion(call, body, reply)))


def _fail(message: str, param: str | None, code: str | None = None) -> NoReturn:
    raise Refusal(400, message, param=param, code=code)


def _check(call: Call, body: Mapping[str, Any]) -> None:
    unknown = sorted(set(body) - FIELDS)
    if call.official and unknown:
        _fail(f"Unrecognized request argument supplied: {unknown[0]}", None)
    _check_messages(body.get("messages"))
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1), ("n", 1, 128), ("top_logprobs", 0, 20)):
        in_range(body, name, low, high, _fail)
    for name in ("presence_penalty", "frequency_penalty"):
        in_range(body, name, -2, 2, _fail)
    for name in ("max_tokens", "max_completion_tokens"):
        in_range(body, name, 1, 2**31, _fail)
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        _fail("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", None)
    if body.get("stream_options") is not None and not body.get("stream"):
        _fail("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if not isinstance(body.get("stream") or False, bool):
        _fail("Invalid type for 'stream': expected a boolean.", "stream", "invalid_type")
    if call.official and body.get("tools") is None and body.get("tool_choice") not in (None, "none"):
        _fail("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    _check_tools(body.get("tools"))


def _check_messages(messages: Any) -> None:
    if messages is None:
        _fail("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list) or not messages:
        text = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
        _fail(text, "messages", "empty_array")
    calls: set[str] = set()
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            _fail(f"Invalid value: '{role}'. Supported values are: {_ROLES}.", f"{where}.role", "invalid_value")
        calls.update(str(use.get("id")) for use in message.get("tool_calls") or ())
        if role == "tool" and message.get("tool_call_id") not in calls:
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            _fail(f"Invalid parameter: {text}", f"{where}.role")
        if role in ("user", "system", "developer") and not isinstance(message.get("content"), str | list):
            _fail(f"Invalid value for 'content': expected a string, got {_kind(message)}.", f"{where}.content")


def _kind(message: Mapping[str, Any]) -> str:
    return "null" if message.get("content") is None else type(message["content"]).__name__


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list) or not tools:
        _fail("Invalid 'tools': empty array. Expected an array with minimum length 1.", "tools", "empty_array")
    for i, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom"):
            _fail(f"Missing required parameter: 'tools[{i}].type'.", f"tools[{i}].type", "missing_required_parameter")
        if kind == "function" and not isinstance((tool.get("function") or {}).get("name"), str):
            _fail(f"Missing required parameter: 'tools[{i}].function'.", f"tools[{i}].function")


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    users = [message for message in messages if message["role"] == "user"]
    functions = [tool["function"] for tool in body.get("tools") or () if tool["type"] == "function"]
    functions += body.get("functions") or ()
    choice = body.get("tool_choice", body.get("function_call", "auto"))
    if isinstance(choice, Mapping):
        choice = f"={(choice.get('function') or choice).get('name')}"
    return Prompt(
        texts=[text for message in messages for text in texts_in(message.get("content"))],
        messages=len(messages),
        last_user=" ".join(texts_in(users[-1].get("content"))) if users else "",
        tools=[Tool(function["name"], function.get("parameters") or {}) for function in functions],
        tool_choice=choice or "auto",
        parallel=body.get("parallel_tool_calls") is not False and "functions" not in body,
        after_tool_result=messages[-1]["role"] in ("tool", "function"),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        events=call.behaviour.events,
        schema=_schema(body.get("response_format")),
    )


def _schema(asked: Any) -> Mapping[str, Any] | None:
    match asked:
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return schema
        case {"type": "json_object"}:
            return {}
    return None


def _usage(call: Call, reply: Reply, n: int) -> dict[str, Any]:
    cached, reasoning = call.behaviour.cached_tokens or 0, call.behaviour.reasoning_tokens or 0
    prompt, completion = reply.prompt_tokens + cached, (reply.completion_tokens + reasoning) * n
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning * n,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _frame(call: Call, body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    frame = {
        "id": f"chatcmpl-{call.seed[:29]}",
        "object": kind,
        "created": call.now_s,
        "model": body["model"],
    }
    return frame if call.provider == "azure" else frame | {"service_tier": "default"}


def _tool_call(call: Call, choice: int, index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{call.seed[:20]}{choice}{index:03}", "type": "function", "function": function}


def _finish(reply: Reply, legacy: bool) -> str:
    if reply.tools:
        return "function_call" if legacy else "tool_calls"
    return "length" if reply.truncated else "stop"


def _completion(call: Call, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    n, legacy = body.get("n") or 1, "functions" in body
    choices = []
    for i in range(n):
        message: dict[str, Any] = {"role": "assistant", "content": None if reply.tools else reply.text}
        message |= {"refusal": None, "annotations": []}
        if reply.tools and legacy:
            message["function_call"] = {"name": reply.tools[0].name, "arguments": reply.tools[0].text}
        elif reply.tools:
            message["tool_calls"] = [_tool_call(call, i, j, use.name, use.text) for j, use in enumerate(reply.tools)]
        choice = {"index": i, "message": message, "logprobs": None, "finish_reason": _finish(reply, legacy)}
        choices.append(choice | ({"content_filter_results": _FILTERS} if call.provider == "azure" else {}))
    frame = _frame(call, body, "chat.completion") | {"choices": choices, "usage": _usage(call, reply, n)}
    if call.provider == "azure":
        frame["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _FILTERS}]
    return frame | {"system_fingerprint": "fp_outrider"}


def _chunks(call: Call, body: Mapping[str, Any], reply: Reply) -> Iterator[bytes]:
    n, options = body.get("n") or 1, body.get("stream_options") or {}
    frame = _frame(call, body, "chat.completion.chunk") | {"system_fingerprint": "fp_outrider"}
    told = {"usage": None} if options.get("include_usage") else {}
    hidden = {"obfuscation": "x" * 8} if call.official and options.get("include_obfuscation", True) else {}
    if call.provider == "azure":
        filters = [{"prompt_index": 0, "content_filter_results": _FILTERS}]
        yield sse(frame | {"choices": [], "prompt_filter_results": filters} | told)
    for deltas in zip(*(_deltas(call, reply, i, "functions" in body) for i in range(n)), strict=True):
        for i, delta in enumerate(deltas):
            done = None if delta else _finish(reply, "functions" in body)
            choice = {"index": i, "delta": delta, "logprobs": None, "finish_reason": done}
            yield sse(frame | {"choices": [choice]} | told | hidden)
    if told:
        yield sse(frame | {"choices": [], "usage": _usage(call, reply, n)} | hidden)
    yield b"data: [DONE]\n\n"


def _deltas(call: Call, reply: Reply, choice: int, legacy: bool) -> Iterator[dict[str, Any]]:
    """One choice's deltas; the last, empty one goes with the finish reason."""
    if not reply.tools:
        yield {"role": "assistant", "content": "", "refusal": None}
        for piece in reply.pieces:
            yield {"content": piece}
        yield {}
        return
    first: dict[str, Any] = {"role": "assistant", "content": None}
    for i, use in enumerate(reply.tools):
        if legacy:
            yield first | {"function_call": {"name": use.name, "arguments": ""}, "refusal": None}
        else:
            start = {"index": i} | _tool_call(call, choice, i, use.name, "")
            yield first | {"tool_calls": [start]} | ({"refusal": None} if first else {})
        first = {}
        for part in halves(use.text):
            yield _argument_delta(i, part, legacy)
    yield {}


def _argument_delta(index: int, part: str, legacy: bool) -> dict[str, Any]:
    if legacy:
        return {"function_call": {"arguments": part}}
    return {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
