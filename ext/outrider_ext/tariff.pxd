cimport cython
from libc.stdint cimport int64_t

from outrider_ext.tokens cimport Usage


@cython.final
cdef class Tariff:
    cdef readonly tuple rows
    cdef readonly object denominator
    cdef bint _fast
    cdef int64_t _next_over
    # the first row, when all is small
    cdef int64_t _input
    cdef int64_t _cache_read
    cdef int64_t _cache_write
    cdef int64_t _cache_write_1h
    cdef int64_t _output
    cdef int64_t _reasoning
    cdef int64_t _input_audio
    cdef int64_t _output_audio
    cdef int64_t _cache_audio
    cdef int64_t _request
    cdef int64_t _small

    cpdef cost(self, Usage usage)
    @cython.locals(read=int64_t, written=int64_t, read_audio=int64_t, written_1h=int64_t, heard=int64_t, spoken=int64_t,
                   thought=int64_t, total=int64_t)
    cdef int64_t _cost(self, Usage usage) noexcept
    cdef _cost_far(self, Usage usage)
    cdef tuple _row(self, object given)
    cpdef estimate(self, object given, object made)
