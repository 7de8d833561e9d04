cimport cython


@cython.final
cdef class Message:
    cdef readonly dict headers
    cdef readonly bytes payload


@cython.final
cdef class EventStreamReader:
    # limits
    cdef readonly Py_ssize_t max_header_bytes
    cdef readonly Py_ssize_t max_payload_bytes
    # an unfinished frame, its length once its prelude was checked (0 before), and what broke the stream
    cdef bytearray _held
    cdef Py_ssize_t _frame_bytes
    cdef str _failure

    @cython.locals(pos=Py_ssize_t)
    cpdef list receive_data(self, bytes chunk)

    @cython.locals(pos=Py_ssize_t, length=Py_ssize_t)
    cdef Py_ssize_t _frames(self, list messages) except -1

    cpdef finish(self)

    @cython.locals(total=Py_ssize_t, header_bytes=Py_ssize_t)
    cdef Py_ssize_t _prelude(self, bytes prelude) except -1


@cython.locals(header_end=Py_ssize_t, end=Py_ssize_t)
cdef Message _decode(bytes frame)

@cython.locals(length=Py_ssize_t, kind=cython.int, headers=dict, name=str)
cdef dict _headers(bytes data, Py_ssize_t pos, Py_ssize_t end)

@cython.locals(width=Py_ssize_t)
cdef Py_ssize_t _width(bytes data, Py_ssize_t pos, Py_ssize_t end, int kind) except -1

cdef object _value(bytes raw, int kind)

cdef str _text(bytes raw, str what)

cpdef bytes encode(object headers, bytes payload)

cdef bytes _encode_value(object value)

cdef bytes _utf8(str text)

cdef bytes _counted(bytes raw)
