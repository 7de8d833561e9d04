# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Who is calling, for the request that says the same as the one before it on its connection.

Rules
- What a request claims is its key in an auth slot and its Proxy-Authorization, byte for byte. The principal that was
  found for these bytes is remembered on the connection, for one configuration, until the nearest expiry, and until the
  epoch moves (a revocation moves it). Everything else is asked of the layer itself (`otherwise`).
- Secrets are compared in time that depends on their lengths alone. What is remembered of a key is not readable from Python.
- `ork_` outside of the one slot that was looked at is never passed by here: the layer has to look at it.

Does not know: what a principal is, what a key opens, configuration.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

from outrider_ext.http1 cimport Head
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange

import cython

from outrider_ext.http1 import header_id, mask_of

ctypedef unsigned long long u64

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cdef int H_PROXY_AUTHORIZATION = header_id(b"proxy-authorization")
cdef u64 PROXY_AUTHORIZATION = mask_of(b"proxy-authorization")
# Servers that heed one of the first three run another operation than the method and path say (Google's do); a
# subprotocol may carry a key.
cdef u64 UNUSUAL = mask_of(
    b"x-http-method-override", b"x-http-method", b"x-method-override", b"sec-websocket-protocol")
cdef const char* MARK = b"ork_"
cdef const char* BEARER_MARK = b"Bearer ork_"

cdef enum:
    MARK_BYTES = 4
    BEARER_MARK_BYTES = 11
    REMEMBERED_BYTES = 512          # of a claim: a longer one would stay in memory as long as its connection


cdef inline bint same_secret(bytes a, bytes b) noexcept:
    """In time that depends on the lengths alone; two that are not there are the same."""
    cdef Py_ssize_t size, i
    cdef const unsigned char* left
    cdef const unsigned char* right
    cdef unsigned char differs = 0
    if a is None or b is None:
        return a is b
    size = PyBytes_GET_SIZE(a)
    if size != PyBytes_GET_SIZE(b):
        return False
    left = <const unsigned char*>PyBytes_AS_STRING(a)
    right = <const unsigned char*>PyBytes_AS_STRING(b)
    for i in range(size):
        differs |= left[i] ^ right[i]
    return differs == 0


cdef inline bint holds(Head head, const char* needle, Py_ssize_t size) noexcept:
    return memmem(PyBytes_AS_STRING(head.data) + head.start, head.end - head.start, needle, size) != NULL


cdef int marks_in(Head head) noexcept:
    """How often `ork_` stands in the head: 0, 1, or 2 for more."""
    cdef const char* at = PyBytes_AS_STRING(head.data) + head.start
    cdef const char* end = PyBytes_AS_STRING(head.data) + head.end
    cdef int found = 0
    while found < 2:
        at = <const char*>memmem(at, end - at, MARK, MARK_BYTES)
        if at == NULL:
            break
        found += 1
        at += MARK_BYTES
    return found


cdef inline bint is_marked(bytes value) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef const char* text = PyBytes_AS_STRING(value)
    return (size > MARK_BYTES and memcmp(text, MARK, MARK_BYTES) == 0) or (
        size > BEARER_MARK_BYTES and memcmp(text, BEARER_MARK, BEARER_MARK_BYTES) == 0)


@cython.final
cdef class Epoch:
    """Moves when what was found out before may hold no more."""

    def move(self):
        self.n += 1


cdef class Book:
    """One configuration's answers; a subclass finds them. requires_token: absolute-form has to show a proxy token."""

    def __init__(self, Epoch epoch):
        self.epoch = epoch


