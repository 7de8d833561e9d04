"""The judges of Gemini, Bedrock, Ollama and Cohere: answers and requests as their official SDKs read them."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
from outrider_ext.eventstream import EventStreamReader

from support.sdk_judges import Reading, anthropic_answer, anthropic_stream

URL = "http://provider.test"


class _Transport(httpx.BaseTransport):
    def __init__(self) -> None:
        self.body = b""
        self.kind = "application/json"
        self.status = 200
        self.sent: Any = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent = json.loads(request.read() or b"null")
        return httpx.Response(self.status, headers={"content-type": self.kind}, content=self.body)


def _set(transport: _Transport, body: bytes, kind: str = "application/json", status: int = 200) -> None:
    transport.body, transport.kind, transport.status = body, kind, status


_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "BLOCKLIST": "filtered",
    "SPII": "filtered",
    "OTHER": "length",
    "MALFORMED_FUNCTION_CALL": "length",
    "UNEXPECTED_TOOL_CALL": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
    "malformed_model_output": "length",
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "TOOL_CALL": "tool_calls",
    "ERROR": "length",
    "ERROR_TOXIC": "filtered",
    "stop": "stop",
    "length": "length",
}


# -- Gemini


@cache
def gemini() -> Any:
    from google import genai
    from google.genai.types import HttpOptions

    transport = _Transport()
    options = HttpOptions(base_url=URL, httpx_client=httpx.Client(transport=transport))
    return genai.Client(api_key="k", http_options=options), transport


def _gemini(chunks: Any) -> Reading:
    reading = Reading()
    filtered = False
    for chunk in chunks:
        usage = chunk.usage_metadata
        if usage is not None and usage.prompt_token_count is not None:
            made = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            reading.tokens = (usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0), made)
            reading.cached = usage.cached_content_token_count or 0
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            filtered = True
        for candidate in (chunk.candidates or ())[:1]:
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.text and not part.thought:
                    reading.text += part.text
                if part.function_call is not None:
                    reading.calls.append((part.function_call.name, part.function_call.args or {}))
            if candidate.finish_reason is not None:
                reading.finish = _FINISH[candidate.finish_reason.value]
    if reading.finish == "stop" and reading.calls:
        reading.finish = "tool_calls"
    if filtered and reading.finish is None:
        reading.finish = "filtered"
    return reading


def gemini_answer(body: bytes) -> Reading:
    client, transport = gemini()
    _set(transport, body)
    return _gemini([client.models.generate_content(model="gemini-2.5-flash", contents="x")])


def gemini_stream(body: bytes) -> Reading:
    client, transport = gemini()
    _set(transport, body, "text/event-stream")
    return _gemini(client.models.generate_content_stream(model="gemini-2.5-flash", contents="x"))


# -- Bedrock


@cache
def _model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("bedrock-runtime")


def converse_request_problems(body: dict[str, Any], model: str) -> str:
    """What botocore's own validation of the call's parameters says."""
    from botocore.validate import ParamValidator

    shape = _model().operation_model("Converse").input_shape
    report = ParamValidator().validate({key: value for key, value in body.items()} | {"modelId": model}, shape)
    return report.generate_report()  # type: ignore[no-any-return]


def _parsed(body: bytes, operation: str) -> dict[str, Any]:
    from botocore.parsers import create_parser

    response = {"status_code": 200, "headers": {}, "body": body}
    shape = _model().operation_model(operation).output_shape
    return create_parser("rest-json").parse(response, shape)  # type: ignore[no-any-return]


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *args: Any) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        pass


def _events(body: bytes, operation: str, member: str) -> Iterator[dict[str, Any]]:
    from botocore.eventstream import EventStream
    from botocore.parsers import create_parser

    shape = _model().operation_model(operation).output_shape.members[member]
    parser = create_parser("rest-json")._event_stream_parser
    return iter(EventStream(_Raw(body), shape, parser, operation))


def _bedrock_usage(reading: Reading, usage: dict[str, Any]) -> None:
    read, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    reading.tokens = (usage["inputTokens"] + read + written, usage["outputTokens"])
    reading.cached = read


def converse_answer(body: bytes) -> Reading:
    parsed = _parsed(body, "Converse")
    reading = Reading(finish=_FINISH[parsed["stopReason"]])
    for block in parsed["output"]["message"]["content"]:
        reading.text += block.get("text", "")
        reading.text += "".join(one["text"] for one in block.get("citationsContent", {}).get("content", ()))
        if "toolUse" in block:
            reading.calls.append((block["toolUse"]["name"], block["toolUse"]["input"]))
    _bedrock_usage(reading, parsed["usage"])
    return reading


def converse_stream(body: bytes) -> Reading:
    reading = Reading()
    calls: dict[int, list[str]] = {}
    open_block = None
    for event in _events(body, "ConverseStream", "stream"):
        if "contentBlockStart" in event:
            start = event["contentBlockStart"]
            open_block = start["contentBlockIndex"]
            if "toolUse" in start["start"]:
                calls[open_block] = [start["start"]["toolUse"]["name"], ""]
        elif "contentBlockDelta" in event:
            delta, index = event["contentBlockDelta"]["delta"], event["contentBlockDelta"]["contentBlockIndex"]
            reading.text += delta.get("text", "")
            if "toolUse" in delta:
                assert index == open_block, "a piece for a block that is not open"
                calls[index][1] += delta["toolUse"]["input"]
        elif "messageStop" in event:
            reading.finish = _FINISH[event["messageStop"]["stopReason"]]
        elif "metadata" in event:
            _bedrock_usage(reading, event["metadata"]["usage"])
    reading.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
    return reading


def invoke_stream(body: bytes) -> Reading:
    """Claude's: the chunks are Anthropic's own events."""
    events = []
    for event in _events(body, "InvokeModelWithResponseStream", "body"):
        data = event["chunk"]["bytes"]
        events.append(b"event: %s\ndata: %s\n\n" % (json.loads(data)["type"].encode(), data))
    return anthropic_stream(b"".join(events))


# -- Ollama


@cache
def ollama() -> Any:
    import ollama

    transport = _Transport()
    return ollama.Client(host=URL, transport=transport), transport


def _ollama(chunks: Any) -> Reading:
    reading = Reading()
    for chunk in chunks:
        reading.text += chunk.message.content or ""
        for call in chunk.message.tool_calls or ():
            reading.calls.append((call.function.name, dict(call.function.arguments)))
        if chunk.done:
            reading.finish = _FINISH.get(chunk.done_reason or "stop", "stop")
            if chunk.eval_count is not None:
                reading.tokens = (chunk.prompt_eval_count or 0, chunk.eval_count)
    if reading.finish == "stop" and reading.calls:
        reading.finish = "tool_calls"
    return reading


def ollama_answer(body: bytes) -> Reading:
    client, transport = ollama()
    _set(transport, body)
    return _ollama([client.chat(model="m", messages=[])])


def ollama_stream(body: bytes) -> Reading:
    client, transport = ollama()
    _set(transport, body, "application/x-ndjson")
    return _ollama(client.chat(model="m", messages=[], stream=True))


# -- Cohere


@cache
def cohere() -> Any:
    import cohere

    transport = _Transport()
    client = cohere.ClientV2(api_key="k", base_url=URL, httpx_client=httpx.Client(transport=transport))
    return client, transport


def _cohere_usage(reading: Reading, usage: Any) -> None:
    if usage is not None and usage.billed_units is not None:
        reading.tokens = (int(usage.billed_units.input_tokens), int(usage.billed_units.output_tokens))


def cohere_answer(body: bytes) -> Reading:
    client, transport = cohere()
    _set(transport, body)
    done = client.chat(model="m", messages=[])
    reading = Reading(finish=_FINISH[done.finish_reason])
    for part in done.message.content or ():
        reading.text += part.text if part.type == "text" else ""
    for call in done.message.tool_calls or ():
        reading.calls.append((call.function.name, json.loads(call.function.arguments)))
    _cohere_usage(reading, done.usage)
    return reading


def cohere_stream(body: bytes) -> Reading:
    client, transport = cohere()
    _set(transport, body, "text/event-stream")
    reading = Reading()
    calls: dict[int, list[str]] = {}
    for event in client.chat_stream(model="m", messages=[]):
        if event.type in ("content-start", "content-delta"):
            reading.text += event.delta.message.content.text or ""
        elif event.type == "tool-call-start":
            function = event.delta.message.tool_calls.function
            calls[event.index] = [function.name, function.arguments or ""]
        elif event.type == "tool-call-delta":
            calls[event.index][1] += event.delta.message.tool_calls.function.arguments or ""
        elif event.type == "message-end":
            reading.finish = _FINISH[event.delta.finish_reason]
            _cohere_usage(reading, event.delta.usage)
    reading.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
    return reading


ANSWERS: dict[str, Callable[[bytes], Reading]] = {
    "gemini.generate": gemini_answer,
    "bedrock.converse": converse_answer,
    "bedrock.invoke": anthropic_answer,
    "ollama.chat": ollama_answer,
    "cohere.chat": cohere_answer,
}
STREAMS: dict[str, Callable[[bytes], Reading]] = {
    "gemini.generate": gemini_stream,
    "bedrock.converse": converse_stream,
    "bedrock.invoke": invoke_stream,
    "ollama.chat": ollama_stream,
    "cohere.chat": cohere_stream,
}
# The calls that the SDK cannot be asked for a cache's part of the input.
NO_CACHE = frozenset({"ollama.chat", "cohere.chat"})


# -- requests


def request_problems(target: str, body: dict[str, Any], model: str) -> str:
    """"" where the target's SDK takes the body as its own."""
    try:
        return _REQUESTS[target](body, model) or ""
    except Exception as exc:
        return f"{type(exc).__name__}: {str(exc)[:300]}"


