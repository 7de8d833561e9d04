"""What a call cost, when its usage is known: `call.cost_nusd`, by the model that answered.

Rules: a model whose price is not known is unpriced: counted, said once in the log, and never zero.
"""

from typing import TYPE_CHECKING

from outrider.govern.pricing import Pricing
from outrider.stack.call import LayerHook, Route
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext.limits import Clock, PriceCall
from outrider_ext.series import Tally

if TYPE_CHECKING:
    from outrider_ext.tariff import Tariff

_SAID_MAX = 200
_SHOWN_CHARS = 80


class PriceUsage:
    """The filter. pricing: None where nobody asks for dollars."""

    of_attempt = True

    def __init__(self, pricing: Pricing | None, clock: Clock, metrics: Metrics, log: JsonLog) -> None:
        self._pricing = pricing
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._said: set[tuple[str, str]] = set()

    def end(self, route: Route) -> LayerHook | None:
        pricing = self._pricing
        if pricing is None or not route.operation.usage:
            return None
        provider, kind = route.provider, route.binding.provider.name

        def tariff_of(answered: str | None, asked: str | None, tier: str | None) -> "tuple[Tariff | None, Tally]":
            label = self._metrics.model(asked or answered)
            return pricing.tariff(provider, kind, answered, asked, tier), self._metrics.costs_nusd.tally(
                (provider, label)
            )

        return PriceCall(self._clock, tariff_of, lambda model: self._unpriced(provider, model))

    def _unpriced(self, provider: str, model: str | None) -> None:
        label = self._metrics.model(model)
        self._metrics.unpriced.add((provider, label))
        if (provider, label) not in self._said and len(self._said) < _SAID_MAX:
            self._said.add((provider, label))
            shown = (model or "")[:_SHOWN_CHARS]
            self._log.event(
                "warning", "unpriced", provider=provider, model=shown,
                message=f"the price of {provider}/{shown} is not known; add it under prices:",
            )  # fmt: skip
