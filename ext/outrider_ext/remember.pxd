from outrider_ext.digest cimport Canon
from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange
from outrider_ext.series cimport Tally


cdef class Question:
    cdef FieldScan _scan
    cdef int _judged_from
    cdef int _count
    cdef bint _is_fixed
    cdef object _look

    cpdef int read(self, bytes body) except -1


cdef class AskMemory(Hook):
    cdef Question _question
    cdef Canon _canon
    cdef int _least
    cdef Tally _bypassed
    cdef bytes _bypass_lines
    cdef object _parts_of
    cdef object _careful
    cdef object _ask
    # -- what the parts followed from, the last time --
    cdef tuple _parts
    cdef object _head_edits
    cdef Py_hash_t _head
    cdef object _principal
    cdef str _model
    cdef bint _stream
    cdef bint _plain_answer

    cdef _bypass(self, Call call)
    cdef tuple _usual_parts(self, Exchange x, Call call)
    cpdef bytes key_of(self, Exchange x, Call call)


cdef class WhereKept(Hook):
    cdef object _function


cdef class KeepAnswer(Hook):
    cdef object _function
    cdef frozenset _names
