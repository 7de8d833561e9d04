"""The official Python SDKs, unmodified, through a whole sidecar: the same call is made straight to the provider too.

What the SDK reads must be the same both ways, and so must what the provider got, except for the credential, the Host
and what a proxy has to take out. The provider accepts nothing but the real key; the placeholder must not reach it.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import boto3
import openai
import pytest
import uvloop
from botocore.config import Config
from google import genai
from google.genai import types as genai_types

from e2e.conftest import Start
from e2e.rig import AWS_KEY_ID, AWS_SECRET, REAL, Ride, until
from outrider.mock.journal import Journalled

ASK: Any = [{"role": "user", "content": "hello big world"}]
ASK_WEATHER: Any = [{"role": "user", "content": "get_weather in Paris?"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
GPT, CLAUDE, FLASH = "gpt-4o", "claude-sonnet-4-6", "gemini-2.5-flash"
BEDROCK_CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
CLAUDE_ASK: Any = {"model": CLAUDE, "max_tokens": 99, "messages": ASK}
CONVERSE: Any = {"modelId": BEDROCK_CLAUDE, "messages": [{"role": "user", "content": [{"text": "hello big world"}]}]}
INVOKE_BODY = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": ASK})
INVOKE: Any = {"modelId": BEDROCK_CLAUDE, "body": INVOKE_BODY}

type Options = dict[str, Any]  # what a client is made with: {} leaves all of it to the environment
type Call = Callable[[Options], Any]  # -> what the SDK read, comparable


@dataclass(frozen=True)
class Case:
    """operation, tokens: what the sidecar's metrics must say; tokens of (input, output), None where none are used."""

    provider: str
    operation: str
    model: str
    tokens: tuple[int, int] | None
    call: Call
    adds_usage: bool = False  # the sidecar asks for usage that the app did not ask for


# --- OpenAI -----------------------------------------------------------------------------------------------------------


