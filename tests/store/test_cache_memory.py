"""What the memory of answers keeps: no more bytes than it may, and what is asked for often rather than what is new."""

import itertools
import random
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.store.cache_memory import OVERHEAD_BYTES, MemoryCache, Sketch

KEYS, QUESTIONS, SCAN = 20_000, 120_000, 4_000


@dataclass(frozen=True, slots=True)
class Answer:
    size_bytes: int
    name: int = 0


def key(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def test_what_was_put_is_found_and_what_was_removed_is_not() -> None:
    gone: list[bytes] = []
    cache: MemoryCache[Answer] = MemoryCache(1 << 20, lambda key, entry: gone.append(key))
    cache.put(key(1), Answer(10))
    assert cache.get(key(1)) == Answer(10)
    assert cache.get(key(2)) is None
    assert (len(cache), cache.held_bytes) == (1, 10 + OVERHEAD_BYTES)
    cache.put(key(1), Answer(20))
    assert cache.get(key(1)) == Answer(20)
    assert cache.remove(key(1))
    assert not cache.remove(key(1))
    assert (len(cache), cache.held_bytes, gone) == (0, 0, [key(1), key(1)])


def test_an_entry_larger_than_all_there_is_is_not_kept_and_drives_nothing_out() -> None:
    cache: MemoryCache[Answer] = MemoryCache(100_000)
    cache.put(key(1), Answer(10))
    cache.put(key(2), Answer(1_000_000))
    assert cache.get(key(2)) is None
    assert cache.get(key(1)) is not None


def test_entries_go_by_a_condition() -> None:
    cache: MemoryCache[Answer] = MemoryCache(1 << 20)
    for number in range(100):
        cache.put(key(number), Answer(10, number))
    assert cache.remove_where(lambda _, entry: entry.name % 2 == 0) == 50
    assert {entry.name for _, entry in cache.items()} == set(range(1, 100, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30_000), st.booleans()), max_size=200))
def test_it_never_holds_more_than_it_may_and_its_sum_is_right(steps: list[tuple[int, int, bool]]) -> None:
    held: dict[bytes, Answer] = {}
    cache: MemoryCache[Answer] = MemoryCache(64_000, lambda key, entry: held.pop(key) and None)
    for number, size, asks in steps:
        if asks:
            assert cache.get(key(number)) == held.get(key(number))
            continue
        if cache.remove(key(number)):
            assert key(number) not in held
        held[key(number)] = Answer(size)
        cache.put(key(number), held[key(number)])
        assert cache.held_bytes <= cache.max_bytes
        assert cache.held_bytes == sum(entry.size_bytes + OVERHEAD_BYTES for entry in held.values())
        assert dict(cache.items()) == held


def test_the_sketch_never_says_less_than_was_asked_and_forgets_by_halves() -> None:
    sketch = Sketch(1024)
    for number in range(200):
        for _ in range(number % 10):
            sketch.add(key(number))
    assert all(sketch.count(key(number)) >= number % 10 for number in range(200))
    before = sketch.count(key(9))
    for _ in range(10 * 1024):
        sketch.add(key(10_000))
    assert sketch.count(key(9)) <= before // 2 + 1


# -- against the least recently used, on a Zipf trace with scans


class Lru:
    """The measure: what was asked for longest ago goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: OrderedDict[bytes, Answer] = OrderedDict()
        self._room = max_bytes

    def get(self, key: bytes) -> Answer | None:
        entry = self._kept.get(key)
        if entry is not None:
            self._kept.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Answer) -> None:
        self._kept[key] = entry
        self._room -= entry.size_bytes + OVERHEAD_BYTES
        while self._room < 0:
            _, gone = self._kept.popitem(last=False)
            self._room += gone.size_bytes + OVERHEAD_BYTES


def trace(exponent: float = 0.9, *, scans: bool) -> list[int]:
    """Questions whose popularity falls as a power of the rank; now and then a batch asks once for much that is new."""
    chance = random.Random(7)
    cumulated = list(itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(KEYS)))
    asked = chance.choices(range(KEYS), cum_weights=cumulated, k=QUESTIONS)
    if not scans:
        return asked
    new = itertools.count(KEYS)
    mixed: list[int] = []
    for at, number in enumerate(asked):
        mixed.append(number)
        if at % 20_000 == 19_999:
            mixed += itertools.islice(new, SCAN)
    return mixed


def hit_rate(cache: MemoryCache[Answer] | Lru, questions: list[int], sizes: list[int]) -> float:
    hits = 0
    for number in questions:
        if cache.get(key(number)) is not None:
            hits += 1
        else:
            cache.put(key(number), Answer(sizes[number % len(sizes)]))
    return hits / len(questions)


def rates(*, scans: bool) -> tuple[float, float]:
    sizes = [int(random.Random(number).lognormvariate(7.5, 0.8)) for number in range(997)]
    room = 1000 * (sum(sizes) // len(sizes) + OVERHEAD_BYTES)  # about a thousand of 20,000 answers
    questions = trace(scans=scans)
    return hit_rate(MemoryCache(room), questions, sizes), hit_rate(Lru(room), questions, sizes)


def test_it_hits_more_often_than_the_least_recently_used_also_with_scans() -> None:
    """docs/cache.md has these figures."""
    ours, lru = rates(scans=False)
    scanned, lru_scanned = rates(scans=True)
    print(f"\nhit rate: {ours:.1%} (LRU {lru:.1%}); with scans {scanned:.1%} (LRU {lru_scanned:.1%})")
    assert ours > lru + 0.05
    assert scanned > lru_scanned + 0.05
