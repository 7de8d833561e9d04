"""Errors as OpenAI and who speaks like it write them, in bodies and in streams.

Rules
- Whatever the bytes are, an error comes of them; what a page of HTML says is not shown.
- A message is bounded.

Does not know: HTTP's own headers, when to retry.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json
from outrider.dialects.canonical import ProviderError
from outrider.dialects.errors import kind_of

__all__ = ["MESSAGE_MAX", "error_of", "message_of", "read", "written"]

MESSAGE_MAX: Final = 4000  # letters

# OpenAI's own words, where a status says less or there is none (in a stream)
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_request_error": "invalid_request",
        "authentication_error": "authentication",
        "invalid_api_key": "authentication",
        "permission_error": "permission",
        "not_found_error": "not_found",
        "rate_limit_error": "rate_limit",
        "rate_limit_exceeded": "rate_limit",
        "tokens": "rate_limit",
        "requests": "rate_limit",
        "insufficient_quota": "billing",
        "server_error": "server",
        "timeout_error": "timeout",
        "overloaded_error": "overloaded",
        "service_unavailable_error": "overloaded",
    }
)
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "authentication": "authentication_error",
        "permission": "permission_error",
        "timeout": "timeout_error",
        "rate_limit": "rate_limit_error",
        "billing": "insufficient_quota",
        "server": "server_error",
        "overloaded": "server_error",
    }
)


def message_of(status: int, body: bytes) -> str:
    """A sentence where the body holds no JSON with one."""
    said = body[: MESSAGE_MAX * 4].decode("utf-8", "replace").strip()
    if not said or said.startswith("<"):
        return f"The provider answered with status {status}."
    return said[:MESSAGE_MAX]


def read(status: int, body: bytes) -> ProviderError:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is list and value:  # Google's OpenAI-compatible API wraps it in a list
        value = value[0]
    if type(value) is not dict:
        return ProviderError(status, kind_of(status), message_of(status, body))
    return error_of(status, value)


def error_of(status: int, value: Json) -> ProviderError:
    """value: the whole body or event."""
    inner = value.get("error", value)
    if type(inner) is not dict:
        inner = {"message": inner}
    message = inner.get("message") or inner.get("detail") or value.get("message") or value.get("detail")
    if type(message) is not str:
        message = orjson.dumps(message).decode() if message else f"The provider answered with status {status}."
    native, code = _word(inner.get("type")), _word(inner.get("code"))
    kind = _KINDS.get(code or "") or (kind_of(status) if status else _KINDS.get(native or "", "server"))
    return ProviderError(status, kind, message[:MESSAGE_MAX], native, _word(inner.get("param")), code)


def _word(value: Any) -> str | None:
    if type(value) is int:
        return str(value)
    return value[:256] if type(value) is str else None


def written(error: ProviderError) -> Json:
    kind = _TYPES.get(error.kind, "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
