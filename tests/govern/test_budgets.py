"""The calendar's periods, in any zone, and budgets: 64 callers at once do not spend what is not there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import BudgetExceededError, UnpricedError
from outrider.govern.budgets import UNITS, Periods
from outrider.govern.principal import Principal
from support.governed import World

NS = 10**9
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Havana",
]
PRICES = {"local/m": {"input": 1, "output": 10}}
ALICE, BOB = Principal("alice", team="red"), Principal("bob", team="blue")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NS


@pytest.mark.parametrize(
    ("unit", "zone", "when", "start", "hours"),
    [
        ("day", "UTC", "2026-03-29T12:00Z", "2026-03-29T00:00:00Z", 24),
        ("day", "Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00:00Z", 23),
        ("day", "Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00:00Z", 25),
        ("day", "Europe/Berlin", "2026-07-01T22:30Z", "2026-07-01T22:00:00Z", 24),
        ("day", "America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00:00Z", 23),  # midnight did not exist
        ("day", "America/Havana", "2025-11-02T12:00Z", "2025-11-02T04:00:00Z", 25),
        ("month", "Europe/Berlin", "2026-03-31T23:30+02:00", "2026-02-28T23:00:00Z", 31 * 24 - 1),
        ("month", "UTC", "2024-02-29T00:00Z", "2024-02-01T00:00:00Z", 29 * 24),
        ("month", "UTC", "2026-12-31T23:59Z", "2026-12-01T00:00:00Z", 31 * 24),
        ("hour", "Asia/Kolkata", "2026-01-01T10:45Z", "2026-01-01T10:30:00Z", 1),
        ("minute", "UTC", "2026-01-01T10:45:59Z", "2026-01-01T10:45:00Z", 1 / 60),
    ],
)
def test_a_period_is_the_calendars(unit: str, zone: str, when: str, start: str, hours: float) -> None:
    name, start_ns, end_ns = Periods(unit, zone).of(at(when))
    assert name == start
    assert start_ns == at(start)
    assert (end_ns - start_ns) / NS / 3600 == pytest.approx(hours)


@given(unit=st.sampled_from(UNITS), zone=st.sampled_from(ZONES), second=st.integers(1_500_000_000, 1_900_000_000))
def test_every_moment_lies_in_one_period_and_the_next_begins_where_it_ends(unit: str, zone: str, second: int) -> None:
    periods = Periods(unit, zone)
    name, start_ns, end_ns = periods.of(second * NS)
    assert start_ns <= second * NS < end_ns
    assert periods.of(start_ns) == periods.of(end_ns - 1) == (name, start_ns, end_ns)
    after = periods.of(end_ns)
    assert after[1] == end_ns or zone == "Australia/Lord_Howe"
    assert after[0] > name
    if unit in ("day", "month"):
        local = datetime.fromtimestamp(start_ns // NS, UTC).astimezone(ZoneInfo(zone))
        assert local - timedelta(hours=1) < local.replace(hour=0, minute=0, second=0)


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        Periods("day", "Mars/Olympus")
    with pytest.raises(ValueError, match="a period is one of"):
        Periods("year")


def budget(folder: Path, **settings: Any) -> World:
    rule = {"name": "day", "key": ["principal.team"], "usd": "1/day", **settings}
    return World(folder, budgets=[rule], prices=PRICES)


def spent(w: World, unit: str = "usd") -> float:
    found = w.snapshot.rules.spent(w.clock.fixed_ns)
    return sum(value for (_, _, what), value in found.items() if what == unit)


def test_what_a_call_cost_is_spent_and_the_rest_comes_back(tmp_path: Path) -> None:
    w = budget(tmp_path)
    asked = w.ask(max_tokens=1000)
    assert 0.01 < asked.call.lease.cost_nusd / NS < 0.02
    assert spent(w) == 0  # borrowed is not spent
    call = asked.answer(given=1000, made=100)
    assert call.cost_nusd == 2_000_000
    assert spent(w) == 0.002
    assert w.metrics.costs_nusd.value("local", "m") == 2_000_000


def test_a_hard_budget_denies_until_the_calendar_turns(tmp_path: Path) -> None:
    w = budget(tmp_path)
    for _ in range(10):
        w.ask(max_tokens=10).answer(given=0, made=9_990)
    assert spent(w) == pytest.approx(0.999)
    error = w.refusal(max_tokens=1000)
    assert isinstance(error, BudgetExceededError)
    assert "budget day of the sidecar (1 US$ a day) is spent" in str(error)
    end = Periods("day").of(w.clock.fixed_ns)[2]
    assert error.retry_after_ms == -(-(end - w.clock.fixed_ns) // 1_000_000)
    w.clock.fixed_ns = end - 1
    w.refusal(max_tokens=1000)
    w.clock.fixed_ns = end
    w.ask(max_tokens=1000)


def test_teams_have_budgets_of_their_own(tmp_path: Path) -> None:
    w = budget(tmp_path)
    w.ask(principal=ALICE).answer(given=0, made=110_000)
    w.refusal(principal=ALICE)
    w.ask(principal=BOB)


def test_many_at_once_do_not_spend_what_is_not_there(tmp_path: Path) -> None:
    """64 callers before any of them is answered: only as many as the budget has room for are admitted."""
    w = budget(tmp_path)
    open_calls, refused = [], 0
    for _ in range(64):
        try:
            open_calls.append(w.ask(max_tokens=5000))
        except BudgetExceededError:
            refused += 1
    borrowed = sum(asked.call.lease.cost_nusd for asked in open_calls)
    assert borrowed <= NS
    assert refused > 0 or borrowed < NS
    for asked in open_calls:
        asked.answer(given=20, made=5000)
    overrun = spent(w) - 1
    print(f"\n64 at once on US$ 1: {len(open_calls)} admitted, settled US$ {spent(w):.4f}")
    assert overrun <= len(open_calls) * 0.01  # each was estimated at 4096 tokens of 5000: nothing was learned yet


def test_a_call_belongs_to_the_period_in_which_it_began(tmp_path: Path) -> None:
    w = budget(tmp_path)
    asked = w.ask()
    w.clock.fixed_ns = Periods("day").of(w.clock.fixed_ns)[2] + 1
    w.ask().answer(given=0, made=100)
    asked.answer(given=0, made=50_000)
    assert spent(w) == pytest.approx(0.001)


def test_thresholds_are_told_once_a_period_and_by_what_is_settled(tmp_path: Path) -> None:
    w = budget(tmp_path, soft=[50, "80%"], on_exceed="alert")
    told: list[tuple[str, int]] = []
    w.ledger.listeners.append(lambda about: told.append((about["budget"], about["percent"])))
    held = [w.ask(max_tokens=1000) for _ in range(200)]
    assert told == []
    for asked in held:
        asked.leave(sent=False)
    for _ in range(30):
        w.ask().answer(given=0, made=5000)
    assert told == [("day", 50), ("day", 80), ("day", 100)]
    assert w.metrics.thresholds.value("day", "80") == 1
    assert spent(w) == pytest.approx(1.5)  # an alert denies nobody
    w.go(86_400)
    w.ask().answer(given=0, made=60_000)
    assert told[3:] == [("day", 50)]


def test_tokens_can_be_budgeted_without_any_price(tmp_path: Path) -> None:
    w = World(tmp_path, budgets=[{"name": "t", "key": [], "tokens": "1000/hour"}])
    w.ask(max_tokens=50).answer(given=20, made=880)
    w.refusal(max_tokens=200)
    assert spent(w, "tokens") == 900
    assert w.ask(max_tokens=10).answer().cost_nusd is None


def test_a_model_without_a_price_is_refused_by_a_hard_budget_and_said(tmp_path: Path) -> None:
    w = budget(tmp_path)
    error = w.refusal(model="nobody-knows")
    assert isinstance(error, UnpricedError)
    assert "the price of local/nobody-knows is not known, and budget day is in dollars" in str(error)
    assert w.metrics.unpriced.value("local", "nobody-knows") == 1
    assert isinstance(w.refusal(path="/local/v9/passed/through", model=None), UnpricedError)
    w.ask(path="/local/v1/files", model=None)  # costs no tokens
    w.ask(path="/local/v1/models", method="GET", body=b"")


def test_a_model_without_a_price_passes_where_config_says_so_and_is_never_zero(tmp_path: Path) -> None:
    w = budget(tmp_path, unpriced="allow")
    call = w.ask(model="nobody-knows").answer(model="nobody-knows")
    assert call.cost_nusd is None
    assert w.metrics.unpriced.value("local", "nobody-knows") == 1


@pytest.mark.parametrize("sent", [True, False])
def test_a_client_that_leaves_pays_for_what_was_sent(tmp_path: Path, sent: bool) -> None:
    w = budget(tmp_path)
    w.ask(max_tokens=100).leave(sent=sent)
    assert (spent(w) > 0) == sent


def test_a_provider_without_usage_is_settled_by_the_estimate(tmp_path: Path) -> None:
    w = budget(tmp_path)
    w.ask(max_tokens=100).raw(b"")
    assert spent(w) > 0
