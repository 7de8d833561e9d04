"""The nearest of several vectors is the one with the largest cosine, however long they are."""

import math
from struct import unpack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_ext.nearest import MAX_NUMBERS, nearest, unit

number = st.just(0.0) | st.floats(1e-3, 1e6) | st.floats(-1e6, -1e-3)


def cosine(a: list[float], b: list[float]) -> float:
    return math.sumprod(a, b) / math.hypot(*a) / math.hypot(*b)


@given(st.integers(1, 70).flatmap(lambda size: st.lists(st.lists(number, min_size=size, max_size=size).filter(any),
                                                        min_size=2, max_size=6)))  # fmt: skip
def test_the_nearest_has_the_largest_cosine(vectors: list[list[float]]) -> None:
    query, *others = vectors
    rows = [unit(other) for other in others]
    wanted = unit(query)
    assert wanted is not None
    at, similarity = nearest(wanted, [row for row in rows if row is not None])
    exact = [cosine(query, other) for other in others]
    assert similarity == pytest.approx(max(exact), abs=1e-5)
    assert exact[at] == pytest.approx(max(exact), abs=2e-5)


def test_a_vector_is_packed_with_length_one() -> None:
    assert unpack("2f", unit([3, 4.0]) or b"") == pytest.approx((0.6, 0.8))


def test_a_row_of_another_length_is_passed_over() -> None:
    two, three = unit([1, 0]), unit([1, 0, 0])
    assert two is not None
    assert three is not None
    assert nearest(two, [three, two]) == (1, 1.0)
    assert nearest(two, [three]) == (-1, -2.0)
    assert nearest(two, []) == (-1, -2.0)


@pytest.mark.parametrize(
    "numbers",
    [[], [0], [0.0, 0], ["1"], [None], [True], [math.nan], [math.inf], [1e200], [10**400], [[1.0]],
     [1.0] * (MAX_NUMBERS + 1)],
    ids=lambda numbers: str(numbers)[:12],
)  # fmt: skip
def test_what_is_no_vector_is_none(numbers: list[Any]) -> None:
    assert unit(numbers) is None
