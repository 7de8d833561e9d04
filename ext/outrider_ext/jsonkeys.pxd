cimport cython

from outrider_ext.jsonscan cimport plain_run


@cython.locals(
    end=Py_ssize_t, pos=Py_ssize_t, start=Py_ssize_t, byte=cython.uchar, wants_key=bint, escaped=bint, keys=set,
    open_objects=list, key=bytes
)
cpdef bint has_repeated_key(bytes body) except -1
