"""Which models can be asked for here, and what is known of each: how much it reads, what it costs.

Rules: aliases of the configuration first, then what the list of `genai-prices` knows of the providers that have a
credential here, then nothing: a model that is not listed may still be asked for. Made once per configuration, when
it is first asked for, since the list is 30 MB of objects. Prices are dollars per million tokens, as decimal text.
Does not know: which models an account may use, HTTP.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from outrider.dialects.models import Model

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_SHOWN: Final = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, slots=True)
class Listed:
    """id: as it may be asked for. provider: as configured, "" for an alias. context_tokens: None where not known.

    prices: part of a tariff -> dollars per million tokens. targets: of an alias.
    """

    id: str
    provider: str = ""
    name: str = ""
    context_tokens: int | None = None
    prices: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    targets: tuple[str, ...] = ()


class Catalog:
    """aliases: alias -> targets ("provider/model"). providers: (name as configured, kind) of those that can be used."""

    def __init__(self, aliases: Mapping[str, Iterable[str]], providers: Iterable[tuple[str, str]]) -> None:
        self._aliases = {alias: tuple(targets) for alias, targets in aliases.items()}
        self._providers = tuple(providers)
        self._listed: dict[str, Listed] | None = None

    @property
    def is_made(self) -> bool:
        return self._listed is not None

    def all(self) -> tuple[Listed, ...]:
        return tuple(self._table().values())

    def find(self, name: str) -> Listed | None:
        return self._table().get(name)

    def _table(self) -> dict[str, Listed]:
        if self._listed is None:
            known = {listed.id: listed for provider, kind in self._providers for listed in _models_of(provider, kind)}
            self._listed = {alias: self._alias(alias, targets, known) for alias, targets in self._aliases.items()}
            self._listed.update((name, listed) for name, listed in known.items() if name not in self._listed)
        return self._listed

    @staticmethod
    def _alias(alias: str, targets: tuple[str, ...], known: Mapping[str, Listed]) -> Listed:
        """What every one of its targets can hold."""
        windows = [found.context_tokens for target in targets if (found := known.get(target)) is not None]
        told = [tokens for tokens in windows if tokens is not None]
        whole = len(told) == len(targets)
        return Listed(alias, context_tokens=min(told) if told and whole else None, targets=targets)


def _models_of(provider: str, kind: str) -> Iterator[Listed]:
    from genai_prices.data_snapshot import get_snapshot  # 0.2 s and 30 MB

    from outrider.govern.prices import LISTED, listed_prices

    now = datetime.now(UTC)
    owners = LISTED.get(kind, ())[:1]  # the further ones price what others make
    for owner in get_snapshot().providers:
        if owner.id not in owners:
            continue
        for model in owner.models:
            if model.deprecated:
                continue
            yield Listed(
                f"{provider}/{model.id}",
                provider,
                model.name or "",
                model.context_window,
                _shown(listed_prices(model, now)),
            )


def _shown(prices: Mapping[str, Fraction]) -> dict[str, str]:
    """From nano-dollars a token."""
    return {part: _decimal(prices[part] / 1000) for part in _SHOWN if part in prices}


def _decimal(value: Fraction) -> str:
    text = f"{float(value):.6f}".rstrip("0").rstrip(".")
    return text or "0"


def as_model(listed: Listed) -> "Model":
    """For the writers of listings. What OpenAI's shape has no name for stands beside the rest of it there."""
    from outrider.dialects.models import Model

    beside: dict[str, Any] = {}
    if listed.name:
        beside["name"] = listed.name
    if listed.prices:
        beside["pricing"] = {"unit": "usd_per_million_tokens", **listed.prices}
    if listed.targets:
        beside["targets"] = list(listed.targets)
    owner = listed.provider or "outrider"
    return Model(listed.id, listed.name or None, owner, context_tokens=listed.context_tokens, beside=beside)
