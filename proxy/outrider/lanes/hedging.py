"""A second target for a call whose first one is late: both are asked, and who answers first serves it.

Rules
- Of an attempt one hedge at most, of calls that leave nothing behind at a provider, and of a share of all calls.
- Each connection is sent the head and the credential of its own target, and of no other.
- Of two the one that fails first is the rival from then on; who comes second is dropped, what was borrowed for it is
  given back, and what it read is counted as cost.
Does not know: what is done once a target has answered (lanes.dispatcher).
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from outrider.govern.provider_limits import retry_after_s
from outrider.lanes.outcomes import REFUSED, Outcomes, is_refusal
from outrider.stack.call import Call
from outrider.telemetry.metrics import Metrics
from outrider.upstream.plans import Plan
from outrider.upstream.targets import Target

if TYPE_CHECKING:
    from outrider_ext.lane import Lane
    from outrider_ext.relay import Exchange, Upstream

_LOOK_AGAIN_S: Final = 0.01


class Hedging:
    """races, lost: what the relay asks while two connections are waited for."""

    def __init__(
        self,
        lane: "Lane",
        metrics: Metrics,
        spawn: Callable[..., Any],
        told: Outcomes,
        clock: Callable[[], int],
    ) -> None:
        self._lane = lane
        self._metrics = metrics
        self._spawn = spawn
        self._told = told
        self._clock = clock

    @staticmethod
    def is_possible(plan: Plan) -> bool:
        return plan.group.hedge is not None and len(plan.targets) > 1 and not plan.needs.stateful

    def arm(self, x: "Exchange", call: Call, plan: Plan, target: Target) -> None:
        hedge = plan.group.hedge
        assert hedge is not None
        after_ms = hedge.after_ms if hedge.after_ms is not None else target.health.p90_ms
        if after_ms is not None:
            after_s = max(after_ms, hedge.min_after_ms) / 1000
            plan.hedge_timer = _later(after_s, self._hedge, x, call, plan)

    def _hedge(self, x: "Exchange", call: Call, plan: Plan) -> None:
        plan.hedge_timer = None
        now_ns = self._clock()
        if x.ended or plan.settled:
            return
        if x.upstream is None:  # it still waits for a connection: it is not late yet
            plan.hedge_timer = _later(_LOOK_AGAIN_S, self._hedge, x, call, plan)
            return
        others = [target for target in plan.targets if target is not plan.current and target.is_usable(now_ns)]
        assert plan.group.hedges is not None
        if not others or plan.attempts >= plan.group.retry.attempts or not plan.group.hedges.take(now_ns):
            return
        rival = others[0]
        if plan.lender is not None:
            plan.rival_lease = plan.lender.rival(x, call, rival)
            if plan.rival_lease is None:
                return
        plan.rival = rival
        plan.rival_probe = rival.health.breaker.began(now_ns)
        plan.tries[rival.name] = plan.tries.get(rival.name, 0) + 1
        rival.health.in_flight += 1
        self._metrics.count("hedge", rival.binding.name)
        pool = rival.to.pool
        connection = pool.take()
        if connection is not None:
            self._race(x, call, plan, rival, connection)
        else:
            plan.rival_ticket = pool.open(
                partial(self._race, x, call, plan, rival),
                lambda error: self._failed(plan, error.code),
                self._spawn,
            )

    def _race(self, x: "Exchange", call: Call, plan: Plan, rival: Target, connection: "Upstream") -> None:
        """connection: one that leads to this rival, and gets nobody else's head."""
        plan.rival_ticket = None
        current = plan.current
        if plan.rival is not rival or current is None or x.ended:
            connection.release()
            return
        try:
            plan.address(x, call, rival)
        except Exception:  # what it asks for cannot be carried there
            connection.release()
            started = False
        else:
            if plan.parts:  # several calls race nobody
                connection.release()
                started = False
            else:
                started = self._start_race(x, call, plan, rival, connection)
        finally:
            plan.address(x, call, current)
        if not started:
            self._left(plan)

    def _start_race(self, x: "Exchange", call: Call, plan: Plan, rival: Target, connection: "Upstream") -> bool:
        plan.rival_connection = connection
        try:
            return self._lane.race(x, call, rival.to, connection)
        except Exception:
            return False

    def races(self, x: "Exchange", call: Call, connection: "Upstream") -> bool:
        """Of two connections this one answers first: True when its answer counts."""
        plan: Plan = call.dispatch
        status = connection.status
        if status in plan.group.retry.statuses or status in REFUSED:
            self._lose(x, call, plan, connection)
            target, probe = self._drop_rival(plan)
            refused = is_refusal(status, target)
            if refused or status in plan.group.retry.statuses:
                asked_s = retry_after_s(connection.answer_head.get_name, time.time())
                self._told.note_status(target, status, asked_s, refused=refused, probe=probe)
            else:  # it refused the app's own credential
                target.health.breaker.left(probe=probe)
            return False
        if connection is plan.rival_connection:
            self._swap(x, call, plan)
            self._metrics.count("hedge_won", call.to.provider)
        self._count_cost(plan)
        self._left(plan)
        return True

    def _count_cost(self, plan: Plan) -> None:
        """Of the one that is cancelled: it has read the request, and will not say what it used."""
        rival, cost_of = plan.rival, plan.group.input_cost_of
        if rival is None or cost_of is None:
            return
        nusd = cost_of(rival, len(plan.body) // 4)
        if nusd:
            self._metrics.costs_nusd.add((rival.binding.name, self._metrics.model(rival.model)), nusd)

    def lost(self, x: "Exchange", call: Call, connection: "Upstream", detail: str) -> None:
        plan: Plan = call.dispatch
        self._lose(x, call, plan, connection)
        self._failed(plan, detail)

    def _lose(self, x: "Exchange", call: Call, plan: Plan, connection: "Upstream") -> None:
        """One of two failed: it is the rival from now on, whatever it was."""
        if connection is not plan.rival_connection:
            self._swap(x, call, plan)

    def _swap(self, x: "Exchange", call: Call, plan: Plan) -> None:
        """The rival is what serves the call now, and what served it is the rival."""
        assert plan.rival is not None
        plan.current, plan.rival = plan.rival, plan.current
        plan.probe, plan.rival_probe = plan.rival_probe, plan.probe
        plan.occupied = plan.current
        assert plan.current is not None
        if plan.rival_lease is not None:
            plan.rival_lease, plan.lent = plan.lender.swap(call, plan.rival_lease), plan.current
        plan.address(x, call, plan.current)

    @staticmethod
    def _drop_rival(plan: Plan) -> tuple[Target, bool]:
        """(it, whether it was a probe): it serves no more, and what was borrowed for it is given back."""
        rival, ticket, lease = plan.rival, plan.rival_ticket, plan.rival_lease
        assert rival is not None
        plan.rival = plan.rival_connection = plan.rival_ticket = plan.rival_lease = None
        if ticket is not None:
            ticket.cancel()
        if lease is not None:
            plan.lender.drop(lease)
        rival.health.in_flight -= 1
        return rival, plan.rival_probe

    def _failed(self, plan: Plan, reason: str) -> None:
        if plan.rival is not None:
            rival, probe = self._drop_rival(plan)
            self._told.note_failure(rival, reason, 1, probe=probe)

    def _left(self, plan: Plan) -> None:
        if plan.rival is not None:
            rival, probe = self._drop_rival(plan)
            rival.health.breaker.left(probe=probe)

    def end(self, plan: Plan) -> None:
        """Nothing of it goes on."""
        if plan.hedge_timer is not None:
            plan.hedge_timer.cancel()
            plan.hedge_timer = None
        self._left(plan)


def _later(seconds: float, function: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, function, *arguments)
