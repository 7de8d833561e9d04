"""`outrider policy test|explain|schema`: the rules, tried without a sidecar.

Rules: no network; nothing is changed; a request is judged by the same plan as a real one. Results go to stdout, what is
wrong with files to stderr. Exit code
0: all cases hold (explain: it passes), 1: some do not (it is refused), 2: bad input.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from outrider.cli.arguments import actions_of, add_config
from outrider.config import load
from outrider.config.document import DocumentError, read_document
from outrider.errors import SidecarError, StartError
from outrider.govern.cases import Asked, Judged, Result, Runner, judge, load_cases
from outrider.govern.packs import CASES_FILE, Loaded, find, load_pack, load_policies, shipped
from outrider.govern.plan import CompiledRule, Late, Plan, RuleSet
from outrider.govern.reading import ReadError
from outrider.govern.rules import json_schema
from outrider.secrets.files import read_capped, reason

HELP = "Try rules without a sidecar: run the cases of a pack, explain one request, print the schema for editors."
EXAMPLE = "outrider policy explain --request request.yaml"

MAX_REQUEST_BYTES = 1 << 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = actions_of(parser, "test|explain|schema")
    test = add("test", _test, "run the cases of packs", "outrider policy test ./policies/mine")
    test.add_argument(
        "paths", nargs="*", metavar="PATH", help="packs: names, folders or policy files (default: all shipped)"
    )
    test.add_argument("--verbose", action="store_true", help="name the cases that hold, too")
    example = "outrider policy explain --request request.yaml --config ./outrider.yaml"
    explain = add("explain", _explain, "say rule by rule what one request meets", example)
    explain.add_argument(
        "--request", type=Path, required=True, metavar="FILE", help="a request as in cases.yaml; YAML or JSON"
    )
    add_config(explain, "whose policies (default: $OUTRIDER_CONFIG, ./outrider.yaml, built in)")
    explain.add_argument("--policy", action="append", metavar="PACK", help="this pack instead, once or more")
    explain.add_argument("--json", action="store_true", help="print JSON")
    example = "outrider policy schema > policy.schema.json"
    add("schema", _schema, "print the JSON schema of policy files", example)


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


class _Ink:
    """Colours where somebody looks."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def good(self, text: str) -> str:
        return self._in("32", text)

    def bad(self, text: str) -> str:
        return self._in("31", text)

    def faint(self, text: str) -> str:
        return self._in("2", text)


def shown(text: str) -> str:
    """Text from outside, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


# -- test


def _test(args: argparse.Namespace) -> int:
    ink, failed, total = _Ink(), 0, 0
    for name in args.paths or shipped():
        results = list(_results(name))
        wrong = [result for result in results if not result.passed]
        failed, total = failed + len(wrong), total + len(results)
        mark = ink.bad("FAIL") if wrong else ink.good("ok  ")
        print(f"{mark} {name}: {len(results) - len(wrong)} of {len(results)} cases hold")
        for result in results:
            if not result.passed:
                print(f"     {ink.bad('-')} {shown(result.name)}")
                for difference in result.differences:
                    print(f"         {shown(difference)}")
            elif args.verbose:
                print(f"     {ink.good('+')} {shown(result.name)}")
    if failed:
        print(
            f"outrider: {failed} of {total} cases differ; correct the rules, or the cases that are wrong",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _results(name: str) -> Iterator[Result]:
    path = _found(name)
    cases = load_cases(path.parent / CASES_FILE)
    try:
        yield from Runner(path).run(cases)
    except ValueError as exc:
        raise StartError(f"{path.parent / CASES_FILE}: a request cannot be used: {exc}", exit_code=2) from exc


def _found(name: str) -> Path:
    """A shipped pack's name, or a path, which may lack its ./ here."""
    try:
        return find(name)
    except ValueError as exc:
        if Path(name).exists():
            return find(f"./{name}")
        raise StartError(f"{name!r} {exc}", exit_code=2) from exc


# -- explain


def _explain(args: argparse.Namespace) -> int:
    loaded = _policies(args)
    asked = _request(args.request)
    try:
        judged = judge(loaded.rules, asked)
    except ValueError as exc:
        raise StartError(f"{args.request}: the request cannot be used: {exc}", exit_code=2) from exc
    rows = [_row(rule, judged) for rule in loaded.rules.rules]
    found = {"request": _about(judged), "rules": rows, "decision": _decision(judged)}
    if args.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        print("\n".join(_lines(found)))
    return 1 if judged.refusal is not None else 0


def _policies(args: argparse.Namespace) -> Loaded:
    if args.policy:
        packs = [load_pack(_found(name), {}) for name in args.policy]
        rules = RuleSet(
            [rule for pack in packs for rule in pack.rules],
            patterns={name: text for pack in packs for name, text in pack.policy.patterns.items()},
            default_deny=[pack.name for pack in packs if pack.policy.default == "deny"],
        )
        return Loaded(tuple(packs), rules, tuple(pack.path for pack in packs))
    config = load(args.config, os.environ)
    if not config.policies:
        raise StartError(f"{config.source} has no policies; add some, or name packs with --policy", exit_code=2)
    return load_policies(config.policies, where=config.where, aliases=config.models)


