# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, annotation_typing=False
"""HTTP/1.1 message bodies: which bytes are payload and where the message ends.

Rules it keeps: those of `http1.py`; framing that two parsers could read differently is an error, raised at the first
byte that proves it; each byte is looked at once.
Plan: one state; a run of payload is found by arithmetic and never touched, framing is read byte by byte.
Does not know: its side, the head, what the payload means.
"""

from outrider_ext.http1_tables import IN_VALUE, ProtocolError, kind_table, token_table

MAX_LENGTH = 1 << 53  # of a chunk: beyond it, JSON-speaking neighbours lose digits
MAX_EXTENSION_BYTES = 4 << 10  # chunk extensions of one message
MAX_TRAILER_BYTES = 8 << 10

# The same numbers, and all below, as C integers.
_MAX_LENGTH = MAX_LENGTH
_MAX_EXTENSION = MAX_EXTENSION_BYTES
_MAX_TRAILER = MAX_TRAILER_BYTES
_IN_VALUE = IN_VALUE

# States of a body.
_B_NONE = 0
_B_LENGTH = 1
_B_UNTIL_CLOSE = 2
_B_SIZE = 3
_B_SIZE_LF = 4
_B_EXT_NAME_START = 5
_B_EXT_NAME = 6
_B_EXT_VALUE_START = 7
_B_EXT_VALUE = 8
_B_EXT_QUOTED = 9
_B_EXT_ESCAPED = 10
_B_EXT_AFTER_QUOTED = 11
_B_DATA = 12
_B_DATA_CR = 13
_B_DATA_LF = 14
_B_TRAILER_LINE = 15
_B_TRAILER_NAME = 16
_B_TRAILER_VALUE = 17
_B_TRAILER_LF = 18
_B_END_LF = 19
_B_DONE = 20

_TOKEN_BYTES = token_table()
_KIND_BYTES = kind_table()
_TOKEN = _TOKEN_BYTES
_KIND = _KIND_BYTES


