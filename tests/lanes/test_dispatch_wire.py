"""Calls with several targets on real sockets: what the app gets, and what each provider was asked, by its journal."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, new_key
from outrider.lanes.dispatcher import Dispatcher
from outrider.mock import MockProvider
from outrider.mock.behaviour import NOTHING, Behaviour
from outrider.runtime import Sidecar
from outrider.upstream.plans import PlanCalls
from outrider.upstream.pool import Pool
from support.running import client_of, post, running, total, until
from support.wire import Peer

FAST = {"retry": {"base_ms": 1, "max_ms": 5}}
KEYS = {"ONE_KEY": "sk-key-of-one", "TWO_KEY": "sk-key-of-two", "THREE_KEY": "sk-key-of-three"}
GOOD = b"data: "
JSON = b"content-type: application/json\r\n"


class Flaky(MockProvider):
    """Asks `draw` how to answer each call."""

    draw: Callable[[], Behaviour] = staticmethod(lambda: NOTHING)

    def _queued(self, target: str) -> Behaviour:
        found = super()._queued(target)
        return found if found is not NOTHING else self.draw()


class Ride:
    def __init__(self, sidecar: Sidecar, one: Flaky, two: Flaky, three: Flaky) -> None:
        self.sidecar, self.one, self.two, self.three = sidecar, one, two, three

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
async def ride(
    folder: Path,
    models: dict[str, Any] | None = None,
    adaptive: tuple[str, ...] = (),
    environ: dict[str, str] | None = None,
    **sections: Any,
) -> AsyncIterator[Ride]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(Flaky(tls=False))
        two = await stack.enter_async_context(Flaky(tls=False))
        three = await stack.enter_async_context(Flaky(tls=False))
        providers = {
            name: {
                "kind": "openai",
                "hosts": [f"{name}.internal"],
                "connect_to": mock.http_url,
                "credential": {"env": f"{name.upper()}_KEY"},
                "require_placeholder": False,
                "adaptive": name in adaptive,
            }
            for name, mock in (("one", one), ("two", two), ("three", three))
        }
        settings = {"resilience": FAST, "models": models or alias()} | sections
        sidecar = await stack.enter_async_context(
            running(folder, providers, environ=KEYS | (environ or {}), **settings)
        )
        yield Ride(sidecar, one, two, three)


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


FAILURES = [
    Behaviour(status=500),
    Behaviour(status=429, headers={"retry-after": "30"}),
    Behaviour(status=401),
    Behaviour(cut_after_bytes=0, cut="reset"),
    Behaviour(cut_after=0, cut="close"),
]


@pytest.mark.parametrize(
    ("how", "stream"),
    [*((how, stream) for how in FAILURES for stream in (False, True)), (Behaviour(error_after=0), True)],
)
async def test_what_fails_before_content_is_served_by_the_other_target(
    tmp_path: Path, how: Behaviour, stream: bool
) -> None:
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


async def test_plain_calls_are_tried_again_where_config_says_so(tmp_path: Path) -> None:
    async with ride(tmp_path, resilience={**FAST, "plain_calls": True}) as r:
        r.one.fail(500)
        assert status(await r.ask(model="gpt-4o")) == 200
        assert r.calls == (2, 0)
        first, second = bodies(r.one)
        assert first == second
        assert total(r.sidecar, "outrider_requests_total", provider="one", model="gpt-4o") == 1


async def test_the_idempotency_key_goes_with_every_try(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.fail(500)
        peer = await client_of(r.sidecar)
        body = b'{"model":"smart","messages":[{"role":"user","content":"Hi"}]}'
        more = JSON + b"idempotency-key: abc\r\n"
        await peer.send(post(r.sidecar, body, b"/one/v1/chat/completions", more))
        assert status(await peer.answer()) == 200
        peer.close()
        assert [entry.header("idempotency-key") for m in (r.one, r.two) for entry in m.journal] == ["abc", "abc"]


async def test_a_rule_routes_to_an_alias_and_to_another_provider(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "version: 1\nrules:\n"
        "- {id: a, description: A, match: {model: old}, then: {route: {model: smart}}}\n"
        "- {id: b, description: B, match: {model: other}, then: {route: {provider: two, model: gpt-9}}}\n"
    )
    async with ride(tmp_path, {"smart": {"targets": ["two/gpt-two"]}}, policies=[str(rules)]) as r:
        assert status(await r.ask(model="old")) == 200
        assert status(await r.ask(model="other")) == 200
        assert r.calls == (0, 2)
        assert [body["model"] for body in bodies(r.two)] == ["gpt-two", "gpt-9"]


async def test_while_every_target_is_full_calls_wait_and_go_in_turn(tmp_path: Path) -> None:
    targets = [{"provider": "one", "model": "m", "max_concurrent": 1}]
    async with ride(tmp_path, {"smart": {"targets": targets, "queue": {"max_waiting": 2}}}) as r:
        r.one.next(stall="head")
        asked = [asyncio.create_task(r.ask()) for _ in range(4)]
        await until(lambda: r.one.stalled == 1, "one is being served")
        await until(lambda: any(task.done() for task in asked), "one was refused")
        refused = next(task for task in asked if task.done())
        assert status(await refused) == 503
        assert r.calls == (1, 0)
        r.one.release()
        answers = [status(await task) for task in asked]
        assert sorted(answers) == [200, 200, 200, 503]
        assert r.calls == (3, 0)


async def test_of_those_that_wait_the_higher_priority_goes_first(tmp_path: Path) -> None:
    targets = [{"provider": "one", "model": "m", "max_concurrent": 1}]
    models = {"smart": {"targets": targets, "queue": {"priority": {"ops": 10, "batch": -5}}}}
    names = ("batch", "web", "ops")
    hasher, keys = KeyHasher.open(tmp_path / "hmac", create=True), {name: new_key() for name in names}
    principals = [
        {"id": name, "from": {"keys": [{"hash": HASH_PREFIX + hasher.hash_of(keys[name].encode()).hex()}]}}
        for name in names
    ]
    virtual = {"hmac_key": str(tmp_path / "hmac")}
    async with ride(tmp_path, models, principals=principals, virtual_keys=virtual) as r:
        r.one.next(stall="head")
        first = asyncio.create_task(r.ask())
        await until(lambda: r.one.stalled == 1, "one is being served")
        room = r.sidecar.snapshot.aliases.groups["smart"].room
        peers = []
        for number, name in enumerate(names):
            peer = await client_of(r.sidecar)
            shown = JSON + b"authorization: Bearer %b\r\n" % keys[name].encode()
            body = b'{"model":"smart","messages":[{"role":"user","content":"%b"}]}' % name.encode()
            await peer.send(post(r.sidecar, body, b"/one/v1/chat/completions", shown))
            await until(lambda number=number: room.waiting == number + 1, "it waits")  # type: ignore[misc]
            peers.append(peer)
        r.one.release()
        await first
        for peer in peers:
            assert status(await peer.answer()) == 200
            peer.close()
        asked = [body["messages"][0]["content"] for body in bodies(r.one)]
        assert asked == ["Hello", "ops", "web", "batch"]


async def test_another_credential_brings_a_target_back_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-first")
    key.chmod(0o600)
    async with MockProvider(tls=False) as one, MockProvider(tls=False) as two:
        providers = {
            name: {
                "kind": "openai", "hosts": [f"{name}.internal"], "connect_to": mock.http_url,
                "credential": credential, "require_placeholder": False,
            }
            for name, mock, credential in (("one", one, {"file": str(key)}), ("two", two, {"env": "TWO_KEY"}))
        }  # fmt: skip
        async with running(tmp_path, providers, environ=KEYS, models=alias(), resilience=FAST) as sidecar:
            r = Ride(sidecar, one, two, two)  # type: ignore[arg-type]
            one.next(status=401)
            for _ in range(3):
                assert status(await r.ask()) == 200
            assert r.calls == (1, 3)
            key.write_text("sk-second")
            source = sidecar.snapshot.sources["one"]
            source.refresh()
            assert status(await r.ask()) == 200
            assert r.calls == (2, 3)
            assert list(one.journal)[-1].header("authorization") == "Bearer sk-second"


async def test_a_waiting_call_whose_client_leaves_gives_its_place_up(tmp_path: Path) -> None:
    targets = [{"provider": "one", "model": "m", "max_concurrent": 1}]
    async with ride(tmp_path, {"smart": {"targets": targets}}) as r:
        r.one.next(stall="head")
        first = asyncio.create_task(r.ask())
        await until(lambda: r.one.stalled == 1, "one is being served")
        peer = await client_of(r.sidecar)
        await peer.send(post(r.sidecar, b'{"model":"smart"}', b"/one/v1/chat/completions", JSON))
        room = r.sidecar.snapshot.aliases.groups["smart"].room
        await until(lambda: room.waiting == 1, "the second waits")
        peer.close()
        await until(lambda: room.waiting == 0, "it gave its place up")
        r.one.release()
        assert status(await first) == 200
        assert r.calls == (1, 0)


async def test_a_call_goes_to_a_target_that_has_what_it_needs(tmp_path: Path) -> None:
    targets = [
        {"provider": "one", "model": "a", "has": ["tools"]},
        {"provider": "two", "model": "b", "has": ["vision"]},
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with ride(tmp_path, {"smart": {"targets": targets}}) as r:
        await r.ask(messages=[{"role": "user", "content": [image]}])
        assert r.calls == (0, 1)
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
        await r.ask(tools=tools)
        assert r.calls == (1, 1)
        head, body = await r.ask(tools=tools, messages=[{"role": "user", "content": [image]}])
        assert head.startswith(b"HTTP/1.1 400")
        assert b"(tools, vision)" in body


async def test_a_picture_never_goes_to_a_model_that_is_known_to_see_none(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with ride(tmp_path, {"smart": {"targets": ["one/gpt-3.5-turbo", "two/gpt-4o"]}}) as r:
        await r.ask()
        assert r.calls == (1, 0)
        await r.ask(messages=[{"role": "user", "content": [image]}])
        assert r.calls == (1, 1)


async def test_smart_rules_and_stickiness_choose_the_first_target(tmp_path: Path) -> None:
    rules = [{"when": "request.messages > 2", "target": "two/gpt-two"}]
    models = {**alias(strategy="smart", rules=rules), "same": {**alias()["smart"], "strategy": "weighted"}}
    models["same"]["sticky"] = "conversation"
    async with ride(tmp_path, models) as r:
        hello = {"role": "user", "content": "Hello"}
        await r.ask()
        await r.ask(messages=[hello] * 3)
        assert r.calls == (1, 1)
        for turns in range(1, 9):
            await r.ask(model="same", messages=[hello] * turns)
        assert sorted(r.calls) == [1, 9]


async def test_a_target_that_is_left_alone_is_tried_again_once_it_takes_a_connection(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.one.fail(500, times=5)
        for _ in range(5):
            await r.ask()
        breaker = r.sidecar.snapshot.aliases.healths.all()[0].breaker
        assert breaker.state(time.monotonic_ns()) == "open"
        r.sidecar.snapshot.aliases.probe(time.monotonic_ns(), r.sidecar.spawn)
        await until(lambda: breaker.state(time.monotonic_ns()) == "half_open", "the connection was taken")
        assert status(await r.ask()) == 200
        assert r.calls == (6, 5)
        assert breaker.state(time.monotonic_ns()) == "closed"


async def test_the_cheapest_target_is_asked_first(tmp_path: Path) -> None:
    prices = {"one/gpt-one": {"input": 10, "output": 30}, "two/gpt-two": {"input": 1, "output": 3}}
    async with ride(tmp_path, alias(strategy="cost"), prices=prices) as r:
        assert status(await r.ask()) == 200
        assert r.calls == (0, 1)
        assert total(r.sidecar, "outrider_cost_usd_total", provider="two", model="gpt-two") > 0


async def test_the_logs_line_names_what_was_asked_for_and_who_was_asked(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with ride(tmp_path, telemetry={"log": str(log)}) as r:
        r.one.fail(500)
        await r.ask()
    line = next(line for text in log.read_text().splitlines() if (line := json.loads(text))["event"] == "exchange")
    assert (line["asked"], line["targets"]) == ("smart", ["one/gpt-one", "two/gpt-two"])
    assert (line["provider"], line["model"], line["attempts"]) == ("two", "gpt-two", 2)


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
            return (
                took[int(count * 0.99) - 1],
                sum(r.calls) - count,
                total(r.sidecar, "outrider_events_total", event="hedge_won"),
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


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        (Behaviour(status=429, headers={"retry-after": "30"}), "throttled"),
        (Behaviour(status=401), "credential refused"),
        (Behaviour(status=503), "status 503"),
    ],
)
async def test_what_lost_a_race_is_blamed_for_what_it_said(tmp_path: Path, late: Behaviour, reason: str) -> None:
    async with ride(tmp_path, alias(hedge={"percent": 100, "after_ms": 10, "min_after_ms": 1})) as r:
        r.one.next(delay_ms=150)
        r.two.next(late)
        assert status(await r.ask()) == 200
        assert r.calls == (1, 1)
        _, health = r.sidecar.snapshot.aliases.healths.all()
        assert health.breaker.reason == reason


@pytest.fixture
def held_hosts(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Hosts to which no connection comes about while they stand in it."""
    hosts: set[str] = set()
    make = Pool._make

    async def when_let(pool: Pool) -> Any:
        while pool.destination.host in hosts:
            await asyncio.sleep(0.001)
        return await make(pool)

    monkeypatch.setattr(Pool, "_make", when_let)
    return hosts


