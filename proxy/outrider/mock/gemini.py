"""Google's generateContent, at generativelanguage.googleapis.com and, with Bearer, at Vertex AI's hosts.

A stream is server-sent events with `alt=sse` and a JSON array without. `usageMetadata` is in every chunk and
cumulative; `promptTokenCount` includes cached tokens, `candidatesTokenCount` excludes `thoughtsTokenCount`, the total
has all. Function calls come whole. Gemini's key is `x-goog-api-key` or `?key=`; an unknown one is a 400, there too.
Fields are taken in camelCase and in snake_case, as protobuf's JSON is.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from .checks import json_object, texts_in
from .reply import Call, Refusal, Stream, Whole, bearer, dump, is_json, sse
from .words import Prompt, Reply, Tool, think, vector

MODELS = ("gemini-2.5-flash", "gemini-2.5-pro")
_TARGET = re.compile(
    r"/v1(?:alpha|beta1?)?/(?:projects/[^/]+/locations/[^/]+/publishers/google/)?models/([^/:]+)(?::(\w+))?$"
)
_LIST = re.compile(r"/v1(?:alpha|beta)?/models$")
_FIELDS = frozenset(
    [
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
        "model",
        "generateContentRequest",
    ]
)
_GENERATION_FIELDS = frozenset(
    [
        "audioTimestamp",
        "audioTranscriptionConfig",
        "candidateCount",
        "enableAffectiveDialog",
        "enableEnhancedCivicAnswers",
        "frequencyPenalty",
        "imageConfig",
        "logprobs",
        "maxOutputTokens",
        "mediaResolution",
        "modelSelectionConfig",
        "presencePenalty",
        "responseFormat",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "routingConfig",
        "seed",
        "speechConfig",
        "stopSequences",
        "temperature",
        "thinkingConfig",
        "topK",
        "topP",
        "translationConfig",
    ]
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_JSON = "application/json; charset=UTF-8"
_SNAKE = re.compile(r"_([a-z])")


def answer(call: Call) -> Whole | Stream:
    """Answer like Gemini. Raises: Refusal."""
    _check_key(call)
    if _LIST.match(call.path) and call.method == "GET":
        return Whole(dump({"models": [_model(name) for name in MODELS]}), content_type=_JSON)
    found = _TARGET.match(call.path)
    if found is None:
        raise Refusal(404, "Requested entity was not found.")
    model, verb = found[1], found[2]
    if verb is None and call.method == "GET" and model in MODELS:
        return Whole(dump(_model(model)), content_type=_JSON)
    if verb in ("embedContent", "batchEmbedContents") and call.method == "POST":
        return _embed(call, model, verb)
    if verb not in ("generateContent", "streamGenerateContent", "countTokens") or call.method != "POST":
        raise Refusal(404, "Requested entity was not found.")
    if not re.match(r"(gemini|gemma|learnlm)-", model) or "embedding" in model:
        text = f"models/{model} is not found for API version v1beta, or is not supported for {verb}."
        raise Refusal(404, text)
    return _generate(call, model, verb)


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in Google's shape; a stream that is a JSON array fails as an array of one."""
    shape: Any = {"error": error(refusal)}
    if "streamGenerateContent" in call.path and call.query.get("alt") != "sse":
        shape = [shape]
    return Whole(dump(shape), refusal.status, _JSON, refusal.headers)


def error(refusal: Refusal) -> dict[str, Any]:
    status = refusal.kind or _STATUSES.get(refusal.status, "UNKNOWN")
    shape: dict[str, Any] = {"code": refusal.status, "message": refusal.message, "status": status}
    if refusal.code:
        domain = "type.googleapis.com/google.rpc.ErrorInfo"
        shape["details"] = [{"@type": domain, "reason": refusal.code, "domain": "googleapis.com"}]
    return shape


def _fail(message: str, param: str | None) -> NoReturn:
    raise Refusal(400, message, param=param)


