"""The TLS ClientHello as the door needs it: which name, which protocols, is the name encrypted.

Rules: a hello is read to its end, however it was cut into TCP segments and TLS records. What a server could read in two
ways is an error with the alert that a server would send.
Plan: the reader strips record headers as bytes come (work linear in bytes, even for records of one byte), and has the
handshake message parsed (outrider_ext.hello) once, when it is complete.
Does not know: sockets, deadlines, providers. Source: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3, RFC 7301 §3.1.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

from outrider.authority import AuthorityError, canonical_host
from outrider_ext.hello import ClientHelloError, read_hello, read_record

__all__ = ["ClientHello", "ClientHelloError", "ClientHelloReader", "bytes_wanted", "parse_client_hello"]

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

_U16 = struct.Struct("!H")


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
        if not self._message and not self._header and not self._left:
            found = read_record(chunk, self._max_bytes)
            if found is not None:
                return _hello(found)
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
                return _hello(read_hello(bytes(self._message[HANDSHAKE_HEADER_BYTES:])))
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


def _hello(found: tuple[bytes, tuple[bytes, ...], bool]) -> ClientHello:
    name, alpn, ech = found
    return ClientHello(_canonical_sni(name) if name else None, alpn, ech)


@lru_cache(maxsize=1024)
def _canonical_sni(name: bytes) -> str | None:
    try:
        host, ip = canonical_host(name)
    except AuthorityError:
        raise ClientHelloError(ALERT_ILLEGAL_PARAMETER, "the server name is not a host name") from None
    return None if ip is not None else host
