"""When a target is left alone for a while: a circuit breaker.

Rules
- Closed: calls go. It opens after so many failures in a row, or when the share of failures in the window is reached
  and the window has enough calls to mean something.
- Open: no call goes until `open_s` has passed. Then it is half-open: `probes` calls at a time are let through; as many
  successes in a row close it, one failure opens it again, for twice as long each time, up to `MAX_OPEN_S`.
  Where nobody else is left a probe may come early.
- A failure that says "overloaded" (529, 503) counts double. A 429 that says for how long is no failure: the target
  cools down until then. A refused credential takes the target out for `credential_out_s`, or until it is another one.
- What was let through as a probe and never came to an end (the client left) gives its place back.

Does not know: HTTP, clocks (times are ns of one monotonic clock, given), which target it is.
"""

from collections import deque
from typing import Final, Literal

from outrider.config.schema import BreakerKeys

type State = Literal["closed", "open", "half_open", "cooling"]

STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2, "cooling": 3}  # as the metric shows them
MAX_OPEN_S: Final = 300.0
MAX_COOLING_S: Final = 600.0
_BUCKETS: Final = 10
_NS: Final = 1_000_000_000


class _Window:
    """Calls and failures of the last window_s, in buckets; at most _BUCKETS of them are kept."""

    def __init__(self, window_s: float) -> None:
        self._bucket_ns = max(int(window_s * _NS) // _BUCKETS, 1)
        self._buckets: deque[list[int]] = deque()  # [number, calls, failures]

    def add(self, now_ns: int, calls: int, failures: int) -> None:
        number = now_ns // self._bucket_ns
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += calls
        self._buckets[-1][2] += failures
        self._forget(number)

    def _forget(self, number: int) -> None:
        while self._buckets and self._buckets[0][0] <= number - _BUCKETS:
            self._buckets.popleft()

    def totals(self, now_ns: int) -> tuple[int, int]:
        self._forget(now_ns // self._bucket_ns)
        return sum(bucket[1] for bucket in self._buckets), sum(bucket[2] for bucket in self._buckets)

    def clear(self) -> None:
        self._buckets.clear()


class Breaker:
    """admits(now) -> bool, without a side effect; began(now) for a call that goes, then one of succeeded, failed,
    throttled, credential_refused, or left where it came to no end.
    """

    __slots__ = ("_cooling_until_ns", "_in_row", "_open", "_open_until_ns", "_opened", "_probing", "_proved",
                 "_settings", "_window", "out_mark", "reason")  # fmt: skip

    def __init__(self, settings: BreakerKeys) -> None:
        self._settings = settings
        self._window = _Window(settings.window_s)
        self._in_row = 0
        self._open = False
        self._open_until_ns = 0
        self._opened = 0  # times in a row
        self._probing = 0
        self._proved = 0
        self._cooling_until_ns = 0
        self.reason = ""
        self.out_mark: object = None  # which credential was refused, while it keeps the target out

    def state(self, now_ns: int) -> State:
        if self._cooling_until_ns > now_ns:
            return "cooling"
        if not self._open:
            return "closed"
        return "open" if self._open_until_ns > now_ns else "half_open"

    def admits(self, now_ns: int) -> bool:
        state = self.state(now_ns)
        return state == "closed" or (state == "half_open" and self._probing < self._settings.probes)

    @property
    def is_probing(self) -> bool:
        return self._probing > 0

    def may_probe_early(self, now_ns: int) -> bool:
        """Whether a call may find out before the time, where nobody else is left: it is open, and nobody does."""
        return self._open and self._cooling_until_ns <= now_ns and not self._probing

    def ready_in_s(self, now_ns: int) -> float:
        """Seconds until a call may go again; 0 when one may now."""
        until_ns = max(self._cooling_until_ns, self._open_until_ns if self._open else 0)
        return max(until_ns - now_ns, 0) / _NS

    def failure_rate(self, now_ns: int) -> float:
        calls, failures = self._window.totals(now_ns)
        return min(failures / calls, 1.0) if calls else 0.0

    # -- what happens

    def began(self, now_ns: int) -> bool:
        """True when this call is a probe: say so again at its end."""
        if self.state(now_ns) not in ("half_open", "open"):
            return False
        self._probing += 1
        return True

    def succeeded(self, now_ns: int, *, probe: bool = False) -> None:
        self.left(probe=probe)
        self._in_row = 0
        self._window.add(now_ns, 1, 0)
        if self._open and probe:
            self._proved += 1
            if self._proved >= self._settings.probes:
                self._close()

    def failed(self, now_ns: int, *, weight: int = 1, probe: bool = False, reason: str = "") -> None:
        """weight 2: the target said that it is overloaded."""
        self.left(probe=probe)
        self._in_row += weight
        self._window.add(now_ns, 1, weight)
        self.reason = reason
        if self._open:
            if probe:
                self._trip(now_ns)
            return
        calls, failures = self._window.totals(now_ns)
        too_many = calls >= self._settings.min_calls and 100 * failures / calls >= self._settings.rate_percent
        if self._in_row >= self._settings.failures or too_many:
            self._trip(now_ns)

    def throttled(self, now_ns: int, wait_s: float, *, probe: bool = False) -> None:
        """It said when to come back; that is no failure of its own."""
        self.left(probe=probe)
        wait_s = min(max(wait_s, 0.0), MAX_COOLING_S)
        self._cooling_until_ns = max(self._cooling_until_ns, now_ns + int(wait_s * _NS))
        self.out_mark = None
        self.reason = "throttled"

    def credential_refused(self, now_ns: int, *, probe: bool = False, mark: object = None) -> None:
        """mark: which credential it was; see `credential_is`."""
        self.left(probe=probe)
        self.out_mark = mark
        until_ns = now_ns + int(self._settings.credential_out_s * _NS)
        self._cooling_until_ns = max(self._cooling_until_ns, until_ns)
        self.reason = "credential refused"

    def credential_is(self, mark: object) -> None:
        """The one in force now: where it is not the refused one, that has no say any more."""
        if self.out_mark is not None and mark != self.out_mark:
            self.out_mark = None
            self._cooling_until_ns = 0
            self.reason = ""

    def reached(self, now_ns: int) -> None:
        """Its host takes connections: the next call finds out about the rest."""
        if self._open:
            self._open_until_ns = min(self._open_until_ns, now_ns)

    def left(self, *, probe: bool = False) -> None:
        """It came to no end that says anything about the target."""
        if probe and self._probing:
            self._probing -= 1

    # -- states

    def _trip(self, now_ns: int) -> None:
        seconds = min(self._settings.open_s * 2 ** min(self._opened, 16), MAX_OPEN_S)
        self._open, self._open_until_ns = True, now_ns + int(seconds * _NS)
        self._opened += 1
        self._proved = 0

    def _close(self) -> None:
        self._open = False
        self._opened = self._in_row = self._proved = 0
        self._window.clear()
        self.reason = ""
