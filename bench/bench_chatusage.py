"""What it costs to read the token counts of a whole OpenAI-shaped answer: python -m bench.bench_chatusage"""

import orjson

from bench.cases import Case, run_alone
from bench.samples import ANSWER, MODEL, compact, prose, usage_of
from outrider_ext.chatusage import ChatUsage
from outrider_ext.tokens import Usage

DETAILED_USAGE: dict[str, object] = {
    **usage_of(231, 198),
    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
DETAILED = compact({"model": MODEL, "choices": [{"text": prose(1000)}], "usage": DETAILED_USAGE})
LARGE = compact({"model": MODEL, "choices": [{"text": prose(100_000)}], "usage": usage_of(231, 198)})
UNUSUAL = compact({"model": MODEL, "choices": [], "usage": {"input_tokens": 231, "output_tokens": 198}})

CASES = (
    Case(
        f"read, {len(ANSWER):,} bytes",
        ChatUsage,
        lambda usage: usage.read(ANSWER),
        lambda usage, counts: counts == Usage(231, 198, 0, 0, 0, False, MODEL),
    ),
    Case(
        f"read, {len(ANSWER):,} bytes: orjson.loads",
        lambda: ANSWER,
        orjson.loads,
        lambda _, answer: answer["usage"] == usage_of(231, 198),
    ),
    Case(
        "read, with details",
        ChatUsage,
        lambda usage: usage.read(DETAILED),
        lambda usage, counts: counts == Usage(231, 198, 128, 0, 64, False, MODEL),
    ),
    Case(
        f"read, {len(LARGE):,} bytes",
        ChatUsage,
        lambda usage: usage.read(LARGE),
        lambda usage, counts: counts == Usage(231, 198, 0, 0, 0, False, MODEL),
    ),
    Case(
        "read, not the usual shape", ChatUsage, lambda usage: usage.read(UNUSUAL), lambda usage, counts: counts is None
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
