"""Whether the rules let a call go to another provider, host or model than the one it was addressed to.

Rules kept: every target is judged as if the app had addressed it: with its provider, its host, its model's name, and
the app's own words. A target that is refused is left out, and so is one whose rules ask for a redaction or a rewrite
that the call has not had: what was made ready for one provider is not ready for every other. What needs no words is
decided once per caller, target and model.
Does not know: how a target is chosen, dialects.
"""

from typing import TYPE_CHECKING

from outrider.errors import SidecarError
from outrider.govern.plan import Plan, RouteRules
from outrider.govern.principal import ANONYMOUS
from outrider.govern.rules import Rewrite
from outrider.govern.verdicts import Outcome, PolicyDeniedError
from outrider.stack.body_rules import body_view
from outrider.stack.call import Call, Route
from outrider.stack.cheap_rules import Rules, facts_of_route, facts_of_target

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

MAX_REMEMBERED = 4096


class TargetRules:
    """One per configuration; `rules` is what the layers before the body share."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._found: dict[tuple[Route, Route, str], RouteRules | None] = {}

    def refusal(self, x: "Exchange", call: Call, to: Route, model: str) -> SidecarError | None:
        """Why this call may not be served there, None where it may. to: a route there; model: its name there."""
        found = self._rules_of(call.route, to, model)
        if found is None:
            return None
        principal = call.principal if call.principal is not None else ANONYMOUS
        plan = found.plan(principal, x.client.origin.kind, False)
        try:
            outcome = self._decide(x, call, plan, model)
        except SidecarError as error:
            return error
        return outcome.refusal.again() if outcome.refusal is not None else self._undone(call, outcome)

    def _rules_of(self, front: Route, to: Route, model: str) -> RouteRules | None:
        key = (front, to, model if front.operation.model_in == "path" else "")
        if key not in self._found:
            if len(self._found) >= MAX_REMEMBERED:
                self._found.clear()
            in_path = facts_of_route(front).model_source == "path"
            facts = facts_of_target(front, to.binding, to.destination_host, model if in_path else None)
            self._found[key] = self._rules.rules.on_route(facts)
        return self._found[key]

    def _decide(self, x: "Exchange", call: Call, plan: Plan, model: str) -> Outcome:
        if plan.is_final:
            return plan.outcome
        late = plan.first if plan.first is not None else plan.for_name(model)
        return late.decide(body_view(x, call, plan, self._rules.cap_bytes))

    @staticmethod
    def _undone(call: Call, outcome: Outcome) -> SidecarError | None:
        """What this target's rules ask for and the call has not had."""
        had = call.redactions or ()
        rules = [rule for rule, _, action in outcome.edits if rule not in call.rules and isinstance(action, Rewrite)]
        if any(asked not in had for asked in outcome.redactions):
            rules += [rule for rule in outcome.rules if rule not in call.rules]
        if not rules:
            return None
        sentence = f"for this target the rule {rules[0]} would have to change the request, and it did not"
        return PolicyDeniedError(sentence, rules[0])
