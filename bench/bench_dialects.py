"""What a call costs that is made in one dialect and served in another: python -m bench.bench_dialects

A request of 1.3 kB with two tools, parsed, translated and written as bytes; an answer likewise; one event of a stream.

Numbers on a 2-core virtual machine that others kept busy, Python 3.13: a request 24 to 26 us, an answer of 1.3 kB 7 to
16 us, an event 2.8 to 3.4 us. Targets: 120 us for a request, 15 us for an event.
"""

from collections.abc import Callable
from typing import Any

import orjson

from bench.cases import Case, run_alone
from bench.samples import compact, prose
from outrider.dialects.base import Dialect
from outrider.dialects.registry import dialect
from outrider.dialects.translate import StreamTranslation, Translation

CHAT, RESPONSES, ANTHROPIC = "openai.chat", "openai.responses", "anthropic.messages"
NAMES = (CHAT, RESPONSES, ANTHROPIC)
PROMPT = 430  # letters, for a body of 1.3 kB
MODEL = {CHAT: "gpt-5", RESPONSES: "gpt-5", ANTHROPIC: "claude-sonnet-4-5"}
_WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "A city's name"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city"],
}


def _tool(name: str) -> dict[str, Any]:
    function = {"name": name, "description": "What the weather is like.", "parameters": _WEATHER}
    return {"type": "function", "function": function}


REQUEST = compact(
    {
        "model": "gpt-5",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": prose(PROMPT)},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"city":"Rome"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 24 degrees"},
        ],
        "tools": [_tool("now"), _tool("soon")],
        "tool_choice": "auto",
        "temperature": 0.2,
        "max_tokens": 256,
    }
)
ANSWER = compact(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "gpt-5",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": prose(1000)}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 231, "completion_tokens": 198, "total_tokens": 429},
    }
)
_FRAME = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[%b],"usage":null}\n\n'
)
CHUNK = _FRAME % b'{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}'
EVENTS = 100


def adapter(name: str) -> Dialect:
    found = dialect(name)
    assert found is not None
    return found


def translation(client: str, provider: str) -> Translation:
    made = Translation(adapter(client), adapter(provider))
    made.read(orjson.loads(requested(client)))
    return made


def requested(name: str) -> bytes:
    """The request in that dialect."""
    if name == CHAT:
        return REQUEST
    written, _ = Translation(adapter(CHAT), adapter(name)).request(orjson.loads(REQUEST), target_model=MODEL[name])
    return orjson.dumps(written.body)


def answered(name: str) -> bytes:
    return ANSWER if name == CHAT else translation(name, CHAT).answer(ANSWER)


def streamed(name: str) -> tuple[bytes, bytes]:
    """(the beginning of a stream, one event with a word)."""
    if name == CHAT:
        return CHUNK, CHUNK
    stream = translation(name, CHAT).stream()
    return stream.feed(CHUNK), stream.feed(CHUNK)


def request_case(client: str, provider: str) -> Case:
    ours, theirs = adapter(client), adapter(provider)
    model = MODEL[provider]

    def call(body: bytes) -> bytes:
        written, _ = Translation(ours, theirs).request(orjson.loads(body), target_model=model)
        return orjson.dumps(written.body)

    def claim(_: bytes, body: bytes) -> bool:
        read = theirs.read_request(orjson.loads(body))
        return (len(read.tools), read.messages[0].parts[0].text, read.model) == (2, prose(PROMPT), model)  # type: ignore[union-attr]

    return Case(f"request {client} -> {provider}", lambda: requested(client), call, claim)


def answer_case(provider: str, client: str) -> Case:
    made = translation(client, provider)

    def claim(_: bytes, body: bytes) -> bool:
        answer = adapter(client).read_answer(orjson.loads(body))
        assert answer.usage is not None
        return answer.choices[0].parts[0].text == prose(1000) and answer.usage.output_tokens == 198  # type: ignore[union-attr]

    return Case(f"answer {provider} -> {client}", lambda: answered(provider), made.answer, claim)


def event_case(provider: str, client: str) -> Case:
    """Events come one by one, as they do where somebody waits for them."""
    start, word = streamed(provider)

    def setup() -> StreamTranslation:
        stream = translation(client, provider).stream()
        stream.feed(start)
        return stream

    def call(stream: StreamTranslation) -> bytes:
        stream._bytes = 0  # so that a stream may go on for as long as it is measured
        feed: Callable[[bytes], bytes] = stream.feed
        for _ in range(EVENTS):
            out = feed(word)
        return out

    return Case(f"event {provider} -> {client}", setup, call, lambda _, out: b" word" in out, per_call=EVENTS)


PAIRS = tuple((one, other) for one in NAMES for other in NAMES if one != other)
CASES = (
    *(request_case(*pair) for pair in PAIRS),
    *(answer_case(*pair) for pair in PAIRS),
    *(event_case(*pair) for pair in PAIRS),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
