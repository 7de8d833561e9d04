cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memchr


cdef inline Py_ssize_t find_byte(bytes data, int byte, Py_ssize_t start, Py_ssize_t end) noexcept:
    # `data` is kept alive by the caller's reference; 0 <= start <= end <= len(data) is the caller's promise.
    cdef const char* base = PyBytes_AS_STRING(data)
    cdef const void* hit = memchr(base + start, byte, <size_t>(end - start))
    return -1 if hit is NULL else <const char*>hit - base


@cython.final
cdef class SseSplitter:
    # limits
    cdef readonly Py_ssize_t max_event_bytes
    # what the last feed found
    cdef readonly Py_ssize_t events
    cdef readonly Py_ssize_t read_from
    cdef readonly Py_ssize_t read_to
    # over all feeds
    cdef readonly long long total_events
    cdef readonly long long overlong_events
    cdef readonly long long open_bytes
    cdef readonly bint overlong
    # where the cut fell
    cdef bint _line_open
    cdef bint _has_field
    cdef bint _after_cr
    cdef int _bom

    cpdef reset(self)

    @cython.locals(pos=Py_ssize_t, boundary=Py_ssize_t)
    cpdef Py_ssize_t feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except? -1

    @cython.locals(eol=Py_ssize_t, lf=Py_ssize_t, next_cr=Py_ssize_t, is_cr=cython.bint, blank=cython.bint)
    cdef Py_ssize_t _lines(self, bytes data, Py_ssize_t pos, Py_ssize_t end, Py_ssize_t boundary,
                           Py_ssize_t origin) noexcept

    @cython.locals(before=cython.longlong)
    cdef inline void _close_event(self, Py_ssize_t eol, Py_ssize_t boundary, Py_ssize_t origin) noexcept

    @cython.locals(open_bytes=cython.longlong)
    cdef inline Py_ssize_t _account(self, Py_ssize_t start, Py_ssize_t end, Py_ssize_t boundary) noexcept

    cdef Py_ssize_t _skip_bom(self, bytes data, Py_ssize_t pos, Py_ssize_t end) noexcept


@cython.final
cdef class SseEvent:
    cdef readonly bytes data
    cdef readonly bytes name
    cdef readonly object id


@cython.final
cdef class SseReader:
    cdef SseSplitter _splitter
    cdef bytearray _held
    cdef object _last_id
    cdef bint _first_run
    cdef bint _failed

    @cython.locals(cut=Py_ssize_t, run=bytes, splitter=SseSplitter)
    cpdef list receive_data(self, bytes chunk)

    cdef str _too_long(self)

    @cython.locals(start=Py_ssize_t, end=Py_ssize_t, skipped=Py_ssize_t, before=Py_ssize_t)
    cdef list _decode(self, bytes run)


cpdef list event_spans(bytes data)

@cython.locals(pos=Py_ssize_t, length=Py_ssize_t, begin=Py_ssize_t, eol=Py_ssize_t, next_cr=Py_ssize_t, after=Py_ssize_t)
cdef list _spans(bytes data, bint strip_bom)

cpdef bytes event_data(bytes event)

@cython.locals(end=Py_ssize_t, pos=Py_ssize_t, eol=Py_ssize_t, next_cr=Py_ssize_t, value=Py_ssize_t, found=bytes, pieces=list)
cdef bytes _joined_data(bytes event)

@cython.locals(end=Py_ssize_t, pos=Py_ssize_t, eol=Py_ssize_t, next_cr=Py_ssize_t, value=Py_ssize_t, name=bytes)
cpdef bytes event_name(bytes event)

@cython.locals(end=Py_ssize_t, pos=Py_ssize_t, eol=Py_ssize_t, next_cr=Py_ssize_t, value=Py_ssize_t)
cdef _event_id(bytes event, object last_id)

@cython.locals(length=Py_ssize_t, i=Py_ssize_t)
cdef Py_ssize_t _field_value(bytes data, Py_ssize_t pos, Py_ssize_t eol, bytes field) noexcept

@cython.locals(found=Py_ssize_t)
cdef Py_ssize_t _seek(bytes data, int byte, Py_ssize_t pos, Py_ssize_t end) noexcept

cdef Py_ssize_t _after_line(bytes data, Py_ssize_t eol, Py_ssize_t end) noexcept

cdef bint _starts_with_bom(bytes data) noexcept
