"""The store in memory: one object per (name, key), bounded, and nobody passes a limit by being many."""

import pytest

from outrider.store.memory import MemoryStore

SECOND = 10**9


class World:
    def __init__(self, max_keys: int) -> None:
        self.now_ns, self.full, self.evicted = 10**18, 0, 0
        self.store = MemoryStore(lambda: self.now_ns, max_keys, self._full)
        self.store.on_evict = self._evict

    def _full(self) -> None:
        self.full += 1

    def _evict(self) -> None:
        self.evicted += 1

    def rate(self, key: str, name: str = "a", count: int = 5, algorithm: str = "token-bucket"):  # type: ignore[no-untyped-def]
        return self.store.counter(name, key, algorithm=algorithm, count=count, period_ns=SECOND, burst=count)  # type: ignore[arg-type]


def test_an_object_is_made_once() -> None:
    w = World(100)
    assert w.rate("x") is w.rate("x")
    assert w.rate("x") is not w.rate("y")
    assert w.rate("x") is not w.rate("x", name="b")
    assert w.store.slots("a", "x", limit=3) is w.store.slots("a", "x", limit=3)
    assert w.store.spend("a", "x") is w.store.spend("a", "x")


def test_another_rate_is_another_rule() -> None:
    w = World(100)
    first = w.rate("x")
    assert w.rate("x", count=6) is not first
    assert w.rate("x", algorithm="fixed-window") is not first
    assert w.store.slots("a", "x", limit=3) is not w.store.slots("a", "x", limit=4)


def test_what_holds_nothing_makes_room_the_oldest_first() -> None:
    w = World(16)
    used = [w.rate(f"k{n}") for n in range(16)]
    for n in (0, 1):
        used[n].take(w.now_ns, 5)
    w.rate("k2")  # asked for again: the newest now
    w.rate("new")
    assert len(w.store) <= 16
    assert w.evicted == 1
    assert w.rate("k0") is used[0]
    assert w.rate("k1") is used[1]
    assert w.rate("k2") is used[2]
    assert w.rate("k3") is not used[3]


def test_where_none_can_go_further_keys_share_one() -> None:
    w = World(8)
    for n in range(8):
        w.rate(f"k{n}").take(w.now_ns, 1)
    shared = w.rate("more")
    assert w.rate("still more") is shared
    assert w.full == 2
    assert len(w.store) == 9
    w.now_ns += SECOND
    assert w.rate("later") is not shared


@pytest.mark.parametrize(("period", "is_over"), [("2001-08-01T00:00:00Z", True), ("2001-08-20T00:00:00Z", False)])
def test_what_was_spent_in_a_period_that_is_over_makes_room(period: str, is_over: bool) -> None:
    w = World(8)  # it is the 9th of September
    for n in range(8):
        w.store.spend("a", f"k{n}").add(period, 1)
    w.rate("x")
    assert (w.full, w.evicted) == ((0, 1) if is_over else (1, 0))


@pytest.mark.parametrize("kind", ["slots", "spend"])
def test_slots_in_use_and_money_spent_are_not_forgotten(kind: str) -> None:
    w = World(8)
    for n in range(8):
        if kind == "slots":
            w.store.slots("a", f"k{n}", limit=2).acquire()
        else:
            w.store.spend("a", f"k{n}").add("2026-01-01T00:00:00Z", 1)
    before = len(w.store)
    w.rate("x")
    assert (len(w.store), w.full, w.evicted) == (before + 1, 1, 0)


def test_a_reload_forgets_the_rules_that_are_gone() -> None:
    w = World(100)
    kept, gone = w.rate("x", name="kept"), w.rate("x", name="gone")
    w.store.keep_only(frozenset({"kept"}))
    assert w.rate("x", name="kept") is kept
    assert w.rate("x", name="gone") is not gone


async def test_memory_needs_no_lease() -> None:
    w = World(8)
    await w.store.start()
    await w.rate("x").borrow(w.now_ns, 1)
    await w.store.close()
