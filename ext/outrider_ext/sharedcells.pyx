# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Counters in memory that several processes share: exact, and without a lock where requests pass.

Rules kept
1. A rate's state is one pair of 64-bit words (a bucket's theoretical arrival time and its fraction, or a window's number
   and sums), changed by one 128-bit compare-and-swap. What the next state is, is worked out by the same classes that
   count in a process's own memory (outrider_ext.gcra, outrider_ext.counters): equal by construction. A refusal is
   confirmed by a swap of the state for itself, so it never rests on two halves of different states.
2. Slots are counted per worker; a worker changes its own word only. It first takes, then adds all words up, and gives
   back if there are too many: the last to take sees all others, so never more than the limit hold one; two who meet
   may both give back, and try again. A worker that died is cleared by setting its words to 0, wherever it was.
3. A key's cell is found or made under a lock of the file (POSIX record lock: the kernel frees it when its holder dies),
   once per worker and key. A key lies in one of WINDOW cells; the cell is live once its hash is written.
4. A cell is used again only when no worker holds a handle (a bit per worker in its state) and it counts nothing: a full
   bucket, a window that is over, no slot taken, a sum of 0 or of a period that is over.
Layout: a header page, `cells` of 64 bytes, `slots` of 256 bytes; new memory is zeros, and zeros are an empty table.

Does not know: names of keys (they come as hashes), clocks, which processes there are.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import cython

from outrider_ext.counters cimport Counter, FixedWindow, SlidingWindow
from outrider_ext.gcra cimport Bucket

