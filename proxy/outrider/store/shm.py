"""Limits and budgets that the workers of one host share, in memory that they all map.

Rules
- Counting takes no lock and no system call, and is exact over all workers (outrider_ext.sharedcells). A key that this
  worker sees for the first time is looked up under a lock of the file, which the kernel frees when its holder dies.
- The table is bounded: `max_keys` cells, a quarter as many for slots. Where no cell can be used again, further keys of
  a rule share one: a limit is never passed by being many.
- The memory has no name: whoever was not given its descriptor does not reach it. It is gone with its last process.
- What lies there are numbers and hashes of keys under a key that lies beside them: nothing that a dump would tell.
Does not know: workers' processes; it is told when one died (`forget_worker`).
"""

import contextlib
import fcntl
import mmap
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Self
from weakref import WeakValueDictionary

from outrider.errors import StartError
from outrider.store.base import Algorithm, Counter, Slots, Spend
from outrider_ext import sharedcells
from outrider_ext.sharedcells import Handle, Segment, SharedSum

OVERFLOW = "\0overflow"  # no key has this character
MAX_WORKERS = sharedcells.MAX_WORKERS
_LEAST_CELLS = 1024
_PERIODS_KEPT = 3
_KEY_BYTES = 32
_MAGIC = b"outrider shm 1\0\0"
_NUMBERS_AT = len(_MAGIC) + _KEY_BYTES


