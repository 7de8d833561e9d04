cimport cython
from libc.stdint cimport int64_t


@cython.final
cdef class Bucket:
    # the rate
    cdef readonly int64_t count
    cdef readonly int64_t period_ns
    cdef readonly int64_t burst
    cdef int64_t _step_ns
    cdef int64_t _step_part
    cdef int64_t _depth_ns
    cdef int64_t _depth_part
    cdef int64_t _exact_ns
    # the state: a theoretical arrival time of tat_ns + _tat_part / count nanoseconds
    cdef readonly int64_t tat_ns
    cdef int64_t _tat_part
    # what _try has worked out
    cdef int64_t _next_ns
    cdef int64_t _next_part

    cpdef int64_t take(self, int64_t now_ns, int64_t cost=*) except? -1
    @cython.locals(base_ns=int64_t, base_part=int64_t, part=int64_t, ns=int64_t, far_ns=int64_t)
    cpdef force(self, int64_t now_ns, int64_t cost)

    cpdef int64_t peek(self, int64_t now_ns, int64_t cost=*) except? -1

    @cython.locals(base_ns=int64_t, base_part=int64_t, part=int64_t, wait_ns=int64_t)
    cdef int64_t _try(self, int64_t now_ns, int64_t cost) except? -1

    @cython.locals(ns=int64_t, part=int64_t)
    cpdef give_back(self, int64_t now_ns, int64_t cost)

    cdef _give_back_far(self, object now_ns, object cost)

    cdef void _move_back(self, int64_t now_ns, int64_t ns, int64_t part) noexcept

    @cython.locals(ahead_ns=int64_t, scaled=int64_t, spent=int64_t)
    cpdef int64_t remaining(self, int64_t now_ns) except? -1

    cdef int64_t _remaining_far(self, object ahead_ns) except? -1

    cdef int _check(self, int64_t now_ns, int64_t cost) except -1