def _of_gemini(body: dict[str, Any], model: str) -> None:
    """The SDK's models, with no field beyond theirs."""
    from google.genai import types
    from google.genai._common import BaseModel as _Base  # noqa: F401

    for content in body["contents"]:
        types.Content.model_validate(content)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    types.GenerateContentConfig.model_validate(body.get("generationConfig", {}))
    unknown = body.keys() - {
        "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "labels",
        "cachedContent", "serviceTier", "store",
    }  # fmt: skip
    assert not unknown, unknown


def _of_ollama(body: dict[str, Any], model: str) -> None:
    from ollama._types import ChatRequest, Options

    ChatRequest.model_validate(body)
    unknown = body.keys() - ChatRequest.model_fields.keys()
    assert not unknown, unknown
    options = body.get("options", {}).keys() - Options.model_fields.keys() - {"min_p"}
    assert not options, options


def _of_cohere(body: dict[str, Any], model: str) -> None:
    """Sent by the SDK from its own types: what arrives is what we wrote."""
    client, transport = cohere()
    _set(transport, b'{"id":"1","finish_reason":"COMPLETE","message":{"role":"assistant","content":[]}}')
    given = {key: value for key, value in body.items() if key != "stream"}
    client.chat(**given)
    sent = {key: value for key, value in transport.sent.items() if key != "stream"}
    assert sent == given, "the SDK sends something else"
    for message in body["messages"]:
        assert set(message) <= {"role", "content", "tool_calls", "tool_plan", "tool_call_id", "citations"}


