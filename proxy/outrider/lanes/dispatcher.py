"""Attempts of a call that has several: which target next, when, and what an answer means before a byte of it goes on.

Rules
- Nothing is tried again once a byte of an answer may have reached the client. Until then an answer is held: a stream to
  its first event, another answer to its end or HELD_BYTES.
- Every attempt that began is settled once with its target's health, whatever became of it.
- A target that was not tried yet comes before one that was; the retry budget is asked for every further attempt, but
  for one at another target that has hardly failed lately: moving on to it multiplies nothing.
- The last failure is passed on as the provider gave it, with `x-should-retry: false` once there was more than one try.
- A target whose limits or budgets have nothing left is none for the call: the next one is tried, before what failed is
  let go of.
- Timers are few: one for the attempt in hand, one for the whole call, one for a hedge; all end with the exchange.

Does not know: dialects beyond what an error looks like (dialects.openings), how targets are ordered (upstream.targets).
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from random import random as draw
from typing import TYPE_CHECKING, Any

from outrider.dialects.bonds import MADE, Made
from outrider.dialects.endings import ENDINGS, Ending
from outrider.dialects.openings import AGAIN, CONTENT, opening
from outrider.dialects.streams import framing_in, framing_of
from outrider.errors import (
    CredentialUnavailableError,
    OverloadedError,
    SidecarError,
    TargetsDownError,
    UpstreamBrokenError,
    UpstreamConnectError,
    UpstreamTimeoutError,
)
from outrider.govern.principal import ANONYMOUS
from outrider.govern.provider_limits import retry_after_s
from outrider.lanes.degraded import static_message
from outrider.lanes.hedging import Hedging
from outrider.lanes.outcomes import Outcomes, is_refusal
from outrider.stack.call import Call
from outrider.stack.replay import Whole
from outrider.telemetry.metrics import Metrics
from outrider.upstream.plans import Plan
from outrider.upstream.retries import wait_s
from outrider.upstream.targets import Restate, Target
from outrider_ext.http1 import header_id, mask_of
from outrider_ext.relay import CUT, TIMED_OUT

if TYPE_CHECKING:
    from outrider.telemetry.log import JsonLog
    from outrider_ext.lane import Lane
    from outrider_ext.relay import Exchange

_CONTENT_TYPE = header_id(b"content-type")
HELD_BYTES = 262_144  # of an answer that is no stream
RESTATED_BYTES = 4 << 20  # of one that is given anew
OPENING_BYTES = 65_536  # of a stream, until its first event is there
HEALTHY_RATE = 0.05  # share of failures below which a target may take over whatever the budget says
_NO_RETRY = b"x-should-retry: false\r\n"
_SHOULD_RETRY = mask_of(b"x-should-retry")
_ENCODED = mask_of(b"content-encoding")
_NS = 1_000_000_000


class Dispatcher:
    """Drives plans. refuse(x, call, error): the desk's. A plan is `call.dispatch`."""

    def __init__(
        self,
        lane: "Lane",
        metrics: Metrics,
        log: "JsonLog",
        spawn: Callable[..., Any],
        refuse: Callable[["Exchange", Call, SidecarError], None],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        random: Callable[[], float] = draw,
    ) -> None:
        self._lane = lane
        self._metrics = metrics
        self._log = log
        self._spawn = spawn
        self._refuse = refuse
        self._clock = clock
        self._random = random
        self._told = Outcomes(metrics, log, clock)
        self.hedging = Hedging(lane, metrics, spawn, self._told, clock)

    # -- the way of a call

    def begin(self, x: "Exchange", call: Call) -> None:
        """Its hooks have run: send it for the first time, or let it wait for a place."""
        plan: Plan = call.dispatch
        group, now_ns = plan.group, self._clock()
        group.budget.saw_call(now_ns)
        if group.hedges is not None:
            group.hedges.saw_call(now_ns)
        if not call.stream:
            plan.total_timer = self._later(group.timeouts.total_s, self._too_long, x, call, plan)
        target = self._usable(plan, now_ns)
        if target is not None:
            self._try(x, call, plan, target)
        elif self._ready_in_s(plan, now_ns) <= group.retry.max_wait_s:
            self._wait_for_place(x, call, plan)
        else:
            self._none_left(x, call, plan, self._all_down(plan, now_ns))

    def failed(self, x: "Exchange", call: Call, error: SidecarError) -> None:
        """The attempt in hand came to nothing before a byte of an answer: connection, protocol, time."""
        plan: Plan = call.dispatch
        target = plan.current
        self._end_timer(plan)
        self.hedging.end(plan)
        plan.error = error
        if target is None:
            self._refuse(x, call, error)
            return
        unusable = isinstance(error, CredentialUnavailableError | OverloadedError)
        if isinstance(error, UpstreamBrokenError | UpstreamConnectError | UpstreamTimeoutError):
            self._told.failed(plan, error.code)
        else:
            self._told.left(plan)
            if not unusable:
                self._refuse(x, call, error)
                return
        if self._again(x, call, plan, target, None, only_others=unusable):
            return
        self._none_left(x, call, plan, error)

    def discards(self, x: "Exchange", call: Call) -> bool:
        """An answer's head is there. True: it is not passed on, and the call went on its way (or waits)."""
        plan: Plan = call.dispatch
        target = plan.current
        assert target is not None
        status = x.status
        self._end_timer(plan)
        self.hedging.end(plan)
        retry = plan.group.retry
        if target.restate is not None and status < 300 and not plan.restated:
            self._hold(x, call, plan, target.restate)
            return True
        refused = is_refusal(status, target)
        if status in retry.statuses or refused:
            asked_s = retry_after_s(x.answer_head.get_name, time.time())
            self._told.answered(plan, status, asked_s, refused=refused)
            if self._again(x, call, plan, target, asked_s, only_others=refused, discard=True):
                return True
            if self._static(x, call, plan, UpstreamBrokenError(f"{target.name} answered with {status}")):
                return True
            plan.answered = True
            if plan.attempts > 1:
                call.answer_lines = _NO_RETRY
                x.drop_mask |= _SHOULD_RETRY
            return False
        if status != 200 or x.method == b"HEAD":
            plan.answered = True
            self._told.good(plan, first_event=False)
            return False
        x.judge = partial(self._judge, call, plan)
        x.idle_ns = int(plan.group.timeouts.idle_s * _NS)
        self._watch(x, plan, target)
        plan.saw, plan.held_bytes = b"", 0
        plan.timer = self._later(plan.group.timeouts.first_event_s, self._late, x, call, plan, "its first event")
        return False

    def _hold(self, x: "Exchange", call: Call, plan: Plan, restate: "Restate") -> None:
        """Of an answer whose status says nothing all is held, and then another is given in its place."""
        plan.saw, plan.restated, status = b"", True, x.status
        x.idle_ns = int(plan.group.timeouts.idle_s * _NS)

        def judge(x: "Exchange", data: bytes, is_last: bool) -> bool | None:
            plan.saw += data
            if not is_last and len(plan.saw) <= RESTATED_BYTES:
                return None
            body, plan.saw = plan.saw, b""
            x.discard()
            try:
                if not is_last:
                    raise UpstreamBrokenError(f"the answer of {call.to.destination_host} is too large to be translated")
                wire = restate(call, status, body)
            except SidecarError as error:
                self.failed(x, call, error)
            else:
                Whole(x.client.hub, wire).begin(x)
            return False

        x.judge = judge

    @staticmethod
    def _watch(x: "Exchange", plan: Plan, target: Target) -> None:
        """What is looked for in the answer as it comes: whether it is whole, and what it names for later calls."""
        ending = _ending_of(x, target)
        conversations, made = plan.conversations, MADE.get(target.to.operation.dialect)
        if conversations is None or made is None:
            x.watch = ending
            return
        name = target.binding.name
        told = Made(made, lambda value: conversations.remember(value, name))

        def both(x: "Exchange", piece: bytes) -> bool:
            told(x, piece)
            return ending is None or ending(x, piece)

        x.watch = both

    def _judge(self, call: Call, plan: Plan, x: "Exchange", data: bytes, is_last: bool) -> bool | None:
        """The beginning of a good answer: True to pass it on, None to wait for more of it."""
        framing = framing_in(x)
        plan.held_bytes += len(data)
        if not framing and not is_last and plan.held_bytes < HELD_BYTES:
            return None
        if framing:
            plan.saw += data
        found = opening(plan.saw, framing, is_last=is_last) if framing else CONTENT
        if found is None and len(plan.saw) < OPENING_BYTES:
            return None
        self._end_timer(plan)
        plan.saw = b""
        if found == AGAIN:
            target = plan.current
            assert target is not None
            self._told.failed(plan, "error event")
            if self._again(x, call, plan, target, None, discard=True):
                return False
        else:
            self._told.good(plan, first_event=True)
        plan.answered = True
        return True

    def finished(self, x: "Exchange", call: Call) -> None:
        """The exchange has ended."""
        plan: Plan = call.dispatch
        if plan.settled and plan.answered and plan.current is not None and x.outcome in (CUT, TIMED_OUT):
            health = plan.current.health  # it broke off in the middle of what had begun well
            health.failed(self._clock())
            health.breaker.failed(self._clock(), reason="cut")
        self.leave(plan)

    def leave(self, plan: Plan) -> None:
        """Nothing of it stays behind."""
        self._end_timer(plan)
        self.hedging.end(plan)
        if plan.total_timer is not None:
            plan.total_timer.cancel()
            plan.total_timer = None
        if not plan.settled:
            self._told.left(plan)
        self._told.leave_place(plan)
        plan.group.room.poke()

    # -- choosing

    def _usable(self, plan: Plan, now_ns: int) -> Target | None:
        """The first that may be tried now, of those with the fewest tries so far.

        While all are left alone one call at a time finds out early whether one of them is good again.
        """
        usable = [target for target in plan.targets if target.is_usable(now_ns)]
        if not usable and not any(target.is_full for target in plan.targets):
            usable = [target for target in plan.targets if target.health.breaker.may_probe_early(now_ns)]
        return min(usable, key=lambda target: plan.tries.get(target.name, 0), default=None)

    @staticmethod
    def _ready_in_s(plan: Plan, now_ns: int) -> float:
        """When the first is to be had again, as far as it can be told; 0 for one that is only busy."""
        return min(
            0.0 if breaker.is_probing else breaker.ready_in_s(now_ns)
            for breaker in (target.health.breaker for target in plan.targets)
        )

    def _again(
        self,
        x: "Exchange",
        call: Call,
        plan: Plan,
        failed: Target,
        asked_s: float | None,
        *,
        only_others: bool = False,
        discard: bool = False,
        paid: bool = False,
    ) -> bool:
        """Try again if there is a target, a try and a budget left. discard: an answer is in hand.

        paid: the budget has been asked.
        """
        now_ns = self._clock()
        retry = plan.group.retry
        if plan.attempts >= retry.attempts:
            return False
        target = self._usable(plan, now_ns)
        wait: float | None = 0.0
        if target is None or plan.tries.get(target.name, 0):
            target = target or failed
            if only_others or not self._may_come_back(target, failed, asked_s, retry.max_wait_s, now_ns):
                return False
            wait = wait_s(retry, plan.retries, asked_s if target is failed else None, self._random)
        if wait is None or not (paid or self._may_spend(plan, target, failed, now_ns)):
            return False
        if wait == 0 and self._lend(x, call, plan, target) is not None:
            self._leave_out(plan, target)
            return self._again(
                x, call, plan, failed, asked_s, only_others=only_others, discard=discard, paid=True
            )  # fmt: skip
        if discard:
            x.discard()
        plan.retries += 1
        self._metrics.count("retry" if target is failed else "failover", target.binding.name)
        if wait > 0:
            plan.timer = x.waiter = self._later(wait, self._resume, x, call, plan, target)
        else:
            self._try(x, call, plan, target)
        return True

    @staticmethod
    def _may_come_back(target: Target, failed: Target, asked_s: float | None, max_wait_s: float, now_ns: int) -> bool:
        """Whether a target that was tried already may be tried once more."""
        if target is failed and asked_s is not None:
            return asked_s <= max_wait_s  # it said when; its breaker cools down until then
        return not target.is_full and (
            target.health.breaker.admits(now_ns) or target.health.breaker.may_probe_early(now_ns)
        )

    @staticmethod
    def _may_spend(plan: Plan, target: Target, failed: Target, now_ns: int) -> bool:
        if plan.group.budget.take(now_ns):
            return True
        return target is not failed and target.health.breaker.failure_rate(now_ns) < HEALTHY_RATE

    def _resume(self, x: "Exchange", call: Call, plan: Plan, target: Target) -> None:
        x.waiter = plan.timer = None
        if not x.ended:
            self._try(x, call, plan, target)

    # -- what it may take of limits and budgets

    @staticmethod
    def _lend(x: "Exchange", call: Call, plan: Plan, target: Target) -> SidecarError | None:
        """Why the target's limits have nothing left. None: it is borrowed, or `_try` has to ask."""
        lender = plan.lender
        if lender is None or plan.lent is target:
            return None
        found = lender.take(x, call, target)
        return found if isinstance(found, SidecarError) else None

    @staticmethod
    def _leave_out(plan: Plan, target: Target) -> None:
        plan.targets = [other for other in plan.targets if other is not target]

    def _borrow(self, x: "Exchange", call: Call, plan: Plan, target: Target) -> bool:
        """Whether it is borrowed for this target; if not, the call went on its way."""
        found = plan.lender.take(x, call, target)
        if found is None:
            return True
        if isinstance(found, SidecarError):
            self._not_lent(x, call, plan, target, found)
            return False

        async def ask() -> None:
            try:
                error = await plan.lender.take_slowly(x, call, target)
            except SidecarError as exc:
                error = exc
            except Exception as exc:
                error = SidecarError("the sidecar failed on this request; its log says more")
                self._log.event("error", "internal_error", where="target limits", type=type(exc).__name__)
            x.waiter = None
            if x.ended:
                return
            if error is not None:
                self._not_lent(x, call, plan, target, error)
            elif target.is_full:  # while it was asked
                self._wait_for_place(x, call, plan)
            else:
                self._try(x, call, plan, target)

        x.waiter = self._spawn(ask(), name="target limits")
        return False

    def _not_lent(self, x: "Exchange", call: Call, plan: Plan, target: Target, error: SidecarError) -> None:
        self._leave_out(plan, target)
        plan.error = plan.error or error
        other = self._usable(plan, self._clock())
        if other is not None:
            self._try(x, call, plan, other)
        else:
            self._none_left(x, call, plan, plan.error)

    # -- one try

    def _try(self, x: "Exchange", call: Call, plan: Plan, target: Target) -> None:
        if plan.lender is not None and plan.lent is not target and not self._borrow(x, call, plan, target):
            return
        now_ns = self._clock()
        plan.current, plan.settled, plan.stale, plan.restated = target, False, False, False
        plan.tries[target.name] = plan.tries.get(target.name, 0) + 1
        plan.probe = target.health.breaker.began(now_ns)
        plan.sent_ns = now_ns
        plan.occupied = target
        target.health.in_flight += 1
        try:
            plan.address(x, call, target)
        except SidecarError as error:  # a feature that cannot be carried there: another target may have it
            self._told.left(plan)
            plan.tries.pop(target.name)  # nothing was sent
            plan.error = error
            plan.targets = [other for other in plan.targets if other is not target]
            left = [other for other in plan.targets if not plan.tries.get(other.name, 0) and other.is_usable(now_ns)]
            if left:
                self._try(x, call, plan, left[0])
            elif not plan.targets or not self._again(x, call, plan, plan.targets[0], None):
                self._refuse(x, call, error)
            return
        group = plan.group
        call.fresh = False
        x.waits_first = not plan.parts and self.hedging.is_possible(plan)
        plan.timer = self._later(group.timeouts.first_byte_s, self._late, x, call, plan, "its answer")
        if plan.parts:
            from outrider.stack.fan_out import FanOut  # for the few that are asked for so much

            FanOut(self._lane, x, call, plan.parts, partial(self.failed, x, call)).begin()
            return
        self._lane.dispatch(x, call)
        if x.waits_first and not plan.settled and plan.current is target:
            self.hedging.arm(x, call, plan, target)

    # -- waiting for a place

    def _wait_for_place(self, x: "Exchange", call: Call, plan: Plan) -> None:
        room = plan.group.room

        def attempt() -> int | None:
            now_ns = self._clock()
            target = self._usable(plan, now_ns)
            if target is None:
                return int(self._ready_in_s(plan, now_ns) * _NS)
            if not x.ended:
                x.waiter = None
                self._try(x, call, plan, target)
            return None

        async def wait() -> None:
            principal = call.principal if call.principal is not None else ANONYMOUS
            if room.is_full:  # asked here: of those that came at once none was in the room yet
                x.waiter = None
                error: SidecarError = OverloadedError(f"too many calls wait for a target of {plan.group.name}")
                self._none_left(x, call, plan, error)
                return
            admitted = await room.enter(
                principal, plan.group.priority_of(principal), plan.group.max_wait_s, attempt, lambda: x.ended
            )
            if admitted or x.ended:
                return
            x.waiter = None
            now_ns = self._clock()
            error = OverloadedError(
                f"every target of {plan.group.name} was busy for {plan.group.max_wait_s:g} s; try again later"
            )
            if not any(target.is_full for target in plan.targets):
                error = self._all_down(plan, now_ns)
            self._none_left(x, call, plan, error)

        x.waiter = self._spawn(wait(), name="target queue")

    # -- the end of all tries

    def _all_down(self, plan: Plan, now_ns: int) -> SidecarError:
        ready_s = min(target.health.breaker.ready_in_s(now_ns) for target in plan.targets)
        names = ", ".join(f"{target.name} ({target.health.breaker.reason or 'failing'})" for target in plan.targets)
        bound = f"; {plan.bond} binds the call to who began its conversation" if plan.bond else ""
        return TargetsDownError(
            f"no target of {plan.group.name} takes calls now: {names}{bound}",
            retry_after_ms=max(int(ready_s * 1000), 100),
        )

    def _none_left(self, x: "Exchange", call: Call, plan: Plan, error: SidecarError) -> None:
        if self._static(x, call, plan, error):
            return
        if plan.attempts > 1:
            error.should_retry = False  # of this one error: it was tried again already
        self._refuse(x, call, error)

    def _static(self, x: "Exchange", call: Call, plan: Plan, error: SidecarError) -> bool:
        """Whether the configured answer was given instead of the error."""
        text = plan.group.static_answer
        message = static_message(x, call, plan.body, text) if text is not None else None
        if message is None:
            return False
        call.error = error
        self._metrics.count("static_answer", call.route.provider)
        x.answer(message, 200)
        return True

    # -- time

    def _later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> Any:
        return asyncio.get_running_loop().call_later(seconds, function, *arguments)

    def _late(self, x: "Exchange", call: Call, plan: Plan, what: str) -> None:
        plan.timer = None
        if x.ended or plan.answered:
            return
        self._stop(x)
        timeouts = plan.group.timeouts
        limit_s = timeouts.first_byte_s if what == "its answer" else timeouts.first_event_s
        name = call.to.destination_host
        self.failed(x, call, UpstreamTimeoutError(f"{name} did not answer: {what} took longer than {limit_s:g} s"))

    def _too_long(self, x: "Exchange", call: Call, plan: Plan) -> None:
        plan.total_timer = None
        if x.ended or plan.answered:
            return
        self._stop(x)
        self._end_timer(plan)
        self.hedging.end(plan)
        if not plan.settled:
            self._told.failed(plan, "total time")
        error = UpstreamTimeoutError(f"no answer within {plan.group.timeouts.total_s:g} s and {plan.attempts} tries")
        self._none_left(x, call, plan, error)

    @staticmethod
    def _stop(x: "Exchange") -> None:
        waiter, x.waiter = x.waiter, None
        if waiter is not None:
            waiter.cancel()
        x.drop()

    @staticmethod
    def _end_timer(plan: Plan) -> None:
        if plan.timer is not None:
            plan.timer.cancel()
            plan.timer = None


def _ending_of(x: "Exchange", target: Target) -> Ending | None:
    """A stream whose end is the connection's is whole only when it says so itself."""
    head, operation = x.answer_head, target.to.operation
    wanted = ENDINGS.get(operation.dialect)
    if wanted is None or head.chunked or head.content_length >= 0 or head.mask & _ENCODED:
        return None
    is_array = operation.dialect == "gemini.generate" and bool(operation.stream)  # or SSE, as it was asked for
    is_stream = is_array or framing_of(head.get(_CONTENT_TYPE))
    return Ending(wanted) if is_stream else None
