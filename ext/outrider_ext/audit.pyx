# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The lines of the audit log: each made in place, chained to the one before, written many at a time.

Rules
- A line is `{"seq":N,"prev":"H","time":"T",MEMBERS,"hash":"H"}`; its hash is HMAC-SHA-256 over every byte before
  `,"hash":`, so over the number and the hash of the line before, too.
- What was not written stays, byte for byte, so that a line of which a part is on the disk can be completed.
- Lines can only be given up together with the numbers that they had: a gap is then said in words, by whoever drops.
- The hooks here are configured once per route by proxy/outrider/stack/audit.py, which keeps the meaning.

Does not know: files beyond a descriptor, keys beyond their bytes, what a member says.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memmove
from posix.unistd cimport write

from outrider_ext.lane cimport Call, Hook
from outrider_ext.layers cimport put_outcome, put_usage
from outrider_ext.lines cimport NUMBER_BYTES, STAMP_BYTES, put_bytes, put_number, put_stamp, put_text
from outrider_ext.relay cimport Exchange, Hub
from outrider_ext.sha256 cimport HASH_BYTES, Mac

import cython

cdef enum:
    FIRST_ROOM = 16384
    KEPT_ROOM = 1 << 20
    FRAME_BYTES = 256                   # what `begin` and `end` write around the members
    TEXT_BYTES = 600                    # names, braces and punctuation of an exchange's line
    NUMBERS = 20                        # numbers in it, at most
    REMEMBERED_CHARS = 120              # the app chooses the model's name: a longer one is not kept beside each route
    CLOSE_BYTES = 3                     # "}\n

cdef const char* HEX = b"0123456789abcdef"
GENESIS = "0" * HEX_BYTES


