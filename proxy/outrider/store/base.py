"""State that limits and budgets keep, behind one interface: memory, shm (several workers of a host), redis (a fleet).

Rules
- What the request path calls is synchronous and waits for no network. A counter that has to be replenished from afar
  says so by `NEEDS_LEASE`, and `borrow` is the one thing that is awaited.
- Every take has exactly one settle or give_back. Times are wall-clock ns (shared between processes and hosts), an
  argument of every call.
- A name identifies one rule of configuration, a key one value of its `key` fields; both are opaque text here.
Does not know: requests, principals, providers.
"""

from collections.abc import Awaitable
from typing import Literal, Protocol

NO_ANSWER = -3  # doubt: the store does not answer, and config says that then nothing may pass
NEEDS_LEASE = -2  # take: nothing was taken; await borrow(), then take again
NEVER = -1  # take: more than the burst was asked for

type Algorithm = Literal["token-bucket", "fixed-window", "sliding-window"]


class Counter(Protocol):
    """A rate: `count` per `period_ns`, at most `burst` at once.

    take(now_ns, n) -> 0 taken; > 0 ns to wait, nothing taken; NEVER; NEEDS_LEASE
    give_back(now_ns, n): return what was taken for nothing
    force(now_ns, n): take although there is not enough (usage that turned out higher than what was borrowed)
    """

    def take(self, now_ns: int, cost: int = 1) -> int: ...
    def give_back(self, now_ns: int, cost: int) -> None: ...
    def force(self, now_ns: int, cost: int) -> None: ...
    def remaining(self, now_ns: int) -> int: ...
    def borrow(self, now_ns: int, cost: int) -> Awaitable[None]: ...


class Slots(Protocol):
    """At most `limit` at once. acquire() -> whether there was one; release() once for each that was acquired."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...
    @property
    def in_use(self) -> int: ...


class Spend(Protocol):
    """What was spent in the current period of a budget. Amounts are integers (nano-dollars or tokens).

    add(now_ns, amount) -> the sum of this period after it, as far as is known here; amount may be negative
    spent(now_ns) -> that sum
    A period is named by its start (`period_of(now_ns)` of govern.budgets), so that counters reset by the calendar.

    Where others spend too, it may have (outrider.store.leases, outrider.store.shm):
    doubt(period) -> 0; NEEDS_LEASE: the sum is not known here yet, await borrow(now_ns, amount); NO_ANSWER
    say_once(period, mark, say): say() is called if nobody else who counts here has called it for this mark
    """

    def add(self, period: str, amount: int) -> int: ...
    def spent(self, period: str) -> int: ...


class Store(Protocol):
    """Objects are made once per (name, key) and kept; the store bounds how many it keeps."""

    def counter(
        self, name: str, key: str, *, algorithm: Algorithm, count: int, period_ns: int, burst: int
    ) -> Counter: ...
    def slots(self, name: str, key: str, *, limit: int) -> Slots: ...
    def spend(self, name: str, key: str) -> Spend: ...
    def keep_only(self, names: frozenset[str]) -> None:
        """After a reload: forget the state of rules that are gone."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