def _request(path: Path) -> Asked:
    try:
        data = read_document(read_capped(path, MAX_REQUEST_BYTES).decode("utf-8-sig")).data
        if isinstance(data, dict) and isinstance(data.get("request"), dict):
            data = data["request"]
        return Asked.model_validate(data)
    except OSError as exc:
        raise StartError(f"{path} cannot be read: {reason(exc)}; name a file with a request", exit_code=2) from exc
    except (DocumentError, UnicodeDecodeError) as exc:
        raise StartError(f"{path} is neither YAML nor JSON: {exc}", exit_code=2) from exc
    except ValueError as exc:
        first = str(exc).splitlines()
        raise StartError(
            f"{path} is no request as cases.yaml has it: {' '.join(first[1:3]).strip()}", exit_code=2
        ) from exc


def _about(judged: Judged) -> dict[str, Any]:
    facts, view = judged.facts, judged.view
    try:
        models: object = [model.name for model in view.models]
    except (ReadError, SidecarError) as exc:
        models = f"cannot be told: {exc}"
    return {
        "provider": facts.provider,
        "operation": facts.operation.name,
        "host": facts.host,
        "path": facts.path,
        "models": models,
        "principal": view.principal.id,
        "via": view.via,
    }


def _row(rule: CompiledRule, judged: Judged) -> dict[str, Any]:
    """What one rule did, what it read, and why it went no further."""
    row: dict[str, Any] = {"id": rule.id, "then": rule.action, "mode": rule.rule.mode, "where": rule.where}
    if rule.when is not None:
        row["reads"] = sorted([*(f"request.{name}" for name in rule.when.fields), *(rule.when.variables - {"request"})])
    elif rule.reads_models:
        row["reads"] = ["request.models"]
    row["result"] = _result(rule, judged)
    return row


def _result(rule: CompiledRule, judged: Judged) -> str:
    outcome, plan, late = judged.outcome, judged.plan, judged.late
    if rule.id in outcome.errors:
        return "could not be evaluated" + (", and refuses" if rule.id in outcome.rules else "")
    if rule.id in outcome.rules:
        return "refuses" if rule.action in ("deny", "require") else "applies"
    if rule.id in outcome.shadow:
        return "would apply (shadow)"
    if plan is None or not rule.on_route(judged.facts):
        return "does not match: provider, operation, host, method or path"
    return _unmatched(rule, plan, late)


def _unmatched(rule: CompiledRule, plan: Plan, late: Late | None) -> str:
    if not rule.for_caller(plan.facts, plan.principal, plan.via):
        return "does not match: principal or way in"
    if late is None:
        return "was not asked: the request had been refused"
    if rule not in late.rules:
        return "does not match: model" if rule.reads_models else "does not apply to what cannot be read"
    if rule.when is not None:
        return "matches, and its condition is false"
    return "is fulfilled" if rule.action == "require" else "matches, and an earlier rule decided"


def _decision(judged: Judged) -> dict[str, Any]:
    refusal, outcome = judged.refusal, judged.outcome
    found: dict[str, Any] = {"decision": "allow" if refusal is None else "deny"}
    if refusal is not None:
        found |= {"rule": getattr(refusal, "rule", None), "status": refusal.status, "message": str(refusal)}
    if outcome.tags:
        found["tags"] = outcome.tags
    if outcome.redactions:
        found["redact"] = [one.model_dump() for one in outcome.redactions]
    if outcome.heads and refusal is None:
        found["headers"] = {name: value for _, change in outcome.heads for name, value in change.items()}
    if judged.lifted.path is not None and refusal is None:
        found["path"] = judged.lifted.path
    if judged.lifted.forms and refusal is None:
        found["forms"] = list(judged.lifted.forms)
    if outcome.edits and refusal is None:
        found["body"] = judged.document
    return found


def _lines(found: dict[str, Any]) -> Iterable[str]:
    ink = _Ink()
    yield "request"
    yield from (f"  {name:<10} {shown(_text(value))}" for name, value in found["request"].items())
    yield "rules"
    width = max((len(row["id"]) for row in found["rules"]), default=0)
    for row in found["rules"]:
        result = row["result"]
        paint = ink.bad if "refuses" in result else ink.good if result == "applies" or "would" in result else ink.faint
        yield f"  {row['id']:<{width}}  {row['then']:<8} {paint(result)}"
        if row.get("reads") and "does not match: p" not in result:
            yield f"  {'':<{width}}  {ink.faint('reads ' + ', '.join(row['reads']) + ' (' + row['where'] + ')')}"
    decision = found["decision"]
    word = decision["decision"]
    yield f"decision   {ink.good(word) if word == 'allow' else ink.bad(word)}"
    for name, value in decision.items():
        if name != "decision" and value is not None:
            yield f"  {name:<10} {shown(_text(value))}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return json.dumps(value, default=str, ensure_ascii=False)
