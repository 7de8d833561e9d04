"""Budgets on the way of an exchange, where their period turns while a call is open."""

from typing import Any

from ext.relay_rig import Rig
from outrider.govern.budgets import Periods
from outrider_ext.counters import Spend
from outrider_ext.lane import Call, Route
from outrider_ext.limits import Borrow, BudgetRow, Clock, Family, Outputs, Plan, give_back
from outrider_ext.relay import Exchange

HOUR = 3600 * 10**9
MIDNIGHT = 1_767_312_000 * 10**9  # 2026-01-02T00:00:00Z
BODY = b'{"messages": "What is a sidecar?", "max_tokens": 40}'


class World:
    """Calls of one caller under one budget in tokens, of a day in UTC."""

    def __init__(self) -> None:
        self.clock = Clock(MIDNIGHT - HOUR)
        self.said: list[int] = []
        self.spend = Spend()
        self.row = BudgetRow(
            "day", "k", None, self.spend, 1_000_000, True, True, ((100, 1),), Periods("day").of,
            lambda row, percent, spent: self.said.append(spent), None, None,
        )  # fmt: skip
        plan = Plan(budgets=(self.row,), family=Family("a"), outputs=Outputs())
        self.borrow = Borrow(
            self.clock, {}, lambda principal, model: plan, lambda *asked: None, "nobody", lambda *asked: None, True
        )
        rig = Rig()
        rig.owner.decide = lambda x: None
        rig.client(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        self.x: Exchange = rig.owner.requests[0]
        self.route = Route(
            binding=None, operation=None, known=True, model="m", destination_host="a", destination_port=80,
            prefix_bytes=0, error_dialect="openai", pool=None,
        )  # fmt: skip

    def call(self) -> tuple[Call, int]:
        """A call, and what it borrowed."""
        before = self.row.open
        call = Call(self.route, b"id")
        _, refused = self.borrow.take(self.x, call, BODY, False)
        assert refused is None
        return call, self.row.open - before


def lease_of(call: Call) -> Any:
    return call.lease  # type: ignore[attr-defined]


def test_what_is_given_back_after_midnight_goes_to_the_day_in_which_it_was_borrowed() -> None:
    w = World()
    first, _ = w.call()
    second, of_second = w.call()
    w.clock.fixed_ns = MIDNIGHT
    assert w.row.spent_at(MIDNIGHT) == w.row.open == 0
    _, of_third = w.call()
    give_back(lease_of(first))
    assert w.row.open == of_third
    assert w.row.spent == 0
    assert w.spend.spent("2026-01-01T00:00:00Z") == of_second
    give_back(lease_of(second))
    assert w.spend.spent("2026-01-01T00:00:00Z") == 0
    assert w.spend.spent("2026-01-02T00:00:00Z") == of_third > 0
    assert w.said == []


def test_a_clock_that_was_put_right_takes_nothing_from_the_period_that_it_left() -> None:
    w = World()
    w.clock.fixed_ns = MIDNIGHT + 24 * HOUR
    _, ahead = w.call()
    w.clock.fixed_ns = MIDNIGHT - HOUR
    call, _ = w.call()
    assert w.spend.spent("2026-01-01T00:00:00Z") == ahead
    assert w.row.open == ahead
    give_back(lease_of(call))
    assert w.spend.spent("2026-01-01T00:00:00Z") == 0
    assert w.row.open == ahead
