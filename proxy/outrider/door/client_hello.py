"""The TLS ClientHello as the door needs it: which name, which protocols, is the name encrypted.

Rules: a hello is read to its end, however it was cut into TCP segments and TLS records; unknown extensions, cipher
suites, key shares and versions (GREASE, post-quantum) are skipped by length and never judged. What a server could read
in two ways (two names, an extension twice, lengths that disagree) is an error with the alert that a server would send.
Plan: the reader strips record headers as bytes come (work linear in bytes, even for records of one byte), and parses
once, when the handshake message is complete.
Does not know: sockets, deadlines, providers. Source: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3, RFC 7301 §3.1.
"""

import struct
from dataclasses import dataclass

from outrider.authority import AuthorityError, canonical_host

MAX_HELLO_BYTES = 1 << 16  # of the handshake message; clients of today send 264 to 1,607
MAX_RECORD_BYTES = 1 << 14  # RFC 8446 §5.1
RECORD_HEADER_BYTES = 5
HANDSHAKE_HEADER_BYTES = 4

ALERT_UNEXPECTED_MESSAGE = 10
ALERT_RECORD_OVERFLOW = 22
ALERT_HANDSHAKE_FAILURE = 40
ALERT_ILLEGAL_PARAMETER = 47
ALERT_ACCESS_DENIED = 49
ALERT_DECODE_ERROR = 50
ALERT_PROTOCOL_VERSION = 70
ALERT_INTERNAL_ERROR = 80
ALERT_UNRECOGNIZED_NAME = 112
ALERT_NO_APPLICATION_PROTOCOL = 120

_EXT_SERVER_NAME = 0
_EXT_ALPN = 16
_EXT_ECH = 0xFE0D
_U16 = struct.Struct("!H")


class ClientHelloError(Exception):
    """The bytes are no ClientHello; `alert` is the TLS alert to answer with, str(exc) one sentence, safe to show."""

    def __init__(self, alert: int, message: str) -> None:
        super().__init__(message)
        self.alert = alert


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client said about itself before any key.

    `sni` is canonical (lower case, no trailing dot) or None (absent, empty, or an IPv4 literal, which RFC 6066 does not
    allow and servers ignore); `alpn` the offered protocols in order, empty when the extension is absent;
    `ech` whether encrypted_client_hello is present (Chrome sends it as GREASE as well, so it alone proves nothing).
    """

    sni: str | None
    alpn: tuple[bytes, ...]
    ech: bool


class ClientHelloReader:
    """Collects one ClientHello from bytes as they come.

    receive_data(chunk: bytes) -> ClientHello | None    None: more bytes are needed; feed each byte once
    bytes_wanted: int                                   at least so many more bytes are needed for the next step
    Memory: at most `max_bytes` + one record held. Raises: ClientHelloError, nothing else.
    """

    __slots__ = ("_header", "_left", "_max_bytes", "_message", "_wanted")

    def __init__(self, max_bytes: int = MAX_HELLO_BYTES) -> None:
        self._max_bytes = max_bytes
        self._header = bytearray()  # the record header being read
        self._left = 0  # payload bytes left in the current record
        self._message = bytearray()
        self._wanted = HANDSHAKE_HEADER_BYTES  # total size of the message once its header is known

    @property
    def bytes_wanted(self) -> int:
        missing = self._wanted - len(self._message)
        if self._left:
            return min(missing, self._left)
        return RECORD_HEADER_BYTES - len(self._header) + 1

    def receive_data(self, chunk: bytes) -> ClientHello | None:
        pos, end = 0, len(chunk)
        while pos < end:
            if self._left == 0:
                pos = self._read_record_header(chunk, pos)
                continue
            take = min(self._left, end - pos, self._wanted - len(self._message))
            self._message += chunk[pos : pos + take]
            self._left -= take
            pos += take
            if len(self._message) == self._wanted and self._has_whole_message():
                return _parse_body(bytes(self._message[HANDSHAKE_HEADER_BYTES:]))
        return None

    def _read_record_header(self, chunk: bytes, pos: int) -> int:
        header = self._header
        need = RECORD_HEADER_BYTES - len(header)
        header += chunk[pos : pos + need]
        if header[0] != 0x16:
            raise ClientHelloError(ALERT_UNEXPECTED_MESSAGE, "a TLS record other than a handshake came first")
        major, minor = header[1:2] or b"\x03", header[2:3] or b"\x03"
        if major != b"\x03" or not b"\x01" <= minor <= b"\x03":
            raise ClientHelloError(ALERT_PROTOCOL_VERSION, "the TLS record has an unknown version")
        if len(header) < RECORD_HEADER_BYTES:
            return len(chunk)
        length = _U16.unpack_from(header, 3)[0]
        if length == 0:  # RFC 8446 §5.1: zero-length fragments of Handshake types must not be sent
            raise ClientHelloError(ALERT_UNEXPECTED_MESSAGE, "a TLS handshake record is empty")
        if length > MAX_RECORD_BYTES:
            raise ClientHelloError(ALERT_RECORD_OVERFLOW, f"a TLS record is larger than {MAX_RECORD_BYTES} bytes")
        header.clear()
        self._left = length
        return pos + need

    def _has_whole_message(self) -> bool:
        """The header was just completed (its length is learnt), or the whole message was."""
        if self._wanted > HANDSHAKE_HEADER_BYTES:
            return True
        if self._message[0] != 1:
            raise ClientHelloError(ALERT_UNEXPECTED_MESSAGE, "the first TLS handshake message is not a ClientHello")
        length = int.from_bytes(self._message[1:4], "big")
        if length == 0:
            raise ClientHelloError(ALERT_DECODE_ERROR, "the ClientHello is empty")
        if length > self._max_bytes - HANDSHAKE_HEADER_BYTES:
            raise ClientHelloError(ALERT_ILLEGAL_PARAMETER, f"the ClientHello is larger than {self._max_bytes} bytes")
        self._wanted += length
        return False


def parse_client_hello(data: bytes) -> ClientHello | None:
    """The ClientHello that `data` begins with; None when more bytes are needed. Raises ClientHelloError."""
    return ClientHelloReader().receive_data(data)


def bytes_wanted(data: bytes) -> int:
    """At least how many more bytes `parse_client_hello` needs after `data`; 0 when it is complete."""
    reader = ClientHelloReader()
    return 0 if reader.receive_data(data) is not None else reader.bytes_wanted


class _Cursor:
    """Length-prefixed vectors out of bytes; every overrun is the same decode_error."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def at_end(self) -> bool:
        return self._pos == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._pos + size
        if end > len(self._data):
            raise ClientHelloError(ALERT_DECODE_ERROR, "a length in the ClientHello runs past its end")
        part = self._data[self._pos : end]
        self._pos = end
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def _parse_body(body: bytes) -> ClientHello:
    cursor = _Cursor(body)
    if cursor.take(2)[0] != 3:
        raise ClientHelloError(ALERT_PROTOCOL_VERSION, "the ClientHello has an unknown version")
    cursor.take(32)  # random
    session_id = cursor.vector(1)
    ciphers = cursor.vector(2)
    compression = cursor.vector(1)
    if len(session_id) > 32 or not ciphers or len(ciphers) % 2 or not compression:
        raise ClientHelloError(ALERT_DECODE_ERROR, "a fixed field of the ClientHello has an impossible length")
    if cursor.at_end():  # no extensions at all, as before TLS 1.2
        return ClientHello(None, (), False)
    extensions = _parse_extensions(cursor.vector(2))
    if not cursor.at_end():
        raise ClientHelloError(ALERT_DECODE_ERROR, "bytes follow the extensions of the ClientHello")
    alpn = extensions.get(_EXT_ALPN)
    return ClientHello(
        _parse_server_name(extensions.get(_EXT_SERVER_NAME, b"")),
        () if alpn is None else _parse_alpn(alpn),
        _EXT_ECH in extensions,
    )


