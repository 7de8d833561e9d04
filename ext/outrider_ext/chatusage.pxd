cimport cython
from libc.stdint cimport int64_t

from outrider_ext.jsonscan cimport FieldScan


@cython.final
cdef class ChatUsage:
    cdef FieldScan _answer
    cdef FieldScan _numbers
    cdef FieldScan _parts

    cpdef read(self, bytes body)

    @cython.locals(at=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t)
    cpdef read_last_event(self, bytes run)

    @cython.locals(answer=FieldScan, numbers=FieldScan, parts=FieldScan, start=Py_ssize_t, given=int64_t, made=int64_t,
                   cache_read=int64_t, cache_write=int64_t, reasoning=int64_t, heard=int64_t, spoken=int64_t)
    cdef _read(self, bytes body)


@cython.locals(end=Py_ssize_t)
cdef bint _is_null(bytes run, Py_ssize_t pos)

@cython.locals(before=bytes, after=bytes)
cdef bint _is_alone(bytes run, Py_ssize_t start, Py_ssize_t end)
