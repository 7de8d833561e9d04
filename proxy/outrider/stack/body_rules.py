"""Rules with the body: those that name a model or read the app's own words; rewrites and routes.

Rules kept: which model counts is found wherever the provider takes it from, and what could be read in two ways is
refused; conditions are evaluated together, once; a body that a rule has to read and that cannot be read is refused,
never skipped; edits are made in the call's document, which is written once, behind all layers.
Does not know: what comes before the body (cheap_rules.py), dialects (govern/rewrites.py).
"""

from typing import TYPE_CHECKING

from outrider.errors import SidecarError
from outrider.govern.plan import Late, Plan, carry_out
from outrider.govern.reading import View, max_tokens_places, token_count
from outrider.govern.rules import Route as RouteTo
from outrider.stack.call import Call, LayerHook, Route
from outrider.stack.cheap_rules import Rules, view_of
from outrider.stack.document import document_of, plain_body
from outrider_ext.rulehooks import DecideLate, Settled

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

MAX_REMEMBERED = 1024
MAX_REMEMBERED_CHARS = 120  # the app chooses the model's name


class BodyRules:
    """The filter."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def body(self, route: Route) -> LayerHook | None:
        found = self._rules.of(route)
        if found is None or not (found.can_be_late or found.can_need_body):
            return None
        return DecideLate(self._settle, self._act)

    def _settle(self, x: "Exchange", call: Call, early: Settled, model: str | None) -> Settled:
        plan: Plan = early.source
        if model is None:
            return self._settled(self._found(x, call, plan))
        settled = self._settled(plan.for_name(model) if plan.wants_models else plan.for_models((), ()))
        if len(model) <= MAX_REMEMBERED_CHARS:
            if len(early.by_model) >= MAX_REMEMBERED:
                early.by_model.clear()
            early.by_model[model] = settled
        return settled

    def _found(self, x: "Exchange", call: Call, plan: Plan) -> Late:
        """The decision where the models have to be looked for."""
        view = body_view(x, call, plan, self._rules.cap_bytes)
        try:
            late = plan.late_for(view)
        except SidecarError:
            if plan.needs_body:
                raise
            return Late(plan, None, (), "the body cannot be read")  # only shadow rules wanted it
        self._note(call, view)
        return late

    def _settled(self, late: Late) -> Settled:
        outcome = late.outcome
        acts = late.dynamic or outcome.refusal is not None or bool(outcome.edits) or bool(outcome.lifts)
        return self._rules.settled(outcome, late, plan=None, acts=acts, dynamic=late.dynamic, body_cap=late.body_cap)

    @staticmethod
    def _note(call: Call, view: View) -> None:
        """What the scan of the plain body did not see: a form's model, a compressed body's, a query's."""
        try:
            if call.model is None and view.models:
                call.model = view.models[0].name
        except (ValueError, SidecarError):
            return  # it was refused, or nobody wanted to know

    def _act(self, x: "Exchange", call: Call, settled: Settled) -> None:
        late: Late = settled.source
        view = body_view(x, call, late.plan, self._rules.cap_bytes)
        outcome = late.decide(view)
        if outcome is not late.outcome:
            self._rules.put(call, outcome, None if late.dynamic else late.outcome)
        Rules.refuse(call, outcome)
        if outcome.edits:
            known, outcome = outcome, outcome.copy()
            carry_out(outcome, view, lambda: document_of(x, call, self._rules.cap_bytes).change())
            self._rules.put(call, outcome, known)
            Rules.refuse(call, outcome)
            self._follow(call, view)
            for _, _, edit in outcome.edits:
                if isinstance(edit, RouteTo):
                    call.routed = edit.provider, edit.model
                    break
        if outcome.lifts:
            self._rules.lift(x, call, outcome, view, lambda: document_of(x, call, self._rules.cap_bytes).change())

    @staticmethod
    def _follow(call: Call, view: View) -> None:
        """The model, the stream and the longest answer as they leave: what is borrowed is worked out from them."""
        document = view.document or {}
        asked = [token_count(place[key]) for place, key in max_tokens_places(document)]
        if asked and call.max_tokens > max(asked) > 0:
            call.max_tokens = max(asked)
        model, stream = document.get("model"), document.get("stream")
        if isinstance(model, str) and view.facts.model_source == "body":
            call.model = model
        if isinstance(stream, bool):
            call.stream = stream


def body_view(x: "Exchange", call: Call, plan: Plan, cap_bytes: int) -> View:
    """What rules see of a call once its body is there."""
    return view_of(
        x,
        call,
        plan,
        plain_body=lambda: plain_body(x, cap_bytes),
        parse=lambda: document_of(x, call, cap_bytes).value,
    )
