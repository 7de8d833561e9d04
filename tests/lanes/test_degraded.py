"""The configured answer that stands in when nobody answers, over the wire, as each dialect's official SDK reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from support import sdk_judges, wire_judges
from support.running import client_of, post, running, total

TEXT = "Später, bitte."
ANSWERS = sdk_judges.ANSWERS | wire_judges.ANSWERS
STREAMS = sdk_judges.STREAMS | wire_judges.STREAMS
TURNS = [{"role": "user", "content": "Hi"}]
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": TURNS}
AUTH = (
    b"content-type: application/json\r\nauthorization: Bearer k\r\nx-api-key: k\r\nx-goog-api-key: k\r\n"
    b"anthropic-version: 2023-06-01\r\n"
)

# (provider's kind, dialect, streamed, path, body); "m" is the alias
CALLS: list[tuple[str, str, bool, str, dict[str, Any]]] = [
    ("openai", "openai.chat", False, "/v1/chat/completions", {"model": "m", "messages": TURNS}),
    ("openai", "openai.chat", True, "/v1/chat/completions", {"model": "m", "messages": TURNS, "stream": True}),
    ("openai", "openai.responses", False, "/v1/responses", {"model": "m", "input": "Hi"}),
    ("openai", "openai.responses", True, "/v1/responses", {"model": "m", "input": "Hi", "stream": True}),
    ("openai", "openai.completions", False, "/v1/completions", {"model": "m", "prompt": "Hi"}),
    ("openai", "openai.completions", True, "/v1/completions", {"model": "m", "prompt": "Hi", "stream": True}),
    ("anthropic", "anthropic.messages", False, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": TURNS}),
    (
        "anthropic",
        "anthropic.messages",
        True,
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": TURNS, "stream": True},
    ),
    ("gemini", "gemini.generate", False, "/v1beta/models/m:generateContent", GEMINI),
    ("gemini", "gemini.generate", True, "/v1beta/models/m:streamGenerateContent?alt=sse", GEMINI),
    ("gemini", "gemini array", True, "/v1beta/models/m:streamGenerateContent", GEMINI),
    ("bedrock", "bedrock.converse", False, "/model/m/converse", CONVERSE),
    ("bedrock", "bedrock.converse", True, "/model/m/converse-stream", CONVERSE),
    ("bedrock", "bedrock.invoke", False, "/model/m/invoke", INVOKE),
    ("bedrock", "bedrock.invoke", True, "/model/m/invoke-with-response-stream", INVOKE),
    ("ollama", "ollama.chat", False, "/api/chat", {"model": "m", "messages": TURNS, "stream": False}),
    ("ollama", "ollama.chat", True, "/api/chat", {"model": "m", "messages": TURNS}),
    ("ollama", "ollama.generate", False, "/api/generate", {"model": "m", "prompt": "Hi", "stream": False}),
    ("ollama", "ollama.generate", True, "/api/generate", {"model": "m", "prompt": "Hi"}),
    ("cohere", "cohere.chat", False, "/v2/chat", {"model": "m", "messages": TURNS}),
    ("cohere", "cohere.chat", True, "/v2/chat", {"model": "m", "messages": TURNS, "stream": True}),
]


@pytest.mark.parametrize(
    ("kind", "dialect", "streamed", "path", "body"), CALLS, ids=[f"{row[1]}{'-stream' * row[2]}" for row in CALLS]
)
async def test_each_dialects_own_sdk_reads_it(
    tmp_path: Path, kind: str, dialect: str, streamed: bool, path: str, body: dict[str, Any]
) -> None:
    async with MockProvider(tls=False) as mock:
        mock.fail(500, times=100)
        where = {"kind": kind, "hosts": ["p.internal"], "connect_to": mock.http_url}
        models = {"m": {"targets": ["p/anthropic.claude-sonnet-4-5"], "static_answer": {"text": TEXT}}}
        fast = {"retry": {"base_ms": 1, "max_ms": 2}}
        async with running(tmp_path, {"p": where}, models=models, resilience=fast) as sidecar:
            peer = await client_of(sidecar)
            await peer.send(post(sidecar, json.dumps(body).encode(), b"/p" + path.encode(), AUTH))
            head, told = await peer.answer()
            peer.close()
            assert head.startswith(b"HTTP/1.1 200")
            assert b"x-outrider-degraded: static" in head
            assert total(sidecar, "outrider_events_total", event="static_answer") == 1
        if dialect == "gemini array":
            events = json.loads(told)
            assert b"content-type: application/json" in head
            text = "".join(part["text"] for event in events for part in event["candidates"][0]["content"]["parts"])
            assert text == TEXT
            return
        if dialect == "ollama.generate":
            from ollama import GenerateResponse

            lines = [GenerateResponse.model_validate_json(line) for line in told.splitlines()]
            assert "".join(line.response for line in lines) == TEXT
            assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
            return
        reading = (STREAMS if streamed else ANSWERS)[dialect](told)
        assert reading.text == TEXT
        assert reading.calls == []
        assert reading.finish in ("stop", None)
        assert reading.tokens in ((0, 0), None)


async def test_what_is_no_text_and_what_cannot_be_read_gets_the_error(tmp_path: Path) -> None:
    async with MockProvider(tls=False) as mock:
        mock.fail(500, times=100)
        where = {"kind": "openai", "hosts": ["p.internal"], "connect_to": mock.http_url}
        models = {"m": {"targets": ["p/gone"], "static_answer": {"text": TEXT}}}
        async with running(tmp_path, {"p": where}, models=models) as sidecar:
            peer = await client_of(sidecar)
            for path, body in (
                (b"/p/v1/embeddings", b'{"model":"m","input":"Hi"}'),
                (b"/p/v1/chat/completions", b'{"model":"m","messages":7}'),
            ):
                await peer.send(post(sidecar, body, path, AUTH))
                head, _ = await peer.answer()
                assert head.startswith(b"HTTP/1.1 500")
                assert b"x-outrider-degraded" not in head
            peer.close()
