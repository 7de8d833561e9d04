"""What a call with several targets borrows: of the limits and budgets of the one that is tried.

Rules
- A target whose limit or budget has nothing left is none for this call; the next one is asked. Where none has, the call
  waits in the first queue that one of their limits has, else it is refused in the words of the first.
- What was borrowed for one target is given back before anything is borrowed for the next: what is settled at the end
  is the one that served. A request that went out stays counted as a request.
- Whatever has to be asked of a store far away is asked in a task; for a hedge nobody asks, it is then not made.

Does not know: how targets are chosen and tried (lanes.dispatcher).
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from outrider.errors import SidecarError
from outrider.govern.limits import Rulebook
from outrider.stack.call import Call, Route
from outrider.stack.limits import Refused, borrow_all, needs_lease, refusal_of, slow_way
from outrider.store.base import NEVER
from outrider_ext.limits import Borrow, Lease, Plan, exchange, give_back, release

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_LEASE_TRIES: Final = 3


class LaterType:
    """It has to be asked of a store far away."""


LATER: Final = LaterType()

type Found = tuple[Plan | None, Refused | SidecarError | None]


class TargetLike(Protocol):
    """What is read of upstream.targets.Target."""

    @property
    def to(self) -> Route: ...
    @property
    def model(self) -> str | None: ...


class Loans:
    """borrow_of(route, planned=True) -> the compiled step that knows the rules of that route's provider."""

    def __init__(self, rules: Rulebook, borrow_of: Callable[..., Borrow]) -> None:
        self._rules = rules
        self._borrow_of = borrow_of
        self._steps: dict[tuple[str, str], Borrow] = {}  # by provider and operation: as many as config and tables have

    # -- before the first try

    def first(self, x: "Exchange", call: Call) -> Awaitable[None] | None:
        """The body's hook. Raises: SidecarError where no target's limits admit the call."""
        plan = call.dispatch
        plan.lender = self
        refused: list[tuple[Any, Found]] = []
        for target in plan.targets:
            found = self._find(x, call, target)
            if found[1] is None:
                _leave_out(plan, refused)
                return None
            if _is_far(found):
                return self._first_slowly(x, call)
            refused.append((target, found))
        return self._none_admits(x, call, refused)

    async def _first_slowly(self, x: "Exchange", call: Call) -> None:
        plan = call.dispatch
        refused: list[tuple[Any, Found]] = []
        for target in plan.targets:
            found = await self._find_slowly(x, call, target)
            if x.ended:
                return
            if found[1] is None:
                _leave_out(plan, refused)
                return
            refused.append((target, found))
        waiting = self._none_admits(x, call, refused)
        if waiting is not None:
            await waiting

    def _none_admits(self, x: "Exchange", call: Call, refused: list[tuple[Any, Found]]) -> Awaitable[None] | None:
        for target, (_, why) in refused:
            if isinstance(why, tuple) and why[0].room is not None and why[1] != NEVER:
                found = self._find(x, call, target)  # its estimates, and its limits' last word
                plan = call.dispatch
                plan.targets = [target, *(other for other in plan.targets if other is not target)]
                plan.lent = target
                call.model = target.model or plan.asked
                if found[1] is None:
                    return None
                if isinstance(found[1], tuple) and found[0] is not None:
                    return slow_way(self._rules, target.to, second=True)(x, call, found[0], found[1])
        target, (_, why) = refused[0]
        assert why is not None
        call.model = target.model or call.dispatch.asked
        if isinstance(why, tuple):
            raise refusal_of(target.to, call, *why, second=True)
        release(call)
        raise why

    # -- from one try to the next

    def take(self, x: "Exchange", call: Call, target: TargetLike) -> SidecarError | LaterType | None:
        """For this target, in place of the one before. None: it is borrowed; an error: it has nothing left."""
        found = self._find(x, call, target)
        return LATER if _is_far(found) else self._told(call, target, found)

    async def take_slowly(self, x: "Exchange", call: Call, target: TargetLike) -> SidecarError | None:
        return self._told(call, target, await self._find_slowly(x, call, target))

    def rival(self, x: "Exchange", call: Call, target: TargetLike) -> Lease | None:
        """What is borrowed for a second target, beside the first; None where its limits do not admit it."""
        mine, model, lent = call.lease, call.model, call.dispatch.lent
        call.lease = None
        try:
            found = self._find(x, call, target)
            lease: Lease = call.lease
        finally:
            call.lease, call.model, call.dispatch.lent = mine, model, lent
        return lease if found[1] is None else None

    def swap(self, call: Call, lease: Lease) -> Lease:
        """The call is served by whom the lease was borrowed for. -> the lease of the other, to be given back."""
        return exchange(call, lease)

    def drop(self, lease: Lease) -> None:
        give_back(lease)

    # -- one target

    def _find(self, x: "Exchange", call: Call, target: TargetLike) -> Found:
        plan = call.dispatch
        plan.lent = None
        before, call.model = call.model, target.model or plan.asked
        try:
            found = self._step(target.to).take(x, call, plan.body, bool(plan.tries))
        except SidecarError as error:  # no price
            call.model = before
            return None, error
        if found[1] is None:
            plan.lent = target
        else:
            call.model = before
        return found

    async def _find_slowly(self, x: "Exchange", call: Call, target: TargetLike) -> Found:
        clock = self._rules.ledger.clock
        found = self._find(x, call, target)
        for _ in range(_LEASE_TRIES):
            plan, why = found
            if plan is None or not isinstance(why, tuple) or not needs_lease(why):
                break
            await borrow_all(plan, why[0], call, clock)
            if x.ended:
                break
            found = self._find(x, call, target)
        return found

    def _told(self, call: Call, target: TargetLike, found: Found) -> SidecarError | None:
        why = found[1]
        if isinstance(why, tuple):
            decision = call.decision
            error = refusal_of(target.to, call, *why, second=False)
            call.decision = decision  # the call may be served yet
            return error
        return why

    def _step(self, to: Route) -> Borrow:
        key = (to.provider, to.operation.name)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._borrow_of(to, planned=True)
        return step


def _is_far(found: Found) -> bool:
    return isinstance(found[1], tuple) and needs_lease(found[1])


def _leave_out(plan: Any, refused: list[tuple[Any, Found]]) -> None:
    """Another target serves the call; their limits have refused it all the same."""
    for _, (_, why) in refused:
        if isinstance(why, tuple):
            why[0].rejected()
    gone = [target for target, _ in refused]
    plan.targets = [target for target in plan.targets if target not in gone]
