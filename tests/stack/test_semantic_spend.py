"""What it takes to look for a question in other words: who pays, and what becomes of it where he may not."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.govern.principal import ANONYMOUS
from stack.test_semantic import CREDENTIAL, PROVIDERS, ask, at, embed, fill, finding, reply
from store.servers import running as redis_running
from support.callers import with_keys
from support.remembering import World, question
from support.running import ENVIRON, total

PRICES = {"near/embed-1": {"input": 1000}, "local/m": {"input": 0, "output": 0}}
EMBEDDING = {"models": ["embed-1"]}


def spent(world: World, budget: str) -> float:
    rules = world.sidecar.snapshot.rules
    return rules.usage(ANONYMOUS, "near")[budget]["spent"]


def skipped(world: World) -> float:
    return total(world.sidecar, "outrider_events_total", event="semantic_skipped", provider="near")


async def test_tokens_and_dollars_of_a_vector_are_charged_to_who_asks(tmp_path: Path) -> None:
    budgets = [
        {"name": "tokens", "key": ["principal.id"], "tokens": "100000/day"},
        {"name": "dollars", "key": ["principal.id"], "usd": "1/day"},
    ]
    async with finding(tmp_path, budgets=budgets, prices=PRICES) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        assert spent(world, "tokens") == 5 + 42  # as the two providers count them
        assert spent(world, "dollars") == 0.005
        assert total(world.sidecar, "outrider_cost_usd_total", provider="near") == 0.005
        assert await ask(world, app, question("What for?"), at(1)) == "semantic"
        assert (spent(world, "tokens"), spent(world, "dollars")) == (5 + 42 + 5, 0.01)
        await app.ask(question("What for?"))  # embedded already
        assert spent(world, "tokens") == 5 + 42 + 5


REFUSED: list[tuple[bool, dict[str, Any]]] = [  # whether the first call is let
    (False, {"limits": [{"name": "few", "tokens": "1/h", "reserve": "max", **EMBEDDING}]}),
    (True, {"limits": [{"name": "few", "requests": "1/h", "key": ["model"], **EMBEDDING}]}),
    (True, {"limits": [{"name": "few", "requests": "1/h", "key": ["model"], "on_exceed": {"queue": {"max_wait_s": 600}},
                        **EMBEDDING}]}),
    (True, {"budgets": [{"name": "few", "tokens": "6/day", **EMBEDDING}]}),
    (True, {"budgets": [{"name": "few", "usd": "0.006/day", **EMBEDDING}], "prices": PRICES}),
    (False, {"budgets": [{"name": "few", "usd": "1/day", **EMBEDDING}]}),  # no price is known
]  # fmt: skip


@pytest.mark.parametrize(("lets", "sections"), REFUSED, ids=range(len(REFUSED)))
async def test_where_a_limit_refuses_it_is_not_looked_for(tmp_path: Path, lets: bool, sections: dict[str, Any]) -> None:
    audit = {"audit": {"path": str(tmp_path / "audit.jsonl")}, "log": "off"}
    async with finding(tmp_path, telemetry=audit, **sections) as world:
        app = await world.app()
        if lets:
            await fill(world, app, question("Why?"), at(0))
        for text in ("What for?", "How so?"):
            await world.first(app, question(text))
            assert (app.status, app.said) == (200, "miss")
        assert skipped(world) == 2
    entries = [json.loads(line) for line in (tmp_path / "audit-0.jsonl").read_text().splitlines()]
    (refused, *_) = [one for one in entries if one["event"] == "exchange" and one["status"] in (429, 403)]
    assert (refused["operation"], refused["tags"]) == ("embeddings", ["cache:semantic"])
    assert refused["error"] in ("rate_limited", "limit_too_small", "budget_exceeded", "unpriced")


async def test_a_caller_who_has_spent_his_share_makes_nobody_else_wait(tmp_path: Path) -> None:
    named, shown = with_keys(tmp_path, {"ann": "t", "bob": "t"})
    limits = [{"name": "few", "requests": "1/h", "key": ["principal.id", "model"], **EMBEDDING}]
    providers = {**PROVIDERS, "local": CREDENTIAL}
    async with finding(tmp_path, providers=providers, limits=limits, **named) as world:
        app = await world.app()
        ann, bob = shown.values()
        await fill(world, app, question("Why?"), at(0), lines=ann)
        await world.first(app, question("Why so?"), lines=ann)  # no vector is asked for
        assert (app.said, skipped(world)) == ("miss", 1)
        await app.send(question("What for?"), bob)
        await embed(world, at(1))
        await app.answer()
        assert app.said == "semantic"


async def test_limits_on_requests_and_calls_at_once_are_about_what_apps_ask(tmp_path: Path) -> None:
    limits = [{"name": "slots", "concurrent": 1}, {"name": "few", "requests": "2/h"}]
    async with finding(tmp_path, limits=limits) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        assert await ask(world, app, question("What for?"), at(1)) == "semantic"
        await app.ask(question("Why so?"))
        assert app.status == 429


async def test_what_was_borrowed_for_a_vector_that_never_came_is_given_back(tmp_path: Path) -> None:
    budgets = [{"name": "tokens", "tokens": "100000/day", **EMBEDDING}]
    async with finding(tmp_path, budgets=budgets) as world:
        app = await world.app()
        await app.send(question("Why?"))
        peer = await world.called()
        await peer.send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
        peer.close()
        await reply(world)
        await app.answer()
        (row,) = [row for row in world.sidecar.snapshot.rules._rows.values() if row.name == "tokens"]
        assert (row.spent, row.open) == (0, 0)


async def test_what_a_fleet_counts_together_is_borrowed_before_a_vector_is_asked_for(tmp_path: Path) -> None:
    limits = [{"name": "few", "requests": "2/h", "key": ["model"], **EMBEDDING}]
    with redis_running(tmp_path / "redis") as redis:
        state = {"url": f"redis://127.0.0.1:{redis.port}", "fleet_key": {"env": "FLEET_KEY"}}
        environ = {**ENVIRON, "FLEET_KEY": "k"}
        async with finding(tmp_path, limits=limits, state=state, environ=environ) as world:
            app = await world.app()
            await fill(world, app, question("Why?"), at(0))
            assert await ask(world, app, question("What for?"), at(1)) == "semantic"
            await world.first(app, question("How so?"))
            assert (app.said, skipped(world)) == ("miss", 1)
