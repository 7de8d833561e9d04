"""Where lines, frames and array elements end, however the bytes were cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_ext.eventstream import encode
from outrider_ext.relay import ARRAY, FRAMES, LINES, Units

VALUES = st.lists(
    st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2), max_size=3),
    min_size=1,
    max_size=5,
)


def wire(kind: int, values: list[object]) -> tuple[bytes, list[int]]:
    """(the stream, where its parts end)."""
    data, ends = b"", []
    for at, value in enumerate(values):
        text = json.dumps(value).encode()
        if kind == LINES:
            data += text + b"\n"
        elif kind == FRAMES:
            data += encode({":message-type": "event"}, text)
        else:
            data += (b"[" if at == 0 else b",\r\n") + text
        ends.append(len(data))
    if kind == ARRAY:
        data += b"]"
        ends.append(len(data))
    return data, ends


def feed(kind: int, data: bytes, cuts: list[int], max_bytes: int = 1 << 20) -> tuple[list[int], Units]:
    """The boundaries that were found, counted from the stream's start."""
    units, found, at = Units(kind, max_bytes), [], 0
    for end in [*sorted(set(cuts)), len(data)]:
        piece = data[at:end]
        cut = units.feed(piece, 0, len(piece))
        if cut:
            found.append(at + cut)
        at = end
    return found, units


@pytest.mark.parametrize("kind", [LINES, FRAMES, ARRAY])
@given(VALUES, st.data())
def test_a_boundary_is_never_inside_a_part(kind: int, values: list[object], draw: st.DataObject) -> None:
    data, ends = wire(kind, values)
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))
    found, units = feed(kind, data, cuts)
    assert set(found) <= set(ends)
    assert found[-1] == len(data)
    assert units.total_events == len(values)
    assert units.open_bytes == 0


@pytest.mark.parametrize("kind", [LINES, FRAMES, ARRAY])
def test_byte_by_byte_every_boundary_is_found(kind: int) -> None:
    data, ends = wire(kind, [{"a": "x"}, {"b": ["]", '\\"}', {"c": 1}]}, {}])
    found, _ = feed(kind, data, list(range(len(data))))
    assert found == ends


@pytest.mark.parametrize("kind", [LINES, FRAMES, ARRAY])
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_is_passed_on_at_the_latest_when_it_is_too_long(kind: int, data: bytes, cuts: list[int]) -> None:
    units, at, held = Units(kind, 16), 0, 0
    for end in [*sorted({cut for cut in cuts if cut <= len(data)}), len(data)]:
        cut = units.feed(data, at, end)
        assert at <= cut <= end
        held = held + end - at if cut == at and not units.overlong else end - cut
        assert held <= 16
        at = end


def test_a_range_outside_the_data_is_refused() -> None:
    with pytest.raises(IndexError):
        Units(LINES, 1).feed(b"ab", 1, 3)
