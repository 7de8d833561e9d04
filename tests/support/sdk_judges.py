"""Answers as the official SDKs read them, brought to one form that can be compared over dialects.

Each judge takes the bytes of an answer or a stream, gives them to the SDK's own client over a transport that answers
with them, and reads the SDK's objects.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2

from outrider.dialects.registry import dialect

URL = "http://provider.test"


@dataclass
class Reading:
    """calls: (name, parsed arguments). finish: stop, length, tool_calls, filtered. tokens: input, output, or None."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str | None = None
    tokens: tuple[int, int] | None = None
    cached: int = 0


class Transport(httpx2.BaseTransport):
    def __init__(self) -> None:
        self.body = b""
        self.kind = ""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.kind}, content=self.body)


def parsed(arguments: str) -> Any:
    """The object; text that is not JSON is itself (models write such)."""
    try:
        return json.loads(arguments or "{}")
    except json.JSONDecodeError:
        return arguments


@cache
def _openai() -> Any:
    import openai

    transport = Transport()
    client = openai.OpenAI(api_key="k", base_url=URL, http_client=httpx2.Client(transport=transport), max_retries=0)
    return client, transport


@cache
def _anthropic() -> Any:
    import anthropic

    transport = Transport()
    client = anthropic.Anthropic(
        api_key="k", base_url=URL, http_client=httpx2.Client(transport=transport), max_retries=0
    )
    return client, transport


def _set(transport: Transport, body: bytes, stream: bool) -> None:
    transport.body, transport.kind = body, "text/event-stream" if stream else "application/json"


_FINISH = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filtered",
    "insufficient_system_resource": "length",
    "error": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "filtered",
    None: None,
}


# -- OpenAI Chat


def chat_answer(body: bytes) -> Reading:
    client, transport = _openai()
    _set(transport, body, False)
    done = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    choice = done.choices[0]
    message = choice.message
    reading = Reading(finish=_FINISH.get(choice.finish_reason, "stop"))
    _chat_usage(reading, done.usage)
    if message is None:  # Azure, when it filtered the answer
        return reading
    reading.text = _chat_text(message.content) + (message.refusal or "")
    for call in message.tool_calls or ():
        if call.type == "custom":
            reading.calls.append((call.custom.name, call.custom.input))
        else:
            reading.calls.append((call.function.name, parsed(call.function.arguments)))
    if message.function_call is not None:
        reading.calls.append((message.function_call.name, parsed(message.function_call.arguments)))
    return reading


def _chat_text(content: Any) -> str:
    """Mistral's content may be a list."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or ""


def _chat_usage(reading: Reading, usage: Any) -> None:
    """What the SDK says, and what it leaves unread: xAI's reasoning (the total tells), other names for cached."""
    if usage is None:
        return
    made, details = usage.completion_tokens, usage.completion_tokens_details
    reasoning = (details.reasoning_tokens or 0) if details is not None else 0
    if reasoning and usage.total_tokens == usage.prompt_tokens + made + reasoning:
        made += reasoning
    reading.tokens = (usage.prompt_tokens, made)
    more, details = usage.model_extra or {}, usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    if cached is None:
        cached = more.get("cached_tokens", more.get("prompt_cache_hit_tokens"))
    reading.cached = cached or 0


def chat_stream(body: bytes) -> Reading:
    client, transport = _openai()
    _set(transport, body, True)
    reading = Reading()
    calls: dict[Any, list[str]] = {}
    ids: dict[int, str] = {}
    free: set[Any] = set()  # calls that take free text
    for chunk in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True):
        if chunk.usage is not None:
            _chat_usage(reading, chunk.usage)
        for choice in chunk.choices:
            if choice.index:
                continue
            delta = choice.delta
            if delta is not None:
                reading.text += _chat_text(delta.content) + (delta.refusal or "")
                for call in delta.tool_calls or ():
                    index = call.index if call.index is not None else 0
                    if call.id and ids.get(index, call.id) != call.id:  # the same index for another call (Google)
                        index += 1000 * len(calls)
                    ids.setdefault(index, call.id)
                    made = calls.setdefault(index, ["", ""])
                    if call.function is None:  # the SDK's types know no custom tools in streams
                        custom = (call.model_extra or {})["custom"]
                        made[0] = made[0] or custom.get("name", "")
                        made[1] += custom.get("input", "")
                        free.add(index)
                        continue
                    made[0] = made[0] or call.function.name or ""
                    made[1] += call.function.arguments or ""
                if delta.function_call is not None:
                    made = calls.setdefault("function", ["", ""])
                    made[0] += delta.function_call.name or ""
                    made[1] += delta.function_call.arguments or ""
            if choice.finish_reason:
                reading.finish = _FINISH.get(choice.finish_reason, "stop")
    reading.calls = [(name, words if at in free else parsed(words)) for at, (name, words) in calls.items()]
    return reading


# -- OpenAI Completions


def completions_answer(body: bytes) -> Reading:
    client, transport = _openai()
    _set(transport, body, False)
    done = client.completions.create(model="m", prompt="x")
    choice = done.choices[0]
    reading = Reading(_completed(choice), finish=_FINISH.get(choice.finish_reason, "stop"))
    _chat_usage(reading, done.usage)
    return reading


def _completed(choice: Any) -> str:
    """Some servers answer with chat's message."""
    if getattr(choice, "text", None) is not None:
        return str(choice.text)
    message = getattr(choice, "message", None) or getattr(choice, "delta", None) or {}
    return message.get("content") or ""


