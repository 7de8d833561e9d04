"""AWS Bedrock's runtime: Converse, ConverseStream, InvokeModel and InvokeModelWithResponseStream.

Streams are real event-stream frames. InvokeModel takes the model family's own body: Anthropic's Messages (with
`anthropic_version`, without `model` and `stream`), Amazon Nova's and Meta Llama's; its stream wraps that family's
events as base64 in `chunk` frames and adds the invocation metrics to the last. Auth: SigV4, verified, or a Bearer key.
Source: botocore's service model and recorded exchanges.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

from . import anthropic, frames, sigv4
from .checks import in_range, json_object, texts_in
from .reply import Call, Refusal, Stream, Whole, bearer, dump
from .words import Prompt, Reply, Tool, count, halves, ranked, think, vector

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "AKIAMOCKMOCKMOCKMOCK", "mock-secret-access-key"  # when no key was configured
_TARGET = re.compile(r"/model/([^/]+)/(converse|converse-stream|invoke|invoke-with-response-stream)$")
_FAMILY = re.compile(r"(?:arn:.*/)?(?:(?:us|us-gov|eu|apac|au|jp|ca|global)\.)?([a-z0-9]+)\.([a-z0-9.:_-]+)$")
_FAMILIES = frozenset(
    ["ai21", "amazon", "anthropic", "cohere", "deepseek", "meta", "mistral", "moonshot", "openai", "qwen", "writer"]
)
_FIELDS = frozenset(
    [
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "inferenceConfig",
        "messages",
        "outputConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
        "system",
        "toolConfig",
    ]
)
_BLOCKS = frozenset(
    [
        "text",
        "image",
        "document",
        "video",
        "audio",
        "toolUse",
        "toolResult",
        "guardContent",
        "cachePoint",
        "reasoningContent",
        "citationsContent",
        "searchResult",
    ]
)
_KINDS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_INVOKE_FIELDS = (anthropic.FIELDS - {"model", "stream"}) | {"anthropic_version", "anthropic_beta"}


def answer(call: Call) -> Whole | Stream:
    """Answer like Bedrock. Raises: Refusal."""
    found = _TARGET.match(call.path)
    if found is None or call.method != "POST":
        raise Refusal(404, "Unknown operation.", kind="UnknownOperationException")
    _check_access(call)
    model, verb = unquote(found[1]), found[2]
    family = _FAMILY.match(model)
    if family is None or family[1] not in _FAMILIES:
        _fail("The provided model identifier is invalid.")
    body = json_object(call.body, _malformed)
    if verb.startswith("converse"):
        return _converse(call, body, verb == "converse-stream")
    return _invoke(call, model, family[1], body, verb != "invoke")


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in AWS's REST-JSON shape: its name stands in a header."""
    kind = refusal.kind or _KINDS.get(refusal.status, "InternalServerException")
    headers = _headers(call) | {"x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return Whole(dump({"message": refusal.message}), refusal.status, headers=headers | refusal.headers)


def _headers(call: Call) -> dict[str, str]:
    seed = call.seed
    return {"x-amzn-RequestId": f"{seed[:8]}-{seed[8:12]}-{seed[12:16]}-{seed[16:20]}-{seed[20:]}"}


def _fail(message: str, _: str | None = None) -> NoReturn:
    raise Refusal(400, message)


def _malformed(message: str, _: str | None) -> NoReturn:
    raise Refusal(400, "The request body is not valid JSON.", kind="SerializationException")


def _check_access(call: Call) -> None:
    pairs = dict(key.split(":", 1) for key in call.keys if ":" in key) or {ACCESS_KEY_ID: SECRET_ACCESS_KEY}
    bearers = [key for key in call.keys if ":" not in key]
    given = call.headers.get("authorization", "")
    token = bearer(call.headers)
    if token is not None:
        if call.keys and token not in bearers:
            raise Refusal(403, "Authentication failed: Please make sure your API Key is valid.")
    elif given.startswith("AWS4-"):
        sigv4.verify(call, pairs)
    else:
        raise Refusal(403, "Missing Authentication Token", kind="MissingAuthenticationTokenException")


# --- Converse -------------------------------------------------------------------------------------------------------


def _converse(call: Call, body: Mapping[str, Any], streamed: bool) -> Whole | Stream:
    _check(body)
    reply = think(_prompt(call, body))
    if streamed:
        failed = frames.exception("modelStreamErrorException", dump({"message": "The model failed.", "p": "ab"}))
        parts = (frames.event(kind, dump(event | {"p": "abcdefgh"})) for kind, event in _events(call, reply))
        return Stream(parts, frames.CONTENT_TYPE, lambda _: failed, _headers(call))
    shape = {
        "metrics": {"latencyMs": 7},
        "output": {"message": {"role": "assistant", "content": _blocks(call, reply)}},
        "stopReason": _stop_reason(reply),
        "usage": _usage(call, reply),
    }
    return Whole(dump(shape), headers=_headers(call))


def _check(body: Mapping[str, Any]) -> None:
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        _fail(f"The model returned the following errors: extraneous key [{unknown[0]}] is not permitted")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _fail("The value at messages is empty. Add at least one message to the conversation and try again.")
    for i, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            text = f"1 validation error detected: Value '{role}' at 'messages.{i + 1}.member.role' failed to satisfy"
            _fail(f"{text} constraint: Member must satisfy enum value set: [user, assistant]")
        blocks = message.get("content")
        if not isinstance(blocks, list) or not blocks:
            _fail(f"The content field in the Message object at messages.{i} is empty. Add a ContentBlock object.")
        if any(not isinstance(block, dict) or not set(block) & _BLOCKS for block in blocks):
            _fail(f"The content field in the Message object at messages.{i} holds an unknown ContentBlock.")
    if messages[0]["role"] == "assistant":
        _fail("A conversation must start with a user message. Try again with a conversation that does so.")
    settings = body.get("inferenceConfig") or {}
    in_range(settings, "maxTokens", 1, 2**31, _fail)
    in_range(settings, "temperature", 0, 1, _fail)
    in_range(settings, "topP", 0, 1, _fail)


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    messages = body["messages"]
    users = [message for message in messages if message["role"] == "user"]
    system = list(texts_in(body.get("system") or []))
    config = body.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in config.get("tools") or () if "toolSpec" in tool]
    choice = config.get("toolChoice") or {"auto": {}}
    forced = f"={choice['tool'].get('name')}" if "tool" in choice else "required" if "any" in choice else "auto"
    return Prompt(
        texts=system + [text for message in messages for text in texts_in(message["content"])],
        messages=len(messages) + bool(system),
        last_user=" ".join(texts_in(users[-1]["content"])) if users else "",
        tools=[Tool(spec["name"], (spec.get("inputSchema") or {}).get("json") or {}) for spec in specs],
        tool_choice=forced,
        after_tool_result=any("toolResult" in block for block in messages[-1]["content"]),
        max_tokens=(body.get("inferenceConfig") or {}).get("maxTokens"),
        events=call.behaviour.events,
        schema=_schema((body.get("outputConfig") or {}).get("textFormat")),
    )


