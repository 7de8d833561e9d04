"""The calls of the load test: bodies of every shape and model of mix.json, and what the upstream answers to each.

Rules: a prompt says its own sum, so that the upstream finds a changed byte in any of them; the right answer to a shape
is what the upstream gave when it was asked directly, so that a user finds one as well. Sizes are clamped to what the
upstream can build (its smallest JSON, its longest stream).
Does not know: locust, the sidecar.
"""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.mix import MIX

WORDS = "the quick brown fox jumps over the lazy dog and then rests for a while "
LONGEST_STREAM = 200  # events, EVENTS of payload.h
FNV_BASIS, FNV_PRIME, FNV_MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Shape:
    stream: bool
    prompt_bytes: int
    answer_bytes: int
    events: int
    weight: float


@dataclass(frozen=True, slots=True)
class Call:
    """One prepared request. `shape` is the index of its shape, and of its answer."""

    shape: int
    stream: bool
    body: bytes
    headers: dict[str, str]
    weight: float


def fnv1a(data: bytes) -> int:
    total = FNV_BASIS
    for byte in data:
        total = (total ^ byte) * FNV_PRIME & FNV_MASK
    return total


def prompt(model: str, stream: bool, size: int) -> bytes:
    """A chat request of `size` bytes, or the smallest there is."""
    fields: dict[str, object] = {"model": model}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    empty = json.dumps(fields | {"messages": [{"role": "user", "content": ""}]}, separators=(",", ":")).encode()
    missing = max(0, size - len(empty))
    filler = (WORDS * (missing // len(WORDS) + 1))[:missing]
    return empty.removesuffix(b'"}]}') + filler.encode() + b'"}]}'


def read_mix(path: Path = MIX) -> tuple[list[Shape], dict[str, float]]:
    """The shapes, and each model's share."""
    table = json.loads(path.read_text(encoding="utf-8"))
    return [Shape(**shape) for shape in table["shapes"]], table["models"]


def prepare(shapes: Sequence[Shape], models: dict[str, float], pace_us: int) -> list[Call]:
    """Every shape with every model; `pace_us` is what lies between two events of a stream."""
    calls = []
    for index, shape in enumerate(shapes):
        for model, share in models.items():
            body = prompt(model, shape.stream, shape.prompt_bytes)
            headers = {"content-type": "application/json", "x-bench-sum": f"{fnv1a(body):016x}"}
            if shape.stream:
                headers["x-bench-events"] = str(min(max(shape.events, 3), LONGEST_STREAM))
                headers |= {"x-bench-pace-us": str(pace_us)} if pace_us else {}
            else:
                headers["x-bench-answer-bytes"] = str(shape.answer_bytes)
            calls.append(Call(index, shape.stream, body, headers, shape.weight * share))
    return calls


def right_answers(calls: Sequence[Call], port: int, key: str) -> list[str]:
    """By shape, from the upstream itself. Raises: ValueError when it refuses a call."""
    answers: dict[int, str] = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for call in calls:
            if call.shape in answers:
                continue
            unpaced = {name: value for name, value in call.headers.items() if name != "x-bench-pace-us"}
            connection.request("POST", PATH, call.body, unpaced | {"authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != http.HTTPStatus.OK:
                raise ValueError(f"the upstream answered {answer.status} to a call of shape {call.shape}: {text[:80]}")
            answers[call.shape] = text
    finally:
        connection.close()
    return [answers[index] for index in sorted(answers)]
