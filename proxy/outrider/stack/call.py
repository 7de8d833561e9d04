"""What the layers share about one request: the Route, decided once and remembered, and the Call, one per request.

Rules: a Route holds what follows from (how it came in, method, path, configuration) alone; a Call holds what this
request adds. A credential is in neither.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outrider.errors import SidecarError
from outrider.providers.model import Operation
from outrider.providers.registry import Binding

if TYPE_CHECKING:
    from outrider.dialects.usage import Usage, UsageReader
    from outrider_ext.relay import Exchange

# A hook returns None to go on, raises SidecarError to refuse, or returns an awaitable when it must wait (rare).
type RequestHook = Callable[["Exchange", "Call"], Awaitable[None] | None]
type AnswerHook = Callable[["Exchange", "Call"], None]
type EndHook = Callable[["Exchange", "Call"], None]


@dataclass(eq=False, slots=True)
class Route:
    """Decided once per (door, destination, method, path).

    destination_host, destination_port: whom the app asked for; the outgoing Host. prefix_bytes: how much of the target
    is our base_url prefix. wants_body, reads_answer: some layer reads that body.
    """

    binding: Binding
    operation: Operation
    known: bool
    model: str | None
    destination_host: str
    destination_port: int
    prefix_bytes: int
    error_dialect: str
    pool: Any
    attempt: Any
    wants_body: bool = False
    reads_answer: bool = False
    request_hooks: tuple[RequestHook, ...] = ()
    body_hooks: tuple[RequestHook, ...] = ()
    answer_hooks: tuple[AnswerHook, ...] = ()
    end_hooks: tuple[EndHook, ...] = ()

    @property
    def provider(self) -> str:
        return self.binding.name


class Call:
    """One request on its way through the layers. What most calls never set stands on the class, where it is free."""

    model: str | None
    stream = False
    strip_usage = False
    reader: "UsageReader | None" = None
    answer_kind = b""
    usage: "Usage | None" = None
    decision = "allow"
    error: SidecarError | None = None
    attempts = 0
    fresh = False
    body_asked = False

    def __init__(self, route: Route, request_id: bytes) -> None:
        self.route = route
        self.request_id = request_id
        self.model = route.model
