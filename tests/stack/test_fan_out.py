"""Embeddings of more inputs than the target takes a call: what is asked, what the app gets, what a failure spoils."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from e2e.test_unified_api import EMBEDDINGS, Answer, Api, api
from outrider.mock.behaviour import Behaviour
from outrider.mock.words import vector
from outrider.stack.fan_out import AT_ONCE, MOST_PARTS, PART_BYTES, joined
from support.running import client_of, get, total, until

TITAN = "amazon.titan-embed-text-v2:0"
MODELS = {
    "titan": {"targets": [f"bedrock/{TITAN}"]},
    "titan-or-openai": {"targets": [f"bedrock/{TITAN}", "openai/text-embedding-3-small"]},
    "cohere": {"targets": ["cohere/embed-v4.0"]},
}
ONE_TRY = {"resilience": {"retry": {"attempts": 1}}}


async def ask(ride: Api, texts: list[str], model: str = "titan") -> Answer:
    return await ride.ask(EMBEDDINGS, {"model": model, "input": texts})


def counted(ride: Api, status: str, provider: str = "bedrock") -> float:
    return total(ride.sidecar, "outrider_requests_total", provider=provider, status=status)


async def test_each_input_is_asked_for_and_the_vectors_come_in_order(tmp_path: Path) -> None:
    texts = [f"text {number} of {'many ' * number}" for number in range(9)]
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, texts)
        assert answer.status == 200, answer.body
        assert [row["embedding"] for row in answer.json["data"]] == [vector(text, 8) for text in texts]
        assert [row["index"] for row in answer.json["data"]] == list(range(9))
        words = sum(len(text.split()) for text in texts)
        assert answer.json["usage"] == {"prompt_tokens": words, "total_tokens": words}
        asked = sorted(json.loads(entry.body)["inputText"] for entry in ride.mock.journal)
        assert asked == sorted(texts)
        assert {entry.target for entry in ride.mock.journal} == {f"/model/{TITAN.replace(':', '%3A')}/invoke"}
        assert ride.mock.connections_total <= AT_ONCE
        # one exchange, and what all of them used
        assert counted(ride, "200") == total(ride.sidecar, "outrider_requests_total") == 1
        assert total(ride.sidecar, "outrider_tokens_total", provider="bedrock", type="input") == words
        assert total(ride.sidecar, "outrider_events_total", event="usage_estimated") == 0


async def test_a_few_are_under_way_at_a_time(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        ride.mock.next(Behaviour(stall="head"), times=AT_ONCE)
        task = asyncio.create_task(ask(ride, [f"text {number}" for number in range(7)]))
        await ride.mock.until(lambda: ride.mock.stalled == AT_ONCE)
        assert len(ride.mock.journal) == AT_ONCE
        ride.mock.release()
        assert (await task).status == 200
        assert len(ride.mock.journal) == 7


async def test_calls_with_several_inputs_each_are_joined_too(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(200)]
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, texts, "cohere")
        assert [row["embedding"] for row in answer.json["data"]] == [vector(text, 8) for text in texts]
        assert sorted(len(json.loads(entry.body)["texts"]) for entry in ride.mock.journal) == [8, 96, 96]
        assert answer.json["usage"]["prompt_tokens"] == 400


async def test_there_is_a_most_of_them(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, ["x"] * (MOST_PARTS + 1))
        assert (answer.status, answer.header("x-outrider-error")) == (400, "cannot_translate")
        assert f"would be {MOST_PARTS + 1} calls, and {MOST_PARTS} are made of one" in answer.message
        assert (await ask(ride, [])).status == 400
        assert ride.served() == []
        assert (await ask(ride, ["x"] * MOST_PARTS)).status == 200
        assert len(ride.served()) == MOST_PARTS


@pytest.mark.parametrize("place", [0, 3, 8])
async def test_one_that_fails_fails_the_whole_with_its_error(tmp_path: Path, place: int) -> None:
    async with api(tmp_path, models=MODELS, **ONE_TRY) as ride:
        if place:
            ride.mock.next(Behaviour(), times=place)
        ride.mock.fail(429, headers={"Retry-After": "7"})
        answer = await ask(ride, [f"text {number}" for number in range(9)])
        assert (answer.status, answer.header("retry-after")) == (429, "7")
        assert answer.json["error"]["type"] == "rate_limit_error"
        assert counted(ride, "429") == total(ride.sidecar, "outrider_requests_total") == 1
        charged = total(ride.sidecar, "outrider_tokens_total", provider="bedrock", type="input")
        assert charged >= 2 * max(place - AT_ONCE, 0)  # what the ones before it used
        assert charged <= 2 * 8


async def test_what_failed_is_made_good_by_another_target(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        ride.mock.next(Behaviour(), times=2)
        ride.mock.fail(503)
        answer = await ask(ride, ["a", "b", "c", "d e"], "titan-or-openai")
        assert (answer.status, len(answer.json["data"])) == (200, 4)
        assert ride.last().provider == "openai"
        assert total(ride.sidecar, "outrider_tokens_total", provider="openai", type="input") == 5


@pytest.mark.parametrize("cut", ["head", "body"])
async def test_one_that_is_cut_fails_the_whole(tmp_path: Path, cut: str) -> None:
    async with api(tmp_path, models=MODELS, **ONE_TRY) as ride:
        ride.mock.next(Behaviour(), times=1)
        ride.mock.next(Behaviour(cut="abort", cut_after_bytes=0 if cut == "head" else 20))
        answer = await ask(ride, ["a", "b", "c"])
        assert (answer.status, answer.header("x-outrider-error")) == (502, "upstream_broken")
        assert counted(ride, "502") == 1
        assert (await ask(ride, ["a", "b", "c"])).status == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "cannot be translated"),
        (b"[]", "cannot be translated"),
        (b'{"no":"vector"}', "cannot be translated"),
        (b'{"embedding":[%s1]}' % (b"1," * PART_BYTES), "too large"),
    ],
)
async def test_an_answer_that_cannot_be_read_fails_the_whole(tmp_path: Path, body: bytes, says: str) -> None:
    async with api(tmp_path, models=MODELS, **ONE_TRY) as ride:
        ride.mock.next(Behaviour(), times=1)
        ride.mock.next(Behaviour(body=body))
        answer = await ask(ride, ["a", "b", "c"])
        assert (answer.status, answer.header("x-outrider-error")) == (502, "upstream_broken")
        assert says in answer.message


async def test_an_app_that_leaves_ends_all_of_them(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        ride.mock.next(Behaviour(stall="head"), times=AT_ONCE)
        peer = await client_of(ride.sidecar)
        body = json.dumps({"model": "titan", "input": [f"text {number}" for number in range(9)]}).encode()
        lines = ride.shown + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        await peer.send(get(ride.sidecar, EMBEDDINGS, lines, b"POST") + body)
        await ride.mock.until(lambda: ride.mock.stalled == AT_ONCE)
        peer.close()
        await until(lambda: ride.sidecar.hub.exchanges == 0, "all of them have ended")
        assert len(ride.mock.journal) == AT_ONCE
        assert not any(entry.completed for entry in ride.mock.journal)


async def test_one_that_takes_too_long_ends_all_of_them(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"resilience": {"retry": {"attempts": 1}, "timeouts": {"first_byte_s": 0.2}}}
    async with api(tmp_path, models=MODELS, **settings) as ride:
        ride.mock.next(Behaviour(), times=2)
        ride.mock.next(Behaviour(stall="head"))
        answer = await ask(ride, ["a", "b", "c", "d"])
        assert (answer.status, answer.header("x-outrider-error")) == (504, "upstream_timeout")
        await until(lambda: ride.sidecar.hub.exchanges == 0, "all of them have ended")


async def test_the_whole_is_one_line_of_the_audit_log_and_one_charge(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    limits = [{"name": "words", "key": ["provider"], "tokens": "100/h"}]
    async with api(tmp_path, models=MODELS, limits=limits, telemetry={"audit": {"path": str(log)}}) as ride:
        assert (await ask(ride, ["one two", "three", "four five six"])).status == 200
        refused = await ask(ride, ["word " * 60, "word " * 60])
        assert (refused.status, refused.header("x-outrider-error")) == (429, "rate_limited")
        assert len(ride.mock.journal) == 3
    (file,) = tmp_path.glob("audit-0*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("status") == 200]
    assert line["tokens"]["input"] == 6
    assert line["provider"] == "bedrock"


def test_answers_are_joined_as_they_came() -> None:
    assert json.loads(joined([b'{"a":1}', b" [2] "])) == {"parts": [{"a": 1}, [2]]}
