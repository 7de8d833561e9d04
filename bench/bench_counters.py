"""What counting costs: python -m bench.bench_counters"""

from collections.abc import Callable
from typing import Any

from bench.cases import Case, run_alone
from outrider_ext.counters import BucketCounter, FixedWindow, SlidingWindow, Slots, Spend

NOW_NS = 10**18
MOST = (1 << 31) - 1


def taking(name: str, make: Callable[[], Any]) -> Case:
    def both(counter: Any) -> int:
        waited: int = counter.take(NOW_NS, 1)
        counter.give_back(NOW_NS, 1)
        return waited

    return Case(f"{name}: taken and given back", make, both, lambda counter, waited: waited == 0)


def slot(slots: Slots) -> bool:
    taken = slots.acquire()
    slots.release()
    return taken


CASES = (
    taking("token bucket", lambda: BucketCounter(MOST, 10**9, MOST)),
    taking("fixed window", lambda: FixedWindow(MOST, 10**9)),
    taking("sliding window", lambda: SlidingWindow(MOST, 10**9)),
    Case("a slot, taken and freed", lambda: Slots(1), slot, lambda slots, taken: taken and slots.in_use == 0),
    Case("a sum of this period", Spend, lambda spend: spend.add("2026", 1), lambda spend, total: total > 0),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
