"""Limits: all that apply must admit, what is refused costs nothing, what was borrowed is settled once."""

from pathlib import Path
from typing import Any

import pytest

from outrider.errors import LimitTooSmallError, RateLimitedError
from outrider.govern.limits import FREE_OPERATIONS, Rulebook
from outrider.govern.principal import Principal
from support.governed import World

ALICE, BOB = Principal("alice", team="red"), Principal("bob", team="blue")
CARL = Principal("carl", team="red", labels={"tier": "gold"})


def limit(name: str = "it", **settings: Any) -> dict[str, Any]:
    return {"name": name, **settings}


def world(folder: Path, *limits: dict[str, Any], **sections: Any) -> World:
    return World(folder, limits=list(limits), **sections)


def tokens_left(world: World, name: str = "it", key: str = "local") -> int:
    rate = next(entry.tokens for entry in world.snapshot.config.limits if entry.name == name)
    rule = next(entry for entry in world.snapshot.config.limits if entry.name == name)
    counter = world.ledger.store.counter(
        f"{name}:tokens", key, algorithm=rule.algorithm, count=rate.count, period_ns=rate.period_s * 10**9,
        burst=rule.burst or rate.count,
    )  # fmt: skip
    return counter.remaining(world.clock.fixed_ns)


# -- requests


def test_a_burst_passes_and_then_one_at_a_time(tmp_path: Path) -> None:
    w = world(tmp_path, limit(requests="60/min", burst=2))
    assert w.admitted(3) == 2
    w.go(1)
    assert w.admitted(2) == 1


def test_what_it_says_to_wait_is_enough_and_not_a_millisecond_more(tmp_path: Path) -> None:
    w = world(tmp_path, limit(requests="3/s", burst=1))
    w.ask()
    error = w.refusal()
    assert isinstance(error, RateLimitedError)
    w.go((error.retry_after_ms - 1) / 1000)
    w.refusal()
    w.go(0.001)
    w.ask()


def test_the_sentence_names_the_limit_its_rate_and_when_to_come_back(tmp_path: Path) -> None:
    w = world(tmp_path, limit("rpm", requests="1/min"))
    w.ask()
    error = w.refusal()
    assert str(error) == "limit rpm of the sidecar (1 requests a minute) is reached for local; try again in 60 s"


@pytest.mark.parametrize(
    ("key", "callers", "admitted"),
    [
        ([], [ALICE, BOB, CARL, None], 1),
        (["principal.team"], [ALICE, BOB, CARL, None], 3),
        (["principal.id"], [ALICE, BOB, CARL, None], 4),
        (["principal.labels.tier"], [ALICE, CARL], 2),
        (["principal.environment"], [ALICE, BOB, None], 1),
    ],
)
def test_each_value_of_the_key_is_counted_apart(tmp_path: Path, key: Any, callers: Any, admitted: int) -> None:
    w = world(tmp_path, {"name": "it", "key": key, "requests": "1/min"})
    assert sum(w.admitted(2, principal=caller) for caller in callers) == admitted


def test_models_are_counted_apart_whatever_their_spelling(tmp_path: Path) -> None:
    w = world(tmp_path, {"name": "it", "key": ["model"], "requests": "1/min"})
    assert [w.admitted(2, model=model) for model in ("a", "A", "b", None, "")] == [1, 0, 1, 1, 0]


def test_a_limit_for_some_models_is_not_for_others(tmp_path: Path) -> None:
    w = world(tmp_path, limit(requests="1/min", models=["GPT-*"]))
    assert [w.admitted(3, model=model) for model in ("gpt-5", "gpt-4o", "o3")] == [1, 0, 3]


def test_a_limit_for_some_providers_is_not_for_others(tmp_path: Path) -> None:
    w = world(tmp_path, limit(requests="1/min", providers=["openai"]))
    assert w.admitted(5) == 5


