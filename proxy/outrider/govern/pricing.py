"""Whether prices are asked for at all; the price list is read only then."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outrider.govern.prices import PriceBook
    from outrider_ext.tariff import Tariff


class Pricing:
    """tariff(...) as PriceBook's."""

    def __init__(self, book: "PriceBook") -> None:
        self._book = book
        self.tariff: Callable[[str, str, str | None, str | None, str | None], Tariff | None] = book.tariff


def pricing_of(
    budgets: Any,
    prices: Mapping[str, Any],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    compares: bool = False,
) -> Pricing | None:
    """None unless a budget is in dollars, `prices:` is configured, or targets are chosen by their cost."""
    if not compares and not prices and not any(budget.usd is not None for budget in budgets):
        return None
    from outrider.govern.prices import PriceBook

    return Pricing(PriceBook({name.lower(): price for name, price in prices.items()}, now))
