"""What a sidecar holds of the fleet's limits and budgets, and what it says and asks at the next step with the store.

Rules
- take, give_back, force, add, acquire never wait. What is held is spent here; when less than half of the last lease is
  left more is asked for in the background; when nothing is left the answer is NEEDS_LEASE, and borrow waits at most
  BORROW_S. A store that did not answer by then is late: until it answers, `on_error` decides.
- `local`: this sidecar admits at most its share, the limit over the last known size of the fleet, and tells it as a
  debt when the store answers again. `deny`: what is not held is refused. `allow`: it is admitted, and counted.
- What is in flight is sent again as it was until it is answered: the script knows it by its number.
- An answer is clamped: never more than was asked for. A lease ends here before it ends there, since it is dated from
  the moment at which it was asked for.
Does not know: sockets, Redis; `Link` says what it needs of them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol

from outrider.store.base import NEEDS_LEASE, NEVER, NO_ANSWER, Algorithm

BORROW_S = 0.004
HORIZON_NS = 50_000_000  # a lease lasts about so long, and two round trips
IDLE_NS = 400_000_000  # what was not used for so long is given back
RETRY_NS = 1_000_000_000  # what callers are told under `deny`
FULL_NS = 50_000_000  # a fleet without a free slot is asked again after this
MAX_DEBT = 1 << 40
MAX_SUM = 1 << 62
_PERIODS_KEPT = 3
_NS = 1_000_000_000

type OnError = Literal["local", "deny", "allow"]


class StoreAnswerError(Exception):
    """The store answered what its scripts never do."""


class Link(Protocol):
    """What leases need of the store."""

    id: str
    fleet: int
    is_down: bool
    on_error: OnError
    ttl_ms: int
    round_trip_ns: int
    borrow_s: float
    clock: Callable[[], int]

    def kick(self, item: Any) -> None: ...
    def count(self, event: str) -> None: ...
    def new_epoch(self) -> str: ...
    def claim(self, key: str, mark: str, then: Callable[[], None]) -> None: ...


def _give_up(future: "asyncio.Future[bool]") -> None:
    if not future.done():
        future.set_result(False)


class _Waiters:
    """Those who wait for the next answer about one item."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[bool]] = set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether an answer came within that time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(timeout_s, _give_up, future)
        self._waiting.add(future)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(True)

    @property
    def count(self) -> int:
        return len(self._waiting)