cdef extern from * nogil:
    """
    #include <stdint.h>
    #if defined(__x86_64__)
    #define OUTRIDER_LOCK_FREE 1
    static inline int outrider_swap(void *at, int64_t *old, int64_t first, int64_t second) {
        unsigned char done;
        __asm__ __volatile__("lock cmpxchg16b %1\\n\\tsete %0"
            : "=q"(done), "+m"(*(volatile __int128 *)at), "+a"(old[0]), "+d"(old[1])
            : "b"(first), "c"(second) : "memory", "cc");
        return done;
    }
    #elif defined(__aarch64__)
    #define OUTRIDER_LOCK_FREE 1
    static inline int outrider_swap(void *at, int64_t *old, int64_t first, int64_t second) {
        int64_t a, b;
        int busy;
        do {
            __asm__ __volatile__("ldaxp %0, %1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at) : "memory");
            int same = a == old[0] && b == old[1];
            int64_t x = same ? first : a, y = same ? second : b;
            __asm__ __volatile__("stlxp %w0, %1, %2, [%3]" : "=&r"(busy) : "r"(x), "r"(y), "r"(at) : "memory");
            if (!busy && same) return 1;
        } while (busy);
        old[0] = a; old[1] = b;
        return 0;
    }
    #else
    #define OUTRIDER_LOCK_FREE 0
    static inline int outrider_swap(void *at, int64_t *old, int64_t first, int64_t second) { return 0; }
    #endif
    #define outrider_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define outrider_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define outrider_add32(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define outrider_or(p, v) __atomic_or_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define outrider_and(p, v) __atomic_and_fetch((p), (v), __ATOMIC_SEQ_CST)
    static inline int outrider_swap64(int64_t *at, int64_t *old, int64_t made) {
        return __atomic_compare_exchange_n(at, old, made, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    int OUTRIDER_LOCK_FREE
    int outrider_swap(void* at, int64_t* old, int64_t first, int64_t second) noexcept
    int64_t load64 "outrider_load" (int64_t* at) noexcept
    uint64_t load_state "outrider_load" (uint64_t* at) noexcept
    uint32_t load32 "outrider_load" (uint32_t* at) noexcept
    void store64 "outrider_store" (int64_t* at, int64_t value) noexcept
    void store_state "outrider_store" (uint64_t* at, uint64_t value) noexcept
    void store32 "outrider_store" (uint32_t* at, uint32_t value) noexcept
    uint32_t add32 "outrider_add32" (uint32_t* at, uint32_t value) noexcept
    uint64_t set_bits "outrider_or" (uint64_t* at, uint64_t bits) noexcept
    uint64_t keep_bits "outrider_and" (uint64_t* at, uint64_t bits) noexcept
    int swap64 "outrider_swap64" (int64_t* at, int64_t* old, int64_t made) noexcept

LOCK_FREE = bool(OUTRIDER_LOCK_FREE)
MAX_WORKERS = WORKERS_CAP
BUCKET, SUM, SLOTS = 1, 2, 3

cdef enum:
    HEADER_BYTES = 4096
    OF_BUCKET = 1
    OF_SUM = 2
    OF_SLOTS = 3
    ACQUIRE_TRIES = 64
    SUM_BITS = 40

cdef uint64_t LIVE = 1ULL << 63
cdef uint64_t RETIRED = 1ULL << 62
cdef uint64_t HOLDERS = (1ULL << WORKERS_CAP) - 1
cdef int64_t SUM_MASK = (1LL << SUM_BITS) - 1
MIN_WINDOW_NS = 1 << 14         # below it, the number of a window would not fit 48 bits
cdef int64_t MAX_SUM = (1LL << 62) - 1
cdef int64_t LONGEST_PERIOD_NS = 32 * 86_400_000_000_000        # that a budget has: a month


def segment_bytes(Py_ssize_t cells, Py_ssize_t slots):
    """How large the shared memory has to be."""
    return HEADER_BYTES + cells * CELL_BYTES + slots * SLOTS_BYTES


cdef class Segment:
    """One process's sight of the table. view: a writable, page-aligned buffer. lock(), unlock(): exclude other processes.

    worker: 0..MAX_WORKERS - 1; no two processes have the same at a time.
    """

    def __init__(self, view, Py_ssize_t cells, Py_ssize_t slots, int worker, lock, unlock):
        if not 0 <= worker < WORKERS_CAP:
            raise ValueError(f"A worker's number is from 0 to {WORKERS_CAP - 1}.")
        PyObject_GetBuffer(view, &self._buffer, PyBUF_WRITABLE)     # until __dealloc__: no counter outlives the mapping
        if cells < WINDOW or slots < WINDOW or self._buffer.len < segment_bytes(cells, slots):
            raise ValueError("The shared memory is too small.")
        if <uint64_t>self._buffer.buf % 64:
            raise ValueError("The shared memory is not aligned.")
        self._base = <uint8_t*>self._buffer.buf
        self._cells = cells
        self._slots = slots
        self.worker = worker
        self._lock = lock
        self._unlock = unlock

    def __dealloc__(self):
        PyBuffer_Release(&self._buffer)

    cdef cell_t* _at(self, bint is_slots, Py_ssize_t index) noexcept:
        cdef uint8_t* base = self._base + HEADER_BYTES
        if is_slots:
            return <cell_t*>(base + self._cells * CELL_BYTES + index * SLOTS_BYTES)
        return <cell_t*>(base + index * CELL_BYTES)

    def find(self, bint is_slots, uint64_t high, uint64_t low, int64_t kind, int64_t now_ns, bint insert=True):
        """A Handle on the key's cell; made if there is none; None where there is no room (or not insert).

        kind: BUCKET, SUM, SLOTS or, for a window, -2 - its period.
        """
        cdef Py_ssize_t index
        cdef Handle handle
        self._lock()
        try:
            index = self._find(is_slots, high, low, kind, now_ns, insert)
            if index < 0:
                return None
            handle = Handle.__new__(Handle)
            handle._segment = self
            handle._cell = self._at(is_slots, index)
            handle._bit = 1ULL << self.worker
            handle.index = index
            set_bits(&handle._cell.state, handle._bit)
            return handle
        finally:
            self._unlock()

    cdef Py_ssize_t _find(self, bint is_slots, uint64_t high, uint64_t low, int64_t kind, int64_t now_ns, bint insert):
        cdef Py_ssize_t size = self._slots if is_slots else self._cells, i, index, free = -1, idle = -1
        cdef cell_t* cell
        cdef uint64_t state
        for i in range(WINDOW):
            index = <Py_ssize_t>((high + <uint64_t>i) % <uint64_t>size)
            cell = self._at(is_slots, index)
            state = load_state(&cell.state)
            if not state & LIVE:
                if free < 0:
                    free = index
            elif cell.hash_high == high and cell.hash_low == low and cell.kind == kind:
                keep_bits(&cell.state, ~RETIRED)
                return index
            elif idle < 0 and not state & HOLDERS and counts_nothing(cell, state, now_ns):
                idle = index
        if not insert or (free < 0 and idle < 0):
            return -1
        index = free if free >= 0 else idle
        self._make(is_slots, self._at(is_slots, index), high, low, kind, now_ns)
        return index

    cdef _make(self, bint is_slots, cell_t* cell, uint64_t high, uint64_t low, int64_t kind, int64_t now_ns):
        """The state is set last: whoever dies before leaves a cell that is free."""
        cdef uint32_t* words = <uint32_t*>(<uint8_t*>cell + CELL_BYTES)
        cdef int i
        store_state(&cell.state, 0)
        cell.hash_high = high
        cell.hash_low = low
        cell.kind = kind
        store64(&cell.pair.first, 0)
        store64(&cell.pair.second, now_ns if kind == OF_SUM else 0)
        if is_slots:
            for i in range(WORKERS_CAP):
                store32(&words[i], 0)
        store_state(&cell.state, LIVE)

    def forget_worker(self, int worker):
        """That process is gone: its slots come back, its handles hold nothing. Returns the slots that came back."""
        cdef uint64_t others = ~(1ULL << worker)
        cdef Py_ssize_t i
        cdef cell_t* cell
        cdef uint32_t* words
        cdef int64_t freed = 0
        if not 0 <= worker < WORKERS_CAP:
            raise ValueError(f"A worker's number is from 0 to {WORKERS_CAP - 1}.")
        self._lock()
        try:
            for i in range(self._cells):
                cell = self._at(False, i)
                if cell.state & ~others:
                    keep_bits(&cell.state, others)
            for i in range(self._slots):
                cell = self._at(True, i)
                if cell.state & ~others:
                    words = <uint32_t*>(<uint8_t*>cell + CELL_BYTES)
                    freed += load32(&words[worker])
                    store32(&words[worker], 0)
                    keep_bits(&cell.state, others)
        finally:
            self._unlock()
        return freed

    @property
    def in_use(self):
        """(cells, slots) that are live."""
        cdef Py_ssize_t i, cells = 0, slots = 0
        for i in range(self._cells):
            cells += self._at(False, i).state >> 63
        for i in range(self._slots):
            slots += self._at(True, i).state >> 63
        return cells, slots


cdef bint counts_nothing(cell_t* cell, uint64_t state, int64_t now_ns) noexcept:
    cdef int64_t period_ns
    cdef uint32_t* words
    cdef int i
    if state & RETIRED:
        return True
    if cell.kind == OF_BUCKET:
        return load64(&cell.pair.first) < now_ns
    if cell.kind == OF_SUM:                 # nobody holds it, and its period is over whichever it was
        return load64(&cell.pair.first) == 0 or load64(&cell.pair.second) < now_ns - LONGEST_PERIOD_NS
    if cell.kind == OF_SLOTS:
        words = <uint32_t*>(<uint8_t*>cell + CELL_BYTES)
        for i in range(WORKERS_CAP):
            if load32(&words[i]):
                return False
        return True
    period_ns = -2 - cell.kind
    return <int64_t>(<uint64_t>load64(&cell.pair.first) >> 16) + 2 <= now_ns // period_ns


cdef inline pair_t read(cell_t* cell) noexcept:
    """Perhaps halves of two states: only a swap that succeeds says that it was one."""
    cdef pair_t found
    found.first = load64(&cell.pair.first)
    found.second = load64(&cell.pair.second)
    return found


@cython.final
cdef class Handle:
    """A process's right to count in a cell; the cell stays what it is until this object is gone."""

    def __dealloc__(self):
        if self._cell is not NULL:
            keep_bits(&self._cell.state, ~self._bit)

    def retire(self):
        """Its period is over: the cell may be used again once nobody holds it, whatever it says."""
        set_bits(&self._cell.state, RETIRED)