def test_one_that_refuses_leaves_the_others_uncharged(tmp_path: Path) -> None:
    """Also one that is asked later, when the body is there."""
    w = world(tmp_path, limit("wide", requests="3/min"), limit("by-model", key=["model"], requests="1/min"))
    assert w.admitted(10, model="a") == 1
    assert w.admitted(10, model="b") == 1
    assert w.admitted(10, model="c") == 1
    assert w.admitted(10, model="d") == 0
    assert w.metrics.limits.value("by-model", "reject") == 18
    assert w.metrics.limits.value("wide", "reject") == 19


def test_the_tightest_of_those_that_refuse_says_when_to_come_back(tmp_path: Path) -> None:
    w = world(tmp_path, limit("second", requests="1/s"), limit("hour", requests="1/h"))
    w.ask()
    error = w.refusal()
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_ms == 3_600_000


def test_decisions_are_counted_once_for_a_rule_of_several_parts(tmp_path: Path) -> None:
    w = world(tmp_path, limit(requests="1/min", tokens="5000/min", concurrent=5))
    w.admitted(3)
    assert w.metrics.limits.value("it", "allow") == 1
    assert w.metrics.limits.value("it", "reject") == 2


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window", "sliding-window"])
def test_every_algorithm_admits_its_count_and_again_later(tmp_path: Path, algorithm: str) -> None:
    w = world(tmp_path, limit(requests="5/min", algorithm=algorithm))
    assert w.admitted(9) == 5
    w.go(120)
    assert w.admitted(9) == 5


# -- at once


def test_slots_come_back_however_the_call_ends(tmp_path: Path) -> None:
    w = world(tmp_path, limit(concurrent=2))
    endings = [
        lambda call: call.answer(),
        lambda call: call.answer(status=500),
        lambda call: call.leave(sent=False),
        lambda call: call.leave(sent=True),
    ]
    for ending in endings:
        first, second = w.ask(), w.ask()
        assert "at once" in str(w.refusal())
        ending(first)
        third = w.ask()
        w.refusal()
        second.answer()
        third.answer()
    assert w.ledger.store.slots("it:concurrent", "local", limit=2).in_use == 0


def test_a_slot_taken_before_a_refusal_is_freed(tmp_path: Path) -> None:
    w = world(tmp_path, limit("slots", concurrent=1), limit("tokens", tokens="10/min", reserve="max"))
    for _ in range(3):
        assert isinstance(w.refusal(max_tokens=1000), LimitTooSmallError)
    assert w.ledger.store.slots("slots:concurrent", "local", limit=1).in_use == 0


# -- tokens


def test_the_estimate_is_borrowed_and_the_difference_settled(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="100000/h"))
    asked = w.ask(max_tokens=100)
    held = 100_000 - tokens_left(w)
    assert 100 < held < 160
    asked.answer(given=50, made=20)
    assert tokens_left(w) == 100_000 - 70


def test_more_than_was_borrowed_becomes_a_debt(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="1000/h"))
    w.ask(max_tokens=10).answer(given=2000, made=1000)
    w.refusal()
    w.go(2 * 3600)
    w.refusal()
    w.go(3600)
    w.ask(max_tokens=10)


@pytest.mark.parametrize(
    ("ending", "used"),
    [
        (lambda call: call.leave(sent=False), 0),
        (lambda call: call.answer(status=429), 0),
        (lambda call: call.answer(status=500), 0),
        (lambda call: call.leave(sent=True), None),
        (lambda call: call.raw(b"{}"), None),
        (lambda call: call.answer(given=-5, made=-7), None),
    ],
)
def test_what_was_never_used_comes_back_and_what_nobody_said_stays(
    tmp_path: Path, ending: Any, used: int | None
) -> None:
    """None: about as much as was borrowed, and never nothing."""
    w = world(tmp_path, limit(tokens="100000/h"))
    asked = w.ask(max_tokens=100)
    held = 100_000 - tokens_left(w)
    ending(asked)
    spent = 100_000 - tokens_left(w)
    assert spent == used if used is not None else 10 < spent <= held


def test_hostile_usage_is_bounded(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="1000000/min"))
    w.ask().answer(given=2**53, made=2**53)
    w.refusal()
    w.go(60 * 21)
    w.ask()