def completions_stream(body: bytes) -> Reading:
    client, transport = _openai()
    _set(transport, body, True)
    reading = Reading()
    for chunk in client.completions.create(model="m", prompt="x", stream=True):
        if chunk.usage is not None:
            _chat_usage(reading, chunk.usage)
        for choice in chunk.choices:
            if choice.index == 0:
                reading.text += _completed(choice)
                if choice.finish_reason:
                    reading.finish = _FINISH.get(choice.finish_reason, "stop")
    return reading


# -- OpenAI Responses


def _response(response: Any) -> Reading:
    reading = Reading(finish="stop")
    for item in response.output:
        if item.type == "message":
            reading.text += "".join(part.text if part.type == "output_text" else part.refusal for part in item.content)
        elif item.type == "function_call":
            reading.calls.append((item.name, parsed(item.arguments)))
        elif item.type == "custom_tool_call":
            reading.calls.append((item.name, item.input))
    if reading.calls:
        reading.finish = "tool_calls"
    if response.status == "incomplete":
        reading.finish = "filtered" if response.incomplete_details.reason == "content_filter" else "length"
    if response.usage is not None:
        reading.tokens = (response.usage.input_tokens, response.usage.output_tokens)
        reading.cached = response.usage.input_tokens_details.cached_tokens
    return reading


def responses_answer(body: bytes) -> Reading:
    client, transport = _openai()
    _set(transport, body, False)
    return _response(client.responses.create(model="m", input="x"))


def responses_recording(body: bytes) -> Reading:
    """A recording's: its last event, since the SDK's state machine refuses ids that were made alike for publication.

    Of its text, what was said before: some were written by hand, and the two differ.
    """
    client, transport = _openai()
    _set(transport, body, True)
    said: dict[tuple[int, int], str] = {}
    for event in client.responses.create(model="m", input="x", stream=True):
        if event.type == "response.output_text.delta":
            place = (event.output_index, event.content_index)
            said[place] = said.get(place, "") + event.delta
        if event.type == "response.output_text.done":
            place = (event.output_index, event.content_index)
            if event.text.startswith(said.get(place, "")):
                said[place] = event.text
        if event.type in ("response.completed", "response.incomplete"):
            last = event.response
    reading = _response(last)
    reading.text = "".join(said.values()) or reading.text
    return reading


def responses_stream(body: bytes) -> Reading:
    """The SDK's own state machine over the deltas, whose end has to agree with the last event's answer."""
    client, transport = _openai()
    _set(transport, body, True)
    said = ""
    arguments: dict[str, str] = {}
    numbers = []
    last = None
    with client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "error":  # the SDK hands it on
                raise RuntimeError(event.message)
            if event.type in ("response.output_text.delta", "response.refusal.delta"):
                said += event.delta
            elif event.type in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
                arguments[event.item_id] = arguments.get(event.item_id, "") + event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                last = event.response
    reading = _response(last)
    assert said == reading.text
    told = [value for value in map(parsed, arguments.values()) if value]
    assert sorted(map(repr, told)) == sorted(repr(value) for _, value in reading.calls if value)
    assert numbers == list(range(len(numbers)))
    return reading


# -- Anthropic


def _message(message: Any, iterations: Any = None) -> Reading:
    reading = Reading(finish=_FINISH[message.stop_reason])
    for block in message.content:
        if block.type == "text":
            reading.text += block.text
        elif block.type == "tool_use":
            reading.calls.append((block.name, block.input))
    usage = message.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    given, made = (usage.input_tokens or 0) + read + written, usage.output_tokens
    for part in (
        iterations or (usage.model_extra or {}).get("iterations") or ()
    ):  # billed, and in none of the numbers above
        if part["type"] in ("compaction", "advisor_message"):
            cached = part.get("cache_read_input_tokens", 0)
            given += part["input_tokens"] + cached + part.get("cache_creation_input_tokens", 0)
            made += part["output_tokens"]
            read += cached
    reading.tokens, reading.cached = (given, made), read
    return reading


_ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


def anthropic_answer(body: bytes) -> Reading:
    client, transport = _anthropic()
    _set(transport, body, False)
    return _message(client.messages.create(**_ASK))


def anthropic_stream(body: bytes) -> Reading:
    client, transport = _anthropic()
    _set(transport, body, True)
    iterations = None  # the SDK leaves them out of the message that it puts together
    with client.messages.stream(**_ASK) as stream:
        for event in stream:
            if event.type == "message_delta":
                iterations = (event.usage.model_extra or {}).get("iterations")
        return _message(stream.get_final_message(), iterations)


ANSWERS: dict[str, Callable[[bytes], Reading]] = {
    "openai.chat": chat_answer,
    "openai.responses": responses_answer,
    "openai.completions": completions_answer,
    "anthropic.messages": anthropic_answer,
}
STREAMS: dict[str, Callable[[bytes], Reading]] = {
    "openai.chat": chat_stream,
    "openai.responses": responses_stream,
    "openai.completions": completions_stream,
    "anthropic.messages": anthropic_stream,
}
# As they were recorded.
RECORDINGS = STREAMS | {"openai.responses": responses_recording}


@cache
def request_type(name: str) -> Any:
    """The SDK's type of a request's body."""
    if name == "openai.chat":
        from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

        return CompletionCreateParamsStreaming
    if name == "openai.completions":
        from openai.types.completion_create_params import CompletionCreateParamsStreaming as Completion

        return Completion
    if name == "openai.responses":
        from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

        return ResponseCreateParamsStreaming
    if name == "anthropic.messages":
        from anthropic.types.message_create_params import MessageCreateParamsStreaming

        return MessageCreateParamsStreaming
    raise KeyError(name)


def adapter(name: str) -> Any:
    found = dialect(name)
    assert found is not None
    return found
