"""AWS event-stream frames, compiled and interpreted alike, judged by vectors made by others."""

import base64
import struct
from itertools import pairwise
from types import ModuleType
from typing import Any
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from support.vectors import rows

BUILDS = both("eventstream")


@pytest.fixture(params=BUILDS, ids=["compiled", "interpreted"])
def eventstream(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def frame(block: bytes, payload: bytes = b"", *, total: int | None = None, header_bytes: int | None = None) -> bytes:
    """A frame with right checksums around any bytes and any stated lengths."""
    lengths = struct.pack(
        ">II",
        16 + len(block) + len(payload) if total is None else total,
        len(block) if header_bytes is None else header_bytes,
    )
    head = lengths + struct.pack(">I", crc32(lengths)) + block + payload
    return head + struct.pack(">I", crc32(head))


def plain(value: object) -> object:
    """A header value as the vectors write it."""
    if isinstance(value, UUID):
        value = value.bytes
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def outcome(build: ModuleType, chunks: list[bytes], **limits: int) -> tuple[list[Any], str | None]:
    """(headers, payload) of each message, and the error that ended the stream, if one did."""
    reader = build.EventStreamReader(**limits)
    messages: list[Any] = []
    failure = None
    try:
        for chunk in chunks:
            messages += reader.receive_data(chunk)
        reader.finish()
    except build.EventStreamError as error:
        messages += error.messages
        failure = str(error)
    return [(message.headers, message.payload) for message in messages], failure


def test_vectors_are_judged_whole_byte_by_byte_and_with_trailing_data(eventstream: ModuleType) -> None:
    more = eventstream.encode({"a": "b"}, b"more")
    for row in rows("eventstream"):
        raw = base64.b64decode(row["b64"])
        for chunks in ([raw], [bytes([byte]) for byte in raw], [raw + more]):
            messages, failure = outcome(eventstream, chunks)
            if "error" in row["expect"]:
                assert messages == [], row["id"]
                assert failure is not None, row["id"]
                continue
            assert failure is None, row["id"]
            headers, payload = messages[0]
            assert {name: plain(value) for name, value in headers.items()} == row["expect"]["headers"], row["id"]
            assert {"b64": base64.b64encode(payload).decode()} == row["expect"]["payload"], row["id"]
            assert len(messages) == (2 if chunks[0] == raw + more else 1)


def test_what_is_decoded_encodes_to_the_same_bytes(eventstream: ModuleType) -> None:
    for row in rows("eventstream"):
        if "error" not in row["expect"] and not row["id"].startswith("INT"):  # widths of integers are not kept
            raw = base64.b64decode(row["b64"])
            (message,) = eventstream.EventStreamReader().receive_data(raw)
            encoded = eventstream.encode(message.headers, message.payload)
            assert eventstream.EventStreamReader().receive_data(encoded) == [message]
            if row["id"] != "ALL_HEADERS_TYPES":
                assert encoded == raw


def values(build: ModuleType) -> st.SearchStrategy[object]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    number = st.integers(-(1 << 63), (1 << 63) - 1)
    return st.booleans() | number | st.binary(max_size=20) | text | number.map(build.Timestamp) | st.uuids()


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MESSAGES = st.lists(
    st.tuples(st.dictionaries(NAMES, st.integers(0, 5), max_size=4), st.binary(max_size=40)), max_size=4
)


@pytest.mark.parametrize("build", BUILDS, ids=["compiled", "interpreted"])
@given(data=st.data())
def test_any_message_survives_encoding_and_decoding(build: ModuleType, data: st.DataObject) -> None:
    headers = data.draw(st.dictionaries(NAMES, values(build), max_size=6))
    payload = data.draw(st.binary(max_size=50))
    (message,) = build.EventStreamReader().receive_data(build.encode(headers, payload))
    assert message == build.Message(headers, payload)
    assert list(message.headers) == list(headers)
    for name, value in headers.items():
        assert type(message.headers[name]) is type(value)


@given(MESSAGES, st.binary(max_size=20), st.lists(st.integers(0, 400), max_size=10))
def test_any_cut_gives_the_same_messages_and_the_same_error(
    messages: list[tuple[dict[str, int], bytes]], tail: bytes, cuts: list[int]
) -> None:
    stream = b"".join(BUILDS[0].encode(headers, payload) for headers, payload in messages) + tail
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    want = outcome(BUILDS[0], [stream])
    assert want[0] == messages
    for build in BUILDS:
        assert outcome(build, [stream[a:b] for a, b in pairwise(edges)]) == want
        assert outcome(build, [bytes([byte]) for byte in stream]) == want


@given(
    st.binary(max_size=80)
    | st.binary(max_size=60).map(frame)
    | st.binary(max_size=4).map(lambda b: frame(b"\x01a" + b))
)
def test_garbage_gives_messages_or_the_declared_error_alike_in_both_builds(stream: bytes) -> None:
    assert outcome(BUILDS[0], [stream]) == outcome(BUILDS[1], [stream])


@given(st.integers(0, 60), st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, flip: int) -> None:
    raw = bytearray(frame(b"\x01a\x07\x00\x02hi\x02id\x04\x00\x00\x00\x07", b'{"a": "payload of a frame"}'))
    raw[at % len(raw)] ^= flip
    for build in BUILDS:
        messages, failure = outcome(build, [bytes(raw)])
        assert messages == []
        assert failure is not None


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"\x00\x00", "without a whole name"),
        (b"\x05ab", "without a whole name"),
        (b"\x01a", "without a whole name"),
        (b"\x01a\x0a", "unknown type 10"),
        (b"\x01a\xff", "unknown type 255"),
        (b"\x01a\x02", "without a whole value"),
        (b"\x01a\x05\x00\x00", "without a whole value"),
        (b"\x01a\x07\x00", "without a whole value"),
        (b"\x01a\x06\x00\x05abcd", "without a whole value"),
        (b"\x01a\x09" + b"x" * 15, "without a whole value"),
        (b"\x01a\x07\x00\x01\xff", "header value that is not UTF-8"),
        (b"\x01\xff\x00", "header name that is not UTF-8"),
        (b"\x01a\x00\x01a\x01", "one header twice"),
    ],
)
def test_a_malformed_header_is_refused(eventstream: ModuleType, block: bytes, words: str) -> None:
    # The payload would complete what is cut short: a header must end inside its block.
    assert words in str(outcome(eventstream, [frame(block, b"\x00" * 40)])[1])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (frame(b"", total=15), "shorter than its headers"),
        (frame(b"", total=0), "shorter than its headers"),
        (frame(b"", total=20, header_bytes=5), "shorter than its headers"),
        (frame(b"", total=0xFFFFFFFF, header_bytes=0xFFFFFFFF), "shorter than its headers"),
        (frame(b"", total=16 + (128 << 10) + 1, header_bytes=(128 << 10) + 1), "over 131072 bytes of headers"),
        (frame(b"", total=16 + (24 << 20) + 1), "over 25165824 bytes of payload"),
    ],
)
def test_impossible_and_excessive_lengths_are_refused_at_the_twelfth_byte(
    eventstream: ModuleType, raw: bytes, words: str
) -> None:
    reader = eventstream.EventStreamReader()
    assert reader.receive_data(raw[:11]) == []
    with pytest.raises(eventstream.EventStreamError, match=words):
        reader.receive_data(raw[11:12])


