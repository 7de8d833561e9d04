"""One exchange through the whole product, without the kernel: python -m bench.bench_stack

The first case is the figure that counts: everything on (a credential swapped in for the placeholder, a limit, usage,
metrics, a log line). In each other one layer is off or does something else, so what a layer costs is the difference
between two rows; `bench_relay` has what is left when there is no layer at all. Figures of streams are per event.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bench import samples
from bench.cases import Case, run_alone
from bench.rig import ENVIRON, Stack

NEVER_REACHED = {"key": ["provider"], "requests": "1000000/s", "burst": 1_000_000}
LOCAL = {
    "kind": "openai",
    "hosts": ["llm.bench"],
    "connect_to": "http://127.0.0.1:9",
    "credential": {"env": "BENCH_KEY"},
}
EVERYTHING: Mapping[str, Any] = {
    "providers": {"local": LOCAL},
    "limits": [{"name": "all", **NEVER_REACHED}],
    "telemetry": {"log": "/dev/null"},
}
OURS = b"\r\nauthorization: Bearer " + samples.PROVIDER_KEY + b"\r\n"
PLAIN = (samples.answer(samples.ANSWER),)
EVENTS = b"".join(samples.STREAM)
UNASKED = samples.STREAMED_UNASKED
ASKED = b'{"stream_options":{"include_usage":true},' + UNASKED[1:]
WITHOUT_USAGE = EVENTS.replace(samples.USAGE_EVENT, b"")

type Claim = Callable[[Stack, Any], bool]


def case(name: str, setup: Callable[[], Stack], claim: Claim, per_call: int = 1) -> Case:
    return Case(name, setup, Stack.run, claim, per_call, Stack.close)


def went(credential: bytes, payload: bytes, body: bytes) -> Claim:
    """The provider was sent the credential, no placeholder, and the body; the client got the payload byte for byte."""

    def claim(stack: Stack, result: object) -> bool:
        asked, told = stack.to_provider, stack.to_client
        placeholder = samples.PLACEHOLDER
        return (
            stack.is_kept
            and credential in asked
            and not placeholder.occurs_in(asked)
            and asked.endswith(b"\r\n\r\n" + body)
            and told.startswith(b"HTTP/1.1 200 OK\r\n")
            and b"\r\nx-outrider-request-id: " in told
            and samples.payload_of(told) == payload
        )

    return claim


def plain(name: str, *, target: bytes = b"/local/v1/chat/completions", **changes: Any) -> Case:
    """The everyday exchange with some sections of the configuration changed."""
    reads = (samples.request(samples.CHAT, target),)
    claim = went(OURS, samples.ANSWER, samples.CHAT)
    return case(name, lambda: Stack({**EVERYTHING, **changes}, reads, PLAIN), claim)


def own_key() -> Case:
    """No credential is configured, and the app's own key passes."""
    own = b"Authorization: Bearer sk-own-key\r\n"
    reads = (samples.request(samples.CHAT, auth=own),)
    local = {key: value for key, value in LOCAL.items() if key != "credential"}
    sections = {**EVERYTHING, "providers": {"local": local}}
    claim = went(b"Bearer sk-own-key\r\n", samples.ANSWER, samples.CHAT)
    return case("the app's own key passes", lambda: Stack(sections, reads, PLAIN), claim)


def stream(name: str, body: bytes, payload: bytes, reads: tuple[bytes, ...], sent: bytes, **changes: Any) -> Case:
    """sent: the body that the provider gets."""
    asked = (samples.request(body),)
    claim = went(OURS, payload, sent)
    return case(name, lambda: Stack({**EVERYTHING, **changes}, asked, reads), claim, samples.EVENTS)


# -- what becomes of the credential: (name, provider, its settings, target, the app's auth line, ours, answer)

