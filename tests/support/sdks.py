"""The official SDKs, unmodified, each brought to the same six questions and the same shape of answer.

A client is made for a base URL; what it is asked and what it says are in no provider's words, so that one table of
expectations holds for every client and every provider behind it. All are synchronous: run them in a thread.
"""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import anthropic
import boto3
import cohere
import httpx
import ollama
import openai
from botocore.config import Config
from botocore.exceptions import ClientError
from cohere.core.api_error import ApiError as CohereError
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOLS = ("get_weather", "get_time")
TOOL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
# The smallest PNG: one transparent pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@dataclass
class Said:
    """finish: stop, length or tool_calls. tools: (name, parsed arguments). events: how many a stream had, 0 without."""

    text: str
    finish: str
    input_tokens: int
    output_tokens: int
    tools: list[tuple[str, Any]] = field(default_factory=list)
    events: int = 0


class Client(Protocol):
    def plain(self, model: str, text: str) -> Said: ...
    def stream(self, model: str, text: str) -> Said: ...
    def tools(self, model: str, text: str) -> Said: ...
    def image(self, model: str, text: str) -> Said: ...
    def structured(self, model: str, text: str) -> Said: ...


FINISHES = {
    "stop": "stop", "completed": "stop", "end_turn": "stop", "STOP": "stop", "COMPLETE": "stop",
    "length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "max_output_tokens": "length",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "TOOL_CALL": "tool_calls",
}  # fmt: skip


class OpenAIChat:
    """`openai`, chat.completions."""

    def __init__(self, url: str, key: str) -> None:
        self._sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    def close(self) -> None:
        self._sdk.close()

    def _create(self, model: str, content: Any, **more: Any) -> Said:
        made = self._sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **more)
        choice, usage = made.choices[0], made.usage
        assert usage is not None
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()]
        said = Said(choice.message.content or "", choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)
        said.tools = calls
        return said

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, text)

    def stream(self, model: str, text: str) -> Said:
        chunks = self._sdk.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            stream=True,
            stream_options={"include_usage": True},
        )
        said = Said("", "", -1, -1)
        for chunk in chunks:
            for choice in chunk.choices:
                said.events += bool(choice.delta.content)
                said.text += choice.delta.content or ""
                said.finish = choice.finish_reason or said.finish
            if chunk.usage is not None:
                said.input_tokens, said.output_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        return said

    def tools(self, model: str, text: str) -> Said:
        functions = [{"name": name, "description": name, "parameters": TOOL_SCHEMA} for name in TOOLS]
        return self._create(model, text, tools=[{"type": "function", "function": one} for one in functions])

    def image(self, model: str, text: str) -> Said:
        url = {"url": f"data:image/png;base64,{PIXEL}"}
        return self._create(model, [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}])

    def structured(self, model: str, text: str) -> Said:
        form = {"name": "person", "schema": SCHEMA, "strict": True}
        return self._create(model, text, response_format={"type": "json_schema", "json_schema": form})


class OpenAIResponses:
    """`openai`, responses."""

    def __init__(self, url: str, key: str) -> None:
        self._sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    def close(self) -> None:
        self._sdk.close()

    @staticmethod
    def _said(made: Any) -> Said:
        calls = [(item.name, json.loads(item.arguments)) for item in made.output if item.type == "function_call"]
        finish = "tool_calls" if calls else made.status
        if made.incomplete_details is not None:
            finish = made.incomplete_details.reason
        assert made.usage is not None
        return Said(made.output_text, finish, made.usage.input_tokens, made.usage.output_tokens, calls)

    def plain(self, model: str, text: str) -> Said:
        return self._said(self._sdk.responses.create(model=model, input=text, store=False))

    def stream(self, model: str, text: str) -> Said:
        deltas = ""
        with self._sdk.responses.stream(model=model, input=text, store=False) as stream:
            events = 0
            for event in stream:
                if event.type == "response.output_text.delta":
                    deltas += event.delta
                    events += 1
            said = self._said(stream.get_final_response())
        assert said.text == deltas
        said.events = events
        return said

    def tools(self, model: str, text: str) -> Said:
        tools: Any = [
            {"type": "function", "name": name, "description": name, "parameters": TOOL_SCHEMA, "strict": False}
            for name in TOOLS
        ]
        return self._said(self._sdk.responses.create(model=model, input=text, tools=tools, store=False))

    def image(self, model: str, text: str) -> Said:
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
        given: Any = [{"role": "user", "content": [{"type": "input_text", "text": text}, image]}]
        return self._said(self._sdk.responses.create(model=model, input=given, store=False))

    def structured(self, model: str, text: str) -> Said:
        form: Any = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}}
        return self._said(self._sdk.responses.create(model=model, input=text, text=form, store=False))


