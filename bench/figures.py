"""From samples to figures: medians over repeats, ratios to nginx, what direct costs taken off.

Rules: a figure is the median of its repeats and is shown with their least and greatest; ratios are those of medians
in the same run (machines differ, and one machine differs from hour to hour; less than 15 % is a tie). A row with a
wrong answer has no figures. Throughput of a proxy that left its core idle is that of the client and is marked so.
"""

import statistics
from dataclasses import dataclass, field

from bench.load import Sample
from bench.scenarios import Scenario, Target

BUSY = 0.9  # of one core: below it the proxy was waiting for client and upstream

# name -> (heading, digits); the order of the table's columns
FIGURES = {
    "cpu_us": ("CPU µs/{unit}", 1),
    "per_s": ("{unit}s/s", 0),
    "p50_us": ("added {timed}p50 µs", 0),
    "p99_us": ("added {timed}p99 µs", 0),
    "rss_idle_mb": ("RSS idle MB", 0),
    "rss_after_mb": ("after", 0),
    "start_s": ("start s", 2),
}


@dataclass(slots=True)
class Row:
    """One proxy in one scenario. `error` empties all figures; `values` holds one number per repeat."""

    peer: str
    error: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)

    def add(self, figure: str, value: float | None) -> None:
        if value is not None:
            self.values.setdefault(figure, []).append(value)

    def median(self, figure: str) -> float | None:
        values = self.values.get(figure)
        return statistics.median(values) if values and not self.error else None

    @property
    def is_bounded_by_client(self) -> bool:
        return bool(self.busy) and statistics.median(self.busy) < BUSY


def add_loaded(row: Row, scenario: Scenario, sample: Sample, has_process: bool) -> None:
    """Figures of the run with many connections."""
    if sample.error:
        row.error = row.error or sample.error
        return
    units = sample.events if scenario.unit == "event" else sample.requests
    if units == 0:
        row.error = row.error or "no answer came within the run"
        return
    row.add("per_s", units / sample.seconds)
    if has_process:
        row.add("cpu_us", sample.cpu_s / units * 1e6)
        row.busy.append(sample.cpu_s / sample.seconds)


def add_single(row: Row, sample: Sample) -> None:
    """Figures of the run with one connection: of the first event in streams, of the whole answer otherwise."""
    if sample.error:
        row.error = row.error or sample.error
        return
    times = sample.first_event or sample.latency
    if times is not None:
        row.add("p50_us", times.p50)
        row.add("p99_us", times.p99)


def subtract_direct(rows: dict[str, Row]) -> None:
    """Latencies become what the proxy added, repeat by repeat against direct's median."""
    direct = rows.get("direct")
    for figure in ("p50_us", "p99_us"):
        base = direct.median(figure) if direct else None
        for row in rows.values():
            if row is not direct and figure in row.values:
                row.values[figure] = [value - base for value in row.values[figure]] if base is not None else []


def ratio_to_nginx(rows: dict[str, Row], row: Row, figure: str) -> float | None:
    nginx = rows["nginx"].median(figure) if "nginx" in rows else None
    own = row.median(figure)
    return own / nginx if own is not None and nginx else None


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    is_met: bool | None  # None: nothing to compare
    words: str


def judge(scenario: Scenario, rows: dict[str, Row], peer: str = "outrider") -> list[Verdict]:
    """Outrider's targets in this scenario; empty when it did not take part."""
    if peer not in rows or rows[peer].error:
        return []
    verdicts = []
    for target in scenario.targets:
        heading, digits = FIGURES[target.figure]
        name = heading.format(unit=scenario.unit, timed=scenario.timed)
        value = rows[peer].median(target.figure)
        if target.of_nginx:
            value, limit, digits = ratio_to_nginx(rows, rows[peer], target.figure), f"{target.at_most:g} × nginx", 2
        else:
            limit = f"{target.at_most:g}"
        met = None if value is None else value <= target.at_most
        shown = "not measured" if value is None else f"{value:.{digits}f}"
        verdicts.append(Verdict(target, met, f"{name}: {shown} (at most {limit})"))
    return verdicts
