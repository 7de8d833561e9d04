"""Calls with several targets on real sockets: what the app gets, and what each provider was asked, by its journal."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.mock.behaviour import NOTHING, Behaviour
from outrider.runtime import Sidecar
from support.running import client_of, post, running, total, until
from support.wire import Peer

FAST = {"retry": {"base_ms": 1, "max_ms": 5}}
KEYS = {"ONE_KEY": "sk-key-of-one", "TWO_KEY": "sk-key-of-two"}
GOOD = b"data: "
JSON = b"content-type: application/json\r\n"


class Flaky(MockProvider):
    """Asks `draw` how to answer each call."""

    draw: Callable[[], Behaviour] = staticmethod(lambda: NOTHING)

    def _queued(self, target: str) -> Behaviour:
        found = super()._queued(target)
        return found if found is not NOTHING else self.draw()


class Ride:
    def __init__(self, sidecar: Sidecar, one: Flaky, two: Flaky) -> None:
        self.sidecar, self.one, self.two = sidecar, one, two

    async def ask(self, peer: Peer | None = None, **fields: Any) -> tuple[bytes, bytes]:
        own = peer is None
        peer = peer or await client_of(self.sidecar)
        body = {"model": "smart", "messages": [{"role": "user", "content": "Hello"}]} | fields
        await peer.send(post(self.sidecar, json.dumps(body).encode(), b"/one/v1/chat/completions", JSON))
        try:
            return await peer.answer()
        finally:
            if own:
                peer.close()

    async def ask_all(self, count: int, workers: int = 8, **fields: Any) -> list[tuple[bytes, bytes]]:
        answers: list[tuple[bytes, bytes]] = []
        left = iter(range(count))

        async def work() -> None:
            peer = await client_of(self.sidecar)
            for _ in left:
                head, body = await self.ask(peer, **fields)
                answers.append((head, body))
                if b"connection: close" in head:
                    peer.close()
                    peer = await client_of(self.sidecar)
            peer.close()

        await asyncio.gather(*(work() for _ in range(workers)))
        return answers

    @property
    def calls(self) -> tuple[int, int]:
        return len(self.one.journal), len(self.two.journal)


def alias(**more: Any) -> dict[str, Any]:
    return {"smart": {"targets": ["one/gpt-one", "two/gpt-two"], **more}}


@asynccontextmanager
async def ride(folder: Path, models: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[Ride]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(Flaky(tls=False))
        two = await stack.enter_async_context(Flaky(tls=False))
        providers = {
            name: {
                "kind": "openai",
                "hosts": [f"{name}.internal"],
                "connect_to": mock.http_url,
                "credential": {"env": f"{name.upper()}_KEY"},
                "require_placeholder": False,
            }
            for name, mock in (("one", one), ("two", two))
        }
        settings = {"resilience": FAST, "models": models or alias()} | sections
        sidecar = await stack.enter_async_context(running(folder, providers, environ=KEYS, **settings))
        yield Ride(sidecar, one, two)


def status(answer: tuple[bytes, bytes]) -> int:
    return int(answer[0].split(b" ", 2)[1])


def bodies(mock: MockProvider) -> list[Any]:
    return [json.loads(entry.body) for entry in mock.journal]


# -- where a call goes


async def test_an_alias_goes_to_its_first_target_under_that_targets_name(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        answer = await r.ask(temperature=0.5)
        assert status(answer) == 200
        assert r.calls == (1, 0)
        sent = next(iter(r.one.journal))
        assert sent.body == (
            b'{"model": "gpt-one", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}'
        )
        assert sent.header("authorization") == "Bearer sk-key-of-one"
        assert total(r.sidecar, "outrider_requests_total", provider="one", model="gpt-one") == 1


async def test_a_target_at_another_provider_gets_its_own_key_and_host_and_nothing_of_the_apps(tmp_path: Path) -> None:
    async with ride(tmp_path, {"smart": {"targets": ["two/gpt-two"]}}) as r:
        peer = await client_of(r.sidecar)
        more = JSON + b"authorization: Bearer sk-of-the-app\r\nopenai-organization: org\r\ncookie: a=b\r\nx-mine: 1\r\n"
        body = b'{"model":"smart","messages":[{"role":"user","content":"Hi"}]}'
        await peer.send(post(r.sidecar, body, b"/one/v1/chat/completions?api-key=q", more))
        assert status(await peer.answer()) == 200
        peer.close()
        assert r.calls == (0, 1)
        sent = next(iter(r.two.journal))
        assert sent.target == "/v1/chat/completions"
        assert sent.header("host") == "two.internal"
        assert sent.all("authorization") == ["Bearer sk-key-of-two"]
        assert sent.header("openai-organization") is None
        assert sent.header("cookie") is None
        assert sent.header("x-mine") == "1"
        assert total(r.sidecar, "outrider_requests_total", provider="two", model="gpt-two") == 1


async def test_a_model_that_is_no_alias_goes_where_it_was_asked(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        assert status(await r.ask(model="gpt-4o")) == 200
        assert r.calls == (1, 0)
        r.one.fail(500)
        assert status(await r.ask(model="gpt-4o")) == 500
        assert r.calls == (2, 0)


async def test_calls_with_the_apps_own_key_do_not_get_another_providers_credential(tmp_path: Path) -> None:
    async with MockProvider(tls=False) as mock:
        where = {"kind": "openai", "connect_to": mock.http_url}
        providers = {
            "one": {**where, "hosts": ["one.internal"]},
            "two": {**where, "hosts": ["two.internal"], "credential": {"env": "TWO_KEY"}},
        }
        models = {"smart": {"targets": ["two/gpt-two"]}}
        async with running(tmp_path, providers, environ=KEYS, models=models) as sidecar:
            peer = await client_of(sidecar)
            body = b'{"model":"smart","messages":[]}'
            await peer.send(post(sidecar, body, b"/one/v1/chat/completions", b"authorization: Bearer own\r\n"))
            head, said = await peer.answer()
            peer.close()
        assert head.startswith(b"HTTP/1.1 403")
        assert b"does not get the sidecar's credential of two" in said
        assert not len(mock.journal)


# -- failover


@pytest.mark.parametrize(
    "how",
    [
        Behaviour(status=500),
        Behaviour(status=429, headers={"retry-after": "30"}),
        Behaviour(status=401),
        Behaviour(cut_after_bytes=0, cut="reset"),
        Behaviour(cut_after=0, cut="close"),
        Behaviour(error_after=0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_before_content_is_served_by_the_other_target(
    tmp_path: Path, how: Behaviour, stream: bool
) -> None:
    if how.error_after is not None and not stream:
        pytest.skip("an error event is a stream's")
    async with ride(tmp_path) as r:
        r.one.next(how)
        answer = await r.ask(stream=stream)
        assert status(answer) == 200
        assert r.calls == (1, 1)
        assert answer[1].startswith(GOOD) is stream
        assert bodies(r.two)[0]["model"] == "gpt-two"
        assert r.sidecar.hub.exchanges == 0


async def test_a_plain_answer_that_is_cut_in_the_middle_is_tried_again(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.next(cut_after_bytes=20, cut="close", framing="length")
        answer = await r.ask()
        assert status(answer) == 200
        assert json.loads(answer[1])["choices"]
        assert r.calls == (1, 1)


async def test_the_last_failure_is_the_providers_own_answer_and_says_not_to_retry(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        for mock in (r.one, r.two):
            mock.next(status=500, headers={"x-should-retry": "true"}, times=9)
        head, body = await r.ask()
        assert head.startswith(b"HTTP/1.1 500")
        assert head.lower().count(b"x-should-retry") == 1
        assert b"x-should-retry: false" in head
        assert json.loads(body)["error"]
        assert sum(r.calls) == 4


async def test_a_refusal_of_the_request_itself_is_passed_on_at_once(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.fail(400)
        head, _ = await r.ask()
        assert head.startswith(b"HTTP/1.1 400")
        assert b"x-should-retry" not in head
        assert r.calls == (1, 0)


async def test_a_target_that_does_not_answer_in_time_is_left_for_the_other(tmp_path: Path) -> None:
    timeouts = {"first_byte_s": 0.15, "first_event_s": 0.15}
    async with ride(tmp_path, alias(timeouts=timeouts)) as r:
        for stall in ("head", "first"):
            r.one.next(stall=stall)
            assert status(await r.ask(stream=True)) == 200
        r.one.release()
        assert r.calls == (2, 2)


async def test_a_client_that_leaves_while_a_retry_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    retry = {"base_ms": 60_000, "max_ms": 60_000}
    async with ride(tmp_path, {"smart": {"targets": ["one/m"]}}, resilience={"retry": retry}) as r:
        r.one.fail(500, times=3)
        peer = await client_of(r.sidecar)
        await peer.send(post(r.sidecar, b'{"model":"smart"}', b"/one/v1/chat/completions", JSON))
        await until(lambda: total(r.sidecar, "outrider_events_total", event="retry") == 1, "a retry waits")
        peer.close()
        await until(lambda: r.sidecar.hub.exchanges == 0, "the exchange has ended")
        assert r.calls == (1, 0)


async def test_the_connection_of_a_discarded_answer_is_kept(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        peer = await client_of(r.sidecar)
        for _ in range(3):
            r.one.fail(500)
            assert status(await r.ask(peer)) == 200
        peer.close()
        assert {entry.connection_id for entry in r.one.journal} == {1}


async def test_a_target_that_keeps_failing_is_left_alone(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.fail(500, times=100)
        for _ in range(20):
            assert status(await r.ask()) == 200
        assert r.calls == (5, 20)


async def test_when_all_are_left_alone_the_refusal_says_when_to_come_back(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        for mock in (r.one, r.two):
            mock.next(status=429, headers={"retry-after": "30"}, times=9)
        assert status(await r.ask()) == 429
        head, body = await r.ask()
        assert head.startswith(b"HTTP/1.1 503")
        assert b"x-outrider-error: targets_down" in head
        assert 25 < int(head.partition(b"retry-after: ")[2].partition(b"\r\n")[0]) <= 30
        assert b"throttled" in body


async def test_a_static_answer_stands_in_marked_as_such(tmp_path: Path) -> None:
    async with ride(tmp_path, alias(static_answer={"text": "Later, please."})) as r:
        for mock in (r.one, r.two):
            mock.fail(500, times=100)
        head, body = await r.ask()
        assert b"x-outrider-degraded: static" in head
        assert json.loads(body)["choices"][0]["message"]["content"] == "Later, please."
        head, body = await r.ask(stream=True)
        assert b"text/event-stream" in head
        assert body.endswith(b"data: [DONE]\n\n")


# -- after content


@pytest.mark.parametrize("cut", ["close", "abort", "reset"])
async def test_a_fault_after_content_ends_in_the_dialects_error_event(tmp_path: Path, cut: str) -> None:
    async with ride(tmp_path) as r:
        r.one.next(events=8, cut_after=3, cut=cut, chunk_bytes=50)
        head, body = await r.ask(stream=True)
        assert head.startswith(b"HTTP/1.1 200")
        *events, last, end = body.split(b"\n\n")
        assert end == b""
        assert all(b'"choices"' in event for event in events)
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_broken"
        assert r.calls == (1, 0)


# -- hedging


async def _first_bytes_ms(r: Ride, count: int, workers: int = 4) -> list[float]:
    """How long each of so many streams took to its first byte of content."""
    loop, took, left = asyncio.get_running_loop(), [], iter(range(count))

    async def work() -> None:
        peer = await client_of(r.sidecar)
        body = b'{"model":"smart","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
        for _ in left:
            began = loop.time()
            await peer.send(post(r.sidecar, body, b"/one/v1/chat/completions", JSON))
            await peer.until(b"data: ")
            took.append((loop.time() - began) * 1000)
            await peer.until(b"0\r\n\r\n")
        peer.close()

    await asyncio.gather(*(work() for _ in range(workers)))
    return sorted(took)


@pytest.mark.parametrize("slow", [Behaviour(delay_ms=400), Behaviour(first_event_ms=400)])
async def test_hedging_halves_the_slow_tail_for_few_extra_calls(tmp_path: Path, slow: Behaviour) -> None:
    async def tail(folder: Path, **more: Any) -> tuple[float, int, float]:
        folder.mkdir()
        count, calls = 200, iter(range(1, 10_000))
        async with ride(folder, alias(**more)) as r:
            r.one.draw = lambda: slow if next(calls) % 33 == 0 else NOTHING
            took = await _first_bytes_ms(r, count)
            await until(lambda: not r.sidecar.hub.exchanges, "all have ended")
            for health in r.sidecar.snapshot.aliases.healths.all():
                assert health.in_flight == 0
            return took[int(count * 0.99) - 1], sum(r.calls) - count, total(
                r.sidecar, "outrider_events_total", event="hedge_won"
            )

    plain, none, _ = await tail(tmp_path / "plain")
    hedged, extra, won = await tail(tmp_path / "hedged", hedge={"percent": 5})
    assert none == 0
    assert plain >= 400
    assert hedged <= plain / 2
    assert extra <= 0.06 * 200
    assert won >= 4


async def test_what_is_stateful_is_not_hedged(tmp_path: Path) -> None:
    async with ride(tmp_path, alias(hedge={"percent": 100, "after_ms": 1, "min_after_ms": 1})) as r:
        for fields in ({"store": True}, {"previous_response_id": "resp_1"}):
            r.one.next(delay_ms=40)
            await r.ask(**fields)
        assert r.calls == (2, 0)
        r.one.next(delay_ms=400)
        await r.ask(store=False)
        assert r.calls == (3, 1)


@pytest.mark.parametrize("late", [Behaviour(status=500, delay_ms=60), Behaviour(cut_after_bytes=0, cut="reset")])
async def test_of_two_that_race_one_may_fail(tmp_path: Path, late: Behaviour) -> None:
    async with ride(tmp_path, alias(hedge={"percent": 100, "after_ms": 10, "min_after_ms": 1})) as r:
        r.one.next(delay_ms=150)
        r.two.next(late)
        answer = await r.ask(stream=True)
        assert status(answer) == 200
        assert b"[DONE]" in answer[1]
        assert r.calls == (1, 1)
        r.one.next(status=500, delay_ms=60)
        r.two.next(delay_ms=150)
        answer = await r.ask(stream=True)
        assert status(answer) == 200
        assert r.calls == (2, 2)
        await until(lambda: not r.sidecar.hub.exchanges, "all have ended")


async def test_a_client_that_leaves_a_race_cancels_both(tmp_path: Path) -> None:
    async with ride(tmp_path, alias(hedge={"percent": 100, "after_ms": 5, "min_after_ms": 1})) as r:
        r.one.next(stall="head")
        r.two.next(stall="head")
        peer = await client_of(r.sidecar)
        body = b'{"model":"smart","messages":[{"role":"user","content":"Hi"}]}'
        await peer.send(post(r.sidecar, body, b"/one/v1/chat/completions", JSON))
        await until(lambda: r.one.stalled == 1 and r.two.stalled == 1, "both were asked")
        peer.close()
        await until(lambda: not r.sidecar.hub.exchanges and not r.sidecar.hub.upstreams, "nothing is left")
        await until(lambda: all(entry.disconnected for m in (r.one, r.two) for entry in m.journal), "both know")


# -- the judged figures


async def _share(folder: Path, count: int, strategy: str, *, both: bool) -> tuple[float, float]:
    """(share of successes, calls per request) with one in five calls failing before content."""
    chance = random.Random(7)
    faults = (
        Behaviour(status=500), Behaviour(status=503), Behaviour(status=429), Behaviour(cut_after_bytes=0, cut="reset"),
        Behaviour(cut_after=0, cut="close"), Behaviour(error_after=0),
    )  # fmt: skip

    def draw() -> Behaviour:
        return chance.choice(faults) if chance.random() < 0.2 else NOTHING

    async with ride(folder, alias(strategy=strategy)) as r:
        r.one.draw = draw
        if both:
            r.two.draw = draw
        answers = await r.ask_all(count, stream=True)
        good = [answer for answer in answers if status(answer) == 200 and answer[1].endswith(b"data: [DONE]\n\n")]
        assert all(body.count(b"data: [DONE]") == 1 and b'"error"' not in body for _, body in good)
        return len(good) / count, sum(r.calls) / count


@pytest.mark.parametrize("strategy", ["failover", "round-robin"])
async def test_one_failing_target_of_two_is_not_noticed(tmp_path: Path, strategy: str) -> None:
    good, calls = await _share(tmp_path, 300, strategy, both=False)
    assert good >= 0.9995
    assert calls <= 1.25


@pytest.mark.parametrize("strategy", ["failover", "round-robin"])
async def test_two_failing_targets_are_hardly_noticed(tmp_path: Path, strategy: str) -> None:
    good, calls = await _share(tmp_path, 300, strategy, both=True)
    assert good >= 0.99
    assert calls <= 1.4


@pytest.mark.long
@pytest.mark.parametrize(("both", "most"), [(False, 1.25), (True, 1.3)])
@pytest.mark.parametrize("strategy", ["failover", "round-robin", "latency", "weighted"])
async def test_the_shares_hold_over_many_calls(tmp_path: Path, strategy: str, both: bool, most: float) -> None:
    good, calls = await _share(tmp_path, 10_000, strategy, both=both)
    assert good >= (0.99 if both else 0.9995)
    assert calls <= most