def _parse_extensions(data: bytes) -> dict[int, bytes]:
    cursor = _Cursor(data)
    extensions: dict[int, bytes] = {}
    while not cursor.at_end():
        kind = cursor.number(2)
        if kind in extensions:  # RFC 8446 §4.2: not more than one of the same type
            raise ClientHelloError(ALERT_ILLEGAL_PARAMETER, "an extension of the ClientHello comes twice")
        extensions[kind] = cursor.vector(2)
    return extensions


def _parse_server_name(data: bytes) -> str | None:
    """RFC 6066 §3. Empty at any of its three levels means no name; more than one entry is ambiguous."""
    if not data:
        return None
    outer = _Cursor(data)
    names = outer.vector(2)
    if not outer.at_end():
        raise ClientHelloError(ALERT_DECODE_ERROR, "bytes follow the server name list")
    if not names:
        return None
    entry = _Cursor(names)
    kind = entry.number(1)
    name = entry.vector(2)
    if kind != 0 or not entry.at_end():
        raise ClientHelloError(ALERT_ILLEGAL_PARAMETER, "the server name list holds more than one host name")
    if not name:
        return None
    try:
        host, ip = canonical_host(name)
    except AuthorityError:
        raise ClientHelloError(ALERT_ILLEGAL_PARAMETER, "the server name is not a host name") from None
    return None if ip is not None else host


def _parse_alpn(data: bytes) -> tuple[bytes, ...]:
    """RFC 7301 §3.1: a list of one or more names of 1 to 255 bytes."""
    outer = _Cursor(data)
    names = outer.vector(2)
    if not names or not outer.at_end():
        raise ClientHelloError(ALERT_DECODE_ERROR, "the list of application protocols is malformed")
    cursor = _Cursor(names)
    protocols: list[bytes] = []
    while not cursor.at_end():
        protocol = cursor.vector(1)
        if not protocol:
            raise ClientHelloError(ALERT_DECODE_ERROR, "an application protocol has an empty name")
        protocols.append(protocol)
    return tuple(protocols)
