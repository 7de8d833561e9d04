# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The two connection classes of the HTTP/1.1 lane: Downstream (the app's side) and Upstream (the provider's side).

Rules
- Bytes are passed on as they came: a slice, or the very object that the transport handed over. A copy is made
  only where framing changes, where an event was cut, or where a small head joins its body to save a write.
- The owner is called once per message (request, held body, answer head, end), never per chunk, unless it set
  `rewrite` on the exchange.
- `on_end` is called exactly once for every exchange for which `on_request` was called, whatever happened.
- One exchange at a time per connection; what a client pipelines waits in `stash`, bounded by not reading.
- Back-pressure goes from each side to the other by pause_reading; no queue here grows past `buffer_bytes`
  plus one read.
- No timer per request: `Hub.sweep(now_ns)` looks at every connection, and the owner calls it once a second.

Does not know: providers, JSON, policies, credentials (only the bytes of one that must never come back), logs.

The owner is any object with
  on_request(x)              decide: x.forward(...), x.answer(...), x.hold(cap), or keep x.waiter and do it later
  on_body(x)                 the held body is complete (x.body), or is larger than the cap (x.body is None)
  on_answer(x) -> bytes      header lines to add to the answer's head; sets sse, tap_*, rewrite
  on_failed(x, kind, detail) the provider failed before a byte of its answer went on: forward anew, or answer
  on_end(x)                  after it, nothing of x changes
  on_bad_request(client, status, message) -> bytes    a whole answer; the connection closes after it
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp
from libc.stdio cimport snprintf
from libc.time cimport gmtime_r, strftime, time_t, tm
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

from outrider_ext.http1 cimport Body, Head
from outrider_ext.sse cimport SseSplitter

import socket
import struct

from outrider_ext.http1 import ProtocolError, mask_of

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

# Outcomes of an exchange.
OK, ANSWERED, CLIENT_GONE, CUT, TIMED_OUT = range(5)
cdef enum:
    _OK = 0
    _ANSWERED = 1
    _CLIENT_GONE = 2
    _CUT = 3
    _TIMED_OUT = 4

# States of a Downstream.
cdef enum:
    IDLE = 0        # between messages, or in the middle of a head
    BODY = 1        # a request's body is arriving
    WAIT = 2        # the request is complete; its answer is not
    TUNNEL = 3      # after 101: bytes both ways
    DISCARD = 4     # answered early: read and drop for a moment so that the answer is not lost to a reset
    CLOSING = 5     # closed once what was written has left

# States of an Upstream.
cdef enum:
    U_IDLE = 0
    U_HEAD = 1
    U_BODY = 2
    U_TUNNEL = 3

cdef enum:
    JOIN_BYTES = 32768         # below it a copy is cheaper than another write
    TAP_ENDS_BYTES = 65536     # what is kept of each end of an answer beyond the tap's cap
    DRAIN_BYTES = 262144       # the rest of a refused request's body that is read to keep the connection
    MAX_INTERIM = 8
    CRUMB_BYTES = 1024         # smaller pieces that wait are put together: an object costs more than its bytes
    INFLATED_RATIO = 64        # a tap's copy that unpacks to more of what came in is no answer, but a bomb
    PREFIX_BYTES = 8           # of a secret: a shorter beginning is the provider's well-known prefix, and harmless

    NUMBERS_BYTES = 320        # six numbers of at most 20 digits and their names
    STAMP_BYTES = 40
    STAMP_LENGTH = 27          # 2026-11-21T06:52:24.790123Z

cdef const char* _OUTCOME_NAMES[5]
_OUTCOME_NAMES[:] = [b"ok", b"ok", b"client_gone", b"cut", b"timed_out"]

cdef long long DISCARD_NS = 2_000_000_000

# Never passed on from a provider: hop-by-hop (RFC 9110 7.6.1), and what would lead the app around us.
cdef unsigned long long ANSWER_DROP = mask_of(
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"transfer-encoding",
    b"proxy-authenticate", b"proxy-authorization", b"alt-svc",
)
cdef unsigned long long CONTENT_LENGTH_MASK = mask_of(b"content-length")
cdef inline _gather(list pieces, bytes piece):
    """Append a piece that waits; a thousand tiny ones do not stay a thousand objects."""
    cdef Py_ssize_t count = len(pieces)
    cdef bytes last
    if count and PyBytes_GET_SIZE(piece) < CRUMB_BYTES:
        last = pieces[count - 1]
        if PyBytes_GET_SIZE(last) < CRUMB_BYTES:
            pieces[count - 1] = last + piece
            return
    pieces.append(piece)