def _schema(asked: Any) -> Mapping[str, Any] | None:
    match asked:
        case {"type": "json_schema", "structure": {"jsonSchema": {"schema": str() as schema}}}:
            return json_object(schema.encode(), _malformed)
    return None


def _stop_reason(reply: Reply) -> str:
    if reply.tools:
        return "tool_use"
    return "max_tokens" if reply.truncated else "end_turn"


def _usage(call: Call, reply: Reply) -> dict[str, Any]:
    cached = call.behaviour.cached_tokens or 0
    made = reply.completion_tokens + (call.behaviour.reasoning_tokens or 0)
    usage: dict[str, Any] = {
        "inputTokens": reply.prompt_tokens,
        "outputTokens": made,
        "totalTokens": reply.prompt_tokens + cached + made,
        "serverToolUsage": {},
    }
    return usage | ({"cacheReadInputTokens": cached, "cacheReadInputTokenCount": cached} if cached else {})


def _use_id(call: Call, i: int) -> str:
    return f"tooluse_{call.seed[:20]}{i:02}"


def _blocks(call: Call, reply: Reply) -> list[dict[str, Any]]:
    if not reply.tools:
        return [{"text": reply.text}]
    uses = enumerate(reply.tools)
    return [{"toolUse": {"toolUseId": _use_id(call, i), "name": use.name, "input": use.arguments}} for i, use in uses]


