"""Windows, slots and sums, compiled and interpreted alike, judged by plain models."""

from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from outrider_ext.gcra import Bucket

SECOND = 10**9
PERIOD = 60 * SECOND


@pytest.fixture(params=both("counters"), ids=["compiled", "interpreted"])
def counters(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


STEPS = st.lists(st.tuples(st.sampled_from("tttgf"), st.integers(0, 90 * SECOND), st.integers(0, 12)), max_size=60)


class Log:
    """Every take, by time: what any window counts is added up anew each time."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []

    def within(self, start: int, end: int) -> int:
        return sum(cost for at, cost in self.taken if start <= at < end)


@pytest.mark.parametrize("build", both("counters"), ids=["compiled", "interpreted"])
@given(steps=STEPS)
def test_a_fixed_window_never_admits_more_than_its_count(build: Any, steps: Any) -> None:
    window, log, now = build.FixedWindow(10, PERIOD), Log(), 5 * PERIOD
    for what, ahead, cost in steps:
        now += ahead
        start = now - now % PERIOD
        used = log.within(start, start + PERIOD)
        if what == "t":
            wait_ns = window.take(now, cost)
            if cost > 10:
                assert wait_ns == -1
            elif used + cost <= 10:
                assert wait_ns == 0
                log.taken.append((now, cost))
            else:
                assert wait_ns == start + PERIOD - now
        elif what == "f":
            window.force(now, cost)
            log.taken.append((now, cost))
        elif log.taken:
            at, before = log.taken.pop()
            window.give_back(at, before)
        assert window.remaining(now) == max(10 - log.within(start, start + PERIOD), 0)


@pytest.mark.parametrize("build", both("counters"), ids=["compiled", "interpreted"])
@given(steps=STEPS)
def test_a_sliding_window_is_its_formula(build: Any, steps: Any) -> None:
    """used = current + previous * (period - elapsed) / period, the weight rounded up to 1/2**16."""
    window, log, now = build.SlidingWindow(10, PERIOD), Log(), 5 * PERIOD

    def used(at: int) -> Fraction:
        start = at - at % PERIOD
        weight = Fraction(-((-((start + PERIOD - at) << 16)) // PERIOD), 1 << 16)
        return log.within(start, start + PERIOD) + log.within(start - PERIOD, start) * weight

    for what, ahead, cost in steps:
        now += ahead
        if what == "t":
            wait_ns = window.take(now, cost)
            if cost > 10:
                assert wait_ns == -1
            elif used(now) + cost <= 10:
                assert wait_ns == 0
                log.taken.append((now, cost))
            else:
                assert wait_ns > 0
                later = now + wait_ns
                assert used(later) + cost <= 10 or later >= now - now % PERIOD + PERIOD
                assert wait_ns == 1 or used(later - 1) + cost > 10
        elif what == "f":
            window.force(now, cost)
            log.taken.append((now, cost))
        elif log.taken:
            window.give_back(*log.taken.pop())
        assert window.remaining(now) == max(10 - -(-used(now) // 1), 0)


@pytest.mark.parametrize("build", both("counters"), ids=["compiled", "interpreted"])
@given(steps=STEPS)
def test_a_bucket_counter_is_its_bucket(build: Any, steps: Any) -> None:
    counter, bucket, now = build.BucketCounter(10, PERIOD, 12), Bucket(10, PERIOD, 12), 0
    for what, ahead, cost in steps:
        now += ahead
        call = {"t": "take", "g": "give_back", "f": "force"}[what]
        assert getattr(counter, call)(now, cost) == getattr(bucket, call)(now, cost)
        assert counter.remaining(now) == bucket.remaining(now)


def test_a_debt_is_repaid_by_time(counters: ModuleType) -> None:
    bucket = counters.BucketCounter(10, 10 * SECOND, 10)
    bucket.force(0, 25)
    assert bucket.take(0, 1) == 16 * SECOND
    assert bucket.take(16 * SECOND, 1) == 0


def test_a_debt_has_an_end(counters: ModuleType) -> None:
    bucket = counters.BucketCounter(1, 3600 * SECOND, 1)
    for _ in range(10):
        bucket.force(0, 1 << 60)
    assert 0 < bucket.take(0, 1) <= 1 << 61


def test_a_clock_that_goes_back_begins_no_window_twice(counters: ModuleType) -> None:
    for window in (counters.FixedWindow(5, PERIOD), counters.SlidingWindow(5, PERIOD)):
        assert window.take(10 * PERIOD, 5) == 0
        assert window.take(9 * PERIOD, 1) > 0
        assert window.take(10 * PERIOD, 1) > 0


@pytest.mark.parametrize(("count", "period"), [(0, PERIOD), (1 << 31, PERIOD), (5, 0), (5, 10**15)])
def test_a_window_that_cannot_be_counted_is_refused(counters: ModuleType, count: int, period: int) -> None:
    for kind in (counters.FixedWindow, counters.SlidingWindow):
        with pytest.raises(ValueError, match="A window counts"):
            kind(count, period)


def test_slots_are_never_more_than_the_limit_and_never_below_none(counters: ModuleType) -> None:
    slots = counters.Slots(2)
    assert [slots.acquire() for _ in range(3)] == [True, True, False]
    slots.release()
    assert slots.acquire()
    for _ in range(5):
        slots.release()
    assert slots.in_use == 0


def test_a_sum_belongs_to_its_period(counters: ModuleType) -> None:
    spend = counters.Spend()
    assert spend.add("2026-01-01", 70) == 70
    assert spend.add("2026-01-02", 5) == 5
    assert spend.add("2026-01-01", -30) == 40  # a call that began yesterday
    assert (spend.spent("2026-01-01"), spend.spent("2026-01-02"), spend.spent("2026-01-03")) == (40, 5, 0)
    assert spend.add("2026-01-02", -50) == 0
    for day in range(3, 9):
        spend.add(f"2026-01-0{day}", day)
    assert spend.add("2026-01-01", -9) == 0  # given back too late: nothing is known of it
    assert spend.spent("2026-01-08") == 8
    assert spend.spent("2026-01-07") == 7


def test_a_period_that_begins_before_those_that_were_counted_is_spent_in_all_the_same(counters: ModuleType) -> None:
    """After a reload that makes a budget of hours one of days, and after a clock that was ahead was put right."""
    spend = counters.Spend()
    for hour in range(9, 14):
        spend.add(f"2026-01-02T{hour:02}", 1)
    assert spend.add("2026-01-02T00", 30) == 30
    assert spend.add("2026-01-02T13", -1) == 0
    assert spend.add("2026-01-02T00", 30) == 60
    assert not spend.is_idle("2026-01-02T00")
    assert spend.is_idle("2026-01-02T13")


class Elsewhere:
    """A counter of another store."""

    def take(self, now_ns: int, cost: int = 1) -> int:
        return -2 if now_ns == 0 else now_ns + cost

    def remaining(self, now_ns: int) -> int:
        return now_ns

    def give_back(self, now_ns: int, cost: int) -> None:
        self.said = ("back", now_ns, cost)

    def force(self, now_ns: int, cost: int) -> None:
        self.said = ("force", now_ns, cost)


def test_a_foreign_counter_is_asked(counters: ModuleType) -> None:
    there = Elsewhere()
    counter = counters.ForeignCounter(there)
    assert (counter.take(0, 1), counter.take(5, 2), counter.remaining(9)) == (-2, 7, 9)
    counter.give_back(1, 2)
    assert there.said == ("back", 1, 2)
    counter.force(3, 4)
    assert there.said == ("force", 3, 4)
