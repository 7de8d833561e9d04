"""Our errors, judged by the SDKs that will read them."""

import asyncio
import json
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import boto3
import httpx
import httpx2
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.errors import error_answer, stream_error
from outrider.errors import SidecarError
from outrider.providers import BUILT_IN
from outrider_ext.eventstream import EventStreamReader
from outrider_ext.sse import SseReader

DIALECTS = ("openai", "anthropic", "google", "aws", "cohere", "ollama", "replicate")
STATUSES = (400, 401, 403, 404, 408, 409, 413, 421, 422, 424, 429, 499, 500, 501, 502, 503, 504, 529)
SENTENCE = 'The limit "team-rpm" is reached; try again later.'


def fields(head: bytes) -> dict[str, str]:
    return dict(BytesParser().parsebytes(head + b"\r\n").items())


def answer(
    dialect: str, status: int, wait_ms: int | None = None, retry: bool | None = False
) -> tuple[dict[str, str], Any]:
    head, body = error_answer(dialect, status, "rate_limited", SENTENCE, wait_ms, retry)
    assert head.endswith(b"\r\n")
    assert int(fields(head)["content-length"]) == len(body)
    return fields(head), json.loads(body)


# -- by shape


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_dialect_says_the_sentence_and_the_code(dialect, status):
    headers, body = answer(dialect, status)
    assert headers["x-outrider-error"] == "rate_limited"
    assert headers["content-type"] == "application/json"
    assert headers["x-should-retry"] == "false"
    assert SENTENCE in json.dumps(body).replace('\\"', '"')


def test_the_shapes_are_the_providers_own():
    assert answer("openai", 429)[1] == {
        "error": {"message": SENTENCE, "type": "rate_limit_error", "param": None, "code": "rate_limited"}
    }
    body = answer("anthropic", 429)[1]
    assert (body["type"], body["error"]["type"], body["error"]["message"]) == ("error", "rate_limit_error", SENTENCE)
    assert "request_id" in body
    error = answer("google", 429, wait_ms=1500)[1]["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"} in error["details"]
    headers, body = answer("aws", 429)
    assert headers["x-amzn-errortype"] == "ThrottlingException"
    assert body == {"message": SENTENCE}
    assert answer("cohere", 429)[1] == {"message": SENTENCE}
    assert answer("ollama", 429)[1] == {"error": SENTENCE}
    problem = answer("replicate", 429)[1]
    assert (problem["detail"], problem["status"]) == (SENTENCE, 429)


def test_a_wait_is_told_in_seconds_rounded_up_and_in_milliseconds():
    for wait_ms, seconds in ((0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (-5, "0")):
        headers, _ = answer("openai", 429, wait_ms=wait_ms)
        assert (headers["retry-after"], headers["retry-after-ms"]) == (seconds, str(max(0, wait_ms)))
    assert "retry-after" not in answer("openai", 429)[0]
    assert "x-should-retry" not in answer("openai", 502, retry=None)[0]


def test_an_operations_dialect_is_as_good_as_a_providers():
    assert answer("anthropic.messages", 403)[1]["type"] == "error"
    assert answer("gemini.generate", 403)[1]["error"]["status"] == "PERMISSION_DENIED"
    assert "x-amzn-errortype" in answer("bedrock.converse", 403)[0]
    assert "error" in answer("never.heard", 403)[1]


def test_every_providers_dialect_has_a_shape_of_its_own():
    assert {provider.error_dialect for provider in BUILT_IN.values()} == set(DIALECTS)


@given(code=st.text(max_size=40), message=st.text(max_size=200))
def test_nothing_in_a_code_or_a_sentence_can_split_the_head(code, message):
    safe = message.encode("utf-8", "replace").decode()
    for dialect in DIALECTS:
        head, body = error_answer(dialect, 502, code.encode("utf-8", "replace").decode(), safe, 5, True)
        assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == len(fields(head))
        told = json.loads(body)
        assert safe in told.get("message", told.get("detail", "")) or told["error"]


# -- by SDK


def transport(dialect: str, status: int) -> Any:
    head, body = error_answer(dialect, status, "rate_limited", SENTENCE, None, False)

    def handle(request: Any) -> Any:
        return httpx2.Response(status, headers=fields(head), content=body)

    return httpx2.MockTransport(handle)


OPENAI_RAISES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}


@pytest.mark.parametrize("status", OPENAI_RAISES)
def test_the_openai_sdk_raises_its_normal_exception(status):
    with httpx2.Client(transport=transport("openai", status)) as http:
        client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
        with pytest.raises(OPENAI_RAISES[status]) as caught:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert type(caught.value) is OPENAI_RAISES[status]
    assert caught.value.code == "rate_limited"
    assert SENTENCE in str(caught.value)


ANTHROPIC_RAISES = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    502: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
    504: anthropic.InternalServerError,
    529: anthropic.InternalServerError,
}


@pytest.mark.parametrize("status", ANTHROPIC_RAISES)
def test_the_anthropic_sdk_raises_its_normal_exception(status):
    with httpx2.Client(transport=transport("anthropic", status)) as http:
        client = anthropic.Anthropic(api_key="k", http_client=http, max_retries=0)
        with pytest.raises(ANTHROPIC_RAISES[status]) as caught:
            client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    assert caught.value.status_code == status
    assert SENTENCE.replace('"', "") in str(caught.value).replace('"', "")


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_sdk_that_is_told_not_to_retry_asks_once(sdk):
    head, body = error_answer(sdk, 429, "rate_limited", SENTENCE, 10, False)
    asked = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return httpx2.Response(429, headers=fields(head), content=body)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http:
        if sdk == "openai":
            with pytest.raises(openai.RateLimitError):
                openai.OpenAI(api_key="k", http_client=http).models.list()
        else:
            with pytest.raises(anthropic.RateLimitError):
                anthropic.Anthropic(api_key="k", http_client=http).models.list()
    assert len(asked) == 1