# What is done to a rate, in one step.
cdef enum:
    TAKE = 0
    GIVE_BACK = 1
    FORCE = 2
    REMAINING = 3


cdef class SharedRate(Counter):
    """A rate on a shared cell: each step is done by a private counter, and again where another process was faster."""

    cdef void _get(self, pair_t* old) noexcept:
        """The cell's state into the private counter."""
        pass

    cdef pair_t _made(self) noexcept:
        """The private counter's state, for the cell."""
        cdef pair_t made
        made.first = made.second = 0
        return made

    cdef int64_t _step(self, int what, int64_t now_ns, int64_t cost) except? -3:
        cdef cell_t* cell = self._handle._cell
        cdef pair_t old = read(cell), made
        cdef int64_t answer = 0
        while True:
            self._get(&old)
            if what == TAKE:
                answer = self._private.charge(now_ns, cost)
            elif what == GIVE_BACK:
                self._private.give_back(now_ns, cost)
            elif what == FORCE:
                self._private.force(now_ns, cost)
            else:
                answer = self._private.remaining(now_ns)
            made = self._made()
            if outrider_swap(&cell.pair, &old.first, made.first, made.second):
                return answer

    cpdef int64_t charge(self, int64_t now_ns, int64_t cost) except? -3:
        return self._step(TAKE, now_ns, cost)

    cpdef give_back(self, int64_t now_ns, int64_t cost):
        self._step(GIVE_BACK, now_ns, cost)

    cpdef force(self, int64_t now_ns, int64_t cost):
        self._step(FORCE, now_ns, cost)

    cpdef int64_t remaining(self, int64_t now_ns) except? -3:
        return self._step(REMAINING, now_ns, 0)


