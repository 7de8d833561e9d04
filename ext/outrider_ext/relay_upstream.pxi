# Part of relay.pyx: the provider's side.

cdef class Upstream:
    """A connection to a provider, used by one exchange at a time and kept by `pool` between them.

    `pool` has release(connection) and discard(connection); an Idle is asked without a call into Python.
    """

    def __init__(self, Hub hub, pool):
        self.hub = hub
        self.pool = pool
        self.head = Head()
        self.body = Body()
        self.splitter = SseSplitter(hub.event_bytes)
        self.state = U_IDLE
        self.keep_alive = True
        self.last_ns = now_ns()

    def __dealloc__(self):
        free(self.runs)

    @property
    def idle(self):
        return self.state == U_IDLE and not self.closed

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(self.hub.buffer_bytes)
        self.hub.upstreams.add(self)

    cdef _attach(self, Exchange x, bytes canary):
        self.exchange = x
        self.canary = canary
        self.carry = self.withheld = self.sunk = None
        self.state = U_HEAD
        self.uses += 1
        self.interim = 0
        self.got_bytes = False
        self.lead = None
        self.early = None
        self.held = None
        self.units = None
        self.end_sent = False
        if len(self.head.drop_names):
            self.head.drop_names = frozenset()
        self.stash = None
        self.keep_alive = True
        self.last_ns = now_ns()
        if self.write_paused:
            x.client._pause()
        if x.client.write_paused:
            self._pause()

    @property
    def status(self):
        """Of the answer whose head is there."""
        return self.head.status

    @property
    def answer_head(self):
        return self.head

    def release(self):
        """Give an unused connection back."""
        if not self.closed:
            self.pool.release(self)

    def close(self):
        """Close now; an exchange on it must have been detached or is told."""
        if self.closed:
            return
        self.closed = True
        self.state = U_IDLE
        self.hub.upstreams.discard(self)
        if self.transport is not None:
            self.transport.abort()
        self.pool.discard(self)

    cdef _close_gently(self):
        """Close once what was written has left; `check` sees to it that this is soon."""
        self.exchange.upstream = None
        self.exchange = None
        self.closed = True
        self.state = U_IDLE
        self.last_ns = now_ns()
        if self.transport is not None:
            self.transport.close()
        self.pool.discard(self)

    def connection_lost(self, exc):
        was_closed = self.closed
        self.closed = True
        self.hub.upstreams.discard(self)
        if not was_closed:
            self.pool.discard(self)
        self.transport = None
        if self.exchange is not None:
            self._eof(exc)

    def eof_received(self):
        # Over TLS this is called for close_notify only: a bare FIN there is connection_lost without it.
        self.eof = True
        if self.exchange is not None:
            self._eof(None)
        else:
            self.close()                # now: connection_lost comes a turn of the loop later
        return False

    cdef _eof(self, exc):
        """The provider's side ended: the legal end of a close-delimited answer, or a cut."""
        cdef Exchange x = self.exchange
        if self.state == U_TUNNEL:
            self._detach()
            x._finish(_OK, None)
            self.close()
        elif self.state == U_BODY and self.eof and x.watch is not None and not self.body.done and (
                not self._watched(x, b"")):
            self._broken(_CUT, "closed", "the provider closed before the end of its answer")
        elif self.state == U_BODY and self.eof and self.body.finish_eof():
            self.keep_alive = False
            self._done()
        elif self.state == U_HEAD and not self.got_bytes:
            self._broken(_CUT, "stale" if self.uses > 1 else "closed", str(exc) if exc else "closed before an answer")
        else:
            self._broken(_CUT, "closed", "the provider closed in the middle of its answer")

    def pause_writing(self):
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.client._pause()

    def resume_writing(self):
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.client._resume()

    # -- the answer --

    def data_received(self, bytes data):
        cdef Exchange x = self.exchange
        if x is None:
            if self.state == U_DRAIN:
                self._drain_data(data, 0)
            else:
                self.close()          # bytes that nobody asked for: whose answer would they be?
            return
        self.last_ns = now_ns()
        self.got_bytes = True
        if self.state == U_BODY:
            self._payload(data, 0)
        elif self.state == U_HEAD:
            self._heads(data)
        elif self.state == U_TUNNEL:
            self._tunnel(x, data, 0)
        if self.lead is not None and self.exchange is not None and self.exchange.whole is None and (
                self.exchange.judge is None):
            self._push(b"")

    cdef _tunnel(self, Exchange x, bytes data, Py_ssize_t pos):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if self.canary is not None and self._echoes(data, pos, size):
            self._broken(_CUT, "secret_echoed", "the answer contained the credential")
            return
        x.answer_bytes += size - pos
        if pos:
            data = data[pos:]
        if self._is_suspect():
            data = self._withhold(data, False)
        x.client._write(data)

    cdef _heads(self, bytes data):
        cdef Py_ssize_t end, pos = 0
        cdef Exchange x = self.exchange
        cdef long long began
        if self.stash is not None:
            data = self.stash + data
            self.stash = None
        while True:
            try:
                end = self.head.scan_response(data, pos, self.hub.head_bytes)
            except ProtocolError as error:
                self._broken(_CUT, "bad_answer", str(error))
                return
            if end == 0:
                self.stash = data[pos:] if pos else data
                return
            if self.head.status >= 200 or self.head.status == 101:
                break
            if not self._interim(data[pos:end]):
                return
            pos = end
            if pos == PyBytes_GET_SIZE(data):
                return
        began = self.last_ns
        if x.waits_first and self._is_first_to_come(x, end == PyBytes_GET_SIZE(data)):
            self.stash = data[pos:] if pos else data
            return
        if x.rival is not None:
            if not self.hub.owner.on_race(x, self):
                if self.exchange is x:
                    x._leave(self)
                return
            if self.exchange is not x:
                return
            x._leave(x.rival if x.upstream is self else x.upstream)
        x.head_ns = began
        if self.canary is not None and self._echoes(data, pos, end):
            self._broken(_CUT, "secret_echoed", "the answer contained the credential")
            return
        self._answer(x)
        if self.exchange is not x:
            if self.state == U_DRAIN:
                self._drain_data(data, end)
            return
        if self.state == U_TUNNEL:
            if end < PyBytes_GET_SIZE(data):
                self._tunnel(x, data, end)
            return
        x.inside_ns += now_ns() - began
        if self.body.done or end < PyBytes_GET_SIZE(data):
            self._payload(data, end)

    cdef bint _is_first_to_come(self, Exchange x, bint head_alone) except -1:
        """Whether more of the answer has to be there before it is known whether it comes: a good head says nothing."""
        cdef Head head = self.head
        if not head_alone or head.status >= 300 or head.status == 204 or x.method == b"HEAD":
            return False
        return head.chunked or head.content_length != 0

    cdef _drain(self):
        """The rest of the answer is read and dropped while that is cheaper than another connection."""
        self.exchange = None
        self.lead = self.carry = self.withheld = self.canary = None
        self.early = self.held = None
        self.stash = None
        self._resume()
        if self.closed:
            return
        if not self.keep_alive or self.eof:
            self.close()
            return
        self.drain_bytes = 0
        self.state = U_DRAIN
        self.last_ns = now_ns()         # of the drain, however often bytes come: see `check`

    cdef _drain_data(self, bytes data, Py_ssize_t pos):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Body body = self.body
        self.drain_bytes += size - pos
        try:
            while pos < size and not body.done:
                pos = body.feed(data, pos, size)
        except ProtocolError:
            self.close()
            return
        if pos < size or self.drain_bytes > DRAIN_ANSWER_BYTES:
            self.close()
        elif body.done:
            self._drained()

    cdef _drained(self):
        self.state = U_IDLE
        self.last_ns = now_ns()
        self._give_back()

    cdef _give_back(self):
        if isinstance(self.pool, Idle):
            (<Idle>self.pool)._give_back(self)
        else:
            self.pool.release(self)

    cdef bint _judge(self, Exchange x, bytes data, bint has_more) except -1:
        """False when the answer was discarded for what it says, so that nothing of it is handled.

        has_more: bytes came after the answer, so its connection is good for no other.
        """
        cdef bytes payload = self._join_runs(data, 0, self.run_count) if self.run_count else b""
        verdict = x.judge(x, payload, self.body.done)
        if self.exchange is not x:
            if self.state != U_DRAIN:
                return False
            if has_more:
                self.close()
            elif self.body.done:
                self._drained()
            return False
        if verdict or self.body.done:
            x.judge = None
        return True

    cdef bint _interim(self, bytes message) except -1:
        """100 goes on if the client waits for it; other 1xx are dropped (http.client takes 103 for the answer)."""
        cdef Exchange x = self.exchange
        self.interim += 1
        if self.interim > MAX_INTERIM:
            self._broken(_CUT, "bad_answer", "too many interim answers")
            return False
        if self.head.status == 100 and x.wants_continue and x.head.version == 11:
            x.wants_continue = False
            x.client._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    cdef _answer(self, Exchange x):
        """Decide the framing of both sides and build the head that goes to the client."""
        cdef Head head = self.head
        cdef Downstream client = x.client
        cdef unsigned long long drop = ANSWER_DROP
        cdef bytes extra
        cdef bint bodiless = x.method == b"HEAD" or head.status == 204 or head.status == 304
        if head.status == 101:
            self._switch(x)
            return
        if head.status == 407:
            self._broken(_CUT, "bad_answer", "the provider asked for proxy authentication")
            return
        x.status = head.status
        x.answer_head = head
        self.keep_alive = head.keep_alive
        self.in_chunked = False
        if bodiless:
            self.body.begin_none()
        elif head.chunked:
            self.body.begin_chunked()
            self.in_chunked = True
        elif head.content_length >= 0:
            self.body.begin_length(head.content_length)
        else:
            self.body.begin_until_close()
            self.keep_alive = False
        extra = self.hub.owner.on_answer(x)
        if self.exchange is not x:      # the owner answered instead
            return
        if x.sse:
            self.splitter.reset()
            x.units = NO_UNITS
        elif x.units:
            if x.pipe is not None or x.whole is not None or bodiless:
                x.units = NO_UNITS      # what changes it sees to whole units itself
            else:
                self.units = Units(x.units, self.hub.event_bytes)
        client.out_chunked = client.out_close = False
        if head.status == 204:
            drop |= CONTENT_LENGTH_MASK     # RFC 9110 8.6: it must not have one, and a client might wait for the body
        if bodiless:
            x.whole = x.pipe = x.rewrite_end = None
        self.held_bytes = 0
        if x.whole is not None:
            drop |= CONTENT_LENGTH_MASK     # added when it is known
        elif not bodiless and (head.content_length < 0 or x.rewrite is not None or x.pipe is not None):
            drop |= CONTENT_LENGTH_MASK
            if x.head.version == 11:
                client.out_chunked = True
                extra += b"transfer-encoding: chunked\r\n"
            else:
                client.out_close = True
                client.keep_alive = False
        if not client.keep_alive or self.hub.draining or not (x.request_complete or client._can_drain()):
            client.keep_alive = False
            extra += b"connection: close\r\n"
        elif x.head.version == 10:
            extra += b"connection: keep-alive\r\n"
        self.lead = head.build_response(drop | x.drop_mask, extra, x.status)
        x.answer_started = True
        self.state = U_BODY

    cdef _switch(self, Exchange x):
        """101: both connections become a pipe, if the client asked for it."""
        if not x.allow_upgrade or not x.request_complete:
            self._broken(_CUT, "bad_answer", "the provider switched protocols unasked, or before the request had ended")
            return
        x.status = 101
        x.answer_head = self.head
        self.keep_alive = False
        extra = self.hub.owner.on_answer(x)
        if self.exchange is not x:      # the owner answered instead
            return
        upgrade = self.head.get_name(b"upgrade") or b"websocket"
        x.client._write(self.head.build_response(
            ANSWER_DROP | x.drop_mask, extra + b"connection: Upgrade\r\nupgrade: " + upgrade + b"\r\n"))
        x.answer_started = True
        self.state = U_TUNNEL
        x.client.stage = TUNNEL
        if x.client.stash is not None:
            early, x.client.stash = x.client.stash, None
            x.request_bytes += PyBytes_GET_SIZE(early)
            self.transport.write(early)
            if not self.write_paused:
                x.client._resume()

    cdef int _collect(self, bytes data, Py_ssize_t* pos, bint split, bint* raw, Py_ssize_t* cut) except -1:
        """Unframe all of `data`; payload runs go to self.runs. Returns 1, or 0 when it was refused.

        raw: the bytes may leave as they came. cut: (split) where the last whole event ends, inside run `cut_run`;
        -1 when no event ended here.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Body body = self.body
        cdef Exchange x = self.exchange
        cdef Py_ssize_t at
        self.run_count = 0
        cut[0] = -1
        body.reset_clean()
        raw[0] = self.in_chunked == x.client.out_chunked
        while pos[0] < size and not body.done:
            try:
                pos[0] = body.feed(data, pos[0], size)
            except ProtocolError as error:
                self._broken(_CUT, "bad_answer", str(error))
                return 0
            if body.hi == body.lo:
                continue
            if self.canary is not None and self._echoes(data, body.lo, body.hi):
                self._broken(_CUT, "secret_echoed", "the answer contained the credential")
                return 0
            self._add_run(body.lo, body.hi)
            if split:
                if x.sse:
                    at = self.splitter.feed(data, body.lo, body.hi)
                    x.events += self.splitter.events
                else:
                    at = self.units.feed(data, body.lo, body.hi)
                    x.events += self.units.events
                if x.sse and self.splitter.overlong and x.rewrite_end is not None:
                    self._stop_changing(x, "an event of the answer is larger than caps.event_bytes")
                    return 0
                if at != body.hi:
                    raw[0] = False
                if at > body.lo:
                    cut[0] = at
                    self.cut_run = self.run_count - 1
        raw[0] = raw[0] and (not self.in_chunked or body.clean) and not self._is_suspect()
        return 1

    cdef _payload(self, bytes data, Py_ssize_t pos):
        cdef Exchange x = self.exchange
        cdef Py_ssize_t start = pos, cut = -1
        cdef bint raw = False
        if not self._collect(data, &pos, x.sse or self.units is not None, &raw, &cut):
            return
        if x.judge is not None and not self._judge(x, data, pos < PyBytes_GET_SIZE(data)):
            return
        if x.watch is not None and self.run_count:
            self._watched(x, self._join_runs(data, 0, self.run_count))
        if x.sink is not None and self.run_count:
            self._sink_when_judged(x, self._join_runs(data, 0, self.run_count))
            if self.exchange is not x:  # nobody wants the rest
                return
        if x.sse or self.units is not None:
            self._emit_events(x, data, start, pos, raw, cut)
        else:
            self._emit_runs(x, data, start, pos, raw)
        if self.exchange is x and self.body.done:
            if pos < PyBytes_GET_SIZE(data):
                self.keep_alive = False      # bytes after the answer: never into the next one
            self._done()

    cdef bint _watched(self, Exchange x, bytes piece) except -1:
        """What the watch says; one that fails has nothing to say any more."""
        try:
            return x.watch(x, piece)
        except Exception:
            x.watch = None
            return True

    cdef _add_run(self, Py_ssize_t lo, Py_ssize_t hi):
        cdef Run* grown
        if self.run_count == self.run_cap:
            self.run_cap = 16 if self.run_cap == 0 else self.run_cap * 2
            grown = <Run*>realloc(self.runs, self.run_cap * sizeof(Run))
            if grown == NULL:
                raise MemoryError
            self.runs = grown
        self.runs[self.run_count].lo = lo
        self.runs[self.run_count].hi = hi
        self.run_count += 1

    cdef bytes _join_runs(self, bytes data, Py_ssize_t first, Py_ssize_t last):
        """The payload of runs first..last-1 as one object; `data` itself where it is all payload."""
        cdef Py_ssize_t i
        if last - first == 1:
            i = first
            if self.runs[i].lo == 0 and self.runs[i].hi == PyBytes_GET_SIZE(data):
                return data
            return cut(data, self.runs[i].lo, self.runs[i].hi)
        return b"".join([cut(data, self.runs[i].lo, self.runs[i].hi) for i in range(first, last)])

    cdef _emit_runs(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw):
        """Pass on an answer that is not a stream of events."""
        cdef Py_ssize_t i
        if self.run_count and x.first_event_ns == 0:
            x.first_event_ns = self.last_ns
        for i in range(self.run_count):
            x.answer_bytes += self.runs[i].hi - self.runs[i].lo
            if x.tap_body:
                x._tap_keep(data, self.runs[i].lo, self.runs[i].hi)
        if x.whole is not None:
            if self.run_count:
                self._collect_whole(x, self._join_runs(data, 0, self.run_count))
        elif x.pipe is not None:
            if self.run_count:
                changed = self._changed(x, (x, self._join_runs(data, 0, self.run_count), False), x.pipe)
                if changed is not None:
                    self._emit(changed)
        elif raw:
            self._push_raw(data, start, pos)
        elif self.run_count:
            self._emit(self._join_runs(data, 0, self.run_count))

    cdef _emit_events(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw, Py_ssize_t cut):
        """Pass on whole events; keep the unfinished one."""
        cdef Py_ssize_t i
        cdef bint hit = False
        cdef bytes whole
        if x.first_event_ns == 0 and x.events:
            x.first_event_ns = self.last_ns
        for i in range(self.run_count):
            x.answer_bytes += self.runs[i].hi - self.runs[i].lo
            if x.tap_body:              # as it came, before any rewriting
                x._tap_keep(data, self.runs[i].lo, self.runs[i].hi)
        if raw and self.held is None:
            if x.tap_needle is not None:
                for i in range(self.run_count):
                    if x._tap_find(data, self.runs[i].lo, self.runs[i].hi):
                        hit = True
            if x.rewrite is None or not (hit or x.rewrite_all):
                self._push_raw(data, start, pos)
                return
            if self.run_count:
                self._emit_rewritten(x, self._join_runs(data, 0, self.run_count))
            return
        if self.run_count == 0:
            return
        if cut < 0:
            self._hold(data, 0)
            return
        whole = self._split_held(data, cut)
        if x.tap_needle is not None:
            hit = x._tap_find(whole, 0, PyBytes_GET_SIZE(whole))
        if x.rewrite is not None and (hit or x.rewrite_all):
            self._emit_rewritten(x, whole)
        else:
            self._emit(whole)

    cdef _hold(self, bytes data, Py_ssize_t first):
        """Keep runs first.. as the start of an unfinished event; an overlong one passes on unread."""
        cdef bytes piece
        if first >= self.run_count:
            return
        piece = self._join_runs(data, first, self.run_count)
        if self.held is None:
            self.held = [piece]
        else:
            _gather(self.held, piece)

    cdef bytes _split_held(self, bytes data, Py_ssize_t cut):
        """What was held and everything up to `cut`, as one object; what follows `cut` is held instead."""
        cdef Py_ssize_t at = self.cut_run, hi = self.runs[at].hi
        pieces = self.held if self.held is not None else []
        self.held = None
        self.runs[at].hi = cut
        pieces.append(self._join_runs(data, 0, at + 1))
        if cut < hi:
            self.runs[at].lo, self.runs[at].hi = cut, hi
            self._hold(data, at)
        else:
            self._hold(data, at + 1)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    cdef _emit_rewritten(self, Exchange x, bytes whole):
        cdef bytes changed = self._changed(x, (x, whole), x.rewrite)
        if changed is not None:
            self._emit(changed)

    cdef bytes _changed(self, Exchange x, tuple arguments, function):
        """What the function makes of it; None when it raised: then nothing of the answer goes on."""
        try:
            return function(*arguments)
        except Exception as error:
            x.failure = error
            self._stop_changing(x, "the answer could not be changed as a rule wants it")
            return None

    cdef _stop_changing(self, Exchange x, str detail):
        """Nothing more of the answer goes on. Where some of it has, `last_words` follow, and then its proper end."""
        cdef Downstream client = x.client
        cdef bytes words
        if x.last_words is None or not x.answer_started or self.lead is not None or not (
                client.out_chunked or client.out_close):
            self._broken(_CUT, "withheld", detail)
            return
        words = x.last_words(x, x.failure)
        if client.out_chunked:
            words = b"%x\r\n%b\r\n0\r\n\r\n" % (PyBytes_GET_SIZE(words), words)
        if x.must_close:
            client.keep_alive = False
        if x.holds_end:
            x._keep_tail(words)
        else:
            client._write(words)
        self.held = None
        self._detach()
        self.close()
        x._finish(_ANSWERED, detail)

    cdef bint _collect_whole(self, Exchange x, bytes data) except -1:
        """Keep a piece of an answer that is changed as a whole; False when it grew too large."""
        if self.held is None:
            self.held = []
        _gather(self.held, data)
        self.held_bytes += PyBytes_GET_SIZE(data)
        if self.held_bytes > x.whole_cap:
            self.held = None
            self._broken(_CUT, "withheld", "the answer is larger than caps.held_body_bytes, so it cannot be changed")
            return False
        return True

    cdef bint _finish_changed(self, Exchange x) except -1:
        """The end of an answer that is changed on its way; False when that failed."""
        cdef bytes rest = b"".join(self.held) if self.held is not None else b""
        cdef bytes changed, lead
        self.held = None
        if x.whole is not None:
            changed = self._changed(x, (x, rest), x.whole)
            if changed is None:
                return False
            lead = self.lead
            self.lead = lead[:PyBytes_GET_SIZE(lead) - 2] + b"content-length: %d\r\n%b\r\n" % (
                PyBytes_GET_SIZE(changed), x.late_lines if x.late_lines is not None else b"")
            self._push(changed)
            return True
        if x.pipe is not None:
            changed = self._changed(x, (x, b"", True), x.pipe)
        else:
            changed = self._changed(x, (x, rest), x.rewrite_end)
        if changed is None:
            return False
        self._emit(changed)
        return True

    cdef _emit(self, bytes payload):
        """Write payload in the client's framing."""
        if self._is_suspect():
            payload = self._withhold(payload, self.body.done)
        if not PyBytes_GET_SIZE(payload):
            return
        if self.exchange.client.out_chunked:
            self._push(b"%x\r\n%b\r\n" % (PyBytes_GET_SIZE(payload), payload))
        else:
            self._push(payload)

    cdef _push_raw(self, bytes data, Py_ssize_t start, Py_ssize_t pos):
        """Write data[start:pos] with the framing it came in."""
        if pos == start:
            return
        if self.in_chunked and self.body.done:
            self.end_sent = True
        if start == 0 and pos == PyBytes_GET_SIZE(data):
            self._push(data)
        else:
            self._push(cut(data, start, pos))

    cdef _push(self, bytes wire):
        cdef bytes lead = self.lead
        cdef Exchange x = self.exchange
        cdef Downstream client = x.client
        if x.judge is not None:
            if self.early is None:
                self.early = []
            self.early.append(wire)
            return
        if self.early is not None:
            self.early.append(wire)
            wire = b"".join(self.early)
            self.early = None
        if x.holds_end and self.body.done:
            if lead is not None:
                self.lead = None
                x._keep_tail(lead)
            if PyBytes_GET_SIZE(wire):
                x._keep_tail(wire)
            return
        if lead is not None:
            self.lead = None
            if PyBytes_GET_SIZE(wire) <= JOIN_BYTES:
                wire = lead + wire
            else:
                client._write(lead)
        client._write(wire)

    cdef _done(self):
        """The answer is complete: flush, give the connection back, end the exchange."""
        cdef Exchange x = self.exchange
        cdef bytes tail
        self.run_count = 0
        if x.judge is not None and not self._judge(x, b"", False):
            return
        if x.sink is not None:
            self._sink(x, b"")
            if self.exchange is not x:
                return
        if x.whole is not None or x.pipe is not None or x.rewrite_end is not None:
            if not self._finish_changed(x):
                return
        elif self.held is not None:
            tail = b"".join(self.held)
            self.held = None
            if x.tap_needle is not None:
                x._tap_find(tail, 0, PyBytes_GET_SIZE(tail))
            self._emit(tail)
        if self.withheld is not None:
            self._emit(b"")
        if x.client.out_chunked and not self.end_sent:
            self._push(b"0\r\n\r\n")
        elif self.lead is not None:
            self._push(b"")
        reusable = self.keep_alive and x.request_complete and not self.eof and not self.closed
        self._detach()
        if reusable:
            self._give_back()
        else:
            self.close()
        x._finish(_OK, None)

    cdef _detach(self):
        cdef Exchange x = self.exchange
        self.exchange = None
        self.state = U_IDLE
        self.canary = self.carry = self.withheld = self.sunk = None
        self.stash = None
        self._resume()
        if x is not None:
            x.upstream = None

    cdef _broken(self, int outcome, str kind, str detail):
        """The provider failed this exchange: before its answer the owner decides, after it the client is cut off."""
        cdef Exchange x = self.exchange
        cdef list held = self.held
        if x is None:
            return
        if x.rival is not None:          # the other one may still answer
            x._leave(self)
            self.hub.owner.on_race_lost(x, self, kind, detail)
            return
        if x.answer_started and self.lead is not None:
            x.answer_started = False     # built, never written: there is still an answer to give
            self.early = None
        elif x.answer_started and self.state == U_BODY and self._mend(x, kind, detail):
            pass
        elif held is not None and kind != "secret_echoed" and x.rewrite_end is None:
            self.held = None
            self._emit(b"".join(held))
        self.lead = None
        self.held = None
        self._detach()
        self.close()
        if x.ended:
            return
        if x.answer_started:
            x._finish(outcome, detail)
        else:
            self.hub.owner.on_failed(x, kind, detail)

    cdef bint _is_overlong(self):
        return self.units.overlong if self.units is not None else self.splitter.overlong

    cdef bint _mend(self, Exchange x, str kind, str detail) except -1:
        """End a broken stream with an event that says so; an unfinished event before it is dropped."""
        cdef Downstream client = x.client
        cdef bytes event
        if not (x.sse or self.units is not None or x.pipe is not None) or self.end_sent or client.closed or not (
                client.out_chunked or client.out_close):
            return False
        if x.pipe is None and self._is_overlong():      # a pipe gives whole units, whatever it takes
            return False
        event = self.hub.owner.on_cut(x, kind, detail)
        if event is None or x.ended:
            return False
        self.held = None
        self.withheld = self.carry = None
        if client.out_chunked:
            event = b"%x\r\n%b\r\n0\r\n\r\n" % (PyBytes_GET_SIZE(event), event)
        x.mended = True
        if x.holds_end:
            x._keep_tail(event)
        else:
            client._write(event)
        return True

    cdef bint _is_suspect(self):
        """Whether something is withheld, or what came last could be the beginning of the secret."""
        return self.withheld is not None or (
            self.carry is not None and PyBytes_GET_SIZE(self.carry) >= PREFIX_BYTES)

    cdef bytes _withhold(self, bytes payload, bint is_last):
        """What may go on now, with what was withheld before it; the secret's possible beginning waits."""
        cdef Py_ssize_t size, count
        if self.withheld is not None:
            payload = self.withheld + payload
            self.withheld = None
        if is_last or self.carry is None:
            return payload
        size = PyBytes_GET_SIZE(payload)
        count = min(PyBytes_GET_SIZE(self.carry), size)
        if count == 0 or not payload.endswith(self.carry[PyBytes_GET_SIZE(self.carry) - count:]):
            return payload
        self.withheld = payload[size - count:]
        return payload[:size - count]

    cdef _sink_when_judged(self, Exchange x, bytes piece):
        """What may yet be discarded waits: a copy that others have been given cannot be taken back."""
        if x.judge is None:
            self._sink(x, piece)
        else:
            self.sunk = piece if self.sunk is None else self.sunk + piece

    cdef _sink(self, Exchange x, bytes piece):
        """Give it to the sink, b"" for the end; what could begin the secret waits as it does for the client."""
        cdef Py_ssize_t size, count
        cdef bint is_end = not PyBytes_GET_SIZE(piece)
        if self.sunk is not None:
            piece, self.sunk = self.sunk + piece, None
        if not is_end and self.carry is not None:
            size = PyBytes_GET_SIZE(piece)
            count = min(PyBytes_GET_SIZE(self.carry), size)
            if count and piece.endswith(self.carry[PyBytes_GET_SIZE(self.carry) - count:]):
                self.sunk = piece[size - count:]
                piece = piece[:size - count]
        try:
            if PyBytes_GET_SIZE(piece):
                x.sink(x, piece)
            if is_end and x.sink is not None:
                x.sink(x, b"")
        except Exception as error:      # it is only a copy: the client's answer goes on
            x.failure = error
            x.sink = None

    cdef bint _echoes(self, bytes data, Py_ssize_t lo, Py_ssize_t hi) except -1:
        """Whether the injected secret stands in data[lo:hi], or is completed there from the run before."""
        cdef const char* secret = PyBytes_AS_STRING(self.canary)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.canary)
        cdef const char* base
        cdef const char* begun
        cdef Py_ssize_t length
        if self.carry is not None:
            data = self.carry + data[lo:hi]
            self.carry = None
            lo, hi = 0, PyBytes_GET_SIZE(data)
        base = PyBytes_AS_STRING(data)
        if hi - lo >= size and holds(base + lo, hi - lo, secret, size):
            return True
        # A suffix that begins the secret waits for the next run; mostly there is none.
        begun = base + hi - min(size - 1, hi - lo)
        while begun < base + hi:
            begun = <const char*>memchr(begun, secret[0], base + hi - begun)
            if begun == NULL:
                break
            length = base + hi - begun
            if memcmp(begun, secret, length) == 0:
                self.carry = self.canary[:length]
                break
            begun += 1
        return False

    cdef void _pause(self):
        if not self.read_paused and self.transport is not None and not self.closed:
            self.read_paused = True
            self.transport.pause_reading()

    cdef void _resume(self):
        if self.read_paused and self.transport is not None and not self.closed:
            self.read_paused = False
            self.transport.resume_reading()

    def check(self, long long now):
        """Deadlines of the provider's side."""
        cdef Exchange x = self.exchange
        cdef Hub hub = self.hub
        cdef long long since
        if self.closed:
            if self.transport is not None and now - self.last_ns > DISCARD_NS:
                self.transport.abort()
            return
        if x is None:
            if now - self.last_ns > (DRAIN_NS if self.state == U_DRAIN else hub.pool_idle_ns):
                self.close()
        elif self.state == U_HEAD:
            since = max(self.last_ns, x.sent_ns)
            if not x.request_complete:
                since = max(since, x.client.last_ns)
            if now - since > hub.first_byte_ns:
                self._broken(_TIMED_OUT, "timeout", f"no answer within {hub.first_byte_ns // 1_000_000_000} s")
        elif self.state == U_BODY:
            since = x.idle_ns if x.idle_ns else hub.stream_idle_ns
            if not self.read_paused and now - self.last_ns > since:
                self._broken(_TIMED_OUT, "timeout", f"silent for {since // 1_000_000_000} s")
        elif now - max(self.last_ns, x.client.last_ns) > hub.stream_idle_ns:
            x.client._close()
