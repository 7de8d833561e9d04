# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The text of a JSON body as one piece: its bytes with the escapes of its strings decoded, nothing parsed.

A scanner that looks into it finds at least what it would find in each of the body's strings alone: a string keeps its
bytes side by side, and what stands before and behind it, a quote, is a boundary as the end of a text is one.

Rules
- A body without a backslash is its own text: no copy is made.
- None where that cannot be said: a backslash that stands for itself may begin an escape of JSON within the string, a
  body that is no JSON has no escapes, and a malformed escape stands for nothing.
Does not know: strings from names, what is looked for.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy


cpdef bytes body_text(bytes body):
    """The decoded text, at most as long as the body; None where it has to be parsed. Half a pair becomes three bytes, as
    Python's `surrogatepass` has it. Cost: a search for one byte, and where there is one, one copy.
    """
    cdef const char* base = PyBytes_AS_STRING(body)
    cdef const char* end = base + PyBytes_GET_SIZE(body)
    cdef const char* slash = <const char*>memchr(base, c"\\", end - base)
    cdef char* out
    cdef char* last
    if slash == NULL:
        return body
    if not _is_json(base, end):
        return None
    out = <char*>malloc(end - base)
    if out == NULL:
        raise MemoryError
    try:
        last = _decode(out, base, slash, end)
        return None if last == NULL else PyBytes_FromStringAndSize(out, last - out)
    finally:
        free(out)


cdef bint _is_json(const char* at, const char* end) noexcept:
    """Whether it begins as an object or an array does."""
    while at < end and (at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t"):
        at += 1
    return at < end and (at[0] == c"{" or at[0] == c"[")


cdef char* _decode(char* out, const char* at, const char* slash, const char* end) noexcept:
    """Behind the last byte written; NULL where an escape cannot be decoded. slash: the first backslash from `at` on."""
    cdef char kind
    while slash != NULL:
        memcpy(out, at, slash - at)
        out += slash - at
        if end - slash < 2:
            return NULL
        kind = slash[1]
        at = slash + 2
        if kind == c"u":
            at = _code_unit(&out, slash, end)
            if at == NULL:
                return NULL
        elif kind == c"n":
            out[0] = c"\n"
            out += 1
        elif kind == c'"' or kind == c"/":
            out[0] = kind
            out += 1
        elif kind == c"t" or kind == c"r" or kind == c"b" or kind == c"f":
            out[0] = c"\t" if kind == c"t" else c"\r" if kind == c"r" else 8 if kind == c"b" else 12
            out += 1
        else:
            return NULL
        slash = <const char*>memchr(at, c"\\", end - at)
    memcpy(out, at, end - at)
    return out + (end - at)


cdef const char* _code_unit(char** out, const char* slash, const char* end) noexcept:
    """The \\uXXXX, or the two of a pair, at `slash`; behind it, or NULL."""
    cdef int point = _hex4(slash + 2, end), low
    cdef char* to = out[0]
    slash += 6
    if point < 0 or point == c"\\":
        return NULL
    if 0xD800 <= point < 0xDC00 and end - slash >= 6 and slash[0] == c"\\" and slash[1] == c"u":
        low = _hex4(slash + 2, end)
        if 0xDC00 <= low < 0xE000:
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
            slash += 6
    if point < 0x80:
        to[0] = <char>point
        to += 1
    elif point < 0x800:
        to[0], to[1] = <char>(0xC0 | point >> 6), <char>(0x80 | point & 63)
        to += 2
    elif point < 0x10000:
        to[0], to[1], to[2] = <char>(0xE0 | point >> 12), <char>(0x80 | point >> 6 & 63), <char>(0x80 | point & 63)
        to += 3
    else:
        to[0], to[1] = <char>(0xF0 | point >> 18), <char>(0x80 | point >> 12 & 63)
        to[2], to[3] = <char>(0x80 | point >> 6 & 63), <char>(0x80 | point & 63)
        to += 4
    out[0] = to
    return slash


cdef int _hex4(const char* at, const char* end) noexcept:
    """-1 where four hexadecimal digits do not stand there."""
    cdef int value = 0, i
    cdef char byte
    if end - at < 4:
        return -1
    for i in range(4):
        byte = at[i]
        value <<= 4
        if c"0" <= byte <= c"9":
            value += byte - c"0"
        elif c"a" <= byte <= c"f":
            value += byte - c"a" + 10
        elif c"A" <= byte <= c"F":
            value += byte - c"A" + 10
        else:
            return -1
    return value
