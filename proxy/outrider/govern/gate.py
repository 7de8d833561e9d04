"""Rules where nothing but a destination is known: may a tunnel to a host that no provider claims be opened at all?

Rules: it is a request of provider `other` and operation `tunnel`, by nobody in particular; rules that would
have to read its body have no part in it.
Does not know: sockets.
"""

from outrider.govern.plan import RuleSet
from outrider.govern.principal import ANONYMOUS
from outrider.govern.reading import View, tunnel_facts
from outrider.govern.verdicts import Outcome


def decide_tunnel(rules: RuleSet, host: str) -> Outcome | None:
    """None: no rule has anything to say."""
    if not rules.rules:
        return None
    facts = tunnel_facts(host.lower())
    route = rules.on_route(facts)
    if route is None:
        return None
    plan = route.plan(ANONYMOUS, "connect", False)
    if plan.outcome.refusal is not None:
        return plan.outcome
    late = plan.first if plan.first is not None else plan.for_models((), ())
    return late.decide(View(facts, ANONYMOUS, "connect"))
