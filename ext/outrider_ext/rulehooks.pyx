# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Rules on the usual way: what was decided for this caller and this model is looked up and put on the call.

Rules
- What is decided stands in a Settled, made once by the layer (proxy/outrider/stack); here it is only found again. What has
  to look at the request, to change or to refuse it is the layer's `act`.
- A model's name is read here only where it can stand in one place: the body is a plain JSON object with one `model` and
  nothing else that could name another. All else is the layer's to find out.
Does not know: rules, conditions, refusals.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange
from outrider_ext.series cimport Tally

import cython

from outrider_ext.http1 import mask_of
from outrider_ext.jsonscan import JsonScanError

cdef unsigned long long CONTENT_ENCODING = mask_of(b"content-encoding")

# Servers that heed one of these run another operation than the one that rules saw (Google's do).
cdef unsigned long long OVERRIDES = mask_of(b"x-http-method-override", b"x-http-method", b"x-method-override")

cdef enum:
    MODEL = 0    # of SCANNED
    TOOLS = 1

# Where a body may name a model; whoever uses another key than the first two is looked at by the layer.
SCANNED = (
    b"model", b"tools", b"models", b"modelid", b"model_id", b"modelarn", b"model_arn", b"fallbacks", b"fallback_model",
    b"fallback_models", b"session", b"requests", b"request", b"batch", b"body", b"config", b"agent", b"plugins",
    b"provider", b"extra_body", b"route", b"response", b"speculative_config", b"completion_args", b"transcription",
    b"input_audio_transcription", b"input_config", b"inputconfig", b"toolconfig", b"tool_config",
)


cdef inline bint is_over(Exchange x, Py_ssize_t cap_bytes):
    """Also of a body that is larger when it is unpacked, or was not held."""
    return x.body is None or PyBytes_GET_SIZE(x.body) > cap_bytes or x.head.mask & CONTENT_ENCODING


cdef bint may_name_model(bytes target) except -1:
    """Whether the query could."""
    cdef bytes query = target.partition(b"?")[2]
    return PyBytes_GET_SIZE(query) and (b"%" in query or b"odel" in query.lower() or b"eployment" in query.lower())


@cython.final
cdef class Settled:
    """What rules decided, as it is put on a call.

    source: the plan behind it. late: the body stage goes on with it. acts: the layer has to be asked at this stage.
    wants_models, scans_models: the body stage needs the models; they can be read here. by_model: model -> Settled.
    body_cap: a larger body has to be looked at by the layer, -1 for none.
    """

    def __init__(self, *, source, tuple rules, tuple shadow_rules, tuple tags, redactions, tuple tallies, bint needs_body,
                 bint late, bint wants_models, bint scans_models, bint acts,
                 Py_ssize_t body_cap, head_edits=None):
        self.source = source
        self.rules, self.shadow_rules, self.tags, self.redactions = rules, shadow_rules, tags, redactions
        self.head_edits = head_edits
        self.tallies = tallies
        self.needs_body, self.late, self.acts = needs_body, late, acts
        self.wants_models, self.scans_models = wants_models, scans_models
        self.body_cap = body_cap
        self.by_model = {}

    cdef put(self, Call call):
        cdef Tally tally
        call.rules, call.shadow_rules, call.tags = self.rules, self.shadow_rules, self.tags
        call.redactions = self.redactions
        call.head_edits = self.head_edits
        for tally in self.tallies:
            tally.n += 1


@cython.final
cdef class DecideEarly(Hook):
    """At the head. settle(principal, via, upgrade) -> Settled. act(x, call, settled): may raise. nobody: the principal of a
    call that has none. overridden(x): a field would change the method, and with it what rules matched; raises."""

    def __init__(self, settle, act, nobody, overridden):
        self._settle, self._act, self._nobody, self._overridden = settle, act, nobody, overridden

    cdef run(self, Exchange x, Call call):
        cdef object principal = call.principal if call.principal is not None else self._nobody
        cdef str via = x.client.origin.kind
        cdef Settled settled = self._last
        if x.head.mask & OVERRIDES:
            self._overridden(x)
        if settled is None or principal is not self._principal or x.allow_upgrade != self._upgrade or via != self._via:
            settled = self._settle(principal, via, x.allow_upgrade)
            self._last, self._principal, self._via, self._upgrade = settled, principal, via, x.allow_upgrade
        call.plan = settled
        call.needs_body = call.needs_body or settled.needs_body
        settled.put(call)
        if settled.acts:
            self._act(x, call, settled)
        return None


@cython.final
cdef class DecideLate(Hook):
    """With the body. settle(x, call, settled, model) -> Settled for that model (None: find out which). act as above."""

    def __init__(self, settle, act):
        self._settle, self._act = settle, act
        self._scan = FieldScan(SCANNED, fold_case=True)

    cdef run(self, Exchange x, Call call):
        cdef Settled plan = call.plan
        cdef Settled settled
        cdef str model = ""
        if plan is None or not plan.late:
            return None
        if plan.wants_models:
            model = self._scanned_model(x) if plan.scans_models else None
            if model is not None and call.model is None and model:
                call.model = model
        settled = plan.by_model.get(model) if model is not None else None
        if settled is None:
            settled = self._settle(x, call, plan, model)
        settled.put(call)
        if settled.acts or (settled.body_cap >= 0 and is_over(x, settled.body_cap)):
            self._act(x, call, settled)
        return None

    cdef str _scanned_model(self, Exchange x):
        """"" where it names none; None where that cannot be said here."""
        cdef bytes body = x.body
        cdef FieldScan scan = self._scan
        cdef bytes tools
        cdef Py_ssize_t i
        if body is None or x.head.mask & CONTENT_ENCODING or may_name_model(x.target):
            return None
        if PyBytes_GET_SIZE(body) == 0:
            return ""
        try:
            scan.scan(body)
            for i in range(2, len(SCANNED)):
                if scan.starts(i) >= 0:
                    return None
            if scan.starts(TOOLS) >= 0:
                tools = scan.raw(TOOLS)
                if b"odel" in tools or b"ODEL" in tools or b"\\u" in tools:
                    return None
            if scan.starts(MODEL) < 0:
                return ""
            return scan.text(MODEL)
        except JsonScanError:
            return None
        finally:
            scan.clear()


@cython.final
cdef class WithDocument(Hook):
    """function(x, call), for a call whose body some layer has parsed."""

    def __init__(self, function):
        self._function = function

    cdef run(self, Exchange x, Call call):
        return None if call.document is None else self._function(x, call)