class Answers(BaseHTTPRequestHandler):
    """Gives every request the answer that the server holds."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, head, body = self.server.answer  # type: ignore[attr-defined]
        self.server.asked += 1  # type: ignore[attr-defined]
        self.wfile.write(b"HTTP/1.1 %d Error\r\n%s\r\n%s" % (status, head, body))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        server.asked = 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


GOOGLE_RAISES = {400: google_errors.ClientError, 429: google_errors.ClientError, 502: google_errors.ServerError}


@pytest.mark.parametrize("status", GOOGLE_RAISES)
def test_the_google_sdk_raises_its_normal_exception(server, status):
    head, body = error_answer("google", status, "rate_limited", SENTENCE, 1500, False)
    server.answer = status, head + b"connection: close\r\n", body
    options = google_types.HttpOptions(base_url=server.url)
    with genai.Client(api_key="k", http_options=options) as client, pytest.raises(GOOGLE_RAISES[status]) as caught:
        client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    assert caught.value.code == status
    assert caught.value.message == SENTENCE
    assert caught.value.status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE")


BOTO_CODES = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    502: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ServiceUnavailableException",
}


def bedrock(url: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="x" * 40,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize("status", BOTO_CODES)
def test_boto3_raises_its_normal_exception(server, status):
    head, body = error_answer("aws", status, "rate_limited", SENTENCE, None, False)
    server.answer = status, head + b"connection: close\r\n", body
    client = bedrock(server.url)
    with pytest.raises(ClientError) as caught:
        client.converse(modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}])
    assert caught.value.response["Error"] == {"Code": BOTO_CODES[status], "Message": SENTENCE}
    modelled = getattr(client.exceptions, BOTO_CODES[status], None)
    assert modelled is None or isinstance(caught.value, modelled)
    client.close()


# -- inside a stream


def sse_of(text: bytes) -> tuple[bytes, Any]:
    (event,) = SseReader().receive_data(text)
    return event.name, json.loads(event.data)


def test_an_openai_stream_ends_with_the_error_that_its_sdk_raises():
    head = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
    body = head + stream_error("openai.chat", "sse", "upstream_broken", SENTENCE)

    def handle(request: Any) -> Any:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http:
        client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
        with client.chat.completions.create(model="m", messages=[], stream=True) as stream:
            assert next(stream).id == "1"
            with pytest.raises(openai.APIError, match="team-rpm"):
                next(stream)


def test_an_anthropic_stream_ends_with_the_error_that_its_sdk_raises():
    body = stream_error("anthropic.messages", "sse", "upstream_broken", SENTENCE)

    def handle(request: Any) -> Any:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as http:
            client = anthropic.AsyncAnthropic(api_key="k", http_client=http, max_retries=0)
            stream = await client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
            async with stream:
                with pytest.raises(anthropic.APIStatusError, match="team-rpm"):
                    await anext(aiter(stream))

    asyncio.run(run())


def test_a_responses_stream_ends_with_an_error_event():
    name, data = sse_of(stream_error("openai.responses", "sse", "upstream_broken", SENTENCE))
    assert name == b"error"
    assert (data["type"], data["code"], data["message"]) == ("error", "upstream_broken", SENTENCE)


def test_the_other_framings_hold_the_dialects_own_error():
    assert sse_of(stream_error("google", "sse", "c", SENTENCE))[1]["error"]["message"] == SENTENCE
    array = b'[{"candidates": []}\r\n' + stream_error("gemini.generate", "json-array", "c", SENTENCE)
    assert json.loads(array)[1]["error"]["status"] == "UNAVAILABLE"
    assert json.loads(stream_error("ollama", "ndjson", "c", SENTENCE)) == {"error": SENTENCE}
    assert json.loads(stream_error("cohere.chat_v1", "ndjson", "c", SENTENCE))["finish_reason"] == "ERROR"
    assert sse_of(stream_error("cohere.chat", "sse", "c", SENTENCE))[1]["delta"]["error"] == SENTENCE


def test_a_bedrock_stream_ends_with_the_exception_that_boto3_raises(server):
    frame = stream_error("bedrock.converse", "eventstream", "c", SENTENCE)
    (message,) = EventStreamReader().receive_data(frame)
    assert message.headers[":message-type"] == "exception"
    head = b"content-type: application/vnd.amazon.eventstream\r\ncontent-length: %d\r\nconnection: close\r\n" % len(
        frame
    )
    server.answer = 200, head, frame
    client = bedrock(server.url)
    stream = client.converse_stream(modelId="m", messages=[{"role": "user", "content": [{"text": "hi"}]}])["stream"]
    with pytest.raises(EventStreamError, match="team-rpm"):
        next(iter(stream))
    stream.close()
    client.close()


def test_every_error_of_ours_can_be_said_in_every_dialect():
    for code, kind in SidecarError.by_code.items():
        for dialect in DIALECTS:
            head, body = error_answer(dialect, kind.status, code, "A sentence.", None, kind.should_retry)
            assert httpx.Response(kind.status, headers=fields(head), content=body).json()
