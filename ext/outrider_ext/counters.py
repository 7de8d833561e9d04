# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What limits count with, in this process's memory: rates by three algorithms, slots, and sums by period.

Rules kept
1. take(now, cost): 0 and taken, or nothing is taken and the answer is the ns to wait, or -1: never (cost > capacity).
2. give_back(at, cost) undoes a take; `at` is the time of that take, so that a window which is over by now is not
   credited with what was taken from it. force(now, cost) takes although there is not enough: a debt.
3. Token bucket: outrider_ext.gcra. Fixed window: at most `count` between two multiples of the period.
   Sliding window: used(t) = current + previous * w, w = ceil(2**16 * (period - elapsed) / period) / 2**16; a take is
   admitted while used + cost <= count. w is rounded up, so never more than count is admitted by the formula.
4. A clock that goes backwards stays in the window that it was in: no window is begun twice.
5. A sum of a period is never below zero. The sums of the last few periods that were asked for are kept; what is given
   back to another is dropped. None is too old to be spent in: a clock may be put right, a budget get other periods.

Does not know: keys, clocks, other processes.
"""

import cython  # type: ignore[import-untyped,unused-ignore]

from outrider_ext.gcra import Bucket

__all__ = ["BucketCounter", "Counter", "FixedWindow", "ForeignCounter", "SlidingWindow", "Slots", "Spend"]

if not cython.compiled:
    _FRACTION = 16  # bits of a weight
    _USED_CAP = 1 << 40

_PERIODS_KEPT = 3
_PERIOD_CAP_NS = 86_400_000_000_000


class Counter:
    """A rate. The base of those that compiled code calls without a Python frame."""

    def take(self, now_ns: int, cost: int = 1) -> int:
        return self.charge(now_ns, cost)

    def charge(self, now_ns: int, cost: int) -> int:
        """`take`, for compiled callers."""
        return 0

    def give_back(self, now_ns: int, cost: int) -> None:
        pass

    def force(self, now_ns: int, cost: int) -> None:
        pass

    def remaining(self, now_ns: int) -> int:
        return 0

    async def borrow(self, now_ns: int, cost: int) -> None:
        """What is counted here is never short of a lease."""


class BucketCounter(Counter):
    """The token bucket (GCRA)."""

    def __init__(self, count: int, period_ns: int, burst: int) -> None:
        self.bucket = Bucket(count, period_ns, burst)

    def charge(self, now_ns: int, cost: int) -> int:
        return self.bucket.take(now_ns, cost)

    def give_back(self, now_ns: int, cost: int) -> None:
        self.bucket.give_back(now_ns, cost)

    def force(self, now_ns: int, cost: int) -> None:
        self.bucket.force(now_ns, cost)

    def remaining(self, now_ns: int) -> int:
        return self.bucket.remaining(now_ns)


class FixedWindow(Counter):
    """At most `count` in each window that begins at a multiple of `period_ns`. Raises: ValueError for a bad rate."""

    def __init__(self, count: int, period_ns: int) -> None:
        _check(count, period_ns)
        self.count = count
        self.period_ns = period_ns
        self.start_ns = 0
        self.used = 0

    def charge(self, now_ns: int, cost: int) -> int:
        if cost > self.count:
            return -1
        self._roll(now_ns)
        if self.used + cost <= self.count:
            self.used += cost
            return 0
        return self.start_ns + self.period_ns - now_ns

    def give_back(self, now_ns: int, cost: int) -> None:
        if now_ns >= self.start_ns:
            self.used = self.used - cost if self.used > cost else 0

    def force(self, now_ns: int, cost: int) -> None:
        self._roll(now_ns)
        self.used = self.used + cost if self.used + cost < _USED_CAP else _USED_CAP

    def remaining(self, now_ns: int) -> int:
        self._roll(now_ns)
        return self.count - self.used if self.used < self.count else 0

    def _roll(self, now_ns: int) -> None:
        if now_ns >= self.start_ns + self.period_ns:
            self.start_ns = now_ns - now_ns % self.period_ns
            self.used = 0


class SlidingWindow(Counter):
    """The formula is rule 3's. Raises: ValueError for a bad rate."""

    def __init__(self, count: int, period_ns: int) -> None:
        _check(count, period_ns)
        self.count = count
        self.period_ns = period_ns
        self.start_ns = 0
        self.used = self.before = 0

    def charge(self, now_ns: int, cost: int) -> int:
        if cost > self.count:
            return -1
        self._roll(now_ns)
        if self.before * self._weight(now_ns) <= (self.count - self.used - cost) << _FRACTION:
            self.used += cost
            return 0
        return self._wait(now_ns, cost)

    def _wait(self, now_ns: int, cost: int) -> int:
        """Until the weight of the window before has sunk far enough: in this window, or else in the next or third."""
        left = self.count - self.used - cost
        at_ns = self.start_ns
        before = self.before
        if left < 0:
            left = self.count - cost
            at_ns += self.period_ns
            before = self.used
        if before > 0 and left << _FRACTION < before << _FRACTION:
            weight = (left << _FRACTION) // before
            at_ns += self.period_ns - (weight * self.period_ns >> _FRACTION)
        return at_ns - now_ns if at_ns > now_ns else 1

    def give_back(self, now_ns: int, cost: int) -> None:
        if now_ns >= self.start_ns:
            self.used = self.used - cost if self.used > cost else 0
        elif now_ns >= self.start_ns - self.period_ns:
            self.before = self.before - cost if self.before > cost else 0

    def force(self, now_ns: int, cost: int) -> None:
        self._roll(now_ns)
        self.used = self.used + cost if self.used + cost < _USED_CAP else _USED_CAP

    def remaining(self, now_ns: int) -> int:
        self._roll(now_ns)
        return self.count - self._spent(now_ns) if self._spent(now_ns) < self.count else 0

    def _spent(self, now_ns: int) -> int:
        return self.used + ((self.before * self._weight(now_ns) + 65535) >> _FRACTION)

    def _weight(self, now_ns: int) -> int:
        left_ns = self.start_ns + self.period_ns - now_ns
        left_ns = min(left_ns, self.period_ns)
        return ((left_ns << _FRACTION) + self.period_ns - 1) // self.period_ns

    def _roll(self, now_ns: int) -> None:
        if now_ns < self.start_ns + self.period_ns:
            return
        start_ns = now_ns - now_ns % self.period_ns
        self.before = self.used if start_ns == self.start_ns + self.period_ns else 0
        self.used = 0
        self.start_ns = start_ns


