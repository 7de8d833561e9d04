"""Official SDKs, live against the provider emulator, each over every dialect: the translation stands in between.

The emulator checks requests as the providers do, and its journal says what came.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from outrider.dialects.translate import Translation
from outrider.mock import MockProvider
from support.sdk_judges import adapter

CHAT, RESPONSES, ANTHROPIC = "openai.chat", "openai.responses", "anthropic.messages"
NAMES = (CHAT, RESPONSES, ANTHROPIC)
KEYS = {"openai": "sk-right", "anthropic": "sk-ant-right"}
PATHS = {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses", ANTHROPIC: "/v1/messages"}
MODELS = {CHAT: "gpt-4o", RESPONSES: "gpt-4o", ANTHROPIC: "claude-sonnet-4-5"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO = "hello big world"
SAID = "Echo: hello big world"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProvider]:
    with MockProvider(keys=KEYS, tls=False) as provider:
        yield provider


class Between(httpx2.BaseTransport):
    """Takes the SDK's request, translates it, asks the emulator, and translates what comes back as it comes."""

    def __init__(self, client: str, provider: str, mock: MockProvider, more: dict[str, str]) -> None:
        self._names = client, provider
        self._url = f"{mock.http_url}{PATHS[provider]}"
        self._headers = {"authorization": "Bearer sk-right"} if provider != ANTHROPIC else {"x-api-key": "sk-ant-right"}
        self._headers |= {"anthropic-version": "2023-06-01"} if provider == ANTHROPIC else {}
        self._headers |= more
        self._http = httpx2.Client()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        client, provider = self._names
        translation = Translation(adapter(client), adapter(provider))
        written, asked = translation.request(json.loads(request.read()), target_model=MODELS[provider])
        sent = self._http.build_request("POST", self._url, json=written.body, headers=self._headers | written.headers)
        answer = self._http.send(sent, stream=asked.stream)
        if answer.status_code >= 400:
            status, body = translation.error(answer.status_code, answer.read())
            return httpx2.Response(status, headers={"content-type": "application/json"}, content=body)
        if not asked.stream:
            body = translation.answer(answer.read())
            return httpx2.Response(200, headers={"content-type": "application/json"}, content=body)
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, stream=_Streamed(answer, translation)
        )

    def close(self) -> None:
        self._http.close()


class _Streamed(httpx2.SyncByteStream):
    def __init__(self, answer: httpx2.Response, translation: Translation) -> None:
        self._answer = answer
        self._stream = translation.stream()

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.suppress(httpx2.TransportError):  # a connection that was cut: the stream is told of its end
            for piece in self._answer.iter_raw():
                yield self._stream.feed(piece)
        yield self._stream.end()

    def close(self) -> None:
        self._answer.close()


