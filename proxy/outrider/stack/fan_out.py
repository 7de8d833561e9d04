"""One call that its target takes as several: embeddings of more inputs than it takes a call.

Rules
- For the app, the limits, the rules and the records it is one exchange: the parts have no layers of their own, and what
  each used, as the provider counts it, is added up and is what the call used.
- A few parts are under way at a time, and there is a most of them. Their answers are joined in the order of the parts,
  whichever came first; what is held of them is bounded.
- One part that fails fails the whole, with that part's answer, and the others are given up; then the target is tried
  anew, or another one, as for any failed answer. What the parts before it used stays charged to a call that failed.
- An app that leaves ends all of them.
Does not know: what is joined (`Form` of stack.translate), why a target takes so few.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from outrider.dialects.usage import READERS, Usage
from outrider.errors import SidecarError, UpstreamBrokenError
from outrider.stack.call import Call, PlainHook, Route
from outrider.stack.replay import Whole, whole_wire
from outrider_ext import http1
from outrider_ext.relay import OK

if TYPE_CHECKING:
    from outrider_ext.lane import Lane
    from outrider_ext.relay import Exchange

MOST_PARTS: Final = 96
AT_ONCE: Final = 4
PART_BYTES: Final = 262_144  # of one answer
WHOLE_BYTES: Final = 16 << 20  # of all of them

_H_ENCODING: Final = http1.header_id(b"content-encoding")
_KEPT: Final = (b"content-type", b"retry-after", b"retry-after-ms", b"x-amzn-errortype", b"x-amzn-requestid")


class Part:
    """One call; it is its Call's `target`. lines: what is kept of its answer's head."""

    __slots__ = ("call", "fan", "index", "lines", "pieces", "size_bytes", "usage", "x")

    def __init__(self, fan: "FanOut", index: int, x: "Exchange", call: Call) -> None:
        self.fan, self.index, self.x, self.call = fan, index, x, call
        self.lines = b""
        self.pieces: list[bytes] = []
        self.size_bytes = 0
        self.usage: Usage | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def take(self, x: "Exchange", piece: bytes) -> None:
        self.size_bytes += len(piece)
        if self.size_bytes <= PART_BYTES:
            self.pieces.append(piece)


class FanOut:
    """Of one attempt of a call; while it lasts it is the exchange's `waiter`.

    bodies: of the parts. failed(error): nothing of an answer is there. `call.dispatch` learns what all used (`used`)
    and how many bytes were joined (`joined_bytes`).
    """

    def __init__(
        self,
        lane: "Lane",
        x: "Exchange",
        call: Call,
        bodies: Sequence[bytes],
        failed: Callable[[SidecarError], None],
    ) -> None:
        self._lane, self._x, self._call, self._bodies, self._failed = lane, x, call, bodies, failed
        self._route = _route_of(call.to)
        self._reader = READERS.get(call.to.operation.usage)
        self._open: dict[int, Part] = {}
        self._done: dict[int, Part] = {}
        self._next = self._held_bytes = 0
        self._sent_ns = 0
        self._over = False

    def begin(self) -> None:
        self._x.waiter = self
        self._call.attempts += 1
        self._fill()

    def cancel(self) -> None:
        """The app left, or it took too long."""
        self._stop()

    # -- sending

    def _fill(self) -> None:
        while not self._over and self._next < len(self._bodies) and len(self._open) < AT_ONCE:
            index, self._next = self._next, self._next + 1
            x, own = self._x.twin(), self._call.twin(b"-%d" % (index + 1))
            own.to, own.document, own.plain_answer = self._route, None, True
            x.body, x.state = self._bodies[index], own
            own.target = self._open[index] = Part(self, index, x, own)
            self._lane.dispatch(x, own)

    def _stop(self) -> None:
        self._over = True
        if self._done:
            self._call.usage = self._used(list(self._done.values()))
        left, self._open = self._open, {}
        for part in left.values():
            waiter, part.x.waiter = part.x.waiter, None
            if waiter is not None:
                waiter.cancel()
            part.x.abort("not waited for")

    # -- what comes back, as hooks of the parts' route

    def answered(self, part: Part) -> None:
        x = part.x
        head = x.answer_head
        found = [(name, head.get_name(name)) for name in _KEPT]
        part.lines = b"".join(b"%b: %b\r\n" % (name, value) for name, value in found if value is not None)
        reader = self._reader
        if reader is not None and x.status == 200 and reader.header_names:
            part.usage = reader.read_headers(
                {name: value for name in reader.header_names if (value := head.get_name(name)) is not None}
            )
        coding = head.get(_H_ENCODING)
        if coding is None or coding.lower() == b"identity":
            x.sink = part.take
        else:
            part.size_bytes = PART_BYTES + 1

    def ended(self, part: Part) -> None:
        if self._over or self._x.ended:
            return
        del self._open[part.index]
        x, error = part.x, part.call.error
        self._held_bytes += part.size_bytes
        name = self._call.to.destination_host
        if error is None and x.outcome != OK:
            error = UpstreamBrokenError(f"{name} closed the connection in the middle of its answer")
        if error is None and (part.size_bytes > PART_BYTES or self._held_bytes > WHOLE_BYTES):
            error = UpstreamBrokenError(
                f"the answer of {name} is too large, or encoded: it cannot be joined with others"
            )
        if error is not None:
            self._stop()
            self._x.waiter = None
            self._failed(error)
        elif x.status != 200:
            self._stop()
            self._give(x.status, part.lines, part.body)
        else:
            self._take(part)

    def _take(self, part: Part) -> None:
        if part.usage is None and self._reader is not None:
            part.usage = self._reader.read_body(part.body)
        self._done[part.index] = part
        self._sent_ns = self._sent_ns or part.x.sent_ns
        if len(self._done) < len(self._bodies):
            self._fill()
            return
        self._over = True
        parts = [self._done[index] for index in range(len(self._bodies))]
        plan = self._call.dispatch
        body = joined([one.body for one in parts])
        plan.used, plan.joined_bytes = self._used(parts), len(body)
        self._give(200, b"content-type: application/json\r\n", body)

    def _used(self, parts: Sequence[Part]) -> Usage | None:
        """None where one of them did not tell."""
        told = [part.usage for part in parts if part.usage is not None]
        if len(told) < len(parts):
            return None
        return Usage(sum(one.input_tokens for one in told), sum(one.output_tokens for one in told))

    def _give(self, status: int, lines: bytes, body: bytes) -> None:
        Whole(self._x.client.hub, whole_wire(status, lines, body)).begin(self._x, self._sent_ns)


def joined(bodies: Sequence[bytes]) -> bytes:
    """What is given in place of the answers: `{"parts": […]}`, each as it came."""
    return b'{"parts":[%b]}' % b",".join(bodies)


def _route_of(to: Route) -> Route:
    """The same way to the provider, without the layers."""
    route = Route(
        binding=to.binding,
        operation=to.operation,
        known=to.known,
        model=to.model,
        destination_host=to.destination_host,
        destination_port=to.destination_port,
        prefix_bytes=to.prefix_bytes,
        error_dialect=to.error_dialect,
        pool=to.pool,
        method=to.method,
        path=to.path,
    )
    route.attempt = to.attempt
    route.answer_hooks, route.end_hooks = _ANSWERED, _ENDED
    return route


def _answered(x: "Exchange", call: Call) -> None:
    part: Part = call.target
    part.fan.answered(part)


def _ended(x: "Exchange", call: Call) -> None:
    part: Part = call.target
    call.target = None  # else the two would hold each other
    part.fan.ended(part)


_ANSWERED: Final = (PlainHook(_answered),)
_ENDED: Final = (PlainHook(_ended),)

__all__ = ["MOST_PARTS", "FanOut", "joined"]