def _check(count: int, period_ns: int) -> None:
    if not 1 <= count <= 2147483647 or not 1 <= period_ns <= _PERIOD_CAP_NS:
        raise ValueError("A window counts 1 to 2**31 - 1 in a period of at most a day.")


class ForeignCounter(Counter):
    """A counter that a store wrote in Python."""

    def __init__(self, counter: object) -> None:
        self.counter = counter

    def charge(self, now_ns: int, cost: int) -> int:
        taken: int = self.counter.take(now_ns, cost)  # type: ignore[attr-defined]
        return taken

    def give_back(self, now_ns: int, cost: int) -> None:
        self.counter.give_back(now_ns, cost)  # type: ignore[attr-defined]

    def force(self, now_ns: int, cost: int) -> None:
        self.counter.force(now_ns, cost)  # type: ignore[attr-defined]

    def remaining(self, now_ns: int) -> int:
        left: int = self.counter.remaining(now_ns)  # type: ignore[attr-defined]
        return left


class Slots:
    """At most `limit` at once. release() once for each that was acquired; one too many is ignored."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0

    def acquire(self) -> bool:
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def release(self) -> None:
        if self.in_use > 0:
            self.in_use -= 1


class Spend:
    """Sums of amounts by period. A period's name sorts by time (ISO 8601, UTC)."""

    def __init__(self) -> None:
        self.period = ""
        self.sum = 0
        self._others: dict[str, int] = {}  # in the order in which they were at hand

    def add(self, period: str, amount: int) -> int:
        if period != self.period and not self._turn(period, amount):
            return 0
        self.sum = self.sum + amount if self.sum + amount > 0 else 0
        return self.sum

    def spent(self, period: str) -> int:
        return self.sum if period == self.period else self._others.get(period, 0)

    def is_idle(self, since: str) -> bool:
        """Whether nothing is spent in periods that began at that time or later."""
        if self.sum and self.period >= since:
            return False
        return not any(spent and period >= since for period, spent in self._others.items())

    def _turn(self, period: str, amount: int) -> bool:
        """It is the period at hand now. False: nothing is known of it, and nothing is spent."""
        if period not in self._others and amount <= 0:
            return False
        if self.period:
            self._others[self.period] = self.sum
        self.sum = self._others.pop(period, 0)
        self.period = period
        while len(self._others) >= _PERIODS_KEPT:
            del self._others[next(iter(self._others))]
        return True
