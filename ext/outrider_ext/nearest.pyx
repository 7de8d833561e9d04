# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Vectors of unit length as packed 32-bit floats, and which of several is nearest to one.

Rules
- A vector that came from outside is measured here: numbers only, all finite, not all 0, at most MAX_NUMBERS of them.
- A row of another length than the query's is passed over: it was made by another model.
- The scan is linear, in the caller's thread: 1,536 numbers take about 0.1 µs a row (bench/bench_cache.py), so whoever
  calls bounds the rows.
Does not know: what vectors stand for.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport isfinite, sqrt

cdef enum:
    LANES = 16          # sums side by side, so that the compiler may use the machine's wide registers
    _MAX_NUMBERS = 16384

MAX_NUMBERS = _MAX_NUMBERS


cdef float dot(const float* a, const float* b, Py_ssize_t count) noexcept:
    """Cannot raise: sums alone. Rounding: 16 partial sums keep the error below 1e-5 for unit vectors."""
    cdef float sums[LANES]
    cdef float total = 0
    cdef Py_ssize_t i = 0
    cdef int lane
    for lane in range(LANES):
        sums[lane] = 0
    while i + LANES <= count:
        for lane in range(LANES):
            sums[lane] += a[i + lane] * b[i + lane]
        i += LANES
    while i < count:
        total += a[i] * b[i]
        i += 1
    for lane in range(LANES):
        total += sums[lane]
    return total


def unit(list numbers):
    """Packed, of length 1; None for what is no vector."""
    cdef Py_ssize_t i, count = len(numbers)
    cdef double value, squares = 0, size
    cdef bytes packed
    cdef float* out
    if count == 0 or count > _MAX_NUMBERS:
        return None
    for number in numbers:
        if type(number) is not float and type(number) is not int:
            return None
        try:
            value = number
        except OverflowError:
            return None
        squares += value * value
    if not isfinite(squares) or squares <= 0:
        return None
    size = sqrt(squares)
    packed = PyBytes_FromStringAndSize(NULL, count * sizeof(float))
    out = <float*>PyBytes_AS_STRING(packed)     # a bytes' data stands at an even multiple of 8
    for i in range(count):
        value = numbers[i]
        out[i] = <float>(value / size)
    return packed


def nearest(bytes query, list rows):
    """(index, similarity) of the row with the largest cosine, -1 to 1; (-1, -2.0) where no row has the query's length."""
    cdef Py_ssize_t i, best = -1, size = PyBytes_GET_SIZE(query), count = size // sizeof(float)
    cdef const float* wanted = <const float*>PyBytes_AS_STRING(query)
    cdef float found, most = -2.0
    cdef bytes row
    for i in range(len(rows)):
        row = rows[i]
        if row is None or PyBytes_GET_SIZE(row) != size:
            continue
        found = dot(wanted, <const float*>PyBytes_AS_STRING(row), count)
        if found > most:
            most, best = found, i
    return best, <double>most
