"""From samples to figures: medians over repeats, ratios within the run, what direct costs taken off, verdicts.

Rules: a figure is the median of its repeats and is shown with their least and greatest; ratios are those of medians
in the same run (machines differ, and one machine differs from hour to hour; less than 15 % is a tie). A row with a
wrong answer has no figures. Throughput of a proxy that left its core idle is that of the client and is marked so;
where client and upstream alone fill their core at a rate or a pace, what was measured there is not compared.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.load import Percentiles, Sample
from bench.scenarios import Scenario, Target
from bench.variants import DEFAULT

BUSY = 0.9  # of one core: below it the proxy was waiting for client and upstream
NO_MORE_THAN = 0.01  # of connections may differ from what the scenario says of them
KEPT_PACE = 0.9  # of the events that were due came

# name -> (heading, digits); the order of the table's columns
FIGURES = {
    "cpu_us": ("CPU µs/{unit}", 1),
    "cpu_stream_us": ("CPU µs/stream", 0),
    "core_pct": ("% of a core", 1),
    "per_s": ("{unit}s/s", 0),
    "refused_pct": ("% refused", 1),
    "rss_idle_mb": ("RSS idle MB", 0),
    "rss_open_mb": ("RSS open MB", 0),
    "kb_each": ("kB each", 1),
    "rss_after_mb": ("RSS after MB", 0),
    "requests": ("requests", 0),
    "start_s": ("start s", 2),
    "p50_us": ("added {timed}p50 µs", 0),
    "p99_us": ("added {timed}p99 µs", 0),
    "p999_us": ("added {timed}p99.9 µs", 0),
    "open_p50_us": ("at {rate}/s p50", 0),
    "open_p99_us": ("at {rate}/s p99", 0),
    "open_p999_us": ("at {rate}/s p99.9", 0),
    "gap_p99_us": ("added event gap p99 µs", 0),
}
SINGLE = ("p50_us", "p99_us", "p999_us")
SCHEDULED = ("open_p50_us", "open_p99_us", "open_p999_us")
PACED = ("gap_p99_us",)
TIMES = (*SINGLE, *SCHEDULED, *PACED)  # the table's second part, in which direct's own are taken off


def heading(scenario: Scenario, figure: str) -> str:
    return FIGURES[figure][0].format(unit=scenario.unit, timed=scenario.timed, rate=f"{scenario.rate:,}")


@dataclass(slots=True)
class Row:
    """One proxy in one scenario. `error` empties all figures; `values` holds one number per repeat."""

    peer: str
    error: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)  # of the proxy's core, in closed loops
    crowded: dict[str, list[float]] = field(default_factory=dict)  # run -> of the core of client and upstream
    notes: set[str] = field(default_factory=set)
    is_absent: bool = False  # its error says why

    def add(self, figure: str, value: float | None) -> None:
        if value is not None:
            self.values.setdefault(figure, []).append(value)

    def median(self, figure: str) -> float | None:
        values = self.values.get(figure)
        return statistics.median(values) if values and not self.error else None

    @property
    def is_bounded_by_client(self) -> bool:
        return bool(self.busy) and statistics.median(self.busy) < BUSY


# -- samples into a row


def wrong(scenario: Scenario, sample: Sample) -> str:
    """What a run did that the scenario does not allow, one sentence; empty when all was right."""
    if sample.error:
        return sample.error
    answers = sample.requests + sample.refused
    if answers == 0 and sample.events == 0:
        return "no answer came within the run"
    if scenario.mode in ("keep", "stream") and sample.connects > max(1, NO_MORE_THAN * answers):
        return f"connections are not kept: {sample.connects} were opened for {answers} answers"
    if scenario.mode == "resume" and sample.resumed < (1 - NO_MORE_THAN) * sample.handshakes:
        return f"only {sample.resumed} of {sample.handshakes} handshakes resumed their session"
    if scenario.refusals and sample.refused < BUSY * answers:
        return f"only {sample.refused} of {answers} calls were refused: the limit was not saturated"
    return ""


def is_right(row: Row, scenario: Scenario, sample: Sample) -> bool:
    row.error = row.error or wrong(scenario, sample)
    return not row.error


def add_times(row: Row, names: tuple[str, ...], times: Percentiles | None) -> None:
    if times is not None:
        for name, value in zip(names, (times.p50, times.p99, times.p999), strict=True):
            row.add(name, value)


def add_loaded(row: Row, scenario: Scenario, sample: Sample, has_process: bool) -> None:
    """Figures of the run with many connections."""
    if not is_right(row, scenario, sample):
        return
    units = sample.events if scenario.unit == "event" else sample.requests + sample.refused
    if scenario.hold:
        add_held(row, scenario, sample, has_process)
    else:
        row.add("per_s", units / sample.seconds)
        if has_process:
            row.busy.append(sample.cpu_s / sample.seconds)
    if has_process and units:
        row.add("cpu_us", sample.cpu_s / units * 1e6)
    if has_process and scenario.mode == "stream" and sample.requests and not scenario.hold:
        row.add("cpu_stream_us", sample.cpu_s / sample.requests * 1e6)
    if scenario.refusals:
        row.add("refused_pct", 100 * sample.refused / units)
    if scenario.requests:
        row.add("requests", sample.requests)
        if sample.requests < scenario.requests:
            row.notes.add(f"only {sample.requests:,} requests in {sample.seconds:.0f} s")
    if scenario.measures_memory and has_process:
        add_memory(row, sample, scenario.connections)


def add_held(row: Row, scenario: Scenario, sample: Sample, has_process: bool) -> None:
    """Streams at a pace: what they take of a core, and whether their events came in time."""
    row.crowded.setdefault("paced", []).append(sample.client_cpu_s / sample.seconds)
    if has_process:
        row.add("core_pct", 100 * sample.cpu_s / sample.seconds)
    if sample.gap is not None:
        row.add("gap_p99_us", sample.gap.p99)
    due = scenario.connections * sample.seconds * 1e6 / scenario.pace_us
    if sample.events < KEPT_PACE * due:
        row.notes.add(f"fell behind the pace: {sample.events:,} of {due:,.0f} events came in time")


def add_memory(row: Row, sample: Sample, connections: int) -> None:
    row.add("rss_open_mb", sample.rss_mb)
    idle = row.median("rss_idle_mb")
    if idle is not None:
        row.add("kb_each", (sample.rss_mb - idle) * 1000 / connections)


def add_single(row: Row, scenario: Scenario, sample: Sample) -> None:
    """Figures of the run with one connection: of the first event in streams, of the whole answer otherwise."""
    if is_right(row, scenario, sample):
        add_times(row, SINGLE, sample.first_event or sample.latency)


def add_scheduled(row: Row, scenario: Scenario, sample: Sample, has_process: bool) -> None:
    """Figures of the open loop; it is too short for CPU, whose clock ticks every 10 ms."""
    if not is_right(row, scenario, sample):
        return
    add_times(row, SCHEDULED, sample.latency)
    row.crowded.setdefault("scheduled", []).append(sample.client_cpu_s / sample.seconds)
    if sample.unfinished:
        row.notes.add(
            f"could not keep up: {sample.unfinished:,} of {sample.scheduled:,} calls had no answer at the end"
        )
    if scenario.measures_memory and has_process:
        add_memory(row, sample, scenario.rate_connections)


# -- rows beside each other


def subtract_direct(rows: Mapping[str, Row]) -> None:
    """Latencies become what the proxy added, repeat by repeat against direct's median."""
    direct = rows.get("direct")
    for figure in TIMES:
        base = direct.median(figure) if direct else None
        for row in rows.values():
            if row is not direct and figure in row.values:
                row.values[figure] = [value - base for value in row.values[figure]] if base is not None else []


