# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A token bucket as a generic cell rate algorithm: its state is one time, not a level and a time.

Rules kept (ITU-T I.371, Annex A, the virtual scheduling form):
1. A bucket of `burst` tokens refills with `count` per `period_ns`. Its state is the theoretical arrival time (TAT):
   when it will be full again. A cost c moves max(TAT, now) on by c * period / count, and is admitted if that lies at
   most burst * period / count ahead of now.
2. Exact for ever: period / count need not be whole (7/s), so times carry a fraction in units of 1/count ns (`_part`,
   0 <= part < count), the remainder that Bresenham's line drawing carries. Nothing is rounded but the wait (up).
3. A clock that goes backwards admits nothing more: TAT only moves back by give_back, and never to before its now.
4. No overflow: count and burst fit 31 bits, the depth burst * period / count 61 bits of ns (73 years), clocks 62 bits
   (wall clocks until 2116). What does not fit is refused by the constructor or raises OverflowError, in both builds.

Does not know: keys, clocks, other processes (a bucket is for one thread; times and fraction are two words).
"""

__all__ = ["Bucket"]

_COUNT_CAP = (1 << 31) - 1
_DEPTH_CAP_NS = 1 << 61
_DEBT_CAP_NS = 1 << 60  # how far `force` may move the time of being full


class Bucket:
    """`count` tokens per `period_ns`, at most `burst` (default: count) at once. Full at first.

    All times are nanoseconds of one clock, chosen by the caller; costs are tokens, 0 or more.
    tat_ns: the theoretical arrival time, rounded down; at or before now when the bucket is full.
    Raises: ValueError for a rate that is out of range or a negative cost; OverflowError for a clock outside 0..2**62.
    """

    def __init__(self, count: int, period_ns: int, burst: int | None = None) -> None:
        depth = count if burst is None else burst
        if not 1 <= count <= _COUNT_CAP or not 1 <= depth <= _COUNT_CAP:
            raise ValueError(f"A bucket's count and burst must be from 1 to {_COUNT_CAP}.")
        if not 1 <= period_ns <= _DEPTH_CAP_NS or depth * period_ns // count >= _DEPTH_CAP_NS:
            raise ValueError("A bucket must refill within 73 years.")
        self.count = count
        self.period_ns = period_ns
        self.burst = depth
        self._step_ns, self._step_part = divmod(period_ns, count)
        depth_ns, left = divmod(depth * period_ns, count)
        self._depth_ns = depth_ns
        self._depth_part = left
        self._exact_ns = (1 << 62) // count  # below this, a time * count fits 64 bits
        self.tat_ns = self._tat_part = self._next_ns = self._next_part = 0

    def take(self, now_ns: int, cost: int = 1) -> int:
        """0: admitted, and taken. Else nothing is taken: ns until it would be admitted, -1 if never (cost > burst)."""
        wait_ns = self._try(now_ns, cost)
        if wait_ns == 0:
            self.tat_ns = self._next_ns
            self._tat_part = self._next_part
        return wait_ns

    def force(self, now_ns: int, cost: int) -> None:
        """Take although there is not enough: a debt, which time repays. At most 2**31 - 1 tokens at once."""
        self._check(now_ns, cost)
        cost = min(cost, 2147483647)
        base_ns = self.tat_ns
        base_part = self._tat_part
        if base_ns < now_ns:
            base_ns = now_ns
            base_part = 0
        far_ns = now_ns + _DEBT_CAP_NS
        if self._step_ns > _DEBT_CAP_NS // (cost + 1) or base_ns >= far_ns:
            self.tat_ns = far_ns if base_ns < far_ns else base_ns
            self._tat_part = 0
            return
        part = base_part + cost * self._step_part
        ns = base_ns + cost * self._step_ns + part // self.count
        self.tat_ns = ns if ns < far_ns else far_ns
        self._tat_part = part % self.count if ns < far_ns else 0

    def peek(self, now_ns: int, cost: int = 1) -> int:
        """What take would answer, without taking."""
        return self._try(now_ns, cost)

    def _try(self, now_ns: int, cost: int) -> int:
        self._check(now_ns, cost)
        if cost > self.burst:
            return -1
        base_ns = self.tat_ns
        base_part = self._tat_part
        if base_ns < now_ns:
            base_ns = now_ns
            base_part = 0
        part = base_part + cost * self._step_part  # below 2**62 + 2**31
        self._next_ns = base_ns + cost * self._step_ns + part // self.count
        self._next_part = part % self.count
        wait_ns = self._next_ns - now_ns - self._depth_ns
        if self._next_part > self._depth_part:
            wait_ns += 1  # a begun nanosecond must be waited for whole
        return wait_ns if wait_ns > 0 else 0

    def give_back(self, now_ns: int, cost: int) -> None:
        """Return what was taken for nothing, or too much; the bucket never holds more than `burst`."""
        self._check(now_ns, cost)
        if self.tat_ns < now_ns:
            return
        if cost > self.burst:
            self._give_back_far(now_ns, cost)
            return
        part = cost * self._step_part
        ns = self.tat_ns - cost * self._step_ns - part // self.count
        part = self._tat_part - part % self.count
        if part < 0:
            part += self.count
            ns -= 1
        self._move_back(now_ns, ns, part)

    def _give_back_far(self, now_ns: int, cost: int) -> None:
        """The same in unbounded integers, for the sum of many takes."""
        ns, part = divmod(int(self.tat_ns) * self.count + self._tat_part - int(cost) * self.period_ns, self.count)
        self._move_back(now_ns, max(ns, now_ns - 1), part)

    def _move_back(self, now_ns: int, ns: int, part: int) -> None:
        self.tat_ns = ns if ns >= now_ns else now_ns
        self._tat_part = part if ns >= now_ns else 0

    def remaining(self, now_ns: int) -> int:
        """Whole tokens that could be taken now, 0..burst."""
        self._check(now_ns, 0)
        ahead_ns = self.tat_ns - now_ns
        if ahead_ns < 0:
            return self.burst
        if ahead_ns >= self._exact_ns:
            return self._remaining_far(ahead_ns)
        scaled = ahead_ns * self.count + self._tat_part
        spent = scaled // self.period_ns  # tokens not yet refilled, a begun one counted whole
        if scaled % self.period_ns != 0:
            spent += 1
        return self.burst - spent if spent < self.burst else 0

    def _remaining_far(self, ahead_ns: int) -> int:
        """The same in unbounded integers, for depths of years and clocks that went far back."""
        scaled = int(ahead_ns) * self.count + self._tat_part
        return max(self.burst + -scaled // self.period_ns, 0)

    def _check(self, now_ns: int, cost: int) -> int:
        if cost < 0:
            raise ValueError("A cost must not be negative.")
        if now_ns < 0 or now_ns >> 62:
            raise OverflowError("A clock must lie between 0 and 2**62 nanoseconds.")
        return 0
