from libc.stdint cimport int64_t

from outrider_ext.counters cimport Counter, Slots, Spend
from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange
from outrider_ext.series cimport Tally
from outrider_ext.tariff cimport Tariff
from outrider_ext.tokens cimport Usage


cdef class Clock:
    cdef public int64_t offset_ns
    cdef public int64_t wall_offset_ns
    cdef public int64_t fixed_ns

    cpdef int64_t steady(self, int64_t monotonic_ns) noexcept
    cpdef int64_t wall(self, int64_t monotonic_ns) noexcept


cdef class Row:
    cdef readonly str name
    cdef readonly str what
    cdef readonly str key
    cdef readonly object rule
    cdef public object room
    cdef Tally _allowed
    cdef Tally _rejected

    cdef int64_t waiting(self) except -1


cdef class RateRow(Row):
    cdef readonly Counter counter


cdef class SlotRow(Row):
    cdef readonly object slots
    cdef Slots _slots

    cdef bint acquire(self) except -1
    cdef release(self)


cdef class TokenRow(Row):
    cdef readonly Counter counter
    cdef readonly int64_t burst
    cdef readonly int kind
    cdef readonly bint reserve_max

    cdef int64_t amount(self, Lease lease) noexcept
    cdef int64_t used(self, int64_t given, int64_t made) noexcept


cdef class BudgetRow(Row):
    cdef readonly object spend
    cdef Spend _spend
    cdef readonly int64_t limit
    cdef readonly bint in_tokens
    cdef readonly bint denies
    cdef object _doubt_of
    cdef object _period_of
    cdef object _on_threshold
    cdef tuple _marks
    cdef readonly str period
    cdef readonly int64_t start_ns
    cdef readonly int64_t end_ns
    cdef Py_ssize_t _said
    cdef readonly int64_t open

    cdef str at(self, int64_t wall_ns)
    cdef int64_t add(self, str period, int64_t amount) except? -1
    cdef void hold(self, str period, int64_t amount) noexcept
    cdef int64_t amount(self, Lease lease) noexcept
    cdef settle(self, Lease lease, int64_t actual)


cdef class Family:
    cdef readonly str name
    cdef readonly double ratio
    cdef readonly double error
    cdef readonly int64_t seen

    cpdef int64_t corrected(self, int64_t raw) noexcept
    cpdef learn(self, int64_t raw, int64_t actual)


cdef class Outputs:
    cdef double[40] _cells
    cdef double _weight
    cdef double _total
    cdef readonly int64_t seen
    cdef readonly int64_t p90

    cpdef learn(self, int64_t made)
    cdef _rescale(self)


cdef class Plan:
    cdef readonly tuple rates
    cdef readonly tuple slots
    cdef readonly tuple tokens
    cdef readonly tuple budgets
    cdef readonly tuple rows        # all of these
    cdef readonly Family family
    cdef readonly Outputs outputs
    cdef Tariff _tariff
    cdef int64_t _tariff_until_ns
    cdef public bint needs_price
    cdef public object refusal
    cdef readonly bint waits
    cdef readonly bint empty

    cdef int64_t crowd(self) except -1


cdef class Lease:
    cdef readonly Plan first
    cdef readonly Plan second
    cdef readonly int64_t first_ns
    cdef readonly int64_t second_ns
    cdef readonly int64_t wall_ns
    cdef readonly int64_t raw_input
    cdef readonly int64_t input
    cdef readonly int64_t input_max
    cdef readonly int64_t output
    cdef readonly int64_t output_max
    cdef readonly int64_t cost_nusd
    cdef readonly bint closed


cpdef give_back(Lease lease, bint sent=*, Plan kept=*)


cdef class Admit(Hook):
    cdef Clock _clock
    cdef object _plan_of
    cdef object _slow
    cdef dict _plans
    cdef object _anonymous


cdef class Borrow(Hook):
    cdef Clock _clock
    cdef object _plan_of
    cdef object _slow
    cdef dict _plans
    cdef object _anonymous
    cdef object _tariff_of
    cdef object _planned
    cdef bint _counts

    cdef Plan _find(self, Call call)
    cdef _estimate(self, Exchange x, Call call, Plan plan, Lease lease, bytes body)


cdef class Settle(Hook):
    cdef Clock _clock
    cdef bint _counts

    cdef _settle(self, Exchange x, Call call, Lease lease, Plan plan)


cdef class PriceCall(Hook):
    cdef object _tariff_of
    cdef object _on_unpriced
    cdef Clock _clock
    # of the last exchange: mostly the next one has the same
    cdef str _model
    cdef str _asked
    cdef str _tier
    cdef Tariff _tariff
    cdef Tally _tally
    cdef int64_t _until_ns

    cdef _find(self, Usage usage, str asked, int64_t wall)
