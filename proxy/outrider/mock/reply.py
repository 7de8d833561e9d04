"""What a provider emulator is asked and what it says, as values: no sockets, no clock, no waiting.

A provider module is a function `answer(call) -> Whole | Stream`; it raises `Refusal` where the real provider refuses.
The writer (`writer.py`) decides how the bytes leave. JSON is compact except where a provider prints it otherwise.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from .behaviour import NOTHING, Behaviour


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` has no query and keeps its percent-encoding; header names are lower case, `query` is decoded.

    `operation` is the path after the provider's own prefix (`/v1/chat/completions` -> `/chat/completions`).
    `official`: the host is the provider's own, so its own model names and field names are all that it takes.
    """

    provider: str
    method: str
    target: str
    path: str
    operation: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    host: str
    official: bool
    now_s: int
    keys: tuple[str, ...] = ()  # empty: any key in the right slot is good
    behaviour: Behaviour = NOTHING

    @property
    def seed(self) -> str:
        """Ids are drawn from it: equal requests have equal ids. 32 hex digits."""
        return hashlib.sha256(self.target.encode() + b"\0" + self.body).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Whole:
    """A plain answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """A streamed answer: each item of `events` is one event's bytes, framing included.

    `error_event(n)` is what ends a stream that fails after n events.
    """

    events: Iterable[bytes]
    content_type: str
    error_event: Callable[[int], bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


class Refusal(Exception):
    """The provider says no. `kind` and `code` are the provider's own words for it; each dialect renders them."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def dump(value: Any) -> bytes:
    return orjson.dumps(value)


def sse(value: Any, name: str | None = None, end: bytes = b"\n\n") -> bytes:
    """One server-sent event with JSON data."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + dump(value) + end


def bearer(headers: Mapping[str, str]) -> str | None:
    """The key of `Authorization: Bearer KEY`; None without one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def is_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
