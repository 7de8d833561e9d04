"""`outrider check` and `outrider trust`, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLANTED = "sk-proj-PLANTEDplanted0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """run(*words, **environ) -> the finished process, in tmp_path, with a home of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}

    def call(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from outrider.cli import check, trust; import argparse\n"
        program += "module = {'check': check, 'trust': trust}[sys.argv[1]]\n"
        program += "parser = argparse.ArgumentParser(); module.add_arguments(parser)\n"
        program += "sys.exit(module.run(parser.parse_args(sys.argv[2:])))"
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True, text=True, cwd=tmp_path, env={**kept, "HOME": str(tmp_path), **environ}, check=False,
        )  # fmt: skip

    return call


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_good_config_says_what_is_intercepted_and_who_gets_which_credential(tmp_path: Path, run: Any) -> None:
    key = tmp_path / "key"
    key.write_text(PLANTED)
    key.chmod(0o600)
    path = write(
        tmp_path, f"providers:\n  openai: {{credential: {{env: K}}}}\n  anthropic: {{credential: {{file: {key}}}}}"
    )
    done = run("check", "--config", str(path), K=PLANTED)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"OK: {path}" in done.stdout
    assert "credential env K to" in done.stdout
    assert f"anthropic: intercepts api.anthropic.com; credential file {key} to api.anthropic.com" in done.stdout
    assert "intercepted without a credential of ours: ai21" in done.stdout
    assert "warning" not in done.stdout
    assert "PLANTED" not in done.stdout


def test_three_mistakes_print_three_lines_and_exit_2(tmp_path: Path, run: Any) -> None:
    path = write(tmp_path, "egress: {default: no}\nlimits: [{name: a, requests: x}]\nfoo: 1\n")
    done = run("check", "--config", str(path))
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(" ")[0] for line in lines[:3]] == [f"{path}:1:", f"{path}:2:", f"{path}:3:"]
    assert lines[3] == "outrider: 3 problems in the configuration"


def test_json_is_for_programs(tmp_path: Path, run: Any) -> None:
    path = write(tmp_path, "http2: maybe\n")
    done = run("check", "--config", str(path), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "ok": False,
        "problems": [{"where": f"{path}:1", "key": "http2", "sentence": "must be 'tunnel' or 'deny', not 'maybe'"}],
    }
    found = json.loads(run("check", "--json", "--verbose").stdout)
    assert found["ok"]
    assert found["source"] == "<embedded>"
    assert found["keys"]["listen.proxy"] == "restart"


def test_what_the_registry_finds_has_its_line_too(tmp_path: Path, run: Any) -> None:
    path = write(tmp_path, "providers:\n  openai: {}\n  mine:\n    kind: openai\n    hosts: [api.openai.com]\n")
    done = run("check", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}:5: providers.mine.hosts: api.openai.com is claimed by providers.openai")


def test_warnings_say_what_is_allowed_and_unwise(tmp_path: Path, run: Any) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    text = f"""\
# was {PLANTED}
listen: {{proxy: 0.0.0.0:8484}}
providers:
  openai: {{credential: {{env: UNSET}}, require_placeholder: false}}
  anthropic: {{credential: {{file: key}}}}
  groq: {{credential: {{file: missing}}}}
"""
    path = write(tmp_path, text)
    path.chmod(0o666)
    done = run("check", "--config", str(path))
    assert done.returncode == 0
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    for says in (
        f"{path}:4: providers.openai.credential: environment variable UNSET is not set",
        f"{path}:4: providers.openai.require_placeholder: false lets every process",
        f"{path}:5: providers.anthropic.credential: {key} is open to other users",
        f"{path}:6: providers.groq.credential: credential file {tmp_path / 'missing'} cannot be read",
        f"{path}:2: listen: 0.0.0.0:8484 is open to other machines",
        f"{path}:1: looks like a key itself",
        f"{path}: every user may write it",
    ):
        assert any(says in line for line in warnings), (says, warnings)
    assert len(warnings) == 7
    assert "PLANTED" not in done.stdout


