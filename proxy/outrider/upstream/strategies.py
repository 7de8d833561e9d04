"""In which order the targets of a model are tried: one function per strategy, over candidates that can serve the call.

Rules
- A strategy gives an order over all candidates; the first is tried first, the rest are what failover has left.
- Candidates that their breaker or their own cap holds back come last: they are tried only when nobody else is left.
- Nothing here keeps state but the turn of a round robin; what is known of a target stands in its health.

Does not know: HTTP, bodies, clocks; `random()` is in [0, 1) and given.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

_NEAR = 2.0

type Random = Callable[[], float]


class Candidate(Protocol):
    """What a strategy reads of a target."""

    @property
    def health(self) -> Any: ...
    @property
    def weight(self) -> float: ...


class Turn:
    """The next place of a round robin."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0

    def next(self, count: int) -> int:
        at = self.at % count
        self.at = (at + 1) % count
        return at


def rotated[T](items: Sequence[T], at: int) -> list[T]:
    return [*items[at:], *items[:at]]


def weighted[T: Candidate](items: Sequence[T], draw: float) -> list[T]:
    """The one that `draw` (in [0, 1)) falls upon first, then the others, the heavier first."""
    total = sum(item.weight for item in items)
    if total <= 0:
        return list(items)
    left = draw * total
    chosen = len(items) - 1
    for at, item in enumerate(items):
        left -= item.weight
        if left < 0:
            chosen = at
            break
    others = [item for at, item in enumerate(items) if at != chosen]
    return [items[chosen], *sorted(others, key=lambda item: -item.weight)]


def sticky_draw(key: bytes) -> float:
    """The same number in [0, 1) for the same key, spread evenly."""
    return int.from_bytes(blake2b(key, digest_size=7).digest(), "big") / (1 << 56)


def least_busy[T: Candidate](items: Sequence[T]) -> list[T]:
    return sorted(items, key=lambda item: item.health.in_flight / max(item.weight, 1e-9))


def latency[T: Candidate](items: Sequence[T], now_ns: int, random: Random) -> list[T]:
    """The better of two drawn at random, then the others by score: the crowd does not run to one target at once.

    One that has been passed over for long comes first once.
    """
    by_score = sorted(items, key=lambda item: item.health.score_ms(now_ns))
    forgotten = next((item for item in items if item.health.wants_a_try(now_ns)), None)
    if forgotten is not None:
        return [forgotten, *(item for item in by_score if item is not forgotten)]
    enough = by_score[0].health.score_ms(now_ns) * _NEAR  # what is far behind is not drawn at all
    near = [item for item in by_score if item.health.score_ms(now_ns) <= enough]
    if len(near) < 3:
        return by_score
    first = int(random() * len(near))
    second = (first + 1 + int(random() * (len(near) - 1))) % len(near)
    best = near[min(first, second)]
    return [best, *(item for item in by_score if item is not best)]


def cheapest[T: Candidate](items: Sequence[T], cost_of: Callable[[T], float | None]) -> list[T]:
    """By cost; whose price is not known comes after all whose is, in the order of config."""
    priced = [(cost_of(item), at, item) for at, item in enumerate(items)]
    known = sorted((row for row in priced if row[0] is not None), key=lambda row: (row[0], row[1]))
    return [row[2] for row in known] + [row[2] for row in priced if row[0] is None]


def usable_first[T: Candidate](items: Sequence[T], is_usable: Callable[[T], bool]) -> list[T]:
    """The same order, with those behind that are held back now."""
    usable = [item for item in items if is_usable(item)]
    return usable if len(usable) == len(items) else usable + [item for item in items if item not in usable]