async def test_a_rival_without_a_connection_yet_is_let_go_of_when_the_first_one_answers(
    tmp_path: Path, held_hosts: set[str]
) -> None:
    hedged = alias(targets=["one/a", "two/b", "three/c"], hedge={"percent": 100, "after_ms": 10, "min_after_ms": 1})
    async with ride(tmp_path, hedged) as r:
        for _ in range(3):  # so that more than one may be hedged of the next
            await r.ask(store=True)
        held_hosts.add("two.internal")
        r.one.next(delay_ms=60, status=503, framing="close")
        r.three.next(delay_ms=150)
        asked = asyncio.create_task(r.ask())
        await until(lambda: len(r.one.journal) == 4, "the first was asked")
        held_hosts.add("one.internal")
        await until(lambda: len(r.three.journal) == 1, "the third was asked")
        await until(lambda: total(r.sidecar, "outrider_events_total", event="hedge") == 2, "a rival of the third")
        held_hosts.discard("two.internal")
        assert status(await asked) == 200
        held_hosts.clear()
        await until(lambda: not r.sidecar.hub.exchanges, "all have ended")
        for name, mock in (("one", r.one), ("two", r.two), ("three", r.three)):
            assert {entry.header("authorization") for entry in mock.journal} <= {f"Bearer sk-key-of-{name}"}
        assert [health.in_flight for health in r.sidecar.snapshot.aliases.healths.all()] == [0, 0, 0]


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


