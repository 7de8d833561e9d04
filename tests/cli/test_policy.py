"""`outrider policy`: cases run and what differs is said; one request explained; the schema; what `check` doubts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.cli.main import main

DENY = {"id": "no", "description": "Not this", "match": {"model": "gpt-4*"}, "then": "deny"}
CASE = {"name": "it is refused", "request": {"body": {"model": "gpt-4o"}}, "expect": {"decision": "deny", "rule": "no"}}


def pack(folder: Path, rules: list[Any], cases: list[Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "policy.yaml").write_text(yaml.safe_dump({"rules": rules}))
    if cases is not None:
        (folder / "cases.yaml").write_text(yaml.safe_dump({"cases": cases}))
    return folder


def test_cases_that_hold_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(pack(tmp_path / "mine", [DENY], [CASE]))]) == 0
    assert "1 of 1 cases hold" in capsys.readouterr().out


def test_what_differs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**CASE, "name": "it \x1bpasses", "expect": {"decision": "allow", "tags": ["t"]}}
    assert main(["policy", "test", str(pack(tmp_path / "mine", [DENY], [CASE, wrong]))]) == 1
    out, err = capsys.readouterr()
    assert "decision: expected allow, was deny (Not this (rule mine/no" in out
    assert "tags: expected t, was none" in out
    assert "\x1b" not in out
    assert "1 of 2 cases differ" in err


@pytest.mark.parametrize(
    ("rules", "cases", "said"),
    [
        ([DENY], None, "a pack needs a cases.yaml"),
        ([{**DENY, "then": "deney"}], [CASE], "must be allow, deny"),
        ([DENY], [{**CASE, "expect": {"decison": "deny"}}], "unknown key"),
        ([DENY], [{**CASE, "request": {"provider": "nobody"}}], "no built-in provider"),
        ([DENY], [], "at least 1"),
    ],
)
def test_what_cannot_be_run_is_bad_input(
    tmp_path: Path, rules: Any, cases: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "test", str(pack(tmp_path / "mine", rules, cases))]) == 2
    assert said in capsys.readouterr().err


def test_a_case_that_expects_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(pack(tmp_path / "mine", [DENY], [{**CASE, "expect": {}}]))]) == 1
    assert "expects nothing" in capsys.readouterr().out


def test_one_request_is_explained_rule_by_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [
        DENY,
        {"id": "read", "description": "d", "when": "request.messages > 3", "then": {"tag": "long"}},
        {"id": "else", "description": "d", "match": {"provider": "anthropic"}, "then": "deny"},
        {"id": "seen", "description": "d", "mode": "shadow", "then": "deny"},
    ]
    folder = pack(tmp_path / "mine", rules)
    request = tmp_path / "request.yaml"
    request.write_text(yaml.safe_dump({"body": {"model": "gpt-4o", "messages": []}}))
    assert main(["policy", "explain", "--request", str(request), "--policy", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {row["id"]: row["result"] for row in found["rules"]} == {
        "mine/no": "refuses",
        "mine/read": "matches, and its condition is false",
        "mine/else": "does not match: provider, operation, host, method or path",
        "mine/seen": "would apply (shadow)",
    }
    assert found["decision"]["rule"] == "mine/no"
    assert next(row for row in found["rules"] if row["id"] == "mine/read")["reads"] == ["request.messages"]
    config = tmp_path / "outrider.yaml"
    config.write_text(yaml.safe_dump({"policies": [str(folder / "policy.yaml")]}))
    assert main(["policy", "explain", "--request", str(request), "--config", str(config)]) == 1
    out = capsys.readouterr().out
    assert "reads request.messages" in out
    assert "decision   deny" in out


@pytest.mark.parametrize("text", ["provider: 7", "a: b", "[1]", "\x01"])
def test_a_file_that_is_no_request_is_bad_input(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(text)
    assert main(["policy", "explain", "--request", str(path), "--policy", "baseline"]) == 2
    assert str(path) in capsys.readouterr().err


def test_the_schema_takes_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"rules", "patterns", "parameters", "default"} <= set(schema["properties"])
    rule = schema["$defs"]["Rule"]["properties"]
    assert {"id", "match", "except", "when", "then", "on_error", "mode", "websocket"} <= set(rule)


@pytest.mark.parametrize(
    ("rules", "doubt"),
    [
        ([{**DENY, "match": {"provider": "opnai"}}], "no provider is called 'opnai'"),
        ([{**DENY, "match": {"operation": ["chat", "caht"]}}], "'caht' is the name of no operation"),
        ([{**DENY, "match": {"model": []}}], "match.model is empty"),
        ([{**DENY, "match": {"listener": "transparent", "via": "connect"}}], "no other way in"),
        ([{**DENY, "except": {"model": "gpt-4*"}}], "its except covers all"),
        ([{**DENY, "when": "1 > 2"}], "always false"),
        (
            [
                {"id": "a", "description": "d", "match": {"model": "gpt-*"}, "then": {"route": {"model": "x"}}},
                {"id": "b", "description": "d", "match": {"model": "gpt-5"}, "then": {"route": {"model": "y"}}},
            ],
            "mine/b: is never taken, since mine/a routes the same calls",
        ),
    ],
)
def test_check_doubts_rules_that_can_never_apply(
    tmp_path: Path, rules: Any, doubt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pack(tmp_path / "mine", rules)
    config = tmp_path / "outrider.yaml"
    config.write_text(yaml.safe_dump({"policies": [str(folder)]}))
    assert main(["check", "--config", str(config)]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:")]
    assert [line for line in warnings if doubt in line and "policy.yaml:" in line], warnings


def test_check_doubts_nothing_that_is_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from outrider.govern.packs import shipped

    uses = [{"pack": name, "with": {"models": ["gpt-5"]}} if name == "model-allowlist" else name for name in shipped()]
    config = tmp_path / "outrider.yaml"
    config.write_text(yaml.safe_dump({"policies": uses}))
    assert main(["check", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "warning:" not in out
    assert "policy baseline: 4 rules" in out


def test_check_says_every_problem_of_the_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "outrider.yaml"
    config.write_text("version: 1\npolicies: [basline, {pack: model-allowlist}]\n")
    assert main(["check", "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert f"{config}:2: policies[0]: 'basline' is no pack that is shipped; did you mean baseline?" in err
    assert f"{config}:2: policies[1].with: has to be given" in err
