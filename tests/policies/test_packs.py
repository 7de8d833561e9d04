"""Every pack that is shipped: its cases hold, each rule is noticed when it is gone, and it names what exists."""

from dataclasses import replace
from pathlib import Path

import pytest

from outrider.govern.cases import Cases, Runner, key_of, load_cases
from outrider.govern.packs import POLICY_FILE, Pack, load_pack
from outrider.govern.plan import CompiledRule
from outrider.providers import BUILT_IN

FOLDER = Path(__file__).resolve().parents[2] / "policies"
PACKS = sorted(path.parent.name for path in FOLDER.glob(f"*/{POLICY_FILE}"))
OPERATIONS = {row.operation.name for provider in BUILT_IN.values() for row in provider.endpoints} | {
    "unknown",
    "tunnel",
}


def cases_of(pack: str) -> tuple[Runner, Cases]:
    """A pack with rules and no cases fails here."""
    return Runner(FOLDER / pack / POLICY_FILE), load_cases(FOLDER / pack / "cases.yaml")


def first_pack(pack: str):  # type: ignore[no-untyped-def]
    runner, cases = cases_of(pack)
    return runner.pack(cases.values)


RULES = [(pack, rule.rule.id) for pack in PACKS for rule in first_pack(pack).rules]


def test_the_packs_are_those_that_were_promised() -> None:
    assert PACKS == [
        "baseline", "eu-residency", "model-allowlist", "no-training", "pii", "prompt-injection", "secrets",
        "spend-guard", "tool-safety",
    ]  # fmt: skip
    assert {path.parent.name for path in FOLDER.glob("*/README.md")} == set(PACKS)


@pytest.mark.parametrize("pack", PACKS)
def test_every_case_holds(pack: str) -> None:
    runner, cases = cases_of(pack)
    failed = [f"{result.name}: {'; '.join(result.differences)}" for result in runner.run(cases) if not result.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(("pack", "rule"), RULES)
def test_a_rule_that_is_gone_is_noticed(pack: str, rule: str) -> None:
    runner, cases = cases_of(pack)
    assert any(not result.passed for result in runner.run(cases, without=[rule])), f"no case needs {pack}/{rule}"


PARTS = [
    (pack, part)
    for pack in PACKS
    for part in (
        *first_pack(pack).policy.patterns,
        *(f"except of {rule.rule.id}" for rule in first_pack(pack).rules if rule.rule.except_ is not None),
    )
]


def without(pack: Pack, part: str) -> Pack:
    """The pack without one of its patterns, or with a rule that excepts nothing."""
    patterns = {name: pattern for name, pattern in pack.policy.patterns.items() if name != part}
    rules = [
        CompiledRule(rule.pack, rule.rule.model_copy(update={"except_": None}), rule.when, rule.where)
        if part == f"except of {rule.rule.id}"
        else rule
        for rule in pack.rules
    ]
    return replace(pack, policy=pack.policy.model_copy(update={"patterns": patterns}), rules=tuple(rules))


@pytest.mark.parametrize(("pack", "part"), PARTS)
def test_a_pattern_or_an_exception_that_is_gone_is_noticed(pack: str, part: str) -> None:
    runner, cases = cases_of(pack)
    for case in cases.cases:
        values = cases.values if case.values is None else case.values
        runner._packs[key_of(values)] = without(load_pack(runner.path, values), part)
    assert any(not result.passed for result in runner.run(cases)), f"no case needs {pack}: {part}"


@pytest.mark.parametrize("pack", PACKS)
def test_operations_and_providers_that_a_pack_names_exist(pack: str) -> None:
    for rule in first_pack(pack).rules:
        for match in (rule.rule.match, rule.rule.except_):
            if match is None:
                continue
            assert set(match.operation or ()) <= OPERATIONS, rule.id
            assert set(match.provider or ()) <= {*BUILT_IN, "other", "*"}, rule.id


@pytest.mark.parametrize("pack", PACKS)
def test_a_readme_speaks_of_every_rule_and_parameter(pack: str) -> None:
    text = (FOLDER / pack / "README.md").read_text()
    loaded = first_pack(pack)
    for name in [*(rule.rule.id for rule in loaded.rules), *loaded.policy.parameters]:
        assert f"`{name}`" in text, name


def test_baseline_needs_no_expressions() -> None:
    """They would cost 10 MB and a quarter of a second at the start."""
    assert all(rule.when is None for rule in load_pack(FOLDER / "baseline" / POLICY_FILE, {}).rules)
