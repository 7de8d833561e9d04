"""In which order targets are tried, and what their health remembers; retries and their budget."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import BreakerKeys, Retry
from outrider.upstream.health import Health, Healths
from outrider.upstream.retries import RetryBudget, wait_s
from outrider.upstream.strategies import (
    Turn,
    cheapest,
    latency,
    least_busy,
    rotated,
    sticky_draw,
    usable_first,
    weighted,
)

S = 1_000_000_000
MS = 1_000_000


@dataclass(eq=False)
class One:
    health: Health
    weight: float = 1.0


def ones(*weights: float) -> list[One]:
    return [One(Health(str(at), BreakerKeys()), weight) for at, weight in enumerate(weights)]


# -- orders


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True), st.integers(0, 99))
def test_every_strategy_gives_each_target_once(weights: list[float], draw: float, turns: int) -> None:
    items, turn = ones(*weights), Turn()
    at = [turn.next(len(items)) for _ in range(turns + 1)][-1]
    for found in (
        rotated(items, at),
        weighted(items, draw),
        least_busy(items),
        latency(items, S, lambda: draw),
        cheapest(items, lambda item: None if item.weight > 50 else item.weight),
        usable_first(items, lambda item: item.weight > 20),
    ):
        assert len(found) == len(items)
        assert {id(item) for item in found} == {id(item) for item in items}


def test_a_round_robin_takes_each_in_turn() -> None:
    items, turn = ones(1, 1, 1), Turn()
    assert [items.index(rotated(items, turn.next(3))[0]) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_weights_are_shares_and_the_heavier_is_next() -> None:
    items, chance = ones(1, 3, 6), random.Random(1)
    first = Counter(items.index(weighted(items, chance.random())[0]) for _ in range(10_000))
    assert [round(first[at] / 10_000, 1) for at in range(3)] == [0.1, 0.3, 0.6]
    assert [items.index(item) for item in weighted(items, 0.0)] == [0, 2, 1]


def test_a_weight_of_nothing_is_never_first() -> None:
    items = ones(0, 1)
    assert all(weighted(items, draw / 100)[0] is items[1] for draw in range(100))


def test_the_same_key_falls_on_the_same_target_and_keys_spread() -> None:
    items = ones(1, 1)
    assert sticky_draw(b"a") == sticky_draw(b"a")
    first = Counter(items.index(weighted(items, sticky_draw(str(at).encode()))[0]) for at in range(2000))
    assert 900 < first[0] < 1100


def test_the_least_busy_for_its_weight_is_first() -> None:
    items = ones(1, 4)
    items[0].health.in_flight, items[1].health.in_flight = 1, 3
    assert least_busy(items)[0] is items[1]


def test_the_cheapest_is_first_and_the_unpriced_last() -> None:
    items = ones(3, 0, 2)
    assert [item.weight for item in cheapest(items, lambda item: item.weight or None)] == [2, 3, 0]


# -- latency


def drive(items: list[One], took_ms: list[float], calls: int, now: int, every_ms: float = 10) -> tuple[list[int], int]:
    """So many calls, one after the other; (the index of the target of each, the time after them)."""
    went = []
    for _ in range(calls):
        order = latency(items, now, random.random)
        first = order[0]
        for item in order[1:]:
            item.health.passed_over += 1
        first.health.passed_over = 0
        at = items.index(first)
        first.health.took(now, took_ms[at])
        went.append(at)
        now += int(every_ms * MS)
    return went, now


@pytest.mark.parametrize("count", [2, 3])
def test_nine_in_ten_go_to_the_fast_target_within_200_calls(count: int) -> None:
    items = ones(*[1.0] * count)
    went, _ = drive(items, [20.0] + [400.0] * (count - 1), 200, S)
    assert went.count(0) >= 0.9 * 200


def test_a_target_that_recovers_is_back_within_30_seconds() -> None:
    items = ones(1, 1)
    _, now = drive(items, [20, 100], 200, S)
    went, now = drive(items, [2000, 100], 200, now)
    assert went.count(1) >= 190
    went, _ = drive(items, [20, 100], 300, now, every_ms=100)
    assert set(went[-20:]) == {0}


def test_a_failure_weighs_as_a_slow_answer() -> None:
    items = ones(1, 1)
    _, now = drive(items, [20, 30], 10, S)
    items[0].health.failed(now)
    assert latency(items, now, random.random)[0] is items[1]


def test_calls_that_wait_already_make_a_target_worse() -> None:
    items = ones(1, 1)
    for item, ms in zip(items, (20, 30), strict=True):
        item.health.took(S, ms)
    items[0].health.in_flight = 3
    assert latency(items, S, random.random)[0] is items[1]


def test_the_90th_percentile_is_known_after_twenty_answers_and_forgets_old_ones() -> None:
    health = Health("a", BreakerKeys())
    for at in range(19):
        health.took(S, at)
    assert health.p90_ms is None
    health.took(S, 19)
    assert health.p90_ms == 18
    for _ in range(500):
        health.took(S, 7)
    assert health.p90_ms == 7


def test_healths_are_bounded_and_those_in_use_stay() -> None:
    healths = Healths()
    busy = healths.of("busy", BreakerKeys())
    busy.in_flight = 1
    for at in range(Healths.MOST + 10):
        healths.of(str(at), BreakerKeys())
    assert len(healths.all()) <= Healths.MOST
    assert healths.of("busy", BreakerKeys()) is busy


# -- retries


def test_a_budget_admits_a_share_of_the_calls_and_what_trickles_in() -> None:
    budget = RetryBudget(share=0.25, min_per_s=0)
    admitted = 0
    for _ in range(1000):
        budget.saw_call(S)
        admitted += budget.take(S)
    assert admitted == 250
    slow = RetryBudget(share=0, min_per_s=2)
    assert [slow.take(S) for _ in range(9)] == [True] * 8 + [False]
    assert [slow.take(2 * S) for _ in range(3)] == [True, True, False]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, S)), max_size=300))
def test_never_more_retries_than_the_share_and_what_was_saved(steps: list[tuple[bool, int]]) -> None:
    budget, now, calls, retries = RetryBudget(share=0.2, min_per_s=1), S, 0, 0
    for is_call, later in steps:
        now += later
        if is_call:
            calls += 1
            budget.saw_call(now)
        else:
            retries += budget.take(now)
    assert retries <= 4 + 0.2 * calls + (now - S) / S + 1e-6


@given(st.integers(0, 30), st.floats(0, 1, exclude_max=True))
def test_waits_grow_by_chance_up_to_a_cap(retries: int, draw: float) -> None:
    settings = Retry(base_ms=100, max_ms=5000)
    wait = wait_s(settings, retries, None, lambda: draw)
    assert wait is not None
    assert 0 <= wait <= min(0.1 * 2**retries, 5)


def test_what_the_provider_asks_for_counts_up_to_a_cap() -> None:
    settings = Retry(base_ms=100, max_wait_s=10)
    assert wait_s(settings, 0, 3, lambda: 0.5) == pytest.approx(3.05)
    assert wait_s(settings, 0, 10.5, lambda: 0.0) is None
