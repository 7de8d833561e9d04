"""Embedding calls that are sent as one: who gets what, what each is charged, and what a failure spoils."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.mock import MockProvider
from outrider.stack.batch import read, shares, split
from support.remembering import App, World, answer, remembering
from support.running import client_of, local, running, total, until
from support.wire import Peer

PATH = b"/local/v1/embeddings"
BATCH = {"batch": {"wait_ms": 20}}


def embed(given: Any, **more: Any) -> bytes:
    return json.dumps({"model": "e", "input": given, **more}).encode()


def vectors(count: int, tokens: int = 100, *, start: int = 0, order: bool = True) -> dict[str, Any]:
    data = [{"object": "embedding", "index": at, "embedding": [start + at, 0.25]} for at in range(count)]
    return {
        "object": "list", "model": "e", "data": data if order else data[::-1],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip


async def ask_together(world: World, bodies: list[bytes], lines: list[bytes] | None = None) -> list[App]:
    apps = []
    for at, body in enumerate(bodies):
        app = await world.app()
        await app.send(body, lines[at] if lines else b"", PATH)
        apps.append(app)
    return apps


async def request_of(world: World) -> tuple[Peer, dict[str, Any]]:
    """The provider's side of the next call, and its body."""
    peer = await world._next_peer()
    head = await peer.head()
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    world.calls += 1
    return peer, json.loads(await peer.exactly(size))


def first_of(app: App) -> list[float]:
    return [one["embedding"][0] for one in json.loads(app.body)["data"]]


async def test_calls_that_come_together_are_one_and_each_gets_its_own_in_order(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"mode": "off"}, **BATCH) as world:
        apps = await ask_together(world, [embed("a"), embed(["b", "c"]), embed("d" * 400)])
        peer, body = await request_of(world)
        assert body == {"model": "e", "input": ["a", "b", "c", "d" * 400]}
        await peer.send(answer(vectors(4, 110, order=False)))
        for app in apps:
            await app.answer()
        assert [first_of(app) for app in apps] == [[0], [1, 2], [3]]
        assert [[one["index"] for one in json.loads(app.body)["data"]] for app in apps] == [[0], [0, 1], [0]]
        used = [json.loads(app.body)["usage"]["prompt_tokens"] for app in apps]
        assert (sum(used), used[2] > used[1] > used[0]) == (110, True)
        assert total(world.sidecar, "outrider_tokens_total", type="input") == 110
        assert world.calls == 1


async def test_a_call_that_stays_alone_goes_as_it_came(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"mode": "off"}, **BATCH) as world:
        body = b'{ "input" : "alone",  "model":"e" }'
        (app,) = await ask_together(world, [body])
        peer = await world._next_peer()
        await peer.until(b"\r\n\r\n" + body)
        await peer.send(answer(vectors(1)))
        await app.answer()
        assert first_of(app) == [0]


async def test_what_differs_in_more_than_its_inputs_does_not_join(tmp_path: Path) -> None:
    bodies = [
        embed("a"), embed("a", dimensions=8), embed("a", model="other"), embed([1, 2]), embed("a", user="u"),
        embed("a"), embed("a"),
    ]  # fmt: skip
    lines = [b""] * 5 + [b"authorization: Bearer sk-2\r\n", b"openai-organization: o\r\n"]
    async with remembering(tmp_path, {"mode": "off"}, **BATCH) as world:
        apps = await ask_together(world, bodies, lines)
        for _ in bodies:
            peer, _ = await request_of(world)
            await peer.send(answer(vectors(1)))
            peer.close()
        for app in apps:
            await app.answer()
        assert world.calls == len(bodies)


async def test_they_are_sent_as_the_rules_want_each(tmp_path: Path) -> None:
    rules = [
        {
            "id": team, "description": "d", "when": f"request.bytes {size} 100",
            "then": {"rewrite": {"headers": {"set": {"x-team": team}, "remove": ["openai-organization"]}}},
        }
        for team, size in (("blue", "<"), ("red", ">="))
    ]  # fmt: skip
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"version": 1, "rules": rules}))
    async with remembering(tmp_path, {"mode": "off"}, **BATCH, policies=[str(path)]) as world:
        bodies = [embed("a"), embed("b"), embed("c" * 200), embed("d" * 200)]
        apps = await ask_together(world, bodies, [b"openai-organization: org-1\r\n"] * 4)
        for team in (b"blue", b"red"):
            peer = await world.called()
            assert b"x-team: %b\r\n" % team in world.asked_head
            assert b"org-1" not in world.asked_head
            assert len(json.loads(world.asked_body)["input"]) == 2
            await peer.send(answer(vectors(2)))
            peer.close()
        for app in apps:
            await app.answer()


