# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Redaction on the usual way: a body in which nothing is found goes on unparsed, and no frame of Python runs for it.

Rules
- What is looked for is decided by the layer (proxy/outrider/stack/redact.py) for the rows that rules hand out, and kept
  for as long as they hand out the same object.
- Only what can be said of the bytes is said here. All else is the layer's: a compressed body, one that is not held, one
  that another layer changed, one in which something is found.
Does not know: detectors, JSON, what becomes of a match.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

from outrider_ext.bodytext cimport body_text
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange

import cython

from outrider_ext.http1 import mask_of

cdef unsigned long long CONTENT_ENCODING = mask_of(b"content-encoding")


@cython.final
cdef class BodyScan:
    """What one plan looks for in a request.

    hits(text) -> what occurs somewhere in it, a list; None where requests are not redacted. plan: whatever the layer wants
    back. expects: the answer is to be redacted, whatever the request holds.
    """

    def __init__(self, hits, plan, bint expects):
        self._hits = hits
        self.plan = plan
        self.expects = expects

    cpdef bint is_clean(self, bytes body) except -1:
        """Whether nothing is found. False where that cannot be said of the bytes."""
        cdef bytes text
        if self._hits is None or PyBytes_GET_SIZE(body) == 0:
            return True
        text = body_text(body)
        return text is not None and not self._hits(text)


@cython.final
cdef class ScanRequest(Hook):
    """The request's body.

    scan_of(redactions) -> BodyScan, None where nothing is to be redacted; may raise. act(x, call): what is found, or
    cannot be said here. expect(call, plan): the answer is to be redacted.
    """

    def __init__(self, scan_of, act, expect):
        self._scan_of, self._act, self._expect = scan_of, act, expect

    cdef run(self, Exchange x, Call call):
        cdef BodyScan scan
        if not self._is_known or self._asked is not call.redactions:
            self._is_known = False
            self._scan = self._scan_of(call.redactions)
            self._asked, self._is_known = call.redactions, True
        scan = self._scan
        if scan is None:
            return None
        if (x.allow_upgrade or x.body is None or x.head.mask & CONTENT_ENCODING
                or (call.document is not None and call.document.changed) or not scan.is_clean(x.body)):
            return self._act(x, call)
        if scan.expects:
            self._expect(call, scan.plan)
        return None


@cython.final
cdef class WhenRedacting(Hook):
    """function(x, call), for a call whose answer is to be redacted."""

    def __init__(self, function):
        self._function = function

    cdef run(self, Exchange x, Call call):
        return None if call.redacting is None else self._function(x, call)