def is_saturated(rows: Mapping[str, Row], figure: str) -> bool:
    """Client and upstream fill their core without any proxy: the figure is theirs."""
    run = "scheduled" if figure in SCHEDULED else "paced" if figure in PACED else ""
    shares = rows["direct"].crowded.get(run) if "direct" in rows else None
    return bool(shares) and statistics.median(shares or [0.0]) >= BUSY


def is_compared(rows: Mapping[str, Row], row: Row, figure: str) -> bool:
    if figure == "per_s":
        return not row.is_bounded_by_client
    return not is_saturated(rows, figure)


def ratio(rows: Mapping[str, Row], row: Row, figure: str, of: str) -> float | None:
    """The row's median as a multiple of that of the row `of`; None where one is missing or not to be compared."""
    base = rows[of].median(figure) if of in rows else None
    own = row.median(figure)
    if own is None or base is None or base <= 0 or not is_compared(rows, row, figure):
        return None
    return own / base


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    is_met: bool | None  # None: nothing to compare
    words: str
    row: str = DEFAULT.row

    @property
    def key(self) -> str:
        """Its name in the history: the figure, with what else tells it apart."""
        words = [self.target.figure]
        words += [f"of {self.target.of}"] if self.target.of not in ("", "nginx") else []
        words += [self.row] if self.row != DEFAULT.row else []
        return " ".join(words)


def _limit(target: Target) -> str:
    of = f" × {target.of}" if target.of else ""
    if target.at_least:
        return f"from {target.at_least:g} to {target.at_most:g}{of}"
    most = f"1/{1 / target.at_most:.0f}" if target.at_most < 0.5 else f"{target.at_most:g}"
    return f"at most {most}{of}"


def _verdict(scenario: Scenario, rows: Mapping[str, Row], row: Row, target: Target) -> Verdict:
    name, digits = heading(scenario, target.figure), FIGURES[target.figure][1]
    if target.of:
        value = ratio(rows, row, target.figure, target.of)
        digits = 2 if target.at_most > 0.1 else 4
    else:
        value = row.median(target.figure) if is_compared(rows, row, target.figure) else None
    met = None if value is None else target.at_least <= value <= target.at_most
    shown = f"{value:.{digits}f}" if value is not None else "not measured"
    if is_saturated(rows, target.figure):
        shown = "direct itself saturates, not compared"
    whose = "" if row.peer == DEFAULT.row else f"{row.peer}: "
    return Verdict(target, met, f"{whose}{name}: {shown} ({_limit(target)})", row.peer)


def judge(scenario: Scenario, rows: Mapping[str, Row]) -> list[Verdict]:
    """Outrider's targets in this scenario, for each of its rows that took part without an error."""
    return [
        _verdict(scenario, rows, rows[name], target)
        for target in scenario.targets
        for name in target.rows
        if name in rows and not rows[name].error
    ]
