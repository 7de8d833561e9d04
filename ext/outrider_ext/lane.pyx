# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The way of an exchange that has nothing to wait for, from its head to its record, without a frame of Python.

Rules
- What a route's hooks are was decided when the route was made; here they are only called, in order.
- Whatever is rare (a route that is not remembered yet, a refusal, a wait, a new connection, a failure) is the desk's,
  which is written in Python. The desk is any object with the methods named below.
- A connection remembers its last route: the next request with the same method, target and Host is routed by three
  comparisons. A web page's request (Origin, Sec-Fetch-Site) is always decided anew.

The desk
  find(x, request_id) -> Route or None      None: it was answered
  resolve(x, call)                          a body is there that says whom its call is for: then reroute(x, call, route)
  note_upgrade(x)                           may set x.allow_upgrade
  wait(x, call, stage, awaitable)           then resume(x, call, stage)
  open(x, call)                             a new connection; then send(x, call, connection)
  failed(x, call, error, where)             a hook or the sender raised: answer it
  too_large(x, call)                        a body that has to be held whole is larger than the cap
  begin(x, call)                            a call with `dispatch` has passed its hooks: then dispatch(x, call)
  discards(x, call) -> bool                 the head of an answer to such a call: True when it is not passed on
  finished(x, call)                         such a call has ended; its end hooks come next
  races(x, call, connection) -> bool        of two connections this one answers first: True when its answer counts
  race_lost(x, call, connection, kind, detail)  of two connections this one failed; the other goes on
  cut_short(x, call, kind, detail) -> bytes or None    the error event that ends a stream which the provider broke off
  retry_or_refuse(x, call, kind, detail)    the provider failed before its answer began
  withhold(x, call, error) -> bool         an answer's hook raised: True when the exchange was refused for it
  report(error, where)                      an end's hook raised

Does not know: what hooks do, providers, sockets.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from outrider_ext.http1 cimport Head
from outrider_ext.relay cimport Downstream, Exchange, Idle, Owner, Upstream

import cython

from outrider_ext.http1 import header_id, mask_of

cdef enum:
    ID_DIGITS = 8
    REMEMBERED_TARGET_BYTES = 512    # a longer one would stay in memory as long as its connection

cdef int H_HOST = header_id(b"host")
cdef unsigned long long WEB = mask_of(b"origin", b"sec-fetch-site")
cdef const char* HEX = b"0123456789abcdef"


@cython.final
cdef class Route:
    """Decided once per (door, destination, method, path), and remembered.

    destination_host, destination_port: whom the app asked for; the outgoing Host. prefix_bytes: how much of the target
    is our base_url prefix. wants_body, reads_answer: some layer reads that body. attempt: a Sender.
    """

    def __init__(self, *, binding, operation, known, model, destination_host, destination_port, prefix_bytes,
                 error_dialect, pool, bytes method=b"", bytes path=b"", bint is_front=False, resolver=None):
        self.binding = binding
        self.operation = operation
        self.known = known
        self.model = model
        self.destination_host = destination_host
        self.destination_port = destination_port
        self.prefix_bytes = prefix_bytes
        self.error_dialect = error_dialect
        self.method = method
        self.path = path
        self.is_front = is_front
        self.resolver = resolver
        self.pool = pool
        self.request_hooks = self.body_hooks = self.answer_hooks = self.end_hooks = ()

    @property
    def provider(self):
        return self.binding.name


@cython.final
@cython.freelist(64)
cdef class Call:
    """One request on its way through the layers. A credential is never in it."""

    def __cinit__(self, Route route, bytes request_id):
        self.route = self.to = route
        self.request_id = request_id
        self.model = route.model
        self.answer_kind = b""
        self.decision = "allow"
        self.max_tokens = -1
        self.rules = self.shadow_rules = self.tags = ()

    def twin(self, bytes suffix):
        """The same call once more, as the layers have made it so far: for what is asked on its behalf."""
        cdef Call other = Call(self.route, self.request_id + suffix)
        other.path, other.lines, other.head_edits = self.path, self.lines, self.head_edits
        other.routed, other.model, other.stream = self.routed, self.model, self.stream
        other.max_tokens, other.strip_usage, other.plain_answer = self.max_tokens, self.strip_usage, self.plain_answer
        other.principal, other.key_id, other.document = self.principal, self.key_id, self.document
        other.decision, other.rules, other.shadow_rules = self.decision, self.rules, self.shadow_rules
        other.tags, other.redactions = self.tags, self.redactions
        return other


