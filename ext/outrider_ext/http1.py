# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, annotation_typing=False
"""HTTP/1.1 heads and bodies, for both sides of a proxy: bytes in, spans and payload runs out.

Rules it keeps
  1. What two parsers could read differently is an error, never a guess (RFC 9112 sections 2.2, 5, 6, 7; RFC 9110
     section 5). `docs/http1.md` is the table of what is refused and of the few leniencies; a test runs its rows.
  2. An error is raised at the first byte that proves it, so a peer cannot make us wait for the rest of bad input.
  3. Every byte is scanned once, however the bytes were cut: an unfinished scan remembers its place.
  4. Nothing is allocated per field. A head is a table of offsets; an outgoing head is built from slices of it.

Plan
  `Head` scans a request or a response head and builds the head that is sent on. `Body` frames the message body.
  One `Head` and one `Body` serve all messages of one side of a connection, one after the other.
  Every index into the input lies in [pos, len(data)), checked by the loop around it; that is why bounds checks are off.

Does not know: sockets, which message answers which (so not that an answer to HEAD has no body), URIs beyond their
bytes, whether more may follow `Connection: close`, which fields are hop-by-hop (the caller says what to drop).
"""

from array import array

import cython  # type: ignore[import-untyped,unused-ignore]

from outrider_ext.http1_body import Body
from outrider_ext.http1_tables import *  # noqa: F403  (the H_* ids, for the callers of this module)
from outrider_ext.http1_tables import (
    IN_HOST,
    IN_TARGET,
    IN_VALUE,
    METHODS,
    NAMES,
    ProtocolError,
    header_id,
    kind_table,
    mask_of,
    token_table,
)

__all__ = ["Body", "Head", "ProtocolError", "header_id", "mask_of"]

globals()["Body"] = Body  # a name that the .pxd cimports is not put into the compiled module's dictionary

MAX_LENGTH = 1 << 53  # of a body: beyond it, JSON-speaking neighbours lose digits
MAX_TARGET_BYTES = 16 << 10
_MAX_LENGTH = MAX_LENGTH
_MAX_TARGET = MAX_TARGET_BYTES
_MAX_METHOD = max(map(len, METHODS))
_MAX_HEAD = 1 << 30  # offsets are 32-bit

# The same numbers as above, as C integers.
_HOST = 1
_CONTENT_LENGTH = 2
_TRANSFER_ENCODING = 3
_CONNECTION = 4
_EXPECT = 5
_UPGRADE = 6
_KEEP_ALIVE = 7
_PROXY_CONNECTION = 8
_TE = 9
_TRAILER = 10
_OURS = 64  # any x-outrider-*: never passed on, in neither direction; above the bits of a mask
_STRIDE = 5  # integers in a row of the field table
_WIDTH = 32  # bytes a known name takes in _NAME

# States of a head's scan, in the order of the bytes.
_START = 0
_START_LF = 1
_METHOD = 2
_TARGET = 3
_VERSION = 4
_STATUS = 5
_REASON_SP = 6
_REASON = 7
_LINE_LF = 8
_FIELD = 9
_FIELD_NAME = 10
_FIELD_OWS = 11
_FIELD_VALUE = 12
_FIELD_LF = 13
_END_LF = 14
_IDLE = 15

_IN_VALUE = IN_VALUE
_IN_TARGET = IN_TARGET
_IN_HOST = IN_HOST

_TOKEN_BYTES = token_table()
_KIND_BYTES = kind_table()
_NAME_BYTES = b"".join(name.ljust(_WIDTH, b"\0") for name in (b"", *NAMES))
_LENGTH_BYTES = bytes(len(name) for name in (b"", *NAMES))
_TOKEN = _TOKEN_BYTES
_KIND = _KIND_BYTES
_NAME = _NAME_BYTES
_LENGTH = _LENGTH_BYTES


if not cython.compiled:  # in http1.pxd for C

    def value_run(p: bytes, i: int, n: int) -> int:
        """Index of the first byte in p[i:n] that no field value may hold, else n."""
        while i < n and _KIND[p[i]] & _IN_VALUE:
            i += 1
        return i


