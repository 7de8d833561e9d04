# Part of relay.pyx: the app's side.

cdef class Downstream:
    """A client's connection. `origin` says how it came in; the owner reads it."""

    def __init__(self, Hub hub, origin):
        self.hub = hub
        self.origin = origin
        self.head = Head()
        self.body = Body()
        self.stage = IDLE
        self.last_ns = now_ns()

    # -- transport callbacks --

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(self.hub.buffer_bytes)
        self.hub.clients.add(self)
        self.last_ns = now_ns()

    def data_received(self, bytes data):
        cdef Py_ssize_t pos
        cdef Exchange x
        self.last_ns = now_ns()
        if self.stage == IDLE:
            if self.stash is not None:
                data = self.stash + data
                self.stash = None
            self._run_requests(data, 0)
        elif self.stage == BODY:
            pos = self._request_body(data, 0)
            if pos < PyBytes_GET_SIZE(data) and not self.closed:
                if self.stage == IDLE and self.exchange is None:
                    self._run_requests(data, pos)
                else:
                    self._keep(data, pos)
        elif self.stage == TUNNEL:
            x = self.exchange
            if x is not None and x.upstream is not None:
                x.request_bytes += PyBytes_GET_SIZE(data)
                x.upstream.transport.write(data)
        elif self.stage == WAIT:
            self._keep(data, 0)

    def eof_received(self):
        cdef Exchange x = self.exchange
        if self.stage == TUNNEL or self.stage == DISCARD or x is None or not x.request_complete:
            return False
        if self.transport.get_extra_info("sslcontext") is not None:
            return False                # TLS transports cannot be kept half open
        # The request is whole: a half-closed client may still read its answer (RFC 9112 9.6), and those to what
        # it pipelined. Whether it is there at all is asked of the kernel by the owner.
        self.half_closed = True
        return not self.hub.owner.is_gone(self)

    def connection_lost(self, exc):
        cdef Exchange x = self.exchange
        self.closed = True
        self.hub.clients.discard(self)
        self.exchange = None
        self.stash = None
        if x is not None and not x.ended and x.goes_on and x.upstream is not None and self.stage != TUNNEL:
            x.orphaned = True
            self.write_paused = False
            x.upstream._resume()
        elif x is not None and not x.ended:
            waiter = x.waiter
            x.waiter = None
            if waiter is not None:
                waiter.cancel()
            tunnelled = self.stage == TUNNEL
            if tunnelled and x.upstream is not None:
                x.upstream._close_gently()
            x._drop_upstream()
            x._finish(_OK if tunnelled else _CLIENT_GONE, None if tunnelled else "client left")
        self.transport = None
        self.hub.owner.on_client_closed(self)

    def pause_writing(self):
        cdef Exchange x = self.exchange
        self.write_paused = True
        self.paused_ns = now_ns()
        if x is None:
            if self.stage == IDLE:
                self._pause()
        elif x.upstream is not None:
            x.upstream._pause()

    def resume_writing(self):
        cdef Exchange x = self.exchange
        self.write_paused = False
        if x is not None:
            if x.upstream is not None:
                x.upstream.last_ns = now_ns()
                x.upstream._resume()
        elif self.stage == IDLE and not self.processing:
            self._go_on()

    # -- requests --

    cdef _keep(self, bytes data, Py_ssize_t pos):
        """Bytes after the message in hand: kept for their turn; beyond the cap the peer is not read."""
        rest = data[pos:] if pos else data
        self.stash = rest if self.stash is None else self.stash + rest
        if PyBytes_GET_SIZE(self.stash) > self.hub.buffer_bytes:
            self._pause()

    cdef _run_requests(self, bytes data, Py_ssize_t pos):
        if self.processing:
            self._keep(data, pos)
            return
        self.processing = True
        try:
            while True:
                self._requests(data, pos)
                # An answer given at once leaves what follows in the stash: a loop, not a recursion.
                if self.closed or self.stage != IDLE or self.exchange is not None or self.head_since_ns:
                    break
                if self.write_paused:        # its answers are not read: nor is what it asks next
                    self._pause()
                    break
                if self.stash is None:
                    break
                data, pos, self.stash = self.stash, 0, None
                self._resume()
        finally:
            self.processing = False
        self._close_if_unfinished()

    cdef _go_on(self):
        """Read again, and begin with what waits."""
        cdef bytes data = self.stash
        self.stash = None
        self._resume()
        if data is not None:
            self._run_requests(data, 0)

    cdef _close_if_unfinished(self):
        """A half-closed client has said all that it will: what is not whole now never will be."""
        if not self.half_closed or self.closed:
            return
        if self.exchange is not None:
            if not self.exchange.request_complete:
                self._close()
        elif self.stash is None or self.head_since_ns:
            self._close()

    cdef _requests(self, bytes data, Py_ssize_t pos):
        cdef Py_ssize_t end, size = PyBytes_GET_SIZE(data)
        cdef Exchange x
        cdef Head head = self.head
        cdef long long began
        if pos >= size:
            return
        try:
            end = head.scan_request(data, pos, self.hub.head_bytes)
        except ProtocolError as error:
            self._refuse(error)
            return
        if end == 0:
            if self.head_since_ns == 0:
                self.head_since_ns = self.last_ns
            self.stash = data[pos:] if pos else data
            return
        self.head_since_ns = 0
        began = now_ns()
        x = Exchange.__new__(Exchange)
        x.client = self
        x.head = head
        x.method = head.method
        x.target = head.target
        x.started_ns = began
        x.wants_continue = head.expect_continue
        self.keep_alive = head.keep_alive
        self.exchange = x
        self.served += 1
        self.out_chunked = self.out_close = False
        self.hub.exchanges += 1
        if head.chunked:
            self.body.begin_chunked()
            self.stage = BODY
        elif head.content_length > 0:
            if size - end >= head.content_length:
                x.body = cut(data, end, end + head.content_length)
                x.request_bytes = head.content_length
                x.request_complete = x.body_complete = True
                end += head.content_length
                self.stage = WAIT
            else:
                self.body.begin_length(head.content_length)
                self.stage = BODY
        else:
            x.body = b""
            x.request_complete = x.body_complete = True
            self.stage = WAIT
        if end < size:
            # Kept before the owner decides: an answer given at once goes on with it.
            if self.stage == WAIT:
                self._keep(data, end)
                end = size
        self.hub.owner.on_request(x)
        if not x.ended:       # what it waits for from here on is a peer: a connection, a body, a queue
            x.inside_ns += (x.sent_ns or now_ns()) - began
        if end < size and not self.closed:
            end = self._request_body(data, end)
            if end < size and not self.closed:
                self._keep(data, end)

    cdef Py_ssize_t _request_body(self, bytes data, Py_ssize_t pos):
        """Feed body bytes to the exchange; returns where the body (or the data) ended."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Body body = self.body
        cdef Exchange x
        while pos < size and self.stage == BODY:
            try:
                pos = body.feed(data, pos, size)
            except ProtocolError as error:
                self._refuse(error)
                return size
            x = self.exchange
            if body.hi > body.lo and x is not None and not x.ended:
                x._request_run(data, body.lo, body.hi)
            if self.closed:
                return size
            if body.done:
                x = self.exchange
                if x is None:
                    self.stage = IDLE        # the rest of a refused request: read, dropped, done
                else:
                    self.stage = WAIT
                    x._request_done()
                break
        return pos

    cdef _refuse(self, object error):
        """The head or the body breaks the protocol: answer if nothing was answered yet, and close."""
        cdef Exchange x = self.exchange
        message = self.hub.owner.on_bad_request(self, error.status, str(error))
        self.keep_alive = False
        self.stash = None
        if x is not None and not x.ended:
            x._drop_upstream()
            waiter, x.waiter = x.waiter, None
            if waiter is not None:
                waiter.cancel()
            if x.answer_started:
                x._finish(_CUT, str(error))
                return
            if x.holds_end:
                x._keep_tail(message)
            else:
                self._write(message)
            x.status = error.status
            x.answer_started = True
            x._finish(_ANSWERED, str(error))
        elif x is not None and x.holds_end:
            pass        # its answer waits to be let go: nothing may overtake it, and the connection closes after it
        else:
            self._write(message)
            self._discard_then_close()

    cdef bint _can_drain(self):
        return (self.stage == BODY and not self.head.chunked and not self.head.expect_continue
                and self.head.content_length - self.body.received <= DRAIN_BYTES)

    cdef _next(self):
        """The exchange ended: close, or go on with the next request."""
        cdef Exchange x = self.exchange
        self.exchange = None
        if self.closed:
            return
        if x.outcome == _CUT or x.outcome == _TIMED_OUT:
            if x.answer_started and self.out_close:
                self._reset()       # closing would look like the answer's end
            else:
                self._close()
            return
        if self.stage == TUNNEL or self.out_close:
            self._close()
            return
        if self.stage == BODY:
            if self.keep_alive and self._can_drain():
                self._resume()
            else:
                self._discard_then_close()
            return
        if not self.keep_alive or self.hub.draining:
            if self.half_closed or x.request_complete:
                self._close()
            else:
                self._discard_then_close()
            return
        self.stage = IDLE
        self.last_ns = x.ended_ns
        if self.processing:
            return
        if self.half_closed and self.stash is None:
            self._close()
        elif self.write_paused:
            self._pause()
        else:
            self._go_on()

    cdef _let_go(self, Exchange x, bint is_cut):
        """The end of an exchange that waited: its last bytes, then the next request."""
        cdef bytes wire
        tail, x.tail = x.tail, None
        if self.exchange is not x or self.closed:      # the client left meanwhile
            return
        if is_cut:
            self.exchange = None
            self._reset()
            return
        if tail is not None:
            if len(tail) == 1:
                self._write(tail[0])
            else:
                self._write(b"".join(tail))
        self._next()

    # -- the wire --

    cdef _write(self, bytes data):
        if not self.closed and self.transport is not None:
            self.transport.write(data)

    cdef _discard_then_close(self):
        """Read on and drop for a moment: closing with unread bytes would reset the answer away (RFC 9112 9.6)."""
        if self.closed or self.transport is None:
            return
        self.stage = DISCARD
        self.last_ns = self.head_since_ns = now_ns()
        self._resume()
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except (OSError, RuntimeError):
                self._close()
        else:
            self._close()

    cdef _close(self):
        if self.transport is not None and not self.closed:
            self.keep_alive = False
            if self.exchange is None:
                self.stage = CLOSING
                self.last_ns = now_ns()
            self.transport.close()

    def close(self):
        """Close after what was written has left."""
        self._close()

    cdef _reset(self):
        """Close so that the client sees a failure, not an end."""
        if self.transport is None or self.closed:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            except OSError:
                pass
        self.transport.abort()

    cdef _close_if_idle(self):
        if self.exchange is not None or self.stage == DISCARD or self.stage == CLOSING:
            return
        if self.stage == BODY:          # answered, and the rest of its body is still coming
            self._discard_then_close()
        else:
            self._close()

    cdef void _pause(self):
        if not self.read_paused and not self.half_closed and self.transport is not None and not self.closed:
            self.read_paused = True
            self.transport.pause_reading()

    cdef void _resume(self):
        if self.read_paused and self.transport is not None and not self.closed:
            if self.stash is not None and PyBytes_GET_SIZE(self.stash) > self.hub.buffer_bytes:
                return
            self.read_paused = False
            self.last_ns = now_ns()
            self.transport.resume_reading()

    @property
    def peername(self):
        return self.transport.get_extra_info("peername") if self.transport is not None else None

    @property
    def current(self):
        return self.exchange

    def check(self, long long now):
        """Deadlines of the client's side."""
        cdef Exchange x = self.exchange
        cdef Hub hub = self.hub
        if self.closed:
            return
        if self.stage == DISCARD:
            if now - self.head_since_ns > DISCARD_NS:
                self._reset()
        elif self.stage == CLOSING:
            if now - self.last_ns > hub.stream_idle_ns:
                self._reset()
        elif self.write_paused and now - self.paused_ns > hub.stream_idle_ns:
            self._reset()
        elif x is None and self.stage == IDLE:
            if self.head_since_ns:
                if now - self.head_since_ns > hub.client_head_ns:
                    self._refuse(_timeout_error("the request's head did not arrive in time"))
            elif now - self.last_ns > hub.client_idle_ns:
                self._close()
        elif self.stage == BODY:
            if not self.read_paused and now - self.last_ns > hub.body_idle_ns:
                if x is None:
                    self._close()       # refused already: there is nothing more to say
                else:
                    self._refuse(_timeout_error("the request's body stopped arriving"))
        elif self.half_closed and hub.owner.is_gone(self):
            self._reset()


class _Timeout(Exception):
    status = 408


def _timeout_error(message):
    return _Timeout(message)
