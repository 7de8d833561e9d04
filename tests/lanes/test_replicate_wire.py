"""Replicate as a target, over the wire: what it was asked, and what the app hears of what became of a prediction."""

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.test_unified_api import CHAT, HELLO, MESSAGES, USER, VERSION, Answer, Api, api
from outrider.mock.behaviour import Behaviour
from support.running import total

LLAMA = "replicate/meta/meta-llama-3-8b-instruct"
MODELS = {
    "llama": {"targets": [LLAMA]},
    "llama-or-claude": {"targets": [LLAMA, "anthropic/claude-sonnet-4-6"]},
}
BEGUN: dict[str, Any] = {"id": "p1", "model": "meta/meta-llama-3-8b-instruct", "output": None, "error": None}


async def ask(ride: Api, model: str = "llama", path: bytes = CHAT, **more: Any) -> Answer:
    return await ride.ask(path, {"model": model, "messages": USER, "max_tokens": 50} | more, VERSION)


def says(ride: Api, **prediction: Any) -> None:
    """Of the next prediction."""
    ride.mock.next(Behaviour(status=201, body=json.dumps(BEGUN | prediction).encode()), path="/predictions")


async def test_it_is_asked_for_a_prediction_of_the_model_and_waits(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, temperature=0.5)
        assert (answer.status, answer.json["object"]) == (200, "chat.completion")
        assert answer.json["choices"][0]["message"]["content"] == f"Echo: {HELLO}"
        assert answer.json["model"] == "meta/meta-llama-3-8b-instruct"
        assert answer.json["usage"]["total_tokens"] == 8
        sent = ride.last()
        assert sent.target == "/v1/models/meta/meta-llama-3-8b-instruct/predictions"
        assert (sent.header("host"), sent.header("prefer")) == ("api.replicate.com", "wait=60")
        assert sent.header("cancel-after") == "1m"
        assert json.loads(sent.body) == {"input": {"prompt": HELLO, "max_tokens": 50, "temperature": 0.5}}
        counted = {"provider": "replicate", "model": "meta/meta-llama-3-8b-instruct"}
        assert total(ride.sidecar, "outrider_requests_total", status="200", **counted) == 1
        assert total(ride.sidecar, "outrider_tokens_total", type="output", **counted) == 4
        assert total(ride.sidecar, "outrider_events_total", event="usage_estimated") == 0


async def test_a_stream_is_the_whole_answer_in_its_pieces(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, stream=True, stream_options={"include_usage": True})
        assert (answer.header("content-type") or "").startswith("text/event-stream")
        pieces = [one["choices"][0]["delta"].get("content") for one in answer.events if one["choices"]]
        assert [piece for piece in pieces if piece] == ["Echo:", " hello", " big", " world"]
        assert answer.events[-1]["usage"]["total_tokens"] == 8
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert "stream" not in json.loads(ride.last().body)
        assert total(ride.sidecar, "outrider_tokens_total", provider="replicate", type="input") == 4


async def test_connections_are_kept_and_the_next_call_is_not_confused(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        for _ in range(3):
            assert (await ask(ride)).status == 200
            says(ride, status="failed", error="out of memory")
            assert (await ask(ride, stream=True)).status == 200  # the second try
        assert ride.mock.connections_total == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prediction", "status", "message"),
    [
        ({"status": "starting"}, 504, "The prediction was not done within 60 s (it is starting)."),
        ({"status": "processing"}, 504, "The prediction was not done within 60 s (it is processing)."),
        ({"status": "canceled"}, 504, "The prediction was not done within 60 s (it is canceled)."),
        ({"status": "failed", "error": "E005: the input was flagged"}, 502, "E005: the input was flagged"),
    ],
)
async def test_one_that_did_not_succeed_is_an_error_in_the_apps_dialect(
    tmp_path: Path, prediction: dict[str, Any], status: int, message: str, stream: bool
) -> None:
    async with api(tmp_path, models=MODELS, resilience={"retry": {"attempts": 1}}) as ride:
        for path in (CHAT, MESSAGES):
            says(ride, **prediction)
            answer = await ask(ride, path=path, stream=stream)
            assert (answer.status, answer.message) == (status, message)
            assert answer.header("content-type") == "application/json"
            assert (answer.json.get("type") == "error") == (path == MESSAGES)
        assert total(ride.sidecar, "outrider_requests_total", provider="replicate", status=str(status)) == 2


