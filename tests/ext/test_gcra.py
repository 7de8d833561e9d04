"""The token bucket, compiled and interpreted alike, judged by a model in exact fractions."""

from fractions import Fraction
from math import ceil
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both

BUILDS = both("gcra")
SECOND = 10**9
MINUTE = 60 * SECOND


@pytest.fixture(params=BUILDS, ids=["compiled", "interpreted"])
def gcra(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


class Model:
    """A bucket that holds a level: the textbook's, in fractions. Time must not go backwards."""

    def __init__(self, count: int, period_ns: int, burst: int) -> None:
        self.rate = Fraction(count, period_ns)
        self.burst = burst
        self.level = Fraction(burst)
        self.at_ns = 0

    def refill(self, now_ns: int) -> None:
        self.level = min(Fraction(self.burst), self.level + (now_ns - self.at_ns) * self.rate)
        self.at_ns = now_ns

    def wait(self, now_ns: int, cost: int) -> int:
        self.refill(now_ns)
        if cost > self.burst:
            return -1
        return max(0, ceil((cost - self.level) / self.rate))

    def take(self, now_ns: int, cost: int) -> int:
        wait_ns = self.wait(now_ns, cost)
        if wait_ns == 0:
            self.level -= cost
        return wait_ns

    def give_back(self, now_ns: int, cost: int) -> None:
        self.refill(now_ns)
        self.level = min(Fraction(self.burst), self.level + cost)


RATES = st.tuples(
    st.integers(1, 20) | st.integers(1, (1 << 31) - 1),
    st.sampled_from([1, 7, SECOND, MINUTE, 60 * MINUTE]) | st.integers(1, 1 << 50),
    st.integers(1, 20) | st.integers(1, (1 << 31) - 1),
).filter(lambda rate: rate[1] * rate[2] // rate[0] < 1 << 61)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "peek", "give_back", "wait"]),
        st.integers(0, 10) | st.integers(0, 1 << 40),
        st.integers(0, 5) | st.integers(0, 1 << 32),
    ),
    max_size=25,
)


@given(RATES, st.integers(0, 1 << 60), STEPS)
def test_every_answer_is_that_of_the_exact_model(
    rate: tuple[int, int, int], start_ns: int, steps: list[tuple[str, int, int]]
) -> None:
    for build in BUILDS:
        bucket, model, now_ns = build.Bucket(*rate), Model(*rate), start_ns
        for action, pause_ns, cost in steps:
            now_ns += pause_ns
            if action == "give_back":
                bucket.give_back(now_ns, cost)
                model.give_back(now_ns, cost)
            elif action == "peek":
                assert bucket.peek(now_ns, cost) == model.wait(now_ns, cost)
            else:
                wait_ns = bucket.take(now_ns, cost)
                assert wait_ns == model.take(now_ns, cost)
                if action == "wait" and wait_ns > 0:
                    if wait_ns > 1:
                        assert bucket.peek(now_ns + wait_ns - 1, cost) == 1
                    now_ns += wait_ns
                    assert bucket.take(now_ns, cost) == model.take(now_ns, cost) == 0
            model.refill(now_ns)
            assert bucket.remaining(now_ns) == int(model.level)


@given(RATES, st.lists(st.tuples(st.integers(0, 1 << 62), st.integers(0, 8)), max_size=20))
def test_both_builds_agree_whatever_the_clock_does(rate: tuple[int, int, int], steps: list[tuple[int, int]]) -> None:
    seen = []
    for build in BUILDS:
        bucket = build.Bucket(*rate)
        answers: list[Any] = []
        for now_ns, cost in steps:
            try:
                answers.append((bucket.take(now_ns, cost), bucket.remaining(now_ns), bucket.tat_ns))
                bucket.give_back(now_ns, cost // 2)
            except OverflowError:
                answers.append(now_ns)
        seen.append(answers)
    assert seen[0] == seen[1]


@given(RATES, st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30), st.integers(0, 1 << 40))
def test_a_clock_that_goes_backwards_never_admits_more(
    rate: tuple[int, int, int], clock: list[int], back_ns: int
) -> None:
    for build in BUILDS:
        jumping, steady = build.Bucket(*rate), build.Bucket(*rate)
        latest_ns = admitted = allowed = 0
        for now_ns in clock:
            latest_ns = max(latest_ns, now_ns)
            admitted += jumping.take(max(0, now_ns - back_ns)) == 0
            allowed += steady.take(latest_ns) == 0
            assert admitted <= allowed


@pytest.mark.parametrize(("count", "period_ns"), [(7, SECOND), (600, MINUTE), (1_000_003, SECOND), (90_000, MINUTE)])
def test_a_long_run_admits_exactly_the_rate_without_drift(gcra: ModuleType, count: int, period_ns: int) -> None:
    bucket = gcra.Bucket(count, period_ns, 1)
    now_ns, admitted = 10**15, 5_000
    for _ in range(admitted):
        assert bucket.take(now_ns) == 0
        now_ns += bucket.peek(now_ns)
    elapsed = now_ns - 10**15
    # Each wait is rounded up by less than a nanosecond and the next begins from there: no wait is ever short.
    assert Fraction(admitted * period_ns, count) <= elapsed < Fraction(admitted * period_ns, count) + admitted


