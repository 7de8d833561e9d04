"""From entries of the history to what tables and plots show. Tolerant: an unknown name is shown as it is."""

import re
from collections.abc import Sequence
from typing import Any

from bench import figures
from bench.figures import FIGURES, Row
from bench.plots import Aim, Bar, BarPanel, Range, RangePanel
from bench.scenarios import BY_NAME

Entry = dict[str, Any]

OWN = "outrider"  # its rows begin with it: there may be several configurations
CORE = ("base_url", "intercepted", "new_intercepted", "stream")  # of the README
SHORT = {  # titles of panels; the scenario's own name elsewhere
    "base_url": "a request, HTTP on both sides",
    "intercepted": "a request, HTTPS intercepted",
    "new_intercepted": "a new intercepted connection",
    "stream": "an event of a stream",
}
TIMED = {"stream": "the first event of a stream"}  # where latency is of something else than CPU is
FAMILIES = {"": "", "open_": ", on a schedule", "gap_": ", gaps between events"}  # of percentiles
_LIMIT = re.compile(r"\(at most ([0-9.]+)(?: × (nginx))?\)$")
_PERCENTILE = re.compile(r"^(?P<what>.*?)p(?P<of>50|90|99|999)_us$")
_UNITS = {"us": "µs", "ms": "ms", "s": "s", "mb": "MB", "kb": "kB"}


def rows_of(entry: Entry, scenario: str) -> dict[str, Row]:
    rows = {}
    for peer, cell in entry["scenarios"][scenario].get("rows", {}).items():
        values = {name: list(given) for name, given in cell.items() if isinstance(given, list) and name != "busy"}
        rows[peer] = Row(peer, str(cell.get("error", "")), values, list(cell.get("busy", [])))
    return rows


def newest(entries: Sequence[Entry], scenario: str) -> Entry:
    """The last run that has it; the last run of all where none has."""
    return next((entry for entry in reversed(entries) if scenario in entry["scenarios"]), entries[-1])


def whole_run(entries: Sequence[Entry]) -> Entry:
    """The newest run in which Outrider took part in every core scenario; else the newest."""
    for entry in reversed(entries):
        if all(OWN in entry["scenarios"].get(name, {}).get("rows", {}) for name in CORE):
            return entry
    return entries[-1]


def times_nginx(rows: dict[str, Row], row: Row, figure: str) -> float | None:
    return figures.ratio(rows, row, figure, "nginx")


def title(scenario: str) -> str:
    known = BY_NAME.get(scenario)
    return f"{scenario}: {known.title.removeprefix(f'{scenario}: ')}" if known else scenario


def unit(figure: str) -> str:
    return _UNITS.get(figure.rpartition("_")[2], "")


def heading(figure: str, scenario: str) -> str:
    if figure in FIGURES and scenario in BY_NAME:
        return figures.heading(BY_NAME[scenario], figure)
    return figure


def headings(rows: dict[str, Row], scenario: str) -> dict[str, str]:
    """Of every figure that a row has, those that are known first."""
    there = {figure for row in rows.values() for figure, values in row.values.items() if values and not row.error}
    order = [*(figure for figure in FIGURES if figure in there), *sorted(there - FIGURES.keys())]
    return {figure: heading(figure, scenario) for figure in order}


def number(value: float, figure: str) -> str:
    digits = FIGURES[figure][1] if figure in FIGURES else 1
    return f"{value:,.{digits}f}"


def shown(row: Row, figure: str) -> str:
    median = row.median(figure)
    if median is None:
        return "-"
    return number(median, figure) + (" *" if figure == "per_s" and row.is_bounded_by_client else "")


def targets(entry: Entry, scenario: str) -> list[tuple[str, bool | None]]:
    given = entry["scenarios"][scenario].get("targets", {})
    return [(str(one.get("words", name)), one.get("met")) for name, one in given.items()]


def limit(entry: Entry, scenario: str, figure: str) -> tuple[float, bool, bool | None] | None:
    """(at most, in nginx's, met) as that run judged it; None: no target."""
    target = entry["scenarios"].get(scenario, {}).get("targets", {}).get(figure)
    found = _LIMIT.search(str(target.get("words", ""))) if target else None
    return (float(found[1]), bool(found[2]), target.get("met")) if found else None


