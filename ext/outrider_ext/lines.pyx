# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Log lines, gathered in one growing piece of memory until somebody takes them all.

Rules: a line is written in place, by reserve() and commit(), so that a line per request makes no object; who gathers is
woken once when the first line waits and again when `full` bytes do, and then takes everything.
Does not know: what a line says, files, threads.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from libc.time cimport gmtime_r, strftime, time_t, tm
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

cdef enum:
    FIRST_ROOM = 4096
    SECOND_BYTES = 19                   # 2026-11-21T06:52:24

cdef time_t _stamp_second = 0
cdef char _stamp_text[STAMP_BYTES + 1]


cdef class LineBuffer:
    """add(line), take() -> all lines.

    wake(is_full): called when the first line waits, and on every line from `full` bytes on. wants_info: whether lines
    of that level are wanted at all; the writer of a line asks before it makes one.
    """

    def __init__(self, wake, Py_ssize_t full):
        self._wake = wake
        self._full = full
        self._asleep = True
        self.wants_info = True

    def __dealloc__(self):
        free(self._data)

    cdef char* reserve(self, Py_ssize_t size) except NULL:
        """Room for `size` bytes behind what waits; valid until the next call of any method."""
        cdef Py_ssize_t room = self._room if self._room else FIRST_ROOM
        cdef char* grown
        while room - self.size < size:
            room *= 2
        if room != self._room:
            grown = <char*>realloc(self._data, room)
            if grown == NULL:
                raise MemoryError
            self._data, self._room = grown, room
        return self._data + self.size

    cdef commit(self, char* end):
        """The line that was written into the reserved room ends at `end`."""
        self.size = end - self._data
        self.count += 1
        if self._asleep or self.size >= self._full:
            self._asleep = False
            self._wake(self.size >= self._full)

    cpdef add(self, bytes line):
        self.commit(put_bytes(self.reserve(PyBytes_GET_SIZE(line)), line))

    cpdef bytes take(self):
        """Everything that waits; the next line wakes again."""
        block = PyBytes_FromStringAndSize(self._data, self.size)
        self.size = self.count = 0
        self._asleep = True
        if self._room > 4 * self._full:         # one huge line does not keep its room
            free(self._data)
            self._data, self._room = NULL, 0
        return block


cdef char* put_stamp(char* out) noexcept:
    """RFC 3339 in UTC with microseconds; the part down to the second is made once a second."""
    global _stamp_second
    cdef timespec at
    cdef tm parts
    cdef long micros
    cdef int i
    clock_gettime(CLOCK_REALTIME, &at)
    if at.tv_sec != _stamp_second:
        gmtime_r(&at.tv_sec, &parts)
        strftime(_stamp_text, STAMP_BYTES + 1, b"%Y-%m-%dT%H:%M:%S", &parts)
        _stamp_second = at.tv_sec
    memcpy(out, _stamp_text, SECOND_BYTES)
    out[SECOND_BYTES] = c"."
    micros = at.tv_nsec // 1000
    for i in range(STAMP_BYTES - 2, SECOND_BYTES, -1):
        out[i] = <char>(c"0" + micros % 10)
        micros //= 10
    out[STAMP_BYTES - 1] = c"Z"
    return out + STAMP_BYTES