def chat(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        made = client.chat.completions.create(model=GPT, messages=ASK)
    assert made.usage is not None
    return made.choices[0].message.content, made.usage.prompt_tokens, made.usage.completion_tokens


def chat_stream(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        chunks = list(client.chat.completions.create(model=GPT, messages=ASK, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)  # no chunk that the app did not ask for
    return [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) for chunk in chunks]


def chat_stream_with_usage(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        asked: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(model=GPT, messages=ASK, stream=True, stream_options=asked))
    return [(len(chunk.choices), chunk.usage and chunk.usage.total_tokens) for chunk in chunks]


def chat_tools(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        made = client.chat.completions.create(model=GPT, messages=ASK_WEATHER, tools=OPENAI_TOOLS)
    calls: Any = made.choices[0].message.tool_calls
    return [(call.function.name, call.function.arguments) for call in calls], made.choices[0].finish_reason


def chat_tools_stream(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        stream = client.chat.completions.create(model=GPT, messages=ASK_WEATHER, tools=OPENAI_TOOLS, stream=True)
        deltas = [delta for chunk in stream for delta in chunk.choices[0].delta.tool_calls or ()]
    return [(delta.index, delta.function and delta.function.arguments) for delta in deltas]


def responses(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        made = client.responses.create(model=GPT, input="hello big world")
    assert made.usage is not None
    return made.output_text, made.usage.input_tokens, made.usage.output_tokens


def responses_stream(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        events: Any = list(client.responses.create(model=GPT, input="hello big world", stream=True))
    return [(event.type, event.sequence_number) for event in events], events[-1].response.usage.total_tokens


def embeddings(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        made = client.embeddings.create(model="text-embedding-3-small", input=["one two", "three"])
    return [row.embedding[:4] for row in made.data], made.usage.total_tokens


def models(options: Options) -> Any:
    with openai.OpenAI(**options, max_retries=0) as client:
        return [model.id for model in client.models.list()]


def chat_async(options: Options) -> Any:
    async def talk() -> Any:
        async with openai.AsyncOpenAI(**options, max_retries=0) as client:
            made = await client.chat.completions.create(model=GPT, messages=ASK)
            return made.choices[0].message.content, made.usage and made.usage.total_tokens

    return run(talk)


def chat_stream_async(options: Options) -> Any:
    async def talk() -> Any:
        async with openai.AsyncOpenAI(**options, max_retries=0) as client:
            stream = await client.chat.completions.create(model=GPT, messages=ASK, stream=True)
            return [chunk.choices[0].delta.content async for chunk in stream]

    return run(talk)


def responses_stream_async(options: Options) -> Any:
    async def talk() -> Any:
        async with openai.AsyncOpenAI(**options, max_retries=0) as client:
            return [event.type async for event in await client.responses.create(model=GPT, input="hello", stream=True)]

    return run(talk)


# --- Anthropic --------------------------------------------------------------------------------------------------------


def messages(options: Options) -> Any:
    with anthropic.Anthropic(**options, max_retries=0) as client:
        made: Any = client.messages.create(**CLAUDE_ASK)
    return made.content[0].text, made.usage.input_tokens, made.usage.output_tokens


def messages_stream(options: Options) -> Any:
    with (
        anthropic.Anthropic(**options, max_retries=0) as client,
        client.messages.stream(**CLAUDE_ASK) as stream,
    ):
        events = [event.type for event in stream]
        made: Any = stream.get_final_message()
    return events, made.content[0].text, made.usage.output_tokens


def messages_tools(options: Options) -> Any:
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER}]
    with anthropic.Anthropic(**options, max_retries=0) as client:
        made: Any = client.messages.create(model=CLAUDE, max_tokens=99, messages=ASK_WEATHER, tools=tools)
    return [(block.name, block.input) for block in made.content], made.stop_reason


def count_tokens(options: Options) -> Any:
    with anthropic.Anthropic(**options, max_retries=0) as client:
        return client.messages.count_tokens(model=CLAUDE, messages=ASK).input_tokens


def messages_async(options: Options) -> Any:
    async def talk() -> Any:
        async with anthropic.AsyncAnthropic(**options, max_retries=0) as client:
            made: Any = await client.messages.create(**CLAUDE_ASK)
            return made.content[0].text, made.usage.output_tokens

    return run(talk)


def messages_stream_async(options: Options) -> Any:
    async def talk() -> Any:
        async with (
            anthropic.AsyncAnthropic(**options, max_retries=0) as client,
            client.messages.stream(**CLAUDE_ASK) as stream,
        ):
            return [text async for text in stream.text_stream]

    return run(talk)


# --- Gemini -----------------------------------------------------------------------------------------------------------


def generate(options: Options) -> Any:
    with genai.Client(**options) as client:
        made: Any = client.models.generate_content(model=FLASH, contents="hello big world")
    return made.text, made.usage_metadata.prompt_token_count, made.usage_metadata.candidates_token_count


def generate_stream(options: Options) -> Any:
    with genai.Client(**options) as client:
        chunks: Any = list(client.models.generate_content_stream(model=FLASH, contents="hello big world"))
    return [(chunk.text, chunk.usage_metadata.candidates_token_count) for chunk in chunks]


def generate_async(options: Options) -> Any:
    async def talk() -> Any:
        client = genai.Client(**options)
        try:
            made: Any = await client.aio.models.generate_content(model=FLASH, contents="hello big world")
            stream = await client.aio.models.generate_content_stream(model=FLASH, contents="hello big world")
            return made.text, [chunk.text async for chunk in stream]
        finally:
            await client.aio.aclose()
            client.close()

    return run(talk)


# --- Bedrock ----------------------------------------------------------------------------------------------------------


def bedrock(options: Options, talk: Callable[[Any], Any]) -> Any:
    retries = Config(retries={"total_max_attempts": 1})
    client = boto3.session.Session().client("bedrock-runtime", region_name="us-east-1", config=retries, **options)
    try:
        return talk(client)
    finally:
        client.close()


def converse(options: Options) -> Any:
    made = bedrock(options, lambda client: client.converse(**CONVERSE))
    return made["output"]["message"]["content"], made["usage"]["inputTokens"], made["usage"]["outputTokens"]


def converse_stream(options: Options) -> Any:
    events = bedrock(options, lambda client: list(client.converse_stream(**CONVERSE)["stream"]))
    return [next(iter(event)) for event in events], events[-1]["metadata"]["usage"]


def invoke(options: Options) -> Any:
    made = bedrock(options, lambda client: json.loads(client.invoke_model(**INVOKE)["body"].read()))
    return made["content"], made["usage"]


def invoke_stream(options: Options) -> Any:
    def talk(client: Any) -> Any:
        stream = client.invoke_model_with_response_stream(**INVOKE)["body"]
        return [json.loads(event["chunk"]["bytes"])["type"] for event in stream]

    return bedrock(options, talk)


def run(talk: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(talk())


CASES = {
    "openai chat": Case("openai", "chat", GPT, (4, 4), chat),
    "openai chat, streamed": Case("openai", "chat", GPT, (4, 4), chat_stream, adds_usage=True),
    "openai chat, streamed with usage": Case("openai", "chat", GPT, (4, 4), chat_stream_with_usage),
    "openai chat with tools": Case("openai", "chat", GPT, (0, 0), chat_tools),
    "openai chat with tools, streamed": Case("openai", "chat", GPT, (0, 0), chat_tools_stream, adds_usage=True),
    "openai responses": Case("openai", "responses", GPT, (4, 4), responses),
    "openai responses, streamed": Case("openai", "responses", GPT, (4, 4), responses_stream),
    "openai embeddings": Case("openai", "embeddings", "text-embedding-3-small", (3, 0), embeddings),
    "openai models": Case("openai", "models", "", None, models),
    "openai chat, async": Case("openai", "chat", GPT, (4, 4), chat_async),
    "openai chat, streamed, async": Case("openai", "chat", GPT, (4, 4), chat_stream_async, adds_usage=True),
    "openai responses, streamed, async": Case("openai", "responses", GPT, (2, 2), responses_stream_async),
    "anthropic messages": Case("anthropic", "messages", CLAUDE, (4, 4), messages),
    "anthropic messages, streamed": Case("anthropic", "messages", CLAUDE, (4, 4), messages_stream),
    "anthropic messages with tools": Case("anthropic", "messages", CLAUDE, (0, 0), messages_tools),
    "anthropic count_tokens": Case("anthropic", "count_tokens", CLAUDE, None, count_tokens),
    "anthropic messages, async": Case("anthropic", "messages", CLAUDE, (4, 4), messages_async),
    "anthropic messages, streamed, async": Case("anthropic", "messages", CLAUDE, (4, 4), messages_stream_async),
    "gemini generate_content": Case("gemini", "generate_content", FLASH, (4, 4), generate),
    "gemini generate_content_stream": Case("gemini", "generate_content", FLASH, (4, 4), generate_stream),
    "gemini both, async": Case("gemini", "generate_content", FLASH, (8, 8), generate_async),
    "bedrock converse": Case("bedrock", "converse", BEDROCK_CLAUDE, (4, 4), converse),
    "bedrock converse_stream": Case("bedrock", "converse", BEDROCK_CLAUDE, (4, 4), converse_stream),
    "bedrock invoke_model": Case("bedrock", "invoke_model", BEDROCK_CLAUDE, (4, 4), invoke),
    "bedrock invoke_model, streamed": Case("bedrock", "invoke_model", BEDROCK_CLAUDE, (4, 4), invoke_stream),
}
OFFICIAL = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "gemini": "generativelanguage.googleapis.com",
    "bedrock": "bedrock-runtime.us-east-1.amazonaws.com",
}
# The credential, what stands for the connection, and what an SDK says anew in every call.
NOT_COMPARED = {
    "authorization", "x-api-key", "x-goog-api-key", "x-amz-date", "host", "connection", "accept-encoding",
    "amz-sdk-invocation-id", "content-length", "transfer-encoding",
}  # fmt: skip


def straight(ride: Ride, provider: str) -> Options:
    """How the SDK reaches the mock without any sidecar."""
    url, key = ride.mock.http_url, REAL.get(provider)
    if provider == "bedrock":
        return {"endpoint_url": url, "aws_access_key_id": AWS_KEY_ID, "aws_secret_access_key": AWS_SECRET}
    if provider == "gemini":
        return {"api_key": key, "http_options": genai_types.HttpOptions(base_url=url)}
    return {"api_key": key, "base_url": f"{url}/v1" if provider == "openai" else url}


def compared(entry: Journalled, provider: str) -> list[tuple[str, str]]:
    left_out = NOT_COMPARED | ({"user-agent"} if provider == "bedrock" else set())  # boto3's names its endpoint's kind
    named = [(name.decode().lower(), value.decode()) for name, value in entry.headers]
    return [row for row in named if row[0] not in left_out]


def check_wire(ride: Ride, case: Case, before: Journalled, after: Journalled) -> None:
    assert after.header("host") == OFFICIAL[case.provider]
    assert after.tls_sni == OFFICIAL[case.provider]
    assert compared(after, case.provider) == compared(before, case.provider)
    if case.adds_usage:
        assert json.loads(after.body) == json.loads(before.body) | {"stream_options": {"include_usage": True}}
    else:
        assert after.body == before.body
    ride.assert_hidden()


def check_records(ride: Ride, case: Case, exchanges: int) -> None:
    assert ride.requests() == [(case.provider, case.operation, case.model, "200", "allow")] * exchanges
    tokens = ride.tokens()
    if case.tokens is None:
        assert tokens == {}
        return
    wanted = dict(zip(("input", "output"), case.tokens, strict=True))
    for kind, count in wanted.items():
        counted = tokens[case.provider, case.model, kind]
        assert counted == count if any(case.tokens) else counted > 0
    assert ride.events().get("usage_estimated", 0) == 0


def ride_along(ride: Ride, case: Case, way: str, monkeypatch: pytest.MonkeyPatch, *, without: str = "") -> None:
    """The case straight, then through the sidecar with nothing but the environment that `outrider env` prints."""
    expected = case.call(straight(ride, case.provider))
    made_straight = len(ride.mock.journal)
    assert ride.mock.captured is not None
    ride.mock.captured.clear()
    use_proxy(ride, monkeypatch, *(["--base-url"] if way == "base_url" else []))
    if without:
        monkeypatch.delenv(without)
    assert case.call({}) == expected
    entries = ride.mock.journal.snapshot()
    assert len(entries) == 2 * made_straight
    for before, after in zip(entries[:made_straight], entries[made_straight:], strict=True):
        check_wire(ride, case, before, after)
    check_records(ride, case, made_straight)


# google-genai derives a class from aiohttp's session, of which aiohttp disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
WAYS = pytest.mark.parametrize("way", ["proxy", "base_url"])


@WAYS
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("bedrock")])
def test_an_sdk_reads_the_same_and_the_provider_gets_the_real_key(
    ride: Ride, name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ride_along(ride, CASES[name], way, monkeypatch)
    real = REAL[CASES[name].provider]
    slots = {
        "openai": {"authorization": f"Bearer {real}"},
        "anthropic": {"x-api-key": real},
        "gemini": {"x-goog-api-key": real},
    }
    assert credentials_of(ride.entry) == slots[CASES[name].provider]


@WAYS
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bedrock")])
def test_boto3_signs_with_the_placeholder_pair_and_the_sidecar_signs_again_with_the_real_one(
    start: Start, tmp_path: Path, name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "aws"
    profile.write_text(f"[real]\naws_access_key_id = {AWS_KEY_ID}\naws_secret_access_key = {AWS_SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    ride = start(providers={"bedrock": {"credential": {"aws": "real"}}})
    until(lambda: ride.sidecar.snapshot.sources["bedrock"].generation == 1)
    ride_along(ride, CASES[name], way, monkeypatch, without="AWS_BEARER_TOKEN_BEDROCK")
    (signature,) = credentials_of(ride.entry).values()
    assert signature.startswith(f"AWS4-HMAC-SHA256 Credential={AWS_KEY_ID}/")
    assert "/us-east-1/bedrock/aws4_request" in signature


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bedrock")])
def test_boto3_carries_a_bearer_placeholder_and_the_provider_gets_the_real_api_key(
    ride: Ride, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the proxy alone: boto3 sends a bearer token over https only, and our base URL is http."""
    ride_along(ride, CASES[name], "proxy", monkeypatch, without="AWS_ACCESS_KEY_ID")
    assert credentials_of(ride.entry) == {"authorization": f"Bearer {REAL['bedrock']}"}


def credentials_of(entry: Journalled) -> Mapping[str, str]:
    """What stands in the auth slots of all providers, each at most once, and nothing in the query."""
    assert not re.search(r"[?&](key|x-amz-[a-z]+)=", entry.target, re.IGNORECASE)
    found = {name: entry.all(name) for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key")}
    assert all(len(values) <= 1 for values in found.values())
    return {name: values[0] for name, values in found.items() if values}


def test_a_stream_reaches_the_app_event_by_event(ride: Ride, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider stops after its second event for good: the first ones are there all the same."""
    use_proxy(ride, monkeypatch)
    ride.mock.next(stall="events", stall_after=2)
    with openai.OpenAI(max_retries=0) as client:
        stream = iter(client.chat.completions.create(model=GPT, messages=ASK, stream=True))
        first = [next(stream).choices[0].delta.content, next(stream).choices[0].delta.content]
        assert ride.mock.stalled == 1
        ride.mock.release()
        rest = [chunk.choices[0].delta.content for chunk in stream]
    assert "".join(text or "" for text in first + rest) == "Echo: hello big world"


def test_one_kept_connection_carries_many_calls_and_each_is_recorded(
    ride: Ride, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(ride, monkeypatch)
    with openai.OpenAI(max_retries=0) as client:
        for _ in range(5):
            client.chat.completions.create(model=GPT, messages=ASK)
    assert {entry.connection_id for entry in ride.mock.journal} == {1}
    assert ride.requests() == [("openai", "chat", GPT, "200", "allow")] * 5
    assert ride.tokens() == {("openai", GPT, "input"): 20, ("openai", GPT, "output"): 20}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("compressed", [False, True])
def test_usage_is_read_from_answers_of_any_framing_and_coding(
    ride: Ride, framing: str, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(ride, monkeypatch)
    ride.mock.next(framing=framing, gzip=compressed, cached_tokens=3, reasoning_tokens=2, chunk_bytes=11)
    with openai.OpenAI(max_retries=0) as client:
        made = client.chat.completions.create(model=GPT, messages=ASK)
    assert made.choices[0].message.content == "Echo: hello big world"
    assert made.usage is not None
    assert ride.tokens() == {
        ("openai", GPT, "input"): made.usage.prompt_tokens,
        ("openai", GPT, "output"): made.usage.completion_tokens,
        ("openai", GPT, "cache_read"): 3,
        ("openai", GPT, "reasoning"): 2,
    }


def test_streams_cut_into_single_bytes_are_read_by_every_sdk(ride: Ride, monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(ride, monkeypatch)
    for _ in range(4):
        ride.mock.next(chunk_bytes=1)
    assert [text for text, _ in chat_stream({})] == ["", "Echo:", " hello", " big", " world", None]
    assert messages_stream({})[1] == "Echo: hello big world"
    assert "".join(text for text, _ in generate_stream({})) == "Echo: hello big world"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert converse_stream({})[1]["totalTokens"] == 8


def use_proxy(ride: Ride, monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    for name, value in ride.app_env(*flags).items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
