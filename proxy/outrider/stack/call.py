"""What the layers share about one request: the Route, decided once and remembered, and the Call, one per request.

Rules: a Route holds what follows from (how it came in, method, path, configuration) alone; a Call holds what this
request adds. A credential is in neither. Both are compiled (outrider_ext.lane), as is the way of a hook that is called
for every exchange (outrider_ext.layers).
"""

from collections.abc import Awaitable, Callable

from outrider_ext.lane import Call, Hook, Lane, PlainHook, Route
from outrider_ext.relay import Exchange

__all__ = ["Call", "Hook", "LayerHook", "PlainHook", "Route", "Taken"]


class Taken:
    """What a request's hook returns, or what it has waited for gives, when the exchange is answered by somebody else:
    no hook that follows runs, and nothing is sent, unless park's `lane.resume(x, call, stage)` says so later."""

    def park(self, lane: Lane, stage: int) -> None:
        """The exchange rests before hook number `stage`."""


# What a layer returns for a route. It returns None to go on, raises SidecarError to refuse, or returns an awaitable
# when it must wait (rare; request and body only), or that it has taken the exchange.
type LayerHook = Hook | Callable[[Exchange, Call], Awaitable[Taken | None] | Taken | None]
