"""What it costs to read a dialect's token counts, whole and streamed: python -m bench.bench_usage

One row a reader; every answer says 231 tokens in and 198 out, in its own words.
"""

from base64 import b64encode
from typing import Any

from bench.cases import Case, run_alone
from bench.samples import ANSWER, CHAT, MODEL, USAGE_EVENT, compact, prose, usage_of
from outrider.dialects.usage import READERS, Usage, estimate

GIVEN, MADE = 231, 198
TEXT = prose(1000)
_IN_OUT = {"input_tokens": GIVEN, "output_tokens": MADE}
_CAMEL = {"inputTokens": GIVEN, "outputTokens": MADE, "totalTokens": GIVEN + MADE}
_GEMINI = {"promptTokenCount": GIVEN, "candidatesTokenCount": MADE, "totalTokenCount": GIVEN + MADE}
_INTERACTION = {"total_input_tokens": GIVEN, "total_output_tokens": MADE}
_OLLAMA = {"done": True, "prompt_eval_count": GIVEN, "eval_count": MADE}
_BILLED = {"billed_units": {"input_tokens": GIVEN, "output_tokens": MADE}}
_METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": GIVEN, "outputTokenCount": MADE}}
_CHUNK = USAGE_EVENT.removeprefix(b"data: ").rstrip()
_START = compact({"type": "message_start", "message": {"model": "claude", "usage": _IN_OUT | {"output_tokens": 1}}})
_PREDICTION = {"embeddings": {"values": [0.1] * 64, "statistics": {"token_count": GIVEN}}}

# reader -> a whole answer
BODIES: dict[str, bytes] = {
    "openai.chat": ANSWER,
    "google.openai": ANSWER,
    "openai.embeddings": compact({"data": [{"embedding": [0.1] * 256}], "usage": usage_of(GIVEN, MADE)}),
    "openai.images": compact({"data": [{"b64_json": TEXT}], "usage": _IN_OUT}),
    "openai.responses": compact({"model": MODEL, "output": [{"text": TEXT}], "usage": _IN_OUT}),
    "anthropic.messages": compact({"model": "claude", "content": [{"text": TEXT}], "usage": _IN_OUT}),
    "gemini.generate": compact({"candidates": [{"text": TEXT}], "usageMetadata": _GEMINI}),
    "gemini.embed": compact({"embeddings": [{"values": [0.1] * 64}], "usageMetadata": _GEMINI}),
    "gemini.interactions": compact({"outputs": [{"text": TEXT}], "usage": _INTERACTION}),
    "google.predict": compact({"predictions": [_PREDICTION]}),
    "bedrock.converse": compact({"output": {"message": TEXT}, "usage": _CAMEL}),
    "bedrock.invoke": compact({"content": [{"text": TEXT}], "usage": _IN_OUT}),
    "cohere.chat": compact({"message": {"content": TEXT}, "usage": _BILLED}),
    "cohere.chat_v1": compact({"text": TEXT, "meta": _BILLED}),
    "cohere.meta": compact({"embeddings": [[0.1] * 64], "meta": _BILLED}),
    "ollama.chat": compact({"model": "llama", "message": {"content": TEXT}} | _OLLAMA),
    "ollama.embed": compact({"model": "llama", "embeddings": [[0.1] * 64]} | _OLLAMA),
}

# reader -> first and last event with usage
STREAMS: dict[str, tuple[bytes, bytes]] = {
    "openai.chat": (_CHUNK, _CHUNK),
    "openai.responses": (compact({"type": "response.completed", "response": {"usage": _IN_OUT}}),) * 2,
    "anthropic.messages": (_START, compact({"type": "message_delta", "usage": {"output_tokens": MADE}})),
    "gemini.generate": (compact({"candidates": [], "usageMetadata": _GEMINI}),) * 2,
    "gemini.interactions": (compact({"interaction": {"usage": _INTERACTION}}),) * 2,
    "bedrock.converse": (compact({"metrics": {"latencyMs": 900}, "usage": _CAMEL}),) * 2,
    "bedrock.invoke": (compact({"bytes": b64encode(compact(_METRICS)).decode()}),) * 2,
    "cohere.chat": (compact({"type": "message-end", "delta": {"usage": _BILLED}}),) * 2,
    "cohere.chat_v1": (compact({"event_type": "stream-end", "response": {"meta": _BILLED}}),) * 2,
    "ollama.chat": (compact({"model": "llama"} | _OLLAMA),) * 2,
}

# Embeddings make no tokens; this one leaves them out.
MADE_BY = {"google.predict": 0}


def is_right(name: str, usage: Usage | None) -> bool:
    counts = (usage.input_tokens, usage.output_tokens) if usage is not None else None
    return counts == (GIVEN, MADE_BY.get(name, MADE))


def whole(name: str, body: bytes) -> Case:
    reader = READERS[name]
    return Case(f"{name}: whole", lambda: body, reader.read_body, lambda _, usage: is_right(name, usage))


def last_event(name: str, first: bytes, last: bytes) -> Case:
    """As the meter does it: whether the event has usage, then what it is."""
    reader = READERS[name]

    def call(_: Any) -> Usage | None:
        return reader.read_events(first, last) if reader.has_usage(last) else None

    return Case(f"{name}: stream", lambda: None, call, lambda _, usage: is_right(name, usage))


CASES = (
    *(whole(name, body) for name, body in BODIES.items()),
    *(last_event(name, *events) for name, events in STREAMS.items()),
    Case(
        "no usage told: estimate",
        lambda: None,
        lambda _: estimate(len(CHAT), len(ANSWER)),
        lambda _, usage: usage.estimated and usage.output_tokens == -(-len(ANSWER) // 4),
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
