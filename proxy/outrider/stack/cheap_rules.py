"""Rules before the body: everything that follows from route, caller and head alone, decided once and remembered.

Rules kept: a route for which no rule can have anything to say gets no hook; what is decided for a caller on a route is
one dictionary look-up (compiled: outrider_ext.rulehooks); a refusal comes before a byte of the body is held.
Does not know: bodies (body_rules.py), files, what a rule says.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.govern.plan import Late, Plan, RouteRules, RuleSet
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.govern.reading import Facts, View
from outrider.govern.verdicts import Outcome
from outrider.providers.model import decode_path, may_be_led
from outrider.stack.call import Call, LayerHook, Route
from outrider.stack.identify import check_method
from outrider_ext.rulehooks import DecideEarly, Settled

if TYPE_CHECKING:
    from outrider.providers.registry import Binding
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.relay import Exchange


class Rules:
    """What both layers share: the rules of each route, and how decisions are put on a call and counted."""

    def __init__(self, rules: RuleSet, metrics: "Metrics", *, cap_bytes: int) -> None:
        self.rules = rules
        self.cap_bytes = cap_bytes
        self._tally = metrics.rules.tally
        self._count = metrics.rules.add
        # Of a route for several providers: the others, beside the one that it is made for.
        self.others: dict[Route, tuple[Facts, ...]] = {}
        # Of the route that is being made: both layers ask for it, one after the other.
        self._last: tuple[Route, RouteRules | None] | None = None

    def of(self, route: Route) -> RouteRules | None:
        if self._last is None or self._last[0] is not route:
            self._last = (route, self.rules.on_route(facts_of_route(route), *self.others.get(route, ())))
        return self._last[1]

    # -- outcomes as the compiled hooks know them

    def settled(
        self, outcome: Outcome, source: Any, *, plan: Plan | None, acts: bool, dynamic: bool, body_cap: int = -1
    ) -> Settled:
        """plan: of the early stage, None for the late one. dynamic: the outcome is made anew for each request."""
        goes_on = plan is not None and plan.late and outcome.refusal is None
        source_of_model = "" if plan is None else plan.facts.model_source
        return Settled(
            source=source,
            rules=tuple(outcome.rules),
            shadow_rules=tuple(outcome.shadow),
            tags=tuple(outcome.tags),
            redactions=tuple(outcome.redactions) or None,
            head_edits=outcome.head_edits(),
            # What is said again, complete, is counted then.
            tallies=() if goes_on or dynamic else tuple(self._tally(labels) for labels in _labels(outcome)),
            needs_body=plan is not None and plan.needs_body,
            late=goes_on,
            wants_models=plan is not None and plan.wants_models,
            scans_models=source_of_model in ("body", "anywhere"),
            acts=acts,
            body_cap=body_cap,
        )

    def put(self, call: Call, outcome: Outcome, known: Outcome | None = None) -> None:
        """What was found out for this request alone; what `known` says was counted."""
        call.rules, call.shadow_rules = tuple(outcome.rules), tuple(outcome.shadow)
        call.tags = tuple(outcome.tags)
        call.redactions = tuple(outcome.redactions) or None
        call.head_edits = outcome.head_edits()
        counted = [] if known is None else _labels(known)
        for labels in _labels(outcome):
            if labels not in counted:
                self._count(labels)

    def lift(self, x: "Exchange", call: Call, outcome: Outcome, view: View, change: Callable[[], object]) -> None:
        """change(): the body has to be written anew. Raises: SidecarError."""
        from outrider.stack.lifts import lift_call

        known, outcome = outcome, outcome.copy()
        lift_call(x, call, outcome, view, change)
        if outcome.errors != known.errors:
            self.put(call, outcome, known)
        self.refuse(call, outcome)

    @staticmethod
    def refuse(call: Call, outcome: Outcome) -> None:
        if outcome.refusal is not None:
            call.decision = outcome.refusal.rule
            raise outcome.refusal.again()


def _labels(outcome: Outcome) -> list[tuple[str, str]]:
    found = [(rule, "enforce") for rule in outcome.rules] + [(rule, "shadow") for rule in outcome.shadow]
    return found + [(rule, "error") for rule in outcome.errors]


def facts_of_route(route: Route) -> Facts:
    decoded = decode_path(route.path)
    return Facts(
        provider=route.provider,
        kind=route.binding.provider.kind,
        operation=route.operation,
        known=route.known,
        host=route.destination_host,
        method=route.method.decode("latin-1"),
        path=None if decoded is None else decoded.replace("\x00", "/"),
        path_model=route.model,
        base_path=route.binding.base_path.decode("ascii"),
        leads=may_be_led(route.operation, known=route.known, method=route.method),
    )


def facts_of_target(front: Route, binding: "Binding", host: str, path_model: str | None = None) -> Facts:
    """Of a call that came by `front`, as if it had been addressed to this provider."""
    name, kind = binding.name, binding.provider.kind
    return replace(facts_of_route(front), provider=name, kind=kind, host=host, path_model=path_model, leads=False)


class CheapRules:
    """The filter."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def request(self, route: Route) -> LayerHook | None:
        found = self._rules.of(route)
        if found is None:
            return None

        def settle(principal: Principal, via: str, upgrade: bool) -> Settled:
            plan = found.plan(principal, via, upgrade)
            dynamic = plan.first is not None and plan.first.dynamic
            acts = plan.outcome.refusal is not None or dynamic or bool(plan.outcome.lifts)
            return self._rules.settled(plan.outcome, plan, plan=plan, acts=acts, dynamic=dynamic)

        return DecideEarly(settle, self._act, ANONYMOUS, check_method)

    def _act(self, x: "Exchange", call: Call, settled: Settled) -> None:
        plan: Plan = settled.source
        Rules.refuse(call, plan.outcome)
        late: Late | None = plan.first
        outcome = plan.outcome
        if late is not None and late.dynamic:
            outcome = late.decide(view_of(x, call, plan))
            self._rules.put(call, outcome)
            Rules.refuse(call, outcome)
        if outcome.lifts:
            self._rules.lift(x, call, outcome, view_of(x, call, plan), lambda: None)


def view_of(x: "Exchange", call: Call, plan: Plan, **more: Any) -> View:
    head = x.head

    def header(name: str) -> str:
        wanted = name.encode("ascii")
        first = head.get_name(wanted)
        if first is None:
            return ""
        if head.data[head.start : head.end].lower().count(b"\n" + wanted + b":") == 1:
            return first.decode("latin-1")
        return ", ".join(value.decode("latin-1") for key, value in head.items() if key.lower() == wanted)

    return plan.view(target=x.target, header=header, **more)