def test_a_found_config_is_refused_until_it_is_trusted(tmp_path: Path, run: Any) -> None:
    write(tmp_path, "egress: {default: deny}\n", "outrider.yaml")
    refused = run("check")
    assert refused.returncode == 2
    assert refused.stderr.startswith("outrider.yaml:1: egress: a configuration that was found in the working folder")
    trusted = run("trust")
    assert trusted.returncode == 0
    assert trusted.stdout == f"outrider.yaml is trusted as it is now (noted in {tmp_path}/.outrider/trusted)\n"
    assert run("check").returncode == 0


def test_limits_on_fields_that_nobody_sets_are_warned_of(tmp_path: Path, run: Any) -> None:
    text = (
        "version: 1\nlimits:\n"
        "  - {name: a, key: [principal.team, provider], requests: 5/s, concurrent: 3}\n"
        "  - {name: b, key: [provider, model], tokens: 5/s}\n"
        "budgets: [{name: c, key: [principal.labels.x], usd: 5/day}]\n"
    )
    done = run("check", "--config", str(write(tmp_path, text)))
    assert done.returncode == 0
    said = [line for line in done.stdout.splitlines() if "no principal sets" in line]
    assert len(said) == 2
    assert "c.yaml:3: limits[0].key: no principal sets principal.team, so a counts all callers as one" in said[0]
    assert "budgets[0].key: no principal sets principal.labels.x, so c counts all callers as one" in said[1]
    assert "  limit a: 5/s requests, 3 concurrent" in done.stdout
    assert "  budget c: 5/day usd" in done.stdout


def test_rules_that_count_nothing_or_say_words_without_meaning_are_refused(tmp_path: Path, run: Any) -> None:
    text = (
        "version: 1\nlimits: [{name: a}, {name: a, requests: 5/s, burst: 9, algorithm: fixed-window, reserve: max}]\n"
        "budgets: [{name: b}]\nprices: {gpt-5: {input: 1}, openai/x: {cache_read: 1}}\n"
    )
    done = run("check", "--config", str(write(tmp_path, text)))
    assert done.returncode == 2
    for part in (
        "limits[0]: counts nothing; set one of requests, tokens, concurrent",
        "limits[1].name: is the second limit called 'a'",
        "limits[1].burst: is for token-bucket only",
        "limits[1].reserve: says how tokens are counted, and this limit has no tokens",
        "budgets[0]: counts nothing; set one of usd, tokens",
        "prices.gpt-5: must be PROVIDER/MODEL",
        "prices.openai/x: has neither an input nor an output price",
    ):
        assert part in done.stderr, part


def test_it_says_which_of_the_keys_that_are_set_wait_for_a_restart(tmp_path: Path, run: Any) -> None:
    text = "version: 1\negress: {default: deny}\nca: {dir: ./ca}\ntelemetry: {models_max: 5, log_level: debug}\n"
    done = run("check", "--config", str(write(tmp_path, text)))
    assert done.returncode == 0
    assert "changed only by a restart: ca.dir, telemetry.models_max; a reload" in done.stdout
    told = json.loads(run("check", "--config", str(write(tmp_path, text)), "--json").stdout)
    assert told["after_restart"] == ["ca.dir", "telemetry.models_max"]


def test_secrets_that_stand_in_the_configuration_are_named_and_not_shown(tmp_path: Path, run: Any) -> None:
    path = write(tmp_path, "upstream: {proxy: 'http://me:hunter2x@proxy.test:3128'}\n")
    done = run("check", "--config", str(path), OUTRIDER__EGRESS__ALLOW_PRIVATE="[]")
    assert f"warning: {path}:1: upstream.proxy: a password stands in the file" in done.stdout
    assert "hunter2x" not in done.stdout + done.stderr
    path = write(tmp_path, f"version: 1\n# {PLANTED}\npolicies: [./rules.yaml]\n")
    (tmp_path / "rules.yaml").write_text(f"rules:\n - {{id: a, description: d, then: {{tag: '{PLANTED}'}}}}\n")
    done = run("check", "--config", str(path))
    assert f"warning: {path}:2: looks like a key itself" in done.stdout
    assert f"{tmp_path}/rules.yaml:2: looks like a key itself" in done.stdout
    assert "PLANTED" not in done.stdout + done.stderr


