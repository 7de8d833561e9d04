# C types of http1_body.py; the rules and the plan stand there.
cimport cython

ctypedef const unsigned char* text

# The tables outlive the pointers into them: each pointer borrows from the bytes beside it.
cdef bytes _TOKEN_BYTES
cdef bytes _KIND_BYTES
cdef text _TOKEN
cdef text _KIND

# The constants of http1_body.py as C integers.
cdef long long _MAX_LENGTH
cdef int _MAX_EXTENSION, _MAX_TRAILER, _IN_VALUE, _B_NONE, _B_LENGTH, _B_UNTIL_CLOSE
cdef int _B_SIZE, _B_SIZE_LF, _B_EXT_NAME_START, _B_EXT_NAME, _B_EXT_VALUE_START, _B_EXT_VALUE
cdef int _B_EXT_QUOTED, _B_EXT_ESCAPED, _B_EXT_AFTER_QUOTED, _B_DATA, _B_DATA_CR, _B_DATA_LF
cdef int _B_TRAILER_LINE, _B_TRAILER_NAME, _B_TRAILER_VALUE, _B_TRAILER_LF, _B_END_LF, _B_DONE


@cython.final
cdef class Body:
    # payload of the last feed: data[lo:hi]
    cdef readonly Py_ssize_t lo
    cdef readonly Py_ssize_t hi
    cdef readonly bint done
    cdef readonly bint clean
    cdef readonly bint at_chunk_start
    cdef readonly long long received
    cdef readonly long long left    # payload bytes that the current chunk (or the length) still owes

    cdef int _state
    cdef int _digits                # hex digits of the chunk size read so far
    cdef int _extension             # bytes of chunk extensions in this message
    cdef int _trailer               # bytes of the trailer section
    cdef bint _last                 # the chunk size being read was zero

    cdef int _begin(self, int state, long long left) except -1
    cpdef begin_none(self)
    cpdef begin_length(self, long long n)
    cpdef begin_chunked(self)
    cpdef begin_until_close(self)
    cpdef reset_clean(self)
    cpdef bint finish_eof(self)
    @cython.locals(p=text)
    cpdef Py_ssize_t feed(self, bytes data, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef Py_ssize_t _take_run(self, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef Py_ssize_t _chunked(self, text p, Py_ssize_t i, Py_ssize_t end) except -1
    @cython.locals(c=cython.int, digit=cython.int)
    cdef Py_ssize_t _size(self, text p, Py_ssize_t i, Py_ssize_t end) except -1
    cdef int _size_end(self, int c) except -1
    @cython.locals(c=cython.int, state=cython.int)
    cdef Py_ssize_t _extensions(self, text p, Py_ssize_t i, Py_ssize_t end) except -1
    @cython.locals(c=cython.int, state=cython.int)
    cdef Py_ssize_t _trailers(self, text p, Py_ssize_t i, Py_ssize_t end) except -1
    cdef int _expect_byte(self, int c, int wanted, int following) except -1
