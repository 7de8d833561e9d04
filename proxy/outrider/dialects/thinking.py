"""How hard to think: one provider's words for it in another's numbers, and back.

Does not know: where in a body it stands.
"""

from typing import Final

from outrider.dialects.canonical import Reasoning

__all__ = ["budget_of", "effort_of_budget", "is_off"]

_BUDGETS: Final = {
    "none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768,
}  # fmt: skip
_EFFORTS: Final = ((0, "none"), (1024, "minimal"), (2048, "low"), (8192, "medium"))


def budget_of(reasoning: Reasoning) -> int | None:
    """Tokens to think with; 0 for none, -1 where the model decides, None where nothing is said."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    if reasoning.effort is not None:
        return _BUDGETS.get(reasoning.effort)
    return -1 if reasoning.adaptive else None


def effort_of_budget(budget_tokens: int) -> str | None:
    """The nearest effort; None where the model decides."""
    if budget_tokens < 0:
        return None
    return next((effort for most, effort in _EFFORTS if budget_tokens <= most), "high")


def is_off(reasoning: Reasoning) -> bool:
    return reasoning.budget_tokens == 0 or (reasoning.budget_tokens is None and reasoning.effort == "none")