def _of_converse(body: dict[str, Any], model: str) -> str:
    return converse_request_problems(body, model)


def _of_invoke(body: dict[str, Any], model: str) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    from support.sdk_types import problems

    assert body["anthropic_version"] == "bedrock-2023-05-31"
    inner = {key: value for key, value in body.items() if key not in ("anthropic_version", "anthropic_beta")}
    found = problems(inner | {"model": model}, MessageCreateParamsNonStreaming)
    assert not found, found


_REQUESTS: dict[str, Callable[[dict[str, Any], str], str | None]] = {
    "gemini.generate": _of_gemini,
    "bedrock.converse": _of_converse,
    "bedrock.invoke": _of_invoke,
    "ollama.chat": _of_ollama,
    "cohere.chat": _of_cohere,
}


# -- recordings

_PATH_MODEL = re.compile(r"/models?/([^/:]+(?:%3A\w+|:\d+)?)")
_KINDS = {
    "gemini.generateContent": "gemini.generate",
    "gemini.streamGenerateContent": "gemini.generate",
    "bedrock.converse": "bedrock.converse",
    "bedrock.converse-stream": "bedrock.converse",
    "bedrock.invoke": "bedrock.invoke",
    "bedrock.invoke-stream": "bedrock.invoke",
    "ollama.chat": "ollama.chat",
    "ollama.generate": "ollama.generate",
}


def dialect_of(row: dict[str, Any]) -> str | None:
    """The dialect of a recorded exchange, None for one that none of ours has."""
    if row["kind"] == "cohere.chat":
        return "cohere.chat" if row["path"] == "/v2/chat" else None
    return _KINDS.get(row["kind"])


def model_of(row: dict[str, Any]) -> str | None:
    from urllib.parse import unquote

    found = re.search(r"/models?/(.+?)(?::(?:stream)?[gG]enerate|/converse|/invoke)", row["path"])
    return unquote(found[1]) if found else None


def answer_of(row: dict[str, Any]) -> bytes:
    if row.get("resp_b64"):
        return b64decode(row["resp_b64"])
    return (row.get("resp") or "").encode()


def messages(body: bytes) -> list[Any]:
    return EventStreamReader().receive_data(body)
