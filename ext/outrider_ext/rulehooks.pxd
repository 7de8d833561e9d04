from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange


cdef class Settled:
    cdef public tuple rules
    cdef public tuple shadow_rules
    cdef public tuple tags
    cdef public object redactions
    cdef public object head_edits
    cdef public tuple tallies
    cdef public object source
    cdef public bint needs_body
    cdef public bint late
    cdef public bint wants_models
    cdef public bint scans_models
    cdef public bint acts
    cdef public Py_ssize_t body_cap
    cdef public dict by_model

    cdef put(self, Call call)


cdef class DecideEarly(Hook):
    cdef object _settle
    cdef object _act
    cdef object _nobody
    cdef object _overridden
    cdef object _principal
    cdef str _via
    cdef bint _upgrade
    cdef Settled _last


cdef class DecideLate(Hook):
    cdef object _settle
    cdef object _act
    cdef FieldScan _scan

    cdef str _scanned_model(self, Exchange x)


cdef class WithDocument(Hook):
    cdef object _function