class Anthropic:
    """`anthropic`, messages."""

    def __init__(self, url: str, key: str) -> None:
        self._sdk = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)

    def close(self) -> None:
        self._sdk.close()

    @staticmethod
    def _said(made: Any) -> Said:
        text = "".join(block.text for block in made.content if block.type == "text")
        calls = [(block.name, block.input) for block in made.content if block.type == "tool_use"]
        return Said(text, made.stop_reason, made.usage.input_tokens, made.usage.output_tokens, calls)

    def _create(self, model: str, content: Any, **more: Any) -> Said:
        message = {"role": "user", "content": content}
        return self._said(self._sdk.messages.create(model=model, max_tokens=999, messages=[message], **more))

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, text)

    def stream(self, model: str, text: str) -> Said:
        asked: Any = [{"role": "user", "content": text}]
        with self._sdk.messages.stream(model=model, max_tokens=999, messages=asked) as stream:
            pieces = list(stream.text_stream)
            said = self._said(stream.get_final_message())
        assert "".join(pieces) == said.text
        said.events = len(pieces)
        return said

    def tools(self, model: str, text: str) -> Said:
        tools = [{"name": name, "description": name, "input_schema": TOOL_SCHEMA} for name in TOOLS]
        return self._create(model, text, tools=tools)

    def image(self, model: str, text: str) -> Said:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        return self._create(model, [{"type": "image", "source": source}, {"type": "text", "text": text}])

    def structured(self, model: str, text: str) -> Said:
        return self._create(model, text, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})


class Gemini:
    """`google-genai`, generate_content."""

    def __init__(self, url: str, key: str) -> None:
        self._sdk = genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=url))

    def close(self) -> None:
        self._sdk.close()

    @staticmethod
    def _said(made: Any) -> Said:
        candidate, usage = made.candidates[0], made.usage_metadata
        parts = candidate.content.parts or []
        calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
        finish = "tool_calls" if calls else candidate.finish_reason.value
        text = "".join(part.text or "" for part in parts if not part.thought)
        return Said(text, finish, usage.prompt_token_count, usage.candidates_token_count, calls)

    def _create(self, model: str, contents: Any, **config: Any) -> Said:
        settings = genai_types.GenerateContentConfig(**config) if config else None
        return self._said(self._sdk.models.generate_content(model=model, contents=contents, config=settings))

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, text)

    def stream(self, model: str, text: str) -> Said:
        said = Said("", "", -1, -1)
        for chunk in self._sdk.models.generate_content_stream(model=model, contents=text):
            for candidate in chunk.candidates or ():
                for part in (candidate.content.parts if candidate.content is not None else None) or ():
                    said.text += part.text or ""
                    said.events += bool(part.text)
                if candidate.finish_reason is not None:
                    said.finish = candidate.finish_reason.value
            if chunk.usage_metadata is not None and chunk.usage_metadata.candidates_token_count is not None:
                said.input_tokens = chunk.usage_metadata.prompt_token_count or 0
                said.output_tokens = chunk.usage_metadata.candidates_token_count
        return said

    def tools(self, model: str, text: str) -> Said:
        functions = [
            genai_types.FunctionDeclaration(name=name, description=name, parameters_json_schema=TOOL_SCHEMA)
            for name in TOOLS
        ]
        return self._create(
            model,
            text,
            tools=[genai_types.Tool(function_declarations=functions)],
            automatic_function_calling=genai_types.AutomaticFunctionCallingConfig(disable=True),
        )

    def image(self, model: str, text: str) -> Said:
        pixel = genai_types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
        return self._create(model, [pixel, text])

    def structured(self, model: str, text: str) -> Said:
        return self._create(model, text, response_mime_type="application/json", response_json_schema=SCHEMA)


