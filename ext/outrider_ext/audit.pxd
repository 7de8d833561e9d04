from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange, Hub
from outrider_ext.sha256 cimport Mac

cdef enum:
    HEX_BYTES = 64


cdef class Chain:
    cdef readonly long long seq         # of the last line made
    cdef readonly Py_ssize_t size       # bytes that wait
    cdef readonly Py_ssize_t count      # whole lines made since the last flush that succeeded
    cdef readonly unsigned long long written    # bytes in all
    cdef public bint denies             # new exchanges are to be refused
    cdef Mac _mac
    cdef object _wake
    cdef char* _data
    cdef Py_ssize_t _room
    cdef char[HEX_BYTES] _head
    # up to the last line of which a byte was written
    cdef long long _base_seq
    cdef char[HEX_BYTES] _base_head
    cdef bint _mid_line                 # the first of the waiting bytes are a written line's end

    cdef char* begin(self, Py_ssize_t size) except NULL
    cdef end(self, char* out)
    cpdef add(self, bytes members)
    cpdef int flush(self, int fd) except -1
    cpdef Py_ssize_t drop(self)
    cdef _account(self, Py_ssize_t written)


cdef class Commit:
    cdef readonly Chain chain
    cdef public int fd
    cdef public bint is_plain           # lines can be written, and nothing waits for the disk
    cdef public unsigned long long rotate_at    # bytes written in all
    cdef public long long checkpoint_at         # the last line's number
    cdef Hub _hub
    cdef object _call_soon
    cdef object _otherwise
    cdef object _failed
    cdef object _due
    cdef bint _is_scheduled

    cpdef schedule(self)


cdef class AuditBegin(Hook):
    cdef Chain _chain
    cdef object _refuse


cdef class AuditEnd(Hook):
    cdef Chain _chain
    cdef object _opening_of
    cdef object _decided_of
    cdef object _rest_of
    cdef object _refused
    cdef bint _has_content
    cdef bint _redacts
    # of the last exchange: mostly the next one has the same
    cdef bytes _opening
    cdef object _principal
    cdef str _key_id
    cdef str _via
    cdef bytes _method
    cdef str _model
    cdef bint _stream
    cdef bytes _decided
    cdef str _decision
    cdef tuple _rules
    cdef tuple _shadow_rules
    cdef tuple _tags

    cdef bytes _find_opening(self, Exchange x, Call call)
    cdef bytes _find_decided(self, Call call)
