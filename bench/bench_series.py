"""What it costs to count an exchange: python -m bench.bench_series"""

from dataclasses import dataclass

from bench.cases import Case, run_alone
from outrider_ext.series import Cells, Series

BOUNDS = tuple(2.0**power for power in range(-6, 9))


@dataclass(slots=True)
class Counted:
    series: Series
    cells: list[Cells]


def counted() -> Counted:
    cells = [Cells(BOUNDS) for _ in range(6)]
    return Counted(Series(*cells), cells)


def is_counted(one: Counted, result: object) -> bool:
    """Each exchange in all four histograms of time."""
    return one.series.exchanges > 0 and all(sum(cells.counts) == one.series.exchanges for cells in one.cells[:4])


CASES = (
    Case("observe, the first cell", lambda: Cells(BOUNDS), lambda c: c.observe(0.0), lambda c, _: c.counts[0] > 0),
    Case("observe, the last cell", lambda: Cells(BOUNDS), lambda c: c.observe(1e9), lambda c, _: c.counts[-1] > 0),
    Case("exchange", counted, lambda one: one.series.exchange(20_000, 800_000_000, 200_000_000), is_counted),
    Case(
        "count_tokens",
        counted,
        lambda one: one.series.count_tokens(231, 198, 128, 0, 64),
        lambda one, _: one.series.input > 0 and one.series.input * 198 == one.series.output * 231,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
