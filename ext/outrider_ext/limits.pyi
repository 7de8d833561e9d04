from collections.abc import Awaitable, Callable
from typing import Any

from outrider_ext.counters import Counter
from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange
from outrider_ext.series import Tally
from outrider_ext.tariff import Tariff

def estimate_tokens(body: bytes) -> int: ...

class Clock:
    offset_ns: int
    wall_offset_ns: int
    fixed_ns: int
    def __init__(self, fixed_ns: int = -1) -> None: ...
    def refresh(self, shared: bool = False) -> None: ...
    def steady(self, monotonic_ns: int) -> int: ...
    def wall(self, monotonic_ns: int) -> int: ...

class Row:
    room: Any
    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def rule(self) -> Any: ...
    def rejected(self) -> None: ...

class RateRow(Row):
    @property
    def counter(self) -> Counter: ...
    def __init__(
        self,
        name: str,
        key: str,
        rule: Any,
        counter: Counter,
        allowed: Tally | None,
        rejected: Tally,
        room: Any = None,
    ) -> None: ...

class SlotRow(Row):
    @property
    def slots(self) -> Any: ...
    def __init__(
        self, name: str, key: str, rule: Any, slots: Any, allowed: Tally | None, rejected: Tally, room: Any = None
    ) -> None: ...

class TokenRow(Row):
    @property
    def counter(self) -> Counter: ...
    @property
    def burst(self) -> int: ...
    def __init__(
        self,
        name: str,
        key: str,
        rule: Any,
        counter: Counter,
        burst: int,
        kind: int,
        reserve_max: bool,
        allowed: Tally | None,
        rejected: Tally,
        room: Any = None,
    ) -> None: ...
    def wanted(self, lease: Lease) -> int: ...

class BudgetRow(Row):
    @property
    def spend(self) -> Any: ...
    @property
    def limit(self) -> int: ...
    @property
    def in_tokens(self) -> bool: ...
    @property
    def denies(self) -> bool: ...
    @property
    def open(self) -> int: ...
    @property
    def period(self) -> str: ...
    @property
    def spent(self) -> int: ...
    def spent_at(self, wall_ns: int) -> int: ...
    def __init__(
        self,
        name: str,
        key: str,
        rule: Any,
        spend: Any,
        limit: int,
        in_tokens: bool,
        denies: bool,
        marks: tuple[tuple[int, int], ...],
        period_of: Callable[[int], tuple[str, int, int]],
        on_threshold: Callable[[BudgetRow, int, int], None],
        allowed: Tally | None,
        rejected: Tally,
    ) -> None: ...

class Family:
    def __init__(self, name: str) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def ratio(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def seen(self) -> int: ...
    def corrected(self, raw: int) -> int: ...
    def learn(self, raw: int, actual: int) -> None: ...

class Outputs:
    @property
    def seen(self) -> int: ...
    @property
    def p90(self) -> int: ...
    def learn(self, made: int) -> None: ...

class Plan:
    needs_price: bool
    refusal: Callable[[], None] | None
    def __init__(
        self,
        *,
        rates: tuple[RateRow, ...] = (),
        slots: tuple[SlotRow, ...] = (),
        tokens: tuple[TokenRow, ...] = (),
        budgets: tuple[BudgetRow, ...] = (),
        family: Family | None = None,
        outputs: Outputs | None = None,
        needs_price: bool = False,
        refusal: Callable[[], None] | None = None,
    ) -> None: ...
    @property
    def rates(self) -> tuple[RateRow, ...]: ...
    @property
    def slots(self) -> tuple[SlotRow, ...]: ...
    @property
    def tokens(self) -> tuple[TokenRow, ...]: ...
    @property
    def budgets(self) -> tuple[BudgetRow, ...]: ...
    @property
    def family(self) -> Family | None: ...
    @property
    def outputs(self) -> Outputs | None: ...
    @property
    def waits(self) -> bool: ...
    @property
    def empty(self) -> bool: ...
    @property
    def rows(self) -> tuple[Row, ...]: ...

class Lease:
    @property
    def first(self) -> Plan | None: ...
    @property
    def second(self) -> Plan | None: ...
    @property
    def raw_input(self) -> int: ...
    @property
    def input(self) -> int: ...
    @property
    def input_max(self) -> int: ...
    @property
    def output(self) -> int: ...
    @property
    def output_max(self) -> int: ...
    @property
    def cost_nusd(self) -> int: ...
    @property
    def closed(self) -> bool: ...

type Refused = tuple[Row, int]

def admit(plan: Plan, x: Exchange, call: Call, clock: Clock, second: bool, monotonic: int) -> Refused | None: ...
def release(call: Call) -> None: ...
def give_back(lease: Lease, sent: bool = False, kept: Plan | None = None) -> None: ...
def exchange(call: Call, other: Lease) -> Lease: ...

class Admit(Hook):
    def __init__(
        self,
        clock: Clock,
        plans: dict[Any, Plan],
        plan_of: Callable[[Any], Plan],
        slow: Callable[[Exchange, Call, Plan, Refused | None], Awaitable[None]],
        anonymous: Any,
    ) -> None: ...

class Borrow(Hook):
    def __init__(
        self,
        clock: Clock,
        plans: dict[Any, Plan],
        plan_of: Callable[[Any, str | None], Plan],
        slow: Callable[[Exchange, Call, Plan, Refused | None], Awaitable[None]],
        anonymous: Any,
        tariff_of: Callable[[Plan, str | None], Tariff | None],
        counts: bool,
        planned: Callable[[Exchange, Call], Awaitable[None] | None] | None = None,
    ) -> None: ...
    def take(self, x: Exchange, call: Call, body: bytes, sent: bool) -> tuple[Plan, Refused | None]: ...

class Settle(Hook):
    def __init__(self, clock: Clock, counts: bool) -> None: ...

class PriceCall(Hook):
    def __init__(
        self,
        clock: Clock,
        tariff_of: Callable[[str | None, str | None, str | None], tuple[Tariff | None, Tally]],
        on_unpriced: Callable[[str | None], None],
    ) -> None: ...