class SharedMemory:
    """The memory: made once (`create`) by whoever starts the workers, and mapped by its descriptor (`open`)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.view = mmap.mmap(fd, 0)
        if self.view[: len(_MAGIC)] != _MAGIC:
            self.view.close()
            raise StartError("the shared memory of the workers is of another version; restart all of them")
        self.key = self.view[len(_MAGIC) : _NUMBERS_AT]
        self.cells = int.from_bytes(self.view[_NUMBERS_AT : _NUMBERS_AT + 8], "little")
        self.slots = int.from_bytes(self.view[_NUMBERS_AT + 8 : _NUMBERS_AT + 16], "little")

    @classmethod
    def create(cls, max_keys: int = 100_000) -> Self:
        """Raises: StartError. Pages that are never counted in take no memory."""
        if not sharedcells.LOCK_FREE:
            raise StartError(
                "state: shm needs a processor with 128-bit compare-and-swap (x86-64, arm64); use memory", 2
            )
        cells = max(max_keys * 4 // 3, _LEAST_CELLS)
        slots = max(max_keys // 4, _LEAST_CELLS)
        fd = os.memfd_create("outrider-state", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, sharedcells.segment_bytes(cells, slots))
            header = (
                _MAGIC + secrets.token_bytes(_KEY_BYTES) + cells.to_bytes(8, "little") + slots.to_bytes(8, "little")
            )
            os.pwrite(fd, header, 0)
            return cls(fd)
        except OSError as exc:
            os.close(fd)
            raise StartError(
                f"cannot make the shared memory of the workers: {exc.strerror}; lower caps.limit_keys"
            ) from exc

    @classmethod
    def open(cls, fd: int) -> Self:
        """Of a descriptor that was handed down. Raises: StartError."""
        try:
            return cls(fd)
        except (OSError, ValueError) as exc:
            raise StartError("cannot map the shared memory of the workers; restart all of them") from exc

    def close(self) -> None:
        """The mapping itself goes when the last counter in it does."""
        with contextlib.suppress(BufferError):
            self.view.close()
        del self.view
        os.close(self.fd)


class ShmStore:
    """One worker's sight of the memory. worker: its number, of no other living process. clock() -> wall-clock ns."""

    def __init__(
        self,
        memory: SharedMemory,
        worker: int,
        clock: Callable[[], int],
        max_keys: int = 100_000,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory = memory
        self._clock = clock
        self.max_keys = max_keys
        self._on_full = on_full
        self.on_evict: Callable[[], None] = lambda: None
        self._segment = Segment(memory.view, memory.cells, memory.slots, worker, self._lock, self._unlock)
        # What was asked for last is kept; what rows still hold is found again: a cell has one handle here.
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._alive: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
        self.forget_worker(worker)

    def __len__(self) -> int:
        return len(self._kept)

    # -- the interface

    def counter(self, name: str, key: str, *, algorithm: Algorithm, count: int, period_ns: int, burst: int) -> Counter:
        kind = sharedcells.BUCKET if algorithm == "token-bucket" else -2 - period_ns

        def make(handle: Handle) -> Any:
            if algorithm == "fixed-window":
                return sharedcells.SharedFixedWindow(handle, count, period_ns)
            if algorithm == "sliding-window":
                return sharedcells.SharedSlidingWindow(handle, count, period_ns)
            return sharedcells.SharedBucket(handle, count, period_ns, burst)

        numbers = (algorithm, count, period_ns, burst if algorithm == "token-bucket" else 0)
        found: Counter = self._find(kind, name, key, numbers, make)
        return found

    def slots(self, name: str, key: str, *, limit: int) -> Slots:
        found: Slots = self._find(
            sharedcells.SLOTS, name, key, (limit,), lambda handle: sharedcells.SharedSlots(handle, limit)
        )
        return found

    def spend(self, name: str, key: str) -> Spend:
        place = ("spend", name, key)
        found: _Spend | None = self._kept.get(place) or self._alive.get(place)
        if found is None:
            found = _Spend(
                lambda period, insert: self._sum(name, key, period, insert=insert),
                lambda period, mark: self._mark(name, key, period, mark),
            )
        self._keep(place, found)
        return found

    def keep_only(self, names: frozenset[str]) -> None:
        """Their cells are used again when they count nothing; sums of budgets that are gone at once."""
        for place in [place for place in self._kept if place[1] not in names]:
            kept = self._kept.pop(place)
            if isinstance(kept, _Spend):
                kept.retire()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """What this worker holds comes back at once."""
        self._kept.clear()
        self.forget_worker(self._segment.worker)

    def forget_worker(self, worker: int) -> int:
        """That process is gone; returns how many slots came back."""
        return self._segment.forget_worker(worker)

    @property
    def in_use(self) -> tuple[int, int]:
        """(cells, slots) of the table, over all workers."""
        return self._segment.in_use

    # -- cells

    def _find(self, kind: int, name: str, key: str, numbers: tuple[Any, ...], make: Callable[[Handle], Any]) -> Any:
        place = (kind, name, key, *numbers)
        found = self._kept.get(place)
        if found is None:
            found = self._alive.get(place)
        if found is None:
            handle = self._handle(kind, place)
            if handle is None:
                return self._share(kind, name, key, numbers, make)
            found = make(handle)
        self._keep(place, found)
        return found

    def _share(self, kind: int, name: str, key: str, numbers: tuple[Any, ...], make: Callable[[Handle], Any]) -> Any:
        """The table is full around this key."""
        self._on_full()
        if key == OVERFLOW:
            raise StoreFullError(f"no room is left for the counters of {name}; raise caps.limit_keys and restart")
        return self._find(kind, name, OVERFLOW, numbers, make)

    def _handle(self, kind: int, place: tuple[Any, ...], *, insert: bool = True) -> Handle | None:
        text = "\0".join(str(part) for part in place).encode("utf-8", "surrogatepass")
        digest = blake2b(text, digest_size=16, key=self._memory.key).digest()
        high, low = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        return self._segment.find(kind == sharedcells.SLOTS, high, low, kind, self._clock(), insert)

    def _sum(self, name: str, key: str, period: str, *, insert: bool) -> SharedSum | None:
        handle = self._handle(sharedcells.SUM, (sharedcells.SUM, name, key, period), insert=insert)
        if handle is None and insert:
            self._on_full()
            handle = self._handle(sharedcells.SUM, (sharedcells.SUM, name, OVERFLOW, period))
            if handle is None:
                raise StoreFullError(f"no room is left for the sums of {name}; raise caps.limit_keys and restart")
        return sharedcells.SharedSum(handle) if handle is not None else None

    def _mark(self, name: str, key: str, period: str, mark: str) -> SharedSum | None:
        """A cell of its own for each mark that was reached; None where there is no room."""
        handle = self._handle(sharedcells.SUM, ("mark", name, key, period, mark))
        return sharedcells.SharedSum(handle) if handle is not None else None

    def _keep(self, place: tuple[Any, ...], found: Any) -> None:
        self._kept[place] = self._alive[place] = found
        self._kept.move_to_end(place)
        if len(self._kept) > self.max_keys:
            self._kept.popitem(last=False)

    def _lock(self) -> None:
        fcntl.lockf(self._memory.fd, fcntl.LOCK_EX, 1)

    def _unlock(self) -> None:
        fcntl.lockf(self._memory.fd, fcntl.LOCK_UN, 1)


class StoreFullError(Exception):
    """Not even the cell that all further keys of a rule share could be had."""


class _Spend:
    """One key of a budget: a cell for each period, those that were asked for last kept at hand."""

    __slots__ = ("__weakref__", "_claim", "_find", "_marks", "_sums")

    def __init__(
        self,
        find: Callable[[str, bool], SharedSum | None],
        claim: Callable[[str, str], SharedSum | None] = lambda period, mark: None,
    ) -> None:
        self._find = find
        self._claim = claim
        self._sums: OrderedDict[str, SharedSum] = OrderedDict()
        self._marks: list[tuple[str, SharedSum]] = []

    def say_once(self, period: str, mark: str, say: Callable[[], None]) -> None:
        """Of all workers the first one says it; its cell is used again when the period is over for long."""
        cell = self._claim(period, mark)
        if cell is not None:
            if cell.add(1) > 1:
                return
            self._marks.append((period, cell))
        say()

    def add(self, period: str, amount: int) -> int:
        found = self._hold(period, insert=amount > 0)
        return found.add(amount) if found is not None else 0

    def spent(self, period: str) -> int:
        found = self._hold(period, insert=False)
        return found.value() if found is not None else 0

    def _hold(self, period: str, *, insert: bool) -> SharedSum | None:
        """None where nothing was counted in that period: what is given back to it is dropped."""
        found = self._sums.get(period)
        if found is None:
            found = self._find(period, insert)
        if found is not None:
            self._sums[period] = found
            self._sums.move_to_end(period)
            if len(self._sums) > _PERIODS_KEPT:
                self._sums.popitem(last=False)[1].retire()
                self._retire_marks()
        return found

    def retire(self) -> None:
        for found in self._sums.values():
            found.retire()
        self._sums.clear()
        self._retire_marks()

    def _retire_marks(self) -> None:
        """Of periods that are not at hand any more."""
        for period, mark in self._marks:
            if period not in self._sums:
                mark.retire()
        self._marks = [kept for kept in self._marks if kept[0] in self._sums]
