"""Limits and budgets of one process, in its memory.

Rules
- An object is made once per (name, key) and kept; asked for with other numbers, the rule is another one and begins
  anew. At most `max_keys` are kept: those that were asked for longest ago and hold nothing (a full bucket, a free slot,
  no spend in a period that may still run) make room.
- Where none can make room, further keys of a rule share one object: a limit is never passed by being many.
- Nothing here waits: `borrow` is never needed.
Does not know: requests, configuration.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.store.base import Algorithm, Counter, Slots, Spend
from outrider_ext import counters

OVERFLOW = "\0overflow"  # no key has this character
_MIN_ROOM = 8
_LONGEST = timedelta(days=32)  # than any period of a calendar


class MemoryStore:
    """clock() -> wall-clock ns, the one that the counters are asked with. on_evict: told when objects were forgotten,
    so that nobody goes on with one beside which a new one may stand. on_full: told when a key had to share.
    """

    def __init__(
        self, clock: Callable[[], int], max_keys: int = 100_000, on_full: Callable[[], None] = lambda: None
    ) -> None:
        self._clock = clock
        self.max_keys = max_keys
        self._on_full = on_full
        self.on_evict: Callable[[], None] = lambda: None
        self._kept: OrderedDict[tuple[str, str, str], tuple[tuple[Any, ...], Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def counter(self, name: str, key: str, *, algorithm: Algorithm, count: int, period_ns: int, burst: int) -> Counter:
        def make() -> Any:
            if algorithm == "fixed-window":
                return counters.FixedWindow(count, period_ns)
            if algorithm == "sliding-window":
                return counters.SlidingWindow(count, period_ns)
            return counters.BucketCounter(count, period_ns, burst)

        identity = (algorithm, count, period_ns, burst)
        found: Counter = self._find("rate", name, key, identity, make)
        return found

    def slots(self, name: str, key: str, *, limit: int) -> Slots:
        found: Slots = self._find("slots", name, key, (limit,), lambda: counters.Slots(limit))
        return found

    def spend(self, name: str, key: str) -> Spend:
        found: Spend = self._find("spend", name, key, (), counters.Spend)
        return found

    def keep_only(self, names: frozenset[str]) -> None:
        for place in [place for place in self._kept if place[1] not in names]:
            del self._kept[place]

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def _find(self, kind: str, name: str, key: str, identity: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        place = (kind, name, key)
        found = self._kept.get(place)
        if found is not None and found[0] == identity:
            self._kept.move_to_end(place)
            return found[1]
        if found is None and len(self._kept) >= self.max_keys and key != OVERFLOW and not self._make_room():
            self._on_full()
            return self._find(kind, name, OVERFLOW, identity, make)
        made = make()
        self._kept[place] = (identity, made)
        self._kept.move_to_end(place)
        return made

    def _make_room(self) -> bool:
        """Forget some that hold nothing, the ones asked for longest ago first."""
        wanted = max(self.max_keys // 16, _MIN_ROOM)
        now_ns = self._clock()
        since = f"{datetime.fromtimestamp(now_ns // 10**9, UTC) - _LONGEST:%Y-%m-%dT%H:%M:%SZ}"
        idle: list[tuple[str, str, str]] = []
        for place, (identity, kept) in self._kept.items():
            if place[2] != OVERFLOW and _is_idle(place[0], identity, kept, now_ns, since):
                idle.append(place)
                if len(idle) >= wanted:
                    break
        for place in idle:
            del self._kept[place]
        if idle:
            self.on_evict()
        return bool(idle)


def _is_idle(kind: str, identity: tuple[Any, ...], kept: Any, now_ns: int, since: str) -> bool:
    if kind == "slots":
        return bool(kept.in_use == 0)
    if kind == "spend":
        return bool(kept.is_idle(since))
    algorithm, count, _, burst = identity
    return bool(kept.remaining(now_ns) >= (burst if algorithm == "token-bucket" else count))
