# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The question whether an answer may be remembered, and the key under which it is looked for, on the usual way.

Rules
- What has the usual shape is judged here: a plain JSON body, a temperature that is said or not, no field that makes of a
  call more than a question. All else is the layer's (proxy/outrider/stack/cache.py), which keeps the meaning.
- What of the key does not follow from the body is worked out once for requests that are alike in it. Heads are compared by
  a hash that is keyed anew in every process, so that no key that an app shows in one is kept here.
Does not know: where answers are kept.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from outrider_ext.digest cimport Canon
from outrider_ext.http1 cimport cut
from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange
from outrider_ext.series cimport Tally

import cython

from outrider_ext.digest import DigestError
from outrider_ext.http1 import mask_of
from outrider_ext.jsonscan import JsonScanError

cdef extern from "Python.h":
    Py_hash_t PyObject_Hash(object o) except -1

cdef unsigned long long CONTENT_ENCODING = mask_of(b"content-encoding")
cdef unsigned long long CACHE_CONTROL = mask_of(b"cache-control")
cdef bytes BYPASS = b"bypass"

# What a request is: it leaves more than an answer; its answer may differ; its answer follows from it; look closer.
NEVER, OPEN, FIXED = range(3)
cdef enum:
    _NEVER = 0
    _OPEN = 1
    _FIXED = 2
    TEMPERATURE = 0     # of the scan's names


@cython.final
cdef class Question:
    """read(body) -> NEVER, OPEN or FIXED.

    scan: a FieldScan whose first name is the temperature; a body that holds any from index `judged_from` on, or a
    temperature that is not plainly 0 or plainly another, is judged by look(body). is_fixed: the operation's answers follow
    from their input. is_usual: False where every body has to be looked at.
    """

    def __init__(self, FieldScan scan, int judged_from, bint is_fixed, bint is_usual, look):
        self._scan = scan
        self._judged_from = judged_from if is_usual else -1
        self._count = len(scan.names)
        self._is_fixed = is_fixed
        self._look = look

    cpdef int read(self, bytes body) except -1:
        cdef FieldScan scan = self._scan
        cdef int i
        cdef Py_ssize_t start, end, at
        cdef char first
        if self._judged_from < 0:
            return self._look(body)
        try:
            scan.scan(body)
        except JsonScanError:
            return _NEVER
        for i in range(self._judged_from, self._count):
            if scan.starts(i) >= 0:
                return self._look(body)
        if self._is_fixed:
            return _FIXED
        start = scan.starts(TEMPERATURE)
        if start < 0:
            return _OPEN
        end = scan.ends(TEMPERATURE)
        if end == start + 1 and PyBytes_AS_STRING(body)[start] == c"0":
            return _FIXED
        for at in range(start, end):
            first = PyBytes_AS_STRING(body)[at]
            if c"1" <= first <= c"9":       # a digit of a number that is not 0, whatever its exponent
                return _OPEN
            if first != c"0" and first != c".":
                break
        return self._look(body)


@cython.final
cdef class AskMemory(Hook):
    """The body's hook. least: a body that is read as less is not looked for, where no rule says so.

    bypassed: counted for those. parts_of(x, call) -> the key's parts that do not follow from the body. careful(x, call):
    what a call with tags, redaction or Cache-Control gets; ask(x, call, key): what is returned for a call that may be
    answered so.
    """

    def __init__(self, Question question, Canon canon, int least, Tally bypassed, bytes bypass_lines, parts_of, careful,
                 ask):
        self._question, self._canon, self._least = question, canon, least
        self._bypassed, self._bypass_lines = bypassed, bypass_lines
        self._parts_of, self._careful, self._ask = parts_of, careful, ask

    cdef run(self, Exchange x, Call call):
        cdef bytes body = x.body
        cdef bytes key
        if body is None or PyBytes_GET_SIZE(body) == 0 or x.head.mask & CONTENT_ENCODING or x.allow_upgrade:
            return self._bypass(call)
        if x.head.mask & CACHE_CONTROL or call.redacting is not None or (call.tags is not None and len(call.tags)):
            return self._careful(x, call)
        if self._question.read(body) < self._least:
            return self._bypass(call)
        key = self.key_of(x, call)
        if key is None:
            return self._bypass(call)
        return self._ask(x, call, key)

    cdef _bypass(self, Call call):
        call.cache = BYPASS
        call.answer_lines = self._bypass_lines
        self._bypassed.n += 1

    def bypass(self, Call call):
        """It may not be answered from memory."""
        self._bypass(call)

    cdef tuple _usual_parts(self, Exchange x, Call call):
        cdef Py_hash_t head = PyObject_Hash(cut(x.head.data, x.head.start, x.head.end))
        if (self._parts is None or head != self._head or call.principal is not self._principal
                or call.model != self._model or call.stream != self._stream
                or call.plain_answer != self._plain_answer or call.head_edits is not self._head_edits):
            self._parts = self._parts_of(x, call)
            self._head, self._principal, self._model = head, call.principal, call.model
            self._stream, self._plain_answer, self._head_edits = call.stream, call.plain_answer, call.head_edits
        return self._parts

    cpdef bytes key_of(self, Exchange x, Call call):
        """None where the body has no canonical form."""
        cdef tuple parts
        if call.routed is not None or call.path is not None:    # a rule sends it elsewhere: rare, and part of the key
            parts = self._parts_of(x, call)
        else:
            parts = self._usual_parts(x, call)
        try:
            return self._canon.digest(x.body, parts)
        except DigestError:
            return None


@cython.final
cdef class WhereKept(Hook):
    """function(x, call), for a call whose answer is copied."""

    def __init__(self, function):
        self._function = function

    cdef run(self, Exchange x, Call call):
        return None if call.keeping is None else self._function(x, call)


@cython.final
cdef class KeepAnswer(Hook):
    """At the answer's head. function(x, call), where the cache was asked; an `age` that the provider says is not passed on
    beside ours."""

    def __init__(self, function):
        self._function = function
        self._names = frozenset((b"age",))

    cdef run(self, Exchange x, Call call):
        if call.cache is None:
            return None
        if call.attempts and x.answer_head.get_name(b"age") is not None:
            x.answer_head.drop_names = self._names
        return None if call.cache is BYPASS else self._function(x, call)
