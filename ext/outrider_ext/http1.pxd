# C types of http1.py; the rules and the plan stand there.
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

from outrider_ext.http1_body cimport Body

ctypedef unsigned long long u64
ctypedef const unsigned char* text

# The tables outlive every pointer into them: each pointer below borrows from the bytes beside it.
cdef bytes _TOKEN_BYTES
cdef bytes _KIND_BYTES
cdef bytes _NAME_BYTES
cdef bytes _LENGTH_BYTES
cdef bytes _SLOT_BYTES
cdef text _TOKEN
cdef text _KIND
cdef text _NAME
cdef text _LENGTH
cdef text _SLOT

# The constants of http1.py as C integers.
cdef long long _MAX_LENGTH
cdef int _MAX_TARGET, _MAX_METHOD, _MAX_HEAD, _HOST, _CONTENT_LENGTH, _TRANSFER_ENCODING
cdef int _CONNECTION, _EXPECT, _UPGRADE, _KEEP_ALIVE, _PROXY_CONNECTION, _TE
cdef int _TRAILER, _OURS, _STRIDE, _WIDTH, _START, _START_LF
cdef int _METHOD, _TARGET, _VERSION, _STATUS, _REASON_SP, _REASON
cdef int _LINE_LF, _FIELD, _FIELD_NAME, _FIELD_OWS, _FIELD_VALUE, _FIELD_LF
cdef int _END_LF, _IDLE, _IN_VALUE, _IN_TARGET, _IN_HOST


cdef extern from *:
    """
    #if defined(__SSE2__) && defined(__GNUC__)
    #include <emmintrin.h>
    #define OUTRIDER_VALUES 1
    /* Index of the first control character but HTAB, or DEL, among sixteen bytes, or 16. */
    static inline int outrider_value_16(const unsigned char* at) {
        const __m128i sixteen = _mm_loadu_si128((const __m128i*)at), low = _mm_set1_epi8(0x1f);
        const __m128i control = _mm_cmpeq_epi8(_mm_max_epu8(sixteen, low), low);
        const __m128i hit = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(sixteen, _mm_set1_epi8(9)), control),
                                         _mm_cmpeq_epi8(sixteen, _mm_set1_epi8(0x7f)));
        const int mask = _mm_movemask_epi8(hit);
        return mask ? __builtin_ctz((unsigned)mask) : 16;
    }
    #else
    #define OUTRIDER_VALUES 0
    static inline int outrider_value_16(const unsigned char* at) { (void)at; return 0; }
    #endif
    """
    enum:
        OUTRIDER_VALUES
    int outrider_value_16(const unsigned char* at) noexcept


cdef inline Py_ssize_t value_run(text p, Py_ssize_t i, Py_ssize_t n) noexcept:
    # As in http1.py, sixteen bytes at a time where a register holds them.
    cdef int found
    if OUTRIDER_VALUES:
        while n - i >= 16:
            found = outrider_value_16(p + i)
            i += found
            if found < 16:
                return i
    while i < n and _KIND[p[i]] & _IN_VALUE:
        i += 1
    return i


@cython.locals(h=cython.uint)
cdef int _slot_of(Py_ssize_t n, unsigned int first, unsigned int middle, unsigned int last) noexcept

@cython.locals(i=cython.Py_ssize_t)
cdef bint _same(text p, Py_ssize_t a, Py_ssize_t b, text lower, Py_ssize_t at) noexcept

@cython.locals(n=cython.Py_ssize_t, k=cython.int)
cdef int _identify(text p, Py_ssize_t a, Py_ssize_t b) noexcept


cdef inline bytes cut(bytes data, Py_ssize_t lo, Py_ssize_t hi):
    """data[lo:hi] for 0 <= lo <= hi <= len(data), without a slice object."""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + lo, hi - lo)


# noexcept: a copy cannot fail
cdef inline char* _put(char* out, const char* source, Py_ssize_t size) noexcept:
    memcpy(out, source, size)
    return out + size


