# Part of relay.pyx: one request and its answer.

cdef class Exchange:
    """One request and its answer. `forward`, `answer` and `hold` are the owner's; all else is read."""

    def __cinit__(self):
        self.status = 0
        self.outcome = -1

    @property
    def must_close(self):
        """Whether the connection to the client has to close after an answer given now."""
        return not self.client.keep_alive or self.client.hub.draining or not (
            self.request_complete or self.client._can_drain())

    @property
    def version(self):
        return self.head.version

    def hold(self, Py_ssize_t cap):
        """Collect the request's body, up to `cap` bytes, before anything is sent; `on_body` follows."""
        self.holding = True
        self.hold_cap = cap
        if self.pending_bytes > cap:
            self._overflow()
            return
        if self.request_complete:   # all of it came while something else was waited for
            self._request_done()
            return
        if self.wants_continue:
            self.wants_continue = False
            self.client._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client._resume()       # paused if more came before this was asked than waits for a connection

    def forward(self, Upstream upstream, bytes head, bytes body, bytes canary):
        """Send the request: `head` as it is, then `body`, or (None) the client's body as it arrives.

        `canary` is the credential inside `head`: an answer that contains it is not passed on.
        """
        cdef bytes piece
        if self.ended:
            upstream.release()
            return
        self.waiter = None
        self.holding = False
        if self.answer_head is not None:        # of an attempt before this one
            self._forget_answer()
        if upstream.closed:             # between being handed out and now; nothing was sent, so it may be sent again
            self.replayable = True
            self.client.hub.owner.on_failed(self, "stale", "closed before the request was sent")
            return
        self.upstream = upstream
        upstream._attach(self, canary)
        self.sent_ns = now_ns()
        if body is not None:
            self.replayable = True
            if PyBytes_GET_SIZE(body) == 0:
                upstream.transport.write(head)
            elif PyBytes_GET_SIZE(body) <= JOIN_BYTES:
                upstream.transport.write(head + body)
            else:
                upstream.transport.write(head)
                upstream.transport.write(body)
            return
        self.replayable = False
        upstream.transport.write(head)
        pieces, self.pending, self.pending_bytes = self.pending, None, 0
        if pieces:
            for piece in pieces:
                self._send_body(piece)
        if self.request_complete:
            self._send_body_end()
        if not upstream.write_paused:
            self.client._resume()

    def race(self, Upstream upstream, bytes head, bytes body, bytes canary):
        """Send it on a second connection as well; False when it is too late for that. The first that answers counts."""
        if self.ended or upstream.closed or self.rival is not None or self.upstream is None or (
                self.upstream.state != U_HEAD or not self.replayable):
            upstream.release()
            return False
        self.rival = upstream
        upstream._attach(self, canary)
        upstream.transport.write(head + body if PyBytes_GET_SIZE(body) <= JOIN_BYTES else head)
        if PyBytes_GET_SIZE(body) > JOIN_BYTES:
            upstream.transport.write(body)
        return True

    def discard(self):
        """Nothing of the answer in hand is passed on; the exchange may be forwarded anew, or answered.

        Its connection is kept where the rest of the answer ends soon, and nothing of the request is still to be sent.
        """
        cdef Upstream upstream = self.upstream
        if self.ended or upstream is None:
            return
        if self.answer_head is None or not self.request_complete:
            self.drop()
            return
        self.upstream = None
        self._forget_answer()
        upstream._drain()

    def drop(self):
        """Close what it is being served by: nothing of an answer went on, and it may be forwarded anew, or answered."""
        if self.ended:
            return
        self._drop_upstream()
        self._forget_answer()

    cdef _forget_answer(self):
        self.status = 0
        self.answer_head = None
        self.answer_started = False
        self.answer_bytes = 0
        self.drop_mask = 0
        self.sse = self.tap_body = self.tap_truncated = self.rewrite_all = False
        self.tap_needle = self.first_hit = self.last_hit = None
        self.rewrite = self.rewrite_end = self.pipe = self.whole = self.decoder = self.judge = None
        self.sink = self.last_words = self.watch = None
        self.late_lines = None
        self.failure = None
        self.tapped = None
        self.tapped_bytes = 0
        self.inflated_bytes = 0
        self.events = self.units = 0
        self.head_ns = self.first_event_ns = 0

    cdef _send_body(self, bytes piece):
        if self.head.chunked:
            self.upstream.transport.write(b"%x\r\n%b\r\n" % (PyBytes_GET_SIZE(piece), piece))
        else:
            self.upstream.transport.write(piece)

    cdef _send_body_end(self):
        if self.head.chunked:
            self.upstream.transport.write(b"0\r\n\r\n")

    def answer(self, bytes message, int status):
        """Answer the client ourselves with a whole message; the exchange ends.

        `message` carries `connection: close` where `must_close` says so.
        """
        cdef bint close = self.must_close
        if self.ended:
            return
        self.status = status
        self.waiter = None
        self._drop_upstream()
        if close:
            self.client.keep_alive = False
        if self.holds_end:
            self._keep_tail(message)
        else:
            self.client._write(message)
        self.answer_started = True
        self._finish(_ANSWERED, None)

    def replay(self, Upstream source, long long sent_ns=0):
        """Answer from `source`, whose bytes we give ourselves: whatever an answer passes it passes too.

        What a provider had begun to answer is dropped. `source` has a transport, and is in no pool and no list of the
        hub's: its giver hears of back-pressure, and of a client that leaves, by that transport. sent_ns: when a provider
        was asked for this exchange, among others; 0 where none was.
        """
        if self.ended or self.answer_started:
            return
        self.waiter = None
        self.holding = False
        self.pending = None
        self.pending_bytes = 0
        self._drop_upstream()
        self._forget_answer()
        if sent_ns:
            self.sent_ns = sent_ns
        self.upstream = source
        source._attach(self, None)

    def twin(self, bytes head_data=None, bytes body=None):
        """The same request once more, of a client that is not there: to be sent by the owner, who hears of its end.

        head_data, body: another request instead, which has nothing of this one. Raises: ProtocolError.
        """
        cdef Downstream nobody = Downstream(self.client.hub, self.client.origin)
        cdef Exchange x = Exchange.__new__(Exchange)
        cdef Head head = Head()
        if head_data is None:
            head.scan_request(self.head.data, self.head.start, self.client.hub.head_bytes)
        else:
            head.scan_request(head_data, 0, self.client.hub.head_bytes)
        nobody.closed = True
        nobody.exchange = x
        nobody.stage = WAIT
        x.client = nobody
        x.head = head
        x.method, x.target = head.method, head.target
        x.body = self.body if head_data is None else body
        x.request_bytes = self.request_bytes if head_data is None else PyBytes_GET_SIZE(body)
        x.request_complete = x.body_complete = x.orphaned = True
        x.started_ns = now_ns()
        nobody.hub.exchanges += 1
        return x

    def abort(self, str detail):
        """End it without an answer; the connection to the client is reset."""
        if self.ended:
            return
        self._drop_upstream()
        client = self.client
        self._finish(_CUT, detail)
        client._reset()

    cpdef tuple take_tapped(self):
        """(bytes of the answer's body that were kept, whether some in the middle were not)."""
        if self.tapped is None:
            return b"", False
        data = self.tapped[0] if len(self.tapped) == 1 else b"".join(self.tapped)
        return data, self.tap_truncated

    cdef _drop_upstream(self):
        cdef Upstream upstream = self.upstream, rival = self.rival
        self.upstream = self.rival = None
        if upstream is not None:
            upstream.exchange = None
            upstream.close()
        if rival is not None:
            rival.exchange = None
            rival.close()

    cdef _leave(self, Upstream upstream):
        """Of two connections this one does not serve it any more."""
        if self.upstream is upstream:
            self.upstream = self.rival
        self.rival = None
        upstream.exchange = None
        upstream.close()

    cdef void _request_run(self, bytes data, Py_ssize_t lo, Py_ssize_t hi):
        cdef bytes piece = cut(data, lo, hi)
        self.request_bytes += hi - lo
        if self.upstream is not None:
            self._send_body(piece)
            return
        if self.pending is None:
            self.pending = []
        _gather(self.pending, piece)
        self.pending_bytes += hi - lo
        if self.holding:
            if self.pending_bytes > self.hold_cap:
                self._overflow()
        elif self.pending_bytes > self.client.hub.buffer_bytes:
            self.client._pause()

    cdef _overflow(self):
        self.holding = False
        self.body = None
        self.client.hub.owner.on_body(self)

    cdef _request_done(self):
        self.request_complete = True
        if self.upstream is not None:
            self._send_body_end()
        elif self.holding:
            self.holding = False
            self.body = b"".join(self.pending) if self.pending else b""
            self.body_complete = True
            self.pending = None
            self.pending_bytes = 0
            self.client.hub.owner.on_body(self)

    cdef void _tap_keep(self, bytes data, Py_ssize_t lo, Py_ssize_t hi):
        """Keep a copy of the body for the end: all of it up to the cap, beyond it both ends."""
        cdef bytes piece
        if hi <= lo:
            return
        if lo == 0 and hi == PyBytes_GET_SIZE(data):
            piece = data
        else:
            piece = cut(data, lo, hi)
        if self.decoder is not None:
            piece = self._inflate(piece)
            if piece is None:  # not what content-encoding said, or a bomb: nothing to read, and nothing to stop
                self.decoder = None
                self.tap_body = False
                self.tapped = None
                return
        if self.tapped is None:
            self.tapped = [piece]
            self.tapped_bytes = PyBytes_GET_SIZE(piece)
            return
        _gather(self.tapped, piece)
        self.tapped_bytes += PyBytes_GET_SIZE(piece)
        if self.tapped_bytes > self.client.hub.usage_bytes:
            flat = b"".join(self.tapped)
            self.tap_truncated = True
            self.tapped = [flat[:TAP_ENDS_BYTES], b"\n", flat[len(flat) - TAP_ENDS_BYTES:]]
            self.tapped_bytes = 2 * TAP_ENDS_BYTES

    cdef bytes _inflate(self, bytes piece):
        """The next bytes of the tap's copy, or None when it cannot or should not be unpacked."""
        cdef long long allowed = (
            self.client.hub.usage_bytes + INFLATED_RATIO * self.answer_bytes - self.inflated_bytes)
        cdef bytes plain
        if allowed <= 0:
            return None
        try:
            plain = self.decoder.decompress(piece, allowed)
        except Exception:
            return None
        if self.decoder.unconsumed_tail:
            return None
        if self.decoder.eof:            # zlib would collect all that follows in unused_data
            self.decoder = None
            self.tap_body = False
        self.inflated_bytes += PyBytes_GET_SIZE(plain)
        return plain

    cdef bint _tap_find(self, bytes data, Py_ssize_t lo, Py_ssize_t hi):
        """Whether the run holds the needle with a value that is not null; the first and the last such are kept."""
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef const char* needle = PyBytes_AS_STRING(self.tap_needle)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.tap_needle)
        cdef Py_ssize_t at = lo
        cdef char* found
        while at < hi:
            found = <char*>memmem(base + at, hi - at, needle, size)
            if found == NULL:
                return False
            at = (found - base) + size
            while at < hi and (base[at] == c" " or base[at] == c":"):
                at += 1
            if at >= hi or base[at] != c"n":
                piece = data if lo == 0 and hi == PyBytes_GET_SIZE(data) else cut(data, lo, hi)
                if self.first_hit is None:
                    self.first_hit = piece
                self.last_hit = piece
                return True
        return False

    cdef _finish(self, int outcome, str detail):
        if self.ended:
            return
        cdef Downstream client = self.client
        if self.orphaned and client.exchange is not self:
            outcome, detail = _CLIENT_GONE, "client left"
        self.ended = True
        self.outcome = outcome
        self.detail = detail
        self.sink = self.watch = None
        self.ended_ns = now_ns()
        self.pending = None
        client.hub.exchanges -= 1
        try:
            client.hub.owner.on_end(self)
        finally:
            self.first_hit = self.last_hit = None
            self.tapped = None
            self.body = None
            if client.exchange is not self:
                self.tail = None
            elif not self.holds_end or (not self.mended and (outcome == _CUT or outcome == _TIMED_OUT)):
                client._next()
            else:                       # the client's connection stays with this exchange until it is let go
                client.hub.waiting.append(self)
                if len(client.hub.waiting) == 1:
                    client.hub.on_waiting()

    cdef _keep_tail(self, bytes wire):
        if self.tail is None:
            self.tail = [wire]
        else:
            self.tail.append(wire)