def entry_words(entry: Entry) -> str:
    """Machine, versions, configuration, revision and day of a run."""
    here = entry.get("machine", {})
    system = [
        f"{here.get('cores', '?')} cores of {here.get('cpu') or 'an unnamed CPU'}",
        f"Linux {here.get('kernel', '?')}",
    ]
    versions = [f"{name} {version}" for name, version in entry.get("versions", {}).items() if version]
    settings = entry.get("settings", {})
    repeats = f"medians of {settings['repeat']}" if "repeat" in settings else "medians"
    last = f"{repeats}, {str(entry.get('at', ''))[:10]}, revision {entry.get('revision') or 'unknown'}"
    return "; ".join((", ".join([*system, f"Python {here.get('python', '?')}"]), ", ".join(versions), last)) + "."


def _aim(entry: Entry, scenario: str, figure: str, nginx: float | None) -> Aim | None:
    found = limit(entry, scenario, figure)
    if found is None or (found[1] and nginx is None):
        return None
    at_most, is_ratio, is_met = found
    value = at_most * nginx if is_ratio and nginx else at_most
    word = {True: "met", False: "missed", None: "open"}[is_met]
    return Aim(value, f"target ≤ {at_most:g} {'× nginx' if is_ratio else unit(figure)}: {word}", is_met)


def bar_panel(entry: Entry, scenario: str, figure: str) -> BarPanel | None:
    rows = rows_of(entry, scenario)
    bars = []
    for peer, row in rows.items():
        median = row.median(figure)
        if median is not None:
            values = row.values[figure]
            bars.append(Bar(peer, median, min(values), max(values), peer.startswith(OWN)))
    if not bars:
        return None
    nginx = rows["nginx"].median(figure) if "nginx" in rows else None
    base = nginx or min(bar.value for bar in bars)
    is_memory = figure.startswith("rss")
    words = {"rss_idle_mb": "idle, just started", "rss_after_mb": f"after the runs of {scenario}"}
    name = words.get(figure, figure) if is_memory else SHORT.get(scenario, scenario)
    unit_words = "MB" if is_memory else heading(figure, scenario)
    return BarPanel(name, unit_words, bars, base, _aim(entry, scenario, figure, nginx))


def range_panels(entry: Entry, scenario: str) -> list[RangePanel]:
    """One for each family of percentiles (p50_us, p99_us, ...) that a proxy has; direct is what they were taken off."""
    rows = {peer: row for peer, row in rows_of(entry, scenario).items() if peer != "direct" and not row.error}
    families: dict[str, list[tuple[float, str]]] = {}
    for figure in headings(rows, scenario):
        found = _PERCENTILE.match(figure)
        if found:
            families.setdefault(found["what"], []).append((float(f"0.{found['of']}"), figure))
    out = []
    for what, found_figures in families.items():
        names = [figure for _, figure in sorted(found_figures)]
        whole = {peer: [row.median(name) for name in names] for peer, row in rows.items()}
        ranges = [
            Range(peer, [value for value in values if value is not None], peer.startswith(OWN))
            for peer, values in whole.items()
            if None not in values
        ]
        if ranges:
            labels = [f"p{figure.removeprefix(what).removeprefix('p').removesuffix('_us')}" for figure in names]
            labels = [label.replace("p999", "p99.9") for label in labels]
            extra = FAMILIES.get(what, f", {what.strip('_')}")
            name = TIMED.get(scenario, SHORT.get(scenario, scenario))
            nginx = next((max(one.values) for one in ranges if one.name == "nginx"), 0.0)
            base = nginx if nginx > 0 else max(min(max(one.values) for one in ranges), 1.0)
            out.append(RangePanel(name + extra, "added µs", labels, ranges, base))
    return out


def ratio_history(
    entries: Sequence[Entry], scenarios: Sequence[str]
) -> tuple[list[str], dict[str, list[float | None]], dict[str, float]]:
    """(labels of runs, ratios to nginx by scenario, targets by scenario); scenarios without a ratio are left out."""
    labels = [f"{entry.get('revision') or '?'}\n{str(entry.get('at', ''))[:10]}" for entry in entries]
    series: dict[str, list[float | None]] = {}
    aims: dict[str, float] = {}
    for name in scenarios:
        values: list[float | None] = []
        for entry in entries:
            rows = rows_of(entry, name) if name in entry["scenarios"] else {}
            values.append(times_nginx(rows, rows[OWN], "cpu_us") if OWN in rows else None)
        if any(value is not None for value in values):
            series[name] = values
            found = limit(newest(entries, name), name, "cpu_us")
            if found and found[1]:
                aims[name] = found[0]
    return labels, series, aims
