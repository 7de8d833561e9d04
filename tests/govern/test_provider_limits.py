"""What providers say about their limits: every form that was seen, hostile values, what follows for the next call."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import RateLimitedError
from outrider.govern.provider_limits import (
    MAX_WAIT_S,
    Gate,
    Told,
    body_wait_s,
    count_of,
    duration_s,
    read,
    reset_s,
    retry_after_s,
)
from support.governed import LOCAL, NOON_NS, World
from support.vectors import rows

NOW_S = datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp()


def getter(**headers: str) -> Callable[[bytes], bytes | None]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}.get


def named(headers: dict[str, str]) -> Callable[[bytes], bytes | None]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}.get


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1h2m3.5s", MAX_WAIT_S), ("59m59s", 3599), ("0s", 0),
        ("7.66s", 7.66),
        ("10.332999999s", 10.332999999), ("2us", 2e-6), ("5µs", 5e-6), ("3ns", 3e-9), ("", None), ("1", None),
        ("s", None), ("1s2", None), ("-1s", None), ("1 s", None), ("99999999999999s", None), ("999999999s", MAX_WAIT_S),
    ],
)  # fmt: skip
def test_durations_are_gos(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-09-21T12:00:30Z", 30), ("2026-09-21T12:00:30.5+00:00", 30.5), ("2026-09-21T14:01:00+02:00", 60),
        ("2026-09-21T11:00:00Z", 0), ("2036-01-01T00:00:00Z", MAX_WAIT_S), ("2026-09-21T12:00:30", 30), ("30", 30),
        ("0.5", 0.5), (str(int(NOW_S) + 40), 40), ("-5", 0), ("nan", None), ("inf", None), ("1e999", None),
        ("tomorrow", None), ("2026-99-99T00:00:00Z", None), ("x" * 5000, None), (None, None),
    ],
)  # fmt: skip
def test_resets_are_durations_seconds_epochs_or_times(text: str | None, seconds: float | None) -> None:
    assert reset_s(text, NOW_S) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "49"}, 49), ({"retry-after": "1.5"}, 1.5), ({"retry-after-ms": "1200"}, 1.2),
        ({"retry-after-ms": "1200", "retry-after": "9"}, 1.2), ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Mon, 21 Sep 2026 12:00:20 GMT"}, 20), ({"retry-after": "Mon, 21 Sep 2020 12:00:20 GMT"}, 0),
        ({"retry-after": "99999999"}, MAX_WAIT_S), ({"retry-after": "-3"}, 0), ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None), ({"retry-after": "Mon, 99 Foo 9999999 12:00:20 GMT"}, None), ({}, None),
    ],
)  # fmt: skip
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(named(headers), NOW_S) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("family", "headers", "told"),
    [
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s", "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s",
            },
            [Told("requests", 59, 1.0, 60), Told("tokens", 149984, 360.0, 150000)],
        ),
        (
            "openai",
            {"x-ratelimit-remaining-project-tokens": "7", "x-ratelimit-reset-project-tokens": "2s"},
            [Told("tokens", 7, 2.0, None)],
        ),
        (
            "openai",
            {"x-ratelimit-remaining-tokens_usage_based": "7", "x-ratelimit-reset-tokens_usage_based": "2s"},
            [Told("tokens", 7, 2.0, None)],
        ),
        (  # Azure: plain numbers are milliseconds
            "openai",
            {
                "x-ratelimit-limit-requests": "120", "x-ratelimit-remaining-requests": "119",
                "x-ratelimit-reset-requests": "500", "x-ratelimit-renewalperiod-requests": "60",
            },
            [Told("requests", 119, 0.5, 120)],
        ),
        ("openai", {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-limit-requests": "0"}, []),
        ("openai", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-limit-tokens": "0"}, []),
        ("openai", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0"}, []),
        ("openai", {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "2"}, [Told("requests", 1, 2.0, None)]),
        (
            "anthropic",
            {
                "anthropic-ratelimit-input-tokens-limit": "200000", "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-09-21T12:00:07Z",
            },
            [Told("input", 0, 7.0, 200000)],
        ),
        (
            "anthropic",
            {
                "anthropic-ratelimit-unified-5h-status": "rejected",
                "anthropic-ratelimit-unified-5h-reset": str(int(NOW_S) + 90),
            },
            [Told("requests", 0, 90.0, None)],
        ),
        ("anthropic", {"anthropic-ratelimit-unified-5h-status": "allowed"}, []),
        (
            "mistral",
            {"ratelimitbysize-limit": "500000", "ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "19"},
            [Told("tokens", 0, 19.0, 500000)],
        ),
        (
            "",
            {"ratelimit-remaining": "0", "ratelimit-reset": "1", "ratelimit-limit": "9"},
            [Told("requests", 0, 1.0, 9)],
        ),
    ],
)  # fmt: skip
def test_headers_of_every_family(family: str, headers: dict[str, str], told: list[Told]) -> None:
    assert read(family, named(headers), NOW_S) == told


def test_every_recorded_answer_is_read() -> None:
    """What the recordings hold: a remainder never above its limit, a reset within the hour."""
    family = {"anthropic": "anthropic", "mistral": "mistral", "replicate": ""}
    seen = 0
    for row in rows("exchanges"):
        headers = {name.lower(): value for name, value in row["resp_headers"]}
        told = read(family.get(row["provider"], "openai"), named(headers), NOW_S)
        has = any("ratelimit" in name and "remaining" in name for name in headers)
        seen += len(told)
        assert bool(told) <= has
        for one in told:
            assert one.limit is None or one.remaining <= one.limit
            assert one.reset_s is None or 0 <= one.reset_s <= MAX_WAIT_S
    assert seen > 1000


@given(
    family=st.sampled_from(["openai", "anthropic", "mistral", ""]),
    values=st.lists(st.text(max_size=40) | st.sampled_from(["0", "-1", "nan", "1e400", "9" * 40, "5s"]), min_size=1),
)
def test_no_header_can_break_the_reading(family: str, values: list[str]) -> None:
    def get(name: bytes) -> bytes:
        return values[hash(name) % len(values)].encode("utf-8", "replace")

    for one in read(family, get, NOW_S):
        assert 0 <= one.remaining <= 2**53
        assert one.reset_s is None or 0 <= one.reset_s <= MAX_WAIT_S
    wait_s = retry_after_s(get, NOW_S)
    assert wait_s is None or (0 <= wait_s <= MAX_WAIT_S and math.isfinite(wait_s))


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"34.07s"}]}}', 34.07),
        (b'[{"error":{"details":[{"retryDelay":"3s"}]}}]', 3), (b'{"error":{"details":[{"retryDelay":7}]}}', None),
        (b'{"error":{"details":{}}}', None), (b'{"error":"x"}', None), (b"[]", None), (b"", None), (b"{", None),
        (b'{"error":{"details":[{"retryDelay":"9999999s"}]}}', MAX_WAIT_S),
    ],
)  # fmt: skip
def test_googles_delay_stands_in_the_body(body: bytes, seconds: float | None) -> None:
    assert body_wait_s(body) == (pytest.approx(seconds) if seconds is not None else None)


def test_counts_are_plain_and_bounded() -> None:
    assert [count_of(text) for text in ("5", "-1", "1.5", "", None, "9" * 16, "9" * 17, "٣")] == [
        5, None, None, None, None, 2**53, None, None,
    ]  # fmt: skip


def test_a_gate_closes_when_less_remains_than_is_needed_and_opens_at_the_reset() -> None:
    gate = Gate()
    gate.answered(0, [Told("tokens", 100, 10.0, None), Told("requests", 2, 5.0, None)])
    assert gate.wait_ns(0, {"tokens": 101}) == 10 * 10**9
    assert gate.wait_ns(0, {"tokens": 100}) == 0
    gate.sent(0, {"tokens": 90})
    assert gate.wait_ns(0, {"tokens": 50}) == 10 * 10**9
    gate.sent(0, {"tokens": 0})
    assert gate.wait_ns(0, {"tokens": 1}) == 5 * 10**9  # two requests were all
    assert gate.wait_ns(10 * 10**9, {"tokens": 5000}) == 0
    gate.throttled(0, None)
    assert gate.wait_ns(0, {}) > 0


# -- through the layers

KEYED = {"local": {**LOCAL, "adaptive": True, "credential": {"env": "K"}, "require_placeholder": False}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, providers=KEYED, environ={"K": "sk-x"})


def test_it_throttles_before_the_provider_does(world: World) -> None:
    lines = "x-ratelimit-remaining-requests: 1\r\nx-ratelimit-reset-requests: 20s\r\n"
    world.ask().raw(b"{}", headers=lines)
    world.ask()
    error = world.refusal()
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_ms == pytest.approx(20_000, abs=5)
    assert "local has said that its own limit is reached" in str(error)
    world.ask(model="another")
    assert world.metrics.limits.value("provider:local", "reject") == 1
    world.go(21)
    world.ask()


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_ms"),
    [
        (429, "retry-after: 7\r\n", b"{}", 7000),
        (529, "retry-after-ms: 1500\r\n", b"{}", 1500),
        (429, "", b'{"error":{"details":[{"retryDelay":"34s"}]}}', 34_000),
        (429, "", b"{}", 1000),
        (429, "retry-after: 99999999\r\n", b"{}", 3_600_000),
        (500, "retry-after: 7\r\n", b"{}", 0),
    ],
)
def test_a_throttled_answer_holds_the_next_call_back(
    world: World, status: int, headers: str, body: bytes, wait_ms: int
) -> None:
    world.ask().raw(body, status=status, headers=headers)
    if not wait_ms:
        world.ask()
        return
    error = world.refusal()
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_ms == pytest.approx(wait_ms, abs=5)


def test_nothing_is_held_back_without_being_asked_to(tmp_path: Path) -> None:
    providers: dict[str, Any] = {"local": {**KEYED["local"], "adaptive": False}}
    w = World(tmp_path, providers=providers, environ={"K": "sk-x"})
    w.ask().raw(b"{}", status=429, headers="retry-after: 70\r\n")
    w.ask()
    assert w.clock.fixed_ns == NOON_NS
