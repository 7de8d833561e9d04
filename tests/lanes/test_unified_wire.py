"""One API over all providers, and calls that another API serves, on real sockets: judged at each provider's journal."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.running import client_of, get, post, running

KEYS = {"openai": "sk-key-of-openai", "anthropic": "sk-ant-key-of-anthropic", "gemini": "key-of-gemini"}
ENVIRON = {f"{name.upper()}_KEY": key for name, key in KEYS.items()}
SLOTS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
CHAT, MESSAGES, MODELS = b"/v1/chat/completions", b"/v1/messages", b"/v1/models"
MAIN = {"smart": {"targets": ["openai/gpt-4o", "anthropic/claude-sonnet-4-6", "gemini/gemini-2.5-flash"]}}
FAST = {"retry": {"base_ms": 1, "max_ms": 5}}
HELLO = [{"role": "user", "content": "Hello you"}]


class Ride:
    """ask(...) -> (status, fields of the head in lower case, body)."""

    def __init__(self, sidecar: Sidecar, mock: MockProvider) -> None:
        self.sidecar, self.mock = sidecar, mock

    async def send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        peer = await client_of(self.sidecar)
        await peer.send(request)
        head, body = await peer.answer()
        peer.close()
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in fields.items()}, body

    async def ask(self, path: bytes = CHAT, **fields: Any) -> tuple[int, dict[str, str], Any]:
        body = json.dumps({"messages": HELLO, "max_tokens": 50} | fields).encode()
        more = b"content-type: application/json\r\nauthorization: Bearer %b\r\n" % self.placeholder
        if path == MESSAGES:
            more += b"anthropic-version: 2023-06-01\r\n"
        status, head, answer = await self.send(post(self.sidecar, body, path, more))
        return status, head, json.loads(answer) if head.get("content-type") == "application/json" else answer

    async def read(self, path: bytes, more: bytes = b"", method: bytes = b"GET") -> tuple[int, dict[str, str], Any]:
        status, head, body = await self.send(get(self.sidecar, path, more, method))
        return status, head, json.loads(body)

    @property
    def placeholder(self) -> bytes:
        return self.sidecar.placeholder.value.encode()

    @property
    def served_by(self) -> list[str]:
        return [entry.provider for entry in self.mock.journal]


@asynccontextmanager
async def ride(folder: Path, **sections: Any) -> AsyncIterator[Ride]:
    async with MockProvider(keys=KEYS, tls=False, capture=True) as mock:
        providers = {name: {"connect_to": mock.http_url, "credential": {"env": f"{name.upper()}_KEY"}} for name in KEYS}
        settings = {"models": MAIN, "resilience": FAST} | sections
        async with running(folder, providers, environ=ENVIRON, **settings) as sidecar:
            yield Ride(sidecar, mock)


# -- whom a call is for


@pytest.mark.parametrize(
    ("model", "provider", "sent"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("anthropic/claude-sonnet-4-6", "anthropic", "claude-sonnet-4-6"),
        ("claude-sonnet-4-6", "anthropic", "claude-sonnet-4-6"),
        ("gemini-2.5-flash", "gemini", None),  # it stands in the path there
        ("smart", "openai", "gpt-4o"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_model_is_found_by_its_provider_its_own_name_or_ours(
    tmp_path: Path, path: bytes, model: str, provider: str, sent: str | None
) -> None:
    async with ride(tmp_path) as r:
        status, _, answer = await r.ask(path, model=model)
        text = answer["choices"][0]["message"]["content"] if path == CHAT else answer["content"][0]["text"]
        assert (status, text, r.served_by) == (200, "Echo: Hello you", [provider])
        entry = r.mock.journal[-1]
        assert json.loads(entry.body).get("model") == sent
        assert r.placeholder not in b"".join(map(bytes, (r.mock.captured or {}).values()))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("llama-of-nobody", "no provider here is known to serve 'llama-of-nobody'; write it as provider/model"),
        ("", "the body has to name a model"),
    ],
)
async def test_a_model_that_nobody_serves_is_said_and_nothing_leaves(tmp_path: Path, model: str, says: str) -> None:
    async with ride(tmp_path) as r:
        status, head, answer = await r.ask(model=model)
        assert (status, head["x-outrider-error"]) == ((404, "model_not_found") if model else (400, "bad_request"))
        assert says in answer["error"]["message"]
        assert r.served_by == []


async def test_without_the_placeholder_no_key_is_used(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        body = json.dumps({"model": "openai/gpt-4o", "messages": HELLO}).encode()
        status, head, _ = await r.send(post(r.sidecar, body, CHAT, b"authorization: Bearer sk-of-the-app\r\n"))
        assert (status, r.served_by) == (401, [])
        assert head["x-outrider-error"]


async def test_the_listing_names_aliases_first_and_speaks_the_callers_dialect(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        _, _, listed = await r.read(MODELS)
        assert listed["data"][0]["id"] == "smart"
        assert listed["data"][0]["targets"] == MAIN["smart"]["targets"]
        assert {"openai/gpt-4o", "gemini/gemini-2.5-flash"} <= {row["id"] for row in listed["data"]}
        _, _, one = await r.read(MODELS + b"/openai/gpt-4o")
        assert (one["id"], one["context_length"]) == ("openai/gpt-4o", 128_000)
        _, _, theirs = await r.read(MODELS, b"anthropic-version: 2023-06-01\r\n")
        assert theirs["first_id"] == "smart"
        status, head, _ = await r.read(MODELS + b"/no-such")
        assert (status, head["x-outrider-error"]) == (404, "model_not_found")
        status, _, said = await r.read(CHAT)
        assert (status, "takes POST and no other method" in said["error"]["message"]) == (400, True)
        assert r.served_by == []


# -- another API serves it


async def test_a_failed_call_goes_on_to_other_apis_each_with_its_own_key_only(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.mock.fail(503, path="/v1/chat/completions")
        r.mock.fail(529, path="/v1/messages")
        status, _, answer = await r.ask(model="smart")
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "Echo: Hello you")
        assert r.served_by == ["openai", "anthropic", "gemini"]
        for entry in r.mock.journal:
            own = entry.header(SLOTS[entry.provider])
            assert own is not None
            assert own.removeprefix("Bearer ") == KEYS[entry.provider]
            said = repr(entry.headers) + entry.target + entry.body.decode()
            assert [key for key in KEYS.values() if key in said] == [KEYS[entry.provider]]


async def test_what_was_left_out_is_said_and_what_cannot_be_carried_is_refused_before_it_is_sent(
    tmp_path: Path,
) -> None:
    async with ride(tmp_path) as r:
        status, head, _ = await r.ask(model="anthropic/claude-sonnet-4-6", seed=7)
        assert (status, "seed" in head["x-outrider-translated"]) == (200, True)
        status, head, answer = await r.ask(model="anthropic/claude-sonnet-4-6", n=2)
        assert (status, head["x-outrider-error"]) == (400, "cannot_translate")
        assert "one answer a call" in answer["error"]["message"]
        assert len(r.served_by) == 1


HOSTILE = {
    "no JSON": b"<html>not JSON</html>",
    "another shape": b'{"content": 7, "usage": [], "role": {}}',
    "an endless number": b'{"type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"x"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":-5,"output_tokens":1e400}}',
    "deep": b'{"content":' + b"[" * 3000 + b"]" * 3000 + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_an_answer_that_is_none_is_withheld_and_the_app_is_told_in_its_own_words(
    tmp_path: Path, body: bytes
) -> None:
    async with ride(tmp_path, resilience={"retry": {"attempts": 1}}) as r:
        r.mock.next(body=body, path="/v1/messages")
        status, head, answer = await r.ask(model="anthropic/claude-sonnet-4-6")
        assert (status, head["x-outrider-error"]) == (502, "upstream_broken")
        assert set(answer) == {"error"}
        status, _, _ = await r.ask(model="anthropic/claude-sonnet-4-6")
        assert status == 200


async def test_the_key_in_a_translated_answer_is_withheld_too(tmp_path: Path) -> None:
    async with ride(tmp_path, resilience={"retry": {"attempts": 1}}) as r:
        echoed = {
            "type": "message", "id": "m", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": KEYS["anthropic"]}], "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        r.mock.next(body=json.dumps(echoed).encode(), path="/v1/messages")
        status, _, answer = await r.ask(model="anthropic/claude-sonnet-4-6")
        assert status == 502
        assert KEYS["anthropic"] not in json.dumps(answer)


async def test_a_translated_stream_that_is_cut_ends_in_the_apps_own_error(tmp_path: Path) -> None:
    async with ride(tmp_path) as r:
        r.mock.next(cut_after=2, cut="reset", path="/v1/messages")
        status, _, stream = await r.ask(model="anthropic/claude-sonnet-4-6", stream=True)
        last = stream.decode().strip().split("\n\n")[-1]
        assert status == 200
        assert "error" in json.loads(last.removeprefix("data: "))
        assert b"[DONE]" not in stream


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/cat.png", "http://169.254.169.254/latest", "file:///etc/passwd"])
async def test_a_picture_by_url_is_not_fetched_from_where_the_app_may_not_reach(tmp_path: Path, url: str) -> None:
    async with ride(tmp_path) as r:
        parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
        status, head, _ = await r.ask(model="gemini/gemini-2.5-flash", messages=[{"role": "user", "content": parts}])
        assert status in (400, 403)
        assert head["x-outrider-error"]
        assert r.served_by == []
