"""OpenAI's HTTP API, and everything that speaks it (Azure, Groq, DeepSeek, vLLM, ...): routes, auth, errors, headers.

On api.openai.com unknown models and unknown fields are refused, as the provider does; on other hosts, and on
localhost, both are taken. Auth is `Authorization: Bearer`; on Azure it is `api-key`, or Bearer for an Entra token.
Source: the official SDK's types and recorded exchanges. Not verified against the provider: the status and the words
for a wrong content type.
"""

import base64
import dataclasses
import re
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

from . import openai_chat, openai_responses
from .checks import json_object
from .reply import Call, Refusal, Stream, Whole, bearer, dump, is_json
from .words import count, vector

MODELS = ("gpt-5", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "text-embedding-3-small", "text-embedding-3-large")
_KNOWN = re.compile(r"(ft:)?(gpt-|chatgpt-|o\d|codex-|computer-use-|text-embedding-|davinci|babbage)")
_NOT_THERE = re.compile(r"(?i)^(unknown|not-found|not_found|nonexistent|does-not-exist)")
_EMBEDDING_FIELDS = frozenset({"input", "model", "encoding_format", "dimensions", "user"})
_DIMENSIONS = {"text-embedding-3-large": 3072, "text-embedding-ada-002": 1536, "text-embedding-3-small": 1536}
_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", None),
    404: ("invalid_request_error", None),
    408: ("timeout", None),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", None),
}
_AZURE_DEPLOYMENT = re.compile(r"^/openai/deployments/([^/]+)(/.+)$")


def answer(call: Call) -> Whole | Stream:
    """Answer like OpenAI. Raises: Refusal."""
    operation, deployment = call.operation, None
    if call.provider == "azure":
        operation, deployment = _azure_operation(call)
    _check_key(call)
    if operation == "/models" or operation.startswith("/models/"):
        return _with_headers(call, _models(call, operation))
    if operation not in ("/chat/completions", "/responses", "/embeddings"):
        raise Refusal(404, f"Invalid URL ({call.method} {call.path})")
    if call.method != "POST":
        raise Refusal(405, f"Not allowed to {call.method} on {call.path} (HINT: Perhaps you meant to use POST?)")
    body = _body(call)
    if deployment is not None:
        body["model"] = deployment
    _check_model(call, body, operation)
    if operation == "/chat/completions":
        return _with_headers(call, openai_chat.answer(call, body))
    if operation == "/responses":
        return _with_headers(call, openai_responses.answer(call, body))
    return _with_headers(call, _embeddings(call, body))


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error in OpenAI's shape (Azure names only code and message for a bad key)."""
    if call.provider == "azure" and refusal.status == 401:
        shape: dict[str, Any] = {"error": {"code": "401", "message": refusal.message}}
    else:
        shape = {"error": error(refusal)}
    headers = _limits(call) | {"x-request-id": f"req_{call.seed}"} | refusal.headers
    return Whole(dump(shape), refusal.status, headers=headers)


def error(refusal: Refusal) -> dict[str, Any]:
    default = ("server_error", None) if refusal.status >= 500 else ("invalid_request_error", None)
    kind, code = _KINDS.get(refusal.status, default)
    return {
        "message": refusal.message,
        "type": refusal.kind or kind,
        "param": refusal.param,
        "code": refusal.code or code,
    }


def _fail(message: str, param: str | None) -> NoReturn:
    raise Refusal(400, message, param=param)


def _azure_operation(call: Call) -> tuple[str, str | None]:
    """(operation, deployment or None for the v1 API)."""
    found = _AZURE_DEPLOYMENT.match(call.path)
    if found is None:
        return call.operation, None
    if "api-version" not in call.query:
        raise Refusal(404, "Resource not found", code="404")
    return found[2], found[1]


def _check_key(call: Call) -> None:
    key = call.headers.get("api-key") if call.provider == "azure" else None
    key = key or bearer(call.headers)
    if key is None:
        if call.provider == "azure":
            raise Refusal(401, _AZURE_DENIED)
        raise Refusal(401, _NO_KEY, code=None, headers={"www-authenticate": "Bearer"}, kind="invalid_request_error")
    if call.keys and key not in call.keys:
        raise Refusal(401, _AZURE_DENIED if call.provider == "azure" else _BAD_KEY.format(_masked(key)))


