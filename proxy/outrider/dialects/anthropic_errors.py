"""Errors as Anthropic writes them. Does not know: HTTP."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json
from outrider.dialects.canonical import ProviderError
from outrider.dialects.errors import kind_of
from outrider.dialects.openai_errors import MESSAGE_MAX, message_of

__all__ = ["error_of", "read", "written"]

_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "billing": "billing_error",
        "permission": "permission_error",
        "not_found": "not_found_error",
        "timeout": "timeout_error",
        "conflict": "invalid_request_error",
        "too_large": "request_too_large",
        "rate_limit": "rate_limit_error",
        "overloaded": "overloaded_error",
        "server": "api_error",
    }
)
_KINDS: Final = MappingProxyType({name: kind for kind, name in reversed(tuple(_TYPES.items()))})


def read(status: int, body: bytes) -> ProviderError:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is not dict:
        return ProviderError(status, kind_of(status), message_of(status, body))
    return error_of(status, value)


def error_of(status: int, value: Json) -> ProviderError:
    inner = value.get("error")
    inner = inner if type(inner) is dict else value
    message, native = inner.get("message"), inner.get("type")
    native = native[:256] if type(native) is str else None
    if type(message) is not str:
        message = f"The provider answered with status {status}."
    return ProviderError(status, _KINDS.get(native or "") or kind_of(status), message[:MESSAGE_MAX], native)


def written(error: ProviderError) -> Json:
    return {
        "type": "error",
        "error": {"type": _TYPES.get(error.kind, "api_error"), "message": error.message},
        "request_id": None,
    }
