"""Limits and budgets of calls with several targets: whoever serves is charged, by the counters and the journals."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from lanes.test_dispatch_wire import NOTHING, Ride, alias, ride, status
from outrider.mock.behaviour import Behaviour
from outrider_ext.limits import BudgetRow, RateRow, SlotRow, TokenRow
from store.servers import running as redis_running
from support.running import client_of, post, total, until

FAILS = Behaviour(status=500)
PRICES = {"one/gpt-one": {"input": 100, "output": 100}, "two/gpt-two": {"input": 10, "output": 10}}


def rows(r: Ride, kind: type) -> dict[str, Any]:
    """By key; of a rule without one that is ""."""
    return {row.key: row for row in r.sidecar.snapshot.rules._rows.values() if isinstance(row, kind)}


def spent(r: Ride) -> dict[str, int]:
    return {key: row.spent for key, row in rows(r, BudgetRow).items() if row.spent}


def used(r: Ride, kind: type = RateRow, of: int = 1000) -> dict[str, int]:
    """What was taken of a window of so many."""
    now_ns = time.time_ns()
    return {key: of - row.counter.remaining(now_ns) for key, row in rows(r, kind).items()}


def window(**more: Any) -> dict[str, Any]:
    return {"name": "rate", "key": ["provider"], "algorithm": "fixed-window", **more}


async def test_a_budget_counts_what_the_target_that_served_has_used(tmp_path: Path) -> None:
    budgets = [{"name": "each", "key": ["provider", "model"], "tokens": "1000000/day"}]
    async with ride(tmp_path, budgets=budgets) as r:
        r.one.next(status=500)
        answer = await r.ask()
        assert status(answer) == 200
        assert r.calls == (1, 1)
        tokens = int(total(r.sidecar, "outrider_tokens_total", provider="two"))
        assert tokens > 0
        assert spent(r) == {"two\x1fgpt-two": tokens}
        assert status(await r.ask()) == 200
        assert spent(r) == {"two\x1fgpt-two": tokens, "one\x1fgpt-one": tokens}


async def test_dollars_are_counted_by_the_price_of_the_model_that_served(tmp_path: Path) -> None:
    budgets = [{"name": "all", "key": [], "usd": "50/day"}]
    async with ride(tmp_path, budgets=budgets, prices=PRICES) as r:
        r.one.next(status=500)
        await r.ask()
        tokens = int(total(r.sidecar, "outrider_tokens_total", provider="two"))
        assert spent(r) == {"": tokens * 10_000}  # 10 US$ a million, in nano-dollars
        await r.ask()
        assert spent(r) == {"": tokens * 110_000}


async def test_a_call_that_nobody_served_costs_nothing(tmp_path: Path) -> None:
    budgets = [{"name": "each", "key": ["provider"], "tokens": "1000000/day"}]
    limits = [window(tokens="100000/min"), {"name": "slots", "key": ["provider"], "concurrent": 3}]
    async with ride(tmp_path, budgets=budgets, limits=limits) as r:
        r.one.draw = r.two.draw = lambda: FAILS
        assert status(await r.ask()) == 500
        await until(lambda: not r.sidecar.hub.exchanges, "it has ended")
        assert spent(r) == {}
        assert set(used(r, TokenRow, 100_000).values()) == {0}
        assert {row.slots.in_use for row in rows(r, SlotRow).values()} == {0}


@pytest.mark.parametrize(
    "rules",
    [
        {"limits": [window(requests="1/min", providers=["one"])]},
        {"limits": [{"name": "m", "key": ["model"], "requests": "1/min", "models": ["gpt-one"]}]},
        {"budgets": [{"name": "b", "key": ["provider"], "tokens": "20/day", "providers": ["one"]}]},
        {"budgets": [{"name": "b", "key": [], "usd": "0.0001/day", "providers": ["one"]}], "prices": PRICES},
    ],
)
async def test_a_target_that_has_used_its_share_up_is_none_for_the_call(tmp_path: Path, rules: Any) -> None:
    async with ride(tmp_path, **rules) as r:
        answers = [await r.ask(max_tokens=2) for _ in range(4)]
        assert {status(answer) for answer in answers} == {200}
        one, two = r.calls
        assert one <= 2
        assert one + two == 4
        assert total(r.sidecar, "outrider_limit_decisions_total", decision="reject") == two
        assert total(r.sidecar, "outrider_requests_total", provider="two", decision="allow") == two


async def test_when_no_target_has_anything_left_the_first_ones_limit_refuses(tmp_path: Path) -> None:
    async with ride(tmp_path, limits=[window(requests="1/min")]) as r:
        assert [status(await r.ask()) for _ in range(3)] == [200, 200, 429]
        head, body = await r.ask()
        assert b"x-outrider-decision: rate" in head
        assert b"retry-after:" in head
        assert b"is reached for one" in body
        assert r.calls == (1, 1)


async def test_after_a_failure_a_target_without_a_rest_is_not_asked_and_the_failure_is_passed_on(
    tmp_path: Path,
) -> None:
    async with ride(tmp_path, limits=[window(requests="1/min", providers=["two"])]) as r:
        r.one.next(status=500)
        assert status(await r.ask()) == 200
        assert r.calls == (1, 1)
        r.one.draw = lambda: FAILS
        head, body = await r.ask()
        assert status((head, body)) == 500
        assert b"mock" in body.lower() or b"error" in body
        assert r.calls[1] == 1
        assert total(r.sidecar, "outrider_requests_total", provider="one", model="gpt-one", status="500") == 1


async def test_a_request_counts_where_it_went_and_once_where_all_are_counted_together(tmp_path: Path) -> None:
    limits = [window(requests="1000/min"), window(name="team", key=["principal.team"], requests="1000/min")]
    async with ride(tmp_path, limits=limits) as r:
        await r.ask()
        r.one.next(status=500)
        await r.ask()
        assert used(r) == {"one": 2, "two": 1, "": 2}
        assert total(r.sidecar, "outrider_limit_decisions_total", limit="team", decision="allow") == 2


async def test_of_two_that_race_the_winner_is_charged(tmp_path: Path) -> None:
    budgets = [{"name": "each", "key": ["provider"], "tokens": "1000000/day"}]
    limits = [{"name": "slots", "key": ["provider"], "concurrent": 3}]
    models = alias(hedge={"percent": 100, "after_ms": 1, "min_after_ms": 1})
    async with ride(tmp_path, models, budgets=budgets, limits=limits) as r:
        r.one.next(delay_ms=5000)
        assert status(await r.ask()) == 200
        assert r.calls == (1, 1)
        await until(lambda: not r.sidecar.hub.exchanges, "it has ended")
        assert list(spent(r)) == ["two"]
        assert {row.slots.in_use for row in rows(r, SlotRow).values()} == {0}


async def test_who_has_nothing_left_is_no_rival(tmp_path: Path) -> None:
    models = alias(hedge={"percent": 100, "after_ms": 1, "min_after_ms": 1})
    async with ride(tmp_path, models, limits=[window(requests="1/min", providers=["two"])]) as r:
        for delayed in range(3):
            r.one.next(delay_ms=60)
            assert status(await r.ask()) == 200, delayed
        assert r.calls == (3, 1)


async def test_where_a_limit_has_a_queue_calls_wait_for_a_target(tmp_path: Path) -> None:
    queue = {"queue": {"max_waiting": 10, "max_wait_s": 5}}
    limits = [{"name": "slots", "key": ["provider"], "concurrent": 1, "on_exceed": queue}]
    async with ride(tmp_path, limits=limits) as r:
        r.one.draw = r.two.draw = lambda: Behaviour(delay_ms=30)
        answers = await r.ask_all(8, workers=4)
        assert [status(answer) for answer in answers] == [200] * 8
        assert sum(r.calls) == 8
        assert min(r.calls) >= 2
        assert {row.slots.in_use for row in rows(r, SlotRow).values()} == {0}


async def test_plain_calls_of_the_same_route_are_counted_as_ever(tmp_path: Path) -> None:
    async with ride(tmp_path, limits=[window(requests="1/min")]) as r:
        assert status(await r.ask(model="gpt-4o")) == 200
        assert status(await r.ask(model="gpt-4o")) == 429
        assert r.calls == (1, 0)


async def test_a_model_without_a_price_is_none_where_a_budget_is_in_dollars(tmp_path: Path) -> None:
    budgets = [{"name": "all", "key": [], "usd": "50/day"}]
    async with ride(tmp_path, budgets=budgets, prices={"two/gpt-two": PRICES["two/gpt-two"]}) as r:
        assert status(await r.ask()) == 200
        assert r.calls == (0, 1)


async def test_calls_at_once_settle_exactly(tmp_path: Path) -> None:
    """Failures, failovers and clients that leave: what is counted at the end is what was used."""
    budgets = [{"name": "each", "key": ["provider"], "tokens": "1000000/day"}]
    limits = [{"name": "slots", "key": ["provider"], "concurrent": 50}]
    async with ride(tmp_path, alias(strategy="round-robin"), budgets=budgets, limits=limits) as r:
        turn = iter(range(10_000))
        r.one.draw = r.two.draw = lambda: FAILS if next(turn) % 3 == 0 else NOTHING
        await r.ask_all(60)
        await until(lambda: not r.sidecar.hub.exchanges, "all have ended")
        for name in ("one", "two"):
            tokens = int(total(r.sidecar, "outrider_tokens_total", provider=name))
            assert spent(r).get(name, 0) == tokens
        for row in rows(r, BudgetRow).values():
            assert row.open == 0
        assert {row.slots.in_use for row in rows(r, SlotRow).values()} == {0}
        await asyncio.sleep(0)


async def test_a_provider_that_says_its_own_limit_is_reached_is_passed_over(tmp_path: Path) -> None:
    async with ride(tmp_path, adaptive=("one",)) as r:
        told = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "60s"}  # fmt: skip
        r.one.next(headers=told)
        assert [status(await r.ask()) for _ in range(3)] == [200, 200, 200]
        assert r.calls == (1, 2)
        assert total(r.sidecar, "outrider_limit_decisions_total", limit="provider:one", decision="reject") == 2
        r.two.draw = lambda: FAILS
        assert status(await r.ask()) == 500
        assert r.calls[0] == 1


async def test_limits_that_a_fleet_shares_are_asked_for_each_target(tmp_path: Path) -> None:
    limits = [window(requests="1/h"), {"name": "sum", "key": ["provider"], "tokens": "1000000/h"}]
    budgets = [{"name": "each", "key": ["provider"], "tokens": "1000000/day"}]
    environ = {"FLEET_KEY": "of-the-whole-fleet"}
    with redis_running(tmp_path / "redis") as redis:
        state = {"url": f"redis://127.0.0.1:{redis.port}", "fleet_key": {"env": "FLEET_KEY"}}
        async with ride(tmp_path, environ=environ, state=state, limits=limits, budgets=budgets) as r:
            r.one.next(status=500)
            assert status(await r.ask()) == 200
            assert r.calls == (1, 1)
            head, body = await r.ask()
            assert status((head, body)) == 429
            assert b"x-outrider-decision: rate" in head
            assert r.calls == (1, 1)
            tokens = int(total(r.sidecar, "outrider_tokens_total", provider="two"))
            assert spent(r) == {"two": tokens}


async def test_a_call_of_the_api_over_all_providers_is_charged_to_who_serves_it(tmp_path: Path) -> None:
    limits = [window(key=["provider", "operation"], requests="1000/min")]
    budgets = [{"name": "each", "key": ["provider", "model"], "tokens": "1000000/day"}]
    async with ride(tmp_path, limits=limits, budgets=budgets) as r:
        peer = await client_of(r.sidecar)
        r.one.next(status=500)
        for model in (b"smart", b"two/gpt-2", b"one/gpt-1"):
            body = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}]}' % model
            await peer.send(post(r.sidecar, body, b"/v1/chat/completions", b"content-type: application/json\r\n"))
            assert status(await peer.answer()) == 200
        peer.close()
        assert r.calls == (2, 2)
        assert set(spent(r)) == {"two\x1fgpt-two", "two\x1fgpt-2", "one\x1fgpt-1"}
        assert {key.partition("\x1f")[0]: count for key, count in used(r).items()} == {"one": 2, "two": 2}
