cimport cython
from libc.stdint cimport int64_t

from outrider_ext.gcra cimport Bucket

cdef enum:
    _FRACTION = 16
    _USED_CAP = 0x10000000000


cdef class Counter:
    cpdef int64_t charge(self, int64_t now_ns, int64_t cost) except? -3
    cpdef give_back(self, int64_t now_ns, int64_t cost)
    cpdef force(self, int64_t now_ns, int64_t cost)
    cpdef int64_t remaining(self, int64_t now_ns) except? -3


@cython.final
cdef class BucketCounter(Counter):
    cdef readonly Bucket bucket


@cython.final
cdef class FixedWindow(Counter):
    cdef readonly int64_t count
    cdef readonly int64_t period_ns
    cdef readonly int64_t start_ns
    cdef readonly int64_t used

    cdef void _roll(self, int64_t now_ns) noexcept


@cython.final
cdef class SlidingWindow(Counter):
    cdef readonly int64_t count
    cdef readonly int64_t period_ns
    cdef readonly int64_t start_ns
    cdef readonly int64_t used
    cdef readonly int64_t before

    cdef int64_t _spent(self, int64_t now_ns) noexcept
    @cython.locals(left_ns=int64_t)
    cdef int64_t _weight(self, int64_t now_ns) noexcept
    @cython.locals(left=int64_t, at_ns=int64_t, before=int64_t, weight=int64_t)
    cdef int64_t _wait(self, int64_t now_ns, int64_t cost) noexcept
    @cython.locals(start_ns=int64_t)
    cdef void _roll(self, int64_t now_ns) noexcept


@cython.final
cdef class ForeignCounter(Counter):
    cdef readonly object counter


@cython.final
cdef class Slots:
    cdef readonly int64_t limit
    cdef readonly int64_t in_use

    cpdef bint acquire(self) except -1
    cpdef release(self)


@cython.final
cdef class Spend:
    cdef readonly str period
    cdef readonly int64_t sum
    cdef dict _others

    cpdef int64_t add(self, str period, int64_t amount) except? -1
    cpdef int64_t spent(self, str period) except? -1
    cdef bint _turn(self, str period, int64_t amount) except -1
