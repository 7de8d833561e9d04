"""`adaptive: true`: calls are held back before the provider would refuse them, by what it says about its own limits.

Rules: kept per provider (which is one credential) and model, and only where our credential is what is counted; the
newest answer counts, less what was sent since; what comes from outside is clamped (govern.provider_limits). The number
of models is bounded.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outrider.errors import RateLimitedError
from outrider.govern.limits import counts_tokens, model_name
from outrider.govern.provider_limits import Gate, body_wait_s, read, retry_after_s
from outrider.stack.call import Call, LayerHook, Route
from outrider.telemetry.metrics import Metrics
from outrider_ext.limits import Clock, estimate_tokens

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

GATES_MAX = 1024
RULE = "provider"
_THROTTLED = (429, 529)


class Gates:
    """(provider, model) -> Gate; it outlives a reload."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], Gate] = {}

    def of(self, provider: str, model: str | None) -> Gate:
        key = (provider, model_name(model))
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= GATES_MAX:
                self._gates.clear()
            gate = self._gates[key] = Gate()
        return gate


class Adaptive:
    """The filter. is_planned(route): whether calls of it may be served by several targets."""

    of_attempt = True

    def __init__(
        self,
        gates: Gates,
        clock: Clock,
        metrics: Metrics,
        is_planned: Callable[[Route], bool] = lambda route: False,
    ) -> None:
        self._is_planned = is_planned
        self._gates = gates
        self._clock = clock
        self._decisions = metrics.limits

    def _is_on(self, route: Route) -> bool:
        settings = route.binding.settings
        return bool(settings is not None and settings.adaptive and route.attempt.injects)

    def body(self, route: Route) -> LayerHook | None:
        if not counts_tokens(route.operation):
            return None
        is_on, planned = self._is_on(route), self._is_planned(route)
        if not is_on and not planned:
            return None

        def hook(x: "Exchange", call: Call) -> None:
            if call.dispatch is not None:
                self._choose(x, call)
            elif is_on:
                error = self._held(x, call, route.provider, call.model)
                if error is not None:
                    call.decision = f"{RULE}:{route.provider}"
                    raise error

        return hook

    own = body

    def _choose(self, x: "Exchange", call: Call) -> None:
        """Of several targets, those that have said so are none for this call.

        Raises: RateLimitedError where all have.
        """
        plan, first = call.dispatch, None
        kept: list[Any] = []
        for target in plan.targets:
            error = None
            if self._is_on(target.to):
                error = self._held(x, call, target.to.provider, target.model or plan.asked, sends=not kept)
            if error is None:
                kept.append(target)
            else:
                first = first or (target, error)
        if not kept and first is not None:
            call.decision = f"{RULE}:{first[0].to.provider}"
            raise first[1]
        plan.targets = kept

    def _held(
        self, x: "Exchange", call: Call, provider: str, model: str | None, *, sends: bool = True
    ) -> RateLimitedError | None:
        """Why the call would be refused there. sends: it is sent there, if not."""
        gate, now_ns = self._gates.of(provider, model), self._clock.wall(x.started_ns)
        if not gate.dimensions and gate.blocked_until_ns <= now_ns:
            return None
        tokens = _tokens(x, call)
        wait_ns = gate.wait_ns(now_ns, tokens)
        if not wait_ns:
            if sends:
                gate.sent(now_ns, tokens)
            return None
        self._decisions.tally((f"{RULE}:{provider}", "reject")).n += 1
        wait_ms = -(-wait_ns // 1_000_000)
        return RateLimitedError(
            f"{provider} has said that its own limit is reached; try again in {wait_ms / 1000:.3g} s", wait_ms
        )

    def answer(self, route: Route) -> LayerHook | None:
        if not self._is_on(route):
            return None
        provider, family = route.provider, route.binding.provider.ratelimit

        def hook(x: "Exchange", call: Call) -> None:
            now_ns = self._clock.wall(x.head_ns)
            gate, now_s = self._gates.of(provider, call.model), now_ns / 1e9
            get = x.answer_head.get_name
            gate.answered(now_ns, read(family, get, now_s))
            if x.status in _THROTTLED:
                wait_s = retry_after_s(get, now_s)
                if wait_s is None and not x.sse:
                    x.tap_body = True  # Google says it in the body
                gate.throttled(now_ns, wait_s)

        return hook

    def end(self, route: Route) -> LayerHook | None:
        if not self._is_on(route):
            return None

        def hook(x: "Exchange", call: Call) -> None:
            if x.status in _THROTTLED and x.tap_body and x.sent_ns:
                wait_s = body_wait_s(x.take_tapped()[0])
                if wait_s is not None:
                    self._gates.of(route.provider, call.model).throttled(self._clock.wall(x.ended_ns), wait_s)

        return hook


def _tokens(x: "Exchange", call: Call) -> dict[str, int]:
    given = estimate_tokens(x.body) if x.body else 0
    made = max(call.max_tokens, 0)
    return {"input": given, "output": made, "tokens": given + made}
