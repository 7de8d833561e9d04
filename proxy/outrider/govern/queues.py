"""Where callers wait for a limit: a bounded room, fair by principal, by priority.

Rules
- Whoever came first of a principal goes first; principals of one priority take turns; a higher priority goes first.
- Nobody overtakes: while the next one has to wait, all wait. What comes later joins the room.
- Whoever leaves (its task is cancelled) gives its place up; whoever waited too long is refused.
- An attempt is made in the pass of the loop that found it possible, and what it took stands in the caller's lease, so a
  client that left meanwhile is settled like any other.
Does not know: limits' arithmetic, HTTP.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

RETRY_S = 0.25  # for what nobody announces: a slot freed by another process
_NS = 1_000_000_000


class Ticket:
    """attempt() -> None when admitted, else ns to wait (0: until something comes free); raises to refuse."""

    __slots__ = ("attempt", "future", "is_gone", "principal", "priority")

    def __init__(
        self,
        principal: Any,
        priority: int,
        attempt: Callable[[], int | None],
        is_gone: Callable[[], bool],
        future: "asyncio.Future[None]",
    ) -> None:
        self.principal = principal
        self.priority = priority
        self.attempt = attempt
        self.is_gone = is_gone
        self.future = future


class Room:
    """waiting: how many are in it. cap: how many may be."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.waiting = 0
        # priority -> principal -> its tickets; the principal whose turn it is first
        self._lines: dict[int, OrderedDict[Any, deque[Ticket]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.cap

    async def enter(
        self,
        principal: Any,
        priority: int,
        max_wait_s: float,
        attempt: Callable[[], int | None],
        is_gone: Callable[[], bool],
    ) -> bool:
        """True when admitted, False when it took too long. Raises what `attempt` raises."""
        loop = asyncio.get_running_loop()
        ticket = Ticket(principal, priority, attempt, is_gone, loop.create_future())
        self._lines.setdefault(priority, OrderedDict()).setdefault(principal, deque()).append(ticket)
        self.waiting += 1
        late = loop.call_later(max_wait_s, self._give_up, ticket)
        try:
            self.poke()
            await ticket.future
        except TimeoutError:
            return False
        finally:
            late.cancel()
            self._remove(ticket)
            self.poke()
        return True

    def poke(self) -> None:
        """Something may have come free: let in who can go."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while (ticket := self._next()) is not None:
                if not self._try(ticket):
                    break
        finally:
            self._pumping = False

    def _try(self, ticket: Ticket) -> bool:
        """Whether the next one may be looked at."""
        if ticket.future.done() or ticket.is_gone():
            self._remove(ticket)
            return True
        try:
            wait_ns = ticket.attempt()
        except Exception as exc:  # a refusal of another limit, handed to the one who waits
            self._remove(ticket)
            ticket.future.set_exception(exc)
            return True
        if wait_ns is not None:
            self._arm(wait_ns)
            return False
        self._remove(ticket, served=True)
        ticket.future.set_result(None)
        return True

    def _next(self) -> Ticket | None:
        for priority in sorted(self._lines, reverse=True):
            for line in self._lines[priority].values():
                return line[0]
        return None

    def _remove(self, ticket: Ticket, *, served: bool = False) -> None:
        principals = self._lines.get(ticket.priority)
        line = principals.get(ticket.principal) if principals is not None else None
        if principals is None or line is None or ticket not in line:
            return
        line.remove(ticket)
        self.waiting -= 1
        if not line:
            del principals[ticket.principal]
            if not principals:
                del self._lines[ticket.priority]
        elif served:
            principals.move_to_end(ticket.principal)  # the next turn is another's

    def _give_up(self, ticket: Ticket) -> None:
        if not ticket.future.done():
            ticket.future.set_exception(TimeoutError())

    def _arm(self, wait_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = min(max(wait_ns / _NS, 0.0005), RETRY_S) if wait_ns > 0 else RETRY_S
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.poke()
