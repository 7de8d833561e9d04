"""What the layers share about one request: the Route, decided once and remembered, and the Call, one per request.

Rules: a Route holds what follows from (how it came in, method, path, configuration) alone; a Call holds what this
request adds. A credential is in neither. Both are compiled (outrider_ext.lane), as is the way of a hook that is called
for every exchange (outrider_ext.layers).
"""

from collections.abc import Awaitable, Callable

from outrider_ext.lane import Call, Hook, Lane, PlainHook, Route
from outrider_ext.relay import Exchange

__all__ = ["Answered", "Call", "Hook", "LayerHook", "Parked", "PlainHook", "Route", "Taken", "behind"]


class Taken:
    """What a request's hook returns, or what it has waited for gives, when the exchange is answered by somebody else:
    no hook that follows runs, and nothing is sent, unless park's `lane.resume(x, call, stage)` says so later."""

    def park(self, lane: Lane, stage: int) -> None:
        """The exchange rests before hook number `stage`."""


class Parked(Taken):
    """One that waits for what another's call brings; it is the exchange's `waiter` until it is given something."""

    def __init__(self, x: Exchange, call: Call) -> None:
        self.x, self.call = x, call
        self.lane: Lane | None = None
        self._stage = 0

    def park(self, lane: Lane, stage: int) -> None:
        self.lane, self._stage = lane, stage
        if not self.x.ended:
            self.x.waiter = self
            self.arrived()

    def arrived(self) -> None:
        """It waits now."""

    def cancel(self) -> None:
        """The app left while it waited."""

    def go_on(self) -> None:
        """On its own way."""
        if self.x.waiter is self:
            self.x.waiter = None
        if self.lane is not None and not self.x.ended:
            self.lane.resume(self.x, self.call, self._stage)


class Answered(Taken):
    """A whole answer of ours, of JSON. lines: further fields of its head."""

    def __init__(self, x: Exchange, call: Call, body: bytes, lines: bytes = b"") -> None:
        self._x, self._call, self._body, self._lines = x, call, body, lines

    def park(self, lane: Lane, stage: int) -> None:
        x = self._x
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-outrider-request-id: %b\r\n"
            b"%bcontent-length: %d\r\n%b\r\n"
            % (self._call.request_id, self._lines, len(self._body), b"connection: close\r\n" if x.must_close else b"")
        )
        x.answer(head if x.method == b"HEAD" else head + self._body, 200)


type Change = Callable[[Exchange, bytes, bool], bytes]


def behind(x: Exchange, change: Change) -> None:
    """change(x, piece, is_last) gets what all that changes this answer so far makes of it."""
    whole, pipe, run, end = x.whole, x.pipe, x.rewrite, x.rewrite_end
    if whole is not None:
        x.whole = lambda x, body: change(x, whole(x, body), True)
    elif pipe is not None:
        x.pipe = lambda x, data, is_last: change(x, pipe(x, data, is_last), is_last)
    elif run is not None and end is not None:
        x.rewrite = lambda x, data: change(x, run(x, data), False)
        x.rewrite_end = lambda x, rest: change(x, end(x, rest), True)


# What a layer returns for a route. It returns None to go on, raises SidecarError to refuse, or returns an awaitable
# when it must wait (rare; request and body only), or that it has taken the exchange.
type LayerHook = Hook | Callable[[Exchange, Call], Awaitable[Taken | None] | Taken | None]