_PLACEHOLDER = samples.PLACEHOLDER.value.encode()
_SIGNED = (
    b"Authorization: AWS4-HMAC-SHA256 Credential="
    + samples.PLACEHOLDER.aws_access_key_id.encode()
    + b"/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature="
    + b"0" * 64
    + b"\r\n"
)
_ANTHROPIC = samples.compact({"type": "message", "usage": {"input_tokens": 231, "output_tokens": 198}})
_GEMINI = samples.compact({"candidates": [], "usageMetadata": {"promptTokenCount": 231, "candidatesTokenCount": 198}})
_CONVERSE = samples.compact({"output": {}, "usage": {"inputTokens": 231, "outputTokens": 198, "totalTokens": 429}})
_GENERATE = b"/gemini/v1beta/models/gemini-2.5-flash:generateContent"
_KEY = {"credential": {"env": "BENCH_KEY"}}
_AWS = {"credential": {"env": "AWS_ACCESS_KEY_ID"}, "region": "us-east-1"}
_OURS_SIGNED = b"\r\nauthorization: AWS4-HMAC-SHA256 Credential=" + ENVIRON["AWS_ACCESS_KEY_ID"].encode() + b"/"

CREDENTIALS = (
    ("a bearer token", "local", LOCAL, b"/local/v1/chat/completions", samples.ALLOWED, OURS, samples.ANSWER),
    (
        "a header", "anthropic", _KEY, b"/anthropic/v1/messages", b"x-api-key: " + _PLACEHOLDER + b"\r\n",
        b"\r\nx-api-key: " + samples.PROVIDER_KEY + b"\r\n", _ANTHROPIC,
    ),
    (
        "a header, the app's in the query", "gemini", _KEY, _GENERATE + b"?alt=json&key=" + _PLACEHOLDER, b"",
        b"\r\nx-goog-api-key: " + samples.PROVIDER_KEY + b"\r\n", _GEMINI,
    ),
    ("a signature", "bedrock", _AWS, b"/bedrock/model/claude/converse", _SIGNED, _OURS_SIGNED, _CONVERSE),
)  # fmt: skip


def credential(
    name: str, provider: str, settings: Mapping[str, Any], target: bytes, auth: bytes, ours: bytes, payload: bytes
) -> Case:
    sections = {**EVERYTHING, "providers": {provider: {**settings, "connect_to": LOCAL["connect_to"]}}}
    reads = (samples.request(samples.CHAT, target, auth=auth),)
    answer = (samples.answer(payload),)
    claim = went(ours, payload, samples.CHAT)
    return case(f"credential: {name}", lambda: Stack(sections, reads, answer), claim)


def limits(count: int) -> list[dict[str, Any]]:
    return [{"name": f"limit-{number}", **NEVER_REACHED} for number in range(count)]


CASES = (
    plain("everything on"),
    plain("everything on, audit log", telemetry={"log": "/dev/null", "audit": {"path": "audit.jsonl"}}),
    plain("no log line", telemetry={"log": "off"}),
    plain("no limit", limits=[]),
    plain("ten limits", limits=limits(10)),
    plain("no placeholder asked for", providers={"local": {**LOCAL, "require_placeholder": False}}),
    own_key(),
    plain("answer not read (moderations)", target=b"/local/v1/moderations"),
    plain("neither body nor answer read (files)", target=b"/local/v1/files"),
    plain(
        "nothing on",
        target=b"/local/v1/files",
        limits=[],
        telemetry={"log": "off"},
        providers={"local": {**LOCAL, "require_placeholder": False}},
    ),
    *(credential(*row) for row in CREDENTIALS),
    stream("an event of 200, a read each", samples.STREAMED, EVENTS, samples.streamed(), samples.STREAMED),
    stream("an event of 200, 20 a read", samples.STREAMED, EVENTS, samples.streamed(20), samples.STREAMED),
    stream("an event of 200, usage asked for by us", UNASKED, WITHOUT_USAGE, samples.streamed(), ASKED),
    stream(
        "an event of 200, usage never asked for", UNASKED, EVENTS, samples.streamed(), UNASKED,
        usage={"inject_stream_usage": False},
    ),
)  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
