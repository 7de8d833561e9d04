# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The canonical hash of a request: one value for every way to write the same JSON, another for anything else.

The canonical text is that of RFC 8785 (JCS): no white space, members sorted by the UTF-16 code units of their keys,
strings with the fewest escapes, numbers as ECMAScript writes them. It differs on purpose where JCS would lose something:
1. Numbers stay exact decimals and never pass through a double: 333333333.33333329 keeps its digits, 9007199254740993 is
   not 9007199254740992, and 1e400 is a number like others. Two spellings are one number when their decimal values are
   equal: 1, 1.0, 1e0 and 10e-1 are `1`; 0, -0 and 0e9 are `0`.
2. A lone surrogate, which JCS refuses and real clients send, stays the escape that it is, in lower case.
3. Bytes that are not UTF-8 stay as they are in values; in keys they are refused, since keys have to be put in order.
A key that stands twice in one object is refused: two readers could see two requests. So is nesting beyond `max_depth`.

What is hashed: a version, the caller's parts (each with its length, so that no two lists of parts run together), the
canonical text. A body that is no JSON is hashed as it came, under another version.
Cost: beyond the hash itself, one pass and a copy per level whose keys were not in order (bench/bench_digest.py).
Does not know: providers, principals, what the parts mean.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from outrider_ext.http1 cimport Head
from outrider_ext.jsonscan cimport plain_run
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange
from outrider_ext.sha256 cimport HASH_BYTES, sha256_into

import cython

from json import loads

from outrider_ext.http1 import mask_of

cdef unsigned long long CONTENT_ENCODING = mask_of(b"content-encoding")
cdef const char* HEX = b"0123456789abcdef"

cdef enum:
    DEPTH_CAP = 1024
    KEPT_ROOM = 1 << 20                 # a larger request does not keep its room
    FEW_MEMBERS = 16                    # beyond, Python's sort; below, none is as quick as insertion
    EXPONENT_DIGITS = 15
    REMEMBERED_TARGET_BYTES = 512


class DigestError(ValueError):
    """The body has no canonical form; the message names the byte and is safe to show."""


class RepeatedKeyError(DigestError):
    """A key stands twice in one object."""