def _slot_of(n: int, first: int, middle: int, last: int) -> int:
    """A hash that gives each known name its own slot; the factors were searched for, `_slot_table` checks them."""
    h = n * 21 + first * 24 + middle * 63 + last * 58
    return h & 255


def _slot_table() -> bytes:
    table = bytearray(256)
    for known, name in enumerate(NAMES, 1):
        slot = _slot_of(len(name), name[0], name[len(name) >> 1], name[len(name) - 1])
        if table[slot]:
            raise RuntimeError(f"the names {NAMES[table[slot] - 1]!r} and {name!r} share a slot: find new factors")
        table[slot] = known
    return bytes(table)


_SLOT_BYTES = _slot_table()
_SLOT = _SLOT_BYTES


def _same(p: bytes, a: int, b: int, lower: bytes, at: int) -> bool:
    """Whether p[a:b], a token in any case, equals lower[at : at + b - a]."""
    for i in range(b - a):  # noqa: SIM110  (a generator would not compile to C)
        if _TOKEN[p[a + i]] != lower[at + i]:
            return False
    return True


def _identify(p: bytes, a: int, b: int) -> int:
    """The id of the field name p[a:b] (a token, not empty): 1..63, _OURS for x-outrider-*, else 0."""
    n = b - a
    k = _SLOT[_slot_of(n, _TOKEN[p[a]], _TOKEN[p[a + (n >> 1)]], _TOKEN[p[b - 1]])]
    if k != 0 and _LENGTH[k] == n and _same(p, a, b, _NAME, k * _WIDTH):
        return k
    if n >= 11 and _same(p, a, a + 11, b"x-outrider-", 0):
        return _OURS
    return 0