_LINGER_RESET = struct.pack("ii", 1, 0)


cdef inline long long now_ns() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <long long>at.tv_sec * 1_000_000_000 + at.tv_nsec


cdef time_t _stamp_second = 0
cdef char _stamp_text[STAMP_BYTES]


cdef void _write_stamp(char* out) noexcept:
    """RFC 3339 in UTC with microseconds; the part down to the second is made once a second."""
    global _stamp_second
    cdef timespec at
    cdef tm parts
    clock_gettime(CLOCK_REALTIME, &at)
    if at.tv_sec != _stamp_second:
        gmtime_r(&at.tv_sec, &parts)
        strftime(_stamp_text, STAMP_BYTES, b"%Y-%m-%dT%H:%M:%S", &parts)
        _stamp_second = at.tv_sec
    snprintf(out, STAMP_BYTES, b"%s.%06ldZ", _stamp_text, <long>(at.tv_nsec // 1000))


cdef class Hub:
    """What the connections of one lane share: the owner, caps in bytes, deadlines in ns, and the sets of open ones."""

    def __init__(self, owner, loop):
        self.owner = owner
        self.loop = loop
        self.clients = set()
        self.upstreams = set()
        self.draining = False
        self.head_bytes = 65536
        self.event_bytes = 1 << 20
        self.usage_bytes = 1 << 20
        self.buffer_bytes = 262144
        self.client_head_ns = 10_000_000_000
        self.client_idle_ns = 75_000_000_000
        self.body_idle_ns = 60_000_000_000
        self.first_byte_ns = 300_000_000_000
        self.stream_idle_ns = 300_000_000_000
        self.pool_idle_ns = 55_000_000_000

    def drain(self):
        """Close what is idle now; what is in flight closes after its answer."""
        self.draining = True
        for client in list(self.clients):
            (<Downstream>client)._close_if_idle()

    def abort_all(self):
        """End every connection at once."""
        for client in list(self.clients):
            (<Downstream>client)._reset()
        for upstream in list(self.upstreams):
            (<Upstream>upstream).close()

    def sweep(self, long long now):
        """Apply every deadline; call about once a second with CLOCK_MONOTONIC ns."""
        for client in list(self.clients):
            (<Downstream>client).check(now)
        for upstream in list(self.upstreams):
            (<Upstream>upstream).check(now)


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
        self.client._write(message)
        self.answer_started = True
        self._finish(_ANSWERED, None)

    def abort(self, str detail):
        """End it without an answer; the connection to the client is reset."""
        if self.ended:
            return
        self._drop_upstream()
        client = self.client
        self._finish(_CUT, detail)
        client._reset()

    def log_line(self, bytes opening, bytes rest, object usage):
        """One JSON line about it: `{"time":...`, opening, the numbers of this exchange, the token counts of `usage`
        (a tuple that begins with input, output, cache read, cache write, reasoning, estimated; or None), rest, LF.

        opening and rest are JSON members that the owner has written, without braces.
        """
        cdef char numbers[NUMBERS_BYTES]
        cdef char tokens[NUMBERS_BYTES]
        cdef char stamp[STAMP_BYTES]
        cdef int length, token_length = 0
        _write_stamp(stamp)
        length = snprintf(
            numbers, NUMBERS_BYTES,
            b",\"status\":%d,\"outcome\":\"%s\",\"request_bytes\":%lld,\"answer_bytes\":%lld,\"us\":%lld,\"overhead_us\":%lld",
            self.status, _OUTCOME_NAMES[self.outcome], self.request_bytes, self.answer_bytes,
            (self.ended_ns - self.started_ns) // 1000, self.inside_ns // 1000,
        )
        if self.sse:
            length += snprintf(
                numbers + length, NUMBERS_BYTES - length, b",\"events\":%llu,\"first_event_us\":%lld", self.events,
                (self.first_event_ns - self.sent_ns) // 1000 if self.first_event_ns else -1,
            )
        if usage is not None:
            token_length = snprintf(
                tokens, NUMBERS_BYTES,
                b",\"tokens\":{\"input\":%lld,\"output\":%lld,\"cache_read\":%lld,\"cache_write\":%lld,\"reasoning\":%lld,"
                b"\"estimated\":%s}",
                <long long>usage[0], <long long>usage[1], <long long>usage[2], <long long>usage[3], <long long>usage[4],
                b"true" if usage[5] else b"false",
            )
        return b"".join((
            b'{"time":"', stamp[:STAMP_LENGTH], b'",', opening, numbers[:length], tokens[:token_length], rest, b"}\n"))

    def take_tapped(self):
        """(bytes of the answer's body that were kept, whether some in the middle were not)."""
        if self.tapped is None:
            return b"", False
        data = self.tapped[0] if len(self.tapped) == 1 else b"".join(self.tapped)
        return data, self.tap_truncated

    cdef _drop_upstream(self):
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.exchange = None
            upstream.close()

    cdef void _request_run(self, bytes data, Py_ssize_t lo, Py_ssize_t hi):
        cdef bytes piece = data[lo:hi]
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
            piece = data[lo:hi]
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
                piece = data if lo == 0 and hi == PyBytes_GET_SIZE(data) else data[lo:hi]
                if self.first_hit is None:
                    self.first_hit = piece
                self.last_hit = piece
                return True
        return False

    cdef _finish(self, int outcome, str detail):
        if self.ended:
            return
        cdef Downstream client = self.client
        self.ended = True
        self.outcome = outcome
        self.detail = detail
        self.ended_ns = now_ns()
        self.pending = None
        client.hub.exchanges -= 1
        try:
            client.hub.owner.on_end(self)
        finally:
            self.first_hit = self.last_hit = None
            self.tapped = None
            self.body = None
            if client.exchange is self:
                client._next()


cdef class Downstream:
    """A client's connection. `origin` says how it came in; the owner reads it."""

    def __init__(self, Hub hub, origin):
        self.hub = hub
        self.origin = origin
        self.head = Head()
        self.body = Body()
        self.state = IDLE
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
        if self.state == IDLE:
            if self.stash is not None:
                data = self.stash + data
                self.stash = None
            self._run_requests(data, 0)
        elif self.state == BODY:
            pos = self._request_body(data, 0)
            if pos < PyBytes_GET_SIZE(data) and not self.closed:
                if self.state == IDLE and self.exchange is None:
                    self._run_requests(data, pos)
                else:
                    self._keep(data, pos)
        elif self.state == TUNNEL:
            x = self.exchange
            if x is not None and x.upstream is not None:
                x.request_bytes += PyBytes_GET_SIZE(data)
                x.upstream.transport.write(data)
        elif self.state == WAIT:
            self._keep(data, 0)

    def eof_received(self):
        cdef Exchange x = self.exchange
        if self.state == TUNNEL or self.state == DISCARD or x is None or not x.request_complete:
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
        if x is not None and not x.ended:
            waiter = x.waiter
            x.waiter = None
            if waiter is not None:
                waiter.cancel()
            tunnelled = self.state == TUNNEL
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
            if self.state == IDLE:
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
        elif self.state == IDLE and not self.processing:
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
                if self.closed or self.state != IDLE or self.exchange is not None or self.head_since_ns:
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
            self.state = BODY
        elif head.content_length > 0:
            if size - end >= head.content_length:
                x.body = data[end:end + head.content_length]
                x.request_bytes = head.content_length
                x.request_complete = x.body_complete = True
                end += head.content_length
                self.state = WAIT
            else:
                self.body.begin_length(head.content_length)
                self.state = BODY
        else:
            x.body = b""
            x.request_complete = x.body_complete = True
            self.state = WAIT
        if end < size:
            # Kept before the owner decides: an answer given at once goes on with it.
            if self.state == WAIT:
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
        while pos < size and self.state == BODY:
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
                    self.state = IDLE        # the rest of a refused request: read, dropped, done
                else:
                    self.state = WAIT
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
            self._write(message)
            x.status = error.status
            x.answer_started = True
            x._finish(_ANSWERED, str(error))
        else:
            self._write(message)
            self._discard_then_close()

    cdef bint _can_drain(self):
        return (self.state == BODY and not self.head.chunked and not self.head.expect_continue
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
        if self.state == TUNNEL or self.out_close:
            self._close()
            return
        if self.state == BODY:
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
        self.state = IDLE
        self.last_ns = x.ended_ns
        if self.processing:
            return
        if self.half_closed and self.stash is None:
            self._close()
        elif self.write_paused:
            self._pause()
        else:
            self._go_on()

    # -- the wire --

    cdef _write(self, bytes data):
        if not self.closed and self.transport is not None:
            self.transport.write(data)

    cdef _discard_then_close(self):
        """Read on and drop for a moment: closing with unread bytes would reset the answer away (RFC 9112 9.6)."""
        if self.closed or self.transport is None:
            return
        self.state = DISCARD
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
                self.state = CLOSING
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
        if self.exchange is not None or self.state == DISCARD or self.state == CLOSING:
            return
        if self.state == BODY:          # answered, and the rest of its body is still coming
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
        if self.state == DISCARD:
            if now - self.head_since_ns > DISCARD_NS:
                self._reset()
        elif self.state == CLOSING:
            if now - self.last_ns > hub.stream_idle_ns:
                self._reset()
        elif self.write_paused and now - self.paused_ns > hub.stream_idle_ns:
            self._reset()
        elif x is None and self.state == IDLE:
            if self.head_since_ns:
                if now - self.head_since_ns > hub.client_head_ns:
                    self._refuse(_timeout_error("the request's head did not arrive in time"))
            elif now - self.last_ns > hub.client_idle_ns:
                self._close()
        elif self.state == BODY:
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


cdef class Upstream:
    """A connection to a provider, used by one exchange at a time and kept by `pool` between them.

    `pool` has release(connection) and discard(connection).
    """

    def __init__(self, Hub hub, pool, key=None):
        self.hub = hub
        self.pool = pool
        self.key = key
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
        self.carry = self.withheld = None
        self.state = U_HEAD
        self.uses += 1
        self.interim = 0
        self.got_bytes = False
        self.lead = None
        self.held = None
        self.end_sent = False
        self.stash = None
        self.keep_alive = True
        self.last_ns = now_ns()
        if self.write_paused:
            x.client._pause()
        if x.client.write_paused:
            self._pause()

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
        self.last_ns = now_ns()
        if x is None:
            self.close()              # bytes that nobody asked for: whose answer would they be?
            return
        self.got_bytes = True
        if self.state == U_BODY:
            self._payload(data, 0)
        elif self.state == U_HEAD:
            self._heads(data)
        elif self.state == U_TUNNEL:
            self._tunnel(x, data, 0)
        if self.lead is not None and self.exchange is not None:
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
        x.head_ns = began
        if self.canary is not None and self._echoes(data, pos, end):
            self._broken(_CUT, "secret_echoed", "the answer contained the credential")
            return
        self._answer(x)
        if self.exchange is not x:
            return
        if self.state == U_TUNNEL:
            if end < PyBytes_GET_SIZE(data):
                self._tunnel(x, data, end)
            return
        x.inside_ns += now_ns() - began
        if self.body.done or end < PyBytes_GET_SIZE(data):
            self._payload(data, end)

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
        client.out_chunked = client.out_close = False
        if head.status == 204:
            drop |= CONTENT_LENGTH_MASK     # RFC 9110 8.6: it must not have one, and a client might wait for the body
        if not bodiless and (head.content_length < 0 or x.rewrite is not None):
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
        self.lead = head.build_response(drop | x.drop_mask, extra)
        x.answer_started = True
        self.state = U_BODY

    cdef _switch(self, Exchange x):
        """101: both connections become a pipe, if the client asked for it."""
        if not x.allow_upgrade or not x.request_complete:
            self._broken(_CUT, "bad_answer", "the provider switched protocols unasked, or before the request had ended")
            return
        x.status = 101
        x.answer_head = self.head
        extra = self.hub.owner.on_answer(x)
        upgrade = self.head.get_name(b"upgrade") or b"websocket"
        x.client._write(self.head.build_response(
            ANSWER_DROP | x.drop_mask, extra + b"connection: Upgrade\r\nupgrade: " + upgrade + b"\r\n"))
        x.answer_started = True
        self.keep_alive = False
        self.state = U_TUNNEL
        x.client.state = TUNNEL
        if x.client.stash is not None:
            early, x.client.stash = x.client.stash, None
            x.request_bytes += PyBytes_GET_SIZE(early)
            self.transport.write(early)
            if not self.write_paused:
                x.client._resume()

    cdef int _collect(self, bytes data, Py_ssize_t* pos, bint sse, bint* raw, Py_ssize_t* cut) except -1:
        """Unframe all of `data`; payload runs go to self.runs. Returns 1, or 0 when it was refused.

        raw: the bytes may leave as they came. cut: (sse) where the last whole event ends, inside run `cut_run`;
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
            if sse:
                at = self.splitter.feed(data, body.lo, body.hi)
                if at != body.hi:
                    raw[0] = False
                if at > body.lo:
                    cut[0] = at
                    self.cut_run = self.run_count - 1
                x.events += self.splitter.events
        raw[0] = raw[0] and (not self.in_chunked or body.clean) and not self._is_suspect()
        return 1

    cdef _payload(self, bytes data, Py_ssize_t pos):
        cdef Exchange x = self.exchange
        cdef Py_ssize_t start = pos, cut = -1
        cdef bint raw = False
        if not self._collect(data, &pos, x.sse, &raw, &cut):
            return
        if x.sse:
            self._emit_events(x, data, start, pos, raw, cut)
        else:
            self._emit_runs(x, data, start, pos, raw)
        if self.exchange is x and self.body.done:
            if pos < PyBytes_GET_SIZE(data):
                self.keep_alive = False      # bytes after the answer: never into the next one
            self._done()

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
            return data[self.runs[i].lo:self.runs[i].hi]
        return b"".join([data[self.runs[i].lo:self.runs[i].hi] for i in range(first, last)])

    cdef _emit_runs(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw):
        """Pass on an answer that is not a stream of events."""
        cdef Py_ssize_t i
        if self.run_count and x.first_event_ns == 0:
            x.first_event_ns = self.last_ns
        for i in range(self.run_count):
            x.answer_bytes += self.runs[i].hi - self.runs[i].lo
            if x.tap_body:
                x._tap_keep(data, self.runs[i].lo, self.runs[i].hi)
        if raw:
            self._push_raw(data, start, pos)
        elif self.run_count:
            self._emit(self._join_runs(data, 0, self.run_count))

    cdef _emit_events(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw, Py_ssize_t cut):
        """Pass on whole events; keep the unfinished one."""
        cdef Py_ssize_t i
        cdef bint hit = False
        cdef bytes whole
        if x.first_event_ns == 0 and self.splitter.total_events:
            x.first_event_ns = self.last_ns
        for i in range(self.run_count):
            x.answer_bytes += self.runs[i].hi - self.runs[i].lo
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
        changed = x.rewrite(x, whole)
        if changed:
            self._emit(changed)

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
            self._push(data[start:pos])

    cdef _push(self, bytes wire):
        cdef bytes lead = self.lead
        cdef Downstream client = self.exchange.client
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
        if self.held is not None:
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
            self.pool.release(self)
        else:
            self.close()
        x._finish(_OK, None)

    cdef _detach(self):
        cdef Exchange x = self.exchange
        self.exchange = None
        self.state = U_IDLE
        self.canary = self.carry = self.withheld = None
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
        if x.answer_started and self.lead is not None:
            x.answer_started = False     # built, never written: there is still an answer to give
        elif held is not None and kind != "secret_echoed":
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

    cdef bint _echoes(self, bytes data, Py_ssize_t lo, Py_ssize_t hi) except -1:
        """Whether the injected secret stands in data[lo:hi], or is completed there from the run before."""
        cdef const char* secret = PyBytes_AS_STRING(self.canary)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.canary)
        cdef const char* base
        cdef Py_ssize_t length
        if self.carry is not None:
            data = self.carry + data[lo:hi]
            self.carry = None
            lo, hi = 0, PyBytes_GET_SIZE(data)
        base = PyBytes_AS_STRING(data)
        if hi - lo >= size and memmem(base + lo, hi - lo, secret, size) != NULL:
            return True
        # A suffix that begins the secret waits for the next run; mostly there is none.
        length = min(size - 1, hi - lo)
        while length > 0:
            if base[hi - length] == secret[0] and memcmp(base + hi - length, secret, length) == 0:
                self.carry = self.canary[:length]
                break
            length -= 1
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
            if now - self.last_ns > hub.pool_idle_ns:
                self.close()
        elif self.state == U_HEAD:
            since = max(self.last_ns, x.sent_ns)
            if not x.request_complete:
                since = max(since, x.client.last_ns)
            if now - since > hub.first_byte_ns:
                self._broken(_TIMED_OUT, "timeout", f"no answer within {hub.first_byte_ns // 1_000_000_000} s")
        elif self.state == U_BODY:
            if not self.read_paused and now - self.last_ns > hub.stream_idle_ns:
                self._broken(_TIMED_OUT, "timeout", f"silent for {hub.stream_idle_ns // 1_000_000_000} s")
        elif now - max(self.last_ns, x.client.last_ns) > hub.stream_idle_ns:
            x.client._close()