async def test_the_latency_strategy_finds_the_fast_target_and_one_that_has_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> int:
        """Latencies and their forgetting go by it: thirty seconds are three."""
        return time.monotonic_ns() * 10

    for part in (Dispatcher, PlanCalls):
        monkeypatch.setitem(part.__init__.__kwdefaults__, "clock", clock)  # type: ignore[arg-type,misc,unused-ignore]
    async with ride(tmp_path, alias(strategy="latency")) as r:
        r.one.draw = lambda: Behaviour(first_event_ms=150)
        await r.ask_all(200, workers=4, stream=True)
        slow, fast = r.calls
        assert fast >= 0.9 * 200, (slow, fast)
        r.one.draw = lambda: NOTHING
        began_ns, back_s = clock(), 1e9
        for _ in range(400):
            before = r.calls
            await r.ask_all(20, workers=4, stream=True)
            if r.calls[0] - before[0] >= 6:  # it is as good as the other, so it gets its part again
                back_s = (clock() - began_ns) / 1e9
                break
        assert back_s <= 30


@pytest.mark.long
@pytest.mark.parametrize(("both", "most"), [(False, 1.25), (True, 1.3)])
@pytest.mark.parametrize("strategy", ["failover", "round-robin", "latency", "weighted"])
async def test_the_shares_hold_over_many_calls(tmp_path: Path, strategy: str, both: bool, most: float) -> None:
    good, calls = await _share(tmp_path, 10_000, strategy, both=both)
    assert good >= (0.99 if both else 0.9995)
    assert calls <= most


