"""Frames from bytes however cut, in every framing, and back."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import Frame, Framing
from outrider.dialects.frames import FrameError, FrameReader, eventstream_frame, ndjson_frame, sse_frame

VALUES = [{"a": 'x]}"\\'}, {"b": [{"c": "{"}]}, {}, {"ü": "\\"}, {"d": [1, [2, {"e": None}]]}]
TEXTS = [json.dumps(value).encode() for value in VALUES]
STREAMS: dict[Framing, tuple[bytes, list[Frame]]] = {
    "sse": (b": hello\n\n" + b"".join(sse_frame(text, "e") for text in TEXTS), [Frame(text, "e") for text in TEXTS]),
    "ndjson": (b"".join(map(ndjson_frame, TEXTS)), [Frame(text) for text in TEXTS]),
    "json-array": (b"[" + b"\r\n,\r\n".join(TEXTS) + b"\r\n]", [Frame(text) for text in TEXTS]),
    "eventstream": (
        b"".join(eventstream_frame(text, "chunk") for text in TEXTS)
        + eventstream_frame(b"{}", "throttlingException", is_exception=True),
        [*(Frame(text, "chunk") for text in TEXTS), Frame(b"{}", "throttlingException", True)],
    ),
}


def read(framing: Framing, chunks: list[bytes]) -> list[Frame]:
    reader = FrameReader(framing)
    return [frame for chunk in chunks for frame in reader.feed(chunk)] + reader.end()


@pytest.mark.parametrize("framing", STREAMS)
def test_every_cut_gives_the_same_frames(framing: Framing) -> None:
    stream, frames = STREAMS[framing]
    assert read(framing, [stream]) == frames
    assert read(framing, [stream[at : at + 1] for at in range(len(stream))]) == frames
    for cut in range(len(stream)):
        assert read(framing, [stream[:cut], stream[cut:]]) == frames


@pytest.mark.parametrize("framing", ["sse", "ndjson"])
def test_a_last_frame_without_its_line_end_counts(framing: Framing) -> None:
    stream, frames = STREAMS[framing]
    assert read(framing, [stream.rstrip()]) == frames


@pytest.mark.parametrize("framing", STREAMS)
def test_a_frame_that_is_too_long_is_one_sentence_and_what_came_before_it_is_kept(framing: Framing) -> None:
    stream, frames = STREAMS[framing]
    reader = FrameReader(framing, max_frame_bytes=200)
    long = json.dumps({"x": "y" * 1000}).encode()
    more = {
        "sse": sse_frame(long),
        "ndjson": long,
        "json-array": b",\r\n" + long,
        "eventstream": eventstream_frame(long, "chunk"),
    }[framing]
    with pytest.raises(FrameError, match="bytes") as broken:
        reader.feed(stream.removesuffix(b"\r\n]") + more)
    assert broken.value.frames == frames


@pytest.mark.parametrize("cut", [0, 8])
@pytest.mark.parametrize("framing", STREAMS)
def test_a_whole_frame_that_is_too_long_is_an_error_however_it_is_cut_and_stays_one(framing: Framing, cut: int) -> None:
    long = b'{"x":"%b"}' % (b"y" * 100)
    data = STREAMS[framing][0].replace(TEXTS[0], long)
    if framing == "eventstream":
        data = eventstream_frame(long, "chunk")
    reader = FrameReader(framing, max_frame_bytes=64)
    assert reader.feed(data[:cut]) == []
    with pytest.raises(FrameError, match="bytes") as broken:
        reader.feed(data[cut:])
    assert broken.value.frames == []
    with pytest.raises(FrameError, match="bytes"):
        reader.feed(STREAMS[framing][0])
    with pytest.raises(FrameError, match="bytes"):
        reader.end()


@pytest.mark.parametrize("framing", ["eventstream", "json-array"])
def test_a_frame_that_is_cut_at_the_end_is_told(framing: Framing) -> None:
    reader = FrameReader(framing)
    reader.feed(STREAMS[framing][0].rstrip(b"]\r\n")[:-1])
    with pytest.raises(FrameError, match=r"ended inside an? (frame|object), after [0-9]+ of its bytes"):
        reader.end()


@pytest.mark.parametrize("framing", ["sse", "ndjson"])
def test_a_line_that_is_cut_at_the_end_is_given_as_it_is(framing: Framing) -> None:
    stream, frames = STREAMS[framing]
    reader = FrameReader(framing)
    found = [*reader.feed(stream.rstrip()[:-1]), *reader.end()]
    assert [frame.data for frame in found] == [*(frame.data for frame in frames[:-1]), frames[-1].data[:-1]]


def test_an_array_that_is_not_closed_is_whole_between_two_objects() -> None:
    reader = FrameReader("json-array")
    assert len([*reader.feed(b'[{"a": 1},\r\n'), *reader.end()]) == 1


@given(st.sampled_from(sorted(STREAMS)), st.binary(max_size=200))
def test_garbage_gives_frames_or_the_declared_error(framing: Framing, garbage: bytes) -> None:
    reader = FrameReader(framing, max_frame_bytes=64)
    with contextlib.suppress(FrameError):
        assert all(len(frame.data) <= 64 for frame in [*reader.feed(garbage), *reader.end()])