@cython.final
cdef class Canon:
    """canonical(body), digest(body, parts) -> 32 bytes. Raises: DigestError, and its RepeatedKeyError.

    One object serves many bodies, one at a time; it keeps none of them.
    """

    def __init__(self, int max_depth=128, Py_ssize_t max_bytes=64 << 20):
        if not 1 <= max_depth <= DEPTH_CAP:
            raise ValueError(f"max_depth must be from 1 to {DEPTH_CAP}")
        self.max_depth = max_depth
        self.max_bytes = max_bytes

    def __dealloc__(self):
        free(self._out)
        free(self._spare)
        free(self._members)

    cpdef bytes canonical(self, bytes body):
        try:
            self._size = 0
            self._write(body)
            return PyBytes_FromStringAndSize(self._out, self._size)
        finally:
            self._rest()

    cpdef bytes digest(self, bytes body, tuple parts):
        try:
            self._begin(b"outrider request json 1", parts)
            self._write(body)
            return self._hash()
        finally:
            self._rest()

    cpdef bytes raw_digest(self, bytes body, tuple parts):
        """For what is no JSON: the bytes as they came."""
        try:
            self._begin(b"outrider request raw 1", parts)
            self._put(PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
            return self._hash()
        finally:
            self._rest()

    cdef int _begin(self, bytes kind, tuple parts) except -1:
        cdef bytes part
        cdef unsigned long long size
        self._size = 0
        self._put(PyBytes_AS_STRING(kind), PyBytes_GET_SIZE(kind))
        for part in parts:
            size = PyBytes_GET_SIZE(part)
            self._put(<char*>&size, sizeof(size))
            self._put(PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        size = <unsigned long long>-1
        self._put(<char*>&size, sizeof(size))

    cdef bytes _hash(self):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, HASH_BYTES)
        sha256_into(self._out, self._size, <unsigned char*>PyBytes_AS_STRING(out))
        return out

    cdef _rest(self):
        self._body = None
        self._base = NULL
        self._count = 0
        if self._room + self._spare_room > KEPT_ROOM:
            free(self._out)
            free(self._spare)
            self._out = self._spare = NULL
            self._room = self._spare_room = 0
        if self._member_room * <Py_ssize_t>sizeof(Member) > KEPT_ROOM:
            free(self._members)
            self._members = NULL
            self._member_room = 0

    cdef int _write(self, bytes body) except -1:
        if PyBytes_GET_SIZE(body) > self.max_bytes:
            raise DigestError(f"The body is larger than {self.max_bytes} bytes.")
        self._body = body
        self._base = PyBytes_AS_STRING(body)
        self._pos, self._end = 0, PyBytes_GET_SIZE(body)
        self._reserve(self._end + 64)
        self._skip_space()
        self._value(0)
        self._skip_space()
        if self._pos != self._end:
            self._fail(self._pos, "goes on after its value")

    # -- what is written

    cdef int _reserve(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = self._room if self._room else 4096
        cdef char* grown
        while room - self._size < size:
            room *= 2
        if room != self._room:
            grown = <char*>realloc(self._out, room)
            if grown == NULL:
                raise MemoryError
            self._out, self._room = grown, room

    cdef int _put(self, const char* data, Py_ssize_t size) except -1:
        if self._room - self._size < size:
            self._reserve(size)
        memcpy(self._out + self._size, data, size)
        self._size += size

    # -- what is read

    cdef inline void _skip_space(self) noexcept:
        cdef char byte
        while self._pos < self._end:
            byte = self._base[self._pos]
            if byte != c" " and byte != c"\n" and byte != c"\r" and byte != c"\t":
                return
            self._pos += 1

    cdef int _fail(self, Py_ssize_t at, str what) except -1:
        raise DigestError(f"The body {what}, at byte {at}.")

    cdef int _value(self, int depth) except -1:
        cdef char byte
        if self._pos >= self._end:
            self._fail(self._pos, "ends where a value must stand")
        byte = self._base[self._pos]
        if byte == c'"':
            self._string()
        elif byte == c"{":
            self._object(depth + 1)
        elif byte == c"[":
            self._array(depth + 1)
        elif byte == c"t":
            self._word(b"true", 4)
        elif byte == c"f":
            self._word(b"false", 5)
        elif byte == c"n":
            self._word(b"null", 4)
        else:
            self._number()

    cdef int _word(self, const char* word, Py_ssize_t size) except -1:
        if self._end - self._pos < size or memcmp(self._base + self._pos, word, size) != 0:
            self._fail(self._pos, "has a malformed value")
        self._pos += size
        self._put(word, size)

    cdef int _array(self, int depth) except -1:
        cdef char byte
        if depth > self.max_depth:
            self._fail(self._pos, f"is nested deeper than {self.max_depth} levels")
        self._put(b"[", 1)
        self._pos += 1
        self._skip_space()
        if self._pos < self._end and self._base[self._pos] == c"]":
            self._pos += 1
            self._put(b"]", 1)
            return 0
        while True:
            self._value(depth)
            self._skip_space()
            byte = self._base[self._pos] if self._pos < self._end else 0
            self._pos += 1
            if byte == c"]":
                self._put(b"]", 1)
                return 0
            if byte != c",":
                self._fail(self._pos - 1, "has neither comma nor closing bracket behind a value")
            self._put(b",", 1)
            self._skip_space()

    cdef int _object(self, int depth) except -1:
        cdef char byte
        cdef Py_ssize_t first = self._count, base, at
        if depth > self.max_depth:
            self._fail(self._pos, f"is nested deeper than {self.max_depth} levels")
        self._put(b"{", 1)
        base = self._size
        self._pos += 1
        self._skip_space()
        if self._pos < self._end and self._base[self._pos] == c"}":
            self._pos += 1
            self._put(b"}", 1)
            return 0
        while True:
            if self._pos >= self._end or self._base[self._pos] != c'"':
                self._fail(self._pos, "has no key where one must stand")
            at = self._count
            self._add_member(self._size)
            self._members[at].escaped = self._string()
            self._members[at].key_hi = self._size
            self._skip_space()
            if self._pos >= self._end or self._base[self._pos] != c":":
                self._fail(self._pos, "has no colon behind a key")
            self._put(b":", 1)
            self._pos += 1
            self._skip_space()
            self._value(depth)
            self._members[at].hi = self._size
            self._skip_space()
            byte = self._base[self._pos] if self._pos < self._end else 0
            self._pos += 1
            if byte == c"}":
                break
            if byte != c",":
                self._fail(self._pos - 1, "has neither comma nor closing brace behind a value")
            self._put(b",", 1)
            self._skip_space()
        self._sort(first, base)
        self._count = first
        self._put(b"}", 1)

    cdef int _add_member(self, Py_ssize_t lo) except -1:
        cdef Member* grown
        if self._count == self._member_room:
            self._member_room = 32 if self._member_room == 0 else self._member_room * 2
            grown = <Member*>realloc(self._members, self._member_room * sizeof(Member))
            if grown == NULL:
                raise MemoryError
            self._members = grown
        self._members[self._count].lo = lo
        self._count += 1

    # -- the order of members

    cdef int _sort(self, Py_ssize_t first, Py_ssize_t base) except -1:
        """Put the members of the object that ends here in order, in the canonical text."""
        cdef Py_ssize_t size = self._size - base, i
        cdef char* out
        cdef char* grown
        cdef Member* m
        if self._order(first):
            return 0
        if self._spare_room < size:
            grown = <char*>realloc(self._spare, 2 * size)
            if grown == NULL:
                raise MemoryError
            self._spare, self._spare_room = grown, 2 * size
        memcpy(self._spare, self._out + base, size)
        out = self._out + base
        for i in range(first, self._count):
            m = &self._members[i]
            if i > first:
                out[0] = c","
                out += 1
            memcpy(out, self._spare + (m.lo - base), m.hi - m.lo)
            out += m.hi - m.lo

    cdef bint _order(self, Py_ssize_t first) except -1:
        """Sort the members from `first` on; True when they were in order. Raises: RepeatedKeyError."""
        cdef Py_ssize_t i, j
        cdef bint was = True
        cdef Member moved
        cdef int how
        for i in range(first + 1, self._count):
            how = self._compare(&self._members[i - 1], &self._members[i])
            if how == 0:
                raise self._repeated(i)
            if how < 0:
                continue
            was = False
            if self._count - first > FEW_MEMBERS:
                return self._order_many(first)
            moved = self._members[i]
            j = i
            while j > first:
                how = self._compare(&self._members[j - 1], &moved)
                if how == 0:
                    raise self._repeated(j - 1)
                if how < 0:
                    break
                self._members[j] = self._members[j - 1]
                j -= 1
            self._members[j] = moved
        return was

    cdef bint _order_many(self, Py_ssize_t first) except -1:
        cdef Py_ssize_t count = self._count - first, i, at
        cdef list keys = [(self._key_units(&self._members[first + i]), i) for i in range(count)]
        cdef list moved = [None] * count
        keys.sort()
        for i in range(1, count):
            if keys[i - 1][0] == keys[i][0]:
                raise self._repeated(first + <Py_ssize_t>keys[i][1])
        for i in range(count):
            at = first + <Py_ssize_t>keys[i][1]
            moved[i] = (self._members[at].lo, self._members[at].hi, self._members[at].key_hi, self._members[at].escaped)
        for i in range(count):
            at = first + i
            (self._members[at].lo, self._members[at].hi, self._members[at].key_hi, self._members[at].escaped) = moved[i]
        return False

    def _repeated(self, Py_ssize_t index):
        cdef Member* m = &self._members[index]
        shown = self._out[m.lo + 1:m.key_hi - 1].decode("utf-8", "replace")[:80]
        return RepeatedKeyError(f"The body has the key {shown!r} twice in one object.")

    cdef int _compare(self, Member* a, Member* b) except -2:
        """By UTF-16 code units: as UTF-8 orders them, but supplementary characters before U+E000 to U+FFFF."""
        cdef const unsigned char* left = <const unsigned char*>self._out + a.lo + 1
        cdef const unsigned char* right = <const unsigned char*>self._out + b.lo + 1
        cdef Py_ssize_t left_size = a.key_hi - a.lo - 2, right_size = b.key_hi - b.lo - 2, i
        cdef int l, r
        if a.escaped or b.escaped:
            one, other = self._key_units(a), self._key_units(b)
            return -1 if one < other else one > other
        for i in range(min(left_size, right_size)):
            if left[i] != right[i]:
                l, r = left[i], right[i]
                l += 0x10 if l == 0xEE or l == 0xEF else 0
                r += 0x10 if r == 0xEE or r == 0xEF else 0
                return -1 if l < r else 1
        return -1 if left_size < right_size else left_size > right_size

    cdef bytes _key_units(self, Member* m):
        cdef bytes text = self._out[m.lo:m.key_hi]
        return loads(text).encode("utf-16-be", "surrogatepass")

    # -- strings

    cdef bint _string(self) except -1:
        """From the opening quote to behind the closing one; whether the canonical form holds a backslash.

        A key comes here before its value does, and is checked to be UTF-8 where it is not ASCII.
        """
        cdef Py_ssize_t run, since, lo = self._size
        cdef bint escaped = False
        cdef char byte
        self._put(b'"', 1)
        self._pos += 1
        since = self._pos
        while True:
            run = plain_run(self._body, self._pos, self._end)
            byte = self._base[run] if run < self._end else 0
            if byte == c'"':
                break
            if byte != c"\\" or self._end - run < 2:
                self._fail(run, "has a malformed string")
            byte = self._base[run + 1]
            if byte != c"u" and byte != c"/" and self._is_short(byte):      # canonical as it is: copied with the rest
                escaped = True
                self._pos = run + 2
                continue
            self._put(self._base + since, run - since)
            self._pos = run
            if self._escape():
                escaped = True
            since = self._pos
        self._put(self._base + since, run - since)
        self._pos = run
        self._pos += 1
        self._put(b'"', 1)
        if self._count and self._members[self._count - 1].lo == lo and not self._is_ascii(lo):
            try:
                (<bytes>self._out[lo:self._size]).decode()
            except UnicodeDecodeError:
                self._fail(self._pos - 1, "has a key that is not Unicode text")
        return escaped

    cdef bint _is_ascii(self, Py_ssize_t lo) noexcept:
        cdef Py_ssize_t i
        for i in range(lo, self._size):
            if <unsigned char>self._out[i] >= 0x80:
                return False
        return True

    cdef inline bint _is_short(self, char kind) noexcept:
        return kind == c'"' or kind == c"\\" or kind == c"n" or kind == c"t" or kind == c"r" or kind == c"b" or kind == c"f"

    cdef bint _escape(self) except -1:
        """The escape at the reading position; whether its canonical form is one too."""
        cdef char kind = self._base[self._pos + 1]
        cdef int point = 0, low
        if kind == c"u":
            point = self._hex4(self._pos + 2)
            self._pos += 6
            if 0xD800 <= point < 0xDC00 and self._end - self._pos >= 6 and (
                    self._base[self._pos] == c"\\" and self._base[self._pos + 1] == c"u"):
                low = self._hex4(self._pos + 2)
                if 0xDC00 <= low < 0xE000:
                    self._pos += 6
                    point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        else:
            if kind == c'"' or kind == c"\\" or kind == c"/":
                point = kind
            elif kind == c"n":
                point = 10
            elif kind == c"t":
                point = 9
            elif kind == c"r":
                point = 13
            elif kind == c"b":
                point = 8
            elif kind == c"f":
                point = 12
            else:
                self._fail(self._pos, "has a malformed string")
            self._pos += 2
        self._code_point(point)
        return point < 32 or point == c'"' or point == c"\\" or 0xD800 <= point < 0xE000

    cdef int _hex4(self, Py_ssize_t at) except -2:
        cdef int value = 0, digit = 0
        cdef Py_ssize_t i
        cdef char byte
        for i in range(at, at + 4):
            byte = self._base[i] if i < self._end else 0
            if c"0" <= byte <= c"9":
                digit = byte - c"0"
            elif c"a" <= byte <= c"f":
                digit = byte - c"a" + 10
            elif c"A" <= byte <= c"F":
                digit = byte - c"A" + 10
            else:
                self._fail(at - 2, "has a malformed string")
            value = value * 16 + digit
        return value

    cdef int _code_point(self, int point) except -1:
        cdef char[8] out
        cdef Py_ssize_t size, i
        cdef const char* short_names = b"btn?fr"     # 8 to 13; 11 has no short form
        if point == c'"' or point == c"\\":
            out[0], out[1] = c"\\", <char>point
            size = 2
        elif 8 <= point <= 13 and point != 11:
            out[0], out[1] = c"\\", short_names[point - 8]
            size = 2
        elif point < 32 or 0xD800 <= point < 0xE000:
            out[0], out[1] = c"\\", c"u"
            for i in range(4):
                out[2 + i] = HEX[(point >> (12 - 4 * i)) & 15]
            size = 6
        elif point < 0x80:
            out[0] = <char>point
            size = 1
        elif point < 0x800:
            out[0], out[1] = <char>(0xC0 | point >> 6), <char>(0x80 | point & 63)
            size = 2
        elif point < 0x10000:
            out[0], out[1], out[2] = <char>(0xE0 | point >> 12), <char>(0x80 | point >> 6 & 63), <char>(0x80 | point & 63)
            size = 3
        else:
            out[0], out[1] = <char>(0xF0 | point >> 18), <char>(0x80 | point >> 12 & 63)
            out[2], out[3] = <char>(0x80 | point >> 6 & 63), <char>(0x80 | point & 63)
            size = 4
        self._put(out, size)

    # -- numbers

    cdef int _number(self) except -1:
        """RFC 8259, 6: number = [ minus ] int [ frac ] [ exp ]; no leading zeros."""
        cdef const char* base = self._base
        cdef Py_ssize_t end = self._end, pos = self._pos, whole, whole_end, part = 0, part_end = 0, start
        cdef long long exponent = 0
        cdef bint negative = pos < end and base[pos] == c"-", down = False
        if negative:
            pos += 1
        whole = pos
        while pos < end and c"0" <= base[pos] <= c"9":
            pos += 1
        whole_end = pos
        if whole == whole_end or (base[whole] == c"0" and whole_end - whole > 1):
            self._fail(self._pos, "has a malformed value")
        if pos < end and base[pos] == c".":
            part = pos = pos + 1
            while pos < end and c"0" <= base[pos] <= c"9":
                pos += 1
            part_end = pos
            if part == part_end:
                self._fail(pos, "has a malformed number")
        if pos < end and (base[pos] == c"e" or base[pos] == c"E"):
            pos += 1
            if pos < end and (base[pos] == c"+" or base[pos] == c"-"):
                down = base[pos] == c"-"
                pos += 1
            start = pos
            while pos < end and c"0" <= base[pos] <= c"9":
                if exponent >= 10 ** EXPONENT_DIGITS:
                    self._fail(start, "has a number with too large an exponent")
                exponent = exponent * 10 + (base[pos] - c"0")
                pos += 1
            if pos == start:
                self._fail(pos, "has a malformed number")
        self._pos = pos
        self._decimal(whole, whole_end, part, part_end, -exponent if down else exponent, negative)

    cdef int _decimal(self, Py_ssize_t whole, Py_ssize_t whole_end, Py_ssize_t part, Py_ssize_t part_end, long long exponent,
                  bint negative) except -1:
        """Its digits without zeros at either end, and where the point stands: ECMAScript's Number::toString of them."""
        cdef const char* base = self._base
        cdef Py_ssize_t whole_size = whole_end - whole, count = whole_size + part_end - part, i, lead = 0, k
        cdef long long n = whole_size + exponent
        cdef char* out

        while lead < count and base[whole + lead if lead < whole_size else part + lead - whole_size] == c"0":
            lead += 1
        if lead == count:
            self._put(b"0", 1)
            return 0
        n -= lead
        while base[whole + count - 1 if count <= whole_size else part + count - 1 - whole_size] == c"0":
            count -= 1
        k = count - lead
        if self._room - self._size < k + 64:
            self._reserve(k + 64)
        out = self._out + self._size
        if negative:
            out[0] = c"-"
            out += 1
        if -6 < n <= 0:
            out[0], out[1] = c"0", c"."
            out += 2
            for i in range(-n):
                out[0] = c"0"
                out += 1
        for i in range(lead, count):
            if i - lead == (n if 0 < n <= 21 else 1) and not -6 < n <= 0:
                out[0] = c"."
                out += 1
            out[0] = base[whole + i if i < whole_size else part + i - whole_size]
            out += 1
        if k <= n <= 21:
            for i in range(n - k):
                out[0] = c"0"
                out += 1
        self._size = out - self._out
        if not -6 < n <= 21:
            shown = b"e%+d" % (n - 1)
            self._put(PyBytes_AS_STRING(shown), PyBytes_GET_SIZE(shown))


@cython.final
cdef class DigestRequest(Hook):
    """Sets call.digest, over the body as it leaves. A body that was too large to be held has none.

    parts_of(x, call) -> what is mixed in. plain_of(x) -> an encoded body unpacked, None when it cannot be.
    refuse(error): a key stands twice; raises.
    """

    def __init__(self, Canon canon, parts_of, plain_of, refuse):
        self._canon = canon
        self._parts_of = parts_of
        self._plain_of = plain_of
        self._refuse = refuse

    cdef run(self, Exchange x, Call call):
        cdef bytes body = x.body
        cdef tuple parts
        if body is None:
            return None
        if self._parts is None or self._principal is not call.principal or self._model != call.model or (
                self._target != x.target):
            parts = self._parts_of(x, call)
            if PyBytes_GET_SIZE(x.target) <= REMEMBERED_TARGET_BYTES:
                self._parts, self._principal, self._model, self._target = parts, call.principal, call.model, x.target
        else:
            parts = self._parts
        if x.head.mask & CONTENT_ENCODING:
            plain = self._plain_of(x)
            if plain is not None:
                body = plain
        try:
            call.digest = self._canon.digest(body, parts)
        except RepeatedKeyError as error:
            self._refuse(error)
        except DigestError:
            call.digest = self._canon.raw_digest(body, parts)
        return None
