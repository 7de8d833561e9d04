"""The judge of a store: what every implementation of outrider.store.base.Store has to do, whatever it is kept in.

    await check_store(make_store)        # make_store() -> a new Store over a state of its own, not yet started

Raises: AssertionError, with the promise that was broken. Times are the machine's own clock: what a store takes from
afar is taken by the clock there, so rates here are slow enough (per hour) that the run itself refills nothing.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from outrider.store.base import NEEDS_LEASE, NEVER, Store

_HOUR_NS = 3_600_000_000_000
_TRIES = 200


async def take(counter: Any, cost: int = 1) -> int:
    """What a caller does: take; where a lease is needed, borrow and take again."""
    for _ in range(_TRIES):
        answer: int = counter.take(time.time_ns(), cost)
        if answer != NEEDS_LEASE:
            return answer
        await counter.borrow(time.time_ns(), cost)
    raise AssertionError(f"borrow brought neither {cost} nor a time to wait in {_TRIES} tries")


async def acquire(slots: Any) -> bool:
    """The same for a slot: a store that leases them says so by `needs_lease`."""
    for _ in range(_TRIES):
        if slots.acquire():
            return True
        if not getattr(slots, "needs_lease", False):
            return False
        await slots.borrow()
    raise AssertionError(f"borrow brought neither a slot nor a refusal in {_TRIES} tries")


async def check_store(make_store: Callable[[], Store]) -> None:
    for check in CHECKS:
        store = make_store()
        await store.start()
        try:
            await check(store)
        finally:
            await store.close()


def _bucket(store: Store, key: str, count: int = 50, burst: int = 50, name: str = "limit") -> Any:
    return store.counter(name, key, algorithm="token-bucket", count=count, period_ns=_HOUR_NS, burst=burst)


async def _admitted(counter: Any, tries: int, cost: int = 1) -> int:
    return sum([await take(counter, cost) == 0 for _ in range(tries)])


async def check_a_burst_and_not_one_more(store: Store) -> None:
    counter = _bucket(store, "one")
    assert await _admitted(counter, 80) == 50, "exactly the burst is admitted"
    wait_ns = await take(counter)
    assert 0 < wait_ns <= _HOUR_NS / 50, "what is refused is told how long to wait"


async def check_a_cost_above_the_burst(store: Store) -> None:
    counter = _bucket(store, "never")
    assert await take(counter, 51) == NEVER, "more than the burst is never admitted"
    assert await take(counter, 50) == 0, "and took nothing"


async def check_keys_and_numbers_apart(store: Store) -> None:
    first, again, other = _bucket(store, "a"), _bucket(store, "a"), _bucket(store, "b")
    assert await take(first, 50) == 0
    assert await take(again) > 0, "the same key is the same counter"
    assert await take(other, 50) == 0, "another key has its own"
    assert await take(_bucket(store, "a", 60, 60), 60) == 0, "a rule with other numbers begins anew"


async def check_given_back(store: Store) -> None:
    counter = _bucket(store, "back")
    assert await take(counter, 50) == 0
    counter.give_back(time.time_ns(), 20)
    assert await _eventually(lambda: _admitted(counter, 20), 20), "what was given back can be taken again"
    assert await take(counter) > 0
    counter.give_back(time.time_ns(), 10_000)
    assert await _eventually(lambda: _admitted(counter, 60), 50), "a counter never holds more than its burst"


async def check_debts(store: Store) -> None:
    counter = _bucket(store, "debt", 3_600_000, 50)  # 1 a ms
    assert await take(counter, 50) == 0
    counter.force(time.time_ns(), 100_000)
    wait_ns = await take(counter)
    assert wait_ns > 50_000_000_000, "what was forced is paid back by time"


async def check_windows(store: Store) -> None:
    for algorithm in ("fixed-window", "sliding-window"):
        counter: Any = store.counter("window", algorithm, algorithm=algorithm, count=10, period_ns=_HOUR_NS, burst=10)
        admitted = await _admitted(counter, 15)
        assert admitted == 10, f"a {algorithm} admits its count"
        assert 0 < await take(counter) <= 3 * _HOUR_NS
        assert await take(counter, 11) == NEVER
        counter.give_back(time.time_ns(), 3)
        assert await _eventually(lambda counter=counter: _admitted(counter, 5), 3)  # type: ignore[misc]


async def check_slots(store: Store) -> None:
    slots = store.slots("concurrent", "k", limit=3)
    assert [await acquire(slots) for _ in range(4)] == [True, True, True, False], "at most the limit at once"
    assert slots.in_use == 3
    slots.release()
    assert await acquire(slots), "a slot that came free is had again"
    for _ in range(5):
        slots.release()
    assert slots.in_use == 0, "one release too many is ignored"
    assert [await acquire(slots) for _ in range(4)] == [True, True, True, False]
    for _ in range(3):
        slots.release()


async def check_spend(store: Store) -> None:
    spend = store.spend("budget", "k")
    day, after = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    assert spend.spent(day) == 0
    assert spend.add(day, 1_000_000_007) == 1_000_000_007
    assert spend.add(day, 5) == 1_000_000_012
    assert spend.add(day, -12) == spend.spent(day) == 1_000_000_000
    assert spend.add(after, 7) == spend.spent(after) == 7, "each period has its own sum"
    assert spend.spent(day) == 1_000_000_000
    assert spend.add(after, -100) == 0, "a sum is never below zero"
    assert store.spend("budget", "k").spent(day) == 1_000_000_000, "the same key is the same sum"
    assert store.spend("budget", "other").spent(day) == 0
    for hour in range(10, 15):
        spend.add(f"2026-01-03T{hour}:00:00Z", 1)
    longer = "2026-01-03T00:00:00Z"
    assert [spend.add(longer, 9), spend.add(longer, 9)] == [9, 18], "a budget of hours may become one of days"


async def check_rules_that_are_gone(store: Store) -> None:
    kept, gone = _bucket(store, "k", name="kept"), _bucket(store, "k", name="gone")
    assert await take(kept, 50) == 0
    assert await take(gone, 50) == 0
    store.keep_only(frozenset({"kept"}))
    assert await take(_bucket(store, "k", name="kept")) > 0, "a rule that stays goes on counting"


async def _eventually(ask: Callable[[], Awaitable[int]], wanted: int) -> bool:
    """What is given back to a store far away comes back with its next answer."""
    got = 0
    for _ in range(_TRIES):
        got += await ask()
        if got >= wanted:
            return got == wanted
        await _pass_on()
    return False


async def _pass_on() -> None:
    import asyncio

    await asyncio.sleep(0.005)


CHECKS: tuple[Callable[[Store], Awaitable[None]], ...] = (
    check_a_burst_and_not_one_more,
    check_a_cost_above_the_burst,
    check_keys_and_numbers_apart,
    check_given_back,
    check_debts,
    check_windows,
    check_slots,
    check_spend,
    check_rules_that_are_gone,
)