# -- a fault after content, in every dialect, of calls that are not dispatched


GEMINI = b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}'
CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}],"max_tokens":9}'
CONVERSE = b'{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}'
DIALECTS = {
    "openai": (b"/p/v1/chat/completions", CHAT),
    "openai responses": (b"/p/v1/responses", b'{"model":"m","stream":true,"input":"Hi"}'),
    "anthropic": (b"/p/v1/messages", CHAT.replace(b'"m"', b'"claude-sonnet-4-5"')),
    "gemini": (b"/p/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", GEMINI),
    "gemini array": (b"/p/v1beta/models/gemini-2.5-flash:streamGenerateContent", GEMINI),
    "bedrock": (b"/p/model/amazon.nova-lite-v1%3A0/converse-stream", CONVERSE),
    "ollama": (b"/p/api/chat", b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'),
}


def _parts(dialect: str, body: bytes) -> list[Any]:
    """What an SDK would see, one JSON value for each part of the stream; it raises where the framing is broken."""
    if dialect == "bedrock":
        from outrider_ext.eventstream import EventStreamReader

        reader = EventStreamReader()
        messages = reader.receive_data(body)
        assert sum(len(message.payload) for message in messages) < len(body)
        return [{**json.loads(message.payload), "kind": message.headers} for message in messages]
    if dialect == "ollama":
        assert body.endswith(b"\n")
        return [json.loads(line) for line in body.splitlines()]
    if dialect == "gemini array":
        return list(json.loads(body))
    body = body.replace(b"\r\n", b"\n")
    assert body.endswith(b"\n\n")
    events = body.split(b"\n\n")[:-1]
    return [json.loads(line[6:]) for event in events for line in event.splitlines() if line.startswith(b"data: ")]


def _is_error(dialect: str, part: Any) -> bool:
    if dialect == "bedrock":
        return bool(part["kind"].get(":message-type") == "exception")
    return bool(part.get("type") == "error" or part.get("error"))


@pytest.mark.parametrize("after", ["events", "bytes"])
@pytest.mark.parametrize("dialect", list(DIALECTS))
async def test_every_stream_that_breaks_off_ends_in_its_dialects_error(
    tmp_path: Path, dialect: str, after: str
) -> None:
    path, body = DIALECTS[dialect]
    kind = dialect.partition(" ")[0]
    async with MockProvider(tls=False) as mock:
        where = {"kind": kind, "hosts": ["p.internal"], "connect_to": mock.http_url}
        async with running(tmp_path, {"p": where}) as sidecar:
            peer = await client_of(sidecar)
            auth = b"authorization: Bearer k\r\nx-api-key: k\r\nx-goog-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
            mock.next(events=8)
            await peer.send(post(sidecar, body, path, JSON + auth))
            _, plain = await peer.answer()
            whole = _parts(dialect, plain.replace(b"data: [DONE]\n\n", b""))
            if after == "events":
                mock.next(events=8, cut_after=3, cut="reset", chunk_bytes=37)
            else:
                mock.next(events=8, cut_after_bytes=len(plain) // 2, cut="close", chunk_bytes=37)
            await peer.send(post(sidecar, body, path, JSON + auth))
            head, cut = await peer.answer()
            peer.close()
            parts = _parts(dialect, cut)
            assert head.startswith(b"HTTP/1.1 200")
            assert 1 < len(parts) <= len(whole)
            assert _is_error(dialect, parts[-1])
            assert not any(_is_error(dialect, part) for part in parts[:-1])
            assert total(sidecar, "outrider_events_total", event="stream_cut") == 1


@pytest.mark.parametrize("dialect", list(DIALECTS))
async def test_a_stream_that_only_its_connection_ends_is_whole_when_it_says_so(tmp_path: Path, dialect: str) -> None:
    path, body = DIALECTS[dialect]
    path = path.replace(b"gemini-2.5-flash", b"smart").replace(b"amazon.nova-lite-v1%3A0", b"smart")
    model = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash", "bedrock": "amazon.nova-lite-v1:0"}
    kind = dialect.partition(" ")[0]
    async with MockProvider(tls=False) as mock:
        where = {"kind": kind, "hosts": ["p.internal"], "connect_to": mock.http_url}
        models = {"smart": {"targets": [f"p/{model.get(kind, 'm')}"]}}
        async with running(tmp_path, {"p": where}, models=models, resilience=FAST) as sidecar:
            peer = await client_of(sidecar)
            auth = b"authorization: Bearer k\r\nx-api-key: k\r\nx-goog-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
            named = body.replace(b'"m"', b'"smart"').replace(b'"claude-sonnet-4-5"', b'"smart"')
            message = post(sidecar, named, path, JSON + auth)
            mock.next(events=8, framing="close", chunk_bytes=37)
            await peer.send(message)
            head, plain = await peer.answer()
            assert head.startswith(b"HTTP/1.1 200")
            whole = _parts(dialect, plain.replace(b"data: [DONE]\n\n", b""))
            assert not any(_is_error(dialect, part) for part in whole)
            (health,) = sidecar.snapshot.aliases.healths.all()
            assert health.breaker.failure_rate(time.monotonic_ns()) == 0
            mock.next(events=8, framing="close", cut_after=3, cut="close", chunk_bytes=37)
            await peer.send(message)
            head, cut = await peer.answer()
            peer.close()
            parts = _parts(dialect, cut)
            assert 1 < len(parts) < len(whole)
            assert _is_error(dialect, parts[-1])
            assert not any(_is_error(dialect, part) for part in parts[:-1])
            assert total(sidecar, "outrider_events_total", event="stream_cut") == 1
            await until(lambda: not sidecar.hub.exchanges, "it has ended")
            assert health.breaker.failure_rate(time.monotonic_ns()) > 0