@pytest.mark.parametrize(("count", "left"), [("total", 930), ("input", 950), ("output", 980)])
def test_input_and_output_can_be_counted_apart(tmp_path: Path, count: str, left: int) -> None:
    w = world(tmp_path, limit(tokens="1000/h", count=count))
    w.ask(max_tokens=5).answer(given=50, made=20)
    assert tokens_left(w) == left


def test_a_large_call_borrows_the_burst_and_no_more(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="1000/min"))
    w.ask(max_tokens=50_000)
    assert tokens_left(w) < 1000
    error = w.refusal(max_tokens=50_000)
    assert isinstance(error, RateLimitedError)
    assert not isinstance(error, LimitTooSmallError)


def test_a_hard_cap_borrows_all_that_the_call_may_use(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="1000/min", reserve="max"))
    w.ask(max_tokens=600)
    w.refusal(max_tokens=600)
    assert isinstance(w.refusal(max_tokens=2000), LimitTooSmallError)
    w = world(tmp_path, limit(tokens="1000/min", reserve="max"))
    w.ask()  # it may use anything: it takes all
    assert tokens_left(w) == 0


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 70}, 70),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": -7}, -1),
        ({"max_tokens": "7"}, -1),
        ({"max_tokens": 10**12}, 10_000_000),
        ({}, -1),
    ],
)
def test_what_a_request_allows_is_read(tmp_path: Path, fields: dict[str, Any], most: int) -> None:
    w = world(tmp_path, limit(tokens="100000/h"))
    assert w.ask(**fields).call.max_tokens == most


def test_what_a_caller_was_answered_is_what_is_borrowed_next(tmp_path: Path) -> None:
    w = world(tmp_path, limit(tokens="1000000/h"))
    assert w.ask().call.lease.output == 1024
    for _ in range(30):
        w.ask().answer(made=100)
    assert 100 <= w.ask().call.lease.output <= 128
    assert w.ask(max_tokens=20).call.lease.output == 20
    assert w.ask(principal=ALICE).call.lease.output == 1024
    assert w.ask(model="other").call.lease.output == 1024


def test_every_operation_that_makes_tokens_is_counted(tmp_path: Path) -> None:
    """Known or not, with a body or without: nothing goes around a limit by its path."""
    w = world(tmp_path, limit(tokens="100000/h"))
    left = tokens_left(w)
    for path, method, counted in (
        ("/local/v1/chat/completions", "POST", True),
        ("/local/v1/embeddings", "POST", True),
        ("/local/v1/responses", "POST", True),
        ("/local/v1/audio/speech", "POST", True),
        ("/local/v2/brand/new", "POST", True),
        ("/local/v2/brand/new", "GET", True),
        ("/local/v1/models", "GET", False),
        ("/local/v1/files", "POST", False),
    ):
        asked = w.ask(path=path, method=method, body=b"" if method == "GET" else None)
        assert (tokens_left(w) < left) == counted, path
        asked.raw(b'{"text":"' + b"word " * 400 + b'"}')
        assert (tokens_left(w) < left) == counted, path
        left = tokens_left(w)


# -- a reload


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (limit("a", requests="1/min"), True),
        (limit("a", requests="2/min"), False),
        (limit("b", requests="1/min"), False),
        (limit("a", requests="1/min", algorithm="fixed-window"), False),
    ],
)
def test_counters_survive_a_reload_that_does_not_change_the_rule(tmp_path: Path, after: Any, kept: bool) -> None:
    w = world(tmp_path, limit("a", requests="1/min"))
    w.ask()
    other = world(tmp_path, after)
    rules = Rulebook(other.snapshot.config.limits, (), w.ledger)
    w.ledger.use(rules, 1000)
    plan = rules.entry_plan("local", "chat", ALICE)
    assert (plan.rates[0].counter.remaining(w.clock.fixed_ns) == 0) == kept


def test_the_operations_that_make_no_tokens_exist() -> None:
    from outrider.providers.registry import Registry

    known = {
        endpoint.operation.name for binding in Registry({}).bindings.values() for endpoint in binding.provider.endpoints
    }
    assert known >= FREE_OPERATIONS
    assert not FREE_OPERATIONS & {"chat", "completions", "responses", "embeddings", "images", "audio", "realtime"}
