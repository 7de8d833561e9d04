"""What an answer of our own costs: its text, and the whole refused exchange: python -m bench.bench_errors

The text is a row a dialect; a refused exchange is one with everything on (`bench_stack`) that asks no provider.
"""

import json

from bench import samples
from bench.bench_stack import EVERYTHING, case
from bench.cases import Case, run_alone
from bench.rig import Stack
from outrider.dialects.errors import error_answer, stream_error
from outrider.errors import RateLimitedError
from outrider.lanes.answers import error_message
from outrider_ext.eventstream import EventStreamReader

DIALECTS = ("openai", "anthropic", "google", "aws", "cohere", "ollama")
SENTENCE = "limit all of the sidecar is reached for local; try again in 0.5 s"
CODE = "rate_limited"
REACHED = {"limits": [{"name": "all", "key": ["provider"], "requests": "1/h", "burst": 1}]}


def text(dialect: str) -> Case:
    def claim(_: object, result: tuple[bytes, bytes]) -> bool:
        lines, body = result
        is_json = SENTENCE in json.dumps(json.loads(body))
        return is_json and b"content-length: %d\r\n" % len(body) in lines and b"retry-after-ms: 500\r\n" in lines

    return Case(
        f"{dialect}: text", lambda: None, lambda _: error_answer(dialect, 429, CODE, SENTENCE, 500, True), claim
    )


def in_stream(dialect: str, framing: str) -> Case:
    def claim(_: object, sent: bytes) -> bool:
        if framing == "eventstream":
            sent = EventStreamReader().receive_data(sent)[0].payload
        return SENTENCE.encode() in sent

    return Case(
        f"{dialect}: inside a stream ({framing})",
        lambda: None,
        lambda _: stream_error(dialect, framing, "upstream_broken", SENTENCE),
        claim,
    )


def refused(name: str, status: int, code: bytes, request: bytes, **changes: object) -> Case:
    def claim(stack: Stack, result: object) -> bool:
        told = stack.to_client
        return (
            stack.is_kept
            and stack.to_provider == b""
            and told.startswith(b"HTTP/1.1 %d " % status)
            and b"\r\nx-outrider-error: %b\r\n" % code in told
            and samples.payload_of(told).startswith(b"{")
        )

    return case(f"refused: {name}", lambda: Stack({**EVERYTHING, **changes}, (request,), ()), claim)


CASES = (
    *(text(dialect) for dialect in DIALECTS),
    in_stream("openai", "sse"),
    in_stream("anthropic", "sse"),
    in_stream("gemini", "json-array"),
    in_stream("ollama", "ndjson"),
    in_stream("bedrock", "eventstream"),
    Case(
        "the whole message",
        lambda: RateLimitedError(SENTENCE, 500),
        lambda error: error_message(error, "openai", request_id=b"0" * 20, close=False, decision="all"),
        lambda _, message: message.startswith(b"HTTP/1.1 429 ") and samples.payload_of(message) != b"",
    ),
    refused("a limit is reached", 429, b"rate_limited", samples.request(samples.CHAT), **REACHED),
    refused(
        "no placeholder",
        401,
        b"placeholder_required",
        samples.request(samples.CHAT, auth=b"Authorization: Bearer sk-own-key\r\n"),
    ),
    refused("no such provider", 404, b"not_found", samples.request(samples.CHAT, b"/nobody/v1/chat/completions")),
    refused("another host", 421, b"misdirected", samples.request(samples.CHAT, host=b"evil.example")),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
