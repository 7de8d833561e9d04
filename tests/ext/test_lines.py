"""Lines that wait: nothing is lost, whoever gathers is woken once, and one huge line does not keep its room."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_ext.lines import LineBuffer


def waking(full: int = 100) -> tuple[LineBuffer, list[bool]]:
    woken: list[bool] = []
    return LineBuffer(woken.append, full), woken


@given(lines=st.lists(st.binary(max_size=300), max_size=40), every=st.integers(min_value=1, max_value=10))
def test_what_is_added_is_taken_in_order_and_once(lines: list[bytes], every: int) -> None:
    buffer, _ = waking()
    taken = []
    for number, line in enumerate(lines, 1):
        buffer.add(line)
        if number % every == 0:
            assert buffer.count > 0
            taken.append(buffer.take())
            assert (buffer.count, buffer.size) == (0, 0)
    taken.append(buffer.take())
    assert b"".join(taken) == b"".join(lines)


def test_it_wakes_for_the_first_line_and_when_it_is_full() -> None:
    buffer, woken = waking(full=10)
    buffer.add(b"one\n")
    buffer.add(b"two\n")
    assert woken == [False]
    buffer.add(b"three\n")
    assert woken == [False, True]
    buffer.take()
    buffer.add(b"four\n")
    assert woken == [False, True, False]


def test_a_line_longer_than_everything_passes() -> None:
    buffer, woken = waking(full=10)
    buffer.add(b"x" * 1_000_000)
    assert woken == [True]
    assert buffer.take() == b"x" * 1_000_000
    buffer.add(b"y")
    assert buffer.take() == b"y"


def test_the_gatherer_may_take_while_it_is_woken() -> None:
    taken: list[bytes] = []
    buffer = LineBuffer(lambda is_full: taken.append(buffer.take()), 1)
    for line in (b"a", b"b"):
        buffer.add(line)
    assert taken == [b"a", b"b"]
