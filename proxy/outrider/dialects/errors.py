"""Our errors in the shape that the client's SDK knows, so that it raises its normal exception.

Rules:
- The status decides the exception in every SDK; the type in the body is the one that the provider itself uses for it.
- `code` is ours and public; `message` is one sentence that is safe to show. Both are escaped here, never trusted.
- An answer says when to come back in `retry-after` (whole seconds, rounded up) and `retry-after-ms`, and whether at all
  in `x-should-retry`; botocore knows none of the three and goes by the status.

Does not know: HTTP/1.1 or 2 (the status line is the caller's), which error happened, exceptions.
Source: openai/_base_client.py, anthropic/_exceptions.py, google.rpc.Status, botocore data, docs.cohere.com,
ollama docs/api.md.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

type Json = dict[str, Any]

_OPENAI_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 408: "timeout_error", 429: "rate_limit_error"}
)
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_GOOGLE_STATUSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        408: "DEADLINE_EXCEEDED",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        500: "INTERNAL",
        501: "UNIMPLEMENTED",
        502: "UNAVAILABLE",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
        529: "UNAVAILABLE",
    }
)
_AWS_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "UnrecognizedClientException",
        403: "AccessDeniedException",
        404: "ResourceNotFoundException",
        408: "ModelTimeoutException",
        409: "ConflictException",
        424: "ModelErrorException",
        429: "ThrottlingException",
        503: "ServiceUnavailableException",
        504: "ServiceUnavailableException",
        529: "ServiceUnavailableException",
    }
)


# What went wrong at a provider, in words of our own -> the status that says it where the provider's own is not known.
KINDS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request": 400,
        "authentication": 401,
        "billing": 402,
        "permission": 403,
        "not_found": 404,
        "timeout": 504,
        "conflict": 409,
        "too_large": 413,
        "rate_limit": 429,
        "overloaded": 503,
        "server": 500,
    }
)
_KIND_BY_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {status: kind for kind, status in KINDS.items()} | {408: "timeout", 529: "overloaded"}
)


def kind_of(status: int) -> str:
    """The kind that an HTTP status speaks of; "server" where it speaks of none (0, and what is not an error)."""
    return _KIND_BY_STATUS.get(status) or ("invalid_request" if 400 <= status < 500 else "server")


def _by_status(table: Mapping[int, str], status: int, client: str, server: str) -> str:
    return table.get(status) or (client if status < 500 else server)


def _openai(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    kind = _by_status(_OPENAI_TYPES, status, "invalid_request_error", "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _anthropic(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    kind = _by_status(_ANTHROPIC_TYPES, status, "invalid_request_error", "api_error")
    return {"type": "error", "error": {"type": kind, "message": message, "code": code}, "request_id": None}


def _google(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    state = _by_status(_GOOGLE_STATUSES, status, "INVALID_ARGUMENT", "INTERNAL")
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code.upper(), "domain": "outrider"}
    details: list[Json] = [info]
    if retry_after_ms is not None:
        delay = f"{retry_after_ms / 1000:g}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"error": {"code": status, "message": message, "status": state, "details": details}}


def _aws(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    return {"message": message}


def _cohere(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    return {"message": message}


def _ollama(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    return {"error": message}


def _replicate(status: int, code: str, message: str, retry_after_ms: int | None) -> Json:
    return {"title": code.replace("_", " "), "detail": message, "status": status}


_BODIES: Final[Mapping[str, Callable[[int, str, str, int | None], Json]]] = MappingProxyType(
    {
        "openai": _openai,
        "anthropic": _anthropic,
        "google": _google,
        "gemini": _google,
        "aws": _aws,
        "bedrock": _aws,
        "cohere": _cohere,
        "ollama": _ollama,
        "replicate": _replicate,
    }
)


def _family(dialect: str) -> str:
    """ "openai" of "openai" and of "openai.responses"; what is not known is spoken to in OpenAI's way."""
    family = dialect.partition(".")[0]
    return family if family in _BODIES else "openai"


def error_answer(
    dialect: str, status: int, code: str, message: str, retry_after_ms: int | None, should_retry: bool | None
) -> tuple[bytes, bytes]:
    """(header lines, body) of an error answer of ours.

    dialect: a provider's error_dialect or an operation's dialect. The header lines end in CRLF each and hold
    content-type, content-length, x-outrider-error and what the arguments ask for; no status line, no blank line.
    """
    family = _family(dialect)
    body = orjson.dumps(_BODIES[family](status, code, message, retry_after_ms))
    lines = [
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-outrider-error: {_token(code)}",
    ]
    if family in ("aws", "bedrock"):
        lines.append(
            f"x-amzn-errortype: {_by_status(_AWS_TYPES, status, 'ValidationException', 'InternalServerException')}"
        )
    if retry_after_ms is not None:
        wait_ms = max(0, retry_after_ms)
        lines += [f"retry-after: {-(-wait_ms // 1000)}", f"retry-after-ms: {wait_ms}"]
    if should_retry is not None:
        lines.append(f"x-should-retry: {'true' if should_retry else 'false'}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii"), body


def _token(code: str) -> str:
    """A code as it may stand in a header; codes are ours and plain, this only keeps a mistake from splitting a head."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-.") else "_" for letter in code)


# -- inside a stream


def stream_error(dialect: str, framing: str, code: str, message: str) -> bytes:
    """The dialect's own error event, ready for the wire, for a stream that has begun with status 200.

    dialect: as for error_answer; "openai.responses" and "cohere.chat" have events of their own. framing: "sse",
    "ndjson", "eventstream" or "json-array" (there it closes the array and supposes that an element came before).
    """
    if framing == "eventstream":
        return _exception_frame(message)
    event, data = _stream_event(dialect, code, message)
    text = orjson.dumps(data)
    if framing == "sse":
        return (b"event: %s\n" % event.encode() if event else b"") + b"data: " + text + b"\n\n"
    if framing == "json-array":
        return b",\r\n" + text + b"\r\n]"
    return text + b"\n"


def _stream_event(dialect: str, code: str, message: str) -> tuple[str, Json]:
    """(event name or "", data)."""
    if dialect == "openai.responses":
        return "error", {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
    if dialect == "cohere.chat":
        return "message-end", {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}}
    if dialect in ("cohere.chat_v1", "cohere.generate"):
        response = {"text": "", "finish_reason": "ERROR"}
        end = {"event_type": "stream-end", "is_finished": True, "finish_reason": "ERROR", "error": message}
        return "", end | {"response": response}
    family = _family(dialect)
    return "error" if family == "anthropic" else "", _BODIES[family](502, code, message, None)


def _exception_frame(message: str) -> bytes:
    """An exception message of application/vnd.amazon.eventstream, as Bedrock sends it after a 200."""
    from outrider_ext.eventstream import encode

    headers: dict[str, object] = {
        ":exception-type": "internalServerException",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode(headers, orjson.dumps({"message": message}))
