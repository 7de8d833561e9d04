"""What a provider refuses the emulator refuses, in that provider's own shape: an always-200 mock is a defect."""

import json
from typing import Any

import pytest

from outrider.mock import Behaviour, route
from outrider.mock.frames import frame
from outrider.mock.reply import Call, Stream, Whole
from outrider.mock.server import reply_to

OPENAI: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
CLAUDE: dict[str, Any] = {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
GEMINI: dict[str, Any] = {"contents": [{"parts": [{"text": "hi"}]}]}
OLLAMA: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}
CONVERSE: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
BEARER = {"authorization": "Bearer right"}
AUTH = {
    "api.anthropic.com": {"x-api-key": "right", "anthropic-version": "2023-06-01"},
    "generativelanguage.googleapis.com": {"x-goog-api-key": "right"},
    "me.openai.azure.com": {"api-key": "right"},
}
CHAT, MESSAGES = "api.openai.com/v1/chat/completions", "api.anthropic.com/v1/messages"
GENERATE = "generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
BEDROCK = "bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3/converse"


def ask(url: str, body: Any = None, headers: dict[str, str] | None = None, method: str = "POST", **more: Any) -> Whole:
    host, _, target = url.partition("/")
    path, _, query = f"/{target}".partition("?")
    found = route.find(host, path)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    call = Call(
        provider=found.provider,
        method=method,
        target=f"/{target}",
        path=path,
        operation=found.operation,
        query=dict(pair.split("=", 1) for pair in query.split("&") if pair),
        headers={"host": host, "content-type": "application/json"}
        | (AUTH.get(host, BEARER) if headers is None else headers),
        raw_headers=(),
        body=raw,
        host=host,
        official=found.official,
        now_s=1_760_000_000,
        keys=("right",),
        behaviour=Behaviour(**more),
    )
    reply = reply_to(call)
    assert isinstance(reply, Whole)
    return reply


def error(reply: Whole) -> Any:
    shape = json.loads(reply.body)
    return shape.get("error", shape)


