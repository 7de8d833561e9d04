from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange


cdef class Epoch:
    cdef readonly unsigned long long n


cdef class Book:
    cdef readonly Epoch epoch
    cdef public bint requires_token


cdef class Caller:
    # -- facts of the connection, which its client cannot change --
    cdef public object uid           # int, or None where nobody knows
    cdef public object gid
    cdef public object pid
    cdef readonly bint is_unix
    cdef public bint asked           # the kernel was asked for the uid
    cdef public bytes token_mac      # keyed hash of the token that was shown at CONNECT, None for none
    # -- what the last request was found to be --
    cdef Book _book
    cdef unsigned long long _epoch
    cdef long long _until_ns
    cdef bytes _key
    cdef bytes _proxy
    cdef object _principal
    cdef str _key_id

    cpdef last(self, Book book, bytes key, bytes proxy, long long now_ns)


cdef class NameCaller(Hook):
    cdef Book _book
    cdef tuple _slots
    cdef unsigned long long _mask
    cdef bytes _bare
    cdef bytes _bearer
    cdef bint _query
    cdef bint _required
    cdef object _otherwise


cdef class NameKeyOwner(Hook):
    cdef Book _book
    cdef tuple _canaries
    cdef object _otherwise
