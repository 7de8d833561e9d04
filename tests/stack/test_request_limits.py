"""Limits on requests: all that apply must admit, and what is refused costs nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from outrider.errors import RateLimitedError
from outrider.stack.call import Call, Route
from outrider.stack.request_limits import Buckets, RequestLimits
from outrider.telemetry.metrics import Metrics
from support.exchanges import exchange

SECOND = 1_000_000_000
NOWHERE = Route(
    binding=None, operation=None, known=False, model=None, destination_host="", destination_port=0, prefix_bytes=0,
    error_dialect="", pool=None,
)  # fmt: skip


def limit(name: str, count: int, period_s: int, *, key: tuple[str, ...] = ("provider",), **more: Any) -> Any:
    settings = {"burst": None, "providers": None} | more
    return SimpleNamespace(name=name, requests=SimpleNamespace(count=count, period_s=period_s), key=key, **settings)


class World:
    def __init__(self, *limits: Any) -> None:
        self.now_ns = 0
        self.said: list[str] = []
        self.metrics, self.buckets = Metrics(), Buckets()
        self.use(*limits)

    def use(self, *limits: Any) -> None:
        self._layer = RequestLimits(limits, self.buckets, self.metrics, lambda: self.now_ns)

    def wait_ms(self, provider: str = "openai") -> int:
        """0: admitted."""
        hook = self._layer.request(SimpleNamespace(provider=provider))  # type: ignore[arg-type]
        if hook is None:
            return 0
        x = exchange(b"GET /openai/v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        call = Call(NOWHERE, b"")
        try:
            assert hook(x, call) is None  # type: ignore[operator]
        except RateLimitedError as error:
            self.said.append(call.decision)
            return error.retry_after_ms
        return 0


def test_a_burst_passes_and_then_one_at_a_time() -> None:
    world = World(limit("rpm", 60, 60, burst=2))
    assert [world.wait_ms() for _ in range(3)] == [0, 0, 1000]
    world.now_ns = SECOND
    assert [world.wait_ms() for _ in range(2)] == [0, 1000]


def test_what_it_says_to_wait_is_enough_and_not_a_millisecond_more() -> None:
    world = World(limit("rps", 3, 1, burst=1))
    world.wait_ms()
    waited = world.wait_ms()
    world.now_ns = (waited - 1) * 1_000_000
    assert world.wait_ms() > 0
    world.now_ns = waited * 1_000_000
    assert world.wait_ms() == 0


def test_each_provider_has_its_bucket_or_all_share_one() -> None:
    world = World(limit("each", 1, 60))
    assert (world.wait_ms("openai"), world.wait_ms("anthropic")) == (0, 0)
    world = World(limit("all", 1, 60, key=()))
    assert world.wait_ms("openai") == 0
    assert world.wait_ms("anthropic") > 0


def test_a_limit_for_some_providers_is_not_for_others() -> None:
    world = World(limit("some", 1, 60, providers=("openai",)))
    assert [world.wait_ms("anthropic") for _ in range(5)] == [0] * 5


def test_one_that_refuses_leaves_the_others_uncharged() -> None:
    world = World(limit("wide", 3, 60), limit("narrow", 1, 60))
    assert world.wait_ms() == 0
    assert [world.wait_ms() > 0 for _ in range(10)] == [True] * 10
    assert set(world.said) == {"narrow"}
    world.use(limit("wide", 3, 60))
    assert [world.wait_ms() for _ in range(2)] == [0, 0]
    assert world.wait_ms() > 0


def test_decisions_are_counted() -> None:
    world = World(limit("rpm", 1, 60))
    for _ in range(3):
        world.wait_ms()
    assert world.metrics.limits.value("rpm", "allow") == 1
    assert world.metrics.limits.value("rpm", "reject") == 2


@pytest.mark.parametrize(
    ("after", "kept"), [(limit("a", 1, 60), True), (limit("a", 2, 60), False), (limit("b", 1, 60), False)]
)
def test_counters_survive_a_reload_that_does_not_change_the_rate(after: Any, kept: bool) -> None:
    world = World(limit("a", 1, 60))
    world.wait_ms()
    world.buckets.keep_only([after])
    world.use(after)
    assert (world.wait_ms() > 0) == kept
