"""Cells and Series: what is added once is counted once, in the right cell."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both


@pytest.mark.parametrize("module", both("series"), ids=("compiled", "interpreted"))
class TestSeries:
    @given(values=st.lists(st.floats(min_value=0, max_value=20, allow_nan=False), max_size=50))
    def test_a_value_lands_below_the_first_bound_that_holds_it(self, module: Any, values: list[float]) -> None:
        cells = module.Cells((0.5, 1.0, 10.0))
        for value in values:
            cells.observe(value)
        edges = [float("-inf"), 0.5, 1.0, 10.0, float("inf")]
        expected = [sum(low < value <= high for value in values) for low, high in pairwise(edges)]
        assert cells.counts == expected
        assert cells.total == pytest.approx(sum(values))

    def test_an_exchange_without_an_upstream_leaves_its_cells_alone(self, module: Any) -> None:
        cells = [module.Cells((1.0,)) for _ in range(6)]
        series = module.Series(*cells)
        series.exchange(1000, -1, -1)
        series.exchange(1000, 2_000_000_000, 500_000_000)
        assert series.exchanges == 2
        assert [sum(cell.counts) for cell in cells] == [2, 1, 1, 1, 0, 0]

    def test_tokens_are_summed_by_kind(self, module: Any) -> None:
        series = module.Series(*(module.Cells((1.0,)) for _ in range(6)))
        series.count_tokens(30, 12, 8, 2, 5)
        series.count_tokens(1, 1, 0, 0, 0)
        assert (series.input, series.output, series.cache_read, series.cache_write, series.reasoning) == (
            31,
            13,
            8,
            2,
            5,
        )
