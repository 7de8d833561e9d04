from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from outrider_ext.counters cimport BucketCounter, Counter, FixedWindow, SlidingWindow
from outrider_ext.gcra cimport Bucket

cdef enum:
    CELL_BYTES = 64
    SLOTS_BYTES = 256
    WORKERS_CAP = 48
    WINDOW = 128                # cells that one key may lie in


cdef struct pair_t:
    int64_t first
    int64_t second


cdef struct cell_t:
    uint64_t state              # LIVE, RETIRED, and one bit for each worker that holds a handle
    uint64_t hash_high
    uint64_t hash_low
    int64_t kind                # what it holds; a window's: -2 - its period
    pair_t pair                 # (TAT, part), a packed window, or (sum, when it was begun)
    int64_t unused[2]


cdef class Segment:
    cdef Py_buffer _buffer      # keeps the mapping
    cdef uint8_t* _base
    cdef Py_ssize_t _cells
    cdef Py_ssize_t _slots
    cdef readonly int worker
    cdef readonly object fd
    cdef object _lock
    cdef object _unlock

    cdef cell_t* _at(self, bint is_slots, Py_ssize_t index) noexcept
    cdef Py_ssize_t _find(self, bint is_slots, uint64_t high, uint64_t low, int64_t kind, int64_t now_ns, bint insert)
    cdef _make(self, bint is_slots, cell_t* cell, uint64_t high, uint64_t low, int64_t kind, int64_t now_ns)


cdef class Handle:
    cdef object __weakref__
    cdef Segment _segment
    cdef cell_t* _cell
    cdef uint64_t _bit
    cdef readonly Py_ssize_t index


cdef class SharedRate(Counter):
    cdef object __weakref__
    cdef Handle _handle
    cdef Counter _private       # what a subclass's _sums counts with, by its interface

    cdef void _get(self, pair_t* old) noexcept
    cdef pair_t _made(self) noexcept
    cdef int64_t _step(self, int what, int64_t now_ns, int64_t cost) except? -3


cdef class SharedBucket(SharedRate):
    cdef Bucket _sums


cdef class SharedFixedWindow(SharedRate):
    cdef FixedWindow _sums


cdef class SharedSlidingWindow(SharedRate):
    cdef SlidingWindow _sums


cdef class SharedSlots:
    cdef object __weakref__
    cdef Handle _handle
    cdef readonly int64_t limit
    cdef uint32_t* _held

    cpdef bint acquire(self) except -1
    cpdef release(self)
    cdef int64_t _sum(self) noexcept


cdef class SharedSum:
    cdef object __weakref__
    cdef Handle _handle

    cpdef int64_t add(self, int64_t amount) except? -1
    cpdef int64_t value(self) except? -1
