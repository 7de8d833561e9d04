cimport cython

from outrider_ext.jsonscan cimport plain_run, same_bytes


@cython.final
cdef class Template:
    cdef tuple _literals
    cdef tuple _kinds
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly bint escaped

    @cython.locals(size=Py_ssize_t, pos=Py_ssize_t, length=Py_ssize_t, i=Py_ssize_t, literal=bytes, kind=int)
    cpdef bint match(self, bytes event) except -1

    @cython.locals(start=Py_ssize_t)
    cdef Py_ssize_t _number(self, bytes event, Py_ssize_t pos, Py_ssize_t size)

    cdef Py_ssize_t _text(self, bytes event, Py_ssize_t pos, Py_ssize_t size)


cpdef bint is_plain(bytes data) except -1
