"""What a model costs: the price list of `genai-prices`, and over it what configuration says.

Rules
- An unknown model is None: unpriced, never zero. What an answer names counts before what was asked for.
- Prices are exact fractions (Decimal in the list, decimal text in configuration), brought over one denominator.
- A price that the list does not have is that of the whole: cached input as input, an hour's cache write as any other,
  reasoning as output, audio as text; audio read from the cache as what is read from the cache.
- Tiers: "batch", and what the provider calls its service tier; one that a model has no prices for costs the usual.
- Prices change at times that the list knows; so a look-up is remembered for a quarter of an hour, and no longer.
Does not know: exchanges, budgets.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from functools import reduce
from math import lcm
from typing import Any

from outrider_ext.tariff import PARTS, Tariff

QUARTER_S = 900
_MEMO_MAX = 4096
_MODEL_CHARS = 256
# Our providers in the list's names. What runs on one's own machine has no list price.
LISTED = {
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "gemini": ("google",),
    "vertex": ("google", "anthropic"),
    "azure": ("azure", "openai"),
    "bedrock": ("aws",),
    "mistral": ("mistral",),
    "cohere": ("cohere",),
    "together": ("together",),
    "moonshot": ("moonshotai",),
    "groq": ("groq",),
    "deepseek": ("deepseek",),
    "xai": ("x-ai",),
    "perplexity": ("perplexity",),
    "fireworks": ("fireworks",),
    "openrouter": ("openrouter",),
}
_KEYS = {  # part of a tariff -> the list's name for it
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "cache_audio": "cache_audio_read_mtok",
    "request": "requests_kcount",
}
_WHOLE = {  # whose price a part has that has none of its own; in an order in which the wholes come first
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "output_audio": "output",
    "cache_audio": "cache_read",
}
# What a service tier is in the list's words. All others are looked for as they are called.
_CONTEXTS = {"batch": {"processing": "batch"}, "speed-fast": {"speed": "fast"}}

type Steps = dict[int, Mapping[str, Fraction]]  # over so many input tokens -> part -> nano-dollars a token


class PriceBook:
    """overrides: "provider/model" -> config's Price; a name may end in "*". now() -> an aware datetime."""

    def __init__(self, overrides: Mapping[str, Any], now: Callable[[], datetime]) -> None:
        from genai_prices.data_snapshot import get_snapshot  # 0.2 s and 30 MB: only for those who count money

        self._list = get_snapshot()
        self._overrides = overrides
        self._now = now
        self._memo: dict[tuple[str, str, str | None], Tariff | None] = {}
        self._quarter = -1

    def tariff(
        self, provider: str, kind: str, answered: str | None, asked: str | None, tier: str | None
    ) -> Tariff | None:
        """provider: as configured; kind: the built-in provider that it is."""
        for model in (answered, asked):
            if model and len(model) <= _MODEL_CHARS:
                found = self._remembered(provider, kind, model.lower(), tier)
                if found is not None:
                    return found
        return None

    def _remembered(self, provider: str, kind: str, model: str, tier: str | None) -> Tariff | None:
        now = self._now()
        quarter = int(now.timestamp()) // QUARTER_S
        if quarter != self._quarter or len(self._memo) >= _MEMO_MAX:
            self._memo.clear()
            self._quarter = quarter
        key = (provider, model, tier)
        if key not in self._memo:
            steps = self._configured(provider, model, tier) or self._listed(kind, model, tier, now)
            self._memo[key] = _tariff(steps) if steps is not None else None
        return self._memo[key]

    # -- configuration

    def _configured(self, provider: str, model: str, tier: str | None) -> Steps | None:
        price = _best(self._overrides, f"{provider}/{model}")
        if price is None:
            return None
        if tier is not None and tier in price.tiers:
            price = price.tiers[tier]
        steps: Steps = {-1: _parts(price)}
        for step in sorted(getattr(price, "above", ()), key=lambda step: int(step.tokens)):
            steps[step.tokens] = {**steps[-1], **_parts(step)}
        return steps

    # -- the list

    def _listed(self, kind: str, model: str, tier: str | None, now: datetime) -> Steps | None:
        for listed in LISTED.get(kind, ()):
            try:
                owner, info = self._list.find_provider_model(model.removeprefix("models/"), None, listed, None)
            except LookupError:
                continue
            context = _CONTEXTS.get(tier, {"service_tier": tier}) if tier else None
            own = any(info is one for one in owner.models)
            steps = _steps(vars(info.get_prices(now, context if own else None)))
            if steps is not None:
                return steps
        return None


def listed_prices(info: Any, now: datetime) -> Mapping[str, Fraction]:
    """Of a model of the list, for short inputs: part -> nano-dollars a token; {} where it is not priced by tokens."""
    steps = _steps(vars(info.get_prices(now, None)))
    return steps[-1] if steps is not None else {}


def _best(overrides: Mapping[str, Any], name: str) -> Any:
    """The exact name, else the longest pattern."""
    exact = overrides.get(name)
    if exact is not None:
        return exact
    patterns = [key for key in overrides if key.endswith("*") and name.startswith(key[:-1])]
    return overrides[max(patterns, key=len)] if patterns else None


def _parts(price: Any) -> dict[str, Fraction]:
    told = ((part, getattr(price, part, None)) for part in PARTS)
    return {part: _per_token(part, amount) for part, amount in told if amount is not None}


def _per_token(part: str, dollars: Any) -> Fraction:
    """Nano-dollars of one, from dollars a million tokens, or dollars a thousand requests."""
    return Fraction(dollars) * (1_000_000 if part == "request" else 1000)


def _steps(prices: Mapping[str, Any]) -> Steps | None:
    """A model's row of the list; None where it is not priced by tokens."""
    told = {part: prices[key] for part, key in _KEYS.items() if prices.get(key) is not None}
    if "input" not in told and "output" not in told:
        return None
    overs = sorted({tier.start for price in told.values() for tier in getattr(price, "tiers", ())})
    return {over: {part: _per_token(part, _at(price, over)) for part, price in told.items()} for over in (-1, *overs)}


def _at(price: Any, over: int) -> Any:
    """A price of the list for inputs of more than `over` tokens."""
    found = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if over >= tier.start:
            found = tier.price
    return found


def _tariff(steps: Steps) -> Tariff:
    rows = [(over, _filled(parts)) for over, parts in sorted(steps.items())]
    denominator = reduce(lcm, (price.denominator for _, row in rows for price in row), 1)
    return Tariff(tuple((over, tuple(int(price * denominator) for price in row)) for over, row in rows), denominator)


def _filled(told: Mapping[str, Fraction]) -> tuple[Fraction, ...]:
    prices = dict(told)
    for part, whole in _WHOLE.items():
        prices.setdefault(part, prices.get(whole, Fraction(0)))
    return tuple(prices.get(part, Fraction(0)) for part in PARTS)
