"""The plots, as PNG: light, readable at 800 pixels, axes from zero, every axis with its unit.

Rules: bars that would dwarf the others are cut and say so with their number; a missed target is red and named; what was
not measured is absent, never zero.
Does not know: files, HTML, where numbers come from. Needs matplotlib; `missing()` is the sentence where it is not there.
"""

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.verdict import rate, slope
from bench.watch import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, PEER, BASE = "#1f2933", "#66727f", "#e3e8ee", "#b9c4cf", "#8b9aa8"
OWN, GOOD, BAD = "#1769aa", "#2b8a3e", "#c92a2a"
WIDE = 8.0  # inches; at 200 dots an inch the picture is sharp at twice 800 pixels
CUT = 6.0  # times the base (nginx, or the smallest): longer bars are cut there
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "legend.frameon": False,
}


def missing() -> str:
    """Empty where plots can be drawn."""
    if importlib.util.find_spec("matplotlib"):
        return ""
    return (
        "matplotlib is not installed beside this Python (the extra `bench` has it), so there are tables and no plots."
    )


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    least: float
    greatest: float
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """A target drawn as a line at `value`; `words` say it, `is_met` colours them."""

    value: float
    words: str
    is_met: bool | None


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str
    bars: Sequence[Bar]
    aim: Aim | None = None
    base: float | None = None  # what bars are long or short beside


@dataclass(frozen=True, slots=True)
class Range:
    """Percentiles of one proxy, least first."""

    name: str
    values: Sequence[float]
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class RangePanel:
    title: str
    unit: str
    labels: Sequence[str]  # of the values
    ranges: Sequence[Range]


@dataclass(frozen=True, slots=True)
class Point:
    label: str  # revision and day
    value: float | None


def _figure(rows: int, height: float, heights: Sequence[float] | None = None) -> "tuple[Figure, list[Axes]]":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}):
        figure = Figure(figsize=(WIDE, height), layout="constrained")
        grid = figure.subplots(rows, 1, squeeze=False, height_ratios=heights)
    return figure, [axes[0] for axes in grid]


def _png(figure: "Figure", dots: int = 200) -> bytes:
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure.savefig(out, format="png", dpi=dots)
    return out.getvalue()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _draw_bars(axes: "Axes", panel: Panel) -> None:
    base = panel.base or min(bar.value for bar in panel.bars)
    longest = max(bar.greatest for bar in panel.bars)
    own = max((bar.greatest for bar in panel.bars if bar.is_own), default=0.0)
    end = min(longest, max(CUT * base, 1.3 * own))
    end = max(end, panel.aim.value if panel.aim else 0.0)
    for at, bar in enumerate(panel.bars):
        shown = min(bar.value, end)
        axes.barh(at, shown, height=0.62, color=OWN if bar.is_own else PEER)
        cut = bar.value > end
        if not cut and bar.greatest > bar.least:
            axes.plot([bar.least, min(bar.greatest, end)], [at, at], color=INK, linewidth=1.1, alpha=0.65)
        text = f"{_number(bar.value)} →" if cut else _number(bar.value)
        place = min(max(shown, bar.greatest), end)
        axes.text(
            place + end * 0.012,
            at,
            text,
            va="center",
            color=OWN if bar.is_own else INK,
            fontweight="bold" if bar.is_own else "normal",
        )
    if panel.aim:
        colour = {True: GOOD, False: BAD, None: SOFT}[panel.aim.is_met]
        axes.axvline(panel.aim.value, color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
        axes.set_title(panel.aim.words, loc="right", color=colour, fontsize=10, fontweight="bold")
    axes.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, end * 1.14)
    axes.grid(axis="y", visible=False)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.unit)


def bars(panels: Sequence[Panel], title: str = "") -> bytes:
    """One panel below the other; each has its own unit and scale, from zero."""
    heights = [len(panel.bars) + 2.4 for panel in panels]
    figure, all_axes = _figure(len(panels), sum(heights) * 0.3 + (0.4 if title else 0), heights)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_bars(axes, panel)
    return _png(figure)


