"""What the layers share about one request: the Route, decided once and remembered, and the Call, one per request.

Rules: a Route holds what follows from (how it came in, method, path, configuration) alone; a Call holds what this
request adds. A credential is in neither. Both are compiled (outrider_ext.lane), as is the way of a hook that is called
for every exchange (outrider_ext.layers).
"""

from collections.abc import Awaitable, Callable

from outrider_ext.lane import Call, Hook, PlainHook, Route
from outrider_ext.relay import Exchange

__all__ = ["Call", "Hook", "LayerHook", "PlainHook", "Route"]

# What a layer returns for a route. It returns None to go on, raises SidecarError to refuse, or returns an awaitable
# when it must wait (rare; request and body only).
type LayerHook = Hook | Callable[[Exchange, Call], Awaitable[None] | None]