class Asker:
    """One SDK, and how it asks for each of the things. Returns what it read as plain values."""

    def __init__(self, name: str, http: httpx2.Client) -> None:
        self.name = name
        if name == ANTHROPIC:
            self.sdk: Any = anthropic.Anthropic(api_key="k", http_client=http, max_retries=0)
        else:
            self.sdk = openai.OpenAI(api_key="k", http_client=http, max_retries=0)

    def ask(self, content: Any, **more: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        if self.name == CHAT:
            return self.sdk.chat.completions.create(model="m", messages=messages, **more)
        if self.name == RESPONSES:
            return self.sdk.responses.create(model="m", input=messages, **more)
        return self.sdk.messages.create(model="m", max_tokens=100, messages=messages, **more)

    def text(self, answer: Any) -> str:
        if self.name == CHAT:
            return answer.choices[0].message.content or ""
        return (
            answer.output_text
            if self.name == RESPONSES
            else "".join(b.text for b in answer.content if b.type == "text")
        )

    def tokens(self, answer: Any) -> tuple[int, int]:
        usage = answer.usage
        return (
            (usage.prompt_tokens, usage.completion_tokens)
            if self.name == CHAT
            else (usage.input_tokens, usage.output_tokens)
        )

    def calls(self, answer: Any) -> list[tuple[str, Any]]:
        if self.name == CHAT:
            calls = answer.choices[0].message.tool_calls or ()
            return [(call.function.name, json.loads(call.function.arguments)) for call in calls]
        if self.name == RESPONSES:
            return [(one.name, json.loads(one.arguments)) for one in answer.output if one.type == "function_call"]
        return [(block.name, block.input) for block in answer.content if block.type == "tool_use"]

    def streamed(self, content: str) -> str:
        said = ""
        for event in self.ask(content, stream=True):
            if self.name == CHAT:
                said += (event.choices[0].delta.content or "") if event.choices else ""
            elif self.name == RESPONSES:
                said += event.delta if event.type == "response.output_text.delta" else ""
            elif event.type == "content_block_delta":
                said += event.delta.text
        return said

    def tool(self, name: str) -> dict[str, Any]:
        if self.name == ANTHROPIC:
            return {"name": name, "input_schema": SCHEMA}
        if self.name == RESPONSES:
            return {"type": "function", "name": name, "parameters": SCHEMA, "strict": True}
        return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}

    def picture(self) -> list[dict[str, Any]]:
        url = f"data:image/png;base64,{PNG}"
        if self.name == ANTHROPIC:
            source = {"type": "base64", "media_type": "image/png", "data": PNG}
            return [{"type": "image", "source": source}, {"type": "text", "text": HELLO}]
        if self.name == RESPONSES:
            return [{"type": "input_image", "image_url": url, "detail": "auto"}, {"type": "input_text", "text": HELLO}]
        return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": HELLO}]

    def form(self) -> dict[str, Any]:
        if self.name == ANTHROPIC:
            return {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
        if self.name == RESPONSES:
            return {"text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}}


@pytest.fixture(params=[(client, provider) for client in NAMES for provider in NAMES], ids=" over ".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def asker(pair: tuple[str, str], mock: MockProvider, request: pytest.FixtureRequest) -> Iterator[Asker]:
    wrong = {"test_an_error": {"x-mock-status": "429"}, "test_a_stream_that_is_cut": {"x-mock-cut-after": "2"}}
    more = next((fields for name, fields in wrong.items() if request.node.originalname.startswith(name)), {})
    with httpx2.Client(transport=Between(*pair, mock, more)) as http:
        yield Asker(pair[0], http)


def arrived(mock: MockProvider) -> Any:
    return json.loads(mock.journal[-1].body)


def test_a_plain_answer(asker: Asker) -> None:
    answer = asker.ask(HELLO)
    assert asker.text(answer) == SAID
    assert all(number > 0 for number in asker.tokens(answer))


def test_a_stream(asker: Asker) -> None:
    assert asker.streamed(HELLO) == SAID


def test_tools(asker: Asker) -> None:
    answer = asker.ask("get_weather and get_time in Paris?", tools=[asker.tool("get_weather"), asker.tool("get_time")])
    assert [name for name, _ in asker.calls(answer)] == ["get_weather", "get_time"]
    assert all(type(arguments) is dict and "city" in arguments for _, arguments in asker.calls(answer))


def test_a_picture(asker: Asker, mock: MockProvider) -> None:
    assert asker.text(asker.ask(asker.picture())) == SAID
    assert PNG in json.dumps(arrived(mock))


def test_structured_output(asker: Asker, mock: MockProvider, pair: tuple[str, str]) -> None:
    asker.ask(HELLO, **asker.form())
    body = arrived(mock)
    where = {
        CHAT: lambda: body["response_format"]["json_schema"],
        RESPONSES: lambda: body["text"]["format"],
        ANTHROPIC: lambda: body["output_config"]["format"],
    }
    assert where[pair[1]]()["schema"] == SCHEMA


def test_an_error_raises_the_sdks_own(asker: Asker) -> None:
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        asker.ask(HELLO)


def test_a_stream_that_is_cut_raises_or_says_so(asker: Asker) -> None:
    """Responses' SDK hands its error event on; the two others raise it."""
    if asker.name == RESPONSES:
        last = list(asker.ask(HELLO, stream=True))[-1]
        assert (last.type, last.code) == ("error", "stream_cut")
        return
    with pytest.raises((openai.APIError, anthropic.APIStatusError), match="ended before it was complete"):
        asker.streamed(HELLO)
