cimport cython


@cython.final
cdef class RecordReader:
    cdef object _read