BAD: list[bytes] = [
    answer({"error": {"message": "no"}}, 400),
    answer({"error": {"message": "slow down"}}, 429),
    answer(vectors(1)),
    answer({**vectors(2), "data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}),
    answer({**vectors(2), "data": [{"index": 0, "embedding": [1]}, {"index": 7, "embedding": [2]}]}),
    answer({"data": None}),
    answer(b"<html>"),
    b"",
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
async def test_when_it_fails_each_is_made_alone(tmp_path: Path, bad: bytes) -> None:
    async with remembering(tmp_path, {"mode": "off"}, **BATCH) as world:
        apps = await ask_together(world, [embed("a"), embed("b")])
        peer, _ = await request_of(world)
        if bad:
            await peer.send(bad)
        peer.close()
        for _ in apps:
            peer, body = await request_of(world)
            await peer.send(answer(vectors(1, 7, start=ord(body["input"]))))
            peer.close()
        for app, letter in zip(apps, "ab", strict=True):
            await app.answer()
            assert first_of(app) == [ord(letter)]
        assert total(world.sidecar, "outrider_tokens_total", type="input") == 14


async def test_one_that_leaves_leaves_alone_and_when_all_have_left_the_call_is_cancelled(tmp_path: Path) -> None:
    async with remembering(tmp_path, {"mode": "off"}, **BATCH) as world:
        gone, stays, waits = await ask_together(world, [embed("a"), embed("b"), embed("c")])
        peer, _ = await request_of(world)
        gone.peer.reset()
        await until(lambda: len(world.sidecar.hub.clients) == 2, "it has left")
        await peer.send(answer(vectors(3)))
        for app, at in ((stays, 1), (waits, 2)):
            await app.answer()
            assert first_of(app) == [at]
        apps = await ask_together(world, [embed("a"), embed("b")])
        again = await request_of(world) if peer.sock.fileno() < 0 else (peer, await peer.until(b'"b"]}'))
        for app in apps:
            app.peer.reset()
        while await again[0].more():
            pass
        await until(lambda: world.sidecar.hub.exchanges == 0, "nothing is left of it")


async def test_each_is_charged_its_own_share_and_counts_for_limits(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "limits": [{"name": "r", "requests": "2/h"}],
        "budgets": [{"name": "b", "key": ["provider"], "tokens": "100000/day"}],
    }
    async with remembering(tmp_path, {"mode": "off"}, **sections, **BATCH) as world:
        apps = await ask_together(world, [embed("a"), embed("b" * 80)])
        peer, _ = await request_of(world)
        await peer.send(answer(vectors(2, 901)))
        for app in apps:
            await app.answer()
        assert total(world.sidecar, "outrider_budget_spent", budget="b") == 901
        third = await world.app()
        await third.ask(embed("c"), path=PATH)
        assert (third.status, third.field("x-outrider-decision")) == (429, "r")


async def test_what_was_batched_is_remembered_call_by_call(tmp_path: Path) -> None:
    async with remembering(tmp_path, **BATCH) as world:
        apps = await ask_together(world, [embed("a"), embed("b")])
        peer, _ = await request_of(world)
        await peer.send(answer(vectors(2)))
        for app in apps:
            await app.answer()
        for app, given in ((apps[0], "b"), (apps[1], "a")):
            await app.ask(embed(given), path=PATH)
            assert (app.said, first_of(app)) == ("hit", [ord(given) - ord("a")])
        assert world.calls == 1


async def test_many_tasks_get_what_they_would_have_got_alone(tmp_path: Path) -> None:
    texts = [f"text number {number}" for number in range(60)]
    lines = b"authorization: Bearer sk-any\r\n"
    async with MockProvider(tls=False) as mock:
        found = []
        for wait_ms in (0, 10):
            async with running(tmp_path, local(mock.http_url), batch={"wait_ms": wait_ms, "inputs": 16}) as sidecar:
                apps = [App(sidecar, await client_of(sidecar)) for _ in texts]
                bodies = [embed(text, model="text-embedding-3-small", dimensions=4) for text in texts]
                await asyncio.gather(*(app.send(body, lines, PATH) for app, body in zip(apps, bodies, strict=True)))
                found.append([json.loads(await app.answer())["data"] for app in apps])
                for app in apps:
                    app.peer.close()
        assert found[0] == found[1]
        assert len(mock.journal) < 60 + 20


# -- without sockets


@given(st.integers(0, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_shares_add_up_and_are_fair(whole: int, weights: list[int]) -> None:
    found = shares(whole, weights)
    assert sum(found) == whole
    assert all(
        abs(share - whole * weight / sum(weights)) < 1 + 1e-6 for share, weight in zip(found, weights, strict=True)
    )


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (b'{"input":"a","model":"m"}', ["a"]),
        (b'{"input":["a","b"]}', ["a", "b"]),
        (b'{"input":[1,2,3]}', [[1, 2, 3]]),
        (b'{"input":[[1],[2,3]]}', [[1], [2, 3]]),
        (b'{"input":[]}', None),
        (b'{"input":[1,"a"]}', None),
        (b'{"input":[true]}', None),
        (b'{"input":{"a":1}}', None),
        (b'{"input":null}', None),
        (b'{"model":"m"}', None),
        (b'{"input":"a","input":"b"}', None),
        (b'{"input":"a","user":{"x":1,"x":2}}', None),
        (b"[]", None),
        (b"no json", None),
    ],
)
def test_inputs_are_told_apart(body: bytes, inputs: list[Any] | None) -> None:
    found = read(body)
    assert (found[1] if found else None) == inputs


@given(st.binary(max_size=200))
def test_whatever_comes_is_split_or_refused(body: bytes) -> None:
    assert split(body, [["a"], ["b"]]) is None
    read(body)


def test_all_that_is_counted_is_divided_and_all_else_is_kept() -> None:
    told = {
        **vectors(3, 10),
        "id": "e1",
        "usage": {"prompt_tokens": 10, "total_tokens": 10, "details": {"x": 5}, "t": None},
    }
    one, two = split(json.dumps(told).encode(), [["aaaa"], ["bbbb", "cccc"]]) or [b"", b""]
    first, second = json.loads(one), json.loads(two)
    assert first["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "details": {"x": 2}, "t": None}
    assert second["usage"] == {"prompt_tokens": 7, "total_tokens": 7, "details": {"x": 3}, "t": None}
    assert (first["id"], first["object"], second["model"]) == ("e1", "list", "e")
