"""How often and when a call is tried again.

Rules
- A budget is a share of the traffic: each call puts `share` of a retry into a bucket, each retry takes one out, and
  `min_per_s` trickles in, so that a quiet sidecar may retry at all. An outage is not multiplied by more than 1 + share.
- The wait before a retry at the same target is drawn evenly from 0 to base * 2^n, up to a cap ("full jitter"); what
  the provider asks for in `retry-after` counts instead, and beyond `max_wait_s` nothing is tried again there.

Does not know: targets, HTTP, clocks (times are ns of one monotonic clock, given).
Source: "Exponential Backoff And Jitter" (AWS Architecture Blog), Finagle's RetryBudget.
"""

from collections.abc import Callable

from outrider.config.schema import Retry

_NS = 1_000_000_000
_MOST = 100.0  # retries that a bucket holds: what was saved for longer is no licence for a storm


class RetryBudget:
    """saw_call(now) for every call, take(now) -> bool before a retry."""

    __slots__ = ("_at_ns", "_held", "_min_per_s", "_share")

    def __init__(self, share: float, min_per_s: float) -> None:
        self._share = share
        self._min_per_s = min_per_s
        self._held = min(min_per_s * 4, _MOST)
        self._at_ns = 0

    def saw_call(self, now_ns: int) -> None:
        self._trickle(now_ns)
        self._held = min(self._held + self._share, _MOST)

    def take(self, now_ns: int) -> bool:
        self._trickle(now_ns)
        if self._held < 1.0:
            return False
        self._held -= 1.0
        return True

    def _trickle(self, now_ns: int) -> None:
        if self._at_ns and now_ns > self._at_ns:
            self._held = min(self._held + (now_ns - self._at_ns) / _NS * self._min_per_s, _MOST)
        self._at_ns = max(now_ns, self._at_ns)


def wait_s(settings: Retry, retries: int, asked_s: float | None, random: Callable[[], float]) -> float | None:
    """Seconds before retry number `retries` (from 0) at a target that was tried already; None: do not.

    asked_s: what the provider asked for. random() is in [0, 1).
    """
    if asked_s is not None:
        return None if asked_s > settings.max_wait_s else asked_s + random() * settings.base_ms / 1000
    return random() * min(settings.base_ms * float(1 << min(retries, 20)), settings.max_ms) / 1000
