# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The two connection classes of the HTTP/1.1 lane: Downstream (the app's side) and Upstream (the provider's side).

Rules
- Bytes are passed on as they came: a slice, or the very object that the transport handed over. A copy is made
  only where framing changes, where an event was cut, or where a small head joins its body to save a write.
- The owner (class Owner) is called once per message (request, held body, answer head, end), never per chunk, unless it set
  `rewrite` on the exchange.
- `on_end` is called exactly once for every exchange for which `on_request` was called, whatever happened.
- Of an exchange with `holds_end` the last bytes of the answer leave after `on_end`, when the owner calls `let_go`: what
  it wrote down about the exchange is then where it has to be. Nothing that the client asks next overtakes them.
- One exchange at a time per connection; what a client pipelines waits in `stash`, bounded by not reading.
- Back-pressure goes from each side to the other by pause_reading; no queue here grows past `buffer_bytes`
  plus one read.
- No timer per request: `Hub.sweep(now_ns)` looks at every connection, and the owner calls it once a second.

Does not know: providers, JSON, policies, credentials (only the bytes of one that must never come back), logs.

"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from outrider_ext.http1 cimport Body, Head, cut
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
    U_DRAIN = 4     # the rest of an answer that nobody wants is read and dropped, to keep the connection

cdef enum:
    JOIN_BYTES = 32768         # below it a copy is cheaper than another write
    TAP_ENDS_BYTES = 65536     # what is kept of each end of an answer beyond the tap's cap
    DRAIN_BYTES = 262144       # the rest of a refused request's body that is read to keep the connection
    DRAIN_ANSWER_BYTES = 65536 # likewise of an answer that is not passed on
    MAX_INTERIM = 8
    CRUMB_BYTES = 1024         # smaller pieces that wait are put together: an object costs more than its bytes
    INFLATED_RATIO = 64        # a tap's copy that unpacks to more of what came in is no answer, but a bomb
    RARE_WITHIN = 48           # bytes of a secret among which the rarest is looked for
    RARE_TRIES = 16            # places that are compared before the usual search goes on
    PREFIX_BYTES = 8           # of a secret: a shorter beginning is the provider's well-known prefix, and harmless

# How seldom ordinary text and JSON have a byte: more is rarer. Capitals, then digits and the last letters here.
cdef unsigned char[256] RARITY
cdef str SELDOM_LAST = "etaoinsrhldcumfpgwybv0123456789kxjqzSTACPEMRIDHLBNOFWGUYVKXQJZ"


cdef _fill_rarity():
    cdef int place
    for place in range(len(SELDOM_LAST)):
        RARITY[ord(SELDOM_LAST[place])] = place + 1


_fill_rarity()

cdef const char* _OUTCOME_NAMES[5]
_OUTCOME_NAMES[:] = [b"ok", b"ok", b"client_gone", b"cut", b"timed_out"]

cdef long long DISCARD_NS = 2_000_000_000
cdef long long DRAIN_NS = 2_000_000_000

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


cdef bint holds(const char* base, Py_ssize_t size, const char* secret, Py_ssize_t secret_size) noexcept:
    """Whether the secret stands in base[:size].

    Looked for by that one of its first bytes that ordinary text has least: a capital or a digit, which keys are full of.
    Text that has it often, as an answer can on purpose, is searched in the usual way, so the cost stays linear.
    """
    cdef const char* at = base
    cdef const char* end
    cdef Py_ssize_t rare = 0, i
    cdef int tries = 0
    for i in range(1, min(secret_size, RARE_WITHIN)):
        if RARITY[<unsigned char>secret[i]] > RARITY[<unsigned char>secret[rare]]:
            rare = i
    at += rare
    end = base + size - secret_size + rare + 1      # behind the last place where that byte may stand
    while at < end:
        at = <const char*>memchr(at, secret[rare], end - at)
        if at == NULL:
            return False
        if memcmp(at - rare, secret, secret_size) == 0:
            return True
        at += 1
        tries += 1
        if tries == RARE_TRIES:
            return memmem(at - rare, base + size - (at - rare), secret, secret_size) != NULL
    return False


cdef const char* outcome_name(int outcome) noexcept:
    """For people: what we answered ourselves ended well too."""
    return _OUTCOME_NAMES[outcome]


cdef class Owner:
    """Who decides what becomes of exchanges. By default every one is broken off."""

    cpdef on_request(self, Exchange x):
        """Decide: x.forward(...), x.answer(...), x.hold(cap), or keep x.waiter and do it later."""
        x.abort("nobody decides here")

    cpdef on_body(self, Exchange x):
        """The held body is complete (x.body), or is larger than the cap (x.body is None)."""
        x.abort("nobody decides here")

    cpdef bytes on_answer(self, Exchange x):
        """Header lines to add to the answer's head; sets sse, tap_*, rewrite."""
        return b""

    cpdef on_failed(self, Exchange x, str kind, str detail):
        """The provider failed before a byte of its answer went on: forward anew, or answer."""
        x.abort(detail)

    cpdef bint on_race(self, Exchange x, Upstream connection) except -1:
        """Of two connections this one answers first, with `connection.status`: True when its answer counts."""
        return True

    cpdef on_race_lost(self, Exchange x, Upstream connection, str kind, str detail):
        """Of two connections this one failed; the other goes on."""

    cpdef bytes on_cut(self, Exchange x, str kind, str detail):
        """The provider broke off a stream after some of it went on: an event that says so, None for none."""
        return None

    cpdef on_end(self, Exchange x):
        """After it, nothing of x changes."""

    cpdef bytes on_bad_request(self, Downstream client, int status, str message):
        """A whole answer to bytes that are no request; the connection closes after it."""
        return b"HTTP/1.1 %d Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status

    cpdef on_client_closed(self, Downstream client):
        """The connection is gone, and its exchange has ended."""

    cpdef bint is_gone(self, Downstream client) except -1:
        """Whether a half-closed client has left for good."""
        return True


cdef class Idle:
    """Connections to one destination that nobody uses now: the part of a pool that every exchange passes.

    A subclass has release(connection), for when `handing_on` is set or there is no room, and discard(connection).
    """

    def __init__(self, Hub hub, Py_ssize_t max_idle):
        self.hub = hub
        self.idle = []
        self.max_idle = max_idle

    cpdef Upstream take(self):
        """The newest idle connection, so that the others grow old and go; None when there is none."""
        cdef Upstream connection
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
        return None

    cdef _give_back(self, Upstream connection):
        if self.handing_on or connection.closed or len(self.idle) >= self.max_idle or (
                len(self.hub.upstreams) > self.hub.max_open):
            self.release(connection)
        else:
            self.idle.append(connection)


cdef class Hub:
    """What the connections of one lane share: the owner, caps in bytes, deadlines in ns, and the sets of open ones."""

    def __init__(self, owner, loop):
        self.owner = owner
        self.loop = loop
        self.clients = set()
        self.upstreams = set()
        self.waiting = []
        self.draining = False
        self.max_open = 4096
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

    cpdef list take_waiting(self):
        """The exchanges that wait for `let_go`; those that end from now on begin a new list."""
        cdef list waiting = self.waiting
        if waiting:
            self.waiting = []
            return waiting
        return []

    cpdef let_go(self, list exchanges, bint is_cut=False):
        """Their last bytes leave; with is_cut they never do, and the client's connection is reset instead."""
        for x in exchanges:
            (<Exchange>x).client._let_go(x, is_cut)

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


# Three classes that hold each other belong to one module; each has a file of its own.
include "relay_units.pxi"
include "relay_exchange.pxi"
include "relay_downstream.pxi"
include "relay_upstream.pxi"
