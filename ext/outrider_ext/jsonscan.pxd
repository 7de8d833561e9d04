cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    NAMES_CAP = 32
    DEPTH_CAP = 1024


cdef extern from *:
    """
    #if defined(__SSE2__) && defined(__GNUC__)
    #include <emmintrin.h>
    #define OUTRIDER_SIXTEEN 1
    static inline int outrider_special_16(const unsigned char* at) {
        const __m128i sixteen = _mm_loadu_si128((const __m128i*)at);
        const __m128i low = _mm_set1_epi8(0x1f);
        __m128i hit = _mm_cmpeq_epi8(_mm_max_epu8(sixteen, low), low);
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(sixteen, _mm_set1_epi8('"')));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(sixteen, _mm_set1_epi8(92)));
        const int mask = _mm_movemask_epi8(hit);
        return mask ? __builtin_ctz((unsigned)mask) : 16;
    }
    #else
    #define OUTRIDER_SIXTEEN 0
    static inline int outrider_special_16(const unsigned char* at) { (void)at; return 0; }
    #endif
    """
    enum:
        OUTRIDER_SIXTEEN
    # Index of the first quote, backslash or control character among sixteen bytes, or 16.
    int outrider_special_16(const unsigned char* at) noexcept


cdef inline Py_ssize_t plain_run(bytes data, Py_ssize_t pos, Py_ssize_t end) noexcept:
    # Sixteen bytes at a time where the processor has them in one register, else eight: the classic "has a byte equal
    # to / less than" tests; each is exact for "is there any". memcpy is the portable unaligned load. `data` is kept
    # alive by the caller's reference; end <= len(data).
    cdef const unsigned char* base = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef unsigned long long ones = 0x0101010101010101ULL
    cdef unsigned long long highs = 0x8080808080808080ULL
    cdef unsigned long long word, quote, slash, hit
    cdef int found
    if OUTRIDER_SIXTEEN:
        while end - pos >= 16:
            found = outrider_special_16(base + pos)
            pos += found
            if found < 16:
                return pos
    while end - pos >= 8:
        memcpy(&word, base + pos, 8)
        quote = word ^ (ones * 0x22)
        slash = word ^ (ones * 0x5C)
        hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 0x20) & ~word)
        if hit & highs:
            break
        pos += 8
    while pos < end and base[pos] != 0x22 and base[pos] != 0x5C and base[pos] >= 0x20:
        pos += 1
    return pos


cdef inline bint same_bytes(bytes data, Py_ssize_t pos, bytes name, Py_ssize_t length) noexcept:
    # pos + length <= len(data) and length == len(name) are the caller's promise.
    return memcmp(PyBytes_AS_STRING(data) + pos, PyBytes_AS_STRING(name), <size_t>length) == 0


@cython.final
cdef class FieldScan:
    # what to look for
    cdef readonly tuple names
    cdef readonly int max_depth
    cdef int _count
    cdef bint _fold
    cdef Py_ssize_t[NAMES_CAP] _name_lengths
    # what the last scan found
    cdef readonly Py_ssize_t inside
    cdef readonly Py_ssize_t close
    cdef readonly bint empty
    cdef bytes _body
    cdef Py_ssize_t _origin
    cdef Py_ssize_t[NAMES_CAP] _starts
    cdef Py_ssize_t[NAMES_CAP] _ends
    # the opening brackets that are open inside a value
    cdef unsigned char[DEPTH_CAP] _stack

    @cython.locals(i=int)
    cpdef clear(self)

    @cython.locals(pos=Py_ssize_t)
    cpdef scan(self, bytes body, Py_ssize_t start=*, Py_ssize_t end=*)

    @cython.locals(value_end=Py_ssize_t, key_end=Py_ssize_t, index=int, byte=cython.uchar)
    cdef Py_ssize_t _members(self, bytes body, Py_ssize_t pos, Py_ssize_t end) except -1

    @cython.locals(length=Py_ssize_t, i=int)
    cdef int _match(self, bytes body, Py_ssize_t pos, Py_ssize_t end) except -2

    cdef _keep(self, int index, bytes body, Py_ssize_t start, Py_ssize_t end)

    @cython.locals(byte=cython.uchar, after=Py_ssize_t)
    cdef Py_ssize_t _value(self, bytes body, Py_ssize_t pos, Py_ssize_t end) except -1

    @cython.locals(byte=cython.uchar, depth=int, limit=int)
    cdef Py_ssize_t _nested(self, bytes body, Py_ssize_t pos, Py_ssize_t end) except -1

    cdef _error(self, Py_ssize_t pos, str what)

    cdef int _at(self, int index) except -1

    @cython.locals(start=Py_ssize_t, end=Py_ssize_t, pos=Py_ssize_t, value=int64_t, digit=cython.int)
    cpdef int64_t count(self, int index) except? -2
    cpdef Py_ssize_t starts(self, int index) except? -2
    cpdef Py_ssize_t ends(self, int index) except? -2
    cpdef raw(self, int index)
    cpdef tuple span(self, int index)
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t)
    cpdef text(self, int index)
    cpdef bint flag(self, int index) except -1
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t, pos=Py_ssize_t)
    cpdef number(self, int index)


@cython.locals(byte=cython.uchar)
cdef Py_ssize_t _skip_space(bytes body, Py_ssize_t pos, Py_ssize_t end) noexcept

@cython.locals(byte=cython.uchar)
cdef Py_ssize_t _skip_string(bytes body, Py_ssize_t pos, Py_ssize_t end) noexcept

@cython.locals(byte=cython.uchar, i=Py_ssize_t)
cdef bint _is_hex(bytes body, Py_ssize_t pos) noexcept

@cython.locals(after=Py_ssize_t)
cdef Py_ssize_t _skip_number(bytes body, Py_ssize_t pos, Py_ssize_t end) noexcept

cdef Py_ssize_t _skip_digits(bytes body, Py_ssize_t pos, Py_ssize_t end) noexcept

@cython.locals(i=Py_ssize_t, length=Py_ssize_t)
cdef Py_ssize_t _skip_word(bytes body, Py_ssize_t pos, Py_ssize_t end, bytes word) noexcept

@cython.locals(byte=cython.uchar, i=Py_ssize_t)
cdef bint _is_plain(bytes body, Py_ssize_t pos, Py_ssize_t end) noexcept
