"""What is known about one target from the calls that went there: latency, errors, calls in flight, its breaker.

Rules
- `score_ms` is a peak-EWMA of the time to the first event: a slower sample counts at once, faster ones bring it down
  with a half-life. A failure counts as a sample of PENALTY_MS.
- A target that was passed over for long `wants_a_try`: one that has recovered is found again by one call now and then.
- `p90_ms` is learned from a bounded sample of first-event times; None before there are enough.
- One object per (provider, model) for the life of the process; a reload keeps it.

Does not know: HTTP, sockets, clocks (times are ns of one monotonic clock, given).
Source: "peak EWMA" of Finagle and linkerd.
"""

import math
from bisect import insort

from outrider.config.schema import BreakerKeys
from outrider.upstream.breaker import Breaker
from outrider.upstream.conversations import Conversations

HALF_LIFE_S = 2.0
FORGET_S = 10.0  # half-life of what was not heard of
TRY_AGAIN_S = 8.0
TRY_AGAIN_CALLS = 10  # that went elsewhere: where there are few, most of them shall not be tries
PENALTY_MS = 5000.0
_NS = 1_000_000_000
_SAMPLES = 128
_ENOUGH = 20


class Health:
    """Of one target. name: "provider/model"."""

    __slots__ = ("_at_ns", "_ewma_ms", "_sorted", "_times", "breaker", "in_flight", "name",
                 "passed_over")  # fmt: skip

    def __init__(self, name: str, settings: BreakerKeys) -> None:
        self.name = name
        self.breaker = Breaker(settings)
        self.in_flight = 0
        self.passed_over = 0  # calls that went elsewhere since this one was tried
        self._ewma_ms = 0.0
        self._at_ns = 0
        self._times: list[float] = []
        self._sorted: list[float] = []

    def took(self, now_ns: int, first_event_ms: float) -> None:
        """The first event of a good answer came after so long."""
        self._sample(now_ns, first_event_ms)
        if len(self._times) >= _SAMPLES:
            self._sorted.remove(self._times.pop(0))
        self._times.append(first_event_ms)
        insort(self._sorted, first_event_ms)

    def failed(self, now_ns: int) -> None:
        self._sample(now_ns, PENALTY_MS)

    def _sample(self, now_ns: int, ms: float) -> None:
        known = self._faded(now_ns, HALF_LIFE_S) if self._at_ns else ms
        if ms >= known:
            self._ewma_ms = ms
        else:
            age_s = max(now_ns - self._at_ns, 0) / _NS
            keep = min(math.exp(-math.log(2) * age_s / HALF_LIFE_S), 0.8)  # in a rush of calls each counts a fifth
            self._ewma_ms = ms + (self._ewma_ms - ms) * keep
        self._at_ns = now_ns

    def _faded(self, now_ns: int, half_life_s: float) -> float:
        age_s = max(now_ns - self._at_ns, 0) / _NS
        return self._ewma_ms * math.exp(-math.log(2) * age_s / half_life_s)

    def score_ms(self, now_ns: int) -> float:
        """Lower is better: the expected time to the first event, times the calls that wait there already."""
        return self._faded(now_ns, FORGET_S) * (self.in_flight + 1)

    def wants_a_try(self, now_ns: int) -> bool:
        unheard_s = (now_ns - self._at_ns) / _NS
        return not self.in_flight and self.passed_over >= TRY_AGAIN_CALLS and unheard_s >= TRY_AGAIN_S

    @property
    def p90_ms(self) -> float | None:
        return self._sorted[int(len(self._sorted) * 0.9)] if len(self._sorted) >= _ENOUGH else None


class Healths:
    """(provider, model) -> Health; bounded, since a rule may name models that config does not."""

    MOST = 4096

    def __init__(self) -> None:
        self._known: dict[str, Health] = {}
        self.conversations = Conversations()  # who began which

    def of(self, name: str, settings: BreakerKeys) -> Health:
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= self.MOST:
                self._known = {key: health for key, health in self._known.items() if health.in_flight}
            found = self._known[name] = Health(name, settings)
        return found

    def all(self) -> list[Health]:
        return list(self._known.values())
