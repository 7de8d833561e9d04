from outrider_ext.chatusage cimport ChatUsage
from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook, Sender
from outrider_ext.lines cimport LineBuffer
from outrider_ext.relay cimport Exchange
from outrider_ext.series cimport Series
from outrider_ext.tokens cimport Usage


cdef class ReadFields(Hook):
    cdef FieldScan _scan
    cdef FieldScan _options
    cdef FieldScan _inner
    cdef bint _reads_model
    cdef bytes _request
    cdef object _ask
    cdef object _misread

    cdef _ask_for_usage(self, Exchange x, Call call, bytes body)
    cdef bint _asks(self, bytes body, Py_ssize_t start, Py_ssize_t end) except -1
    cdef long long _most(self, bytes body) except -2


cdef class TapAnswer(Hook):
    cdef object _reader
    cdef bytes _needle
    cdef object _strip
    cdef bint _array
    cdef object _decoder
    cdef object _units_of


cdef class CountTokens(Hook):
    cdef ChatUsage _usual
    cdef object _read


cdef char* put_outcome(char* out, Exchange x)
cdef char* put_usage(char* out, Call call)


cdef class RecordExchange(Hook):
    cdef object _series_of
    cdef object _opening_of
    cdef object _rest_of
    cdef object _on_estimate
    cdef LineBuffer _lines
    # of the last exchange: mostly the next one has the same
    cdef Series _series
    cdef str _model
    cdef int _status
    cdef str _decision
    cdef bytes _opening
    cdef str _via
    cdef bytes _method
    cdef str _line_model
    cdef bint _line_stream
    cdef object _line_principal

    cdef Series _find_series(self, str model, int status, str decision)
    cdef bytes _find_opening(self, Exchange x, Call call)
    cdef _write(self, Exchange x, Call call)


cdef class Held:
    cdef public object value


cdef class HeadEdits:
    cdef readonly unsigned long long drop
    cdef readonly frozenset drop_names
    cdef readonly bytes lines


cdef class HeadWriter(Sender):
    cdef readonly bint injects
    cdef unsigned long long _drop
    cdef frozenset _drop_names
    cdef frozenset _query
    cdef bytes _host
    cdef Py_ssize_t _prefix_bytes
    cdef object _source
    cdef Held _held
    # what follows from the credential in hand
    cdef object _credential
    cdef bytes _secret
    cdef bytes _fixed
    cdef bint _is_fixed

    cdef _take_credential(self)