REFUSED = [
    # OpenAI
    (CHAT, OPENAI | {"foo": 1}, 400, "Unrecognized request argument supplied: foo"),
    (CHAT, {"model": "gpt-4o"}, 400, "Missing required parameter: 'messages'"),
    (CHAT, {"messages": OPENAI["messages"]}, 400, "you must provide a model parameter"),
    (CHAT, OPENAI | {"model": "claude-x"}, 404, "does not exist"),
    (CHAT, OPENAI | {"model": "text-embedding-3-small"}, 404, "This is not a chat model"),
    (CHAT, OPENAI | {"messages": []}, 400, "empty array"),
    (CHAT, OPENAI | {"messages": [{"role": "robot", "content": "x"}]}, 400, "Invalid value: 'robot'"),
    (CHAT, OPENAI | {"messages": [{"role": "user"}]}, 400, "expected a string, got null"),
    (CHAT, OPENAI | {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, 400, "preceeding message"),
    (CHAT, OPENAI | {"temperature": 3}, 400, "Invalid 'temperature'"),
    (CHAT, OPENAI | {"n": "2"}, 400, "Invalid type for 'n'"),
    (CHAT, OPENAI | {"stream": "yes"}, 400, "Invalid type for 'stream'"),
    (CHAT, OPENAI | {"stream_options": {"include_usage": True}}, 400, "only allowed when 'stream' is enabled"),
    (CHAT, OPENAI | {"max_tokens": 1, "max_completion_tokens": 1}, 400, "at the same time"),
    (CHAT, OPENAI | {"tool_choice": "auto"}, 400, "only allowed when 'tools' are specified"),
    (CHAT, OPENAI | {"tools": []}, 400, "Invalid 'tools': empty array"),
    (CHAT, OPENAI | {"tools": [{"type": "function"}]}, 400, "tools[0].function"),
    (CHAT, b'{"model": ', 400, "could not parse the JSON body"),
    (CHAT, b"[]", 400, "must be an object"),
    ("api.openai.com/v1/responses", {"model": "gpt-4o", "input": "x", "foo": 1}, 400, "Unknown parameter: 'foo'"),
    ("api.openai.com/v1/responses", {"model": "gpt-4o"}, 400, "Missing required parameter: 'input'"),
    ("api.openai.com/v1/responses", {"model": "gpt-4o", "input": [{"x": 1}]}, 400, "input[0].role"),
    ("api.openai.com/v1/embeddings", {"model": "gpt-4o", "input": "x"}, 403, "not allowed to generate embeddings"),
    ("api.openai.com/v1/embeddings", {"model": "text-embedding-3-small", "input": []}, 400, "'$.input' is invalid"),
    ("api.openai.com/v1/nonsense", OPENAI, 404, "Invalid URL (POST /v1/nonsense)"),
    ("api.openai.com/chat/completions", OPENAI, 404, "Invalid URL"),
    # Azure
    ("me.openai.azure.com/openai/deployments/d/chat/completions", OPENAI, 404, "Resource not found"),
    # Anthropic
    (MESSAGES, CLAUDE | {"n": 1}, 400, "n: Extra inputs are not permitted"),
    (MESSAGES, {"model": "claude-x", "messages": CLAUDE["messages"]}, 400, "max_tokens: Field required"),
    (MESSAGES, CLAUDE | {"max_tokens": 0}, 400, "greater than or equal to 1"),
    (MESSAGES, CLAUDE | {"max_tokens": "5"}, 400, "valid integer"),
    (MESSAGES, CLAUDE | {"messages": []}, 400, "at least one message is required"),
    (MESSAGES, CLAUDE | {"messages": [{"role": "tool", "content": "x"}]}, 400, 'Unexpected role "tool"'),
    (MESSAGES, CLAUDE | {"model": "gpt-4o"}, 404, "model: gpt-4o"),
    (MESSAGES, CLAUDE | {"tools": [{"name": "f"}]}, 400, "tools.0.input_schema: Field required"),
    (MESSAGES, CLAUDE | {"tool_choice": {"type": "auto"}}, 400, "`tool_choice` may only be specified"),
    (MESSAGES, CLAUDE | {"thinking": {"type": "enabled", "budget_tokens": 5}}, 400, "equal to 1024"),
    ("api.anthropic.com/v1/nonsense", CLAUDE, 404, "Not Found"),
    # Gemini
    (GENERATE, GEMINI | {"foo": 1}, 400, 'Unknown name "foo": Cannot find field.'),
    (
        GENERATE,
        GEMINI | {"generationConfig": {"maxTokens": 1}},
        400,
        "Unknown name \"maxTokens\" at 'generation_config'",
    ),
    (GENERATE, {}, 400, "contents is not specified"),
    (GENERATE, {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, 400, "Please use a valid role"),
    (GENERATE.replace("gemini-2", "gpt-2"), GEMINI, 404, "models/gpt-2.5-flash is not found"),
    (GENERATE.replace("generateContent", "dance"), GEMINI, 404, "Requested entity was not found."),
    # Ollama
    ("ollama.com/api/chat", {"messages": []}, 400, "model is required"),
    ("ollama.com/api/chat", OLLAMA | {"model": "nonexistent"}, 404, "model 'nonexistent' not found"),
    ("ollama.com/api/chat", OLLAMA | {"messages": [{"role": "robot"}]}, 400, "invalid role"),
    # Bedrock
    (BEDROCK, {}, 400, "messages is empty"),
    (BEDROCK, CONVERSE | {"model": "x"}, 400, "extraneous key [model]"),
    (BEDROCK, {"messages": [{"role": "user", "content": []}]}, 400, "content field"),
    (BEDROCK, CONVERSE | {"inferenceConfig": {"temperature": 2}}, 400, "temperature"),
    (BEDROCK.replace("anthropic.", ""), CONVERSE, 400, "model identifier is invalid"),
    (BEDROCK.replace("converse", "invoke"), CLAUDE, 400, "anthropic_version"),
    (BEDROCK.replace("converse", "dance"), CONVERSE, 404, "Unknown operation"),
]


@pytest.mark.parametrize(("url", "body", "status", "words"), REFUSED)
def test_a_bad_request_gets_the_providers_status_and_words(url: str, body: Any, status: int, words: str) -> None:
    reply = ask(url, body)
    told = error(reply)
    assert reply.status == status
    assert words in (told if isinstance(told, str) else told["message"])


@pytest.mark.parametrize(
    ("url", "body", "headers", "status", "kind"),
    [
        (CHAT, OPENAI, {}, 401, None),
        (CHAT, OPENAI, {"x-api-key": "right"}, 401, None),
        (CHAT, OPENAI, {"authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        (CHAT, OPENAI, {"authorization": "Basic right"}, 401, None),
        ("api.groq.com/openai/v1/chat/completions", OPENAI, {"api-key": "right"}, 401, None),
        (MESSAGES, CLAUDE, {"anthropic-version": "1"}, 401, "authentication_error"),
        (MESSAGES, CLAUDE, {"x-api-key": "wrong", "anthropic-version": "1"}, 401, "authentication_error"),
        (MESSAGES, CLAUDE, {"x-goog-api-key": "right", "anthropic-version": "1"}, 401, "authentication_error"),
        (MESSAGES, CLAUDE, {"x-api-key": "right"}, 400, "invalid_request_error"),
        (GENERATE, GEMINI, {}, 403, "PERMISSION_DENIED"),
        (GENERATE, GEMINI, {"x-goog-api-key": "wrong"}, 400, "INVALID_ARGUMENT"),
        (GENERATE, GEMINI, {"authorization": "Bearer right"}, 401, "UNAUTHENTICATED"),
        (f"{GENERATE}?key=wrong", GEMINI, {}, 400, "INVALID_ARGUMENT"),
        ("ollama.com/api/chat", OLLAMA, {}, 401, None),
        (BEDROCK, CONVERSE, {}, 403, "MissingAuthenticationTokenException"),
        (BEDROCK, CONVERSE, {"authorization": "Bearer wrong"}, 403, "AccessDeniedException"),
        (BEDROCK, CONVERSE, {"authorization": "AWS4-HMAC-SHA256 nonsense"}, 403, "IncompleteSignatureException"),
    ],
)
def test_a_wrong_key_or_slot_gets_the_providers_own_refusal(
    url: str, body: Any, headers: dict[str, str], status: int, kind: str | None
) -> None:
    reply = ask(url, body, headers)
    assert reply.status == status
    told = error(reply)
    named = [reply.headers.get("x-amzn-ErrorType", "").partition(":")[0]]
    named += [told.get(name) for name in ("code", "type", "status")] if isinstance(told, dict) else []
    assert kind is None or kind in named


@pytest.mark.parametrize(
    ("url", "body", "headers"),
    [
        (f"{GENERATE}?key=right", GEMINI, {}),
        (MESSAGES, CLAUDE, {"authorization": "Bearer right", "anthropic-version": "1"}),
        ("me.openai.azure.com/openai/v1/chat/completions", OPENAI, {"authorization": "Bearer right"}),
        ("me.openai.azure.com/openai/v1/chat/completions", OPENAI, {"api-key": "right"}),
        ("api.groq.com/openai/v1/chat/completions", OPENAI | {"model": "llama-3", "own": 1}, None),
        ("api.deepseek.com/chat/completions", OPENAI | {"model": "deepseek-chat"}, None),
        ("openrouter.ai/api/v1/chat/completions", OPENAI | {"model": "x/y"}, None),
        ("llm.internal/v1/chat/completions", OPENAI | {"model": "own-model"}, None),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent",
            GEMINI,
            None,
        ),
        (BEDROCK, CONVERSE, None),
    ],
)
def test_every_right_slot_is_taken(url: str, body: Any, headers: dict[str, str] | None) -> None:
    assert ask(url, body, headers).status == 200


@pytest.mark.parametrize(("url", "body"), [(CHAT, OPENAI), (MESSAGES, CLAUDE), (GENERATE, GEMINI)])
def test_a_wrong_content_type_is_refused(url: str, body: Any) -> None:
    host = url.partition("/")[0]
    assert ask(url, body, AUTH.get(host, BEARER) | {"content-type": "text/plain"}).status == 400


def test_anthropic_refusals_carry_the_request_id_in_head_and_body() -> None:
    reply = ask(MESSAGES, {})
    assert json.loads(reply.body)["request_id"] == reply.headers["request-id"]
    assert json.loads(reply.body)["type"] == "error"


@pytest.mark.parametrize("url", [CHAT, MESSAGES, GENERATE, BEDROCK, "localhost:9900/api/chat"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 429, 500, 503, 529])
def test_every_status_can_be_asked_for_in_every_shape(url: str, status: int) -> None:
    reply = ask(url, OPENAI, status=status)
    assert reply.status == status
    assert error(reply)


def test_a_failed_array_stream_is_still_json() -> None:
    host, _, path = GENERATE.replace(":generateContent", ":streamGenerateContent").partition("/")
    call = Call(
        provider="gemini",
        method="POST",
        target=f"/{path}",
        path=f"/{path}",
        operation=f"/{path}",
        query={},
        headers={"x-goog-api-key": "right"},
        raw_headers=(),
        body=json.dumps(GEMINI).encode(),
        host=host,
        official=True,
        now_s=0,
    )
    stream = reply_to(call)
    assert isinstance(stream, Stream)
    events = list(stream.events)
    assert [chunk["usageMetadata"]["totalTokenCount"] for chunk in json.loads(b"".join(events))] == [3, 4]
    assert json.loads(stream.error_event(0))[0]["error"]["status"] == "UNAVAILABLE"
    assert len(json.loads(events[0] + stream.error_event(1))) == 2


def test_an_event_stream_frame_is_what_botocore_reads() -> None:
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(frame({":event-type": "chunk", "näme": "välue"}, b"payload"))
    (event,) = list(buffer)
    assert event.headers == {":event-type": "chunk", "näme": "välue"}
    assert event.payload == b"payload"
