"""Remembered answers in one process, bounded in bytes: what was asked for often stays, one that is asked once does not.

Rules
- W-TinyLFU: a new entry lives in a small window; what falls out of it takes another's place in the main part only if it
  was asked for more often than that one. How often is kept in a sketch of fixed size, halved from time to time, so that
  what was popular yesterday ages. The main part has a protected share for what was asked for again.
- An entry larger than the main part is not kept. Nothing here waits and nothing grows: the sum of sizes is at most
  `max_bytes`, the number of entries at most `max_bytes / OVERHEAD_BYTES`, as each counts for at least that.
- A key is a hash of 16 bytes and more, which nobody can choose so that two are alike.
Does not know: time (who reads an entry judges its age), what an entry says.

Source: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" (2017). docs/cache.md has what
it gains over the least recently used on a trace; tests/store/test_cache_memory.py measures it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

OVERHEAD_BYTES = 512  # of an entry's objects, beside its bytes
WINDOW_SHARE = 0.01
PROTECTED_SHARE = 0.8
ROWS = 4
TOP = 15  # more often is as often
EXPECTED_BYTES = 4096  # of an entry, to size the sketch


class Sized(Protocol):
    """What can be kept. size_bytes: what it counts for."""

    @property
    def size_bytes(self) -> int: ...


class Sketch:
    """How often a key was asked for, roughly, never less than it was since the last halving; counters stop at TOP.

    Memory: ROWS bytes for each of `width` (a power of two) columns.
    """

    def __init__(self, width: int) -> None:
        self._mask = width - 1
        self._rows = [bytearray(width) for _ in range(ROWS)]
        self._added = 0
        self._period = 10 * width

    def add(self, key: bytes) -> None:
        hashed, mask = int.from_bytes(key[:16], "little"), self._mask
        for row in self._rows:
            at = hashed & mask
            hashed >>= 32
            if row[at] < TOP:
                row[at] += 1
        self._added += 1
        if self._added >= self._period:
            self._halve()

    def count(self, key: bytes) -> int:
        hashed, mask = int.from_bytes(key[:16], "little"), self._mask
        least = TOP
        for row in self._rows:
            least = min(least, row[hashed & mask])
            hashed >>= 32
        return least

    def _halve(self) -> None:
        self._added //= 2
        halves = bytes(value >> 1 for value in range(256))
        self._rows = [row.translate(halves) for row in self._rows]


class MemoryCache[V: Sized]:
    """key -> entry. `on_gone(key, entry)` is told of each that is not there any more, however it went."""

    def __init__(self, max_bytes: int, on_gone: Callable[[bytes, V], None] = lambda key, entry: None) -> None:
        self.max_bytes = max_bytes
        self.on_gone = on_gone
        self._window_bytes = max(int(max_bytes * WINDOW_SHARE), OVERHEAD_BYTES)
        self._main_bytes = max_bytes - self._window_bytes
        self._protected_bytes = int(self._main_bytes * PROTECTED_SHARE)
        width = 1 << max(8, (max_bytes // EXPECTED_BYTES).bit_length())
        self._sketch = Sketch(width)
        self._window: OrderedDict[bytes, V] = OrderedDict()
        self._probation: OrderedDict[bytes, V] = OrderedDict()
        self._protected: OrderedDict[bytes, V] = OrderedDict()
        self._in_window = self._in_probation = self._in_protected = 0

    def __len__(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    def __contains__(self, key: bytes) -> bool:
        """The question counts for nothing."""
        return key in self._window or key in self._protected or key in self._probation

    @property
    def held_bytes(self) -> int:
        return self._in_window + self._in_probation + self._in_protected

    def get(self, key: bytes) -> V | None:
        """The entry, and the question counts for it."""
        self._sketch.add(key)
        entry = self._window.get(key)
        if entry is not None:
            self._window.move_to_end(key)
            return entry
        entry = self._protected.get(key)
        if entry is not None:
            self._protected.move_to_end(key)
            return entry
        entry = self._probation.get(key)
        if entry is not None:
            self._protect(key, entry)
        return entry

    def put(self, key: bytes, entry: V) -> None:
        self.remove(key)
        size = _size(entry)
        if size > self._main_bytes:
            self.on_gone(key, entry)
            return
        self._window[key] = entry
        self._in_window += size
        while self._in_window > self._window_bytes and self._window:
            leaver, left = self._window.popitem(last=False)
            self._in_window -= _size(left)
            self._admit(leaver, left)

    def remove(self, key: bytes) -> bool:
        for part, name in (
            (self._window, "_in_window"),
            (self._probation, "_in_probation"),
            (self._protected, "_in_protected"),
        ):
            entry = part.pop(key, None)
            if entry is not None:
                setattr(self, name, getattr(self, name) - _size(entry))
                self.on_gone(key, entry)
                return True
        return False

    def remove_where(self, condition: Callable[[bytes, V], bool]) -> int:
        """How many went. Linear."""
        found = [key for key, entry in self.items() if condition(key, entry)]
        return sum(self.remove(key) for key in found)

    def items(self) -> Iterator[tuple[bytes, V]]:
        for part in (self._window, self._probation, self._protected):
            yield from part.items()

    def _protect(self, key: bytes, entry: V) -> None:
        """Asked for again: it is protected; whoever was asked for longest ago there no longer is."""
        size = _size(entry)
        del self._probation[key]
        self._in_probation -= size
        self._protected[key] = entry
        self._in_protected += size
        while self._in_protected > self._protected_bytes and len(self._protected) > 1:
            other, moved = self._protected.popitem(last=False)
            self._in_protected -= _size(moved)
            self._probation[other] = moved
            self._in_probation += _size(moved)

    def _admit(self, key: bytes, entry: V) -> None:
        """Into the main part, where those that have to go for it were asked for less often, each of them."""
        room = self._main_bytes - self._in_probation - self._in_protected - _size(entry)
        asked = self._sketch.count(key)
        leaving: list[bytes] = []
        for part in (self._probation, self._protected):
            for other, held in part.items():
                if room >= 0:
                    break
                if self._sketch.count(other) >= asked:
                    self.on_gone(key, entry)
                    return
                leaving.append(other)
                room += _size(held)
        for other in leaving:
            self.remove(other)
        self._probation[key] = entry
        self._in_probation += _size(entry)


def _size(entry: Sized) -> int:
    return entry.size_bytes + OVERHEAD_BYTES
