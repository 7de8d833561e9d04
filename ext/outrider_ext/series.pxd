cimport cython


@cython.final
cdef class Tally:
    cdef public long long n


@cython.final
cdef class Cells:
    cdef readonly tuple bounds
    cdef readonly double total
    cdef double[::1] _upper
    cdef long long[::1] _counts
    cdef Py_ssize_t _size

    @cython.locals(i=Py_ssize_t)
    cpdef observe(self, double value)


@cython.final
cdef class Series:
    cdef readonly long long exchanges
    cdef readonly long long input
    cdef readonly long long output
    cdef readonly long long cache_read
    cdef readonly long long cache_write
    cdef readonly long long reasoning
    cdef public long long estimated
    cdef Cells _overhead
    cdef Cells _upstream
    cdef Cells _first_event
    cdef Cells _duration
    cdef Cells _given
    cdef Cells _made

    cpdef exchange(self, long long inside_ns, long long upstream_ns, long long first_event_ns)
    cpdef count_tokens(self, long long given, long long made, long long cache_read, long long cache_write, long long reasoning)
