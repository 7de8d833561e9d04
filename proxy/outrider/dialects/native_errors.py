"""Errors of the providers that do not speak OpenAI's or Anthropic's way: Google, AWS, Cohere, Ollama.

Rules
- Whatever the bytes are, reading gives an error: a page of HTML becomes a sentence with the status.
- A message is cut at MESSAGE_MAX characters; what else the body holds stays there.
- The status decides the kind; where there is none (an error inside a stream), the provider's own word does.

Does not know: streams' framing.
Source: google.rpc.Status, botocore's rest-json parser, docs.cohere.com, ollama docs/api.md.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json
from outrider.dialects.canonical import ErrorEvent, ProviderError
from outrider.dialects.errors import KINDS, kind_of

__all__ = [
    "aws_exception", "broken_off", "cut", "error_of_aws", "error_of_cohere", "error_of_google", "error_of_ollama", "google_error",
    "written_aws", "written_cohere", "written_google", "written_ollama",
]  # fmt: skip

MESSAGE_MAX: Final = 4096

_GOOGLE_STATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "INVALID_ARGUMENT": "invalid_request",
        "FAILED_PRECONDITION": "invalid_request",
        "OUT_OF_RANGE": "invalid_request",
        "UNAUTHENTICATED": "authentication",
        "PERMISSION_DENIED": "permission",
        "NOT_FOUND": "not_found",
        "ABORTED": "conflict",
        "ALREADY_EXISTS": "conflict",
        "RESOURCE_EXHAUSTED": "rate_limit",
        "UNAVAILABLE": "overloaded",
        "DEADLINE_EXCEEDED": "timeout",
        "INTERNAL": "server",
    }
)
# The first of a kind is the one that is written for it.
_GOOGLE_BACK: Final = {kind: state for state, kind in reversed(_GOOGLE_STATES.items())} | {
    "too_large": "INVALID_ARGUMENT",
    "billing": "PERMISSION_DENIED",
}
# An exception's name without its ending, lower case -> kind. Streams spell them throttlingException.
_AWS_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "validation": "invalid_request",
        "unrecognizedclient": "authentication",
        "expiredtoken": "authentication",
        "invalidsignature": "authentication",
        "accessdenied": "permission",
        "resourcenotfound": "not_found",
        "conflict": "conflict",
        "throttling": "rate_limit",
        "modelnotready": "overloaded",  # says 429, and means that the model is being loaded
        "servicequotaexceeded": "rate_limit",  # says 400, and means a quota
        "serviceunavailable": "overloaded",
        "modeltimeout": "timeout",
        "modelerror": "server",
        "modelstreamerror": "server",
        "internalserver": "server",
    }
)
_AWS_BACK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_request": "ValidationException",
        "authentication": "UnrecognizedClientException",
        "billing": "AccessDeniedException",
        "permission": "AccessDeniedException",
        "not_found": "ResourceNotFoundException",
        "timeout": "ModelTimeoutException",
        "conflict": "ConflictException",
        "too_large": "ValidationException",
        "rate_limit": "ThrottlingException",
        "overloaded": "ServiceUnavailableException",
        "server": "InternalServerException",
    }
)
# A stream knows five exceptions only.
_AWS_STREAM: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_request": "validationException",
        "too_large": "validationException",
        "rate_limit": "throttlingException",
        "overloaded": "serviceUnavailableException",
        "server": "modelStreamErrorException",
    }
)


def cut(message: Any) -> str:
    return message[:MESSAGE_MAX] if type(message) is str else ""


CUT_OFF: Final = "The provider's stream ended before its answer was whole."


def broken_off(message: str = CUT_OFF) -> ErrorEvent:
    """A stream that ended, or went on, in a way that it may not."""
    return ErrorEvent(ProviderError(0, "server", message, code="stream_cut"))


def _object(body: bytes) -> Json:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if type(value) is list and value:  # Google's, where a stream was asked for as an array
        value = value[0]
    return value if type(value) is dict else {}


def _sentence(status: int) -> str:
    return f"The provider answered with status {status}." if status else "The provider reported an error."


# -- Google


def error_of_google(status: int, body: bytes) -> ProviderError:
    return google_error(status, _object(body))


def google_error(status: int, holder: Json) -> ProviderError:
    inner = holder.get("error")
    error: Json = inner if type(inner) is dict else {}
    code = error.get("code")
    if not status and type(code) is int and 400 <= code < 600:
        status = code
    native = error.get("status")
    native = native if type(native) is str else None
    kind = kind_of(status) if status else _GOOGLE_STATES.get(native or "", "server")
    details = error.get("details")
    message = cut(error.get("message")) or (cut(inner) or _sentence(status))
    return ProviderError(status, kind, message, native, rest={"details": details} if details else None)


def written_google(error: ProviderError) -> Json:
    status = error.status or KINDS.get(error.kind, 500)
    state = error.native if error.native in _GOOGLE_STATES else _GOOGLE_BACK.get(error.kind, "INTERNAL")
    made: Json = {"code": status, "message": error.message, "status": state}
    if error.native in _GOOGLE_STATES and error.rest and "details" in error.rest:
        made["details"] = error.rest["details"]
    return {"error": made}


# -- AWS


def error_of_aws(status: int, body: bytes, name: str = "") -> ProviderError:
    """name: the exception's, where something beside the body says it (a frame's header)."""
    holder = _object(body)
    native = name or cut(holder.get("__type")) or cut(holder.get("code"))
    native = native.rpartition("#")[2].partition(":")[0]
    message = cut(holder.get("message")) or cut(holder.get("Message")) or _sentence(status)
    kind = _AWS_KINDS.get(native.lower().removesuffix("exception")) or kind_of(status)
    return ProviderError(status, kind, message, native or None)


def written_aws(error: ProviderError) -> Json:
    """botocore reads the exception's name from a header or, as here, from the body."""
    own = error.native if error.native and error.native.lower().removesuffix("exception") in _AWS_KINDS else None
    return {"__type": own or _AWS_BACK.get(error.kind, "InternalServerException"), "message": error.message}


def aws_exception(error: ProviderError) -> str:
    """The name of the exception frame that says it."""
    return _AWS_STREAM.get(error.kind, "internalServerException")


# -- Cohere and Ollama


def error_of_cohere(status: int, body: bytes) -> ProviderError:
    holder = _object(body)
    rest = {name: value for name, value in holder.items() if name not in ("message", "id")}
    return ProviderError(status, kind_of(status), cut(holder.get("message")) or _sentence(status), rest=rest or None)


def written_cohere(error: ProviderError) -> Json:
    return {"message": error.message}


def error_of_ollama(status: int, body: bytes) -> ProviderError:
    return ProviderError(status, kind_of(status), cut(_object(body).get("error")) or _sentence(status))


def written_ollama(error: ProviderError) -> Json:
    return {"error": error.message}
