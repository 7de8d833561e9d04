"""Counters and histograms that cost a dictionary look-up on the hot path, and their Prometheus form.

Rules: a label's values are bounded (`model` by `models_max`, all others by tables of ours); nothing is formatted before
a scrape; names are the contract of the documentation's metrics page, the OpenTelemetry GenAI names beside ours.
Does not know: HTTP, exchanges.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from outrider_ext.series import Cells, Series, Tally

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OVERHEAD_S = (1e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.25)
# Bounds of the OpenTelemetry GenAI conventions.
_GEN_AI_DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_GEN_AI_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

MAX_MODEL_CHARS = 120
OTHER = "other"

type Labels = tuple[str, ...]


class Counter:
    """add(labels, n): labels in the order of `label_names`. Who counts often holds on to tally(labels)."""

    __slots__ = ("_tallies", "help", "label_names", "name")

    def __init__(self, name: str, help_text: str, label_names: Sequence[str]) -> None:
        self.name = name
        self.help = help_text
        self.label_names = tuple(label_names)
        self._tallies: dict[Labels, Tally] = {}

    def tally(self, labels: Labels) -> Tally:
        found = self._tallies.get(labels)
        if found is None:
            found = self._tallies[labels] = Tally()
        return found

    def add(self, labels: Labels, n: int = 1) -> None:
        self.tally(labels).n += n

    def value(self, *labels: str) -> int:
        return self.values.get(labels, 0)

    @property
    def values(self) -> dict[Labels, int]:
        """What was counted at all, by labels."""
        return {labels: tally.n for labels, tally in self._tallies.items() if tally.n}


class Histogram:
    """Cells by labels, all with the same bounds."""

    __slots__ = ("bounds", "cells", "help", "label_names", "name")

    def __init__(self, name: str, help_text: str, label_names: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = name
        self.help = help_text
        self.label_names = tuple(label_names)
        self.bounds = tuple(bounds)
        self.cells: dict[Labels, Cells] = {}

    def of(self, labels: Labels) -> Cells:
        cells = self.cells.get(labels)
        if cells is None:
            cells = self.cells[labels] = Cells(self.bounds)
        return cells


class Metrics:
    """All metrics of one sidecar. `gauges` are read at the scrape."""

    def __init__(self, models_max: int = 200) -> None:
        self._models_max = models_max
        self._models: dict[str, str] = {}
        self._series: dict[tuple[str, ...], Series] = {}
        self.limits = Counter("outrider_limit_decisions", "Decisions of limits.", ("limit", "decision"))
        self.rules = Counter(
            "outrider_rule_decisions", "Rules that applied, would have, or could not be evaluated.", ("rule", "mode")
        )
        self.limit_wait = Histogram(
            "outrider_limit_wait_seconds", "How long callers waited for a limit.", ("limit",), _LATENCY_S
        )
        self.thresholds = Counter(
            "outrider_budget_threshold", "Marks that a budget's spending reached.", ("budget", "percent")
        )
        self.costs_nusd = Counter("outrider_cost_usd", "Cost of exchanges by the price list.", ("provider", "model"))
        self.unpriced = Counter("outrider_unpriced", "Exchanges whose model has no price.", ("provider", "model"))
        self.redactions = Counter(
            "outrider_redactions", "What was found and replaced.", ("detector", "action", "where")
        )
        self.cache = Counter(
            "outrider_cache", "What the cache said of calls that it could answer.", ("provider", "result")
        )
        self.saved_tokens = Counter(
            "outrider_cache_saved_tokens", "Tokens of answers that were given again.", ("provider", "model")
        )
        self.saved_nusd = Counter(
            "outrider_cache_saved_usd", "Cost of answers that were given again.", ("provider", "model")
        )
        self.events = Counter("outrider_events", "What happened beside exchanges.", ("event", "provider"))
        self.overhead = Histogram(
            "outrider_overhead_seconds", "Time spent inside, waiting for no peer.", ("provider",), _OVERHEAD_S
        )
        self.upstream = Histogram(
            "outrider_upstream_seconds",
            "From the request sent to the answer's end.",
            ("provider", "operation"),
            _LATENCY_S,
        )
        self.first_event = Histogram(
            "outrider_time_to_first_event_seconds",
            "From the request sent to the first event of a stream.",
            ("provider", "operation"),
            _LATENCY_S,
        )
        labels = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        self.gen_ai_duration = Histogram(
            "gen_ai_client_operation_duration_seconds", "GenAI operation duration.", labels, _GEN_AI_DURATION_S
        )
        self.gen_ai_tokens = Histogram(
            "gen_ai_client_token_usage",
            "Number of input and output tokens used.",
            (*labels, "gen_ai_token_type"),
            _GEN_AI_TOKENS,
        )
        self.gauges: list[Callable[[], Iterator[tuple[str, str, Sequence[str], dict[Labels, float]]]]] = []

    def model(self, name: str | None) -> str:
        """The label for a model's name: itself while there is room, then `other`; "" is unknown."""
        if not name:
            return ""
        known = self._models.get(name)
        if known is not None:
            return known
        if len(self._models) >= self._models_max or len(name) > MAX_MODEL_CHARS or not name.isprintable():
            return OTHER
        self._models[name] = name
        return name

    def series(self, provider: str, operation: str, otel: str, model: str, status: str, decision: str) -> Series:
        """Where exchanges with these labels are counted; bounded because each label is."""
        key = (provider, operation, model, status, decision)
        found = self._series.get(key)
        if found is None:
            named = (operation, otel, model)
            found = self._series[key] = Series(
                self.overhead.of((provider,)),
                self.upstream.of((provider, operation)),
                self.first_event.of((provider, operation)),
                self.gen_ai_duration.of(named),
                self.gen_ai_tokens.of((*named, "input")),
                self.gen_ai_tokens.of((*named, "output")),
            )
        return found

    def count(self, event: str, provider: str = "") -> None:
        self.events.add((event, provider))

    @property
    def requests(self) -> dict[tuple[str, ...], int]:
        """(provider, operation, model, status, decision) -> exchanges."""
        return {key: series.exchanges for key, series in self._series.items()}

    @property
    def tokens(self) -> dict[tuple[str, ...], int]:
        """(provider, model, type) -> tokens; input and output are wholes, the other types parts of them."""
        totals: dict[tuple[str, ...], int] = {}
        for (provider, _, model, _, _), series in self._series.items():
            if not series.input and not series.output:
                continue
            parts = (series.cache_read, series.cache_write, series.reasoning)
            rows = [("input", series.input), ("output", series.output)]
            rows += [(name, n) for name, n in zip(("cache_read", "cache_write", "reasoning"), parts, strict=True) if n]
            for name, n in rows:
                totals[provider, model, name] = totals.get((provider, model, name), 0) + n
        return totals

    def collect(self) -> Iterator[Any]:
        """prometheus_client's Collector interface."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, text, names, rows in (
            *self._counters(), self._costs(self.costs_nusd), self._costs(self.saved_nusd),
        ):  # fmt: skip
            family = CounterMetricFamily(name, text, labels=names)
            for labels, value in rows.items():
                family.add_metric(labels, value)
            yield family
        for histogram in (
            self.overhead, self.upstream, self.first_event, self.gen_ai_duration, self.gen_ai_tokens, self.limit_wait,
        ):  # fmt: skip
            shown = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.label_names)
            for labels, cells in histogram.cells.items():
                if any(cells.counts):
                    shown.add_metric(labels, buckets=_cumulative(cells), sum_value=cells.total)
            yield shown
        for read in self.gauges:
            for name, text, label_names, values in read():
                gauge = GaugeMetricFamily(name, text, labels=list(label_names))
                for labels, level in values.items():
                    gauge.add_metric(labels, level)
                yield gauge

    def _counters(self) -> Iterator[tuple[str, str, Labels, Mapping[Labels, float]]]:
        labels = ("provider", "operation", "model", "status", "decision")
        yield "outrider_requests", "Exchanges, by what was decided and answered.", labels, self.requests
        yield "outrider_tokens", "Tokens, by type.", ("provider", "model", "type"), self.tokens
        for counter in (self.limits, self.rules, self.redactions, self.thresholds, self.unpriced, self.events,
                        self.cache, self.saved_tokens):  # fmt: skip
            yield counter.name, counter.help, counter.label_names, counter.values

    @staticmethod
    def _costs(counter: Counter) -> tuple[str, str, Labels, Mapping[Labels, float]]:
        """Counted in nano-dollars, shown in dollars."""
        return counter.name, counter.help, counter.label_names, {at: n / 1e9 for at, n in counter.values.items()}

    def exposition(self) -> bytes:
        """The text that /metrics serves."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def _cumulative(cells: Cells) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*cells.bounds, float("inf")), cells.counts, strict=True):
        running += count
        rows.append(("+Inf" if bound == float("inf") else repr(float(bound)), running))
    return rows