class BedrockConverse:
    """`boto3`, converse."""

    def __init__(self, url: str, key: str) -> None:
        access, _, secret = key.partition(":")
        self._sdk = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id=access,
            aws_secret_access_key=secret or "x" * 40,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def close(self) -> None:
        self._sdk.close()

    def _create(self, model: str, blocks: Any, **more: Any) -> Said:
        made = self._sdk.converse(modelId=model, messages=[{"role": "user", "content": blocks}], **more)
        content, usage = made["output"]["message"]["content"], made["usage"]
        text = "".join(block.get("text", "") for block in content)
        calls = [(block["toolUse"]["name"], block["toolUse"]["input"]) for block in content if "toolUse" in block]
        return Said(text, made["stopReason"], usage["inputTokens"], usage["outputTokens"], calls)

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, [{"text": text}])

    def stream(self, model: str, text: str) -> Said:
        asked: Any = [{"role": "user", "content": [{"text": text}]}]
        made = self._sdk.converse_stream(modelId=model, messages=asked)
        said = Said("", "", -1, -1)
        for event in made["stream"]:
            if "contentBlockDelta" in event:
                said.text += event["contentBlockDelta"]["delta"].get("text", "")
                said.events += 1
            elif "messageStop" in event:
                said.finish = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                usage = event["metadata"]["usage"]
                said.input_tokens, said.output_tokens = usage["inputTokens"], usage["outputTokens"]
        return said

    def tools(self, model: str, text: str) -> Said:
        specs = [{"name": name, "description": name, "inputSchema": {"json": TOOL_SCHEMA}} for name in TOOLS]
        return self._create(model, [{"text": text}], toolConfig={"tools": [{"toolSpec": spec} for spec in specs]})

    def image(self, model: str, text: str) -> Said:
        image = {"format": "png", "source": {"bytes": base64.b64decode(PIXEL)}}
        return self._create(model, [{"image": image}, {"text": text}])

    def structured(self, model: str, text: str) -> Said:
        form = {"jsonSchema": {"schema": json.dumps(SCHEMA), "name": "person"}}
        return self._create(
            model, [{"text": text}], outputConfig={"textFormat": {"type": "json_schema", "structure": form}}
        )


class Ollama:
    """`ollama`, chat."""

    def __init__(self, url: str, key: str) -> None:
        self._sdk = ollama.Client(host=url, headers={"authorization": f"Bearer {key}"}, trust_env=False)

    def close(self) -> None:
        self._sdk._client.close()

    @staticmethod
    def _said(made: Any) -> Said:
        calls = [(call.function.name, dict(call.function.arguments)) for call in made.message.tool_calls or ()]
        finish = "tool_calls" if calls else made.done_reason
        return Said(made.message.content or "", finish, made.prompt_eval_count, made.eval_count, calls)

    def _create(self, model: str, message: dict[str, Any], **more: Any) -> Said:
        return self._said(self._sdk.chat(model=model, messages=[{"role": "user", **message}], **more))

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, {"content": text})

    def stream(self, model: str, text: str) -> Said:
        said = Said("", "", -1, -1)
        for part in self._sdk.chat(model=model, messages=[{"role": "user", "content": text}], stream=True):
            said.text += part.message.content or ""
            said.events += bool(part.message.content)
            if part.done:
                said.finish = part.done_reason or ""
                said.input_tokens, said.output_tokens = part.prompt_eval_count or 0, part.eval_count or 0
        return said

    def tools(self, model: str, text: str) -> Said:
        functions = [{"name": name, "description": name, "parameters": TOOL_SCHEMA} for name in TOOLS]
        return self._create(
            model, {"content": text}, tools=[{"type": "function", "function": one} for one in functions]
        )

    def image(self, model: str, text: str) -> Said:
        return self._create(model, {"content": text, "images": [PIXEL]})

    def structured(self, model: str, text: str) -> Said:
        return self._create(model, {"content": text}, format=SCHEMA)