def _check_key(call: Call) -> None:
    if call.provider == "vertex":
        token = bearer(call.headers)
        if token is None or (call.keys and token not in call.keys):
            text = "Request is missing required authentication credential. Expected OAuth 2 access token."
            raise Refusal(401, text, code="CREDENTIALS_MISSING" if token is None else "ACCESS_TOKEN_TYPE_UNSUPPORTED")
        return
    key = call.headers.get("x-goog-api-key") or call.query.get("key")
    if not key:
        if bearer(call.headers) is not None:
            text = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise Refusal(401, text, code="ACCESS_TOKEN_TYPE_UNSUPPORTED")
        text = (
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
            "other form of API consumer identity to call this API."
        )
        raise Refusal(403, text)
    if call.keys and key not in call.keys:
        raise Refusal(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def _embed(call: Call, model: str, verb: str) -> Whole:
    """Vectors of the given length (8 if none is asked for); there is no usage, as the real one has none."""
    if "embedding" not in model:
        text = f"models/{model} is not found for API version v1beta, or is not supported for {verb}."
        raise Refusal(404, text)
    body = _camel(json_object(call.body, _fail))
    if verb == "embedContent":
        return Whole(dump({"embedding": _embedding(body)}), content_type=_JSON)
    asked = body.get("requests")
    if not isinstance(asked, list) or not asked:
        _fail("* BatchEmbedContentsRequest.requests: requests is required", "requests")
    for i, request in enumerate(asked):
        if request.get("model") != f"models/{model}":
            _fail(f"* BatchEmbedContentsRequest.requests[{i}].model: model is not consistent with the URL", "requests")
    return Whole(dump({"embeddings": [_embedding(_camel(request)) for request in asked]}), content_type=_JSON)


def _embedding(request: Mapping[str, Any]) -> dict[str, Any]:
    texts = list(texts_in(_listed((request.get("content") or {}).get("parts"))))
    if not texts:
        _fail("content is required", "content")
    return {"values": vector(" ".join(texts), request.get("outputDimensionality") or 8)}


def _generate(call: Call, model: str, verb: str) -> Whole | Stream:
    if call.headers.get("content-type") and not is_json(call.headers):
        _fail("Invalid JSON payload received. Expected content type application/json.", None)
    body = _camel(json_object(call.body, _fail))
    body = _camel(body["generateContentRequest"]) if "generateContentRequest" in body else body
    _check(body)
    reply = think(_prompt(call, body))
    if verb == "countTokens":
        details = [{"modality": "TEXT", "tokenCount": reply.prompt_tokens}]
        counted = {"totalTokens": reply.prompt_tokens, "promptTokensDetails": details}
        return Whole(dump(counted), content_type=_JSON)
    if verb == "generateContent":
        return Whole(
            dump(_chunk(call, model, reply, _parts(reply), made=reply.completion_tokens, last=True)), content_type=_JSON
        )
    chunks = _chunks(call, model, reply)
    failed = {"error": error(Refusal(503, "The model is overloaded. Please try again later."))}
    if call.query.get("alt") == "sse":
        parts = (sse(chunk, end=b"\r\n\r\n") for chunk in chunks)
        return Stream(parts, "text/event-stream", lambda _: sse(failed, end=b"\r\n\r\n"))
    return Stream(_array(chunks), _JSON, lambda n: (b",\r\n" if n else b"[") + dump(failed) + b"]\n")


def _camel(fields: Any) -> dict[str, Any]:
    return {_SNAKE.sub(lambda found: found[1].upper(), name): value for name, value in fields.items()}


def _check(body: Mapping[str, Any]) -> None:
    _check_names(body, _FIELDS, "")
    settings = body.get("generationConfig") or {}
    if not isinstance(settings, dict):
        _fail("Invalid value at 'generation_config'", "generationConfig")
    _check_names(_camel(settings), _GENERATION_FIELDS, " at 'generation_config'")
    contents = body.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        _fail("* GenerateContentRequest.contents: contents is not specified\n", "contents")
    for i, content in enumerate(contents):
        if not isinstance(content, dict) or not isinstance(content.get("parts"), list | dict) or not content["parts"]:
            _fail(f"* GenerateContentRequest.contents[{i}].parts: contents.parts must not be empty.\n", "contents")
        if content.get("role", "user") not in ("user", "model", "function", "tool"):
            _fail("Please use a valid role: user, model.", "contents")
    temperature = _camel(settings).get("temperature")
    if isinstance(temperature, int | float) and not 0 <= temperature <= 2:
        text = (
            f"Unable to submit request because it has a temperature value of {temperature} but the supported range is"
        )
        _fail(f"{text} from 0 (inclusive) to 2.0001 (exclusive).", "temperature")


def _check_names(fields: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        _fail(f'Invalid JSON payload received. Unknown name "{unknown[0]}"{where}: Cannot find field.', None)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _prompt(call: Call, body: Mapping[str, Any]) -> Prompt:
    contents = [_camel(content) for content in _listed(body["contents"])]
    users = [content for content in contents if content.get("role", "user") == "user"]
    system = list(texts_in(_listed((body.get("systemInstruction") or {}).get("parts"))))
    functions = [
        function for tool in body.get("tools") or () for function in _camel(tool).get("functionDeclarations") or ()
    ]
    calling = _camel(_camel(body.get("toolConfig") or {}).get("functionCallingConfig") or {})
    mode = {"NONE": "none", "ANY": "required"}.get(str(calling.get("mode", "AUTO")).upper(), "auto")
    allowed = calling.get("allowedFunctionNames") or []
    settings = _camel(body.get("generationConfig") or {})
    last = [_camel(part) for part in _listed(contents[-1]["parts"])]
    return Prompt(
        texts=system + [text for content in contents for text in texts_in(_listed(content["parts"]))],
        messages=len(contents) + bool(system),
        last_user=" ".join(texts_in(_listed(users[-1]["parts"]))) if users else "",
        tools=[_tool(function) for function in functions if not allowed or function["name"] in allowed],
        tool_choice=mode,
        after_tool_result=any("functionResponse" in part for part in last),
        max_tokens=settings.get("maxOutputTokens"),
        events=call.behaviour.events,
        schema=_schema(settings),
    )


def _schema(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if settings.get("responseMimeType") != "application/json":
        return None
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema") or {}
    return schema if isinstance(schema, Mapping) else {}


def _tool(function: Mapping[str, Any]) -> Tool:
    fields = _camel(function)
    return Tool(fields["name"], fields.get("parameters") or fields.get("parametersJsonSchema") or {})


def _parts(reply: Reply) -> list[dict[str, Any]]:
    if reply.tools:
        return [{"functionCall": {"name": use.name, "args": use.arguments}} for use in reply.tools]
    return [{"text": reply.text}]


def _chunk(
    call: Call, model: str, reply: Reply, parts: list[dict[str, Any]], *, made: int, last: bool
) -> dict[str, Any]:
    cached, thoughts = call.behaviour.cached_tokens or 0, call.behaviour.reasoning_tokens or 0
    prompt = reply.prompt_tokens + cached
    usage: dict[str, Any] = {"promptTokenCount": prompt, "candidatesTokenCount": made}
    usage["totalTokenCount"] = prompt + made + thoughts
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    if cached:
        usage["cachedContentTokenCount"] = cached
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "MAX_TOKENS" if reply.truncated else "STOP"
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": call.seed[:22],
    }


def _chunks(call: Call, model: str, reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.tools:
        yield _chunk(call, model, reply, _parts(reply), made=reply.completion_tokens, last=True)
    for i, piece in enumerate(reply.pieces):
        last = i == len(reply.pieces) - 1
        yield _chunk(call, model, reply, [{"text": piece}], made=i + 1, last=last)


def _array(chunks: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A JSON array, an element a piece; the bracket that closes it leaves with the last element."""
    held: dict[str, Any] | None = None
    lead = b"["
    for chunk in chunks:
        if held is not None:
            yield lead + dump(held)
            lead = b",\r\n"
        held = chunk
    yield lead + (b"" if held is None else dump(held)) + b"]\n"


def _model(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
