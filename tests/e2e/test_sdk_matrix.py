"""Seven official SDKs, unmodified, and seven providers behind them: every pair, in six ways of asking.

What an SDK says goes to its own provider's address at the sidecar, with a model whose alias leads elsewhere; what came
there is judged at the emulator's journal, and what the SDK made of the answer by one table for all. What a provider
cannot do is refused with a sentence that names it, before anything is sent.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.running import running
from support.sdks import PIXEL, SDKS, finish_of, opened

ACCESS, SECRET = "AKIAREALREALREALREAL", "REALawssecret/0123456789+abcdefghijklmnop"
ENVIRON = {
    "OPENAI_KEY": "sk-real-openai",
    "ANTHROPIC_KEY": "sk-ant-real",
    "GEMINI_KEY": "gemini-real",
    "OLLAMA_KEY": "ollama-real",
    "COHERE_KEY": "cohere-real",
    "REPLICATE_KEY": "r8-real",
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
}
KEYS = {
    "openai": "sk-real-openai",
    "anthropic": "sk-ant-real",
    "gemini": "gemini-real",
    "ollama": "ollama-real",
    "cohere": "cohere-real",
    "replicate": "r8-real",
    "bedrock": f"{ACCESS}:{SECRET}",
}
TARGETS = {sdk.provider: sdk.model for sdk in SDKS.values()} | {"replicate": "openai/gpt-4o"}
REFUSED = {
    ("replicate", "tools"): "uses tools, which cannot be carried to replicate.openai: it has no tools",
    ("replicate", "structured"): "uses output by schema, which cannot be carried to replicate.openai",
}
WAYS = ("plain", "stream", "tools", "image", "structured", "error")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, MockProvider]]:
    async with MockProvider(keys=KEYS, tls=False) as mock:
        reach = {"connect_to": mock.http_url}
        providers: dict[str, Any] = {
            name: {**reach, "credential": {"env": f"{name.upper()}_KEY"}} for name in KEYS if name != "bedrock"
        }
        providers["bedrock"] = {**reach, "region": "us-east-1", "credential": {"env": "AWS_ACCESS_KEY_ID"}}
        models = {f"to-{name}": {"targets": [f"{name}/{model}"]} for name, model in TARGETS.items()}
        async with running(
            tmp_path, providers, environ=ENVIRON, models=models, resilience={"retry": {"attempts": 1}}
        ) as sidecar:
            yield sidecar, mock


def url_of(sidecar: Sidecar, name: str) -> str:
    host, port = sidecar.proxy_addresses[0]
    return f"http://{host}:{port}/{SDKS[name].provider}"


def refused(client: Any, way: str, model: str, name: str, why: str) -> None:
    """Raises: AssertionError."""
    with pytest.raises(SDKS[name].raises) as failed:
        getattr(client, way)(model, "hello")
    assert SDKS[name].status_of(failed.value) == 400
    assert why in str(failed.value)


def ask(client: Any, way: str, model: str, mock: MockProvider, name: str) -> None:
    """Raises: AssertionError."""
    sdk = SDKS[name]
    if way in ("plain", "stream"):
        said = getattr(client, way)(model, "hello big world")
        assert (said.text, finish_of(said)) == ("Echo: hello big world", "stop")
        assert (said.input_tokens, said.output_tokens) == (4, 4)
        assert said.events == (4 if way == "stream" else 0)
    elif way == "tools":
        said = client.tools(model, "get_weather and get_time in Paris?")
        assert said.tools == [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Paris"})]
        assert finish_of(said) == "tool_calls"
    elif way == "image":
        assert client.image(model, "look here").text == "Echo: look here"
        assert PIXEL.encode() in mock.journal[-1].body
    elif way == "structured":
        assert json.loads(client.structured(model, "I am Ada").text) == {"name": "Ada", "age": 1}
    else:
        mock.fail(429)
        with pytest.raises(sdk.raises) as failed:
            client.plain(model, "hello")
        assert sdk.status_of(failed.value) == 429


async def in_thread(function: Callable[..., None], *arguments: Any) -> None:
    await asyncio.to_thread(function, *arguments)


@pytest.mark.parametrize("name", SDKS)
async def test_every_sdk_is_served_by_every_provider(
    name: str, world: tuple[Sidecar, MockProvider], capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar, mock = world
    placeholder = sidecar.placeholder
    pair = f"{placeholder.aws_access_key_id}:{placeholder.aws_secret_access_key}"
    shown = pair if SDKS[name].provider == "bedrock" else placeholder.value
    rows, failures = [], []

    def all_of_them() -> None:
        with opened(name, url_of(sidecar, name), shown) as client:
            for provider in TARGETS:
                cells = []
                for way in WAYS:
                    before = len(mock.journal)
                    why = REFUSED.get((provider, way))
                    try:
                        if why is not None:
                            refused(client, way, f"to-{provider}", name, why)
                            assert len(mock.journal) == before
                            cells.append("refused")
                            continue
                        ask(client, way, f"to-{provider}", mock, name)
                        served = {entry.provider for entry in list(mock.journal)[before:]}
                        assert served == {provider}, f"it was served by {served}"
                        cells.append("ok")
                    except Exception as exc:
                        cells.append("FAILED")
                        failures.append(f"{name} at {provider}, {way}: {type(exc).__name__}: {str(exc)[:300]}")
                rows.append((provider, cells))

    await in_thread(all_of_them)
    with capsys.disabled():
        print(f"\n{name:17}" + "".join(f"{way:>11}" for way in WAYS))
        for provider, cells in rows:
            print(f"  {provider:15}" + "".join(f"{cell:>11}" for cell in cells))
    assert not failures, "\n".join(failures)


def test_the_readmes_table_names_the_pairs_that_are_tested_here() -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    table = text[text.index("\n| SDK of the app") + 1 :].split("\n\n", 1)[0].splitlines()
    head, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in (table[0], *table[2:]))
    assert head[1:] == list(TARGETS)
    assert [row[0] for row in rows] == list(SDKS)
    passed = [len(WAYS) - sum(name == refusing for refusing, _ in REFUSED) for name in TARGETS]
    assert {tuple(row[1:]) for row in rows} == {tuple(f"{number} of {len(WAYS)}" for number in passed)}