async def test_one_that_did_not_succeed_is_made_good_by_another_target(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        for prediction in ({"status": "failed", "error": "x"}, {"status": "starting"}):
            says(ride, **prediction)
            for stream in (False, True):
                answer = await ask(ride, "llama-or-claude", stream=stream)
                assert answer.status == 200
                assert b"Echo:" in answer.body
        assert ride.served() == ["replicate", "anthropic", "replicate", "replicate", "anthropic", "replicate"]


async def test_an_output_that_is_there_counts_before_the_prediction_is_called_done(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        says(ride, status="processing", output=["Fuzzy", ", gentle", ""])
        answer = await ask(ride)
        assert answer.json["choices"][0]["message"]["content"] == "Fuzzy, gentle"
        assert total(ride.sidecar, "outrider_tokens_total", provider="replicate", type="output") > 0  # estimated


@pytest.mark.parametrize("body", [b"<html>nope</html>", b"[]", b'{"status":"succeeded","output":[{"url":"x"}]}'])
async def test_what_cannot_be_read_is_withheld(tmp_path: Path, body: bytes) -> None:
    async with api(tmp_path, models=MODELS, resilience={"retry": {"attempts": 1}}) as ride:
        ride.mock.next(status=201, body=body)
        answer = await ask(ride)
        assert (answer.status, answer.header("x-outrider-error")) == (502, "upstream_broken")
        assert "cannot be translated" in answer.message


async def test_one_that_is_too_large_is_given_up(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS, resilience={"retry": {"attempts": 1}}) as ride:
        says(ride, status="succeeded", output=["x" * (5 << 20)])
        answer = await ask(ride)
        assert (answer.status, answer.header("x-outrider-error")) == (502, "upstream_broken")
        assert "too large to be translated" in answer.message
        assert (await ask(ride)).status == 200


async def test_its_refusals_are_told_in_the_apps_dialect(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS, resilience={"retry": {"attempts": 1}}) as ride:
        for status in (422, 429, 401):
            ride.mock.fail(status, path="/predictions")
            answer = await ask(ride, path=MESSAGES)
            assert (answer.status, answer.json["type"]) == (status, "error")


async def test_what_it_cannot_do_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS) as ride:
        answer = await ask(ride, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
        assert (answer.status, answer.header("x-outrider-error")) == (400, "cannot_translate")
        assert ride.served() == []


async def test_a_cached_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    async with api(tmp_path, models=MODELS, cache={"mode": "exact"}) as ride:
        for stream in (False, True):
            first = await ask(ride, temperature=0, stream=stream)
            again = await ask(ride, temperature=0, stream=stream)
            assert (first.header("x-outrider-cache"), again.header("x-outrider-cache")) == ("miss", "hit")
            assert again.body == first.body
        assert ride.served() == ["replicate", "replicate"]


async def test_an_app_that_speaks_its_api_is_served_by_another_provider(tmp_path: Path) -> None:
    async with api(tmp_path, models={"meta/any": {"targets": ["anthropic/claude-sonnet-4-6"]}}) as ride:
        asked = {"input": {"prompt": HELLO, "max_tokens": 50}}
        answer = await ride.ask(b"/replicate/v1/models/meta/any/predictions", asked, b"prefer: wait\r\n")
        assert (answer.status, answer.json["status"]) == (200, "succeeded")
        assert "".join(answer.json["output"]) == f"Echo: {HELLO}"
        ride.mock.fail(429)
        ride.mock.fail(429)
        answer = await ride.ask(b"/replicate/v1/models/meta/any/predictions", asked)
        assert answer.status == 429
        assert answer.json["detail"]
        assert set(ride.served()) == {"anthropic"}


async def test_its_own_api_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        asked = {"input": {"prompt": HELLO}}
        path = b"/replicate/v1/models/meta/meta-llama-3-8b-instruct/predictions"
        answer = await ride.ask(path, asked)
        assert (answer.status, answer.json["status"]) == (201, "starting")
        assert json.loads(ride.last().body) == asked
