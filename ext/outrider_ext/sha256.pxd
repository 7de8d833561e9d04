cdef enum:
    HASH_BYTES = 32
    STATE_BYTES = 256                   # more than any SHA256_CTX


cdef sha256_into(const char* data, Py_ssize_t size, unsigned char* out)


cdef class Mac:
    cdef object _key                    # where libcrypto was not found
    cdef unsigned char[STATE_BYTES] _inner
    cdef unsigned char[STATE_BYTES] _outer

    cdef into(self, const char* data, Py_ssize_t size, unsigned char* out)
    cpdef bytes of(self, bytes data)