class Cohere:
    """`cohere`, chat of API v2."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(trust_env=False)
        self._sdk = cohere.ClientV2(key, base_url=url, httpx_client=self._http, log_warning_experimental_features=False)

    def close(self) -> None:
        self._http.close()

    def _create(self, model: str, content: Any, **more: Any) -> Said:
        once: Any = {"max_retries": 0}
        asked: Any = [{"role": "user", "content": content}]
        made: Any = self._sdk.chat(model=model, messages=asked, request_options=once, **more)
        text = "".join(part.text for part in made.message.content or () if part.type == "text")
        calls = [(one.function.name, json.loads(one.function.arguments)) for one in made.message.tool_calls or ()]
        tokens = made.usage.tokens
        return Said(text, made.finish_reason, int(tokens.input_tokens), int(tokens.output_tokens), calls)

    def plain(self, model: str, text: str) -> Said:
        return self._create(model, text)

    def stream(self, model: str, text: str) -> Said:
        said = Said("", "", -1, -1)
        events: Any = self._sdk.chat_stream(model=model, messages=[{"role": "user", "content": text}])
        for event in events:
            if event.type == "content-delta":
                said.text += event.delta.message.content.text
                said.events += 1
            elif event.type == "message-end":
                said.finish, tokens = event.delta.finish_reason, event.delta.usage.tokens
                said.input_tokens, said.output_tokens = int(tokens.input_tokens), int(tokens.output_tokens)
        return said

    def tools(self, model: str, text: str) -> Said:
        functions = [{"name": name, "description": name, "parameters": TOOL_SCHEMA} for name in TOOLS]
        return self._create(model, text, tools=[{"type": "function", "function": one} for one in functions])

    def image(self, model: str, text: str) -> Said:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        return self._create(model, [{"type": "text", "text": text}, image])

    def structured(self, model: str, text: str) -> Said:
        return self._create(model, text, response_format={"type": "json_object", "json_schema": SCHEMA})


@dataclass(frozen=True)
class Sdk:
    """provider: whose dialect it speaks. model: one that this provider has. status_of(exc) -> the HTTP status."""

    make: Callable[[str, str], Any]
    provider: str
    model: str
    raises: tuple[type[Exception], ...]
    status_of: Callable[[Any], int]


SDKS: dict[str, Sdk] = {
    "openai chat": Sdk(OpenAIChat, "openai", "gpt-4o", (openai.APIStatusError,), lambda exc: exc.status_code),
    "openai responses": Sdk(OpenAIResponses, "openai", "gpt-4o", (openai.APIStatusError,), lambda exc: exc.status_code),
    "anthropic": Sdk(
        Anthropic, "anthropic", "claude-sonnet-4-6", (anthropic.APIStatusError,), lambda exc: exc.status_code
    ),
    "google-genai": Sdk(Gemini, "gemini", "gemini-2.5-flash", (genai_errors.APIError,), lambda exc: exc.code),
    "boto3 converse": Sdk(
        BedrockConverse,
        "bedrock",
        "anthropic.claude-3-haiku-20240307-v1:0",
        (ClientError,),
        lambda exc: exc.response["ResponseMetadata"]["HTTPStatusCode"],
    ),
    "ollama": Sdk(Ollama, "ollama", "llama3.2", (ollama.ResponseError,), lambda exc: exc.status_code),
    "cohere": Sdk(Cohere, "cohere", "command-a-vision-07-2025", (CohereError,), lambda exc: exc.status_code),
}  # fmt: skip


@contextlib.contextmanager
def opened(name: str, url: str, key: str) -> Iterator[Any]:
    client = SDKS[name].make(url, key)
    try:
        yield client
    finally:
        client.close()


def finish_of(said: Said) -> str:
    return FINISHES.get(said.finish, said.finish)
