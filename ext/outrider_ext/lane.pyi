from collections.abc import Awaitable, Callable
from typing import Any

from outrider_ext.relay import Exchange, Owner, Upstream

class Route:
    resolver: Any
    pool: Any
    attempt: Any
    wants_body: bool
    reads_answer: bool
    request_hooks: tuple[Hook, ...]
    body_hooks: tuple[Hook, ...]
    answer_hooks: tuple[Hook, ...]
    end_hooks: tuple[Hook, ...]
    def __init__(
        self,
        *,
        binding: Any,
        operation: Any,
        known: bool,
        model: str | None,
        destination_host: str,
        destination_port: int,
        prefix_bytes: int,
        error_dialect: str,
        pool: Any,
        method: bytes = b"",
        path: bytes = b"",
        is_front: bool = False,
        resolver: Any = None,
    ) -> None: ...
    @property
    def binding(self) -> Any: ...
    @property
    def operation(self) -> Any: ...
    @property
    def known(self) -> bool: ...
    @property
    def model(self) -> str | None: ...
    @property
    def destination_host(self) -> str: ...
    @property
    def destination_port(self) -> int: ...
    @property
    def prefix_bytes(self) -> int: ...
    @property
    def error_dialect(self) -> str: ...
    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def is_front(self) -> bool: ...
    @property
    def provider(self) -> str: ...

class Call:
    to: Route
    target: Any
    dispatch: Any
    path: bytes | None
    lines: bytes | None
    translation: Any
    translating: Any
    spoken_kind: bytes | None
    answer_lines: bytes | None
    routed: tuple[str | None, str | None] | tuple[str | None, str | None, tuple[str, ...]] | None
    model: str | None
    stream: bool
    max_tokens: int
    strip_usage: bool
    reader: Any
    answer_kind: bytes
    usage: Any
    decision: str
    error: Any
    attempts: int
    fresh: bool
    body_asked: bool
    principal: Any
    key_id: str | None
    document: Any
    rules: tuple[str, ...]
    shadow_rules: tuple[str, ...]
    tags: tuple[str, ...]
    redactions: Any
    lease: Any
    cost_nusd: int | None
    digest: bytes | None
    plan: Any
    needs_body: bool
    redacting: Any
    plain_answer: bool
    redacted: dict[str, int] | None
    head_edits: Any
    cache: bytes | None
    keeping: Any
    stale: Callable[[Exchange, Call], bool] | None
    content: bytes | None
    def __init__(self, route: Route, request_id: bytes) -> None: ...
    def twin(self, suffix: bytes) -> Call: ...
    @property
    def route(self) -> Route: ...
    @property
    def request_id(self) -> bytes: ...

class Hook:
    def __call__(self, x: Exchange, call: Call) -> Awaitable[None] | None: ...

class PlainHook(Hook):
    def __init__(self, function: Callable[[Exchange, Call], Awaitable[None] | None]) -> None: ...

class Sender:
    needs_body: bool
    def build(self, x: Exchange, call: Call, body: bytes | None) -> tuple[bytes, bytes | None]: ...

class Lane(Owner):
    router: Any
    held_body_bytes: int
    def __init__(self, desk: Any, router: Any, id_prefix: bytes, held_body_bytes: int) -> None: ...
    def resume(self, x: Exchange, call: Call, stage: int) -> None: ...
    def reroute(self, x: Exchange, call: Call, route: Route) -> None: ...
    def dispatch(self, x: Exchange, call: Call) -> None: ...
    def send(self, x: Exchange, call: Call, connection: Upstream) -> None: ...
    def race(self, x: Exchange, call: Call, to: Route, connection: Upstream) -> bool: ...
