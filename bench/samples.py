"""The bytes that micro-benchmarks work on: everyday chat traffic, of the sizes that payload.h has.

A request of 13 fields and 1.4 kB, an answer of 12 fields and 1.4 kB, a stream of 200 events of about 217 bytes.
"""

import json
from typing import Any

from outrider.secrets.placeholder import Placeholder
from outrider_ext.http1 import Body, Head

PROVIDER_KEY = b"sk-proj-" + b"b" * 156
PLACEHOLDER = Placeholder("sk-outrider-" + "Placeholder0123456789" + "a" * 19)
ALLOWED = b"Authorization: Bearer " + PLACEHOLDER.value.encode() + b"\r\n"
OWN_HOST = b"127.0.0.1:8484"
MODEL = "gpt-4o-mini"
WORDS = "the quick brown fox jumps over the lazy dog and then rests for a while "
EVENTS = 200

_SDK_FIELDS = (
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.1.0\r\nX-Stainless-Lang: python\r\n"
    b"X-Stainless-Package-Version: 3.1.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Runtime-Version: 3.13.9\r\n"
    b"X-Stainless-Retry-Count: 0\r\n"
)
_ANSWER_FIELDS = (
    b"Date: Wed, 01 Jan 2025 00:00:00 GMT\r\nConnection: keep-alive\r\nopenai-processing-ms: 312\r\n"
    b"openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
    b"x-request-id: req_0123456789\r\nCF-Cache-Status: DYNAMIC\r\nServer: cloudflare\r\n"
    b'alt-svc: h3=":443"; ma=86400\r\n'
)
_CHUNK = {
    "id": "chatcmpl-Bench0123456789abcdefghij",
    "object": "chat.completion.chunk",
    "created": 1750000000,
    "model": MODEL,
    "system_fingerprint": "fp_0123456789",
}


def compact(value: object) -> bytes:
    """JSON as SDKs and providers write it."""
    return json.dumps(value, separators=(",", ":")).encode()


def prose(letters: int) -> str:
    return (WORDS * (letters // len(WORDS) + 1))[:letters]


# -- requests


def chat(letters: int = 1180, **more: Any) -> bytes:
    """The body of a chat request, of `letters` and some 230 bytes."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": prose(letters)},
    ]
    return compact({"model": MODEL} | more | {"temperature": 0.2, "max_tokens": 256, "messages": messages})


def request(
    body: bytes,
    target: bytes = b"/local/v1/chat/completions",
    *,
    host: bytes = OWN_HOST,
    auth: bytes = ALLOWED,
    method: bytes = b"POST",
) -> bytes:
    """A whole request as an SDK sends it; `auth` is a header line, or nothing."""
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host) + _SDK_FIELDS + auth
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


CHAT = chat()
STREAMED = chat(stream=True, stream_options={"include_usage": True})
STREAMED_UNASKED = chat(stream=True)  # the app did not ask for usage


# -- answers


def usage_of(given: int, made: int) -> dict[str, int]:
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


ANSWER = compact(
    _CHUNK
    | {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": prose(1000)}, "finish_reason": "stop"},
        ],
        "usage": usage_of(231, 198),
    }
)


def answer(body: bytes, kind: bytes = b"application/json") -> bytes:
    """A whole answer with its length."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n" % (kind, len(body))
        + _ANSWER_FIELDS
        + b"\r\n"
        + body
    )


def event(**more: Any) -> bytes:
    return b"data: " + compact(_CHUNK | more) + b"\n\n"


def word(number: int) -> bytes:
    delta = {"content": f" w{number:03}"}
    return event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])


USAGE_EVENT = event(choices=[], usage=usage_of(231, 198))
STREAM = (*(word(number) for number in range(EVENTS - 2)), USAGE_EVENT, b"data: [DONE]\n\n")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    + _ANSWER_FIELDS
    + b"\r\n"
)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def streamed(run: int = 1) -> tuple[bytes, ...]:
    """What is read of a streamed answer: its head, then `run` events at a time, each in a chunk of its own."""
    runs = (STREAM[at : at + run] for at in range(0, EVENTS, run))
    return (STREAM_HEAD, *(b"".join(chunk(event) for event in events) for events in runs), b"0\r\n\r\n")


# -- what came out


def payload_of(message: bytes) -> bytes:
    """The body of one whole answer, unframed; nothing when it is not whole, or more follows."""
    head, body = Head(), Body()
    pos = head.scan_response(message, 0, 65536)
    if pos == 0:
        return b""
    if head.chunked:
        body.begin_chunked()
    else:
        body.begin_length(max(head.content_length, 0))
    payload = b""
    while pos < len(message) and not body.done:
        pos = body.feed(message, pos, len(message))
        payload += message[body.lo : body.hi]
    return payload if body.done and pos == len(message) else b""
