"""What it costs to find a request's top-level fields: python -m bench.bench_jsonscan

Numbers on a 2-core AMD EPYC virtual machine, Python 3.13, gcc 12 -O3, orjson.loads beside it:
  1.5 kB: 0.6 us, 0.9 with an escape every 16 bytes (orjson 1.8); 100 kB: 17 and 39 us (orjson 29 and 34).
Targets: 1.2 us and 60 us.
"""

import json

import orjson

from bench.micro import report
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


def main() -> None:
    scan = FieldScan(NAMES)
    for name, prose in (("plain", PROSE), ("with escapes", ESCAPED)):
        for times in (7, 590):
            text = body(prose, times)
            report(f"{len(text):6} bytes, {name}: scan", lambda t=text: scan.scan(t))
            report(f"{len(text):6} bytes, {name}: orjson.loads", lambda t=text: orjson.loads(t))
    report("text(model)", lambda: scan.text(0))
    report("number(max_tokens)", lambda: scan.number(3))


if __name__ == "__main__":
    main()
