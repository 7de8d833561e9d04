"""Questions for tokens in one provider's words, answered by another provider or by the sidecar itself."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.running import client_of, post, running

NAMES = ("openai", "anthropic", "gemini", "cohere", "vertex")
MODELS = {
    "to-anthropic": {"targets": ["anthropic/claude-sonnet-4-6"]},
    "to-gemini": {"targets": ["gemini/gemini-2.5-pro"]},
    "to-vertex": {"targets": ["vertex/gemini-2.5-pro"]},
    "to-cohere": {"targets": ["cohere/command-a-03-2025"]},
}
HELLO = [{"role": "user", "content": "Hello big world"}]
QUESTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "anthropic": ("/anthropic/v1/messages/count_tokens", {"model": "{}", "messages": HELLO}, "input_tokens"),
    "unified": ("/v1/messages/count_tokens", {"model": "{}", "messages": HELLO}, "input_tokens"),
    "openai": ("/openai/v1/responses/input_tokens", {"model": "{}", "input": "Hello big world"}, "input_tokens"),
    "gemini": (
        "/gemini/v1beta/models/{}:countTokens", {"contents": [{"parts": [{"text": "Hello big world"}]}]}, "totalTokens"
    ),
}  # fmt: skip
ASKED = {
    "to-anthropic": "/v1/messages/count_tokens",
    "to-gemini": "/v1beta/models/gemini-2.5-pro:countTokens",
    "to-vertex": "/v1/projects/my-project/locations/us-east5/publishers/google/models/gemini-2.5-pro:countTokens",
}


@asynccontextmanager
async def ride(folder: Path) -> AsyncIterator[tuple[Sidecar, MockProvider]]:
    async with MockProvider(keys={name: f"key-{name}" for name in NAMES}, tls=False) as mock:
        providers: dict[str, Any] = {
            name: {"connect_to": mock.http_url, "credential": {"env": f"{name.upper()}_KEY"}} for name in NAMES
        }
        providers["vertex"] |= {"region": "us-east5", "project": "my-project"}
        environ = {f"{name.upper()}_KEY": f"key-{name}" for name in NAMES}
        async with running(folder, providers, environ=environ, models=MODELS) as sidecar:
            yield sidecar, mock


async def ask(sidecar: Sidecar, name: str, model: str) -> tuple[int, bytes, Any]:
    path, body, _ = QUESTIONS[name]
    peer = await client_of(sidecar)
    key = sidecar.placeholder.value
    head = f"content-type: application/json\r\nx-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n"
    head += f"authorization: Bearer {key}\r\n" if name == "openai" else ""
    head += f"x-goog-api-key: {key}\r\n" if name == "gemini" else ""
    sent = json.dumps(body).replace("{}", model, 1) if "{}" not in path else json.dumps(body)
    await peer.send(post(sidecar, sent.encode(), path.replace("{}", model).encode(), head.encode()))
    answer_head, answer = await peer.answer()
    peer.close()
    return int(answer_head.split(b" ", 2)[1]), answer_head, json.loads(answer)


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_target_is_asked_in_its_own_words(tmp_path: Path, name: str) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        for model, path in ASKED.items():
            status, head, answer = await ask(sidecar, name, model)
            assert status == 200, (model, answer)
            assert mock.journal[-1].target == path
            assert answer[QUESTIONS[name][2]] == 4
            assert b"x-outrider-translated" not in head
            if name == "openai":
                assert answer["object"] == "response.input_tokens"


@pytest.mark.parametrize("name", QUESTIONS)
async def test_for_a_target_without_such_a_question_it_is_estimated_and_said_so(tmp_path: Path, name: str) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        status, head, answer = await ask(sidecar, name, "to-cohere")
        assert status == 200, answer
        assert not mock.journal
        assert 2 <= answer[QUESTIONS[name][2]] <= 6
        assert b"x-outrider-translated: tokens estimated\r\n" in head


async def test_a_refused_question_is_refused_in_the_apps_words(tmp_path: Path) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        mock.fail(400)
        status, _, answer = await ask(sidecar, "anthropic", "to-gemini")
        assert (status, answer["type"], answer["error"]["type"]) == (400, "error", "invalid_request_error")


async def test_a_question_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        peer = await client_of(sidecar)
        head = f"content-type: application/json\r\nx-api-key: {sidecar.placeholder.value}\r\n".encode()
        for model in ("to-gemini", "to-cohere"):
            body = json.dumps({"model": model, "messages": 7}).encode()
            await peer.send(post(sidecar, body, b"/v1/messages/count_tokens", head))
            answer_head, _ = await peer.answer()
            assert b" 400 " in answer_head
        peer.close()
        assert not mock.journal
