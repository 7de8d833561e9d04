"""The official SDKs, unmodified, straight against the emulator: what they parse is what a provider would have said."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from outrider.mock import MockProvider

ACCESS, SECRET = "AKIATESTTESTTESTTEST", "a-secret-of-aws"
KEYS = {
    "openai": "sk-right",
    "azure": "azure-right",
    "anthropic": "sk-ant-right",
    "gemini": "gemini-right",
    "bedrock": [f"{ACCESS}:{SECRET}", "bedrock-api-key"],
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city"],
}
ASK: Any = [{"role": "user", "content": "hello big world"}]
ASK_WEATHER: Any = [{"role": "user", "content": "get_weather and get_time in Paris?"}]
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"


@pytest.fixture
async def mock() -> AsyncIterator[MockProvider]:
    async with MockProvider(keys=KEYS, tls=False) as provider:
        yield provider


def openai_client(mock: MockProvider, key: str = "sk-right") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{mock.http_url}/v1", api_key=key, max_retries=0)


def openai_tools() -> Any:
    names = ("get_weather", "get_time")
    return [{"type": "function", "function": {"name": name, "parameters": WEATHER}} for name in names]


# --- OpenAI -----------------------------------------------------------------------------------------------------------


async def test_openai_answers_with_the_words_asked_and_counts_them(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        made = await client.chat.completions.create(model="gpt-4o", messages=ASK, n=2)
    assert [choice.message.content for choice in made.choices] == ["Echo: hello big world"] * 2
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (4, 8, 12)


def test_openai_answers_a_blocking_client_too() -> None:
    with (
        MockProvider(keys=KEYS, tls=False) as mock,
        openai.OpenAI(base_url=f"{mock.http_url}/v1", api_key="sk-right") as client,
    ):
        made = client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert made.choices[0].message.content == "Echo: hello big world"


async def test_openai_streams_a_word_an_event_and_says_no_usage_unasked(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        chunks = [c async for c in await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)]
    assert [c.choices[0].delta.content for c in chunks[:-1]] == ["", "Echo:", " hello", " big", " world"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in c.model_fields_set for c in chunks)


async def test_openai_include_usage_adds_one_chunk_without_choices_and_null_everywhere_else(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        asked: Any = {"include_usage": True}
        stream = await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True, stream_options=asked)
        chunks = [c async for c in stream]
    assert all("usage" in c.model_fields_set and c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 8


async def test_openai_calls_the_tools_that_the_text_names_in_parallel(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        made = await client.chat.completions.create(model="gpt-4o", messages=ASK_WEATHER, tools=openai_tools())
        one = await client.chat.completions.create(
            model="gpt-4o", messages=ASK_WEATHER, tools=openai_tools(), parallel_tool_calls=False
        )
    calls: Any = made.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0].function.arguments) == {"city": "Paris", "unit": "c"}
    assert made.choices[0].finish_reason == "tool_calls"
    assert len(one.choices[0].message.tool_calls or ()) == 1


async def test_openai_tool_deltas_are_keyed_by_index_with_the_id_on_the_first_only(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=ASK_WEATHER, tools=openai_tools(), stream=True
        )
        deltas = [d async for c in stream for d in c.choices[0].delta.tool_calls or ()]
    for index in (0, 1):
        mine: Any = [delta for delta in deltas if delta.index == index]
        assert [bool(delta.id) for delta in mine] == [True] + [False] * (len(mine) - 1)
        assert json.loads("".join(delta.function.arguments for delta in mine)) == {"city": "Paris", "unit": "c"}


async def test_a_tools_result_is_answered_with_text(mock: MockProvider) -> None:
    use = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages: Any = [
        *ASK_WEATHER,
        {"role": "assistant", "tool_calls": [use]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    async with openai_client(mock) as client:
        made = await client.chat.completions.create(model="gpt-4o", messages=messages, tools=openai_tools())
    assert (made.choices[0].message.content or "").startswith("Echo: get_weather")


async def test_openai_max_tokens_cuts_the_answer_and_says_length(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        made = await client.chat.completions.create(model="gpt-4o", messages=ASK, max_completion_tokens=2)
    assert (made.choices[0].message.content, made.choices[0].finish_reason) == ("Echo: hello", "length")


async def test_openai_responses_stream_in_order_and_end_with_usage(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        plain = await client.responses.create(model="gpt-4o", input="hello big world")
        events: Any = [e async for e in await client.responses.create(model="gpt-4o", input="hello", stream=True)]
    assert plain.output_text == "Echo: hello big world"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[-1].response.usage.total_tokens == 4


async def test_openai_responses_call_tools(mock: MockProvider) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}
    async with openai_client(mock) as client:
        made: Any = await client.responses.create(model="gpt-4o", input="weather in Rome", tools=[tool])
        async with client.responses.stream(model="gpt-4o", input="weather in Rome", tools=[tool]) as stream:
            streamed: Any = await stream.get_final_response()
    for response in (made, streamed):
        assert response.output[0].name == "get_weather"
        assert json.loads(response.output[0].arguments)["city"] == "Rome"


async def test_openai_embeddings_are_the_same_as_floats_and_as_base64(mock: MockProvider) -> None:
    async with openai_client(mock) as client:  # the SDK asks for base64 unless told otherwise
        packed = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b c"])
        plain = await client.embeddings.create(
            model="text-embedding-3-small", input=["a", "b c"], encoding_format="float"
        )
    assert [row.embedding for row in packed.data] == [row.embedding for row in plain.data]
    assert packed.usage.total_tokens == 3
    assert [json.loads(entry.body)["encoding_format"] for entry in mock.journal] == ["base64", "float"]


async def test_openai_lists_models(mock: MockProvider) -> None:
    async with openai_client(mock) as client:
        assert "gpt-4o" in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"


async def test_openai_sdk_raises_its_own_errors(mock: MockProvider) -> None:
    async with openai_client(mock, "sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided"):
            await client.chat.completions.create(model="gpt-4o", messages=ASK)
    async with openai_client(mock) as client:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.chat.completions.create(model="nonexistent-1", messages=ASK)
        with pytest.raises(openai.BadRequestError, match="messages"):
            await client.chat.completions.create(model="gpt-4o", messages=[])
        mock.fail(429, headers={"retry-after": "7"})
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert limited.value.response.headers["retry-after"] == "7"


async def test_an_openai_stream_can_fail_in_the_middle(mock: MockProvider) -> None:
    mock.next(error_after=3)
    got = []
    async with openai_client(mock) as client:
        stream = await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="The server had an error"):  # noqa: PT012
            async for chunk in stream:
                got.append(chunk)
    assert len(got) == 3


async def test_azure_takes_its_key_header_and_sends_filters(mock: MockProvider) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=mock.http_url, api_key="azure-right", api_version="2024-10-21", max_retries=0
    ) as client:
        made = await client.chat.completions.create(model="my-deployment", messages=ASK)
        chunks = [c async for c in await client.chat.completions.create(model="mine", messages=ASK, stream=True)]
    assert made.choices[0].message.content == "Echo: hello big world"
    assert chunks[0].choices == []
    assert mock.journal[0].target == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=mock.http_url, api_key="azure-wrong", api_version="2024-10-21", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError, match="invalid subscription key"):
            await client.chat.completions.create(model="my-deployment", messages=ASK)


# --- Anthropic --------------------------------------------------------------------------------------------------------


def claude(mock: MockProvider, key: str = "sk-ant-right") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=mock.http_url, api_key=key, max_retries=0)


async def test_anthropic_answers_plain_and_streamed_alike(mock: MockProvider) -> None:
    async with claude(mock) as client:
        made: Any = await client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=ASK)
        async with client.messages.stream(model="claude-sonnet-4-6", max_tokens=99, messages=ASK) as stream:
            streamed: Any = await stream.get_final_message()
    assert made.content[0].text == streamed.content[0].text == "Echo: hello big world"
    assert (made.usage.input_tokens, made.usage.output_tokens) == (4, 4)
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (4, 4)
    assert made.stop_reason == streamed.stop_reason == "end_turn"


async def test_anthropic_input_tokens_exclude_cached_ones_and_openai_prompt_tokens_include_them(
    mock: MockProvider,
) -> None:
    asked = {"x-mock-cached-tokens": "100"}
    async with claude(mock) as client:
        made = await client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=ASK, extra_headers=asked)
    assert (made.usage.input_tokens, made.usage.cache_read_input_tokens) == (4, 100)
    async with openai_client(mock) as other:
        told = (await other.chat.completions.create(model="gpt-4o", messages=ASK, extra_headers=asked)).usage
    assert told is not None
    assert told.prompt_tokens_details is not None
    assert (told.prompt_tokens, told.prompt_tokens_details.cached_tokens) == (104, 100)


async def test_anthropic_streams_tool_arguments_in_pieces(mock: MockProvider) -> None:
    tools: Any = [{"name": name, "input_schema": WEATHER} for name in ("get_weather", "get_time")]
    asked: Any = {"model": "claude-sonnet-4-6", "max_tokens": 99, "messages": ASK_WEATHER, "tools": tools}
    async with claude(mock) as client:
        made: Any = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed: Any = await stream.get_final_message()
    for message in (made, streamed):
        assert [block.name for block in message.content] == ["get_weather", "get_time"]
        assert message.content[1].input == {"city": "Paris", "unit": "c"}
        assert message.stop_reason == "tool_use"


async def test_anthropic_thinks_with_a_signature_when_asked(mock: MockProvider) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    asked: Any = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "messages": ASK, "thinking": thinking}
    async with claude(mock) as client:
        made: Any = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed: Any = await stream.get_final_message()
    assert [block.type for block in streamed.content] == ["thinking", "text"]
    assert streamed.content[0].thinking == made.content[0].thinking
    assert streamed.content[0].signature


async def test_anthropic_counts_tokens_and_takes_bearer(mock: MockProvider) -> None:
    async with anthropic.AsyncAnthropic(base_url=mock.http_url, auth_token="sk-ant-right", api_key=None) as client:
        counted = await client.messages.count_tokens(model="claude-sonnet-4-6", messages=ASK, system="be kind")
    assert counted.input_tokens == 4 + 2 + 1


async def test_anthropic_sdk_raises_its_own_errors(mock: MockProvider) -> None:
    asked: Any = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": ASK}
    async with claude(mock, "sk-wrong") as client:
        with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
            await client.messages.create(**asked)
    async with claude(mock) as client:
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(**asked | {"model": "gpt-4o"})
        with pytest.raises(anthropic.BadRequestError, match="Extra inputs are not permitted"):
            await client.messages.create(**asked, extra_body={"n": 2})
        mock.fail(529)
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            await client.messages.create(**asked)
        mock.next(error_after=2)
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            [event async for event in await client.messages.create(**asked, stream=True)]


# --- Gemini -----------------------------------------------------------------------------------------------------------


def gemini(mock: MockProvider, key: str = "gemini-right") -> genai.Client:
    return genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=mock.http_url))


async def test_gemini_answers_plain_and_streamed_and_counts(mock: MockProvider) -> None:
    def talk() -> tuple[Any, list[Any], Any]:
        with gemini(mock) as client:
            made = client.models.generate_content(model="gemini-2.5-flash", contents="hello big world")
            chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hello big world"))
            return made, chunks, client.models.count_tokens(model="gemini-2.5-flash", contents="hello big world")

    made, chunks, counted = await asyncio.to_thread(talk)
    assert made.text == "".join(chunk.text for chunk in chunks) == "Echo: hello big world"
    assert made.usage_metadata.total_token_count == 8
    assert [chunk.usage_metadata.candidates_token_count for chunk in chunks] == [1, 2, 3, 4]
    assert counted.total_tokens == 4


async def test_gemini_thoughts_stand_beside_the_candidates_tokens(mock: MockProvider) -> None:
    mock.next(reasoning_tokens=10)

    def talk() -> Any:
        with gemini(mock) as client:
            return client.models.generate_content(model="gemini-2.5-flash", contents="hello").usage_metadata

    usage = await asyncio.to_thread(talk)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (2, 10, 14)


async def test_gemini_calls_functions_whole(mock: MockProvider) -> None:
    function = genai_types.FunctionDeclaration(name="get_weather", parameters_json_schema=WEATHER)
    config = genai_types.GenerateContentConfig(
        tools=[genai_types.Tool(function_declarations=[function])],
        automatic_function_calling=genai_types.AutomaticFunctionCallingConfig(disable=True),
    )

    def talk() -> Any:
        with gemini(mock) as client:
            return client.models.generate_content(model="gemini-2.5-flash", contents="weather in Oslo", config=config)

    (call,) = (await asyncio.to_thread(talk)).function_calls
    assert (call.name, call.args) == ("get_weather", {"city": "Oslo", "unit": "c"})


async def test_gemini_refuses_a_wrong_key_as_google_does(mock: MockProvider) -> None:
    def talk() -> Any:
        with gemini(mock, "wrong") as client:
            client.models.generate_content(model="gemini-2.5-flash", contents="hello")

    with pytest.raises(genai_errors.ClientError, match="API key not valid") as refused:
        await asyncio.to_thread(talk)
    assert refused.value.code == 400


# --- Bedrock ----------------------------------------------------------------------------------------------------------


def bedrock(mock: MockProvider, secret: str = SECRET) -> Any:
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=mock.http_url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def converse(**more: Any) -> dict[str, Any]:
    return {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": "hello big world"}]}], **more}


async def test_bedrock_verifies_the_signature_of_converse(mock: MockProvider) -> None:
    def talk(secret: str) -> Any:
        with contextlib.closing(bedrock(mock, secret)) as client:
            return client.converse(**converse())

    made = await asyncio.to_thread(talk, SECRET)
    assert made["output"]["message"]["content"] == [{"text": "Echo: hello big world"}]
    assert made["usage"]["totalTokens"] == 8
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        await asyncio.to_thread(talk, "another-secret")


async def test_bedrock_streams_real_frames(mock: MockProvider) -> None:
    spec = {"name": "get_weather", "inputSchema": {"json": WEATHER}}

    def talk() -> tuple[list[Any], list[Any]]:
        with contextlib.closing(bedrock(mock)) as client:
            plain = list(client.converse_stream(**converse())["stream"])
            tools = list(client.converse_stream(**converse(toolConfig={"tools": [{"toolSpec": spec}]}))["stream"])
        return plain, tools

    plain, tools = await asyncio.to_thread(talk)
    deltas = [event["contentBlockDelta"]["delta"] for event in plain if "contentBlockDelta" in event]
    assert "".join(delta["text"] for delta in deltas) == "Echo: hello big world"
    assert [next(iter(event)) for event in plain[-2:]] == ["messageStop", "metadata"]
    assert plain[-1]["metadata"]["usage"]["outputTokens"] == 4
    parts = [event["contentBlockDelta"]["delta"]["toolUse"]["input"] for event in tools if "contentBlockDelta" in event]
    assert json.loads("".join(parts)) == {"city": "world", "unit": "c"}


async def test_bedrock_invokes_a_model_with_its_own_body(mock: MockProvider) -> None:
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": ASK})

    def talk() -> tuple[Any, list[Any]]:
        with contextlib.closing(bedrock(mock)) as client:
            made = json.loads(client.invoke_model(modelId=CLAUDE, body=body)["body"].read())
            stream = client.invoke_model_with_response_stream(modelId=CLAUDE, body=body)["body"]
            events = [json.loads(event["chunk"]["bytes"]) for event in stream]
        return made, events

    made, events = await asyncio.to_thread(talk)
    assert made["content"][0]["text"] == "Echo: hello big world"
    assert events[0]["type"] == "message_start"
    assert events[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 4


async def test_bedrock_refuses_in_its_own_shape_and_fails_inside_a_stream(mock: MockProvider) -> None:
    def ask(**changes: Any) -> None:
        with contextlib.closing(bedrock(mock)) as client:
            stream = client.converse_stream(**converse() | changes)["stream"]
            with contextlib.closing(stream):
                list(stream)

    with pytest.raises(ClientError, match="model identifier is invalid"):
        await asyncio.to_thread(ask, modelId="no-such-model")
    mock.fail(429)
    with pytest.raises(ClientError, match="ThrottlingException"):
        await asyncio.to_thread(ask)
    mock.next(error_after=2)
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        await asyncio.to_thread(ask)


async def test_bedrock_takes_a_bearer_key_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def talk(mock: MockProvider, key: str) -> Any:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        client = boto3.client(
            "bedrock-runtime", endpoint_url=mock.https_url, region_name="us-east-1", verify=str(mock.ca_file)
        )
        with contextlib.closing(client):
            return client.converse(**converse())

    async with MockProvider(keys=KEYS) as mock:
        assert (await asyncio.to_thread(talk, mock, "bedrock-api-key"))["stopReason"] == "end_turn"
        with pytest.raises(ClientError, match="AccessDenied"):
            await asyncio.to_thread(talk, mock, "another-key")
