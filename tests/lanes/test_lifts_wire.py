"""Apps pinned to an old version of an API, lifted by rule: what the provider was asked, and what the app got back."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from outrider.mock import MockProvider
from outrider.mock.journal import Journalled
from outrider.runtime import Sidecar
from support.running import client_of, get, post, running

KEYS = {
    "OPENAI_KEY": "sk-real-openai", "ANTHROPIC_KEY": "sk-ant-real", "AZURE_KEY": "azure-real",
    "VERTEX_KEY": "ya29.real",
    "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL", "AWS_SECRET_ACCESS_KEY": "REALawssecret/0123456789+abcdefghijklmnop",
}  # fmt: skip
REAL = {
    name: KEYS[f"{name.upper()}_KEY"] for name in ("openai", "anthropic", "azure", "vertex")
} | {"bedrock": f"{KEYS['AWS_ACCESS_KEY_ID']}:{KEYS['AWS_SECRET_ACCESS_KEY']}"}  # fmt: skip
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
JSON = b"content-type: application/json\r\n"
RESOURCE = "mine.openai.azure.com"
HELLO = [{"role": "user", "content": "Hello big world"}]
FUNCTIONS = [{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]


class Ride:
    def __init__(self, sidecar: Sidecar, mock: MockProvider) -> None:
        self.sidecar, self.mock = sidecar, mock

    async def ask(self, path: str, body: dict[str, Any] | bytes, more: bytes = b"") -> tuple[int, bytes, bytes]:
        peer = await client_of(self.sidecar)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = b"authorization: Bearer %b\r\n" % self.sidecar.placeholder.value.encode()
        await peer.send(
            post(self.sidecar, sent, path.encode(), (b"" if b"content-type" in more else JSON) + key + more)
        )
        head, answer = await peer.answer()
        peer.close()
        return int(head.split(b" ", 2)[1]), head, answer

    @property
    def last(self) -> Journalled:
        return self.mock.journal[-1]

    @property
    def place(self) -> tuple[str, dict[str, str]]:
        path, _, query = self.last.target.partition("?")
        return path, dict(parse_qsl(query))

    @property
    def body(self) -> Any:
        return json.loads(self.last.body)


@asynccontextmanager
async def ride(folder: Path, *lifts: str, more: str = "", **sections: Any) -> AsyncIterator[Ride]:
    rules = folder / "rules.yaml"
    rows = [f"- {{id: lift-{at}, description: Lifted., then: {{lift: {one}}}}}\n" for at, one in enumerate(lifts)]
    rules.write_text("version: 1\nrules:\n" + "".join(rows) + more)
    async with MockProvider(keys=REAL, tls=False) as mock:
        reach = {"connect_to": mock.http_url, "require_placeholder": False}
        providers: dict[str, Any] = {
            name: {**reach, "credential": {"env": f"{name.upper()}_KEY"}} for name in ("openai", "anthropic")
        }
        providers["azure"] = {**reach, "hosts": [RESOURCE], "credential": {"env": "AZURE_KEY"}}
        providers["gateway"] = {
            **providers["azure"],
            "kind": "azure",
            "hosts": ["gate.example"],
            "base_path": "/az/one",
        }
        providers["vertex"] = {
            **reach, "region": "us-east5", "project": "my-project", "credential": {"env": "VERTEX_KEY"}
        }  # fmt: skip
        providers["bedrock"] = {**reach, "region": "us-east-1", "credential": {"env": "AWS_ACCESS_KEY_ID"}}
        async with running(folder, providers, environ=KEYS, policies=[str(rules)], **sections) as sidecar:
            yield Ride(sidecar, mock)


def events(answer: bytes) -> list[Any]:
    lines = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1].strip() == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# -- functions


async def test_functions_go_as_tools_and_calls_come_back_as_function_call(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}") as r:
        asked = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "get_weather in Paris?"}],
            "functions": FUNCTIONS,
            "function_call": {"name": "get_weather"},
            "seed": 7,
            "user": "ada",
        }
        status, head, answer = await r.ask("/openai/v1/chat/completions", asked)
        assert status == 200, answer
        assert r.place[0] == "/v1/chat/completions"
        assert "functions" not in r.body
        assert "function_call" not in r.body
        assert [tool["function"]["name"] for tool in r.body["tools"]] == ["get_weather"]
        assert r.body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
        assert (r.body["parallel_tool_calls"], r.body["seed"], r.body["user"]) == (False, 7, "ada")
        choice = json.loads(answer)["choices"][0]
        assert choice["finish_reason"] == "function_call"
        assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}
        assert "tool_calls" not in choice["message"]
        assert b"x-outrider-translated: functions lifted to tools\r\n" in head


async def test_a_stream_of_functions_comes_back_as_one(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}") as r:
        asked = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "get_weather in Paris?"}],
            "functions": FUNCTIONS,
            "stream": True,
        }
        status, _, answer = await r.ask("/openai/v1/chat/completions", asked)
        assert (status, "tools" in r.body, "functions" in r.body) == (200, True, False)
        assert r.body["stream_options"] == {"include_usage": True}
        deltas = [event["choices"][0]["delta"] for event in events(answer) if event["choices"]]
        calls = [delta["function_call"] for delta in deltas if delta.get("function_call")]
        assert calls[0]["name"] == "get_weather"
        assert json.loads("".join(call.get("arguments", "") for call in calls)) == {"city": "Paris"}
        finishes = {event["choices"][0]["finish_reason"] for event in events(answer) if event["choices"]}
        assert finishes == {None, "function_call"}
        assert not any("tool_calls" in delta for delta in deltas)
        assert all("usage" not in event or event["usage"] is None for event in events(answer))


async def test_what_a_function_answered_goes_as_a_tools_result(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}") as r:
        said = {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": "{}"}}
        messages = [*HELLO, said, {"role": "function", "name": "get_weather", "content": "sunny"}]
        status, _, _ = await r.ask("/openai/v1/chat/completions", {"model": "gpt-4o", "messages": messages})
        assert status == 200
        call = r.body["messages"][1]["tool_calls"][0]
        assert r.body["messages"][2] == {"role": "tool", "tool_call_id": call["id"], "content": "sunny"} | (
            {"name": "get_weather"} if "name" in r.body["messages"][2] else {}
        )


async def test_a_call_without_functions_is_left_as_it_is(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}") as r:
        body = b'{ "model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}'
        status, head, _ = await r.ask("/openai/v1/chat/completions", body)
        assert (status, r.last.body) == (200, body)
        assert b"x-outrider-translated" not in head


async def test_functions_of_an_alias_are_lifted_at_its_target(tmp_path: Path) -> None:
    models = {"smart": {"targets": ["openai/gpt-4o"]}}
    async with ride(tmp_path, "{functions: tools}", models=models) as r:
        asked = {"model": "smart", "messages": HELLO, "functions": FUNCTIONS}
        for path in ("/openai/v1/chat/completions", "/v1/chat/completions"):
            status, _, answer = await r.ask(path, asked)
            assert status == 200, answer
            assert (r.body["model"], "tools" in r.body, "functions" in r.body) == ("gpt-4o", True, False)


async def test_a_providers_error_comes_back_in_the_apps_form(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}", resilience={"retry": {"attempts": 1}}) as r:
        r.mock.fail(429)
        asked = {"model": "gpt-4o", "messages": HELLO, "functions": FUNCTIONS}
        status, _, answer = await r.ask("/openai/v1/chat/completions", asked)
        assert status == 429
        assert json.loads(answer)["error"]["message"]


# -- completions


@pytest.mark.parametrize("path", ["/openai/v1/completions", "/v1/completions"])
async def test_a_legacy_completion_goes_as_chat_and_comes_back(tmp_path: Path, path: str) -> None:
    async with ride(tmp_path, "{completions: chat, max_tokens: max_completion_tokens}") as r:
        asked = {"model": "gpt-4o", "prompt": "Hello big world", "max_tokens": 50, "stop": ["x"]}
        status, head, answer = await r.ask(path, asked)
        assert status == 200, answer
        assert r.place[0] == "/v1/chat/completions"
        assert r.body["messages"] == [{"role": "user", "content": "Hello big world"}]
        assert (r.body["max_completion_tokens"], r.body.get("max_tokens"), r.body["stop"]) == (50, None, ["x"])
        made = json.loads(answer)
        assert (made["object"], made["choices"][0]["text"]) == ("text_completion", "Echo: Hello big world")
        assert made["choices"][0]["finish_reason"] == "stop"
        assert b"completions lifted to chat" in head


async def test_a_streamed_completion_comes_back_as_one(tmp_path: Path) -> None:
    async with ride(tmp_path, "{completions: chat}") as r:
        asked = {"model": "gpt-4o", "prompt": "Hello big world", "stream": True}
        status, _, answer = await r.ask("/openai/v1/completions", asked)
        assert (status, r.place[0]) == (200, "/v1/chat/completions")
        texts = [event["choices"][0]["text"] for event in events(answer) if event["choices"]]
        assert "".join(texts) == "Echo: Hello big world"


# -- max_tokens


async def test_max_tokens_is_renamed_for_the_models_that_the_rule_names(tmp_path: Path) -> None:
    lift = "{lift: {max_tokens: max_completion_tokens}}"
    rule = f"- {{id: bound, description: Renamed., match: {{model: 'o*'}}, then: {lift}}}\n"
    async with ride(tmp_path, more=rule) as r:
        for model, left in (("o3", {"max_completion_tokens": 9}), ("gpt-4o", {"max_tokens": 9})):
            status, _, _ = await r.ask(
                "/openai/v1/chat/completions", {"model": model, "messages": HELLO, "max_tokens": 9}
            )
            assert status == 200
            assert {key: value for key, value in r.body.items() if "max" in key} == left


# -- Azure


@pytest.mark.parametrize(
    ("version", "asked", "path", "query"),
    [
        ("2025-04-01-preview", "deployments/gpt-4o/chat/completions?api-version=2023-05-15",
         "/openai/deployments/gpt-4o/chat/completions", {"api-version": "2025-04-01-preview"}),
        ("2025-04-01-preview", "deployments/gpt-4o/chat/completions?a=1&API-Version=2023-05-15",
         "/openai/deployments/gpt-4o/chat/completions", {"a": "1", "api-version": "2025-04-01-preview"}),
        ("v1", "deployments/gpt-4o/chat/completions?api-version=2023-05-15", "/openai/v1/chat/completions", {}),
        ("v1", "responses?api-version=2025-03-01-preview", "/openai/v1/responses", {}),
        ("2025-04-01-preview", "v1/chat/completions", "/openai/deployments/gpt-4o/chat/completions",
         {"api-version": "2025-04-01-preview"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plain_calls", [False, True])
@pytest.mark.parametrize(("provider", "base"), [("azure", ""), ("gateway", "/az/one")])
async def test_an_azure_call_is_lifted_to_another_api_version(
    tmp_path: Path,
    version: str,
    asked: str,
    path: str,
    query: dict[str, str],
    plain_calls: bool,
    provider: str,
    base: str,
) -> None:
    async with ride(tmp_path, f'{{api_version: "{version}"}}', resilience={"plain_calls": plain_calls}) as r:
        body = {"input": "Hello"} if "responses" in asked else {"messages": HELLO}
        named = {} if "deployments" in asked else {"model": "gpt-4o"}
        status, _, answer = await r.ask(f"/{provider}{base}/openai/{asked}", named | body)
        assert status == 200 or base, answer  # below a path the mock knows nobody
        assert r.place == (base + path, query)
        if "/v1/" in path:
            assert r.body["model"] == "gpt-4o"
        assert r.last.header("api-key") == "azure-real"


async def test_an_azure_call_is_lifted_in_version_and_form_at_once(tmp_path: Path) -> None:
    async with ride(tmp_path, "{api_version: v1, functions: tools}") as r:
        asked = {"messages": [{"role": "user", "content": "get_weather in Paris?"}], "functions": FUNCTIONS}
        path = "/azure/openai/deployments/gpt-4o/chat/completions?api-version=2023-07-01-preview"
        status, _, answer = await r.ask(path, asked)
        assert status == 200, answer
        assert (*r.place, r.body["model"]) == ("/openai/v1/chat/completions", {}, "gpt-4o")
        assert "tools" in r.body
        assert json.loads(answer)["choices"][0]["message"]["function_call"]["name"] == "get_weather"


async def test_a_form_has_no_place_for_its_model_and_is_refused(tmp_path: Path) -> None:
    async with ride(tmp_path, "{api_version: v1}") as r:
        form = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
        path = "/azure/openai/deployments/whisper/audio/transcriptions?api-version=2024-06-01"
        status, head, _ = await r.ask(path, form, b"content-type: multipart/form-data; boundary=b\r\n")
        assert status == 403
        assert b"x-outrider-error: policy_denied\r\n" in head
        assert not r.mock.journal


# -- Anthropic


async def test_anthropics_version_and_betas_are_lifted(tmp_path: Path) -> None:
    betas = "{rename: {old-2024-01-01: new-2025-01-01}, drop: ['gone-*']}"
    async with ride(tmp_path, f'{{anthropic_version: "2023-06-01", anthropic_beta: {betas}}}') as r:
        asked = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": HELLO}
        told = b"anthropic-version: 2023-01-01\r\nanthropic-beta: old-2024-01-01, gone-2024-02-02,kept-2025-03-03\r\n"
        status, _, answer = await r.ask("/anthropic/v1/messages", asked, told)
        assert status == 200, answer
        assert r.last.header("anthropic-version") == "2023-06-01"
        assert r.last.header("anthropic-beta") == "new-2025-01-01, kept-2025-03-03"
        status, _, _ = await r.ask("/anthropic/v1/messages", asked, b"anthropic-beta: gone-2024-02-02\r\n")
        assert (status, r.last.header("anthropic-beta")) == (200, None)


@pytest.mark.parametrize("asked", [{"prompt": "Hello"}, {"messages": HELLO, "functions": FUNCTIONS}])
async def test_the_apps_own_key_goes_with_what_is_lifted(tmp_path: Path, asked: dict[str, Any]) -> None:
    rules = tmp_path / "rules.yaml"
    lift = "{lift: {functions: tools, completions: chat}}"
    rules.write_text(f"version: 1\nrules: [{{id: new, description: Lifted., then: {lift}}}]\n")
    async with AsyncExitStack() as stack:
        mock = await stack.enter_async_context(MockProvider(keys={"openai": "sk-the-apps"}, tls=False))
        providers = {"openai": {"connect_to": mock.http_url}}
        sidecar = await stack.enter_async_context(running(tmp_path, providers, policies=[str(rules)]))
        peer = await client_of(sidecar)
        path = b"/openai/v1/completions" if "prompt" in asked else b"/openai/v1/chat/completions"
        key = b"authorization: Bearer sk-the-apps\r\n"
        await peer.send(post(sidecar, json.dumps({"model": "gpt-4o"} | asked).encode(), path, JSON + key))
        head, answer = await peer.answer()
        peer.close()
        assert b" 200 " in head, answer
        assert mock.journal[-1].target == "/v1/chat/completions"


async def test_a_call_without_a_body_is_lifted_too(tmp_path: Path) -> None:
    async with ride(tmp_path, "{api_version: v1}") as r:
        peer = await client_of(r.sidecar)
        key = b"api-key: %b\r\n" % r.sidecar.placeholder.value.encode()
        await peer.send(get(r.sidecar, b"/azure/openai/models?api-version=2024-10-21", key))
        head, answer = await peer.answer()
        peer.close()
        assert b" 200 " in head, answer
        assert r.last.target == "/openai/v1/models"


async def test_a_compressed_body_is_lifted_and_leaves_plain(tmp_path: Path) -> None:
    async with ride(tmp_path, "{functions: tools}") as r:
        sent = gzip.compress(json.dumps({"model": "gpt-4o", "messages": HELLO, "functions": FUNCTIONS}).encode())
        status, _, answer = await r.ask("/openai/v1/chat/completions", sent, b"content-encoding: gzip\r\n")
        assert status == 200, answer
        assert r.last.header("content-encoding") is None
        assert "tools" in r.body


async def test_a_rule_has_the_last_word_on_the_betas_of_another_target(tmp_path: Path) -> None:
    lift = "{anthropic_beta: {drop: ['context-*']}}"
    models = {"elsewhere": {"targets": ["vertex/claude-sonnet-4-6"]}, "bed": {"targets": [f"bedrock/{CLAUDE}"]}}
    async with ride(tmp_path, lift, models=models) as r:
        asked = {"model": "elsewhere", "max_tokens": 9, "messages": HELLO}
        told = b"anthropic-beta: context-1m-2025-08-07, effort-2025-11-24\r\n"
        status, _, answer = await r.ask("/anthropic/v1/messages", asked, told)
        assert status == 200, answer
        assert r.last.all("anthropic-beta") == ["effort-2025-11-24"]
        status, _, answer = await r.ask("/anthropic/v1/messages", asked | {"model": "bed"}, told)
        assert status == 200, answer
        assert r.body["anthropic_beta"] == ["effort-2025-11-24"]