def test_an_audit_log_without_checkpoints_elsewhere_is_warned_of(tmp_path: Path, run: Any) -> None:
    path = write(tmp_path, "telemetry: {audit: {path: ./log/a.jsonl}}\n")
    assert "telemetry.audit.checkpoint: null" in run("check", "--config", str(path)).stdout
    path = write(tmp_path, "telemetry: {audit: {path: ./log/a.jsonl, checkpoint: {path: ./log/c.jsonl}}}\n")
    assert "whoever cuts one cuts both" in run("check", "--config", str(path)).stdout


def test_a_fleet_without_a_key_of_its_own_is_warned_of(tmp_path: Path, run: Any) -> None:
    for state, is_warned in (
        ("redis://r", True),
        ("{url: 'redis://r', fleet_key: {env: K}}", False),
        ("memory", False),
    ):
        done = run("check", "--config", str(write(tmp_path, f"state: {state}")), K="k")
        assert done.returncode == 0
        assert ("c.yaml:1: state.fleet_key: is not set" in done.stdout) == is_warned


def test_problems_of_providers_rules_and_redaction_are_said_together(tmp_path: Path, run: Any) -> None:
    rule = "rules:\n  - {id: s, description: d, then: {redact: {detectors: [nothing]}}}\n"
    (tmp_path / "rules.yaml").write_text(rule)
    text = "version: 1\npolicies: [./rules.yaml]\nredact: {words: {mine: [x]}}\n"
    done = run("check", "--config", str(write(tmp_path, text)))
    assert done.returncode == 2
    assert "rules.yaml:2: rules/s: then.redact.detectors: no detector" in done.stderr
    text = "version: 1\npolicies: [baselin]\nredact: {always: [{detectors: [emal]}]}\n"
    done = run("check", "--config", str(write(tmp_path, text)))
    assert done.returncode == 2
    assert "policies[0]: 'baselin' is no pack" in done.stderr
    assert "c.yaml:3: redact.always[0].detectors: no detector" in done.stderr


def test_a_model_is_shown_with_its_targets_and_those_that_no_call_reaches_are_warned_of(
    tmp_path: Path, run: Any
) -> None:
    text = "providers:\n  openai: {credential: {env: K}}\n  local: {kind: vllm, connect_to: 'http://127.0.0.1:1'}\n"
    text += "models:\n  one: {targets: [openai/gpt-5, local/llama-3], strategy: weighted}\n  two:\n    targets:\n"
    targets = ("openai/gpt-5", "anthropic/claude-sonnet-4-6", "vertex/gemini-2.5-pro", "azure/gpt-4o", "replicate/a/b")
    text += "".join(f"      - {target}\n" for target in targets)
    done = run("check", "--config", str(write(tmp_path, text)), K="key")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  model one: weighted over openai/gpt-5, local/llama-3\n" in done.stdout
    warned = [line.partition("models.")[2] for line in done.stdout.splitlines() if line.startswith("warning")]
    assert warned == [
        "two.targets[1]: no call reaches anthropic/claude-sonnet-4-6: anthropic has no credential of ours; "
        "set providers.anthropic.credential (a server of your own that takes none is of kind: vllm or ollama)",
        "two.targets[2]: no call reaches vertex/gemini-2.5-pro: the address of vertex is not known; "
        "set providers.vertex.connect_to, hosts or region",
        "two.targets[3]: no call reaches azure/gpt-4o: the address of azure is not known; "
        "set providers.azure.connect_to, hosts or region",
        "two.targets[4]: no call reaches replicate/a/b: replicate has no credential of ours; "
        "set providers.replicate.credential (a server of your own that takes none is of kind: vllm or ollama)",
    ]


def test_a_condition_of_a_model_that_cannot_be_evaluated_is_a_problem(tmp_path: Path, run: Any) -> None:
    text = "models:\n  smart:\n    targets: [openai/gpt-5]\n    strategy: smart\n    rules:\n"
    text += "      - {when: request.tokenz > 3, target: openai/gpt-5}\n"
    path = write(tmp_path, text)
    done = run("check", "--config", str(path))
    assert done.returncode == 2
    assert f"{path}:6: models.smart.rules[0].when: cannot be evaluated: " in done.stderr
    assert "tokenz" in done.stderr
