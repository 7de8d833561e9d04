"""The mock's Cohere, read by Cohere's own SDK; and JSON of a schema, which every mock gives when it is asked for."""

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import openai
import pytest

from outrider.mock import MockProvider

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProvider]:
    with MockProvider(keys={"cohere": "co-right"}, tls=False) as provider:
        yield provider


@pytest.fixture
def client(mock: MockProvider) -> Iterator[cohere.ClientV2]:
    with httpx.Client() as http:
        yield cohere.ClientV2(
            "co-right", base_url=mock.http_url, httpx_client=http, log_warning_experimental_features=False
        )


def asked(text: str = "hi there") -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_chat_and_its_stream_say_the_same(client: cohere.ClientV2) -> None:
    plain = client.chat(model="command-a-03-2025", messages=asked())
    assert plain.message.content is not None
    assert plain.message.content[0].text == "Echo: hi there"  # type: ignore[union-attr]
    assert plain.finish_reason == "COMPLETE"
    events = list(client.chat_stream(model="command-a-03-2025", messages=asked()))
    text = "".join(event.delta.message.content.text for event in events if event.type == "content-delta")  # type: ignore[union-attr]
    assert text == "Echo: hi there"
    assert events[0].type == "message-start"
    assert events[-1].type == "message-end"
    assert events[-1].delta.usage.tokens.output_tokens == plain.usage.tokens.output_tokens == 3  # type: ignore[union-attr]


def test_tools_come_whole_and_in_pieces(client: cohere.ClientV2) -> None:
    plain = client.chat(model="command-a-03-2025", messages=asked("weather for Ada"), tools=[TOOL])
    assert plain.finish_reason == "TOOL_CALL"
    assert plain.message.tool_calls is not None
    whole = plain.message.tool_calls[0].function.arguments  # type: ignore[union-attr]
    events = client.chat_stream(model="command-a-03-2025", messages=asked("weather for Ada"), tools=[TOOL])
    pieces = [event.delta.message.tool_calls.function.arguments for event in events if event.type == "tool-call-delta"]  # type: ignore[union-attr]
    assert len(pieces) == 2
    assert "".join(pieces) == whole == '{"name":"Ada","age":1}'


def test_json_embeddings_and_rerank(client: cohere.ClientV2) -> None:
    form: Any = {"type": "json_object", "json_schema": SCHEMA}
    made = client.chat(model="command-a-03-2025", messages=asked("I am Ada"), response_format=form)
    assert made.message.content[0].text == '{"name":"Ada","age":1}'  # type: ignore[index, union-attr]
    found = client.embed(
        model="embed-v4.0", texts=["a", "b"], input_type="search_query", embedding_types=["float"], output_dimension=4
    )
    assert [len(vector) for vector in found.embeddings.float_] == [4, 4]  # type: ignore[union-attr]
    ranked = client.rerank(model="rerank-v3.5", query="red fox", documents=["a cat", "the red fox"], top_n=1)
    assert [(row.index, row.relevance_score) for row in ranked.results] == [(1, 1.0)]


def test_a_wrong_key_and_an_unknown_model_raise_the_sdks_own_errors(
    client: cohere.ClientV2, mock: MockProvider
) -> None:
    with httpx.Client() as http:
        wrong = cohere.ClientV2(
            "no", base_url=mock.http_url, httpx_client=http, log_warning_experimental_features=False
        )
        with pytest.raises(cohere.UnauthorizedError, match="invalid api token"):
            wrong.chat(model="command-a-03-2025", messages=asked())
    with pytest.raises(cohere.NotFoundError):
        client.chat(model="unknown-1", messages=asked())


BODIES: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "openai.chat": ("/v1/chat/completions", {"authorization": "Bearer k"}, {
        "model": "m", "messages": asked("I am Ada"),
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}}),
    "openai.responses": ("/v1/responses", {"authorization": "Bearer k"}, {
        "model": "m", "input": "I am Ada", "text": {"format": {"type": "json_schema", "name": "p", "schema": SCHEMA}}}),
    "anthropic": ("/v1/messages", {"x-api-key": "k", "anthropic-version": "2023-06-01"}, {
        "model": "claude-x", "max_tokens": 99, "messages": asked("I am Ada"),
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    "gemini": ("/v1beta/models/gemini-2.5-pro:generateContent", {"x-goog-api-key": "k"}, {
        "contents": [{"parts": [{"text": "I am Ada"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}}),
    "ollama": ("/api/chat", {}, {"model": "m", "stream": False, "messages": asked("I am Ada"), "format": SCHEMA}),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_json_of_a_schema_is_given_by_every_provider(mock: MockProvider, name: str) -> None:
    path, headers, body = BODIES[name]
    answer = httpx.post(mock.http_url + path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert '{\\"name\\":\\"Ada\\",\\"age\\":1}' in answer.text


def test_embeddings_of_gemini(mock: MockProvider) -> None:
    url = mock.http_url + "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    asks = [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    answer = httpx.post(url, json={"requests": asks}, headers={"x-goog-api-key": "k"})
    assert [len(row["values"]) for row in answer.json()["embeddings"]] == [8, 8]


@pytest.mark.parametrize(
    ("host", "path", "key"),
    [
        ("api.cohere.com", "/compatibility/v1", "co-right"),
        ("", "/compatibility/v1", "co-right"),
        ("ollama.com", "/v1", "of-ollama"),
    ],
)
def test_the_api_of_openai_that_stands_beside_its_own_is_read_by_openais_sdk(
    mock: MockProvider, host: str, path: str, key: str
) -> None:
    headers = {"host": host} if host else {}
    with openai.OpenAI(
        base_url=f"{mock.http_url}{path}", api_key=key, default_headers=headers, max_retries=0
    ) as client:
        made = client.chat.completions.create(model="command-a-03-2025", messages=asked("hi there"))
        assert made.choices[0].message.content == "Echo: hi there"
        stream = client.chat.completions.create(model="command-a-03-2025", messages=asked("hi there"), stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Echo: hi there"
        assert len(client.embeddings.create(model="embed-v4.0", input="hi").data) == 1
        mock.fail(429)
        with pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="embed-v4.0", input="hi")


def test_it_refuses_there_in_openais_shape(mock: MockProvider) -> None:
    with (
        openai.OpenAI(base_url=f"{mock.http_url}/compatibility/v1", api_key="co-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="Incorrect API key"),
    ):
        client.embeddings.create(model="embed-v4.0", input="hi")
