from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy, strlen

cdef enum:
    NUMBER_BYTES = 20
    STAMP_BYTES = 27                    # 2026-11-21T06:52:24.790123Z


cdef class LineBuffer:
    cdef readonly Py_ssize_t size       # bytes that wait
    cdef readonly Py_ssize_t count      # lines that wait
    cdef public bint wants_info
    cdef object _wake
    cdef Py_ssize_t _full
    cdef bint _asleep
    cdef char* _data
    cdef Py_ssize_t _room

    cdef char* reserve(self, Py_ssize_t size) except NULL
    cdef commit(self, char* end)
    cpdef add(self, bytes line)
    cpdef bytes take(self)


cdef char* put_stamp(char* out) noexcept


# Inline: a line has fifty of these, and the length of a text that stands in the source is known to the compiler.

cdef inline char* put_bytes(char* out, bytes text) noexcept:
    memcpy(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return out + PyBytes_GET_SIZE(text)


cdef inline char* put_text(char* out, const char* text) noexcept:
    cdef size_t size = strlen(text)
    memcpy(out, text, size)
    return out + size


cdef inline char* put_number(char* out, long long number) noexcept:
    # In decimal; at most NUMBER_BYTES.
    cdef char digits[NUMBER_BYTES]
    cdef unsigned long long left = <unsigned long long>number
    cdef int at = NUMBER_BYTES
    if 0 <= number < 10:
        out[0] = <char>(c"0" + number)
        return out + 1
    if number < 0:
        out[0] = c"-"
        out += 1
        left = 0 - left
    while True:
        at -= 1
        digits[at] = <char>(c"0" + left % 10)
        left //= 10
        if left == 0:
            break
    memcpy(out, digits + at, NUMBER_BYTES - at)
    return out + NUMBER_BYTES - at