class Share:
    """What one sidecar of `fleet` may spend by itself: count / fleet per period. It begins with its share of the burst.

    Exact integers; a cost larger than the share of the burst is admitted once so much has come together.
    """

    def __init__(self, count: int, period_ns: int, burst: int, fleet: int, now_ns: int) -> None:
        self._count = count
        self._unit = period_ns * fleet  # of one token
        self._full = burst * self._unit
        self._level = burst * period_ns
        self._at_ns = now_ns

    def take(self, now_ns: int, cost: int) -> int:
        if now_ns > self._at_ns:
            self._level = min(self._full, self._level + (now_ns - self._at_ns) * self._count)
            self._at_ns = now_ns
        short = cost * self._unit - self._level
        if short > 0:
            return -(-short // self._count)
        self._level -= cost * self._unit
        return 0


class LeasedCounter:
    """A rate of the fleet, as this sidecar holds it. Counter of outrider.store.base."""

    KEYS = 2

    def __init__(self, link: Link, tag: str, algorithm: Algorithm, count: int, period_ns: int, burst: int) -> None:
        self.tag = tag
        self._link = link
        self._kind = {"token-bucket": "b", "fixed-window": "f", "sliding-window": "s"}[algorithm]
        self._count, self._period_ns = count, period_ns
        self._burst = burst if self._kind == "b" else count
        self.held = 0
        self._expires_ns = 0
        self._unreported = 0  # spent of what the store believes to be held
        self._credit = 0  # given back (or, below zero, owed) and not yet said
        self._credit_window = 0  # by the clock here: in which, where windows are counted
        self._need = self._wanted = 0
        self._low = 1
        self._dry_until_ns = self._dry_cost = 0
        self._seq = 0
        self._sent: tuple[Any, ...] | None = None
        self._sent_ns = 0
        self._asked = 0
        self._epoch, self._level, self._level_at_us = "", 0, 0
        self._window, self._window_ns = -1, 0
        self._used = 0  # since the last question: the demand
        self._demand = 0.0  # tokens a ns
        self._demand_ns = 0
        self._touched_ns = 0
        self._waiters = _Waiters()
        self.late = False
        self._share: Share | None = None
        self.retired = False

    # -- the interface

    def take(self, now_ns: int, cost: int = 1) -> int:
        if cost > self._burst:
            return NEVER
        if self.held >= cost and now_ns < self._expires_ns:
            self.held -= cost
            self._unreported += cost
            self._used += cost
            self._touched_ns = now_ns
            if self.held < self._low:
                self._link.kick(self)
            return 0
        if self.late or self._link.is_down:
            return self._by_rule(now_ns, cost)
        if now_ns < self._dry_until_ns and cost >= self._dry_cost:
            return self._dry_until_ns - now_ns
        self._need = max(self._need, cost)
        self._link.kick(self)
        return NEEDS_LEASE

    async def borrow(self, now_ns: int, cost: int) -> None:
        if self.late or self._link.is_down or (self.held >= cost and now_ns < self._expires_ns):
            return
        self._need = max(self._need, cost)
        self._wanted += cost
        self._link.kick(self)
        if not await self._waiters.wait(self._link.borrow_s) and not (self.held >= cost):
            self.late = True
            self._link.count("store_late")

    def give_back(self, now_ns: int, cost: int) -> None:
        if self._kind != "b" and now_ns < self._window_ns:
            return  # it was taken from a window that is over
        back = min(cost, self._unreported)
        self.held += back
        self._unreported -= back
        self._add_credit(now_ns, cost - back)
        if self._credit > 0 and (self._dry_until_ns > now_ns or self._credit >= self._low):
            self._link.kick(self)

    def force(self, now_ns: int, cost: int) -> None:
        paid = min(self.held, cost)
        self.held -= paid
        self._unreported += paid
        self._used += cost
        self._add_credit(now_ns, paid - cost)
        self._link.kick(self)

    def _add_credit(self, at_ns: int, amount: int) -> None:
        if self._kind != "b":
            window = at_ns // self._period_ns
            if window < self._credit_window:
                return  # it is over
            if window > self._credit_window:
                self._credit, self._credit_window = 0, window
        self._credit = max(-MAX_DEBT, min(self._credit + amount, self._burst))

    def remaining(self, now_ns: int) -> int:
        held = self.held if now_ns < self._expires_ns else 0
        return max(0, min(held + max(self._level, 0), self._burst))

    def _by_rule(self, now_ns: int, cost: int) -> int:
        self._link.kick(self)
        rule = self._link.on_error
        if rule == "allow":
            self._link.count("store_error_allowed")
            return 0
        if rule == "deny":
            self._link.count("store_error_denied")
            return RETRY_NS
        if self._share is None:
            self._share = Share(self._count, self._period_ns, self._burst, max(self._link.fleet, 1), now_ns)
        wait_ns = self._share.take(now_ns, cost)
        if wait_ns == 0:
            self._add_credit(now_ns, -cost)  # told when the store answers again
            self._link.count("store_error_local")
        return wait_ns

    # -- steps with the store

    def is_due(self, now_ns: int) -> bool:
        """Whether there is something to say although nobody asks: idle tokens, what was given back."""
        idle = self.held > 0 and now_ns - self._touched_ns > IDLE_NS
        return idle or self._credit != 0 or self.held > 0 > self._expires_ns - now_ns - self._link.ttl_ms * 500_000

    def question(self) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        if self._sent is None:
            self._sent = self._ask()
        return "RATE", (f"{self.tag}:s", f"{self.tag}:l"), self._sent

    def _ask(self) -> tuple[Any, ...]:
        now_ns = self._link.clock()
        if now_ns >= self._expires_ns:
            self.held = 0
        self._learn(now_ns)
        idle = now_ns - self._touched_ns > IDLE_NS and not self._need
        if idle or self.retired:
            self._credit += self.held
            self.held = 0
        target = 0 if idle or self.retired else self._target()
        need = max(0, self._need - self.held) if self._need else 0
        self._asked = max(need, self._wanted - self.held, target - self.held, 0)
        self._seq += 1
        self._sent_ns = now_ns
        credit, self._credit = self._credit, 0
        self._unreported = self._wanted = 0
        asked_for, self._dry_cost, self._need = need, self._need, 0
        return (
            self._kind, self._count, self._period_ns // 1000, self._burst, self._link.id, self._seq, self.held, credit,
            asked_for, self._asked, self._link.ttl_ms, self._epoch, self._level, self._level_at_us,
            self._link.new_epoch(), self._window, self._credit_window,
        )  # fmt: skip

    def _learn(self, now_ns: int) -> None:
        passed = now_ns - self._demand_ns
        if passed > 1_000_000:
            seen = self._used / passed
            part = min(1.0, passed / (4 * HORIZON_NS))
            self._demand += part * (seen - self._demand)
            self._used, self._demand_ns = 0, now_ns

    def _target(self) -> int:
        """Tokens for the next while, and never so many that the fleet's leases hold a large part of the burst."""
        wanted = int(self._demand * (HORIZON_NS + 2 * self._link.round_trip_ns)) + 1
        return max(1, min(wanted, self._burst // (4 * max(self._link.fleet, 1))))

    def answered(self, answer: bytes) -> None:
        """Raises: StoreAnswerError."""
        granted, wait_us, level, epoch, lost, lease_us, window, now_us = _words(answer, 8)
        self._sent = None
        granted_n = max(0, min(int(granted), self._asked))
        if self._kind != "b" and int(window) != self._window:
            self.held, self._window, self._window_ns = 0, int(window), self._sent_ns
        self.held += granted_n
        self._expires_ns = self._sent_ns + max(0, int(lease_us)) * 1000
        self._low = max(1, self.held // 2)
        self._level, self._level_at_us = int(level), int(now_us)
        if int(lost) and self._epoch:
            self._link.count("store_state_lost")
        self._epoch = epoch
        self._dry_until_ns = self._sent_ns + int(wait_us) * 1000 if int(wait_us) > 0 else 0
        self.late = False  # the share stays what it is: a store that is late now and then does not renew it
        self._waiters.wake()
        if self._need > self.held or self._credit < 0:
            self._link.kick(self)

    @property
    def is_idle(self) -> bool:
        return self.held == 0 and self._credit == 0 and self._sent is None and not self._waiters.count


class LeasedSlots:
    """Places of the fleet. `needs_lease` after an acquire that failed: await borrow(), then acquire again.

    on_granted(): places came that nobody awaits here; they go back soon if they are not acquired.
    """

    KEYS = 2

    def __init__(self, link: Link, tag: str, limit: int) -> None:
        self.tag = tag
        self.limit = limit
        self._link = link
        self._mine = 0  # in use here
        self.leased = 0
        self._want = 0
        self._others = 0
        self._full_until_ns = 0
        self._sent: tuple[Any, ...] | None = None
        self._beat_ns = self._touched_ns = 0
        self._waiters = _Waiters()
        self.on_granted: Callable[[], None] = lambda: None
        self.late = False
        self.retired = False

    @property
    def in_use(self) -> int:
        return self._mine + self._others

    @property
    def needs_lease(self) -> bool:
        return not self.late and not self._link.is_down and self._link.clock() >= self._full_until_ns

    def acquire(self) -> bool:
        if self._mine < self.leased or ((self.late or self._link.is_down) and self._by_rule()):
            self._mine += 1
            self._touched_ns = self._link.clock()
            return True
        self._want = max(self._want, 1)
        self._link.kick(self)
        return False

    def _by_rule(self) -> bool:
        rule = self._link.on_error
        if rule == "allow":
            self._link.count("store_error_allowed")
            return True
        if rule == "deny" or self._mine >= self.limit // max(self._link.fleet, 1):
            self._link.count("store_error_denied")
            return False
        self._link.count("store_error_local")
        return True

    async def borrow(self) -> None:
        if not self.needs_lease:
            return
        self._want = max(self._want, self._waiters.count + 1)
        self._link.kick(self)
        if not await self._waiters.wait(self._link.borrow_s) and self._mine >= self.leased:
            self.late = True
            self._link.count("store_late")

    def release(self) -> None:
        if self._mine > 0:
            self._mine -= 1
            self._full_until_ns = 0
            if self.leased > self._mine + self._spare(self._link.clock()):
                self._link.kick(self)

    def is_due(self, now_ns: int) -> bool:
        beat = self.leased > 0 and now_ns - self._beat_ns > self._link.ttl_ms * 300_000
        return beat or self.leased > self._mine + self._spare(now_ns)

    def _spare(self, now_ns: int) -> int:
        """Free places that are kept here for the next callers: a part of those in use, none where places are few."""
        if self.retired or now_ns - self._touched_ns > IDLE_NS:
            return 0
        return min(self.limit // (4 * max(self._link.fleet, 1)), self._mine // 4 + 1)

    def question(self) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        now_ns = self._link.clock()
        spare = self._spare(now_ns)
        # Who was woken by the last answer has not run yet: what came for them stays.
        self.leased = self._mine + min(max(self.leased - self._mine, 0), max(spare, self._waiters.count))
        want = max(self._want, self._sent[3] if self._sent is not None else 0)
        if want:
            want = max(want + self._mine + spare - self.leased, 0)
        self._want, self._beat_ns = 0, now_ns
        self._sent = (self.limit, self._link.id, self.leased, want, self._link.ttl_ms)
        return "SLOTS", (f"{self.tag}:s", f"{self.tag}:l"), self._sent

    def answered(self, answer: bytes) -> None:
        """Raises: StoreAnswerError."""
        granted, free = (int(word) for word in _words(answer, 2))
        assert self._sent is not None
        (_, _, told, asked, _), self._sent = self._sent, None
        granted = max(0, min(granted, asked))
        self.leased += granted
        self._others = max(0, self.limit - max(free, 0) - told - granted)
        if asked and not granted:
            self._full_until_ns = self._link.clock() + FULL_NS
        self.late = False
        self._waiters.wake()
        if granted and not self._waiters.count:
            self.on_granted()

    @property
    def is_idle(self) -> bool:
        return self._mine == 0 and self.leased == 0 and not self._waiters.count


class _Sum:
    """One period: the total that the store said last, and what it does not know yet."""

    __slots__ = ("asked_ns", "epoch", "known", "pending", "sent", "seq")

    def __init__(self) -> None:
        self.known = self.pending = self.seq = self.asked_ns = 0
        self.epoch = ""
        self.sent: tuple[Any, ...] | None = None

    @property
    def now(self) -> int:
        return max(0, self.known + self.pending + (self.sent[2] if self.sent is not None else 0))


class LeasedSpend:
    """One key of a budget: the fleet's sum as last heard, and what was added here since.

    Who judges by a sum that was never heard waits for it (`doubt`, `borrow`), as for a lease: a sidecar that starts
    knows nothing of what the fleet has spent.
    """

    KEYS = 1
    TTL_MS = 40 * 86_400_000  # longer than any period of a calendar
    REFRESH_NS = _NS

    def __init__(self, link: Link, tag: Callable[[str], str]) -> None:
        self._tag = tag
        self._link = link
        self._sums: dict[str, _Sum] = {}
        self._asking = ""
        self._touched_ns = 0
        self._waiters = _Waiters()
        self.late = False
        self.retired = False

    def doubt(self, period: str) -> int:
        if not self.late and not self._link.is_down:
            found = self._sums.get(period)
            if found is not None and found.epoch:
                return 0
            self.spent(period)
            self._link.kick(self)
            return NEEDS_LEASE
        self._link.kick(self)
        if self._link.on_error == "deny":
            self._link.count("store_error_denied")
            return NO_ANSWER
        allows = self._link.on_error == "allow"
        self._link.count("store_error_allowed" if allows else "store_error_local")
        return 0

    async def borrow(self, now_ns: int, amount: int) -> None:
        """The sum of the period that was asked for last is known here, or the store is late."""
        if self.late or self._link.is_down:
            return
        self._link.kick(self)
        if not await self._waiters.wait(self._link.borrow_s):
            self.late = True
            self._link.count("store_late")

    def say_once(self, period: str, mark: str, say: Callable[[], None]) -> None:
        self._link.claim(f"{self._tag(period)}:s", mark, say)

    def add(self, period: str, amount: int) -> int:
        found = self._sums.get(period)
        if found is None:
            if amount <= 0:
                return 0  # over for long
            found = self._turn(period)
        amount = max(amount, -found.now)
        found.pending = max(-MAX_SUM, min(found.pending + amount, MAX_SUM))
        if amount:
            self._touched_ns = self._link.clock()
            self._link.kick(self)
        return found.now

    def spent(self, period: str) -> int:
        self._touched_ns = self._link.clock()  # who asks wants to hear what others spend
        found = self._sums.get(period)
        return (found if found is not None else self._turn(period)).now

    def _turn(self, period: str) -> _Sum:
        while len(self._sums) >= _PERIODS_KEPT:
            told = [name for name, one in self._sums.items() if not one.pending and one.sent is None]
            if not told:
                break
            del self._sums[min(told, key=lambda name: self._sums[name].asked_ns)]
        found = self._sums[period] = _Sum()
        self._link.kick(self)
        return found

    def is_due(self, now_ns: int) -> bool:
        """Others spend too: a sum that is in use is heard anew each second."""
        recent = now_ns - self._touched_ns < 60 * self.REFRESH_NS
        return any(
            one.pending or one.sent or (recent and now_ns - one.asked_ns > self.REFRESH_NS)
            for one in self._sums.values()
        )

    def question(self) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        """About a period of which nothing is known, else the one that waits longest."""
        period, one = min(
            self._sums.items(), key=lambda entry: (bool(entry[1].epoch), not entry[1].pending, entry[1].asked_ns)
        )
        if self._asking in self._sums and self._sums[self._asking].sent is not None:
            period, one = self._asking, self._sums[self._asking]  # until it is answered
        if one.sent is None:
            one.seq += 1
            one.asked_ns = self._link.clock()
            epoch = self._link.new_epoch()
            one.sent = (self._link.id, one.seq, one.pending, one.epoch, one.known, epoch, self.TTL_MS)
            one.pending = 0
        self._asking = period
        return "SPEND", (f"{self._tag(period)}:s",), one.sent

    def answered(self, answer: bytes) -> None:
        """Raises: StoreAnswerError."""
        epoch, lost, total = _words(answer, 3)
        one = self._sums[self._asking]
        if int(lost) and one.epoch:
            self._link.count("store_state_lost")
        one.epoch, one.known, one.sent = epoch, max(0, min(int(total), MAX_SUM)), None
        self.late = False
        self._waiters.wake()
        if any(other.pending or not other.epoch for other in self._sums.values()):
            self._link.kick(self)

    @property
    def is_idle(self) -> bool:
        return not (self._waiters.count or any(one.pending or one.sent for one in self._sums.values()))


def _words(answer: Any, count: int) -> list[str]:
    try:
        words = answer.decode("ascii").split(" ")
        if len(words) == count and all(len(word) <= 40 for word in words):
            for word in words:
                float(int(word, 16))  # numbers and epochs, nothing else
            return list(words)
    except (AttributeError, UnicodeDecodeError, ValueError, OverflowError):
        pass
    raise StoreAnswerError("the store's script answered something else; is another program using these keys?")
