"""Cohere's API v2: chat (plain and streamed, tools, JSON), embed, rerank, models. `/compatibility/v1` is `openai`'s.

A stream is SSE with both an `event:` line and a `type` inside; tool arguments come in pieces, keyed by index; usage
stands in `message-end`, as billed units and as tokens. An answer with tools has a `tool_plan` and no content.
Source: docs.cohere.com/v2/reference and recorded exchanges.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from .checks import in_range, json_object, texts_in
from .reply import Call, Refusal, Stream, Whole, bearer, dump, sse
from .words import Prompt, Reply, Tool, count, halves, ranked, think, vector

MODELS = ("command-a-03-2025", "command-r-plus", "embed-v4.0", "rerank-v3.5")
CHAT_FIELDS = frozenset(
    [
        "citation_options", "documents", "frequency_penalty", "k", "logprobs", "max_tokens", "messages", "model", "p",
        "presence_penalty", "priority", "raw_prompting", "response_format", "safety_mode", "seed", "stop_sequences",
        "stream", "strict_tools", "temperature", "thinking", "tool_choice", "tools",
    ]
)  # fmt: skip
_DIMENSIONS = 8
_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tools": "TOOL_CALL"}


def answer(call: Call) -> Whole | Stream:
    """Answer like Cohere. Raises: Refusal."""
    key = bearer(call.headers)
    if key is None:
        raise Refusal(401, "no api key supplied")
    if call.keys and key not in call.keys:
        raise Refusal(401, "invalid api token")
    match call.method, call.operation:
        case "POST", "/v2/chat":
            return _chat(call)
        case "POST", "/v2/embed":
            return _embed(call)
        case "POST", "/v2/rerank":
            return _rerank(call)
        case "GET", "/v1/models":
            return Whole(dump({"models": [{"name": name, "endpoints": ["chat"]} for name in MODELS]}))
    raise Refusal(404, "Not Found")


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in Cohere's shape."""
    return Whole(dump({"id": call.seed, "message": refusal.message}), refusal.status, headers=refusal.headers)


def _fail(message: str, param: str | None) -> NoReturn:
    raise Refusal(400, f"invalid request: {message}", param=param)


def _body(call: Call) -> dict[str, Any]:
    body = json_object(call.body, _fail)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        _fail("model is required", "model")
    if model.startswith("unknown"):
        raise Refusal(404, f"model '{model}' not found, make sure the correct model ID was used")
    return body


# -- chat


def _chat(call: Call) -> Whole | Stream:
    body = _body(call)
    unknown = sorted(set(body) - CHAT_FIELDS)
    if unknown:
        raise Refusal(422, f"unknown field: parameter '{unknown[0]}' is not a valid field")
    in_range(body, "temperature", 0, 2, _fail)
    in_range(body, "p", 0.01, 0.99, _fail)
    reply = think(_prompt(call, body))
    if body.get("stream"):
        failed = sse({"type": "message-end", "delta": {"error": "internal server error", "finish_reason": "ERROR"}})
        return Stream(_events(call, reply), "text/event-stream", lambda _: b"event: message-end\n" + failed)
    return Whole(dump(_message(call, reply)))


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _fail("messages must have at least one element", "messages")
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "developer", "user", "assistant", "tool"):
            _fail(f"message must have a valid role, got '{role}'", "messages")
        if role == "tool" and not message.get("tool_call_id"):
            _fail("tool message must have a tool_call_id", "messages")
    users = [message for message in messages if message["role"] == "user"]
    functions = [tool["function"] for tool in body.get("tools") or ()]
    asked = body.get("response_format") or {}
    schema = asked.get("json_schema") or asked.get("schema") or {}
    return Prompt(
        texts=[text for message in messages for text in texts_in(message.get("content"))],
        messages=len(messages),
        last_user=" ".join(texts_in(users[-1].get("content"))) if users else "",
        tools=[Tool(function["name"], function.get("parameters") or {}) for function in functions],
        tool_choice={"REQUIRED": "required", "NONE": "none"}.get(body.get("tool_choice") or "", "auto"),
        after_tool_result=messages[-1]["role"] == "tool",
        max_tokens=body.get("max_tokens"),
        events=call.behaviour.events,
        schema=schema if asked.get("type") == "json_object" else None,
    )


def _finish(reply: Reply) -> str:
    return _FINISH["tools" if reply.tools else "length" if reply.truncated else "stop"]


def _usage(reply: Reply) -> dict[str, Any]:
    tokens = {"input_tokens": reply.prompt_tokens, "output_tokens": reply.completion_tokens}
    return {"billed_units": tokens, "tokens": tokens}


def _tool_call(call: Call, index: int, name: str, arguments: str) -> dict[str, Any]:
    identity = f"{name}_{call.seed[:8]}{index:02}"
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _message(call: Call, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    if reply.tools:
        message["tool_plan"] = "I will use a tool."
        message["tool_calls"] = [_tool_call(call, at, use.name, use.text) for at, use in enumerate(reply.tools)]
    else:
        message["content"] = [{"type": "text", "text": reply.text}]
    return {"id": call.seed, "message": message, "finish_reason": _finish(reply), "usage": _usage(reply)}


def _event(name: str, **members: Any) -> bytes:
    return sse({"type": name, **members}, name)


def _events(call: Call, reply: Reply) -> Iterator[bytes]:
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield sse({"id": call.seed, "type": "message-start", "delta": {"message": empty}}, "message-start")
    if reply.tools:
        yield from _tool_events(call, reply)
    else:
        text = {"type": "text", "text": ""}
        yield _event("content-start", index=0, delta={"message": {"content": text}})
        for piece in reply.pieces:
            yield _event("content-delta", index=0, delta={"message": {"content": {"text": piece}}})
        yield _event("content-end", index=0)
    yield _event("message-end", delta={"finish_reason": _finish(reply), "usage": _usage(reply)})


def _tool_events(call: Call, reply: Reply) -> Iterator[bytes]:
    for word in ("I", " will", " use a tool."):
        yield _event("tool-plan-delta", delta={"message": {"tool_plan": word}})
    for at, use in enumerate(reply.tools):
        start = _tool_call(call, at, use.name, "")
        yield _event("tool-call-start", index=at, delta={"message": {"tool_calls": start}})
        for part in halves(use.text):
            piece = {"tool_calls": {"function": {"arguments": part}}}
            yield _event("tool-call-delta", index=at, delta={"message": piece})
        yield _event("tool-call-end", index=at)


# -- embed and rerank


def _embed(call: Call) -> Whole:
    body = _body(call)
    texts = body.get("texts") or [
        text for item in body.get("inputs") or () for text in texts_in(item.get("content") or [])
    ]
    if not isinstance(texts, list) or not texts:
        _fail("valid input texts or images must be provided", "texts")
    if body.get("input_type") is None:
        _fail("valid input_type must be provided with the provided model", "input_type")
    kinds = body.get("embedding_types") or ["float"]
    size = body.get("output_dimension") or _DIMENSIONS
    embeddings = {kind: [vector(text, size) for text in texts] for kind in kinds if kind == "float"}
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": sum(map(count, texts))}}
    return Whole(dump({"id": call.seed, "embeddings": embeddings, "texts": texts, "meta": meta}))


def _rerank(call: Call) -> Whole:
    body = _body(call)
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str) or not query or not isinstance(documents, list) or not documents:
        _fail("query and documents must be provided", "documents")
    scored = ranked(query, documents)[: body.get("top_n") or len(documents)]
    results = [{"index": at, "relevance_score": score} for at, score in scored]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return Whole(dump({"id": call.seed, "results": results, "meta": meta}))
