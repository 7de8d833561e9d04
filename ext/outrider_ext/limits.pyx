# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Limits and budgets on the way of an exchange: admitted, borrowed from, settled, without a frame of Python.

Rules
- What applies to (principal, model) on a route is a Plan, made once by the layer (proxy/outrider/stack) and found by one
  look-up. All of a plan's rows admit, or none is charged.
- What was charged is written in the exchange's Lease before anything else can happen, and is settled once, by Settle,
  which runs at the end of every exchange however it ended: it is the one place where slots are freed and where the
  difference between what was borrowed and what was used is taken or given back.
- What an exchange borrowed follows from its lease alone, so nothing is stored per row.
- Usage that never came settles as the estimate. Only what was never sent, and what the provider refused, costs nothing.
- What has to wait (a queue, a lease from afar) is the layer's `slow` function.

Does not know: configuration, where counters live, sentences.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.ref cimport PyObject

import cython

from time import monotonic_ns, time_ns

from outrider_ext.relay cimport ANSWERED_OUTCOME

cdef enum:
    TOTAL = 0
    INPUT = 1
    OUTPUT = 2
    UNLEARNED_OUTPUT = 1024          # tokens that an answer is taken to have while nothing is known about the caller,
    UNLEARNED_MOST = 4096            # and while all that is known is how many were asked for, if they are no more
    LEARNED_AFTER = 5                # answers
    CALL_TOKENS_CAP = 10_000_000     # no model takes more: what a provider reports beyond it is not believed
    REMEMBERED_MODEL_CHARS = 120
    CELLS = 40                       # of a half octave each: 2**20 tokens
    BLOCK = 256                      # bytes of a body that are judged together
    WHOLE_BYTES = 65536              # a body up to here is read whole, of a longer one a part
    BLOB_TOKENS = 1000               # an image or a file inside a body, whatever its size
    QUARTER_NS = 900_000_000_000     # prices change at quarters of an hour

cdef double SHORT_PROMPT = 16        # tokens: of less nothing is learned

# -- tokens of a body, guessed from its bytes

# 1/256 tokens a byte, by class: least squares over recorded OpenAI requests (tests/govern/test_estimate.py).
# In the upper half: 1 for a byte that base64 does not have. Sums over a block fit their halves.
cdef unsigned int[256] WEIGHT


cdef _fill_tables():
    cdef int byte
    for byte in range(256):
        if byte >= 128:
            WEIGHT[byte] = 102
        elif chr(byte).isalpha():
            WEIGHT[byte] = 51
        elif chr(byte).isdigit():
            WEIGHT[byte] = 77
        elif chr(byte).isspace():
            WEIGHT[byte] = 23
        else:
            WEIGHT[byte] = 15
        if byte >= 128 or not (chr(byte).isalnum() or chr(byte) in "+/=-_"):
            WEIGHT[byte] += 1 << 16


_fill_tables()


cdef extern from *:
    """
    #if defined(__SSE2__) && defined(__GNUC__)
    #include <emmintrin.h>
    #define OUTRIDER_BLOCKS 1
    static inline __m128i outrider_between(__m128i bytes, char low, char count) {
        const __m128i off = _mm_sub_epi8(bytes, _mm_set1_epi8(low));
        return _mm_cmpeq_epi8(_mm_min_epu8(off, _mm_set1_epi8((char)(count - 1))), off);
    }
    static inline unsigned outrider_sum(__m128i counts) {
        const __m128i halves = _mm_sad_epu8(counts, _mm_setzero_si128());
        return (unsigned)(_mm_cvtsi128_si32(halves) + _mm_cvtsi128_si32(_mm_srli_si128(halves, 8)));
    }
    /* What WEIGHT adds up to over 256 bytes; in the upper half white space and other scripts, which base64 has not. */
    static unsigned outrider_weigh_block(const unsigned char* at) {
        const __m128i zero = _mm_setzero_si128();
        __m128i letters = zero, digits = zero, spaces = zero, others = zero;
        for (int i = 0; i < 256; i += 16) {    /* a mask is -1, and sixteen of them fit a byte */
            const __m128i bytes = _mm_loadu_si128((const __m128i*)(at + i));
            const __m128i blank = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(32)),
                _mm_or_si128(outrider_between(bytes, 9, 5), outrider_between(bytes, 28, 4)));
            letters = _mm_sub_epi8(letters, outrider_between(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26));
            digits = _mm_sub_epi8(digits, outrider_between(bytes, '0', 10));
            spaces = _mm_sub_epi8(spaces, blank);
            others = _mm_sub_epi8(others, _mm_cmplt_epi8(bytes, zero));
        }
        const unsigned l = outrider_sum(letters), d = outrider_sum(digits), s = outrider_sum(spaces);
        const unsigned o = outrider_sum(others), signs = 256 - l - d - s - o;
        return (51 * l + 77 * d + 23 * s + 102 * o + 15 * signs) + ((s + o) << 16);
    }
    #else
    #define OUTRIDER_BLOCKS 0
    static unsigned outrider_weigh_block(const unsigned char* at) { (void)at; return 0; }
    #endif
    """
    enum:
        OUTRIDER_BLOCKS
    unsigned int outrider_weigh_block(const unsigned char* at) noexcept


