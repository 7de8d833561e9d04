cimport cython

from outrider_ext.jsonscan cimport plain_run


cpdef bytes splice(bytes text, object value, object load, object dump)


@cython.locals(end=Py_ssize_t, pos=Py_ssize_t, start=Py_ssize_t, byte=int, plain=bint)
cpdef bint has_own_spelling(bytes text, object load, object dump) except -1


cdef bint _is_kept(bytes number, object load, object dump) except -1


cdef class _Splicer:
    cdef bytes text
    cdef Py_ssize_t size
    cdef object load
    cdef object dump
    cdef list patches

    cdef Py_ssize_t blank(self, Py_ssize_t pos) noexcept

    cdef int byte(self, Py_ssize_t pos) except -1

    @cython.locals(byte=int)
    cdef Py_ssize_t after_string(self, Py_ssize_t pos) except -1

    @cython.locals(byte=int, start=Py_ssize_t)
    cdef Py_ssize_t after_word(self, Py_ssize_t pos) except -1

    @cython.locals(byte=int, depth=Py_ssize_t)
    cdef Py_ssize_t after_value(self, Py_ssize_t pos) except -1

    @cython.locals(byte=int, end=Py_ssize_t)
    cdef Py_ssize_t compare(self, Py_ssize_t pos, object value, int depth) except -1

    @cython.locals(inner=bytes)
    cdef bint is_string(self, Py_ssize_t pos, Py_ssize_t end, str value) except -1

    @cython.locals(said=bytes, span=bytes)
    cdef bint is_same(self, Py_ssize_t pos, Py_ssize_t end, object value) except -1

    @cython.locals(inner=bytes)
    cdef str key(self, Py_ssize_t pos, Py_ssize_t end)

    @cython.locals(
        start=Py_ssize_t, mark=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t, low=Py_ssize_t, high=Py_ssize_t, members=list, seen=set,
        is_whole=bint
    )
    cdef Py_ssize_t compare_object(self, Py_ssize_t pos, dict value, int depth) except -1

    cdef Py_ssize_t after_comma(self, Py_ssize_t pos, int closing) except -1

    @cython.locals(start=Py_ssize_t, mark=Py_ssize_t, begin=Py_ssize_t, place=Py_ssize_t, count=Py_ssize_t, elements=list)
    cdef Py_ssize_t compare_list(self, Py_ssize_t pos, list value, int depth) except -1

    cdef list aligned(self, list elements, list value)

    @cython.locals(begin=Py_ssize_t, close=Py_ssize_t, place=Py_ssize_t)
    cdef bytes patched(self, Py_ssize_t start, Py_ssize_t end, Py_ssize_t low, Py_ssize_t high)
