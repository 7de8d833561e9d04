"""What becomes of attempts, as the health of their targets is told: of each attempt once, whatever it came to.

Rules: a good answer keeps its place among the calls in flight until its end, a failed one gives it up.
Does not know: which target is next (lanes.dispatcher), what is done with an answer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from outrider.telemetry.metrics import Metrics
from outrider.upstream.plans import Plan
from outrider.upstream.targets import Target

if TYPE_CHECKING:
    from outrider.telemetry.log import JsonLog

REFUSED: Final = (401, 403)
_DOUBLE: Final = (503, 529)
_THROTTLED: Final = 429
_NOT_ITS_FAULT: Final = (408, 409)  # said of the request, or of two at once
_MS: Final = 1_000_000


class Outcomes:
    """good, failed, left, answered: of the attempt in hand; nothing is told of one that was settled before."""

    def __init__(self, metrics: Metrics, log: "JsonLog", clock: Callable[[], int]) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def _settle(self, plan: Plan) -> tuple[Target, bool]:
        """What is told once. A good answer keeps its place until its end, a failed one gives it up (`leave_place`)."""
        target, probe = plan.current, plan.probe
        assert target is not None
        plan.settled, plan.probe = True, False
        return target, probe

    @staticmethod
    def leave_place(plan: Plan) -> None:
        if plan.occupied is not None:
            plan.occupied.health.in_flight -= 1
            plan.occupied = None

    def good(self, plan: Plan, *, first_event: bool) -> None:
        if plan.settled:
            return
        target, probe = self._settle(plan)
        now_ns = self._clock()
        target.health.breaker.succeeded(now_ns, probe=probe)
        if first_event:
            target.health.took(now_ns, (now_ns - plan.sent_ns) / _MS)
        if plan.group.room.waiting:
            plan.group.room.poke()

    def failed(self, plan: Plan, reason: str, *, weight: int = 1) -> None:
        if plan.settled:
            return
        target, probe = self._settle(plan)
        self.leave_place(plan)
        self.note_failure(target, reason, weight, probe=probe)

    def note_failure(self, target: Target, reason: str, weight: int, *, probe: bool) -> None:
        now_ns = self._clock()
        breaker = target.health.breaker
        before = breaker.state(now_ns)
        target.health.failed(now_ns)
        breaker.failed(now_ns, weight=weight, probe=probe, reason=reason)
        if before != "open" and breaker.state(now_ns) == "open":
            self._metrics.count("breaker_opened", target.binding.name)
            self._log.event("warning", "breaker_opened", target=target.name, message=f"{target.name} failed: {reason}")

    def left(self, plan: Plan) -> None:
        if plan.settled:
            return
        target, probe = self._settle(plan)
        self.leave_place(plan)
        target.health.breaker.left(probe=probe)

    def answered(self, plan: Plan, status: int, asked_s: float | None, *, refused: bool) -> None:
        if plan.settled:
            return
        target, probe = self._settle(plan)
        self.leave_place(plan)
        self.note_status(target, status, asked_s, refused=refused, probe=probe)

    def note_status(self, target: Target, status: int, asked_s: float | None, *, refused: bool, probe: bool) -> None:
        breaker, now_ns = target.health.breaker, self._clock()
        if refused:
            breaker.credential_refused(now_ns, probe=probe, mark=target.credential_mark)
            self._metrics.count("credential_refused", target.binding.name)
            self._log.event(
                "warning", "credential_refused", target=target.name,
                message=f"{target.binding.name} refused the credential with {status}; it is left alone for a while",
            )  # fmt: skip
        elif status == _THROTTLED and asked_s is not None:
            breaker.throttled(now_ns, asked_s, probe=probe)
        elif status == _THROTTLED:  # it does not say for how long: as any failure
            self.note_failure(target, "throttled", 1, probe=probe)
        elif status in _NOT_ITS_FAULT:
            breaker.left(probe=probe)
        else:
            self.note_failure(target, f"status {status}", 2 if status in _DOUBLE else 1, probe=probe)


def is_refusal(status: int, target: Target) -> bool:
    """Of a credential that is ours to give."""
    return status in REFUSED and target.to.attempt.injects
