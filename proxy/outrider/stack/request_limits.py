"""`limits:` with `requests: N/period`: the cheapest refusal, decided before the body is read.

Rules: all limits that apply must admit, or none is charged; counters live in a table of their own and survive a reload
of the configuration where the limit's rate did not change.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from outrider.errors import RateLimitedError
from outrider.stack.call import LayerHook, Route
from outrider_ext.gcra import Bucket
from outrider_ext.layers import LimitRequests, LimitRow

if TYPE_CHECKING:
    from outrider.telemetry.metrics import Metrics


class Buckets:
    """(limit's name, rate, key) -> Bucket. The keys are bounded by the providers of the configuration."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[Any, ...], Bucket] = {}

    def of(self, limit: Any, key: str) -> Bucket:
        rate = limit.requests
        identity = (limit.name, rate.count, rate.period_s, limit.burst, key)
        bucket = self._buckets.get(identity)
        if bucket is None:
            bucket = self._buckets[identity] = Bucket(rate.count, rate.period_s * 1_000_000_000, limit.burst)
        return bucket

    def keep_only(self, limits: Sequence[Any]) -> None:
        """After a reload: forget the counters of limits that are gone."""
        current = {(limit.name, limit.requests.count, limit.requests.period_s, limit.burst) for limit in limits}
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key[:4] in current}


class RequestLimits:
    """The filter. clock_ns is monotonic; without one, a request's time is when its head was complete."""

    def __init__(
        self,
        limits: Sequence[Any],
        buckets: Buckets,
        metrics: "Metrics",
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        self._limits = limits
        self._buckets = buckets
        self._decisions = metrics.limits
        self._clock_ns = clock_ns

    def request(self, route: Route) -> LayerHook | None:
        name = route.provider
        rows = [
            self._row(limit, name if "provider" in limit.key else "")
            for limit in self._limits
            if limit.providers is None or name in limit.providers
        ]
        if not rows:
            return None

        def refuse(limit: str, wait_ns: int) -> None:
            retry_ms = max(1, -(-wait_ns // 1_000_000))
            raise RateLimitedError(
                f"limit {limit} of the sidecar is reached for {name}; try again in {retry_ms / 1000:.3g} s", retry_ms
            )

        return LimitRequests(rows, refuse, self._clock_ns)

    def _row(self, limit: Any, key: str) -> LimitRow:
        tally = self._decisions.tally
        return LimitRow(
            limit.name, self._buckets.of(limit, key), tally((limit.name, "allow")), tally((limit.name, "reject"))
        )