@cython.final
cdef class Caller:
    """One connection: the facts of it, and who its last request was found to come from.

    last(book, key, proxy, now_ns) -> the principal for these claims, None where they were not the last
    remember(book, key, proxy, until_ns, principal, key_id)     until_ns on the monotonic clock, 0 for no end
    """

    def __init__(self, *, uid=None, gid=None, pid=None, bint is_unix=False):
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.is_unix = self.asked = is_unix

    cpdef last(self, Book book, bytes key, bytes proxy, long long now_ns):
        if (self._book is not book or self._epoch != book.epoch.n or (self._until_ns and now_ns >= self._until_ns)
                or not same_secret(self._key, key) or not same_secret(self._proxy, proxy)):
            return None
        return self._principal

    def remember(self, Book book, bytes key, bytes proxy, long long until_ns, principal, str key_id=None):
        if (key is not None and PyBytes_GET_SIZE(key) > REMEMBERED_BYTES) or (
                proxy is not None and PyBytes_GET_SIZE(proxy) > REMEMBERED_BYTES):
            return
        self._book = book
        self._epoch = book.epoch.n
        self._until_ns = until_ns
        self._key = key
        self._proxy = proxy
        self._principal = principal
        self._key_id = key_id

    def forget(self):
        """A fact changed."""
        self._book = None


cdef inline bytes proxy_of(Head head):
    return head.get(H_PROXY_AUTHORIZATION) if head.mask & PROXY_AUTHORIZATION else None


cdef inline bint lacks_token(Book book, Exchange x, bytes proxy) noexcept:
    return (book.requires_token and proxy is None and PyBytes_GET_SIZE(x.target) > 0
            and PyBytes_AS_STRING(x.target)[0] != c"/")


@cython.final
cdef class NameCaller(Hook):
    """Where our credential is added: the placeholder or a virtual key stands in one of the provider's auth slots.

    slots: header ids. query: keys may stand in the query too. required: one of the two has to be there.
    otherwise(x, call): sets call.principal for any other shape, or raises. It also decides about fields that would
    change the operation.
    """

    def __init__(self, Book book, slots, bytes placeholder, bint query, bint required, otherwise):
        self._book = book
        self._slots = slots
        self._mask = sum(1 << slot for slot in slots)
        self._bare = placeholder
        self._bearer = b"Bearer " + placeholder
        self._query = query
        self._required = required
        self._otherwise = otherwise

    cdef run(self, Exchange x, Call call):
        cdef Head head = x.head
        cdef u64 present = head.mask & self._mask
        cdef bytes value = None, key = None
        cdef bytes proxy
        cdef int slot
        cdef Caller caller
        if present & (present - 1) or head.mask & UNUSUAL or (self._query and b"?" in x.target):
            self._otherwise(x, call)
            return None
        if present:
            for slot in self._slots:
                if present >> slot & 1:
                    value = head.get(slot)
                    break
            if is_marked(value):
                key = value
            elif self._required and not same_secret(value, self._bearer) and not same_secret(value, self._bare):
                self._otherwise(x, call)
                return None
        elif self._required:
            self._otherwise(x, call)
            return None
        proxy = proxy_of(head)
        caller = <Caller?>x.client.origin.caller
        principal = caller.last(self._book, key, proxy, x.started_ns)
        if principal is None or marks_in(head) != (key is not None) or lacks_token(self._book, x, proxy):
            self._otherwise(x, call)
            return None
        call.principal, call.key_id = principal, caller._key_id
        return None


@cython.final
cdef class NameKeyOwner(Hook):
    """Where ours is not added and the app's own key passes: neither placeholder nor virtual key may pass with it.

    canaries: what may not stand anywhere in the head. otherwise(x, call): as above, also for a head that holds one.
    """

    def __init__(self, Book book, canaries, otherwise):
        self._book = book
        self._canaries = tuple(canaries)
        self._otherwise = otherwise

    cdef run(self, Exchange x, Call call):
        cdef Head head = x.head
        cdef bytes canary, proxy
        cdef Caller caller
        proxy = proxy_of(head)
        caller = <Caller?>x.client.origin.caller
        principal = caller.last(self._book, None, proxy, x.started_ns)
        if principal is None or holds(head, MARK, MARK_BYTES) or lacks_token(self._book, x, proxy):
            self._otherwise(x, call)
            return None
        for canary in self._canaries:
            if holds(head, PyBytes_AS_STRING(canary), PyBytes_GET_SIZE(canary)):
                self._otherwise(x, call)
                return None
        call.principal, call.key_id = principal, caller._key_id
        return None
