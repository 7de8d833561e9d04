from outrider_ext.relay cimport Downstream, Exchange, Idle, Owner, Upstream


cdef class Route:
    # -- what was asked for --
    cdef readonly object binding
    cdef readonly object operation
    cdef readonly bint known
    cdef readonly str model
    cdef readonly str destination_host
    cdef readonly int destination_port
    cdef readonly Py_ssize_t prefix_bytes
    cdef readonly str error_dialect
    cdef readonly bytes method
    cdef readonly bytes path         # the provider's own, without the query; ours, where `is_front`
    cdef readonly bint is_front      # asked of the API over all providers: the path is no provider's
    cdef public object resolver      # whom the call is for stands in its body: resolve(x, call) -> Route; else None
    # -- how it gets there --
    cdef public object pool
    cdef public Sender attempt
    # -- what the layers want of it --
    cdef public bint wants_body
    cdef public bint reads_answer
    cdef public tuple request_hooks
    cdef public tuple body_hooks
    cdef public tuple answer_hooks
    cdef public tuple end_hooks


cdef class Call:
    cdef readonly Route route
    # -- where it goes --
    cdef public Route to             # whose pool, sender and hooks of the answer count: the route's own, or a target's
    cdef public object target        # who serves it, of a call that is dispatched; None: the route's own provider
    cdef public object dispatch      # what is known about its attempts; None for a call that has one
    cdef public bytes path           # what to ask there, with its query; None: as the app asked
    cdef public object translation   # of a call that is served in another dialect than the app's; else None
    cdef public object translating   # its stream, while it is translated
    cdef public bytes spoken_kind    # content type of the answer as the app gets it; None: as it came
    cdef public bytes lines          # fields to add to the head that goes there, each with its CRLF
    cdef public bytes answer_lines   # fields to add to the head of the answer, likewise
    cdef public object routed        # (provider or None, model): what a rule routes it to
    cdef readonly bytes request_id
    cdef public str model
    cdef public bint stream
    cdef public long long max_tokens # of the answer, as asked for in the body, times the choices; -1: not said
    cdef public bint strip_usage
    cdef public object reader
    cdef public bytes answer_kind
    cdef public object usage
    cdef public str decision
    cdef public object error
    cdef public int attempts
    cdef public bint fresh
    cdef public bint body_asked
    # -- what the governing layers found out --
    cdef public object principal     # who is calling; None until identified
    cdef public str key_id           # names the virtual key by which that is known, None without one
    cdef public object document      # the request's body as JSON, parsed by the first layer that needs it
    cdef public tuple rules          # ids of the rules that decided
    cdef public tuple shadow_rules   # ids of the rules that would have decided
    cdef public tuple tags
    cdef public object redactions    # what is to be redacted, None for nothing
    cdef public object lease         # what was borrowed before the call and is settled at its end
    cdef public object cost_nusd     # int, 1e-9 US$; None while unknown or unpriced
    cdef public bytes digest         # canonical hash of the request, 32 bytes
    cdef public object plan          # what the rules decided before the body was there
    cdef public bint needs_body      # a rule has to read the body: one that cannot be held is refused
    cdef public object redacting     # how the answer is to be redacted, None for not at all
    cdef public bint plain_answer    # the answer has to be read: ask for it without a content-encoding
    cdef public dict redacted        # what was redacted: label -> how often; None or empty where nothing was
    cdef public object head_edits    # HeadEdits: what rules change in the head that goes out, None for nothing
    cdef public bytes cache          # what the cache said: hit, stale, joined, miss, bypass; None where it was not asked
    cdef public object keeping       # who copies the answer as it passes, None for nobody
    cdef public object stale         # callable(x, call) -> bool: answers with what is old where the provider fails
    cdef public bytes content        # the request as the app sent it, where the audit log is to have all of it


cdef class Hook:
    cdef run(self, Exchange x, Call call)


cdef class PlainHook(Hook):
    cdef object _function


cdef class Sender:
    cdef public bint needs_body
    cdef bytes canary                # not readable from Python: a layer could read it there

    cdef bytes head_for(self, Exchange x, Call call, bytes body)


cdef class Remembered:
    cdef object _router
    cdef bytes _method
    cdef bytes _target
    cdef bytes _host
    cdef Route _route

    cdef Route find(self, Exchange x, object router)
    cdef keep(self, Exchange x, object router, Route route)


cdef class Lane(Owner):
    cdef public object router
    cdef public Py_ssize_t held_body_bytes
    cdef object _desk
    cdef bytes _id_prefix
    cdef unsigned long long _count

    cdef bytes _next_id(self)
    cdef _run(self, Exchange x, Call call, Py_ssize_t stage)
    cdef bint _run_hooks(self, Exchange x, Call call, Py_ssize_t stage) except -1
    cdef _dispatch(self, Exchange x, Call call)
    cdef _send(self, Exchange x, Call call, Upstream connection)