def _events(call: Call, reply: Reply) -> Iterator[tuple[str, dict[str, Any]]]:
    """(event type, payload), in order. A text block has no contentBlockStart, a tool's has."""
    yield "messageStart", {"role": "assistant"}
    for i, use in enumerate(reply.tools):
        start = {"toolUse": {"toolUseId": _use_id(call, i), "name": use.name}}
        yield "contentBlockStart", {"contentBlockIndex": i, "start": start}
        for part in halves(use.text):
            yield "contentBlockDelta", {"contentBlockIndex": i, "delta": {"toolUse": {"input": part}}}
        yield "contentBlockStop", {"contentBlockIndex": i}
    for piece in reply.pieces:
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}
    if not reply.tools:
        yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": _stop_reason(reply)}
    yield "metadata", {"metrics": {"latencyMs": 7}, "usage": _usage(call, reply)}


# --- InvokeModel ----------------------------------------------------------------------------------------------------


def _invoke(call: Call, model: str, family: str, body: Mapping[str, Any], streamed: bool) -> Whole | Stream:
    if "embed" in model:
        return _invoke_embed(call, family, body)
    if "rerank" in model:
        return _invoke_rerank(call, family, body)
    if family == "anthropic":
        reply, whole, events = _invoke_anthropic(call, model, body)
    elif family == "meta":
        reply, whole, events = _invoke_llama(call, body)
    elif family == "amazon" and "nova" in model:
        reply, whole, events = _invoke_nova(call, body)
    else:
        _fail(f"The mock has no InvokeModel body for {model}; it has Anthropic's, Amazon Nova's and Meta Llama's.")
    if streamed:
        failed = frames.exception("modelStreamErrorException", dump({"message": "The model failed."}))
        return Stream(_wrapped(reply, events), frames.CONTENT_TYPE, lambda _: failed, _headers(call))
    counts = {
        "X-Amzn-Bedrock-Input-Token-Count": str(reply.prompt_tokens),
        "X-Amzn-Bedrock-Output-Token-Count": str(reply.completion_tokens),
        "X-Amzn-Bedrock-Invocation-Latency": "7",
    }
    return Whole(dump(whole), headers=_headers(call) | counts)


type _Invoked = tuple[Reply, dict[str, Any], Iterator[dict[str, Any]]]


def _invoke_embed(call: Call, family: str, body: Mapping[str, Any]) -> Whole:
    """Titan takes one text, Cohere a list; both count tokens, Cohere in a header only."""
    if family == "amazon":
        text = body.get("inputText")
        if not isinstance(text, str) or not text:
            _fail("Malformed input request: required key [inputText] not found, please reformat your input.")
        tokens = count(text)
        whole: dict[str, Any] = {"embedding": vector(text, body.get("dimensions") or 8), "inputTextTokenCount": tokens}
    else:
        texts = body.get("texts")
        if not isinstance(texts, list) or not texts or body.get("input_type") is None:
            _fail("Malformed input request: required keys [texts, input_type] not found, please reformat your input.")
        tokens = sum(map(count, texts))
        found = [vector(text, body.get("output_dimension") or 8) for text in texts]
        typed = body.get("embedding_types")
        embeddings: Any = {"float": found} if typed else found
        kind = "embeddings_by_type" if typed else "embeddings_floats"
        whole = {"id": call.seed, "texts": texts, "embeddings": embeddings, "response_type": kind}
    headers = {"X-Amzn-Bedrock-Input-Token-Count": str(tokens), "X-Amzn-Bedrock-Invocation-Latency": "7"}
    return Whole(dump(whole), headers=_headers(call) | headers)


