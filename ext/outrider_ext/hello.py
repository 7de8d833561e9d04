# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What a whole TLS ClientHello says: the name, the protocols, whether the name is encrypted.

Rules: unknown extensions, cipher suites, key shares and versions (GREASE, post-quantum) are skipped by length and never
judged. What a server could read in two ways (two names, an extension twice, lengths that disagree) is an error with the
alert that a server would send. Indices are checked against the end before a byte is read.
Does not know: a hello in several records, whether a name is a host's. Source: RFC 8446 4.1.2, RFC 6066 3, RFC 7301 3.1.
"""

__all__ = ["ClientHelloError", "read_hello", "read_record"]

ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
PROTOCOL_VERSION = 70

_SERVER_NAME = 0
_ALPN = 16
_ECH = 0xFE0D
_SESSION_ID_AT = 34  # behind the version and the random
_SESSION_ID_MAX = 32
_RECORD_HEADER_BYTES = 5
_MESSAGE_AT = 9  # behind the headers of record and handshake message
_RECORD_MAX_BYTES = 1 << 14


class ClientHelloError(Exception):
    """The bytes are no ClientHello; `alert` is the TLS alert to answer with, str(exc) one sentence, safe to show."""

    def __init__(self, alert: int, message: str) -> None:
        super().__init__(message)
        self.alert = alert


def read_hello(body: bytes) -> tuple[bytes, tuple[bytes, ...], bool]:
    """(server name or b"", offered protocols, encrypted_client_hello is there) of a ClientHello without its header.

    Raises: ClientHelloError, nothing else. Cost: linear, about 2 microseconds.
    """
    end = len(body)
    _need(2, end)
    if body[0] != 3:
        raise ClientHelloError(PROTOCOL_VERSION, "the ClientHello has an unknown version")
    _need(_SESSION_ID_AT, end)
    session_end = _vector_end(body, _SESSION_ID_AT, end, 1)
    ciphers_end = _vector_end(body, session_end, end, 2)
    compression_end = _vector_end(body, ciphers_end, end, 1)
    ciphers = ciphers_end - session_end - 2
    if (
        session_end - _SESSION_ID_AT - 1 > _SESSION_ID_MAX
        or ciphers == 0
        or ciphers % 2 != 0
        or compression_end - ciphers_end == 1
    ):
        raise ClientHelloError(DECODE_ERROR, "a fixed field of the ClientHello has an impossible length")
    if compression_end == end:  # no extensions at all, as before TLS 1.2
        return b"", (), False
    return _read_extensions(body, compression_end, end)


def read_record(data: bytes, max_bytes: int) -> tuple[bytes, tuple[bytes, ...], bool] | None:
    """`read_hello` of the record that `data` begins with, where that is what nearly all clients send: one record with
    one whole hello of at most `max_bytes`, header included. None for anything else, which is not judged here."""
    if len(data) < _MESSAGE_AT:
        return None
    size = data[3] << 8 | data[4]
    length = data[6] << 16 | data[7] << 8 | data[8]
    if (
        data[0] != 0x16
        or data[1] != 3
        or data[2] < 1
        or data[2] > 3
        or data[5] != 1
        or length == 0
        or size != length + _MESSAGE_AT - _RECORD_HEADER_BYTES
        or size > _RECORD_MAX_BYTES
        or size > max_bytes
        or len(data) < _RECORD_HEADER_BYTES + size
    ):
        return None
    return read_hello(data[_MESSAGE_AT : _RECORD_HEADER_BYTES + size])


def _read_extensions(body: bytes, pos: int, end: int) -> tuple[bytes, tuple[bytes, ...], bool]:
    name_at = name_end = alpn_at = alpn_end = -1
    has_ech = False
    seen: set[int] = set()
    last = _vector_end(body, pos, end, 2)
    pos += 2
    while pos < last:
        _need(pos + 2, last)
        kind = body[pos] << 8 | body[pos + 1]
        if kind in seen:  # RFC 8446 4.2: not more than one of the same type
            raise ClientHelloError(ILLEGAL_PARAMETER, "an extension of the ClientHello comes twice")
        seen.add(kind)
        pos += 2
        after = _vector_end(body, pos, last, 2)
        if kind == _SERVER_NAME:
            name_at, name_end = pos + 2, after
        elif kind == _ALPN:
            alpn_at, alpn_end = pos + 2, after
        elif kind == _ECH:
            has_ech = True
        pos = after
    if last != end:
        raise ClientHelloError(DECODE_ERROR, "bytes follow the extensions of the ClientHello")
    name = _server_name(body, name_at, name_end) if name_at < name_end else b""
    return name, _protocols(body, alpn_at, alpn_end) if alpn_at >= 0 else (), has_ech


def _server_name(body: bytes, pos: int, end: int) -> bytes:
    """RFC 6066 3. Empty at any of its three levels means no name; more than one entry is ambiguous."""
    last = _vector_end(body, pos, end, 2)
    if last != end:
        raise ClientHelloError(DECODE_ERROR, "bytes follow the server name list")
    pos += 2
    if pos == last:
        return b""
    kind = body[pos]
    after = _vector_end(body, pos + 1, last, 2)
    if kind != 0 or after != last:
        raise ClientHelloError(ILLEGAL_PARAMETER, "the server name list holds more than one host name")
    return body[pos + 3 : after]


def _protocols(body: bytes, pos: int, end: int) -> tuple[bytes, ...]:
    """RFC 7301 3.1: a list of one or more names of 1 to 255 bytes."""
    last = _vector_end(body, pos, end, 2)
    pos += 2
    if pos == last or last != end:
        raise ClientHelloError(DECODE_ERROR, "the list of application protocols is malformed")
    protocols = []
    while pos < last:
        after = _vector_end(body, pos, last, 1)
        if after == pos + 1:
            raise ClientHelloError(DECODE_ERROR, "an application protocol has an empty name")
        protocols.append(body[pos + 1 : after])
        pos = after
    return tuple(protocols)


def _vector_end(body: bytes, pos: int, end: int, length_size: int) -> int:
    """Where the vector ends whose length, of `length_size` bytes, stands at `pos`."""
    start = pos + length_size
    _need(start, end)
    length = body[pos] if length_size == 1 else body[pos] << 8 | body[pos + 1]
    _need(start + length, end)
    return start + length


def _need(pos: int, end: int) -> None:
    """Every overrun is the same decode_error."""
    if pos > end:
        raise ClientHelloError(DECODE_ERROR, "a length in the ClientHello runs past its end")
