"""What a client speaks, from its first bytes.

Rules: decided on as few bytes as tell the answers apart, and on no fewer; a prefix of several answers is MORE.
One CRLF before a request is skipped (RFC 9112 §2.2). What looks like a method is HTTP even if no one has heard of it:
the HTTP lane refuses it better than we can.
Does not know: sockets, silence (that is the caller's clock).
"""

import re
from enum import Enum

FIRST_BYTES = 48  # more than enough for every decision made here
MAX_METHOD_BYTES = 32
_METHOD = re.compile(rb"[A-Z][A-Z\-]{0,31}\Z")
_REQUEST_LINE = re.compile(rb"[A-Z][A-Z\-]{0,31} [^\r\n]* HTTP/1\.\d\r?\Z")


class Speech(Enum):
    MORE = "more bytes are needed"
    TLS = "a TLS handshake record"
    HTTP = "an HTTP method and a space"
    CONNECT = "the method CONNECT and a space"
    OPAQUE = "anything else"


def recognise(data: bytes) -> Speech:
    """What `data`, a prefix of the client's bytes, is the beginning of."""
    if not data:
        return Speech.MORE
    if data[0] == 0x16:
        if len(data) == 1:
            return Speech.MORE
        return Speech.TLS if data[1] == 3 else Speech.OPAQUE
    if data[0] == 0x0D:
        if len(data) == 1:
            return Speech.MORE
        data = data.removeprefix(b"\r\n")
        if not data:
            return Speech.MORE
    method, space, _ = data[: MAX_METHOD_BYTES + 1].partition(b" ")
    if not _METHOD.match(method):
        return Speech.OPAQUE
    if not space:
        return Speech.MORE
    return Speech.CONNECT if method == b"CONNECT" else Speech.HTTP


def has_request_line(data: bytes) -> bool | None:
    """Whether the first line is that of an HTTP/1 request; None while the line is not complete."""
    line, newline, _ = data.removeprefix(b"\r\n").partition(b"\n")
    return _REQUEST_LINE.match(line) is not None if newline else None
