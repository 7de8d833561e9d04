"""A provider whose API does not begin at its host's root, by all the ways to it."""

import json
from pathlib import Path

import pytest

from outrider.mock import MockProvider
from support.running import KEY, client_of, post, running


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/pod/v2/abc/openai/v1/chat/completions", "gpt-4o"),
        (b"/v1/chat/completions", "pod/gpt-4o"),
        (b"/openai/v1/chat/completions", "ours"),
    ],
)
async def test_a_call_arrives_below_the_base_path_with_the_key_of_that_provider(
    tmp_path: Path, path: bytes, model: str
) -> None:
    async with MockProvider(tls=False) as mock:
        reach = {"connect_to": mock.http_url, "credential": {"env": "OPENAI_API_KEY"}}
        providers = {"openai": reach, "pod": {**reach, "kind": "openai", "base_path": "/v2/abc/openai"}}
        async with running(tmp_path, providers, models={"ours": {"targets": ["pod/gpt-4o"]}}) as sidecar:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
            shown = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
            peer = await client_of(sidecar)
            await peer.send(post(sidecar, body, path, shown + b"content-type: application/json\r\n"))
            await peer.answer()
            peer.close()
        entry = mock.journal[-1]
        assert entry.target == "/v2/abc/openai/v1/chat/completions"
        assert entry.header("authorization") == f"Bearer {KEY}"
        assert json.loads(entry.body)["model"] == "gpt-4o"


async def test_a_model_that_stands_in_the_path_is_replaced_below_the_base_path(tmp_path: Path) -> None:
    async with MockProvider(tls=False) as mock:
        reach = {"connect_to": mock.http_url, "credential": {"env": "OPENAI_API_KEY"}}
        providers = {"pod": {**reach, "kind": "gemini", "base_path": "/v2/abc"}}
        models = {"ours": {"targets": ["pod/models/gemini-2.5-flash"]}}
        async with running(tmp_path, providers, models=models) as sidecar:
            body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]}).encode()
            shown = b"x-goog-api-key: " + sidecar.placeholder.value.encode() + b"\r\n"
            peer = await client_of(sidecar)
            path = b"/pod/v2/abc/v1beta/models/ours:streamGenerateContent?alt=sse"
            await peer.send(post(sidecar, body, path, shown + b"content-type: application/json\r\n"))
            await peer.answer()
            peer.close()
        assert mock.journal[-1].target == "/v2/abc/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
        assert mock.journal[-1].header("x-goog-api-key") == KEY


async def test_beside_the_base_path_no_key_of_ours_goes(tmp_path: Path) -> None:
    async with MockProvider(tls=False) as mock:
        reach = {"connect_to": mock.http_url, "credential": {"env": "OPENAI_API_KEY"}}
        providers = {"pod": {**reach, "kind": "openai", "base_path": "/v2/abc/openai", "hosts": ["api.pod.example"]}}
        async with running(tmp_path, providers) as sidecar:
            peer = await client_of(sidecar)
            await peer.send(post(sidecar, b"{}", b"/pod/v1/chat/completions", b"authorization: Bearer own\r\n"))
            await peer.answer()
            peer.close()
        assert mock.journal[-1].header("authorization") == "Bearer own"
