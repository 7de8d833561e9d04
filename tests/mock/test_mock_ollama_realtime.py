"""Ollama's NDJSON and OpenAI's realtime WebSocket, read by plain clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSServerHandshakeError

from outrider.mock import MockProvider


@pytest.fixture
async def mock() -> AsyncIterator[MockProvider]:
    async with MockProvider(keys={"openai": "sk-right"}, tls=False) as provider:
        yield provider


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_ollama_streams_unless_told_not_to(mock: MockProvider, http: aiohttp.ClientSession) -> None:
    body: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "a b"}]}
    async with http.post(f"{mock.http_url}/api/chat", json=body) as answer:
        assert answer.content_type == "application/x-ndjson"
        lines = [json.loads(line) async for line in answer.content]
    async with http.post(f"{mock.http_url}/api/chat", json=body | {"stream": False}) as answer:
        plain = await answer.json()
    assert "".join(line["message"]["content"] for line in lines) == plain["message"]["content"] == "Echo: a b"
    assert [line["done"] for line in lines] == [False, False, False, True]
    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (3, 3)


async def test_ollama_generates_lists_and_calls_tools(mock: MockProvider, http: aiohttp.ClientSession) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}}}
    message = {"role": "user", "content": "go"}
    body = {"model": "llama3", "messages": [message], "tools": [tool], "stream": False}
    async with http.post(f"{mock.http_url}/api/chat", json=body) as answer:
        called = (await answer.json())["message"]["tool_calls"][0]["function"]
    async with http.post(
        f"{mock.http_url}/api/generate", json={"model": "m", "prompt": "x", "stream": False}
    ) as answer:
        made = (await answer.json())["response"]
    async with http.get(f"{mock.http_url}/api/tags") as answer:
        tags = [model["name"] for model in (await answer.json())["models"]]
    assert (called, made) == ({"name": "f", "arguments": {"n": 1}}, "Echo: x")
    assert "llama3.2:latest" in tags


@pytest.mark.parametrize("carried", ["bearer", "subprotocol"])
async def test_realtime_echoes_and_says_its_usage(
    mock: MockProvider, http: aiohttp.ClientSession, carried: str
) -> None:
    subprotocol = carried == "subprotocol"
    url = f"{mock.http_url}/v1/realtime?model=gpt-realtime"
    headers = {} if subprotocol else {"authorization": "Bearer sk-right"}
    protocols = ["realtime", *["openai-insecure-api-key.sk-right"] * subprotocol]
    async with http.ws_connect(url, headers=headers, protocols=protocols) as socket:
        assert (await socket.receive_json())["type"] == "session.created"
        content = [{"type": "input_text", "text": "hello you"}]
        item = {"type": "message", "role": "user", "content": content}
        await socket.send_json({"type": "conversation.item.create", "item": item})
        await socket.send_json({"type": "response.create"})
        events = [await socket.receive_json() for _ in range(7)]
    assert [event["type"] for event in events] == [
        "conversation.item.created",
        "response.created",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.done",
    ]
    assert events[-1]["response"]["usage"] == {"total_tokens": 6, "input_tokens": 3, "output_tokens": 3}
    await mock.until(lambda: mock.journal[0].completed)
    assert (mock.journal[0].status, len(mock.journal[0].messages)) == (101, 2)


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/v1/realtime?model=m", "wrong", 401), ("/v1/realtime", "sk-right", 400), ("/v1/nothing", "sk-right", 404)],
)
async def test_realtime_refuses_before_the_upgrade(
    mock: MockProvider, http: aiohttp.ClientSession, path: str, key: str, status: int
) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await http.ws_connect(mock.http_url + path, headers={"authorization": f"Bearer {key}"})
    assert refused.value.status == status


async def test_realtime_answers_nonsense_with_an_error_event(mock: MockProvider, http: aiohttp.ClientSession) -> None:
    url = f"{mock.http_url}/v1/realtime?model=m"
    async with http.ws_connect(url, headers={"authorization": "Bearer sk-right"}) as socket:
        await socket.receive_json()
        await socket.send_str("nonsense")
        assert (await socket.receive_json())["error"]["code"] == "invalid_json"
        await socket.send_json({"type": "dance"})
        assert (await socket.receive_json())["error"]["code"] == "invalid_value"


async def test_closing_the_mock_ends_open_sockets(http: aiohttp.ClientSession) -> None:
    mock = MockProvider(tls=False)
    await mock.start()
    async with http.ws_connect(f"{mock.http_url}/v1/realtime?model=m", headers={"authorization": "Bearer k"}) as socket:
        await socket.receive_json()
        await mock.close()
        async with asyncio.timeout(90):
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