@cython.final
cdef class Head:
    # what Python and the relay read, once a scan has returned an end
    cdef readonly bytes data
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly bytes method
    cdef readonly bytes target
    cdef readonly int version
    cdef readonly int status
    cdef readonly bytes reason
    cdef readonly int count
    cdef readonly u64 mask
    cdef readonly long long content_length
    cdef readonly bint chunked
    cdef readonly bint keep_alive
    cdef readonly bint upgrade
    cdef readonly bint expect_continue
    cdef readonly bint nominated
    cdef public frozenset drop_names

    # where the scan got to; offsets are relative to `pos`
    cdef int _state
    cdef bint _request
    cdef Py_ssize_t _at             # bytes already scanned
    cdef Py_ssize_t _mark           # where the message starts
    cdef Py_ssize_t _part           # where the current part of the start line starts
    cdef Py_ssize_t _method_end
    cdef Py_ssize_t _line_end       # just after the start line's CRLF
    cdef Py_ssize_t _origin         # data index that offset 0 stands for
    cdef int _major
    cdef int _fields                # field lines so far; becomes `count` when the head is complete

    # the field table: rows of (id, name, name end, value, value end), one row more than fields
    cdef int _max_fields
    cdef int[::1] _rows
    cdef int[::1] _runs             # what a build keeps: (offset, end) pairs

    # what the Connection fields said
    cdef bint _close
    cdef bint _keep
    cdef bint _wants_upgrade
    cdef u64 _nominated_mask
    cdef list _nominated_names

    cpdef reset(self)
    cdef int _refuse(self, int status, str text) except -1
    @cython.locals(p=text, i=cython.Py_ssize_t, n=cython.Py_ssize_t, more=cython.bint)
    cdef Py_ssize_t _scan(self, bytes data, Py_ssize_t pos, Py_ssize_t max_bytes, bint request) except -1
    cpdef Py_ssize_t scan_request(self, bytes data, Py_ssize_t pos, Py_ssize_t max_bytes) except -1
    cpdef Py_ssize_t scan_response(self, bytes data, Py_ssize_t pos, Py_ssize_t max_bytes) except -1
    cdef int _open(self, bint request) except -1

    @cython.locals(mark=cython.Py_ssize_t)
    cdef Py_ssize_t _request_line(self, text p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t base) except -1
    cdef Py_ssize_t _skip_empty_line(self, text p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t base) except -1
    cdef Py_ssize_t _end_line(self, text p, Py_ssize_t i, Py_ssize_t base) except -1
    @cython.locals(c=cython.int, state=cython.int, k=cython.Py_ssize_t)
    cdef Py_ssize_t _status_line(self, text p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t base) except -1
    cdef int _version_byte(self, int c, Py_ssize_t k) except -1
    @cython.locals(method=bytes)
    cdef int _take_method(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    cdef int _refuse_target(self, int c) except -1

    @cython.locals(state=cython.int, row=cython.int, rows="int[::1]")
    cdef Py_ssize_t _field_lines(self, text p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t base) except -1
    @cython.locals(a=cython.Py_ssize_t)
    cdef int _end_name(self, text p, Py_ssize_t i, Py_ssize_t base, int row) except -1
    @cython.locals(a=cython.Py_ssize_t)
    cdef int _end_value(self, text p, Py_ssize_t i, Py_ssize_t base, int row) except -1
    cdef int _refuse_name(self, int c, bint empty) except -1
    cdef int _refuse_value(self, int c) except -1
    @cython.locals(one=u64, bit=u64)
    cdef int _take_field(self, text p, int h, Py_ssize_t a, Py_ssize_t b) except -1
    cdef int _take_framing(self, text p, int h, Py_ssize_t a, Py_ssize_t b, bint again) except -1
    @cython.locals(i=cython.Py_ssize_t, n=cython.longlong, c=cython.int)
    cdef int _take_length(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    cdef int _take_coding(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    @cython.locals(i=cython.Py_ssize_t)
    cdef int _take_host(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    @cython.locals(i=cython.Py_ssize_t)
    cdef int _take_connection(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    @cython.locals(h=cython.int, one=u64)
    cdef int _take_option(self, text p, Py_ssize_t a, Py_ssize_t b) except -1
    cdef int _finish(self, bytes data, Py_ssize_t pos, Py_ssize_t end) except -1

    @cython.locals(p=text, k=cython.int, row=cython.int)
    cpdef bytes get(self, int header_id)
    @cython.locals(p=text, wanted=text, k=cython.int, row=cython.int, a=cython.Py_ssize_t, b=cython.Py_ssize_t)
    cpdef bytes get_name(self, bytes name)
    @cython.locals(k=cython.int, row=cython.int)
    cpdef list items(self)
    @cython.locals(one=u64, k=cython.int, row=cython.int, h=cython.int, first=cython.int, dropped=cython.bint, named=cython.bint, rows="int[::1]", runs="int[::1]")
    cdef int _keep_lines(self, u64 drop, int count) except -1
    @cython.locals(name=bytes)
    cdef bint _is_named(self, int row) except -1
    cdef bytes _join(self, Py_ssize_t lead_end, bytes first, bytes second, int count, bytes extra)
    @cython.locals(p=text, i=cython.Py_ssize_t)
    cpdef bytes build_request(self, bytes target, u64 drop, bytes extra)
    cpdef bytes build_response(self, u64 drop, bytes extra, int status=*)


cdef inline bytes join_head(Head self, Py_ssize_t lead_end, bytes first, bytes second, int count, bytes extra):
    """One allocation: data[start:lead_end], first, second, the kept runs of field lines, extra, CRLF."""
    cdef int[::1] runs = self._runs
    cdef Py_ssize_t size = (lead_end - self.start) + len(first) + len(second) + len(extra) + 2
    cdef int i
    for i in range(count):
        size += runs[2 * i + 1] - runs[2 * i]
    cdef bytes head = PyBytes_FromStringAndSize(NULL, size)
    cdef char* out = PyBytes_AS_STRING(head)
    cdef const char* source = PyBytes_AS_STRING(self.data)
    out = _put(out, source + self.start, lead_end - self.start)
    out = _put(out, PyBytes_AS_STRING(first), len(first))
    out = _put(out, PyBytes_AS_STRING(second), len(second))
    source += self._origin
    for i in range(count):
        out = _put(out, source + runs[2 * i], runs[2 * i + 1] - runs[2 * i])
    out = _put(out, PyBytes_AS_STRING(extra), len(extra))
    out[0] = 13
    out[1] = 10
    return head
