from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange


cdef class BodyScan:
    cdef object _hits
    cdef readonly object plan
    cdef readonly bint expects

    cpdef bint is_clean(self, bytes body) except -1


cdef class ScanRequest(Hook):
    cdef object _scan_of
    cdef object _act
    cdef object _expect
    cdef object _asked
    cdef BodyScan _scan
    cdef bint _is_known


cdef class WhenRedacting(Hook):
    cdef object _function
