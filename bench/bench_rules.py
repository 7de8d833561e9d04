"""What rules cost: whole exchanges with more and more of them, and their parts: python -m bench.bench_rules

The first rows are exchanges with everything on, as in `bench_stack`; rules cost the difference to `no rules`.
"""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench import samples
from bench.bench_stack import EVERYTHING, OURS, PLAIN, case, went
from bench.cases import Case, run_alone
from bench.rig import Stack
from outrider.govern.cases import Asked, facts_for
from outrider.govern.cel import Batch, Expression, new_context, variable
from outrider.govern.packs import load_pack
from outrider.govern.plan import Late, Plan, RuleSet
from outrider.govern.principal import ANONYMOUS
from outrider_ext.jsonkeys import has_repeated_key

WHO = {"id": "a", "team": "t", "project": "", "environment": "", "roles": ["r"], "labels": {}, "anonymous": False}
EXPRESSIONS = (
    "request.model.startsWith('gpt') && principal.team == 'x'",
    "request.max_tokens > 100000",
    "request.stream && size(request.tools) > 64",
    "'rm' in request.tools",
)
MODEL_RULE = {"id": "no", "description": "d", "match": {"model": "*forbidden*"}, "then": "deny"}


def exchange(name: str, policies: list[Any]) -> Case:
    reads = (samples.request(samples.CHAT),)
    claim = went(OURS, samples.ANSWER, samples.CHAT)
    return case(f"exchange: {name}", lambda: Stack({**EVERYTHING, "policies": policies}, reads, PLAIN), claim)


class Written(Stack):
    """With a rule file of its own."""

    def __init__(self, rules: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mine.yaml"
            path.write_text(yaml.safe_dump({"rules": rules}))
            super().__init__({**EVERYTHING, "policies": [str(path)]}, (samples.request(samples.CHAT),), PLAIN)


def own(name: str, *rules: dict[str, Any]) -> Case:
    return case(f"exchange: {name}", lambda: Written(list(rules)), went(OURS, samples.ANSWER, samples.CHAT))


def conditions(count: int, reads: str = "request.messages > 1000") -> list[dict[str, Any]]:
    return [{"id": f"c{n}", "description": "d", "when": reads, "then": "deny"} for n in range(count)]


def _plan() -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(yaml.safe_dump({"rules": [MODEL_RULE]}))
        route = RuleSet(load_pack(path, {}).rules).on_route(facts_for(Asked()))
    assert route is not None
    return route.plan(ANONYMOUS, "forward", False)


def _look_up(plan: Plan) -> Late:
    return plan.route.plan(ANONYMOUS, "forward", False).for_name("gpt-5")


def _context() -> tuple[Batch, Any]:
    return Batch([Expression(text) for text in EXPRESSIONS]), new_context({"principal": WHO})


def _evaluate(subject: tuple[Batch, Any]) -> Any:
    batch, context = subject
    request = {"model": "gpt-5", "max_tokens": 100, "stream": False, "tools": ["ls", "cat"]}
    context.update({variable(name): value for name, value in request.items()})
    return batch.evaluate(context)


CASES = (
    exchange("no rules", []),
    exchange("baseline", ["baseline"]),
    exchange("baseline and pii", ["baseline", "pii"]),
    exchange("a list of models", ["baseline", {"pack": "model-allowlist", "with": {"models": ["*"]}}]),
    own("one rule about a model", MODEL_RULE),
    own("one condition on the body", *conditions(1)),
    own("ten conditions on the body", *conditions(10)),
    own("one condition on the head", *conditions(1, "request.headers['x-team'] == 'nobody'")),
    exchange("prompt-injection (patterns over the text)", ["prompt-injection"]),
    Case("four conditions in one evaluation", _context, _evaluate, lambda _, found: list(found) == [False] * 4),
    Case("a plan and a model, looked up in Python", _plan, _look_up, lambda _, found: not found.dynamic),
    Case("a body looked through for a key twice", lambda: samples.CHAT, has_repeated_key, lambda _, found: not found),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
