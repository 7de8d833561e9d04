"""What limits and budgets cost an exchange, through the whole product: python -m bench.bench_limits

A rule's cost is the difference between two rows; the first has none. Prices come from `prices:`, so that nothing hangs
on the list's day.
"""

from typing import Any

from bench import samples
from bench.bench_stack import EVERYTHING, OURS, case, limits, went
from bench.cases import Case, run_alone
from bench.rig import Stack
from outrider_ext.limits import Outputs, estimate_tokens

PRICES = {"local/*": {"input": 0.15, "output": 0.6, "cache_read": 0.075}}
TOKENS = {"name": "tokens", "key": ["provider", "model"], "tokens": "900000000/s"}
SLOTS = {"name": "slots", "key": ["principal.team"], "concurrent": 100}
BUDGET = {"name": "day", "key": ["principal.team"], "usd": "1000000/day", "on_exceed": "deny"}
TOKEN_BUDGET = {"name": "month", "key": ["principal.team"], "tokens": "900000000000/month"}


def plain(name: str, **sections: Any) -> Case:
    reads = (samples.request(samples.CHAT, b"/local/v1/chat/completions"),)
    claim = went(OURS, samples.ANSWER, samples.CHAT)
    whole = {**EVERYTHING, "limits": [], **sections}
    return case(name, lambda: Stack(whole, reads, (samples.answer(samples.ANSWER),)), claim)


CASES = (
    plain("no rule"),
    plain("one limit of requests", limits=limits(1)),
    plain("one limit of tokens", limits=[TOKENS]),
    plain("two limits: requests and tokens", limits=[*limits(1), TOKENS]),
    plain("two limits, slots", limits=[*limits(1), TOKENS, SLOTS]),
    plain("prices alone", prices=PRICES),
    plain("two limits, one budget in dollars", limits=[*limits(1), TOKENS], budgets=[BUDGET], prices=PRICES),
    plain("two limits, one budget in tokens", limits=[*limits(1), TOKENS], budgets=[TOKEN_BUDGET]),
    Case("estimate_tokens, a chat body", lambda: samples.CHAT, estimate_tokens, lambda body, tokens: tokens > 10),
    Case(
        "estimate_tokens, 1 MB", lambda: b'{"text":"' + b"some words " * 95_000 + b'"}', estimate_tokens,
        lambda body, tokens: 150_000 < tokens < 350_000,
    ),
    Case("an answer's length learned", Outputs, lambda seen: seen.learn(100), lambda seen, result: seen.seen > 0),
)  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