def test_frames_at_the_limits_are_read(eventstream: ModuleType) -> None:
    block = b"\x01a\x07\x00\x02hi"
    assert outcome(eventstream, [frame(block, b"12345")], max_header_bytes=7, max_payload_bytes=5)[1] is None
    assert outcome(eventstream, [frame(block, b"12345")], max_header_bytes=6)[1] is not None
    assert outcome(eventstream, [frame(block, b"12345")], max_payload_bytes=4)[1] is not None


def test_a_reader_that_broke_stays_broken_and_hands_over_what_was_whole(eventstream: ModuleType) -> None:
    good = eventstream.encode({"a": 1}, b"good")
    reader = eventstream.EventStreamReader()
    with pytest.raises(eventstream.EventStreamError, match="prelude") as broken:
        reader.receive_data(good + b"\x00" * 12)
    assert broken.value.messages == [eventstream.Message({"a": 1}, b"good")]
    assert reader.pending == 0
    for again in (lambda: reader.receive_data(good), reader.finish):
        with pytest.raises(eventstream.EventStreamError, match="prelude"):
            again()


def test_a_stream_that_ends_inside_a_frame_is_cut(eventstream: ModuleType) -> None:
    raw = eventstream.encode({}, b"payload")
    reader = eventstream.EventStreamReader()
    reader.finish()
    assert reader.receive_data(raw + raw[:5]) == [eventstream.Message({}, b"payload")]
    assert reader.pending == 5
    with pytest.raises(eventstream.EventStreamError, match="inside a frame, after 5"):
        reader.finish()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"": "x"}, "1 to 255 bytes"),
        ({"é" * 128: "x"}, "1 to 255 bytes"),
        ({"a": "x" * 32768}, "at most 32767"),
        ({"a": b"x" * 32768}, "at most 32767"),
        ({"a": 1 << 63}, "fit 64 bits"),
        ({"a": 1.5}, "of the type float"),
        ({"a": None}, "of the type NoneType"),
        ({"a": "\ud800"}, "Unicode text"),
        ({"\ud800": "a"}, "Unicode text"),
    ],
)
def test_headers_that_the_format_cannot_hold_are_refused(
    eventstream: ModuleType, headers: dict[str, object], words: str
) -> None:
    with pytest.raises(eventstream.EventStreamError, match=words):
        eventstream.encode(headers, b"")


@pytest.mark.parametrize(
    ("value", "kind", "width"), [(127, 2, 1), (-128, 2, 1), (128, 3, 2), (1 << 15, 4, 4), (-(1 << 31) - 1, 5, 8)]
)
def test_an_integer_takes_the_narrowest_type_that_holds_it(
    eventstream: ModuleType, value: int, kind: int, width: int
) -> None:
    raw = eventstream.encode({"a": value}, b"")
    assert raw[14] == kind
    assert raw[15:-4] == value.to_bytes(width, "big", signed=True)


def test_messages_compare_by_value_and_show_what_they_hold(eventstream: ModuleType) -> None:
    message = eventstream.Message({"a": 1}, b"x")
    assert message == eventstream.Message({"a": 1}, b"x")
    assert message != eventstream.Message({"a": 1}, b"y")
    assert message != ({"a": 1}, b"x")
    assert repr(message) == "Message(headers={'a': 1}, payload=b'x')"
    with pytest.raises(TypeError):
        hash(message)
