"""`limits:` and `budgets:` at the body: tokens and dollars are borrowed before the call, and what is counted by model.

Rules: for every call of an operation that makes tokens, with a body or without, known or passed through; the smallest
of the burst, and the input's estimate with the 90th percentile of what this caller's answers held, at most what the
request allows. The difference is settled by the end hook of `stack.limits`. What a call with several targets borrows is
the word of `stack.loans`. A call of our own borrows for the caller whose call it serves.
"""

from collections.abc import Callable

from outrider.govern.limits import Rulebook, counts_tokens
from outrider.govern.pricing import Pricing
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.stack.call import LayerHook, Route
from outrider.stack.limits import slow_way
from outrider.stack.loans import Loans
from outrider_ext.limits import Borrow, Plan
from outrider_ext.tariff import Tariff


class BorrowTokens:
    """The filter. pricing: None where nothing is counted in dollars. is_planned: as `stack.limits.Limits`."""

    def __init__(
        self,
        rules: Rulebook,
        pricing: Pricing | None,
        is_planned: Callable[[Route], bool] = lambda route: False,
    ) -> None:
        self._rules = rules
        self._pricing = pricing
        self._is_planned = is_planned
        self._loans = Loans(rules, self._borrow)

    def body(self, route: Route) -> LayerHook | None:
        planned = self._is_planned(route)
        if not self._rules.has_body_rules(route.provider, counts=counts_tokens(route.operation), planned=planned):
            return None
        return self._borrow(route, planned=planned)

    def own(self, route: Route) -> LayerHook | None:
        """Nobody waits in a queue for a call of our own: it is not made."""
        if not self._rules.has_body_rules(route.provider, counts=counts_tokens(route.operation)):
            return None
        return self._borrow(route, planned=False, queues=False)

    def _borrow(self, route: Route, *, planned: bool, queues: bool = True) -> Borrow:
        rules, provider, operation = self._rules, route.provider, route.operation.name
        counts = counts_tokens(route.operation)
        kind, pricing = route.binding.provider.name, self._pricing

        def plan_of(principal: Principal, model: str | None) -> Plan:
            return rules.body_plan(provider, kind, operation, principal, model, counts=counts, planned=planned)

        def tariff_of(plan: Plan, model: str | None) -> Tariff | None:
            return pricing.tariff(provider, kind, None, model, None) if pricing is not None else None

        return Borrow(
            rules.ledger.clock,
            rules.table("body", provider, operation, planned=planned),
            plan_of,
            slow_way(rules, route, second=True, queues=queues),
            ANONYMOUS,
            tariff_of,
            counts,
            self._loans.first if planned else None,
        )
