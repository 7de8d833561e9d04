"""The documentation says what the code does: its tables are read here and compared, its links and its script tried."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from outrider.cli.main import COMMANDS
from outrider.door.contract import EVENTS
from outrider.errors import SidecarError
from outrider.govern import verdicts
from outrider.lanes import http1
from outrider.runtimes import BASE_URLS, VARIABLES
from outrider.stack import translate
from outrider.telemetry import audit
from outrider.upstream import fetch
from support.running import client_of, get, local, post, running
from support.wire import Provider

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "proxy" / "outrider"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
# Counted by the code of the error: where that is an answer about the provider (lanes/http1.py) ...
BY_ERROR = {"upstream_unreachable", "upstream_timeout", "upstream_broken"}
BY_REFUSED_CLAIM = {"virtual_key_refused", "proxy_token_refused", "principal_required"}  # govern/principals.py


def rows(page: str, header: str) -> list[list[str]]:
    """The rows of the table in docs/<page> whose header begins with `header`, each as its cells."""
    text = (DOCS / page).read_text()
    start = text.index(f"\n| {header}") + 1
    table = text[start:].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_names(page: str, header: str) -> list[str]:
    found = [name for row in rows(page, header) for name in names(row[0])]
    assert len(found) == len(set(found)), "a name stands in the table twice"
    return found


def source_text(*suffixes: str) -> Iterable[str]:
    return (path.read_text() for path in sorted(SOURCE.rglob("*")) if path.suffix in suffixes)


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    shown = set(re.findall(r"`(?:\.venv/bin/)?outrider ([a-z]+)", page.read_text()))
    assert shown <= set(COMMANDS)


# --- README.md --------------------------------------------------------------------------------------------------------


def test_the_readmes_configuration_leaves_nothing_to_mend_but_the_keys(tmp_path: Path) -> None:
    from outrider.cli.check import checked, report

    found = re.search(r"^```yaml\n(version: 1\n.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found is not None
    path = tmp_path / "outrider.yaml"
    path.write_text(found.group(1))
    config, registry, _ = checked(path, {"HOME": str(tmp_path)})
    said = report(config, registry, {})
    assert len(said["models"]) == 2
    assert [one for one in said["warnings"] if ".credential: " not in one] == []


# --- docs/unified-api.md ----------------------------------------------------------------------------------------------


def test_the_page_of_the_unified_api_names_every_endpoint_and_what_it_speaks() -> None:
    from outrider.lanes.unified import MODELS_PATH, OPERATIONS

    said = {names(row[0])[0]: names(row[1]) for row in rows("unified-api.md", "endpoint | speaks")}
    real = {f"POST {path.decode()}": [operation.dialect] for path, operation in OPERATIONS.items()}
    listing = f"GET {MODELS_PATH.decode()}"
    assert {name: dialects for name, dialects in said.items() if name != listing} == real
    assert listing in said


# --- docs/telemetry.md ------------------------------------------------------------------------------------------------


async def test_the_metrics_page_names_every_metric_with_its_type_and_labels(tmp_path: Path) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        families = list(sidecar.metrics.collect())
    real = {}
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        real[name] = (family.type, tuple(family._labelnames))
    said = {names(row[0])[0]: (row[1], tuple(names(row[2]))) for row in rows("telemetry.md", "metric |")}
    assert said == real


def test_the_metrics_page_names_every_event() -> None:
    counted = set(EVENTS) | BY_ERROR | BY_REFUSED_CLAIM
    for text in source_text(".py"):
        for call in re.findall(r"\._?count\(([^)]*)", text):
            counted.update(re.findall(r'"([a-z0-9_]+)"', call.split(",")[0]))
    assert set(first_names("telemetry.md", "event |")) == counted


def test_only_errors_about_the_provider_are_counted_by_their_code() -> None:
    """Else the table of events has to name more of them."""
    text = (SOURCE / "lanes" / "http1.py").read_text()
    assert text.count("count(error.code") == 1
    assert "UpstreamConnectError | UpstreamTimeoutError | UpstreamBrokenError" in text


def test_the_metrics_page_names_every_error_as_it_is() -> None:
    # Imported where they are needed only: their errors join the table when they are.
    late = {http1.InternalError, verdicts.PolicyDeniedError, audit.AuditUnavailableError, fetch.MediaUnavailableError}
    late.add(translate.UntranslatableError)
    assert {error.code for error in late} <= set(SidecarError.by_code)
    retry = {None: "", True: "true", False: "false"}
    real = {code: [str(kind.status), retry[kind.should_retry]] for code, kind in SidecarError.by_code.items()}
    said = {names(row[0])[0]: row[1:3] for row in rows("telemetry.md", "code |")}
    # Errors that a test of its own defines join the family too.
    assert said == {code: row for code, row in real.items() if SidecarError.by_code[code].__module__[:8] == "outrider"}


def test_the_metrics_page_names_every_field_of_ours() -> None:
    real = {name for text in source_text(".py") for name in re.findall(r"x-outrider-[a-z]+(?:-[a-z]+)*", text)}
    assert set(first_names("telemetry.md", "field | on")) == real


def test_the_metrics_page_names_every_endpoint_of_the_admin_port() -> None:
    routes = re.findall(r'b"(/[^"]*)": lambda', (SOURCE / "admin" / "server.py").read_text())
    assert set(first_names("telemetry.md", "endpoint |")) == set(routes)


async def test_the_metrics_page_names_every_field_of_the_log_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
    plain = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    cut = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n"
    settings = {"telemetry": {"log": str(log)}, "limits": [{"name": "two", "requests": "2/h"}]}
    settings["prices"] = {"local/m": {"input": 1, "output": 1}}
    async with Provider() as provider, running(tmp_path, local(provider.url), **settings) as sidecar:
        for answer in (plain, cut, None):
            app = await client_of(sidecar)
            await app.send(post(sidecar, b'{"model":"m"}'))
            if answer is not None:
                behind = await provider.accept()
                await behind.until(b'{"model":"m"}')
                await behind.send(answer)
                behind.close()
            with contextlib.suppress(ConnectionResetError):
                await (app.rest() if answer is cut else app.answer())
            app.close()
        app = await client_of(sidecar)
        await app.send(get(sidecar, b"/nobody/v1/models"))
        await app.answer()
        app.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seen = {name for line in lines if line["event"] == "exchange" for name in line}
    said = set(first_names("telemetry.md", "field | meaning"))
    assert said - seen <= {"attempts", "shadow", "asked", "targets", "translated"}
    assert seen <= said
    tokens = next(line["tokens"] for line in lines if "tokens" in line)
    row = next(row for row in rows("telemetry.md", "field | meaning") if row[0] == "`tokens`")
    assert names(row[1]) == list(tokens)


# --- docs/policies.md -------------------------------------------------------------------------------------------------


def test_the_policies_page_names_every_field_and_action() -> None:
    from outrider.govern.cel import TIME_FIELDS, VARIABLES
    from outrider.govern.packs import shipped
    from outrider.govern.reading import FIELDS
    from outrider.govern.rules import ACTIONS, Match, Rule

    assert set(first_names("policies.md", "pack |")) == set(shipped())
    assert {names(row[0])[0]: row[1] for row in rows("policies.md", "request field |")} == {
        name: field.type for name, field in FIELDS.items()
    }
    clock = {f"time.{name}" for name in TIME_FIELDS}
    assert {name for row in rows("policies.md", "variable | type") for name in names(row[0])} == {*VARIABLES, *clock}
    assert set(first_names("policies.md", "field | matches")) == set(Match.model_fields)
    assert set(first_names("policies.md", "action |")) == set(ACTIONS)
    keys = {field.alias or name for name, field in Rule.model_fields.items()}
    assert set(first_names("policies.md", "key | meaning")) == keys


def test_the_policies_page_names_every_operation() -> None:
    from outrider.providers import BUILT_IN

    text = (DOCS / "policies.md").read_text()
    said = set(names(text[text.index("\nOperations: ") :].split("\n\n", 1)[0]))
    real = {row.operation.name for provider in BUILT_IN.values() for row in provider.endpoints}
    assert said == real | {"unknown", "tunnel"}


def test_the_example_of_a_rule_file_and_its_case_hold(tmp_path: Path) -> None:
    from outrider.govern.cases import Runner, load_cases

    for name in ("rules.yaml", "cases.yaml"):
        found = re.search(rf"^```yaml\n(# {name}.*?)^```", (DOCS / "policies.md").read_text(), re.M | re.S)
        assert found is not None
        (tmp_path / name).write_text(found.group(1))
    results = list(Runner(tmp_path / "rules.yaml").run(load_cases(tmp_path / "cases.yaml")))
    assert results
    assert all(result.passed for result in results), results


# --- docs/interception.md ---------------------------------------------------------------------------------------------


def test_the_interception_page_names_every_variable() -> None:
    assert first_names("interception.md", "variable | value") == [row.name for row in VARIABLES]


def test_the_interception_page_names_every_base_url() -> None:
    said = {names(row[0])[0]: names(row[1])[0] for row in rows("interception.md", "variable | path")}
    assert said == {row.name: row.path for row in BASE_URLS}


def test_the_troubles_that_the_interception_page_names_exist() -> None:
    known = set(first_names("telemetry.md", "event |")) | set(SidecarError.by_code)
    said = {name for row in rows("interception.md", "what you see") for name in names(row[0])}
    assert said <= known


@pytest.fixture
def redirect(tmp_path: Path) -> Path:
    page = (DOCS / "interception.md").read_text()
    found = re.search(r"^```sh\n(#!/bin/sh\n.*?)^```", page, re.M | re.S)
    assert found is not None
    path = tmp_path / "redirect.sh"
    path.write_text(found.group(1))
    return path


def listed(redirect: Path, *steps: str) -> str:
    """The rules of all four tables after the script ran with each of `steps`, in a network namespace of its own."""
    tools = ("unshare", "iptables", "ip6tables")
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip() != "0":
        pytest.skip("Needs root to write rules in a network namespace of its own.")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"Needs {', '.join(missing)} to write rules.")
    show = "; ".join(f"{tables} -w -t {table} -S" for tables in tools[1:] for table in ("nat", "filter"))
    probe = subprocess.run(["unshare", "-n", "sh", "-ec", show], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"This machine cannot write rules in a network namespace: {probe.stderr.strip()[-200:]}")
    runs = "; ".join(f"{step.partition(' ')[2]} sh {shlex.quote(str(redirect))} {step.split()[0]}" for step in steps)
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", f"{runs}; {show}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_redirection_can_be_installed_twice_and_removed_without_a_trace(redirect: Path) -> None:
    once = listed(redirect, "install")
    assert listed(redirect, "install", "install") == once
    assert "OUTRIDER" not in listed(redirect, "install", "remove", "remove")
    for port in ("REDIRECT --to-ports 8486", "--uid-owner 2102 -j RETURN", "-p udp -m udp --dport 443 -j OUTRIDER"):
        assert once.count(port) >= 2, f"{port} is for one family only"
    assert "icmp-port-unreachable" in once
    assert "icmp6-port-unreachable" in once


def test_the_redirection_can_be_for_one_user(redirect: Path) -> None:
    once = listed(redirect, "install APP_UID=1000 SIDECAR_UID=7 PORT=99")
    assert once.count("! --uid-owner 1000 -j RETURN") == 4
    assert once.count("--uid-owner 7 -j RETURN") == 4
    assert once.count("REDIRECT --to-ports 99") == 2


def test_the_redirection_refuses_a_sidecar_that_runs_as_root(redirect: Path) -> None:
    done = subprocess.run(
        ["sh", str(redirect), "install"], env={"SIDECAR_UID": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "root" in done.stderr


# --- docs/threat-model.md ---------------------------------------------------------------------------------------------


def test_the_threat_model_names_code_and_tests_that_exist() -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.M)
    }
    for number, rule, kept, shown in rows("threat-model.md", "# | rule"):
        assert number.isdigit()
        if kept.startswith("not yet"):
            assert not shown.strip("| "), rule
            continue
        assert names(kept), rule
        assert all((ROOT / path).is_file() for path in names(kept)), rule
        assert names(shown), rule
        assert set(names(shown)) <= known, f"{rule}: {set(names(shown)) - known}"


def test_the_threat_model_speaks_of_every_rule() -> None:
    assert {int(row[0]) for row in rows("threat-model.md", "# | rule")} == set(range(1, 20))


# --- the image --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of each, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip()) for line in joined.splitlines() if line.strip() for word, _, rest in [line.partition(" ")]
    ]


def test_the_image_has_no_floating_tag_and_no_add(dockerfile: list[tuple[str, str]]) -> None:
    bases = [rest.split()[0] for word, rest in dockerfile if word == "FROM"]
    assert bases
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    assert not [rest for word, rest in dockerfile if word == "ADD"]


def test_the_image_caches_nothing_and_its_last_stage_has_no_compiler(dockerfile: list[tuple[str, str]]) -> None:
    runs = [rest for word, rest in dockerfile if word == "RUN"]
    assert all("--no-cache-dir" in run for run in runs if "pip " in run)
    assert all("--no-install-recommends" in run and "/var/lib/apt/lists" in run for run in runs if "apt-get" in run)
    last = max(at for at, (word, _) in enumerate(dockerfile) if word == "FROM")
    assert not [rest for word, rest in dockerfile[last:] if "gcc" in rest or "apt-get" in rest]


def test_the_image_runs_as_a_user_of_its_own(dockerfile: list[tuple[str, str]]) -> None:
    said = dict(dockerfile)
    assert said["USER"] == "2102:2102"
    assert json.loads(said["ENTRYPOINT"]) == ["outrider"]
    assert json.loads(said["CMD"]) == ["run"]
    assert said["EXPOSE"].split() == ["8484", "8485", "8486"]
    home = re.search(r"HOME=(\S+)", said["ENV"])
    assert home is not None
    assert json.loads(said["VOLUME"]) == [home.group(1)]  # all that is written under a read-only root


def test_the_image_holds_no_secret(dockerfile: list[tuple[str, str]]) -> None:
    for word, rest in dockerfile:
        if word in ("ENV", "ARG"):
            assert not re.search(r"KEY|TOKEN|SECRET|PASSW", rest, re.I)


def test_the_image_copies_what_the_build_needs_and_the_ignore_file_lets_it(dockerfile: list[tuple[str, str]]) -> None:
    copied = {name for word, rest in dockerfile if word == "COPY" for name in rest.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in", "proxy", "ext"} <= copied


async def test_the_images_health_check_asks_a_running_sidecar(
    tmp_path: Path, dockerfile: list[tuple[str, str]]
) -> None:
    from asyncio.subprocess import create_subprocess_exec

    check = dict(dockerfile)["HEALTHCHECK"]
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[:2] == ["python", "-c"]
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    async with Provider() as provider, running(tmp_path, local(provider.url), listen=listen) as sidecar:
        port = sidecar.admin_addresses[0][1]
        code = command[2].replace("8485", str(port))
        assert code != command[2]
        asked = await create_subprocess_exec(sys.executable, "-c", code)
        assert await asked.wait() == 0
    asked = await create_subprocess_exec(sys.executable, "-c", code, stderr=-3)
    assert await asked.wait() != 0  # nobody is there any more


def test_the_changelog_begins_with_the_version_that_is_built() -> None:
    from outrider import __version__

    found = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert found is not None
    assert found.group(1) == __version__
