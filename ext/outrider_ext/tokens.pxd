cimport cython


@cython.final
@cython.freelist(32)
cdef class Usage:
    cdef readonly long long input_tokens
    cdef readonly long long output_tokens
    cdef readonly long long cache_read_tokens
    cdef readonly long long cache_write_tokens
    cdef readonly long long reasoning_tokens
    cdef readonly bint estimated
    cdef readonly object model

    cpdef tuple row(self)
