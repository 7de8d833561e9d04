"""The plots, as PNG: light, readable at 800 pixels, axes from zero, every axis with its unit.

Rules: bars that would dwarf the others are cut and say so with their number; a missed target is red and named; what was
not measured is absent, never zero. Does not know: files, HTML, where numbers come from.
Needs matplotlib; `missing()` is the sentence where it is not there.
"""

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bench.verdict import rate, slope
from bench.watch import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, PEER, BASE = "#1f2933", "#66727f", "#e3e8ee", "#b9c4cf", "#7d8b99"
OWN, GOOD, BAD = "#1769aa", "#2b8a3e", "#c92a2a"
VERDICT = {True: GOOD, False: BAD, None: SOFT}
LINES = (OWN, "#b35900", "#2b8a3e", "#8e44ad", "#c2255c", "#5c6770")
DASHES = (0, (4, 2))
WIDE = 8.0  # inches
DOTS = 200  # an inch: sharp where 800 pixels are 1,600
ROW = 0.3  # inches of one bar
CUT = 6.0  # times the base: longer bars are cut there
PATCH = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # under a number, so that no line crosses it
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "figure.titlesize": 12.5,
    "figure.titleweight": "bold",
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
    """A target: a line at `value`, words, and whether it is met."""

    value: float
    words: str
    is_met: bool | None


@dataclass(frozen=True, slots=True)
class BarPanel:
    title: str
    unit: str
    bars: Sequence[Bar]
    base: float  # what bars are long or short beside
    aim: Aim | None = None

    @property
    def rows(self) -> int:
        return len(self.bars)


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
    base: float  # what ranges are long or short beside

    @property
    def rows(self) -> int:
        return len(self.ranges)


