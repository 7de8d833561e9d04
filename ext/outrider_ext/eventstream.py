# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""AWS `application/vnd.amazon.eventstream`: frames from bytes however cut, and back.

Rules kept (Smithy, "Amazon Event Stream Specification"; all integers big-endian):
1. A frame is total length (4 bytes), header length (4), CRC-32 of these eight (4), headers, payload, CRC-32 of all that
   came before it (4).
2. The prelude's CRC and both lengths are checked as soon as twelve bytes are there, before anything is kept for them.
3. A header is name length (1), name, type (1), value. Ten types; names are UTF-8, not empty, and stand once.
4. After an error there is no way to find the next frame: the reader stays broken.

Values in Python: bool; the four integer types int; byte array bytes; string str; timestamp `Timestamp` (an int:
milliseconds since 1970, UTC, since its range exceeds datetime's); UUID uuid.UUID. Encoding picks the narrowest integer
type that holds an int, so widths are not kept over decode and encode; values are.

Does not know: what events mean (`:event-type`, `:exception-type`), JSON, signatures.
"""

import struct
from collections.abc import Mapping
from uuid import UUID
from zlib import crc32

__all__ = ["EventStreamError", "EventStreamReader", "Message", "Timestamp", "encode"]

# Index: type number. Values of -1 carry their own length in two bytes.
_WIDTHS = (0, 0, 1, 2, 4, 8, -1, -1, 8, 16)
_U32 = struct.Struct(">I")
_U16 = struct.Struct(">H")
_FIXED_BYTES = 16  # prelude and both checksums: the length of a frame that carries nothing
_INTEGERS = ((2, 1), (3, 2), (4, 4), (5, 8))
_VALUE_CAP = 32767  # "the value is limited to 2^15 - 1 bytes" for what is written; more is read


class EventStreamError(Exception):
    """The bytes are not an event stream, or exceed a limit; the message is safe to show.

    messages: whole messages of the same chunk, before the break, so that the cut decides nothing.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.messages: list[Message] = []


class Timestamp(int):
    """Milliseconds since 1970-01-01T00:00:00Z, 64 bits with sign."""

    __slots__ = ()


class Message:
    """One frame. headers: name -> value in the order they came (types: see the module). payload: as it came."""

    def __init__(self, headers: dict[str, object], payload: bytes) -> None:
        self.headers = headers
        self.payload = payload

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.headers == other.headers and self.payload == other.payload

    __hash__ = None  # type: ignore[assignment]  # headers can change

    def __repr__(self) -> str:
        return f"Message(headers={self.headers!r}, payload={self.payload!r})"


class EventStreamReader:
    """Messages from bytes, however the bytes were cut.

    receive_data(chunk: bytes) -> list[Message]   0..n whole messages, in order
    Memory: one frame at most, that is 16 bytes, `max_header_bytes` and `max_payload_bytes`, and one chunk. Cost:
    linear in bytes received.
    Raises: EventStreamError for a wrong checksum, lengths that are impossible or beyond the limits, and malformed
    headers (`messages` of the error holds what was whole before); and at every call after that.
    """

    def __init__(self, max_header_bytes: int = 128 << 10, max_payload_bytes: int = 24 << 20) -> None:
        self.max_header_bytes = max_header_bytes
        self.max_payload_bytes = max_payload_bytes
        self._held = bytearray()
        self._frame_bytes = 0
        self._failure: str | None = None

    @property
    def pending(self) -> int:
        """Bytes held of an unfinished frame."""
        return len(self._held)

    def receive_data(self, chunk: bytes) -> list[Message]:
        if self._failure is not None:
            raise EventStreamError(self._failure)
        self._held += chunk
        messages: list[Message] = []
        try:
            pos = self._frames(messages)
        except EventStreamError as error:
            self._failure = str(error)
            self._held.clear()
            error.messages = messages
            raise
        if pos > 0:
            del self._held[:pos]
        return messages

    def _frames(self, messages: list[Message]) -> int:
        """Decode the whole frames held; return the index behind them."""
        length = len(self._held)
        pos = 0
        while True:
            if self._frame_bytes == 0:
                if length - pos < 12:
                    return pos
                self._frame_bytes = self._prelude(bytes(self._held[pos : pos + 12]))
            if length - pos < self._frame_bytes:
                return pos
            messages.append(_decode(bytes(self._held[pos : pos + self._frame_bytes])))
            pos += self._frame_bytes
            self._frame_bytes = 0

    def finish(self) -> None:
        """The stream has ended. Raises: EventStreamError when it ended inside a frame, or was broken before."""
        if self._failure is not None:
            raise EventStreamError(self._failure)
        if self._held:
            self._failure = f"The event stream ended inside a frame, after {len(self._held)} of its bytes."
            self._held.clear()
            raise EventStreamError(self._failure)

    def _prelude(self, prelude: bytes) -> int:
        """Check the twelve bytes; return the frame's length."""
        total, header_bytes, checksum = struct.unpack(">III", prelude)
        if crc32(prelude[:8]) != checksum:
            raise EventStreamError("The event stream has a frame whose prelude does not match its checksum.")
        if total < _FIXED_BYTES + header_bytes:
            raise EventStreamError("The event stream has a frame that is shorter than its headers.")
        if header_bytes > self.max_header_bytes:
            raise EventStreamError(f"The event stream has a frame with over {self.max_header_bytes} bytes of headers.")
        if total - _FIXED_BYTES - header_bytes > self.max_payload_bytes:
            raise EventStreamError(f"The event stream has a frame with over {self.max_payload_bytes} bytes of payload.")
        return int(total)


def _decode(frame: bytes) -> Message:
    """One whole frame whose prelude was checked."""
    end = len(frame) - 4
    if crc32(frame[:end]) != _U32.unpack_from(frame, end)[0]:
        raise EventStreamError("The event stream has a frame that does not match its checksum.")
    header_end = 12 + _U32.unpack_from(frame, 4)[0]
    return Message(_headers(frame, 12, header_end), frame[header_end:end])


def _headers(data: bytes, pos: int, end: int) -> dict[str, object]:
    headers: dict[str, object] = {}
    while pos < end:
        length = data[pos]
        pos += 1
        if length == 0 or end - pos < length + 1:
            raise EventStreamError("The event stream has a header without a whole name.")
        name = _text(data[pos : pos + length], "a header name")
        kind = data[pos + length]
        pos += length + 1
        if kind >= len(_WIDTHS):
            raise EventStreamError(f"The event stream has a header of the unknown type {kind}.")
        length = _width(data, pos, end, kind)
        if kind in {6, 7}:
            pos += 2
        if name in headers:
            raise EventStreamError("The event stream has a frame with one header twice.")
        headers[name] = _value(data[pos : pos + length], kind)
        pos += length
    return headers


def _width(data: bytes, pos: int, end: int, kind: int) -> int:
    """Bytes of the value at `pos`, not counting the length before it."""
    width: int = _WIDTHS[kind]
    if width < 0:
        if end - pos < 2:
            raise EventStreamError("The event stream has a header without a whole value.")
        width = data[pos] << 8 | data[pos + 1]
        pos += 2
    if end - pos < width:
        raise EventStreamError("The event stream has a header without a whole value.")
    return width


def _value(raw: bytes, kind: int) -> object:
    if kind == 7:
        return _text(raw, "a header value")
    if kind == 6:
        return raw
    if kind <= 1:
        return kind == 0  # type 0 is true, type 1 false
    if kind == 9:
        return UUID(bytes=raw)
    number = int.from_bytes(raw, "big", signed=True)
    return Timestamp(number) if kind == 8 else number


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise EventStreamError(f"The event stream has {what} that is not UTF-8.") from None


def encode(headers: Mapping[str, object], payload: bytes) -> bytes:
    """One frame. Limits are the peer's to check, except those that the format itself has.

    Raises: EventStreamError for a header whose name is empty or over 255 bytes, or whose value is over 32,767 bytes,
    beyond 64 bits, not Unicode text, or of a type that the format does not have; and for more than 4 GiB in all.
    """
    parts: list[bytes] = []
    for name, value in headers.items():
        encoded = _utf8(name)
        if not 1 <= len(encoded) <= 255:
            raise EventStreamError("A header name must have from 1 to 255 bytes.")
        parts += (bytes((len(encoded),)), encoded, _encode_value(value))
    block = b"".join(parts)
    total = _FIXED_BYTES + len(block) + len(payload)
    if total >= 1 << 32:
        raise EventStreamError("A frame must have less than 4 GiB.")
    lengths = struct.pack(">II", total, len(block))
    frame = b"".join((lengths, _U32.pack(crc32(lengths)), block, payload))
    return frame + _U32.pack(crc32(frame))


def _encode_value(value: object) -> bytes:
    """Type byte and value."""
    if isinstance(value, bool):  # before int, which it is too
        return b"\x00" if value else b"\x01"
    if isinstance(value, str):
        return b"\x07" + _counted(_utf8(value))
    if isinstance(value, bytes):
        return b"\x06" + _counted(value)
    if isinstance(value, UUID):
        return b"\x09" + value.bytes
    if not isinstance(value, int):
        raise EventStreamError(f"A header value cannot be of the type {type(value).__name__}.")
    for kind, width in ((8, 8),) if isinstance(value, Timestamp) else _INTEGERS:
        if -(1 << (8 * width - 1)) <= value < 1 << (8 * width - 1):
            return bytes((kind,)) + int(value).to_bytes(width, "big", signed=True)
    raise EventStreamError("A header value must fit 64 bits.")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise EventStreamError("A header must be Unicode text.") from None


def _counted(raw: bytes) -> bytes:
    if len(raw) > _VALUE_CAP:
        raise EventStreamError(f"A header value must have at most {_VALUE_CAP} bytes.")
    return _U16.pack(len(raw)) + raw
