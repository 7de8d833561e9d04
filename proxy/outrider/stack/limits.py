"""`limits:` and `budgets:` at the request and at the end: the cheapest refusal, before the body, and the settling.

Rules: all rows of a plan admit, or none is charged; what a call took at the request is given back when it is refused at
its body; tokens, dollars and slots are settled once, at the end, whatever the end was. The usual way is compiled
(outrider_ext.limits); here stand the refusals' sentences, and what waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from outrider.errors import BudgetExceededError, LimitTooSmallError, RateLimitedError, SidecarError
from outrider.govern.limits import Rulebook, counts_tokens
from outrider.govern.principal import ANONYMOUS
from outrider.stack.call import Call, LayerHook, Route
from outrider.store.base import NEEDS_LEASE, NEVER, NO_ANSWER
from outrider_ext.counters import ForeignCounter
from outrider_ext.limits import Admit, BudgetRow, Clock, Plan, RateRow, Row, Settle, SlotRow, TokenRow, admit, release

if TYPE_CHECKING:
    from outrider.store.base import Counter as StoreCounter
    from outrider.store.leases import LeasedSlots, LeasedSpend
    from outrider_ext.relay import Exchange

SLOT_RETRY_MS = 1000  # when one comes free nobody knows
STORE_RETRY_MS = 1000
_ASK_AGAIN_NS = 1_000_000
_LEASE_TRIES = 3
_MAX_RETRY_MS = 31 * 86_400_000
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}

type Refused = tuple[Row, int]
type Slow = Callable[["Exchange", Call, Plan, Refused | None], Awaitable[None]]


class Limits:
    """The filter. is_planned(route): whether calls of it may be served by several targets."""

    def __init__(self, rules: Rulebook, is_planned: Callable[[Route], bool] = lambda route: False) -> None:
        self._rules = rules
        self._is_planned = is_planned

    def request(self, route: Route) -> LayerHook | None:
        rules, provider, operation = self._rules, route.provider, route.operation.name
        planned = self._is_planned(route)
        if not rules.has_entry_rules(provider, planned=planned):
            return None
        return Admit(
            rules.ledger.clock,
            rules.table("entry", provider, operation, planned=planned),
            lambda principal: rules.entry_plan(provider, operation, principal, planned=planned),
            slow_way(rules, route, second=False),
            ANONYMOUS,
        )

    def end(self, route: Route) -> LayerHook | None:
        counts = counts_tokens(route.operation)
        rules, provider, planned = self._rules, route.provider, self._is_planned(route)
        if not rules.has_entry_rules(provider, planned=planned) and not rules.has_body_rules(
            provider, counts=counts, planned=planned
        ):
            return None
        return Settle(rules.ledger.clock, counts)


# -- what is not usual


def slow_way(rules: Rulebook, route: Route, *, second: bool, queues: bool = True) -> Slow:
    """What a stage does with a call that was not admitted at once: refuse it, or let it wait. queues: in one, too."""

    def slow(x: "Exchange", call: Call, plan: Plan, refused: Refused | None) -> Awaitable[None]:
        if refused is None or needs_lease(refused) or (refused[0].room is not None and refused[1] != NEVER):
            return _wait(rules, route, x, call, plan, refused, second=second, queues=queues)
        raise refusal_of(route, call, *refused, second=second)

    return slow


async def _wait(
    rules: Rulebook,
    route: Route,
    x: "Exchange",
    call: Call,
    plan: Plan,
    refused: Refused | None,
    *,
    second: bool,
    queues: bool,
) -> None:
    clock = rules.ledger.clock

    def attempt() -> int | None:
        nonlocal refused
        refused = admit(plan, x, call, clock, second, monotonic_ns())
        if refused is None:
            return None
        row, wait_ns = refused
        if isinstance(row, BudgetRow) and wait_ns == NEEDS_LEASE:
            return _ASK_AGAIN_NS  # its period has just begun
        if row.room is None or wait_ns == NEVER:
            raise refusal_of(route, call, row, wait_ns, second=second)
        return max(wait_ns, 0)

    for _ in range(_LEASE_TRIES):
        if refused is None or not needs_lease(refused):
            break
        await borrow_all(plan, refused[0], call, clock)
        if x.ended:
            return
        refused = admit(plan, x, call, clock, second, monotonic_ns())
        if refused is None:
            return
    row = refused[0] if refused is not None else next(row for row in plan.rows if row.room is not None)
    if row.room is None or not queues or (refused is not None and refused[1] == NEVER):
        raise refusal_of(route, call, row, refused[1] if refused is not None else 0, second=second)
    await _queue(rules, route, x, call, row, attempt, second=second)


async def _queue(
    rules: Rulebook,
    route: Route,
    x: "Exchange",
    call: Call,
    row: Row,
    attempt: Callable[[], int | None],
    *,
    second: bool,
) -> None:
    """Raises: RateLimitedError where the room is full, or the wait took too long."""
    queue, room, metrics = row.rule.on_exceed.queue, row.room, rules.ledger.metrics
    principal = call.principal if call.principal is not None else ANONYMOUS
    if room.is_full:
        raise refusal_of(route, call, row, 0, second=second, why=f"and {room.cap} callers wait for it already")
    metrics.limits.add((row.name, "queue"))
    began_ns = monotonic_ns()
    try:
        admitted = await room.enter(
            principal, queue.priority_of(principal), queue.max_wait_s, attempt, lambda: bool(x.ended)
        )
    finally:
        metrics.limit_wait.of((row.name,)).observe((monotonic_ns() - began_ns) / 1e9)
    if not admitted and not x.ended:
        raise refusal_of(
            route, call, row, 0, second=second, why=f"and a place did not come free in {queue.max_wait_s:g} s"
        )


def needs_lease(refused: Refused) -> bool:
    row, wait_ns = refused
    return wait_ns == NEEDS_LEASE or (isinstance(row, SlotRow) and bool(getattr(row.slots, "needs_lease", False)))


async def borrow_all(plan: Plan, row: Row, call: Call, clock: Clock) -> None:
    """For the row that needs it, and for all sums that are not known, so that nobody waits for one after the other."""
    now_ns = clock.steady(monotonic_ns())
    rows = [row]
    for budget in plan.budgets:
        doubt = getattr(budget.spend, "doubt", None)
        if budget is not row and doubt is not None and budget.denies:
            budget.spent_at(clock.wall(monotonic_ns()))  # the row turns to its period
            rows += [budget] if doubt(budget.period) == NEEDS_LEASE else []
    await asyncio.gather(*(_borrow(one, call, now_ns) for one in rows))


async def _borrow(row: Row, call: Call, now_ns: int) -> None:
    if isinstance(row, SlotRow):
        await cast("LeasedSlots", row.slots).borrow()
        return
    if isinstance(row, BudgetRow):
        await cast("LeasedSpend", row.spend).borrow(now_ns, 0)
        return
    assert isinstance(row, RateRow | TokenRow)
    counter = row.counter
    cost = 1 if isinstance(row, RateRow) else row.wanted(call.lease)
    assert isinstance(counter, ForeignCounter)
    await cast("StoreCounter", counter.counter).borrow(now_ns, cost)


def refusal_of(route: Route, call: Call, row: Row, wait_ns: int, *, second: bool, why: str = "") -> SidecarError:
    if second:
        release(call)
    row.rejected()
    call.decision = row.name
    retry_ms = min(max(1, -(-wait_ns // 1_000_000)), _MAX_RETRY_MS)
    if isinstance(row, BudgetRow) and wait_ns in (NO_ANSWER, NEEDS_LEASE):
        return RateLimitedError(
            f"what budget {row.name} of the sidecar has spent is not known while the store of state.url does not "
            f"answer, and on_store_error is deny; try again in {_shown(STORE_RETRY_MS)}",
            STORE_RETRY_MS,
        )
    if isinstance(row, BudgetRow):
        amount = row.rule.tokens if row.in_tokens else row.rule.usd
        unit = "tokens" if row.in_tokens else "US$"
        return BudgetExceededError(
            f"budget {row.name} of the sidecar ({amount.amount} {unit} a {amount.unit}) is spent for {route.provider}; "
            f"it begins anew in {_shown(retry_ms)}",
            retry_ms,
        )
    if isinstance(row, SlotRow):
        sentence = f"limit {row.name} of the sidecar ({row.rule.concurrent} at once) is reached for {route.provider}"
        return RateLimitedError(_ended(sentence, why, SLOT_RETRY_MS), SLOT_RETRY_MS)
    rate = row.rule.requests if isinstance(row, RateRow) else row.rule.tokens
    told = f"{rate.count} {row.what} a {_UNITS[rate.period_s]}"
    sentence = f"limit {row.name} of the sidecar ({told}) is reached for {route.provider}"
    if wait_ns == NEVER and isinstance(row, TokenRow):
        return LimitTooSmallError(
            f"this call may take {row.wanted(call.lease)} tokens, more than limit {row.name} of the sidecar "
            f"ever admits at once ({row.burst}); ask for a lower max_tokens",
            rate.period_s * 1000,
        )
    return RateLimitedError(_ended(sentence, why, retry_ms if wait_ns > 0 else 1000), retry_ms if wait_ns > 0 else 1000)


def _ended(sentence: str, why: str, retry_ms: int) -> str:
    return f"{sentence}{', ' + why if why else ''}; try again in {_shown(retry_ms)}"


def _shown(wait_ms: int) -> str:
    return f"{wait_ms / 1000:.3g} s" if wait_ms < 7_200_000 else f"{wait_ms / 3_600_000:.3g} h"