@cython.final
cdef class SharedBucket(SharedRate):
    """outrider_ext.gcra.Bucket on a shared cell. Raises: what that raises."""

    def __init__(self, Handle handle, count, period_ns, burst):
        cdef BucketCounter private = BucketCounter(count, period_ns, burst)
        self._handle = handle
        self._private = private
        self._sums = private.bucket

    cdef void _get(self, pair_t* old) noexcept:
        self._sums.tat_ns, self._sums._tat_part = old.first, old.second

    cdef pair_t _made(self) noexcept:
        cdef pair_t made
        made.first, made.second = self._sums.tat_ns, self._sums._tat_part
        return made

    @property
    def state(self):
        """(TAT in ns, its fraction in 1/count ns)."""
        cdef pair_t old = read(self._handle._cell)
        return old.first, old.second


# A window's pair: its number (48 bits), what was used in it and in the one before (40 bits each).

cdef inline pair_t packed(int64_t number, int64_t used, int64_t before) noexcept:
    cdef pair_t made
    used = used if used <= SUM_MASK else SUM_MASK
    before = before if before <= SUM_MASK else SUM_MASK
    made.first = <int64_t>((<uint64_t>number << 16) | (<uint64_t>used >> 24))
    made.second = <int64_t>((<uint64_t>used << SUM_BITS) | <uint64_t>before)
    return made


cdef inline int64_t number_in(pair_t* old) noexcept:
    return <int64_t>(<uint64_t>old.first >> 16)


cdef inline int64_t used_in(pair_t* old) noexcept:
    return ((old.first & 0xFFFF) << 24) | <int64_t>(<uint64_t>old.second >> SUM_BITS)


cdef _check_period(period_ns):
    if period_ns < MIN_WINDOW_NS:
        raise ValueError(f"A shared window is at least {MIN_WINDOW_NS} ns long.")


@cython.final
cdef class SharedFixedWindow(SharedRate):
    """outrider_ext.counters.FixedWindow on a shared cell."""

    def __init__(self, Handle handle, count, period_ns):
        _check_period(period_ns)
        self._handle = handle
        self._private = self._sums = FixedWindow(count, period_ns)

    cdef void _get(self, pair_t* old) noexcept:
        self._sums.start_ns = number_in(old) * self._sums.period_ns
        self._sums.used = used_in(old)

    cdef pair_t _made(self) noexcept:
        return packed(self._sums.start_ns // self._sums.period_ns, self._sums.used, 0)


@cython.final
cdef class SharedSlidingWindow(SharedRate):
    """outrider_ext.counters.SlidingWindow on a shared cell."""

    def __init__(self, Handle handle, count, period_ns):
        _check_period(period_ns)
        self._handle = handle
        self._private = self._sums = SlidingWindow(count, period_ns)

    cdef void _get(self, pair_t* old) noexcept:
        self._sums.start_ns = number_in(old) * self._sums.period_ns
        self._sums.used = used_in(old)
        self._sums.before = old.second & SUM_MASK

    cdef pair_t _made(self) noexcept:
        return packed(self._sums.start_ns // self._sums.period_ns, self._sums.used, self._sums.before)


@cython.final
cdef class SharedSlots:
    """At most `limit` at once over all workers. release() once for each acquired; one too many is ignored."""

    def __init__(self, Handle handle, int64_t limit):
        self._handle = handle
        self.limit = limit
        self._held = <uint32_t*>(<uint8_t*>handle._cell + CELL_BYTES)

    cpdef bint acquire(self) except -1:
        cdef uint32_t* own = self._held + self._handle._segment.worker
        cdef int i
        for i in range(ACQUIRE_TRIES):
            add32(own, 1)
            if self._sum() <= self.limit:
                return True
            add32(own, <uint32_t>-1)
            if self._sum() >= self.limit:       # full without us, and not only by another who tries
                return False
        return False

    cpdef release(self):
        cdef uint32_t* own = self._held + self._handle._segment.worker
        if load32(own) > 0:
            add32(own, <uint32_t>-1)

    cdef int64_t _sum(self) noexcept:
        cdef int64_t total = 0
        cdef int i
        for i in range(WORKERS_CAP):
            total += load32(self._held + i)
        return total

    @property
    def in_use(self):
        """Over all workers."""
        return self._sum()

    @property
    def held(self):
        """By this worker."""
        return load32(self._held + self._handle._segment.worker)


@cython.final
cdef class SharedSum:
    """A sum of one period, never below zero. The second word of its pair says when it was begun."""

    def __init__(self, Handle handle):
        self._handle = handle

    cpdef int64_t add(self, int64_t amount) except? -1:
        cdef int64_t* at = &self._handle._cell.pair.first
        cdef int64_t old = load64(at), made
        while True:
            if amount > 0 and old > MAX_SUM - amount:
                made = MAX_SUM
            else:
                made = old + amount if old + amount > 0 else 0
            if swap64(at, &old, made):
                return made

    cpdef int64_t value(self) except? -1:
        return load64(&self._handle._cell.pair.first)

    def retire(self):
        self._handle.retire()