class Body:
    """The framing of one message body at a time: which bytes are payload and where the message ends.

    Begin with one of the begin_* methods, then call feed(data, pos, end) until it returns `end` or `done` is set.
    Each call consumes framing and at most one run of payload, which is data[lo:hi] (empty when lo == hi).
    Trailers and chunk extensions are checked, bounded and not passed on. Memory: a few integers.
    Raises: ProtocolError (status 400). Never any other error for any bytes. Source: RFC 9112 sections 6 and 7.

    Passing a chunked body on, piece by piece as it is received: call reset_clean(), feed the piece to its end. If
    `clean` is set the piece is whole chunks in canonical framing (and the last chunk, if `done` is set) and may be
    written as it came. Otherwise write its payload in chunks of our own, and the last chunk once `done` is set. What
    was written then always stops between two chunks, so every piece may go either way.
    """

    def __init__(self) -> None:
        self.begin_none()

    def _begin(self, state: int, left: int) -> int:
        self.lo = self.hi = 0
        self.done = state == _B_NONE or (state == _B_LENGTH and left == 0)
        self.clean = True
        self.at_chunk_start = state == _B_SIZE
        self.received = 0
        self.left = left
        self._state = _B_DONE if self.done else state
        self._digits = self._extension = self._trailer = 0
        self._last = False
        return 0

    def begin_none(self) -> None:
        """No body: `done` is set at once."""
        self._begin(_B_NONE, 0)

    def begin_length(self, n: int) -> None:
        """A body of n bytes. Raises ValueError when n is negative."""
        if n < 0:
            raise ValueError("a body has no negative length")
        self._begin(_B_LENGTH, n)

    def begin_chunked(self) -> None:
        """A body in the chunked transfer coding."""
        self._begin(_B_SIZE, 0)

    def begin_until_close(self) -> None:
        """A response body that ends with its connection."""
        self._begin(_B_UNTIL_CLOSE, 0)

    def reset_clean(self) -> None:
        """Start a new piece: `clean` speaks of what is consumed from here on. It is unset inside a chunk."""
        self.clean = self.at_chunk_start or self._state < _B_SIZE or self.done

    def finish_eof(self) -> bool:
        """The peer closed: True if the body ends there legally (RFC 9112 section 8), False if it was cut."""
        if self._state == _B_UNTIL_CLOSE:
            self.done = True
            self._state = _B_DONE
        return self.done

    def feed(self, data: bytes, pos: int, end: int) -> int:
        """Consume from data[pos:end] framing and at most one run of payload; returns the new position.

        Raises ProtocolError; ValueError if [pos, end) does not lie within data.
        """
        if pos < 0 or end > len(data) or pos > end:
            raise ValueError("pos and end do not lie within data")
        self.lo = self.hi = pos
        if self._state < _B_SIZE:
            return self._take_run(pos, end)
        if self._state == _B_DONE:
            return pos
        p = data
        pos = self._chunked(p, pos, end)
        self.at_chunk_start = self.done or (self._state == _B_SIZE and self._digits == 0)
        if not self.at_chunk_start:
            self.clean = False  # the piece ends inside a chunk or its size line: see the class
        return pos

    def _take_run(self, pos: int, end: int) -> int:
        """Payload up to `end`, or less if the length or the chunk ends before."""
        if self._state != _B_UNTIL_CLOSE:
            if end - pos > self.left:
                end = pos + self.left
            self.left -= end - pos
            if self.left == 0:
                if self._state == _B_LENGTH:
                    self._state = _B_DONE
                    self.done = True
                else:
                    self._state = _B_DATA_CR
        self.lo = pos
        self.hi = end
        self.received += end - pos
        return end

    def _chunked(self, p: bytes, i: int, end: int) -> int:
        """RFC 9112 section 7.1. Stops at the end of a chunk, of the input or of the message."""
        while i < end:
            if self._state == _B_DATA:
                i = self._take_run(i, end)
                if self._state == _B_DATA_CR and i < end and p[i] != 13:
                    break  # the run is handed out first; the next call says what is wrong
            elif self._state == _B_DATA_CR:
                i += self._expect_byte(p[i], 13, _B_DATA_LF)
                if i < end and p[i] != 10:
                    break
            elif self._state == _B_DATA_LF:
                i += self._expect_byte(p[i], 10, _B_SIZE)
                self._digits = 0
                if self.hi > self.lo:
                    break  # one run a call
            elif self._state == _B_SIZE:
                i = self._size(p, i, end)
            elif self._state == _B_SIZE_LF:
                i += self._size_end(p[i])
            elif self._state < _B_DATA:
                i = self._extensions(p, i, end)
            elif self._state < _B_DONE:
                i = self._trailers(p, i, end)
            else:
                break
        return i

    def _expect_byte(self, c: int, wanted: int, following: int) -> int:
        if c != wanted:
            raise ProtocolError(400, "A chunk is longer than its size says, or does not end in CRLF.")
        self._state = following
        return 1

    def _size(self, p: bytes, i: int, end: int) -> int:
        """chunk-size = 1*HEXDIG, here 1 to 16 of them; neither sign nor prefix nor white space."""
        while i < end:
            c = p[i]
            i += 1
            if 48 <= c <= 57:
                digit = c - 48
            elif 97 <= c <= 102:
                digit = c - 87
            elif 65 <= c <= 70:
                digit = c - 55
            elif self._digits == 0:
                raise ProtocolError(400, "A chunk has no size.")
            elif c == 13:
                self._state = _B_SIZE_LF
                return i
            elif c == 59:
                self._state = _B_EXT_NAME_START
                self.clean = False
                return i
            else:
                raise ProtocolError(400, "A chunk size is not a plain hexadecimal number.")
            if self._digits > 0 and self.left == 0:
                self.clean = False  # leading zeros: not the canonical spelling
            self._digits += 1
            self.left = self.left * 16 + digit
            if self._digits > 16 or self.left > _MAX_LENGTH:
                raise ProtocolError(400, "A chunk size is too large.")
        return i

    def _size_end(self, c: int) -> int:
        if c != 10:
            raise ProtocolError(400, "A chunk-size line holds a bare CR.")
        if self.left == 0:
            self._last = True
            self._state = _B_TRAILER_LINE
        else:
            self._state = _B_DATA
        return 1

    def _extensions(self, p: bytes, i: int, end: int) -> int:
        """chunk-ext = *( ";" token [ "=" ( token / quoted-string ) ] ), RFC 9112 section 7.1.1, without white space."""
        state = self._state
        while i < end:
            c = p[i]
            i += 1
            self._extension += 1
            if self._extension > _MAX_EXTENSION:
                raise ProtocolError(400, "The chunk extensions are too large.")
            if state == _B_EXT_QUOTED:
                if c == 34:
                    state = _B_EXT_AFTER_QUOTED
                elif c == 92:
                    state = _B_EXT_ESCAPED
                elif _KIND[c] & _IN_VALUE == 0:
                    raise ProtocolError(400, "A chunk extension holds a control character.")
            elif state == _B_EXT_ESCAPED:
                if _KIND[c] & _IN_VALUE == 0:
                    raise ProtocolError(400, "A chunk extension holds a control character.")
                state = _B_EXT_QUOTED
            elif _TOKEN[c] != 0 and state != _B_EXT_AFTER_QUOTED:
                if state == _B_EXT_NAME_START:
                    state = _B_EXT_NAME
                elif state == _B_EXT_VALUE_START:
                    state = _B_EXT_VALUE
            elif state == _B_EXT_VALUE_START and c == 34:
                state = _B_EXT_QUOTED
            elif state in (_B_EXT_NAME_START, _B_EXT_VALUE_START):
                raise ProtocolError(400, "A chunk extension has no name or no value.")
            elif c == 13:
                self._state = _B_SIZE_LF
                return i
            elif c == 59:
                state = _B_EXT_NAME_START
            elif c == 61 and state == _B_EXT_NAME:
                state = _B_EXT_VALUE_START
            else:
                raise ProtocolError(400, "A chunk extension holds a character that it may not hold.")
        self._state = state
        return i

    def _trailers(self, p: bytes, i: int, end: int) -> int:
        """RFC 9112 section 7.1.2: field lines after the last chunk, as strict as a head's; then an empty line."""
        state = self._state
        while i < end:
            c = p[i]
            i += 1
            self._trailer += 1
            if self._trailer > _MAX_TRAILER:
                raise ProtocolError(400, "The trailer section is too large.")
            if state == _B_TRAILER_VALUE:
                if c == 13:
                    state = _B_TRAILER_LF
                elif _KIND[c] & _IN_VALUE == 0:
                    raise ProtocolError(400, "A trailer field holds a control character or a bare LF.")
            elif state == _B_TRAILER_NAME:
                if c == 58:
                    state = _B_TRAILER_VALUE
                elif _TOKEN[c] == 0:
                    raise ProtocolError(400, "A trailer field has a malformed name.")
            elif state == _B_TRAILER_LF:
                if c != 10:
                    raise ProtocolError(400, "A trailer field holds a bare CR.")
                state = _B_TRAILER_LINE
            elif state == _B_TRAILER_LINE:
                if c == 13:
                    state = _B_END_LF
                elif _TOKEN[c] == 0:
                    raise ProtocolError(400, "A trailer field has a malformed name.")
                else:
                    self.clean = False
                    state = _B_TRAILER_NAME
            else:
                if c != 10:
                    raise ProtocolError(400, "The chunked body ends in a bare CR.")
                self._state = _B_DONE
                self.done = True
                return i
        self._state = state
        return i