cdef char* put_hex(char* out, const unsigned char* data, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    for i in range(size):
        out[2 * i] = HEX[data[i] >> 4]
        out[2 * i + 1] = HEX[data[i] & 15]
    return out + 2 * size


@cython.final
cdef class Chain:
    """Lines that wait to be written, and where the chain stands.

    wake(): called when the first line waits. seq, head: of the last line that there is already.
    """

    def __init__(self, bytes key, wake, long long seq=0, str head=GENESIS):
        cdef bytes text = head.encode("ascii")
        if PyBytes_GET_SIZE(text) != HEX_BYTES:
            raise ValueError("a chain's head is 64 hexadecimal digits")
        self._mac = Mac(key)
        self._wake = wake
        self.seq = self._base_seq = seq
        memcpy(self._head, PyBytes_AS_STRING(text), HEX_BYTES)
        memcpy(self._base_head, PyBytes_AS_STRING(text), HEX_BYTES)

    def __dealloc__(self):
        free(self._data)

    @property
    def head(self):
        return self._head[:HEX_BYTES].decode("ascii")

    def on_wake(self, wake):
        self._wake = wake

    def sign(self, bytes text):
        """The keyed hash of anything, in hexadecimal."""
        return self._mac.of(text).hex()

    cdef char* begin(self, Py_ssize_t size) except NULL:
        """A new line up to its time; room for `size` bytes of members, the first of which begins with a comma."""
        cdef Py_ssize_t room = self._room if self._room else FIRST_ROOM
        cdef char* out
        size += FRAME_BYTES + STAMP_BYTES + NUMBER_BYTES
        while room - self.size < size:
            room *= 2
        if room != self._room:
            out = <char*>realloc(self._data, room)
            if out == NULL:
                raise MemoryError
            self._data, self._room = out, room
        out = put_number(put_text(self._data + self.size, b'{"seq":'), self.seq + 1)
        out = put_text(out, b',"prev":"')
        memcpy(out, self._head, HEX_BYTES)
        out = put_stamp(put_text(out + HEX_BYTES, b'","time":"'))
        return put_text(out, b'"')

    cdef end(self, char* out):
        """The members of the line that was begun end at `out`."""
        cdef unsigned char[HASH_BYTES] made
        cdef char* start = self._data + self.size
        self._mac.into(start, out - start, made)
        out = put_text(out, b',"hash":"')
        put_hex(self._head, made, HASH_BYTES)
        memcpy(out, self._head, HEX_BYTES)
        out = put_text(out + HEX_BYTES, b'"}\n')
        self.size = out - self._data
        self.seq += 1
        self.count += 1
        if self.count == 1:
            self._wake()

    cpdef add(self, bytes members):
        """A line with these members, `"name":value,...`; they may hold no line feed."""
        cdef char* out = self.begin(PyBytes_GET_SIZE(members) + 1)
        self.end(put_bytes(put_text(out, b","), members))

    cpdef int flush(self, int fd) except -1:
        """Write what waits. 0, or the errno of what hindered it; what was not written then waits on."""
        cdef Py_ssize_t done = 0, n
        cdef int problem = 0
        while done < self.size:
            n = write(fd, self._data + done, self.size - done)
            if n < 0:
                problem = errno
                if problem == EINTR:
                    problem = 0
                    continue
                break
            done += n
        self.written += done
        if problem:
            self._account(done)
            return problem
        self.size = self.count = 0
        self._mid_line = False
        self._base_seq = self.seq
        memcpy(self._base_head, self._head, HEX_BYTES)
        if self._room > KEPT_ROOM:
            free(self._data)
            self._data, self._room = NULL, 0
        return 0

    cdef _account(self, Py_ssize_t written):
        """A part was written: the chain on the disk goes to the last line of which a byte is there."""
        cdef char* at = self._data
        cdef char* stop
        cdef Py_ssize_t lines = 0
        if written == 0:
            return
        while at < self._data + written:
            stop = <char*>memchr(at, c"\n", self._data + self.size - at)
            lines += 1
            memcpy(self._base_head, stop - (CLOSE_BYTES - 1) - HEX_BYTES, HEX_BYTES)
            at = stop + 1
        self._base_seq += lines - (1 if self._mid_line else 0)
        self._mid_line = self._data[written - 1] != c"\n"
        self.size -= written
        memmove(self._data, self._data + written, self.size)

    cpdef Py_ssize_t drop(self):
        """Give up the whole lines that wait, their numbers too; how many. The end of a line begun on the disk stays."""
        cdef Py_ssize_t kept = 0, lines = 0
        cdef char* at
        if self._mid_line:
            kept = <char*>memchr(self._data, c"\n", self.size) - self._data + 1
        at = self._data + kept
        while at < self._data + self.size:
            at = <char*>memchr(at, c"\n", self._data + self.size - at) + 1
            lines += 1
        self.size = kept
        self.count = 0
        self.seq = self._base_seq
        memcpy(self._head, self._base_head, HEX_BYTES)
        return lines


@cython.final
cdef class Commit:
    """One write for all that ended in a pass of the loop; then their last bytes leave.

    otherwise(): instead, while not is_plain. failed(errno, exchanges): the write did. due(): the file is full, or a
    checkpoint has to be made.
    """

    def __init__(self, Chain chain, Hub hub, call_soon, otherwise, failed, due):
        self.chain = chain
        self.fd = -1
        self._hub = hub
        self._call_soon = call_soon
        self._otherwise, self._failed, self._due = otherwise, failed, due

    cpdef schedule(self):
        """Once for all of this pass."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self)

    def __call__(self):
        cdef list waiting
        cdef int problem
        self._is_scheduled = False
        if not self.is_plain:
            self._otherwise()
            return
        waiting = self._hub.take_waiting()
        if self.chain.size:
            problem = self.chain.flush(self.fd)
            if problem:
                self._failed(problem, waiting)
                return
        if waiting:
            self._hub.let_go(waiting)
        if self.chain.written >= self.rotate_at or self.chain.seq >= self.checkpoint_at:
            self._due()


@cython.final
cdef class AuditBegin(Hook):
    """The exchange's last bytes wait for its line. refuse(): lines cannot be written, and config says deny; raises."""

    def __init__(self, Chain chain, refuse):
        self._chain = chain
        self._refuse = refuse

    cdef run(self, Exchange x, Call call):
        if self._chain.denies:
            self._refuse()
        x.holds_end = True
        return None


@cython.final
cdef class AuditEnd(Hook):
    """The exchange's line.

    opening_of(x, call) -> the members that are the same for many exchanges. decided_of(call) -> those of the decision.
    rest_of(x, call) -> what only some have to say, b"" or with a leading comma. refused(x, call) -> whether an answer of
    ours is folded into a count, so that it needs no line. has_content: rest_of is always asked. redacts: a layer counts
    what it redacted in call.redacted, and rest_of is asked where it did.
    """

    def __init__(self, Chain chain, opening_of, decided_of, rest_of, refused, bint has_content, bint redacts=False):
        self._chain = chain
        self._opening_of = opening_of
        self._decided_of = decided_of
        self._rest_of = rest_of
        self._refused = refused
        self._has_content = has_content
        self._redacts = redacts

    cdef bytes _find_opening(self, Exchange x, Call call):
        cdef str via = x.client.origin.kind
        cdef bytes found
        if (self._opening is None or call.principal is not self._principal or call.key_id is not self._key_id
                or via != self._via
                or x.method != self._method or call.model != self._model or call.stream != self._stream):
            found = self._opening_of(x, call)
            if call.model is not None and len(call.model) > REMEMBERED_CHARS:
                return found
            self._opening, self._principal, self._via, self._method = found, call.principal, via, x.method
            self._key_id, self._model, self._stream = call.key_id, call.model, call.stream
        return self._opening

    cdef bytes _find_decided(self, Call call):
        if (self._decided is None or call.decision != self._decision or call.rules != self._rules
                or call.shadow_rules != self._shadow_rules or call.tags != self._tags):
            self._decided = self._decided_of(call)
            self._decision, self._rules = call.decision, call.rules
            self._shadow_rules, self._tags = call.shadow_rules, call.tags
        return self._decided

    cdef run(self, Exchange x, Call call):
        cdef bytes opening, decided, rest = b""
        cdef char* out
        if call.error is not None and self._refused(x, call):
            return None
        opening = self._find_opening(x, call)
        decided = self._find_decided(call)
        if self._has_content or call.error is not None or x.detail is not None or call.attempts > 1 or (
                self._redacts and (<object>call).redacted is not None):
            rest = self._rest_of(x, call)
        out = self._chain.begin(
            TEXT_BYTES + NUMBERS * NUMBER_BYTES + HEX_BYTES + PyBytes_GET_SIZE(call.request_id)
            + PyBytes_GET_SIZE(opening) + PyBytes_GET_SIZE(decided) + PyBytes_GET_SIZE(rest))
        out = put_bytes(put_text(out, b',"event":"exchange","id":"'), call.request_id)
        out = put_bytes(put_text(out, b'",'), opening)
        out = put_bytes(put_text(out, b","), decided)
        out = put_outcome(out, x)
        if x.sent_ns:
            out = put_number(put_text(out, b',"upstream_us":'), (x.ended_ns - x.sent_ns) // 1000)
        if x.sse and x.first_event_ns:
            out = put_number(put_text(out, b',"first_event_us":'), (x.first_event_ns - x.sent_ns) // 1000)
        out = put_usage(out, call)
        if call.digest is not None:
            out = put_text(out, b',"digest":"')
            out = put_hex(out, <const unsigned char*>PyBytes_AS_STRING(call.digest), PyBytes_GET_SIZE(call.digest))
            out = put_text(out, b'"')
        self._chain.end(put_bytes(out, rest))
        return None