def _invoke_rerank(call: Call, family: str, body: Mapping[str, Any]) -> Whole:
    """Cohere's wants to know which version of its API is meant, Amazon's does not know of any."""
    fields = {"query", "documents", "top_n"} | ({"api_version"} if family == "cohere" else set())
    if set(body) - fields:
        _fail(f"Malformed input request: extraneous key [{min(set(body) - fields)}] is not permitted")
    if family == "cohere" and body.get("api_version") != 2:
        _fail("Malformed input request: api_version must be 2, please reformat your input and try again.")
    query, documents = body.get("query"), body.get("documents")
    texts = isinstance(documents, list) and all(isinstance(one, str) for one in documents)
    if not isinstance(query, str) or not query or not documents or not texts:
        _fail("Malformed input request: required keys [query, documents] not found, please reformat your input.")
    scored = ranked(query, documents)[: body.get("top_n") or len(documents)]
    results = [{"index": at, "relevance_score": score} for at, score in scored]
    return Whole(dump({"results": results}), headers=_headers(call))


def _invoke_anthropic(call: Call, model: str, body: Mapping[str, Any]) -> _Invoked:
    if body.get("anthropic_version") != "bedrock-2023-05-31":
        _fail("anthropic_version: Field required" if "anthropic_version" not in body else "Invalid API version")
    anthropic.check(body, _INVOKE_FIELDS, needs_model=False, needs_max_tokens=True)
    named = {**body, "model": model.rsplit("anthropic.", 1)[-1]}
    reply = think(anthropic.prompt(body, call.behaviour.events))
    return reply, anthropic.message(call, named, reply), anthropic.events(call, named, reply)


def _invoke_llama(call: Call, body: Mapping[str, Any]) -> _Invoked:
    text = body.get("prompt")
    if not isinstance(text, str) or not text:
        _fail("Malformed input request: #: required key [prompt] not found, please reformat your input and try again.")
    reply = think(Prompt([text], 1, text, max_tokens=body.get("max_gen_len"), events=call.behaviour.events))
    stop = "length" if reply.truncated else "stop"
    counts = {"prompt_token_count": reply.prompt_tokens, "generation_token_count": reply.completion_tokens}
    parts = list(reply.pieces)
    events = (
        {
            "generation": part,
            "prompt_token_count": reply.prompt_tokens if i == 0 else None,
            "generation_token_count": i + 1,
            "stop_reason": stop if i == len(parts) - 1 else None,
        }
        for i, part in enumerate(parts)
    )
    return reply, {"generation": reply.text, **counts, "stop_reason": stop}, events


def _invoke_nova(call: Call, body: Mapping[str, Any]) -> _Invoked:
    known = {name: body[name] for name in ("messages", "system", "toolConfig") if name in body}
    settings = body.get("inferenceConfig") or {}
    limit = settings.get("maxTokens") or settings.get("max_new_tokens")
    _check(known)
    reply = think(_prompt(call, known | {"inferenceConfig": {"maxTokens": limit}}))
    usage = {"inputTokens": reply.prompt_tokens, "outputTokens": reply.completion_tokens}
    usage["totalTokens"] = sum(usage.values())
    whole = {
        "output": {"message": {"content": _blocks(call, reply), "role": "assistant"}},
        "stopReason": _stop_reason(reply),
        "usage": usage | {"cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 0},
    }
    return reply, whole, ({kind: event} for kind, event in _events(call, reply))


def _wrapped(reply: Reply, events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Each native event as base64 in a `chunk` frame; the last carries what the call cost as well."""
    held: dict[str, Any] | None = None
    for event in events:
        if held is not None:
            yield _chunk(held)
        held = event
    metrics = {
        "inputTokenCount": reply.prompt_tokens,
        "outputTokenCount": reply.completion_tokens,
        "invocationLatency": 7,
        "firstByteLatency": 3,
    }
    yield _chunk((held or {}) | {"amazon-bedrock-invocationMetrics": metrics})


def _chunk(event: Mapping[str, Any]) -> bytes:
    return frames.event("chunk", dump({"bytes": base64.b64encode(dump(event)).decode(), "p": "abcd"}))