class Head:
    """One message head at a time, as a table of offsets into the bytes it was scanned from.

    scan_request / scan_response(data, pos, max_bytes) -> the index after the blank line, or 0 when more bytes are
    needed; call again with the same bytes and more (they may have moved: `pos` says where they start now).
    All attributes and methods speak of the last head that was scanned to its end, until the next scan begins.
    Memory: 20 bytes a field, `max_fields` of them, and a reference to `data`. Cost: linear in the bytes received.
    Raises: ProtocolError, after which the next scan starts afresh. Never any other error for any bytes.
    Source: RFC 9112 sections 2 to 6, RFC 9110 section 5.
    """

    def __init__(self, max_fields: int = 128) -> None:
        if not 1 <= max_fields <= 65535:
            raise ValueError("max_fields must lie between 1 and 65535")
        self._max_fields = max_fields
        self._rows = array("i", bytes(4 * _STRIDE * (max_fields + 1)))
        self._runs = array("i", bytes(8 * (max_fields + 2)))
        self.drop_names: frozenset[bytes] = frozenset()
        self._request = True
        self._open(True)
        self._state = _IDLE

    def reset(self) -> None:
        """Forget an unfinished scan; the next scan starts afresh."""
        self._state = _IDLE
        self._at = 0

    def _open(self, request: bool) -> int:
        self.data = self.method = self.target = self.reason = b""
        self.start = self.end = 0
        self.version = self.status = self.count = 0
        self.mask = 0
        self.content_length = -1
        self.chunked = self.keep_alive = self.upgrade = self.expect_continue = self.nominated = False
        self._request = request
        self._state = _START
        self._at = self._mark = self._part = self._method_end = self._line_end = self._origin = 0
        self._major = self._fields = 0
        self._close = self._keep = self._wants_upgrade = False
        self._nominated_mask = 0
        self._nominated_names: list[bytes] | None = None
        return 0

    def _refuse(self, status: int, text: str) -> int:
        self.reset()
        raise ProtocolError(status if self._request else 502, text)

    def scan_request(self, data: bytes, pos: int, max_bytes: int) -> int:
        """Scan a request head at data[pos:]. Returns its end, or 0 when more bytes are needed. Raises ProtocolError."""
        return self._scan(data, pos, max_bytes, True)

    def scan_response(self, data: bytes, pos: int, max_bytes: int) -> int:
        """Scan a response head at data[pos:]. Returns its end, or 0 when it needs more bytes. Raises ProtocolError."""
        return self._scan(data, pos, max_bytes, False)

    def _scan(self, data: bytes, pos: int, max_bytes: int, request: bool) -> int:
        max_bytes = min(max_bytes, _MAX_HEAD)
        n = len(data)
        if pos < 0 or pos > n:
            raise ValueError("pos does not lie within data")
        more = n - pos < max_bytes
        if not more:
            n = pos + max_bytes
        if self._state == _IDLE:
            self._open(request)
        p = data
        i = pos + self._at
        if self._state < _FIELD:
            i = self._request_line(p, i, n, pos) if request else self._status_line(p, i, n, pos)
        if self._state >= _FIELD:
            i = self._field_lines(p, i, n, pos)
            if self._state == _IDLE:
                self._finish(data, pos, i)
                return i
        if not more:
            if self._state == _TARGET:
                self._refuse(414, "The request target is too long.")
            self._refuse(431, "The message head is too large.")
        self._at = i - pos
        return 0

    def _request_line(self, p: bytes, i: int, n: int, base: int) -> int:
        """RFC 9112 section 3: method SP request-target SP HTTP-version CRLF, single spaces only."""
        if self._state <= _START_LF:
            i = self._skip_empty_line(p, i, n, base)
        if self._state == _METHOD:
            while i < n and _TOKEN[p[i]] != 0:
                i += 1
            if i - base - self._mark > _MAX_METHOD:
                self._refuse(501, "The method is not one this proxy knows.")
            if i < n:
                self._take_method(p, base + self._mark, i)
                i += 1
                self._method_end = self._part = i - base
                self._state = _TARGET
        if self._state == _TARGET:
            mark = base + self._part
            while i < n and _KIND[p[i]] & _IN_TARGET:
                i += 1
            if i - mark > _MAX_TARGET:
                self._refuse(414, "The request target is too long.")
            if i < n:
                if p[i] != 32 or i == mark:
                    self._refuse_target(p[i])
                self.target = p[mark:i]
                i += 1
                self._part = i - base
                self._state = _VERSION
        while i < n and self._state == _VERSION:
            if i - base - self._part < 8:
                self._version_byte(p[i], i - base - self._part)
            elif p[i] == 13:
                self._state = _LINE_LF
            else:
                self._refuse(400, "The request line does not end in CRLF after the HTTP version.")
            i += 1
        if i < n and self._state == _LINE_LF:
            i = self._end_line(p, i, base)
        return i

    def _skip_empty_line(self, p: bytes, i: int, n: int, base: int) -> int:
        """RFC 9112 section 2.2: "a server ... SHOULD ignore at least one empty line (CRLF)". One, not more."""
        if i < n and self._state == _START:
            if p[i] == 13:
                self._state = _START_LF
                i += 1
            else:
                self._state = _METHOD
        if i < n and self._state == _START_LF:
            if p[i] != 10:
                self._refuse(400, "The request starts with a bare CR.")
            i += 1
            self._mark = i - base
            self._state = _METHOD
        return i

    def _end_line(self, p: bytes, i: int, base: int) -> int:
        if p[i] != 10:
            self._refuse(400, "The start line holds a bare CR.")
        self._line_end = i + 1 - base
        self._state = _FIELD
        return i + 1

    def _take_method(self, p: bytes, a: int, b: int) -> int:
        """RFC 9110 section 9.1: methods are case-sensitive tokens."""
        if p[b] != 32 or a == b:
            self._refuse(400, "The request does not start with a method and one space.")
        if b - a == 4 and p[a] == 80 and p[a + 1] == 79 and p[a + 2] == 83 and p[a + 3] == 84:
            self.method = b"POST"
            return 0
        method = p[a:b]
        if method not in METHODS:
            self._refuse(501, "The method is not one this proxy knows.")
        self.method = method
        return 0

    def _refuse_target(self, c: int) -> int:
        if c in (13, 10):
            self._refuse(400, "The request line has no HTTP version.")  # HTTP/0.9
        if c == 35:
            self._refuse(400, "The request target holds a fragment, which is never sent.")
        return self._refuse(400, "The request target is empty or holds a byte that no URI may hold.")

    def _version_byte(self, c: int, k: int) -> int:
        """Byte k of 8. RFC 9112 section 2.3: HTTP-version = "HTTP" "/" DIGIT "." DIGIT, in capitals."""
        if k < 5:
            if c != b"HTTP/"[k]:
                self._refuse(400, "The start line does not name HTTP as its protocol.")
        elif k == 6:
            if c != 46:
                self._refuse(400, "The HTTP version is malformed.")
        elif c < 48 or c > 57:
            self._refuse(400, "The HTTP version is malformed.")
        elif k == 5:
            self._major = c - 48
        else:
            if self._major != 1 or c > 49:
                self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
            self.version = c - 38  # 10 or 11
        return 0

    def _status_line(self, p: bytes, i: int, n: int, base: int) -> int:
        """RFC 9112 section 4: HTTP-version SP 3DIGIT [SP [reason-phrase]] CRLF; the space may miss with the reason."""
        state = self._state
        if state == _START:
            state = _VERSION
        while i < n:
            c = p[i]
            if state == _VERSION:
                k = i - base
                if k < 8:
                    self._version_byte(c, k)
                elif c != 32:
                    self._refuse(400, "The status line has no space after the HTTP version.")
                else:
                    state = _STATUS
            elif state == _STATUS:
                k = i - base - 9
                if c < 48 or c > 57 or (k == 0 and (c == 48 or c > 53)):
                    self._refuse(400, "The status code is not three digits between 100 and 599.")
                self.status = self.status * 10 + c - 48
                if k == 2:
                    state = _REASON_SP
            elif state == _REASON_SP:
                self._part = i + 1 - base
                if c == 32:
                    state = _REASON
                elif c == 13:
                    state = _LINE_LF
                else:
                    self._refuse(400, "The status code is not followed by a space or the end of the line.")
            elif state == _REASON:
                if c == 13:
                    self.reason = p[base + self._part : i]
                    state = _LINE_LF
                elif _KIND[c] & _IN_VALUE == 0:
                    self._refuse(400, "The reason phrase holds a control character.")
            else:
                return self._end_line(p, i, base)
            i += 1
        self._state = state
        return i

    def _field_lines(self, p: bytes, i: int, n: int, base: int) -> int:
        """RFC 9112 section 5: name ":" OWS value OWS CRLF, until an empty line; the state is _IDLE after that."""
        rows = self._rows
        row = self._fields * _STRIDE
        state = self._state
        while i < n:
            if state == _FIELD_VALUE:
                i = value_run(p, i, n)
                if i == n:
                    break
                self._end_value(p, i, base, row)
                state = _FIELD_LF
            elif state == _FIELD_LF:
                if p[i] != 10:
                    self._refuse(400, "A field line holds a bare CR.")
                self._take_field(p, rows[row], base + rows[row + 3], base + rows[row + 4])
                self._fields += 1
                row += _STRIDE
                state = _FIELD
            elif state == _FIELD:
                rows[row + 1] = i - base
                if p[i] == 13:
                    state = _END_LF
                else:
                    if self._fields == self._max_fields:
                        self._refuse(431, "The message head has too many fields.")
                    state = _FIELD_NAME
                    continue
            elif state == _FIELD_NAME:
                while i < n and _TOKEN[p[i]] != 0:
                    i += 1
                if i == n:
                    break
                self._end_name(p, i, base, row)
                state = _FIELD_OWS
            elif state == _FIELD_OWS:
                while i < n and (p[i] == 32 or p[i] == 9):
                    i += 1
                rows[row + 3] = i - base  # written again while only white space has come
                if i < n:
                    state = _FIELD_VALUE
                continue
            else:
                if p[i] != 10:
                    self._refuse(400, "The head ends in a bare CR.")
                state = _IDLE
                i += 1
                break
            i += 1
        self._state = state
        return i

    def _end_name(self, p: bytes, i: int, base: int, row: int) -> int:
        a = base + self._rows[row + 1]
        if p[i] != 58 or i == a:
            self._refuse_name(p[i], i == a)
        self._rows[row] = _identify(p, a, i)
        self._rows[row + 2] = i - base
        return 0

    def _end_value(self, p: bytes, i: int, base: int, row: int) -> int:
        if p[i] != 13:
            self._refuse_value(p[i])
        a = base + self._rows[row + 3]
        while i > a and (p[i - 1] == 32 or p[i - 1] == 9):
            i -= 1
        self._rows[row + 4] = i - base
        return 0

    def _refuse_name(self, c: int, empty: bool) -> int:
        if empty and c in (32, 9):
            # RFC 9112 section 5.2: a folded line is refused, and so is white space before the first field (2.2).
            self._refuse(400, "A field line starts with white space (obsolete line folding).")
        if empty and c == 58:
            self._refuse(400, "A field line has no name.")
        if c in (32, 9):
            # RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon."
            self._refuse(400, "White space stands between a field name and its colon.")
        if c in (13, 10):
            self._refuse(400, "A field line has no colon or holds a bare CR or LF.")
        return self._refuse(400, "A field name holds a character that no token may hold.")

    def _refuse_value(self, c: int) -> int:
        if c == 10:
            self._refuse(400, "A field line ends in LF without CR.")
        return self._refuse(400, "A field value holds a control character.")

    def _take_field(self, p: bytes, h: int, a: int, b: int) -> int:
        """Note a field, if it is a known one; p[a:b] is its value. The first six ids are looked into at once."""
        if h in (0, _OURS):
            return 0
        one = 1
        bit = one << h
        if h <= _UPGRADE:
            self._take_framing(p, h, a, b, self.mask & bit != 0)
        self.mask |= bit
        return 0

    def _take_framing(self, p: bytes, h: int, a: int, b: int, again: bool) -> int:
        if h == _CONNECTION:
            self._take_connection(p, a, b)
        elif h == _HOST:
            if self._request:
                if again:  # RFC 9112 section 3.2
                    self._refuse(400, "The request has more than one Host.")
                self._take_host(p, a, b)
        elif h == _CONTENT_LENGTH:
            if again:  # RFC 9112 section 6.3 allows equal ones to be merged; refusing all is simpler to be sure of
                self._refuse(400, "The message has more than one Content-Length.")
            if self.chunked:  # RFC 9112 section 6.3, rule 3
                self._refuse(400, "The message has both Content-Length and Transfer-Encoding.")
            self._take_length(p, a, b)
        elif h == _TRANSFER_ENCODING:
            if self.content_length >= 0:
                self._refuse(400, "The message has both Content-Length and Transfer-Encoding.")
            if again:
                self._refuse(400, "The message has more than one Transfer-Encoding.")
            self._take_coding(p, a, b)
        elif h == _EXPECT and self._request and b - a == 12 and _same(p, a, b, b"100-continue", 0):
            # RFC 9110 section 10.1.1: an HTTP/1.0 client does not expect an answer to it.
            self.expect_continue = self.version == 11
        return 0

    def _take_length(self, p: bytes, a: int, b: int) -> int:
        """RFC 9110 section 8.6: Content-Length = 1*DIGIT; a list of equal values is refused too."""
        if a == b:
            self._refuse(400, "Content-Length is empty.")
        n = 0
        for i in range(a, b):
            c = p[i]
            if c < 48 or c > 57:
                self._refuse(400, "Content-Length is not a number.")
            n = n * 10 + c - 48
            if n > _MAX_LENGTH:
                self._refuse(400, "Content-Length is too large.")
        self.content_length = n
        return 0

    def _take_coding(self, p: bytes, a: int, b: int) -> int:
        """RFC 9112 sections 6.1 and 7: `chunked` alone, in any case; other codings are 501, an unframed body 400."""
        if self.version == 10:
            self._refuse(400, "Transfer-Encoding stands in an HTTP/1.0 message.")
        if b - a == 7 and _same(p, a, b, b"chunked", 0):
            self.chunked = True
            return 0
        if b - a > 8 and (p[b - 8] == 32 or p[b - 8] == 9 or p[b - 8] == 44) and _same(p, b - 7, b, b"chunked", 0):
            self._refuse(501, "Only the transfer coding chunked is spoken here, and only by itself.")
        return self._refuse(400, "Transfer-Encoding is not chunked, so the body has no certain end.")

    def _take_host(self, p: bytes, a: int, b: int) -> int:
        """RFC 9112 section 3.2: an invalid Host is 400; it may be empty. Port and name are the caller's to judge."""
        for i in range(a, b):
            if _KIND[p[i]] & _IN_HOST == 0:
                self._refuse(400, "Host holds a character that no host may hold.")
        return 0

    def _take_connection(self, p: bytes, a: int, b: int) -> int:
        """RFC 9110 section 7.6.1: a list of tokens; empty elements are ignored (section 5.6.1.2)."""
        i = a
        while i < b:
            if p[i] == 32 or p[i] == 9 or p[i] == 44:
                i += 1
                continue
            a = i
            while i < b and _TOKEN[p[i]] != 0:
                i += 1
            if i > a:
                self._take_option(p, a, i)
            while i < b and (p[i] == 32 or p[i] == 9):
                i += 1
            if i < b and p[i] != 44:
                self._refuse(400, "Connection is not a list of tokens.")
        return 0

    def _take_option(self, p: bytes, a: int, b: int) -> int:
        if b - a == 5 and _same(p, a, b, b"close", 0):
            self._close = True
            return 0
        h = _identify(p, a, b)
        if h == _KEEP_ALIVE:
            self._keep = True
        elif h == _UPGRADE:
            self._wants_upgrade = True
        elif h in (_HOST, _CONTENT_LENGTH):
            # RFC 9110 section 7.6.1: an option must not name a field that is meant for all recipients. Dropping
            # these two would change where the message goes or ends.
            self._refuse(400, "Connection names Host or Content-Length, which are not for one hop.")
        elif h == 0:
            if self._nominated_names is None:
                self._nominated_names = []
            self._nominated_names.append(p[a:b].lower())
            self.nominated = True
        elif h > _PROXY_CONNECTION and h not in (_OURS, _TE, _TRAILER):
            one = 1
            self._nominated_mask |= one << h
            self.nominated = True
        return 0

    def _finish(self, data: bytes, pos: int, end: int) -> int:
        # RFC 9112 section 3.2. HTTP/1.0 may come without: http.client before Python 3.12 sends CONNECT so.
        if self._request and self.version == 11 and self.mask & 2 == 0:
            self._refuse(400, "The request has no Host.")
        self._at = 0
        self.count = self._fields
        self.data = data
        self._origin = pos
        self.start = pos + self._mark
        self.end = end
        # RFC 9112 section 9.3
        self.keep_alive = not self._close and (self.version == 11 or self._keep)
        self.upgrade = self._wants_upgrade and self.mask & 64 != 0
        return 0

    def get(self, header_id: int) -> bytes | None:
        """The first value of a known field, without the white space around it; None if it is absent."""
        if header_id == 0:
            return None  # the id of every name that is not known
        p = self.data
        for k in range(self.count):
            row = k * _STRIDE
            if self._rows[row] == header_id:
                return p[self._origin + self._rows[row + 3] : self._origin + self._rows[row + 4]]
        return None

    def get_name(self, name: bytes) -> bytes | None:
        """The first value of a field by its lower-case name, known or not; None if it is absent."""
        p = self.data
        wanted = name
        for k in range(self.count):
            row = k * _STRIDE
            a = self._origin + self._rows[row + 1]
            b = self._origin + self._rows[row + 2]
            if b - a == len(name) and _same(p, a, b, wanted, 0):
                return p[self._origin + self._rows[row + 3] : self._origin + self._rows[row + 4]]
        return None

    def items(self) -> list[tuple[bytes, bytes]]:
        """All fields in order, names in lower case, values without the white space around them. Slow."""
        found = []
        for k in range(self.count):
            row = k * _STRIDE
            name = self.data[self._origin + self._rows[row + 1] : self._origin + self._rows[row + 2]]
            value = self.data[self._origin + self._rows[row + 3] : self._origin + self._rows[row + 4]]
            found.append((name.lower(), value))
        return found

    def _keep_lines(self, drop: int, count: int) -> int:
        """Append the runs of field lines that are passed on to `_runs`, from index `count`; returns the new count."""
        one = 1
        rows = self._rows
        runs = self._runs
        drop |= self._nominated_mask
        named = self._nominated_names is not None or len(self.drop_names) != 0
        first = -1
        for k in range(self.count):
            row = k * _STRIDE
            h = rows[row]
            if h == 0:
                dropped = named and self._is_named(row)
            else:
                dropped = h == _OURS or drop & (one << h) != 0
            if not dropped:
                if first < 0:
                    first = rows[row + 1]
            elif first >= 0:
                runs[2 * count] = first
                runs[2 * count + 1] = rows[row + 1]
                count += 1
                first = -1
        if first >= 0:
            runs[2 * count] = first
            runs[2 * count + 1] = rows[self.count * _STRIDE + 1]
            count += 1
        return count

    def _is_named(self, row: int) -> bool:
        name = self.data[self._origin + self._rows[row + 1] : self._origin + self._rows[row + 2]].lower()
        if self._nominated_names is not None and name in self._nominated_names:
            return True
        return name in self.drop_names

    def _join(self, lead_end: int, first: bytes, second: bytes, count: int, extra: bytes) -> bytes:
        if cython.compiled:
            # Stands in the .pxd, which the interpreter does not read.
            return join_head(self, lead_end, first, second, count, extra)  # type: ignore # noqa: F405
        else:
            parts = [self.data[self.start : lead_end], first, second]
            for k in range(count):
                parts.append(self.data[self._origin + self._runs[2 * k] : self._origin + self._runs[2 * k + 1]])
            return b"".join([*parts, extra, b"\r\n"])

    def build_request(self, target: bytes, drop: int, extra: bytes) -> bytes:
        """The head to send on: this method, `target`, HTTP/1.1, the kept field lines as they came, `extra`, CRLF.

        Dropped are the fields in the mask `drop`, those in `drop_names`, those that Connection nominates, and every
        x-outrider-*. `extra` is complete field lines, each ended by CRLF; the caller vouches for it.
        Raises ValueError for a target that is empty or holds a byte that no target may hold.
        """
        if self.end == 0:
            raise ValueError("no head was scanned")
        p = target
        for i in range(len(target)):
            if _KIND[p[i]] & _IN_TARGET == 0:
                raise ValueError("the request target holds a space, a control or a non-ASCII byte")
        if len(target) == 0:
            raise ValueError("the request target is empty")
        count = self._keep_lines(drop, 0)
        return self._join(self._origin + self._method_end, target, b" HTTP/1.1\r\n", count, extra)

    def build_response(self, drop: int, extra: bytes, status: int = 0) -> bytes:
        """The head to send on, as HTTP/1.1 with the same status and reason; fields are dropped as in build_request.

        status: where it is another one, it goes without a reason.
        """
        if self.end == 0:
            raise ValueError("no head was scanned")
        if status == 0:
            status = self.status
        if status != self.status or self.data[self._origin + 12] != 32:
            # RFC 9112 section 4: "A server MUST send the space ... even when the reason-phrase is absent".
            count = self._keep_lines(drop, 0)
            return self._join(self.start, b"HTTP/1.1 %d " % status, b"\r\n", count, extra)
        self._runs[0] = 8
        self._runs[1] = self._line_end
        count = self._keep_lines(drop, 1)
        return self._join(self.start, b"HTTP/1.1", b"", count, extra)
