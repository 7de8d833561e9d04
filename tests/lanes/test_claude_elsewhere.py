"""Anthropic's API, served by Claude at Bedrock and Vertex: in the body that these take, betas and all."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.running import client_of, post, running

ACCESS, SECRET = "AKIAREALREALREALREAL", "REALawssecret/0123456789+abcdefghijklmnop"
KEYS = {"anthropic": "sk-ant-real", "bedrock": f"{ACCESS}:{SECRET}", "vertex": "ya29.real"}
ENVIRON = {
    "ANTHROPIC_KEY": "sk-ant-real", "VERTEX_KEY": "ya29.real",
    "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
}  # fmt: skip
BEDROCK = "anthropic.claude-sonnet-4-5-20250929-v1:0"
MODELS = {
    "to-bedrock": {"targets": [f"bedrock/{BEDROCK}"]},
    "to-vertex": {"targets": ["vertex/claude-sonnet-4-6"]},
    "to-nova": {"targets": ["bedrock/amazon.nova-pro-v1:0"]},
}
BETAS = "context-1m-2025-08-07, mcp-client-2025-04-04, advanced-tool-use-2025-11-20"
ASKED = {
    "max_tokens": 2048,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "messages": [{"role": "user", "content": "Hello big world"}],
}


@asynccontextmanager
async def ride(folder: Path) -> AsyncIterator[tuple[Sidecar, MockProvider]]:
    async with MockProvider(keys=KEYS, tls=False) as mock:
        reach = {"connect_to": mock.http_url}
        providers: dict[str, Any] = {
            "anthropic": {**reach, "credential": {"env": "ANTHROPIC_KEY"}},
            "bedrock": {**reach, "region": "us-east-1", "credential": {"env": "AWS_ACCESS_KEY_ID"}},
            "vertex": {**reach, "region": "us-east5", "project": "my-project", "credential": {"env": "VERTEX_KEY"}},
        }
        async with running(folder, providers, environ=ENVIRON, models=MODELS) as sidecar:
            yield sidecar, mock


async def ask(
    sidecar: Sidecar, model: str, path: bytes = b"/anthropic/v1/messages", **more: Any
) -> tuple[int, bytes, bytes]:
    peer = await client_of(sidecar)
    head = (
        "content-type: application/json\r\nanthropic-version: 2023-06-01\r\n"
        f"x-api-key: {sidecar.placeholder.value}\r\nanthropic-beta: {BETAS}\r\n"
    )
    await peer.send(post(sidecar, json.dumps({"model": model} | ASKED | more).encode(), path, head.encode()))
    answer_head, answer = await peer.answer()
    peer.close()
    return int(answer_head.split(b" ", 2)[1]), answer_head, answer


def said(answer: bytes, *, stream: bool) -> tuple[str, str, int]:
    """(text, stop reason, output tokens)."""
    if not stream:
        whole = json.loads(answer)
        text = "".join(block.get("text", "") for block in whole["content"])
        return text, whole["stop_reason"], whole["usage"]["output_tokens"]
    events = [json.loads(line[6:]) for line in answer.split(b"\n") if line.startswith(b"data: ")]
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "message_stop"
    text = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
    last = next(event for event in events if event["type"] == "message_delta")
    return text, last["delta"]["stop_reason"], last["usage"]["output_tokens"]


@pytest.mark.parametrize("path", [b"/anthropic/v1/messages", b"/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_claude_at_bedrock_is_asked_by_invoke_model(tmp_path: Path, stream: bool, path: bytes) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        status, head, answer = await ask(sidecar, "to-bedrock", path, stream=stream)
        assert status == 200, answer
        verb = "invoke-with-response-stream" if stream else "invoke"
        assert mock.journal[-1].target == f"/model/{BEDROCK.replace(':', '%3A')}/{verb}"
        body = json.loads(mock.journal[-1].body)
        assert body["anthropic_version"] == "bedrock-2023-05-31"
        assert body["anthropic_beta"] == ["context-1m-2025-08-07", "tool-search-tool-2025-10-19"]
        assert {key: body[key] for key in ASKED} == ASKED
        assert not {"model", "stream"} & set(body)
        assert mock.journal[-1].header("anthropic-beta") is None
        assert b"x-outrider-translated: betas left out: mcp-client-2025-04-04" in head
        assert said(answer, stream=stream)[:2] == ("Echo: Hello big world", "end_turn")


async def test_other_models_of_bedrock_are_asked_by_converse(tmp_path: Path) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        status, _, answer = await ask(sidecar, "to-nova")
        assert status == 200, answer
        assert mock.journal[-1].target == "/model/amazon.nova-pro-v1%3A0/converse"


@pytest.mark.parametrize("path", [b"/anthropic/v1/messages", b"/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_claude_at_vertex_is_asked_by_raw_predict(tmp_path: Path, stream: bool, path: bytes) -> None:
    async with ride(tmp_path) as (sidecar, mock):
        status, head, answer = await ask(sidecar, "to-vertex", path, stream=stream)
        assert status == 200, answer
        verb = "streamRawPredict" if stream else "rawPredict"
        located = "/v1/projects/my-project/locations/us-east5/publishers/anthropic/models"
        assert mock.journal[-1].target == f"{located}/claude-sonnet-4-6:{verb}"
        body = json.loads(mock.journal[-1].body)
        assert body.pop("anthropic_version") == "vertex-2023-10-16"
        assert body == ASKED | {"stream": stream}
        assert mock.journal[-1].header("authorization") == "Bearer ya29.real"
        assert mock.journal[-1].all("anthropic-beta") == ["context-1m-2025-08-07, tool-search-tool-2025-10-19"]
        assert b"x-outrider-translated: betas left out: mcp-client-2025-04-04\r\n" in head
        assert said(answer, stream=stream)[:2] == ("Echo: Hello big world", "end_turn")
