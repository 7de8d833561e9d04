cimport cython


@cython.locals(end=Py_ssize_t, session_end=Py_ssize_t, ciphers_end=Py_ssize_t, compression_end=Py_ssize_t,
               ciphers=Py_ssize_t)
cpdef tuple read_hello(bytes body)

@cython.locals(size=Py_ssize_t, length=Py_ssize_t)
cpdef read_record(bytes data, Py_ssize_t max_bytes)

@cython.locals(name_at=Py_ssize_t, name_end=Py_ssize_t, alpn_at=Py_ssize_t, alpn_end=Py_ssize_t, has_ech=bint, seen=set,
               last=Py_ssize_t, after=Py_ssize_t, kind=int)
cdef tuple _read_extensions(bytes body, Py_ssize_t pos, Py_ssize_t end)

@cython.locals(last=Py_ssize_t, after=Py_ssize_t, kind=int)
cdef bytes _server_name(bytes body, Py_ssize_t pos, Py_ssize_t end)

@cython.locals(last=Py_ssize_t, after=Py_ssize_t, protocols=list)
cdef tuple _protocols(bytes body, Py_ssize_t pos, Py_ssize_t end)

@cython.locals(start=Py_ssize_t, length=Py_ssize_t)
cdef Py_ssize_t _vector_end(bytes body, Py_ssize_t pos, Py_ssize_t end, int length_size) except -1

cdef int _need(Py_ssize_t pos, Py_ssize_t end) except -1
