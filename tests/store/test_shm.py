"""Limits shared by processes: exact over all of them, whoever dies."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.store.memory import MemoryStore
from outrider.store.shm import OVERFLOW, SharedMemory, ShmStore, StoreFullError
from outrider.testing.check_store import check_store
from outrider_ext import counters
from outrider_ext.gcra import Bucket

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    made = SharedMemory.create(2000)
    yield made
    made.close()


def store_of(memory: SharedMemory, worker: int = 0, now_ns: int = NOW, **more: Any) -> ShmStore:
    return ShmStore(memory, worker, lambda: now_ns, **more)


def bucket(store: Any, key: str = "k", count: int = 100, burst: int = 100, period_ns: int = SECOND) -> Any:
    return store.counter("limit", key, algorithm="token-bucket", count=count, period_ns=period_ns, burst=burst)


def test_it_keeps_what_every_store_promises(memory: SharedMemory) -> None:
    import asyncio

    workers = iter(range(40))
    made: list[SharedMemory] = []

    def make() -> ShmStore:
        made.append(SharedMemory.create(200))
        return ShmStore(made[-1], next(workers), time.time_ns)

    asyncio.run(check_store(make))
    for one in made:
        one.close()


def test_so_does_the_store_in_memory() -> None:
    import asyncio

    asyncio.run(check_store(lambda: MemoryStore(time.time_ns)))


# -- the same as in one process's memory, step by step


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "give_back", "force", "remaining"]),
        st.integers(-(1 << 34), 1 << 40),
        st.integers(0, 300),
    ),
    max_size=40,
)
RATES = st.tuples(st.integers(1, 1 << 31), st.integers(1 << 14, 1 << 44), st.integers(1, 1000)).filter(
    lambda rate: rate[0] < 1 << 31 and rate[1] * rate[2] // rate[0] < 1 << 61
)


def twin(algorithm: str, rate: tuple[int, int, int]) -> Any:
    count, period_ns, burst = rate
    if algorithm == "fixed-window":
        return counters.FixedWindow(count, period_ns)
    if algorithm == "sliding-window":
        return counters.SlidingWindow(count, period_ns)
    return Bucket(count, period_ns, burst)


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window", "sliding-window"])
@given(rate=RATES, steps=STEPS)
def test_every_answer_is_that_of_the_counter_in_memory(algorithm: str, rate: Any, steps: Any) -> None:
    memory = SharedMemory.create(200)
    try:
        stores = [store_of(memory, worker) for worker in range(3)]
        count, period_ns, burst = rate
        shared: list[Any] = [
            store.counter("limit", "k", algorithm=algorithm, count=count, period_ns=period_ns, burst=burst)  # type: ignore[arg-type]
            for store in stores
        ]
        model, now_ns = twin(algorithm, rate), NOW
        for at, (action, pause_ns, cost) in enumerate(steps):
            now_ns += pause_ns
            one = shared[at % 3]
            if action == "take":
                wanted = model.take(now_ns, cost)
                assert one.take(now_ns, cost) == wanted
            elif action == "remaining":
                assert one.remaining(now_ns) == model.remaining(now_ns)
            else:
                getattr(model, action)(now_ns, cost)
                getattr(one, action)(now_ns, cost)
            if algorithm == "token-bucket":
                assert one.state[0] == model.tat_ns
    finally:
        memory.close()


# -- processes


def _spend_all(fd: int, worker: int, tries: int, pipe: Any) -> None:
    store = ShmStore(SharedMemory.open(fd), worker, lambda: NOW)
    rate, window, slots, sums = _four(store)
    admitted = [0, 0, 0]
    for _ in range(tries):
        admitted[0] += rate.take(NOW, 1) == 0
        admitted[1] += window.take(NOW, 1) == 0
        if slots.acquire():
            admitted[2] = max(admitted[2], slots.in_use)
            slots.release()
        sums.add("2026-01-01", 3)
    pipe.send(admitted)
    pipe.close()
    os._exit(0)


def _four(store: ShmStore) -> tuple[Any, Any, Any, Any]:
    return (
        bucket(store, count=7, burst=50_000, period_ns=7 * SECOND),
        store.counter("w", "k", algorithm="sliding-window", count=30_000, period_ns=SECOND, burst=1),
        store.slots("s", "k", limit=3),
        store.spend("b", "k"),
    )


def test_processes_that_race_admit_exactly_the_burst_and_lose_no_sum(memory: SharedMemory) -> None:
    started = []
    tries = 25_000
    for worker in range(4):
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_spend_all, args=(memory.fd, worker, tries, theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
    seen = []
    for process, ours in started:
        assert ours.poll(60)
        seen.append(ours.recv())
        ours.close()
        process.join(60)
        process.close()
    assert sum(admitted[0] for admitted in seen) == 50_000
    assert sum(admitted[1] for admitted in seen) == 30_000
    store = store_of(memory, 9)
    _, _, slots, sums = _four(store)
    assert slots.in_use == 0
    assert sums.spent("2026-01-01") == 4 * tries * 3


def _hold_slots(fd: int, worker: int, pipe: Any) -> None:
    store = ShmStore(SharedMemory.open(fd), worker, lambda: NOW)
    slots = store.slots("s", "k", limit=3)
    rng = random.Random(worker)
    held = 0
    pipe.send("ready")
    while True:  # until it is killed, wherever it is then
        if held and rng.random() < 0.5:
            slots.release()
            held -= 1
        elif slots.acquire():
            held += 1


def test_slots_of_a_worker_that_is_killed_anywhere_come_back(memory: SharedMemory) -> None:
    store = store_of(memory, 9)
    slots: Any = store.slots("s", "k", limit=3)
    for _ in range(5):
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_hold_slots, args=(memory.fd, 1, theirs))
        process.start()
        theirs.close()
        assert ours.poll(120)
        ours.recv()
        for _ in range(20_000):
            assert slots.in_use <= 4  # its own attempt may show for a moment
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(120)
        process.close()
        ours.close()
        store.forget_worker(1)
        assert slots.in_use == 0
        assert [slots.acquire() for _ in range(4)] == [True, True, True, False]
        for _ in range(3):
            slots.release()


def test_a_worker_that_begins_anew_finds_none_of_its_slots_taken(memory: SharedMemory) -> None:
    first = store_of(memory, 1).slots("s", "k", limit=2)
    other = store_of(memory, 2).slots("s", "k", limit=2)
    assert first.acquire()
    assert first.acquire()
    assert not other.acquire()
    store_of(memory, 1)
    assert other.acquire()


# -- the table


def test_cells_that_count_nothing_are_used_again_and_others_never(memory: SharedMemory) -> None:
    """Ten times as many keys as cells: those that are in debt, or that a worker holds, stay what they are."""
    busy, now = store_of(memory, 1), [NOW]
    passing = ShmStore(memory, 2, lambda: now[0], max_keys=10)
    kept = [bucket(busy, f"kept {i}", 1, 5) for i in range(20)]
    for counter in kept:
        assert counter.take(NOW, 5) == 0
    for i in range(20_000):
        assert bucket(passing, f"passing {i}", 1000, 1).take(now[0]) == 0
        now[0] += SECOND // 1000
    cells, _ = passing.in_use
    assert cells <= memory.cells
    for counter in kept:
        assert counter.take(NOW, 1) > 0  # still empty: nobody else counted there
    assert all(bucket(busy, f"kept {i}", 1, 5) is counter for i, counter in enumerate(kept))


def test_a_full_table_makes_further_keys_share_one_counter_and_says_so() -> None:
    memory = SharedMemory.create(1)
    told: list[int] = []
    store = ShmStore(memory, 0, lambda: NOW, max_keys=100_000, on_full=lambda: told.append(1))
    store.counter("limit", OVERFLOW, algorithm="token-bucket", count=1, period_ns=SECOND * 3600, burst=5)
    admitted = 0
    keys = memory.cells * 2
    for i in range(keys):
        admitted += bucket(store, f"{i}", 1, 5, SECOND * 3600).take(NOW, 5) == 0
    assert told
    assert admitted <= memory.cells
    memory.close()


def test_a_period_that_is_over_makes_room_and_its_sum_stays_at_hand(memory: SharedMemory) -> None:
    store, other = store_of(memory, 0), store_of(memory, 1)
    spend = store.spend("b", "k")
    for day in range(1, 20):
        assert spend.add(f"2026-01-{day:02}", day) == day
    assert spend.spent("2026-01-19") == 19
    assert spend.spent("2026-01-18") == 18
    assert spend.add("2026-01-02", 1) in (0, 3)  # over for long: dropped, unless its cell is still there
    assert other.spend("b", "k").spent("2026-01-19") == 19


@pytest.mark.parametrize(("days", "is_over"), [(31, False), (33, True)])
def test_the_sum_of_a_period_that_is_over_makes_room_though_nobody_retired_it(days: int, is_over: bool) -> None:
    """Its key was not seen again."""
    memory = SharedMemory.create(1)
    told: list[int] = []
    now = [NOW]
    store = ShmStore(memory, 0, lambda: now[0], max_keys=1, on_full=lambda: told.append(1))
    for number in range(memory.cells * 2):
        store.spend("b", f"{number}").add("2027-01", 1)
    assert told
    now[0] += days * 86_400 * SECOND
    told.clear()
    with contextlib.suppress(StoreFullError):
        for number in range(memory.cells // 2):
            store.spend("b", f"{number}").add("2027-02", 1)
    assert bool(told) != is_over
    memory.close()


def test_a_dead_holder_of_the_lock_does_not_block_others(memory: SharedMemory) -> None:
    ours, theirs = FORK.Pipe()

    def die_with_the_lock(fd: int, pipe: Any) -> None:
        store = ShmStore(SharedMemory.open(fd), 1, lambda: NOW)
        store._lock()
        pipe.send("locked")
        signal.pause()

    process = FORK.Process(target=die_with_the_lock, args=(memory.fd, theirs))
    process.start()
    theirs.close()
    assert ours.poll(120)
    process.kill()
    process.join(120)
    process.close()
    ours.close()
    assert bucket(store_of(memory, 2)).take(NOW) == 0


def test_each_mark_of_a_budget_is_said_by_one_worker_and_again_in_the_next_period(memory: SharedMemory) -> None:
    stores = [ShmStore(memory, number, lambda: 1) for number in range(3)]
    said: list[tuple[str, str]] = []
    spends: list[Any] = [store.spend("day", "k") for store in stores]
    for period in ("2026-01", "2026-02"):
        for spend in spends:
            spend.add(period, 1)
            for mark in ("50", "100"):
                spend.say_once(period, mark, lambda period=period, mark=mark: said.append((period, mark)))
    assert said == [("2026-01", "50"), ("2026-01", "100"), ("2026-02", "50"), ("2026-02", "100")]
    before = stores[0].in_use[0]
    for month in range(3, 9):  # the cells of periods that are over are used again
        for spend in spends:
            spend.add(f"2026-0{month}", 1)
            spend.say_once(f"2026-0{month}", "50", lambda: None)
    assert len(spends[0]._marks) <= 5
    assert stores[0].in_use[0] <= before + 12