@pytest.mark.parametrize("count", [7, 9, 600, 999_983])
def test_an_hour_of_full_load_admits_the_rate_and_the_burst_and_not_one_more(gcra: ModuleType, count: int) -> None:
    bucket = gcra.Bucket(count, SECOND, 10)
    admitted, step_ns = 0, SECOND // 3
    for tick in range(3 * 3600 + 1):
        now_ns = tick * step_ns
        while (left := bucket.remaining(now_ns)) > 0:
            assert bucket.take(now_ns, left) == 0
            admitted += left
        assert bucket.take(now_ns) > 0
    # Taken dry at every tick, a bucket that can hold a tick's tokens loses none; a shallow one is full each time.
    per_tick = Fraction(count, 3)
    exact = 10 + int(Fraction(count * 3 * 3600 * step_ns, SECOND)) if per_tick < 10 else 10 * (3 * 3600 + 1)
    assert admitted == exact


def test_a_bucket_starts_full_and_refills_one_by_one(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(3, 3 * SECOND)
    assert (bucket.count, bucket.period_ns, bucket.burst, bucket.tat_ns) == (3, 3 * SECOND, 3, 0)
    assert [bucket.take(SECOND) for _ in range(4)] == [0, 0, 0, SECOND]
    assert bucket.remaining(SECOND) == 0
    assert bucket.remaining(2 * SECOND) == 1
    assert bucket.tat_ns == 4 * SECOND


def test_a_refused_take_and_a_peek_take_nothing(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(2, SECOND)
    assert bucket.peek(0, 2) == 0
    assert bucket.take(0, 2) == 0
    assert bucket.take(0, 1) == bucket.take(0, 1) == bucket.peek(0, 1) == SECOND // 2


def test_a_cost_above_the_burst_is_never_admitted(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(100, SECOND, 5)
    assert bucket.take(0, 6) == bucket.peek(0, 6) == bucket.take(0, 1 << 62) == -1
    assert bucket.take(0, 5) == 0


def test_what_is_given_back_never_fills_a_bucket_above_its_burst(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(10, SECOND)
    bucket.take(0, 4)
    bucket.give_back(0, 1)
    assert bucket.remaining(0) == 7
    bucket.give_back(0, 1 << 62)
    assert bucket.remaining(0) == 10
    assert bucket.take(0, 10) == 0
    assert bucket.take(0) > 0


def test_a_nothing_costs_nothing(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(1, SECOND)
    assert bucket.take(0) == 0
    assert bucket.take(0, 0) == 0
    bucket.give_back(0, 0)
    assert bucket.remaining(0) == 0


def test_the_largest_rates_and_clocks_stay_exact(gcra: ModuleType) -> None:
    last_ns = (1 << 62) - 1
    bucket = gcra.Bucket(1, (1 << 61) - 1)
    assert bucket.take(last_ns) == 0
    assert bucket.take(last_ns) == (1 << 61) - 1
    assert bucket.take(0) == last_ns + (1 << 61) - 1
    assert (bucket.remaining(0), bucket.remaining(last_ns)) == (0, 0)
    fast = gcra.Bucket((1 << 31) - 1, 1)
    assert fast.take(last_ns, (1 << 31) - 1) == 0
    assert fast.take(last_ns) == 1
    assert fast.remaining(last_ns) == 0


@pytest.mark.parametrize(
    ("count", "period_ns", "burst"),
    [
        (0, 1, 1),
        (-1, 1, 1),
        (1 << 31, 1, 1),
        (1, 0, 1),
        (1, 1 << 61, 1),
        (1, 1, 0),
        (1, 1, 1 << 31),
        (1, 1 << 50, 1 << 12),
    ],
)
def test_a_rate_that_is_out_of_range_is_refused(gcra: ModuleType, count: int, period_ns: int, burst: int) -> None:
    with pytest.raises(ValueError, match=r"^A bucket"):
        gcra.Bucket(count, period_ns, burst)


def test_a_negative_cost_and_a_clock_out_of_range_are_refused(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(1, SECOND)
    for call in (bucket.take, bucket.peek, bucket.give_back):
        with pytest.raises(ValueError, match="negative"):
            call(0, -1)
        for now_ns in (-1, 1 << 62, 1 << 70):
            with pytest.raises(OverflowError):
                call(now_ns, 1)
    with pytest.raises(OverflowError):
        bucket.remaining(-1)


@given(
    rate=st.tuples(st.integers(1, 50), st.sampled_from([1, 7, SECOND, MINUTE]), st.integers(1, 50)),
    steps=st.lists(st.tuples(st.sampled_from("tf"), st.integers(0, MINUTE), st.integers(0, 200)), max_size=40),
)
@pytest.mark.parametrize("build", BUILDS, ids=["compiled", "interpreted"])
def test_what_is_forced_is_a_debt_that_time_repays(build: Any, rate: Any, steps: Any) -> None:
    count, period_ns, burst = rate
    bucket, model, now = build.Bucket(count, period_ns, burst), Model(count, period_ns, burst), 0
    for what, ahead, cost in steps:
        now += ahead
        if what == "f":
            bucket.force(now, cost)
            model.refill(now)
            model.level -= cost
        else:
            assert bucket.take(now, cost) == model.take(now, cost)
        model.refill(now)
        assert bucket.remaining(now) == max(int(model.level // 1), 0)


def test_a_debt_never_overflows(gcra: ModuleType) -> None:
    bucket = gcra.Bucket(1, 10**15, 1)
    for _ in range(50):
        bucket.force((1 << 62) - 1, (1 << 62) - 1)
    assert 0 < bucket.take((1 << 62) - 1) < 1 << 62