cdef class Hook:
    """One layer's word on one route: called with (exchange, call).

    Returns None to go on, or an awaitable when it must wait; raises SidecarError to refuse.
    """

    cdef run(self, Exchange x, Call call):
        return None

    def __call__(self, Exchange x, Call call):
        return self.run(x, call)


@cython.final
cdef class PlainHook(Hook):
    """A hook written in Python."""

    def __init__(self, function):
        self._function = function

    cdef run(self, Exchange x, Call call):
        return self._function(x, call)


cdef class Sender:
    """Makes the head that goes out. `canary`: the secret in the head that was made last, None where there is none.

    needs_body: the body has to be whole before the head can be made (its hash is part of the credential).
    """

    cdef bytes head_for(self, Exchange x, Call call, bytes body):
        raise TypeError("a sender has to make heads")

    def build(self, Exchange x, Call call, bytes body):
        """(head, canary). body: what will be sent, if it is known. Raises: SidecarError."""
        head = self.head_for(x, call, body)
        return head, self.canary


@cython.final
cdef class Remembered:
    """The last route of one connection."""

    cdef Route find(self, Exchange x, object router):
        if (self._router is router and self._method == x.method and self._target == x.target
                and not x.head.mask & WEB and x.head.get(H_HOST) == self._host):
            return self._route
        return None

    cdef keep(self, Exchange x, object router, Route route):
        if PyBytes_GET_SIZE(x.target) > REMEMBERED_TARGET_BYTES or x.head.mask & WEB:
            self._router = None
            return
        self._router = router
        self._method = x.method
        self._target = x.target
        self._host = x.head.get(H_HOST)
        self._route = route


