# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""SHA-256 and HMAC-SHA-256 (RFC 2104) of bytes in memory, for callers to whom an object per hash is too much.

Rules: the arithmetic is OpenSSL's, in the libcrypto that Python's own hashlib has loaded already; where that cannot be
found by name (a Python linked statically), hashlib is called instead, with the same results. A key is turned into two
half-finished states once, and is not kept beside them.
Numbers: an HMAC of 600 bytes takes 4.5 us by hmac.digest and 0.5 us here (bench/bench_digest.py).
Does not know: what is hashed.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy, memset
from posix.dlfcn cimport RTLD_NOW, dlopen, dlsym

import cython

import hashlib
import hmac

cdef extern from *:
    """
    #include <dlfcn.h>
    #ifdef RTLD_NOLOAD
    #define OUTRIDER_LOADED RTLD_NOLOAD
    #else
    #define OUTRIDER_LOADED 0
    #endif
    """
    int OUTRIDER_LOADED

ctypedef int (*init_t)(void*) noexcept nogil
ctypedef int (*update_t)(void*, const void*, size_t) noexcept nogil
ctypedef int (*final_t)(unsigned char*, void*) noexcept nogil

cdef enum:
    BLOCK_BYTES = 64

cdef init_t _init = NULL
cdef update_t _update = NULL
cdef final_t _final = NULL


cdef bint _find() noexcept:
    """SHA256_Init and its kin: deprecated for what they lack (engines, properties), and without a look-up per hash."""
    global _init, _update, _final
    cdef void* library = NULL
    cdef const char* name
    for name in (b"libcrypto.so.3", b"libcrypto.so.1.1", b"libcrypto.3.dylib"):
        library = dlopen(name, RTLD_NOW | OUTRIDER_LOADED)
        if library != NULL:
            break
    if library == NULL:
        return False
    _init = <init_t>dlsym(library, b"SHA256_Init")
    _update = <update_t>dlsym(library, b"SHA256_Update")
    _final = <final_t>dlsym(library, b"SHA256_Final")
    return _init != NULL and _update != NULL and _final != NULL


IS_DIRECT = _find()
cdef bint _is_direct = IS_DIRECT


cdef sha256_into(const char* data, Py_ssize_t size, unsigned char* out):
    cdef unsigned char[STATE_BYTES] state
    cdef bytes found
    if _is_direct:
        _init(state)
        _update(state, data, size)
        _final(out, state)
    else:
        found = hashlib.sha256(PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ)).digest()
        memcpy(out, PyBytes_AS_STRING(found), HASH_BYTES)


def sha256(bytes data):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, HASH_BYTES)
    sha256_into(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), <unsigned char*>PyBytes_AS_STRING(out))
    return out


@cython.final
cdef class Mac:
    """HMAC-SHA-256 under one key. direct: False asks hashlib, whatever is there (for tests)."""

    def __init__(self, bytes key, bint direct=True):
        cdef unsigned char[BLOCK_BYTES] pad
        cdef const unsigned char* base
        cdef Py_ssize_t i, size
        self._key = None
        if not (direct and _is_direct):
            self._key = key
            return
        if PyBytes_GET_SIZE(key) > BLOCK_BYTES:
            key = sha256(key)
        base = <const unsigned char*>PyBytes_AS_STRING(key)
        size = PyBytes_GET_SIZE(key)
        for i in range(BLOCK_BYTES):
            pad[i] = (base[i] if i < size else 0) ^ 0x36
        _init(self._inner)
        _update(self._inner, pad, BLOCK_BYTES)
        for i in range(BLOCK_BYTES):
            pad[i] ^= 0x36 ^ 0x5C
        _init(self._outer)
        _update(self._outer, pad, BLOCK_BYTES)
        memset(pad, 0, BLOCK_BYTES)

    cdef into(self, const char* data, Py_ssize_t size, unsigned char* out):
        cdef unsigned char[STATE_BYTES] state
        cdef bytes found
        if self._key is not None:
            found = hmac.digest(self._key, PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ), "sha256")
            memcpy(out, PyBytes_AS_STRING(found), HASH_BYTES)
            return
        memcpy(state, self._inner, STATE_BYTES)
        _update(state, data, size)
        _final(out, state)
        memcpy(state, self._outer, STATE_BYTES)
        _update(state, out, HASH_BYTES)
        _final(out, state)

    cpdef bytes of(self, bytes data):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, HASH_BYTES)
        self.into(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), <unsigned char*>PyBytes_AS_STRING(out))
        return out