_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
_BAD_KEY = "Incorrect API key provided: {}. You can find your API key at https://platform.openai.com/account/api-keys."
_AZURE_DENIED = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)


def _masked(key: str) -> str:
    return key if len(key) < 12 else f"{key[:3]}{'*' * (len(key) - 7)}{key[-4:]}"


def _body(call: Call) -> dict[str, Any]:
    if not is_json(call.headers):
        kind = call.headers.get("content-type", "")
        _fail(f"Invalid Content-Type header ({kind}), expected application/json.", None)
    return json_object(call.body, _fail)


def _check_model(call: Call, body: Mapping[str, Any], operation: str) -> None:
    model = body.get("model")
    if model is None:
        _fail("you must provide a model parameter", "model")
    if not isinstance(model, str) or not model:
        _fail("Invalid type for 'model': expected a string.", "model")
    azure = call.provider == "azure"  # where a model is a deployment, and has the name that its owner gave it
    if azure and _NOT_THERE.match(model):
        raise Refusal(404, "The API deployment for this resource does not exist.", code="DeploymentNotFound")
    if _NOT_THERE.match(model) or (call.official and not azure and not _KNOWN.match(model)):
        text = f"The model `{model}` does not exist or you do not have access to it."
        raise Refusal(404, text, code="model_not_found")
    embeds = "embed" in model
    if embeds and operation == "/chat/completions":
        text = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
        raise Refusal(404, text, param="model")
    if call.official and not azure and not embeds and operation == "/embeddings":
        raise Refusal(403, "You are not allowed to generate embeddings from this model")


def _models(call: Call, operation: str) -> Whole:
    rows = [{"id": name, "object": "model", "created": 1715367049, "owned_by": "system"} for name in MODELS]
    if operation == "/models":
        return Whole(dump({"object": "list", "data": rows}))
    name = operation.removeprefix("/models/")
    row = next((row for row in rows if row["id"] == name), None)
    if row is None:
        text = f"The model '{name}' does not exist"
        raise Refusal(404, text, code="model_not_found", param="model")
    return Whole(dump(row))


def _embeddings(call: Call, body: Mapping[str, Any]) -> Whole:
    unknown = sorted(set(body) - _EMBEDDING_FIELDS)
    if call.official and unknown:
        _fail(f"Unrecognized request argument supplied: {unknown[0]}", None)
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and texts and all(isinstance(part, int) for part in texts):
        texts = [texts]  # one text, already as token numbers
    if not isinstance(texts, list) or not texts or not all(isinstance(part, str | list) for part in texts):
        _fail("'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs.", None)
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        _fail(f"'{encoding}' is not one of ['float', 'base64'] - 'encoding_format'", None)
    size = body.get("dimensions") or _DIMENSIONS.get(body["model"], 8)
    rows = [
        {"object": "embedding", "index": i, "embedding": _vector(part, size, encoding)} for i, part in enumerate(texts)
    ]
    tokens = sum(count(part) if isinstance(part, str) else len(part) for part in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Whole(dump({"object": "list", "data": rows, "model": body["model"], "usage": usage}))


def _vector(text: Any, size: int, encoding: str) -> list[float] | str:
    found = vector(text, size)
    return found if encoding == "float" else base64.b64encode(struct.pack(f"<{size}f", *found)).decode()


def _limits(call: Call) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": str(2_000_000 - len(call.body) // 4),
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "1s",
    }


def _with_headers(call: Call, reply: Whole | Stream) -> Whole | Stream:
    headers = _limits(call) | {"openai-processing-ms": "7", "x-request-id": f"req_{call.seed}"}
    if call.provider == "openai":
        headers |= {"openai-version": "2020-10-01", "openai-organization": "outrider-mock"}
    return dataclasses.replace(reply, headers=headers)