def _draw_ranges(axes: "Axes", panel: RangePanel) -> None:
    markers = ("o", "D", "|", "|")
    end = max(max(one.values) for one in panel.ranges)
    for at, one in enumerate(panel.ranges):
        colour = OWN if one.is_own else BASE
        axes.plot([one.values[0], one.values[-1]], [at, at], color=colour, linewidth=2.2, alpha=0.5)
        for index, value in enumerate(one.values):
            axes.plot(
                value,
                at,
                marker=markers[index],
                color=colour,
                markersize=11 if index > 1 else 7,
                markerfacecolor=colour if index == 0 else "white",
                markeredgewidth=1.6,
                linestyle="none",
            )
        shown = " / ".join(_number(value) for value in one.values)
        axes.text(
            max(one.values) + end * 0.025,
            at,
            shown,
            va="center",
            color=colour if one.is_own else INK,
            fontweight="bold" if one.is_own else "normal",
        )
    axes.set_yticks(range(len(panel.ranges)), [one.name for one in panel.ranges])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(panel.ranges) - 0.4, -0.6)
    axes.set_xlim(min(0.0, min(min(one.values) for one in panel.ranges)), end * 1.3)
    axes.grid(axis="y", visible=False)
    axes.set_title(panel.title)
    axes.set_title(" / ".join(panel.labels), loc="right", fontsize=10, color=SOFT, fontweight="normal")
    axes.set_xlabel(panel.unit)


def ranges(panels: Sequence[RangePanel], title: str = "") -> bytes:
    heights = [len(panel.ranges) + 2.4 for panel in panels]
    figure, all_axes = _figure(len(panels), sum(heights) * 0.3 + (0.4 if title else 0), heights)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_ranges(axes, panel)
    return _png(figure)


def history(series: dict[str, list[Point]], aims: dict[str, float], unit: str) -> bytes:
    """A line for each scenario over runs, oldest first; its target dashed in the same colour."""
    figure, (axes,) = _figure(1, 3.6)
    colours = (OWN, "#b35900", "#2b8a3e", "#8e44ad", "#c2255c", "#5c6770")
    labels = [point.label for point in next(iter(series.values()))]
    for index, (name, points) in enumerate(series.items()):
        colour = colours[index % len(colours)]
        known = [(at, point.value) for at, point in enumerate(points) if point.value is not None]
        axes.plot(*zip(*known, strict=True), marker="o", color=colour, linewidth=1.8, label=name)
        if name in aims:
            axes.axhline(aims[name], color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
    axes.set_xticks(
        range(len(labels)), labels, rotation=30 if len(labels) > 4 else 0, ha="right" if len(labels) > 4 else "center"
    )
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(0, None)
    axes.set_ylabel(unit)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _png(figure)


def load_over_time(document: dict[str, Any]) -> bytes:
    """Memory with its regression, exchanges per second, CPU: of one load test."""
    readings = [Reading(**reading) for reading in document["readings"]]
    figure, (memory, speed, used) = _figure(3, 6.4, [1.4, 1, 1])
    minutes = [reading.at_s / 60 for reading in readings]
    memory.plot(minutes, [reading.rss_mb for reading in readings], color=OWN, linewidth=1.6)
    memory.set_ylim(0, max(reading.rss_mb for reading in readings) * 1.15)
    memory.set_ylabel("RSS, MB")
    if document["later_s"]:
        first, last = document["later_s"]
        part = [reading for reading in readings if first <= reading.at_s <= last]
        fit = slope(part)
        if fit:
            middle_h = sum(reading.at_s for reading in part) / len(part) / 3600
            middle_mb = sum(reading.rss_mb for reading in part) / len(part)
            line = [middle_mb + fit.mb_per_h * (at_s / 3600 - middle_h) for at_s in (first, last)]
            memory.plot([first / 60, last / 60], line, color=BAD, linewidth=1.4, linestyle=(0, (4, 2)))
            memory.set_title(
                f"{fit.mb_per_h:+.1f} ± {2 * fit.error_mb_per_h:.1f} MB/h over {fit.seconds:.0f} s",
                loc="right",
                fontsize=10,
                color=SOFT,
                fontweight="normal",
            )
    pairs = list(zip(readings, readings[1:], strict=False))
    speed.plot(minutes[1:], [rate(pair) for pair in pairs], color=OWN, linewidth=1.4)
    speed.set_ylim(0, None)
    speed.set_ylabel("exchanges/s")
    shares = [(b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) * 100 for a, b in pairs]
    used.plot(minutes[1:], shares, color=OWN, linewidth=1.4)
    used.set_ylim(0, 105)
    used.set_ylabel("CPU, % of a core")
    used.set_xlabel("minutes")
    memory.set_title(f"{document['name']}: memory of the sidecar")
    return _png(figure, 130)
