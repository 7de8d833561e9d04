cimport cython
from libc.stdint cimport int64_t

from outrider_ext.jsonscan cimport FieldScan


@cython.final
cdef class ChatUsage:
    cdef FieldScan _answer
    cdef FieldScan _numbers
    cdef FieldScan _parts

    cpdef read(self, bytes body)

    @cython.locals(numbers=FieldScan, start=Py_ssize_t, end=Py_ssize_t, given=int64_t, made=int64_t,
                   cache_read=int64_t, cache_write=int64_t, reasoning=int64_t)
    cdef _read(self, bytes body)

    cdef int64_t _number(self, FieldScan scan, int index) except? -2
