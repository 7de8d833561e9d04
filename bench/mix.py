"""From recorded calls to the mix of the load test: python -m bench.mix [EXCHANGES.jsonl.gz] [--check]

Rules: only answered calls that write text count. Plain and streamed calls are apart; within each, calls are ordered by
the bytes they move and cut at CUTS, and a group becomes one shape: the medians of its prompt, its answer and its number
of events, weighted by its share. So the long tail stays in the mix, and no recorded word does.
Models: the names most often asked for, each with its share; the rest is left out.
Does not know: who recorded the calls (tests of libraries, most of them: prompts are shorter than those of a product).
"""

import argparse
import base64
import gzip
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MIX = HERE / "mix.json"
VECTORS = HERE.parent.parent / "shared" / "vectors" / "exchanges.jsonl.gz"
KINDS = (
    "openai.chat",
    "openai.responses",
    "openai.completions",
    "anthropic.messages",
    "cohere.chat",
    "gemini.generateContent",
    "gemini.streamGenerateContent",
    "bedrock.converse",
    "bedrock.converse-stream",
    "bedrock.invoke",
    "bedrock.invoke-stream",
    "ollama.chat",
    "ollama.generate",
)
CUTS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0)
MODELS = 8


@dataclass(frozen=True, slots=True)
class Call:
    stream: bool
    model: str
    prompt_bytes: int
    answer_bytes: int
    events: int


def _bytes(row: dict[str, Any], side: str) -> bytes:
    if row.get(f"{side}_b64"):
        return base64.b64decode(row[f"{side}_b64"])
    value = row.get(side) or ""
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _model(prompt: bytes) -> str:
    try:
        document = json.loads(prompt)
    except ValueError:
        return ""
    name = document.get("model") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""


def calls(rows: Iterable[dict[str, Any]]) -> Iterator[Call]:
    for row in rows:
        prompt, answer = _bytes(row, "req"), _bytes(row, "resp")
        if row["method"] == "POST" and row["status"] == 200 and row["kind"] in KINDS and prompt and answer:
            events = answer.count(b"\ndata:") + answer.startswith(b"data:")
            model = "" if row["provider"] == "azure" else _model(prompt)  # there it is the name of a deployment
            yield Call(bool(row["stream"]), model, len(prompt), len(answer), events)


def _shapes(group: list[Call], of: int) -> Iterator[dict[str, Any]]:
    group.sort(key=lambda call: (call.prompt_bytes + call.answer_bytes, call.prompt_bytes))
    for low, high in pairwise(CUTS):
        part = group[round(low * len(group)) : round(high * len(group))]
        if not part:
            continue
        counted = [call.events for call in part if call.events] or [0]
        yield {
            "stream": part[0].stream,
            "prompt_bytes": round(statistics.median(call.prompt_bytes for call in part)),
            "answer_bytes": round(statistics.median(call.answer_bytes for call in part)),
            "events": round(statistics.median(counted)) if part[0].stream else 0,
            "weight": round(len(part) / of, 4),
        }


def mix(all_calls: list[Call]) -> dict[str, Any]:
    """The table, ready to be written."""
    shapes = [
        shape
        for stream in (False, True)
        for shape in _shapes([call for call in all_calls if call.stream == stream], len(all_calls))
    ]
    named = Counter(call.model for call in all_calls if call.model).most_common(MODELS)
    total = sum(count for _, count in named)
    return {
        "calls": len(all_calls),
        "models": {name: round(count / total, 4) for name, count in named},
        "shapes": shapes,
    }


def text_of(table: dict[str, Any]) -> str:
    """A line for each shape, so that a change of one is a change of one line."""
    lines = ",\n".join(f"  {json.dumps(shape)}" for shape in table["shapes"])
    rest = f' "calls": {table["calls"]},\n "models": {json.dumps(table["models"])},\n'
    return f'{{\n{rest} "shapes": [\n{lines}\n ]\n}}\n'


def read(path: Path) -> list[Call]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return list(calls(json.loads(line) for line in lines))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.mix", description="Writes bench/mix.json from recorded calls.")
    parser.add_argument("exchanges", type=Path, nargs="?", default=VECTORS)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file would change")
    args = parser.parse_args(argv)
    if not args.exchanges.exists():
        print(f"mix: There are no recorded calls at {args.exchanges}; name their file.", file=sys.stderr)
        return 1
    fresh = text_of(mix(read(args.exchanges)))
    if args.check:
        return int(MIX.read_text(encoding="utf-8") != fresh)
    MIX.write_text(fresh, encoding="utf-8")
    print(f"{MIX.name} written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
