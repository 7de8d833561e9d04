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


cdef char* put_bytes(char* out, bytes text) noexcept
cdef char* put_text(char* out, const char* text) noexcept
cdef char* put_number(char* out, long long number) noexcept
cdef char* put_stamp(char* out) noexcept

cdef enum:
    NUMBER_BYTES = 20
    STAMP_BYTES = 27                    # 2026-11-21T06:52:24.790123Z
