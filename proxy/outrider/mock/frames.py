"""Writes AWS event-stream frames (`application/vnd.amazon.eventstream`), string headers only.

The mock has its own writer, small and plain, so that it can judge the compiled reader and does not share its mistakes.
Layout, big-endian: total length (4), headers length (4), CRC-32 of those 8 bytes (4), headers, payload, CRC-32 of all
before it (4). A header: name length (1), name, type 7 for a string (1), value length (2), value.
"""

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame. Raises: struct.error when a header is longer than the format can say."""
    head = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", _STRING, len(value)) + value


def event(kind: str, payload: bytes) -> bytes:
    """A normal event."""
    return frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(kind: str, payload: bytes) -> bytes:
    """An exception after status 200, which ends the stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, payload)
