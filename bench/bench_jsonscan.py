"""What it costs to find a request's top-level fields: python -m bench.bench_jsonscan

Numbers on a 2-core AMD EPYC virtual machine, Python 3.13, gcc 12 -O3, orjson.loads beside it:
  1.5 kB: 0.6 us, 0.9 with an escape every 16 bytes (orjson 1.8); 100 kB: 17 and 39 us (orjson 29 and 34).
Targets: 1.2 us and 60 us.
"""

import json

import orjson

from bench.cases import Case, run_alone
from outrider_ext.jsonscan import FieldScan

NAMES = (b"model", b"stream", b"stream_options", b"max_tokens", b"max_completion_tokens", b"n")
PROSE = "You are a helpful assistant. Answer in one sentence, please, and be brief about it. "
ESCAPED = 'You are a "helpful" assistant.\nAnswer in "one" sentence,\nplease, and be brief. '


def body(prose: str, times: int) -> bytes:
    """A chat request as an SDK writes it, with `times` repetitions of `prose` in each of two messages."""
    parameters = {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}}
    request = {
        "model": "gpt-4o-mini",
        "messages": [{"role": role, "content": prose * times} for role in ("system", "user")],
        "temperature": 0.5,
        "max_tokens": 256,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "forecast", "parameters": parameters}}],
    }
    return json.dumps(request, separators=(",", ":")).encode()


def scanned() -> FieldScan:
    scan = FieldScan(NAMES)
    scan.scan(body(PROSE, 7))
    return scan


def found(scan: FieldScan, result: object) -> bool:
    return (scan.text(0), scan.flag(1), scan.raw(2), scan.number(3), scan.raw(5)) == (
        "gpt-4o-mini", True, b'{"include_usage":true}', 256, None,
    )  # fmt: skip


def both(name: str, prose: str, times: int) -> tuple[Case, Case]:
    text = body(prose, times)
    what = f"{len(text):,} bytes, {name}"
    return (
        Case(f"{what}: scan", lambda: FieldScan(NAMES), lambda scan: scan.scan(text), found),
        Case(f"{what}: orjson.loads", lambda: text, orjson.loads, lambda _, request: request["max_tokens"] == 256),
    )


CASES = (
    *both("plain", PROSE, 7),
    *both("plain", PROSE, 590),
    *both("with escapes", ESCAPED, 7),
    *both("with escapes", ESCAPED, 590),
    Case("text(model)", scanned, lambda scan: scan.text(0), lambda scan, text: text == "gpt-4o-mini"),
    Case("number(max_tokens)", scanned, lambda scan: scan.number(3), lambda scan, number: number == 256),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