@cython.final
cdef class Lane(Owner):
    """The relay's owner. `router` and `held_body_bytes` are replaced by a reload; exchanges in flight keep theirs.

    id_prefix: what every request id of this process begins with.
    """

    def __init__(self, desk, router, bytes id_prefix, Py_ssize_t held_body_bytes):
        self._desk = desk
        self.router = router
        self._id_prefix = id_prefix
        self.held_body_bytes = held_body_bytes

    # -- the relay's calls --

    cpdef on_request(self, Exchange x):
        cdef bytes request_id = self._next_id()
        cdef Remembered last = x.client.state
        cdef Route route = None
        cdef Call call
        if last is not None:
            route = last.find(x, self.router)
        if route is None:
            route = self._desk.find(x, request_id)
            if route is None:
                return
            if last is None:
                x.client.state = last = Remembered.__new__(Remembered)
            last.keep(x, self.router, route)
        call = Call.__new__(Call, route, request_id)
        x.state = call
        if route.resolver is not None:
            if x.body is None:
                x.hold(self.held_body_bytes)
            else:       # it came whole with its head
                self._desk.resolve(x, call)
            return
        if x.head.upgrade:
            self._desk.note_upgrade(x)
        self._run(x, call, 0)

    cpdef on_body(self, Exchange x):
        cdef Call call = x.state
        if call.route.resolver is not None:
            self._desk.resolve(x, call)
            return
        if x.body is None and (call.needs_body or call.route.attempt.needs_body):
            self._desk.too_large(x, call)
            return
        self._run(x, call, len(call.route.request_hooks))

    cpdef bytes on_answer(self, Exchange x):
        cdef Call call = x.state
        cdef tuple hooks
        cdef Py_ssize_t i
        if call.dispatch is not None and self._desk.discards(x, call):
            return b""
        hooks = call.to.answer_hooks
        try:
            for i in range(len(hooks)):
                (<Hook>hooks[i]).run(x, call)
        except Exception as error:
            if self._desk.withhold(x, call, error):
                return b""
        if call.answer_lines is not None:
            return b"x-outrider-request-id: %b\r\n%b" % (call.request_id, call.answer_lines)
        return b"x-outrider-request-id: " + call.request_id + b"\r\n"

    cpdef on_failed(self, Exchange x, str kind, str detail):
        self._desk.retry_or_refuse(x, x.state, kind, detail)

    cpdef bint on_race(self, Exchange x, Upstream connection) except -1:
        return self._desk.races(x, x.state, connection)

    cpdef on_race_lost(self, Exchange x, Upstream connection, str kind, str detail):
        self._desk.race_lost(x, x.state, connection, kind, detail)

    cpdef bytes on_cut(self, Exchange x, str kind, str detail):
        try:
            return self._desk.cut_short(x, x.state, kind, detail)
        except Exception as error:
            self._desk.report(error, "cut")
            return None

    cpdef on_end(self, Exchange x):
        cdef Call call = x.state
        cdef tuple hooks
        cdef Py_ssize_t i
        if call is None:
            return
        if call.dispatch is not None:
            self._desk.finished(x, call)
        hooks = call.to.end_hooks
        for i in range(len(hooks)):
            try:
                (<Hook>hooks[i]).run(x, call)
            except Exception as error:
                self._desk.report(error, "end")

    cpdef bytes on_bad_request(self, Downstream client, int status, str message):
        return self._desk.bad_request(status, message)

    cpdef bint is_gone(self, Downstream client) except -1:
        return self._desk.is_gone(client)

    # -- the desk's calls --

    def resume(self, Exchange x, Call call, Py_ssize_t stage):
        """What was waited for is there: go on with hook number `stage`."""
        self._run(x, call, stage)

    def reroute(self, Exchange x, Call call, Route route):
        """Its body said whom it is for: it is a call of that route, from the first hook on."""
        call.route = call.to = route
        call.model = route.model
        self._run(x, call, 0)

    def dispatch(self, Exchange x, Call call):
        """Send it (again)."""
        self._dispatch(x, call)

    def send(self, Exchange x, Call call, Upstream connection):
        """On this connection, which was opened for it."""
        self._send(x, call, connection)

    def race(self, Exchange x, Call call, Route to, Upstream connection):
        """On this connection too, which leads to another target; whichever answers first counts."""
        cdef bytes head
        cdef Sender sender = to.attempt
        cdef Route before = call.to
        if x.ended:
            connection.release()
            return False
        call.to = to
        try:
            head = sender.head_for(x, call, x.body)
        except Exception:
            connection.release()
            raise
        finally:
            call.to = before
        call.attempts += 1
        canary, sender.canary = sender.canary, None
        return x.race(connection, head, x.body, canary)

    # -- the way of one exchange --

    cdef bytes _next_id(self):
        cdef Py_ssize_t lead = PyBytes_GET_SIZE(self._id_prefix), i
        cdef bytes request_id = PyBytes_FromStringAndSize(NULL, lead + ID_DIGITS)
        cdef char* out = PyBytes_AS_STRING(request_id)
        cdef unsigned long long number
        self._count += 1
        number = self._count
        memcpy(out, PyBytes_AS_STRING(self._id_prefix), lead)
        for i in range(ID_DIGITS - 1, -1, -1):
            out[lead + i] = HEX[number & 15]
            number >>= 4
        return request_id

    cdef _run(self, Exchange x, Call call, Py_ssize_t stage):
        """Hooks from `stage` on, counted over request_hooks and then body_hooks; then the dispatcher."""
        try:
            if self._run_hooks(x, call, stage):
                if call.dispatch is None:
                    self._dispatch(x, call)
                else:
                    self._desk.begin(x, call)
        except Exception as error:
            self._desk.failed(x, call, error, "request")

    cdef bint _run_hooks(self, Exchange x, Call call, Py_ssize_t stage) except -1:
        """True when all have run; False when the exchange waits or was answered."""
        cdef Route route = call.route
        cdef tuple hooks = route.request_hooks
        cdef Py_ssize_t count = len(hooks), total
        while stage < count:
            waiting = (<Hook>hooks[stage]).run(x, call)
            stage += 1
            if waiting is not None:
                self._desk.wait(x, call, stage, waiting)
                return False
        if not route.wants_body:
            return True
        # A body beyond the cap is not held; its hooks run without it, since a limit must not be passed by size.
        if x.body is None and not call.body_asked:
            call.body_asked = True
            x.hold(self.held_body_bytes)
            return False
        hooks = route.body_hooks
        total = count + len(hooks)
        while stage < total:
            waiting = (<Hook>hooks[stage - count]).run(x, call)
            stage += 1
            if waiting is not None:
                self._desk.wait(x, call, stage, waiting)
                return False
        return True

    cdef _dispatch(self, Exchange x, Call call):
        """Find a connection: one that is idle, else a new one when it is there."""
        cdef Upstream connection = None if call.fresh else (<Idle?>call.to.pool).take()
        if connection is None:
            self._desk.open(x, call)
        else:
            self._send(x, call, connection)

    cdef _send(self, Exchange x, Call call, Upstream connection):
        cdef bytes head
        cdef Sender sender = call.to.attempt
        if x.ended:
            connection.release()
            return
        call.attempts += 1
        try:
            head = sender.head_for(x, call, x.body)
        except Exception as error:
            connection.release()
            self._desk.failed(x, call, error, "attempt")
            return
        canary, sender.canary = sender.canary, None
        x.forward(connection, head, x.body, canary)