cdef inline unsigned int _weigh(const unsigned char* base, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Weights of these bytes in the lower half, and how many are not base64's in the upper."""
    cdef unsigned int sums = 0, more = 0
    cdef Py_ssize_t i = at
    if OUTRIDER_BLOCKS and end - at == BLOCK:
        sums = outrider_weigh_block(base + at)
        if sums >> 16:                      # else its signs have to be looked at, too
            return sums
        sums = 0
    while i + 4 <= end:
        sums += WEIGHT[base[i]] + WEIGHT[base[i + 1]]
        more += WEIGHT[base[i + 2]] + WEIGHT[base[i + 3]]
        i += 4
    while i < end:
        sums += WEIGHT[base[i]]
        i += 1
    return sums + more


cpdef long long estimate_tokens(bytes body) except -1:
    """Tokens of a request, by its bytes: letters, digits, spaces, signs and other scripts weigh differently.

    A run of base64 counts as one blob, not by its length. Cost: 0.2 ns a byte, at most 64 kB are read.
    """
    cdef const unsigned char* base = <const unsigned char*>PyBytes_AS_STRING(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), at = 0, end, stride = BLOCK, blocks = 0, all_blocks
    cdef unsigned long long total = 0, blobs = 0
    cdef unsigned int sums
    cdef bint in_blob = False
    if size > WHOLE_BYTES:
        stride = (size // WHOLE_BYTES + 1) * BLOCK
    while at < size:
        end = at + BLOCK if at + BLOCK < size else size
        sums = _weigh(base, at, end)
        blocks += 1
        if sums >> 16 == 0 and end - at == BLOCK:
            if not in_blob:
                blobs += 1
            in_blob = True
        else:
            total += sums & 0xFFFF
            in_blob = False
        at += stride
    if stride > BLOCK:
        all_blocks = (size + BLOCK - 1) // BLOCK
        total = total * <unsigned long long>all_blocks // <unsigned long long>blocks
    return <long long>(total >> 8) + <long long>blobs * BLOB_TOKENS + 1


@cython.final
cdef class Family:
    """How far the estimate is off for one family of models: the mean of actual / estimated, newest first.

    error: the mean of |corrected - actual| / actual.
    """

    def __init__(self, str name):
        self.name = name
        self.ratio = 1.0

    cpdef int64_t corrected(self, int64_t raw) noexcept:
        cdef double value = raw * self.ratio
        return <int64_t>(value + 0.5) if value < CALL_TOKENS_CAP else CALL_TOKENS_CAP

    cpdef learn(self, int64_t raw, int64_t actual):
        cdef double seen, off, part
        if raw <= 0 or actual < SHORT_PROMPT:
            return
        seen = <double>actual / raw
        off = raw * self.ratio / actual - 1.0
        if off < 0:
            off = -off
        seen = 0.05 if seen < 0.05 else 20.0 if seen > 20.0 else seen
        self.seen += 1
        part = 1.0 / (self.seen + 2) if self.seen < 50 else 0.02    # as if two had been estimated right
        self.ratio += part * (seen - self.ratio)
        self.error += part * ((off if off < 20.0 else 20.0) - self.error)


@cython.final
cdef class Outputs:
    """The 90th percentile of what one caller's answers hold, over about the last hundred: cells of half an octave.

    p90 is the upper bound of its cell; -1 while fewer than five answers were seen.
    """

    def __cinit__(self):
        self._weight = 1.0
        self.p90 = -1

    cpdef learn(self, int64_t made):
        cdef int cell = 0, i
        cdef int64_t bound = 1
        cdef double sum = 0.0, wanted
        while cell < CELLS - 1 and bound < made:
            cell += 1
            bound = _upper(cell)
        self._cells[cell] += self._weight
        self._total += self._weight
        self._weight *= 1.02
        self.seen += 1
        if self._weight > 1e9:
            self._rescale()
        if self.seen < LEARNED_AFTER:
            return
        wanted = 0.9 * self._total
        for i in range(CELLS):
            sum += self._cells[i]
            if sum >= wanted:
                self.p90 = _upper(i)
                return

    cdef _rescale(self):
        cdef int i
        for i in range(CELLS):
            self._cells[i] *= 1e-9
        self._total *= 1e-9
        self._weight *= 1e-9


cdef inline int64_t _upper(int cell) noexcept:
    """1, 1.5, 2, 3, 4, 6, 8, ... rounded up."""
    cdef int64_t power = 1LL << (cell // 2)
    return power if cell % 2 == 0 else power + (power + 1) // 2


# -- time


@cython.final
cdef class Clock:
    """Wall-clock ns. steady: never goes back, for rates. wall: follows the machine's clock, for calendars.

    fixed_ns: -1, or the one time that it is (tests).
    """

    def __init__(self, fixed_ns=-1):
        self.fixed_ns = fixed_ns
        self.offset_ns = time_ns() - monotonic_ns()
        self.wall_offset_ns = self.offset_ns

    def refresh(self, bint shared=False):
        """Follow the machine's clock; shared: rates too, since others count by theirs."""
        self.wall_offset_ns = time_ns() - monotonic_ns()
        if shared:
            self.offset_ns = self.wall_offset_ns

    cpdef int64_t steady(self, int64_t monotonic_ns) noexcept:
        return monotonic_ns + self.offset_ns if self.fixed_ns < 0 else self.fixed_ns

    cpdef int64_t wall(self, int64_t monotonic_ns) noexcept:
        return monotonic_ns + self.wall_offset_ns if self.fixed_ns < 0 else self.fixed_ns


# -- rows: one rule as it applies to one key


cdef class Row:
    """name: of the rule. what: "requests", "tokens", "concurrent", "usd". room: where callers wait, None: nowhere.

    allowed, rejected: Tally, or None where another row of the same rule counts.
    """

    def __init__(self, str name, str what, str key, rule, Tally allowed, Tally rejected, room=None):
        self.name = name
        self.what = what
        self.key = key
        self.rule = rule
        self._allowed = allowed
        self._rejected = rejected
        self.room = room

    def rejected(self):
        """One more call was refused by it."""
        self._rejected.n += 1

    cdef int64_t waiting(self) except -1:
        return self.room.waiting if self.room is not None else 0


@cython.final
cdef class RateRow(Row):
    """At most so many requests."""

    def __init__(self, str name, str key, rule, Counter counter, Tally allowed, Tally rejected, room=None):
        Row.__init__(self, name, "requests", key, rule, allowed, rejected, room)
        self.counter = counter


@cython.final
cdef class SlotRow(Row):
    """At most so many at once."""

    def __init__(self, str name, str key, rule, slots, Tally allowed, Tally rejected, room=None):
        Row.__init__(self, name, "concurrent", key, rule, allowed, rejected, room)
        self.slots = slots
        self._slots = slots if isinstance(slots, Slots) else None

    cdef bint acquire(self) except -1:
        return self._slots.acquire() if self._slots is not None else self.slots.acquire()

    cdef release(self):
        if self._slots is not None:
            self._slots.release()
        else:
            self.slots.release()


@cython.final
cdef class TokenRow(Row):
    """At most so many tokens. kind: 0 total, 1 input, 2 output. reserve_max: all that the call may use is borrowed."""

    def __init__(self, str name, str key, rule, Counter counter, int64_t burst, int kind, bint reserve_max,
                 Tally allowed, Tally rejected, room=None):
        Row.__init__(self, name, "tokens", key, rule, allowed, rejected, room)
        self.counter = counter
        self.burst = burst
        self.kind = kind
        self.reserve_max = reserve_max

    def wanted(self, Lease lease):
        """Tokens that this lease borrows."""
        return self.amount(lease)

    cdef int64_t amount(self, Lease lease) noexcept:
        cdef int64_t made = lease.output, wanted
        if self.reserve_max and self.kind != INPUT:
            if lease.output_max < 0:
                return self.burst           # nothing bounds it but the limit itself
            made = lease.output_max
        wanted = self.used(lease.input_max if self.reserve_max else lease.input, made)
        if self.reserve_max:
            return wanted                   # more than the burst is never admitted: a hard cap
        return wanted if wanted < self.burst else self.burst

    cdef int64_t used(self, int64_t given, int64_t made) noexcept:
        return given if self.kind == INPUT else made if self.kind == OUTPUT else given + made


@cython.final
cdef class BudgetRow(Row):
    """At most `limit` (nano-dollars or tokens) in a period of the calendar.

    spend.doubt(period), where it has one -> 0, or why this sum cannot be judged by now (outrider.store.base).
    period_of(wall_ns) -> (name, start_ns, end_ns). marks: ((amount, percent), ...) ascending. on_threshold(row, percent,
    spent) is called once for each mark and period, when what is settled reaches it.
    """

    def __init__(self, str name, str key, rule, spend, int64_t limit, bint in_tokens, bint denies, tuple marks,
                 period_of, on_threshold, Tally allowed, Tally rejected):
        Row.__init__(self, name, "tokens" if in_tokens else "usd", key, rule, allowed, rejected, None)
        self.spend = spend
        self._spend = spend if isinstance(spend, Spend) else None
        self._doubt_of = getattr(spend, "doubt", None)
        self.limit = limit
        self.in_tokens = in_tokens
        self.denies = denies
        self._marks = marks
        self._period_of = period_of
        self._on_threshold = on_threshold
        self.period = ""

    @property
    def spent(self):
        """Settled in the current period."""
        return max(self._sum(self.period) - self.open, 0) if self.period else 0

    def spent_at(self, wall_ns):
        """Settled in the period of this time."""
        self.at(wall_ns)
        return self.spent

    def _sum(self, period):
        return self.spend.spent(period)

    cdef str at(self, int64_t wall_ns):
        """The name of that time's period; the row turns to it when it is a newer one."""
        if self.start_ns <= wall_ns < self.end_ns:
            return self.period
        name, start, end = self._period_of(wall_ns)
        if start > self.start_ns or not self.period:
            self.period, self.start_ns, self.end_ns = name, start, end
            self.open = 0
            self._said = 0
            spent = self._sum(name)
            while self._said < len(self._marks) and self._marks[self._said][0] <= spent:
                self._said += 1             # said before: by what this row was before a reload
        return name

    cdef int64_t add(self, str period, int64_t amount) except? -1:
        return self._spend.add(period, amount) if self._spend is not None else self.spend.add(period, amount)

    cdef void hold(self, str period, int64_t amount) noexcept:
        """So much more (or less) of that period's sum is borrowed. What is open of another period is not counted here."""
        if period == self.period:
            self.open = self.open + amount if self.open + amount > 0 else 0

    cdef int64_t amount(self, Lease lease) noexcept:
        return lease.input + lease.output if self.in_tokens else lease.cost_nusd

    cdef settle(self, Lease lease, int64_t actual):
        cdef int64_t borrowed = self.amount(lease), sum = 0
        cdef str period = self.at(lease.wall_ns)
        if actual != borrowed:
            sum = self.add(period, actual - borrowed)
        if period != self.period:
            return
        self.hold(period, -borrowed)
        if self._said < len(self._marks):
            if actual == borrowed:
                sum = self._sum(period)
            self._say(sum - self.open)

    def _say(self, spent):
        while self._said < len(self._marks) and self._marks[self._said][0] <= spent:
            percent = self._marks[self._said][1]
            self._said += 1
            self._on_threshold(self, percent, spent)


# -- plans and leases


@cython.final
cdef class Plan:
    """All rows that one stage charges for one (principal, model). family, outputs: None where no tokens are counted.

    needs_price: a budget in dollars is among the rows. refusal: raises what every call gets, None mostly.
    """

    def __init__(self, *, rates=(), slots=(), tokens=(), budgets=(), family=None, outputs=None, needs_price=False,
                 refusal=None):
        self.rates = tuple(rates)
        self.slots = tuple(slots)
        self.tokens = tuple(tokens)
        self.budgets = tuple(budgets)
        self.family = family
        self.outputs = outputs
        self.needs_price = needs_price
        self.refusal = refusal
        self.rows = (*self.slots, *self.rates, *self.tokens, *self.budgets)
        self.waits = any(row.room is not None for row in self.rows)
        self.empty = not self.rows

    cdef int64_t crowd(self) except -1:
        """How many wait for rows of this plan: who comes later may not overtake them."""
        cdef int64_t count = 0
        cdef Row row
        if self.waits:
            for row in self.rows:
                count += row.waiting()
        return count


@cython.final
@cython.freelist(64)
cdef class Lease:
    """What one exchange was charged, until it is settled."""

    def __cinit__(self):
        self.output_max = -1


cdef object _charge(Plan plan, Lease lease, int64_t now, int64_t wall):
    """None when every row admitted; else (row, ns to wait, -1 for never), and nothing is charged."""
    cdef Py_ssize_t i
    cdef int64_t wait_ns, amount
    cdef SlotRow slot
    cdef RateRow rate
    cdef TokenRow token
    cdef BudgetRow budget
    cdef str period
    for i in range(len(plan.slots)):
        slot = <SlotRow>plan.slots[i]
        if not slot.acquire():
            _undo(plan, lease, now, wall, i, 0, 0, 0)
            return slot, 0
    for i in range(len(plan.rates)):
        rate = <RateRow>plan.rates[i]
        wait_ns = rate.counter.charge(now, 1)
        if wait_ns:
            _undo(plan, lease, now, wall, len(plan.slots), i, 0, 0)
            return _tightest(plan, lease, now, rate, wait_ns)
    for i in range(len(plan.tokens)):
        token = <TokenRow>plan.tokens[i]
        wait_ns = token.counter.charge(now, token.amount(lease))
        if wait_ns:
            _undo(plan, lease, now, wall, len(plan.slots), len(plan.rates), i, 0)
            return _tightest(plan, lease, now, token, wait_ns)
    for i in range(len(plan.budgets)):
        budget = <BudgetRow>plan.budgets[i]
        amount = budget.amount(lease)
        period = budget.at(wall)
        if budget._doubt_of is not None and budget.denies:
            wait_ns = budget._doubt_of(period)
            if wait_ns:
                _undo(plan, lease, now, wall, len(plan.slots), len(plan.rates), len(plan.tokens), i)
                return budget, wait_ns
        budget.hold(period, amount)
        if budget.add(period, amount) > budget.limit and budget.denies:
            _undo(plan, lease, now, wall, len(plan.slots), len(plan.rates), len(plan.tokens), i + 1)
            return budget, budget.end_ns - wall
    return None


cdef _undo(Plan plan, Lease lease, int64_t now, int64_t wall, Py_ssize_t slots, Py_ssize_t rates, Py_ssize_t tokens,
           Py_ssize_t budgets):
    """Give back the first so many rows of each kind."""
    cdef Py_ssize_t i
    cdef TokenRow token
    cdef BudgetRow budget
    cdef str period
    cdef int64_t amount
    for i in range(budgets):
        budget = <BudgetRow>plan.budgets[i]
        amount = budget.amount(lease)
        period = budget.at(wall)
        budget.add(period, -amount)
        budget.hold(period, -amount)
    for i in range(tokens):
        token = <TokenRow>plan.tokens[i]
        token.counter.give_back(now, token.amount(lease))
    for i in range(rates):
        (<RateRow>plan.rates[i]).counter.give_back(now, 1)
    for i in range(slots):
        (<SlotRow>plan.slots[i]).release()


cdef object _tightest(Plan plan, Lease lease, int64_t now, Row row, int64_t wait_ns):
    """Of all rates that do not admit, the one that keeps the caller longest."""
    cdef int64_t other_ns
    cdef RateRow rate
    cdef TokenRow token
    if wait_ns < 0:
        return row, wait_ns
    for rate in plan.rates:
        if rate is not row:
            other_ns = rate.counter.charge(now, 1)
            if other_ns == 0:
                rate.counter.give_back(now, 1)
            elif other_ns > wait_ns:
                row, wait_ns = rate, other_ns
    for token in plan.tokens:
        if token is not row:
            other_ns = token.counter.charge(now, token.amount(lease))
            if other_ns == 0:
                token.counter.give_back(now, token.amount(lease))
            elif other_ns < 0 or other_ns > wait_ns:
                row, wait_ns = token, other_ns
                if other_ns < 0:
                    break
    return row, wait_ns


cdef _count_allowed(Plan plan):
    cdef Row row
    for row in plan.rows:
        if row._allowed is not None:
            row._allowed.n += 1


cpdef object admit(Plan plan, Exchange x, Call call, Clock clock, bint second, int64_t monotonic):
    """Charge the plan now. None: admitted, and written in the lease; else (row, ns to wait).

    The second stage's refusal gives back what the first one took, unless the caller waits: see `release`.
    """
    cdef Lease lease = call.lease
    cdef int64_t now = clock.steady(monotonic), wall = clock.wall(monotonic)
    if lease is None:
        call.lease = lease = Lease.__new__(Lease)
    refused = _charge(plan, lease, now, wall)
    if refused is not None:
        return refused
    if second:
        lease.second, lease.second_ns, lease.wall_ns = plan, now, wall
    else:
        lease.first, lease.first_ns = plan, now
    _count_allowed(plan)
    return None


def release(Call call):
    """A refusal: what the first stage took is given back."""
    cdef Lease lease = call.lease
    if lease is not None and not lease.closed and lease.first is not None:
        plan, lease.first = lease.first, None
        _undo(plan, lease, lease.first_ns, 0, len(plan.slots), len(plan.rates), 0, 0)
        _poke(plan)


cpdef give_back(Lease lease, bint sent=False, Plan kept=None):
    """What the body's stage took is given back, since another target serves the call, or none.

    sent: a request went out, so it stays counted as one where `kept`, which is charged next, does not count it.
    """
    cdef Plan plan = lease.second
    cdef RateRow rate
    if plan is None or lease.closed:
        return
    lease.second = None
    for rate in plan.rates:
        if not sent or (kept is not None and rate in kept.rates):
            rate.counter.give_back(lease.second_ns, 1)
    _undo(plan, lease, lease.second_ns, lease.wall_ns, len(plan.slots), 0, len(plan.tokens), len(plan.budgets))
    _poke(plan)


def exchange(Call call, Lease other):
    """The call goes on with the other lease; what it took at the request goes with it. -> the lease that it had."""
    cdef Lease lease = call.lease
    if lease is None:
        lease = Lease.__new__(Lease)
    other.first, other.first_ns = lease.first, lease.first_ns
    lease.first = None
    call.lease = other
    return lease


cdef _poke(Plan plan):
    """Something came free: whoever waits for it may look."""
    cdef Row row
    if plan.waits:
        for row in plan.rows:
            if row.room is not None and row.room.waiting:
                row.room.poke()


cdef _free(Plan plan):
    """A call that was admitted has ended: its slots are free."""
    cdef SlotRow row
    for row in plan.slots:
        row.release()
    _poke(plan)


@cython.final
cdef class Admit(Hook):
    """The request's stage: what can be decided before the body is there.

    plans: principal -> Plan, kept by the layer. plan_of(principal) makes one. slow(x, call, plan, refused) raises or
    returns an awaitable; refused is None where others wait already.
    """

    def __init__(self, Clock clock, dict plans, plan_of, slow, anonymous):
        self._clock = clock
        self._plans = plans
        self._plan_of = plan_of
        self._slow = slow
        self._anonymous = anonymous

    cdef run(self, Exchange x, Call call):
        cdef object principal = call.principal if call.principal is not None else self._anonymous
        cdef PyObject* found = PyDict_GetItem(self._plans, principal)
        cdef Plan plan = <Plan>found if found != NULL else self._plan_of(principal)
        if plan.empty:
            return None
        if plan.waits and plan.crowd():
            return self._slow(x, call, plan, None)
        refused = admit(plan, x, call, self._clock, False, x.started_ns)
        if refused is not None:
            return self._slow(x, call, plan, refused)
        return None


@cython.final
cdef class Borrow(Hook):
    """The body's stage: tokens, dollars, and what is counted by model.

    plans: (principal, model) -> Plan. plan_of(principal, model) makes one. tariff_of(plan, model) -> Tariff or None.
    counts: the operation makes tokens. planned(x, call): what is done for a call that has several targets.
    """

    def __init__(self, Clock clock, dict plans, plan_of, slow, anonymous, tariff_of, bint counts, planned=None):
        self._clock = clock
        self._plans = plans
        self._plan_of = plan_of
        self._slow = slow
        self._anonymous = anonymous
        self._tariff_of = tariff_of
        self._counts = counts
        self._planned = planned

    cdef Plan _find(self, Call call):
        cdef object principal = call.principal if call.principal is not None else self._anonymous
        cdef tuple key = (principal, call.model)
        cdef PyObject* found = PyDict_GetItem(self._plans, key)
        return <Plan>found if found != NULL else self._plan_of(principal, call.model)

    def take(self, Exchange x, Call call, bytes body, bint sent):
        """For one of several targets, by call.model; what the call had borrowed for another is given back first.

        -> (plan, None): admitted; (plan, (row, ns to wait)): not, and nothing is borrowed at this stage. body: the
        app's. sent: the other was asked. Raises: what the plan refuses every call with.
        """
        cdef Lease lease = <Lease?>call.lease if call.lease is not None else Lease.__new__(Lease)
        cdef Plan plan = self._find(call), before = lease.second
        cdef int64_t monotonic = _now()
        cdef Row row
        call.lease = lease
        give_back(lease, sent, plan)
        if plan.refusal is not None:
            plan.refusal()
        if plan.empty:
            return plan, None
        if self._counts and plan.family is not None:
            self._estimate(x, call, plan, lease, body)
        if plan.waits:
            for row in plan.rows:
                if row.waiting():
                    return plan, (row, 0)
        refused = _charge(plan, lease, self._clock.steady(monotonic), self._clock.wall(monotonic))
        if refused is None:
            lease.second = plan
            lease.second_ns, lease.wall_ns = self._clock.steady(monotonic), self._clock.wall(monotonic)
            for row in plan.rows:
                if row._allowed is not None and (before is None or row not in before.rows):
                    row._allowed.n += 1
        return plan, refused

    cdef run(self, Exchange x, Call call):
        cdef Plan plan
        cdef Lease lease
        cdef int64_t monotonic = x.started_ns
        if call.dispatch is not None and self._planned is not None:
            return self._planned(x, call)
        plan = self._find(call)
        if call.body_asked:                 # the body came later than the head
            monotonic = _now()
        if plan.refusal is not None:
            release(call)
            plan.refusal()
        if plan.empty:
            return None
        if call.lease is None:
            call.lease = Lease.__new__(Lease)
        lease = <Lease>call.lease
        if self._counts and plan.family is not None:
            self._estimate(x, call, plan, lease, x.body)
        if plan.waits and plan.crowd():
            return self._slow(x, call, plan, None)
        refused = admit(plan, x, call, self._clock, True, monotonic)
        if refused is not None:
            return self._slow(x, call, plan, refused)
        return None

    cdef _estimate(self, Exchange x, Call call, Plan plan, Lease lease, bytes body):
        """Input by the body's bytes, output by what this caller's answers held, at most what it asked for."""
        cdef int64_t most = call.max_tokens, wall
        if body is not None:
            lease.raw_input = estimate_tokens(body)
        else:                               # longer than what is held
            lease.raw_input = CALL_TOKENS_CAP if x.request_bytes > 8 * CALL_TOKENS_CAP else x.request_bytes // 4
        lease.input = lease.input_max = plan.family.corrected(lease.raw_input)
        if lease.input_max < x.request_bytes // 4:      # for a hard cap, blobs count like text
            lease.input_max = x.request_bytes // 4 if x.request_bytes < 4 * CALL_TOKENS_CAP else CALL_TOKENS_CAP
        lease.output = plan.outputs.p90
        if lease.output < 0:
            lease.output = UNLEARNED_OUTPUT if most < 0 else UNLEARNED_MOST
        if most >= 0:
            most = most if most < CALL_TOKENS_CAP else CALL_TOKENS_CAP
            lease.output_max = most
            if lease.output > most:
                lease.output = most
        if plan.needs_price:
            wall = self._clock.wall(x.started_ns)
            if wall >= plan._tariff_until_ns:
                plan._tariff = self._tariff_of(plan, call.model)
                plan._tariff_until_ns = wall - wall % QUARTER_NS + QUARTER_NS
            if plan._tariff is not None:
                lease.cost_nusd = plan._tariff.estimate(lease.input, lease.output)


cdef int64_t _now() noexcept:
    return monotonic_ns()


@cython.final
cdef class Settle(Hook):
    """The end, always and once. counts: the operation makes tokens."""

    def __init__(self, Clock clock, bint counts):
        self._clock = clock
        self._counts = counts

    cdef run(self, Exchange x, Call call):
        cdef Lease lease = call.lease
        cdef Plan plan
        if lease is None or lease.closed:
            return None
        lease.closed = True
        plan = lease.second
        if plan is not None and (plan.tokens or plan.budgets):
            self._settle(x, call, lease, plan)
        if plan is not None:
            _free(plan)
        if lease.first is not None:
            _free(lease.first)
        return None

    cdef _settle(self, Exchange x, Call call, Lease lease, Plan plan):
        cdef int64_t given = lease.input, made = lease.output, borrowed, used
        cdef int64_t cost = lease.cost_nusd
        cdef int64_t now = self._clock.steady(x.ended_ns)
        cdef Usage usage = call.usage
        cdef TokenRow token
        cdef BudgetRow budget
        if x.sent_ns == 0 or (x.status >= 400 and x.outcome != ANSWERED_OUTCOME):
            given = made = cost = 0
        elif usage is not None:
            if not usage.estimated:         # else the input's estimate is the better one
                given = usage.input_tokens if usage.input_tokens < CALL_TOKENS_CAP else CALL_TOKENS_CAP
                if plan.family is not None:
                    plan.family.learn(lease.raw_input, given)
                    plan.outputs.learn(usage.output_tokens)
            made = usage.output_tokens if usage.output_tokens < CALL_TOKENS_CAP else CALL_TOKENS_CAP
            if call.cost_nusd is not None:
                cost = _bounded(call.cost_nusd)
        elif self._counts and x.answer_started and call.reader is None:
            made = x.answer_bytes // 4 if x.answer_bytes < 4 * CALL_TOKENS_CAP else CALL_TOKENS_CAP
        for token in plan.tokens:
            borrowed = token.amount(lease)
            used = token.used(given, made)
            if used > borrowed:
                token.counter.force(now, used - borrowed)
            elif used < borrowed:
                token.counter.give_back(lease.second_ns, borrowed - used)
        for budget in plan.budgets:
            budget.settle(lease, given + made if budget.in_tokens else cost)


cdef inline int64_t _bounded(object value):
    return value if 0 <= value < (1 << 62) else (1 << 62) if value > 0 else 0


@cython.final
cdef class PriceCall(Hook):
    """call.cost_nusd from call.usage, by the model that answered.

    tariff_of(answered, asked, tier) -> (Tariff or None, the Tally of nano-dollars); on_unpriced(model): told each time.
    The last tariff is kept beside its question, for a quarter of an hour.
    """

    def __init__(self, Clock clock, tariff_of, on_unpriced):
        self._clock = clock
        self._tariff_of = tariff_of
        self._on_unpriced = on_unpriced

    cdef run(self, Exchange x, Call call):
        cdef Usage usage = call.usage
        cdef int64_t wall
        if usage is None:
            return None
        wall = self._clock.wall(x.ended_ns)
        if (wall >= self._until_ns or call.model != self._asked or usage.model != self._model
                or usage.tier != self._tier):
            self._find(usage, call.model, wall)
        if self._tariff is None:
            self._on_unpriced(usage.model if usage.model is not None else call.model)
            return None
        call.cost_nusd = self._tariff.cost(usage)
        self._tally.n += call.cost_nusd
        return None

    cdef _find(self, Usage usage, str asked, int64_t wall):
        self._tariff, self._tally = self._tariff_of(usage.model, asked, usage.tier)
        self._model, self._asked, self._tier = usage.model, asked, usage.tier
        self._until_ns = wall - wall % QUARTER_NS + QUARTER_NS
        if asked is not None and len(asked) > REMEMBERED_MODEL_CHARS:
            self._until_ns, self._asked = 0, None       # the app chose it: it is not kept
