"""What a load test comes to: a line for each promise, from what the client counted and what the watch read.

Rules: a line is met, missed, or said without a judgement (None) where this run cannot tell: a generator that had no CPU
left measures itself, and a run of seconds knows no slope. Memory is judged by a linear regression: it is missed when
even the slope less two standard errors is above the limit and what was gained is more than the allocator's grain.
Does not know: processes, locust, HTML.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from bench.watch import Reading, leaks

SATURATED = 0.9  # of the cores that the generator may use
GRAIN_MB = 4.0  # arenas and buffers of a busier moment; in the second half of a soak 44 bytes a request come to as much
SLOPE_SECONDS = 200.0  # less says nothing about an hour
RATE_SHARE = 0.95
TAKEN = 0.15  # of the sidecar's core, by others
BLOCKS = 20  # of readings, for the regression


@dataclass(frozen=True, slots=True)
class Limits:
    per_s: float
    p50_ms: float
    p99_ms: float
    slope_mb_per_h: float = 6.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the client saw."""

    requests: int
    failures: int
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    per_s: float  # reached in the steady part
    seconds: float  # of it
    busy: float  # the generator's cores, 0 to 1
    unfinished: int = 0  # calls that were due and had no answer when the time was over
    own_share: float = 0.0  # what the sidecar used of its core
    own_idle: float = 1.0  # what nobody used of it

    @property
    def is_saturated(self) -> bool:
        return self.busy >= SATURATED


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    shown: str
    limit: str
    is_met: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Slope:
    mb_per_h: float
    error_mb_per_h: float  # one standard error
    gained_mb: float  # along the fitted line
    seconds: float


def steady(readings: Sequence[Reading], from_s: float, to_s: float) -> list[Reading]:
    return [reading for reading in readings if from_s <= reading.at_s <= to_s]


def _blocks(readings: Sequence[Reading]) -> list[tuple[float, float]]:
    """(hour, MB) of each block's mean: memory moves in waves, and the next reading is hardly news."""
    count = min(BLOCKS, len(readings))
    cuts = [round(at * len(readings) / count) for at in range(count + 1)]
    parts = [readings[low:high] for low, high in pairwise(cuts)]
    return [(fmean(one.at_s for one in part) / 3600, fmean(one.rss_mb for one in part)) for part in parts]


def slope(readings: Sequence[Reading]) -> Slope | None:
    """Least squares of memory over time; None where fewer than three readings leave nothing to estimate."""
    if len(readings) < 3:
        return None
    blocks = _blocks(readings)
    count = len(blocks)
    times, sizes = [hour for hour, _ in blocks], [mb for _, mb in blocks]
    mean_h, mean_mb = sum(times) / count, sum(sizes) / count
    spread = sum((at - mean_h) ** 2 for at in times)
    if spread == 0:
        return None
    rise = sum((at - mean_h) * (mb - mean_mb) for at, mb in zip(times, sizes, strict=True)) / spread
    rest = sum((mb - mean_mb - rise * (at - mean_h)) ** 2 for at, mb in zip(times, sizes, strict=True))
    seconds = readings[-1].at_s - readings[0].at_s
    return Slope(rise, math.sqrt(rest / (count - 2) / spread), rise * seconds / 3600, seconds)


def rate(readings: Sequence[Reading]) -> float:
    """Exchanges per second between the first and the last reading."""
    if len(readings) < 2 or readings[-1].at_s <= readings[0].at_s:
        return 0.0
    return (readings[-1].requests - readings[0].requests) / (readings[-1].at_s - readings[0].at_s)


def _errors(load: Load) -> Line:
    """What was never answered counts, unless the generator may not even have asked."""
    failures = load.failures + (0 if load.is_saturated else load.unfinished)
    notes = [max(load.errors, key=lambda text: load.errors[text])] if load.errors else []
    notes += [f"{load.unfinished:,} were not answered in time"] if load.unfinished else []
    shown = f"{failures:,} of {load.requests + load.unfinished:,}"
    return Line("errors", shown, "0", failures == 0 and load.requests > 0, "; ".join(notes))


def _rate(load: Load, limits: Limits) -> Line:
    # Users come by chance: what so many of them differ by is no shortfall.
    chance = 4 * math.sqrt(limits.per_s / load.seconds) if load.seconds > 0 else 0.0
    least = max(0.0, RATE_SHARE * limits.per_s - chance)
    reached = load.per_s >= least
    note = "the generator had no CPU left: not the sidecar's limit" if load.is_saturated and not reached else ""
    return Line(
        "requests/s", f"{load.per_s:,.0f}", f"≥ {least:,.0f}", True if reached else None if note else False, note
    )


def _latency(load: Load, name: str, value_ms: float | None, at_most_ms: float) -> Line:
    if value_ms is None:
        return Line(name, "not measured", f"≤ {at_most_ms:g} ms", False, "no request was answered")
    met = value_ms <= at_most_ms
    note = "the generator had no CPU left and measured itself" if load.is_saturated and not met else ""
    return Line(name, f"{value_ms:,.1f} ms", f"≤ {at_most_ms:g} ms", None if note else met, note)


def _memory(readings: Sequence[Reading], limits: Limits) -> Line:
    limit = f"≤ {limits.slope_mb_per_h:g} MB/h"
    fit = slope(readings)
    if fit is None:
        return Line("memory slope", "not measured", limit, None, "too few readings")
    shown = f"{fit.mb_per_h:+,.1f} ± {2 * fit.error_mb_per_h:,.1f} MB/h"
    gained = f"{fit.gained_mb:+.1f} MB in {fit.seconds:.0f} s, to {readings[-1].rss_mb:.0f} MB"
    if fit.seconds < SLOPE_SECONDS:
        return Line("memory slope", shown, limit, None, f"{gained}: too short to judge ({SLOPE_SECONDS:.0f} s)")
    is_steep = fit.mb_per_h - 2 * fit.error_mb_per_h > limits.slope_mb_per_h
    is_grain = is_steep and fit.gained_mb <= GRAIN_MB
    note = f"{gained}: above the limit, but within an allocator's grain of {GRAIN_MB:g} MB" if is_grain else gained
    return Line("memory slope", shown, limit, is_grain or not is_steep, note)


def _leaks(start: Reading, end: Reading) -> Line:
    more = leaks(start, end)
    shown = ", ".join(f"{count:+} {name}" for name, count in more.items()) or "none"
    note = f"descriptors in use: {start.files_in_use} before, {end.files_in_use} after"
    return Line("left open", shown, "none", not more, note)


def judge(load: Load, limits: Limits, readings: Sequence[Reading], start: Reading, end: Reading) -> list[Line]:
    """`readings` are those that memory is judged by; `start` and `end` were read without load."""
    lines = [_errors(load), _rate(load, limits)]
    lines.append(_latency(load, "latency p50", load.p50_ms, limits.p50_ms))
    lines.append(_latency(load, "latency p99", load.p99_ms, limits.p99_ms))
    lines.append(_memory(readings, limits))
    lines.append(_leaks(start, end))
    taken = 1 - load.own_share - load.own_idle
    others = f"others took {taken:.0%} of it: no fair run" if taken > TAKEN else ""
    lines.append(Line("sidecar", f"{load.own_share:.0%} of its core", "", None, others))
    lines.append(Line("generator", f"{load.busy:.0%} busy", "", None, "saturated" if load.is_saturated else ""))
    return lines


def is_passed(lines: Sequence[Line]) -> bool:
    return all(line.is_met is not False for line in lines)