def _drawn(draw: Callable[["Figure"], None], height: float) -> bytes:
    """A picture of WIDE × `height` inches. No pyplot: nothing global, no window system."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=DOTS)
    return out.getvalue()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _named_rows(axes: "Axes", names: Sequence[str], own: Sequence[bool]) -> None:
    axes.set_yticks(range(len(names)), names)
    for label, is_own in zip(axes.get_yticklabels(), own, strict=True):
        label.set_fontweight("bold" if is_own else "normal")
        label.set_color(OWN if is_own else INK)
    axes.tick_params(axis="both", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def _titles(axes: "Axes", title: str, below: str, colour: str) -> None:
    axes.set_title(f"{title}\n")
    axes.text(0, 1.03, below, transform=axes.transAxes, color=colour, fontsize=9)


def axis_end(panel: BarPanel) -> float:
    """Where bars are cut: never one of ours, and never before the target."""
    own = max((bar.greatest for bar in panel.bars if bar.is_own), default=0.0)
    aim = panel.aim.value if panel.aim else 0.0
    return max(min(max(bar.greatest for bar in panel.bars), max(CUT * panel.base, own)), aim)


def _draw_bars(axes: "Axes", panel: BarPanel) -> None:
    end = axis_end(panel)
    for at, bar in enumerate(panel.bars):
        is_cut = bar.value > end
        shown = end if is_cut else bar.value
        axes.barh(at, shown, height=0.66, color=OWN if bar.is_own else PEER)
        if not is_cut and bar.greatest > bar.least:
            axes.plot([bar.least, min(bar.greatest, end)], [at, at], color=INK, linewidth=1, alpha=0.7)
        if is_cut:
            axes.text(end * 0.94, at, "//", va="center", ha="center", color="white", fontsize=13, fontweight="bold")
        place = end if is_cut else min(max(bar.value, bar.greatest), end)
        weight = "bold" if bar.is_own else "normal"
        text = f"{_number(bar.value)} (cut)" if is_cut else _number(bar.value)
        colour = OWN if bar.is_own else INK
        axes.text(place + end * 0.015, at, text, va="center", color=colour, fontweight=weight, bbox=PATCH)
    if panel.aim:
        axes.axvline(panel.aim.value, color=VERDICT[panel.aim.is_met], linewidth=1.3, linestyle=DASHES)
    _named_rows(axes, [bar.name for bar in panel.bars], [bar.is_own for bar in panel.bars])
    axes.set_xlim(0, end * 1.22)
    _titles(axes, panel.title, panel.aim.words if panel.aim else "", VERDICT[panel.aim.is_met] if panel.aim else SOFT)
    axes.set_xlabel(panel.unit)


def _draw_ranges(axes: "Axes", panel: RangePanel) -> None:
    own = max((max(one.values) for one in panel.ranges if one.is_own), default=0.0)
    end = min(max(max(one.values) for one in panel.ranges), max(CUT * panel.base, own))
    for at, one in enumerate(panel.ranges):
        colour = OWN if one.is_own else BASE
        is_cut = max(one.values) > end
        if one.values[0] <= end:
            axes.plot([one.values[0], min(max(one.values), end)], [at, at], color=colour, linewidth=2.4, alpha=0.45)
        for index, value in enumerate(one.values):
            fill = colour if index == 0 else "white"
            if value <= end:
                axes.plot(value, at, marker="oDs^"[index % 4], color=colour, markersize=6.5, markerfacecolor=fill)
        text = ("→ " if is_cut else "") + " / ".join(
            f"{value:,.0f}" if end >= 50 else _number(value) for value in one.values
        )
        weight = "bold" if one.is_own else "normal"
        axes.text(
            min(max(one.values), end) + end * 0.07, at, text, va="center", color=colour, fontweight=weight, bbox=PATCH
        )
    _named_rows(axes, [one.name for one in panel.ranges], [one.is_own for one in panel.ranges])
    axes.set_xlim(min(0.0, *(min(one.values) for one in panel.ranges)), end * (1.25 + 0.36 * len(panel.labels)))
    _titles(axes, panel.title, " / ".join(panel.labels), SOFT)
    axes.set_xlabel(panel.unit)


def panels(of: Sequence[BarPanel | RangePanel], title: str) -> bytes:
    """Two beside each other; each has its own unit and scale."""
    columns = min(2, len(of))
    count = math.ceil(len(of) / columns)
    lines = [of[at * columns : (at + 1) * columns] for at in range(count)]
    heights = [max(panel.rows for panel in line) * ROW + 0.95 for line in lines]

    def draw(figure: "Figure") -> None:
        figure.suptitle(title, x=0.01, ha="left")
        grid = figure.subplots(count, columns, squeeze=False, height_ratios=heights)
        for at, axes in enumerate(grid.flat):
            if at >= len(of):
                axes.set_axis_off()
                continue
            panel = of[at]
            if isinstance(panel, BarPanel):
                _draw_bars(axes, panel)
            else:
                _draw_ranges(axes, panel)

    return _drawn(draw, sum(heights) + 0.45)


def history(
    labels: Sequence[str], series: Mapping[str, Sequence[float | None]], aims: dict[str, float], title: str
) -> bytes:
    """A line for each scenario over runs, oldest first; its target is dashed in the same colour."""

    def draw(figure: "Figure") -> None:
        figure.suptitle(title, x=0.01, ha="left")
        axes = figure.subplots()
        axes.axhline(1, color=SOFT, linewidth=1)
        for index, (name, values) in enumerate(series.items()):
            colour = LINES[index % len(LINES)]
            known = [(at, value) for at, value in enumerate(values) if value is not None]
            axes.plot(*zip(*known, strict=True), marker="o", color=colour, linewidth=1.8, label=name)
            if name in aims:
                axes.axhline(aims[name], color=colour, linewidth=1, linestyle=DASHES, alpha=0.8)
        turned = {"rotation": 35, "ha": "right"} if len(labels) > 5 else {}
        axes.set_xticks(range(len(labels)), labels, **turned)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylim(0, None)
        axes.set_ylabel("CPU, times nginx's")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    return _drawn(draw, 3.4)


def _draw_memory(axes: "Axes", readings: Sequence[Reading], judged_s: Sequence[float]) -> None:
    axes.plot([one.at_s / 60 for one in readings], [one.rss_mb for one in readings], color=OWN, linewidth=1.6)
    axes.set_ylim(0, max(one.rss_mb for one in readings) * 1.15)
    axes.set_ylabel("RSS, MB")
    part = [one for one in readings if judged_s and judged_s[0] <= one.at_s <= judged_s[1]]
    fit = slope(part)
    if fit is None:
        return
    middle_s = sum(one.at_s for one in part) / len(part)
    middle_mb = sum(one.rss_mb for one in part) / len(part)
    ends = [middle_mb + fit.mb_per_h * (at_s - middle_s) / 3600 for at_s in judged_s]
    axes.plot([at_s / 60 for at_s in judged_s], ends, color="#b35900", linewidth=1.6, linestyle=DASHES)
    words = f"dashed: {fit.mb_per_h:+,.1f} ± {2 * fit.error_mb_per_h:,.1f} MB/h over {fit.seconds:,.0f} s"
    axes.set_title(words, loc="right", fontsize=9, color=SOFT, fontweight="normal")


def load_over_time(document: dict[str, Any]) -> bytes:
    """Memory with its regression, exchanges per second and CPU of one load test."""
    readings = [Reading(**reading) for reading in document["readings"]]

    def draw(figure: "Figure") -> None:
        memory, speed, used = figure.subplots(3, 1, height_ratios=[1.4, 1, 1], sharex=True)
        _draw_memory(memory, readings, document["later_s"])
        memory.set_title(f"{document['name']}: the sidecar's memory")
        pairs = list(pairwise(readings))
        minutes = [one.at_s / 60 for one in readings[1:]]
        speed.plot(minutes, [rate(pair) for pair in pairs], color=OWN, linewidth=1.4)
        speed.set_ylim(0, None)
        speed.set_ylabel("exchanges/s")
        shares = [(b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) * 100 for a, b in pairs]
        used.plot(minutes, shares, color=OWN, linewidth=1.4)
        used.set_ylim(0, max(105, *shares))
        used.set_ylabel("CPU, % of a core")
        used.set_xlabel("minutes")

    return _drawn(draw, 6.0)
