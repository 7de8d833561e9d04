"""`outrider exec -- CMD` as a process, against the provider emulator; and the child's signals with a stand-in."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.cli.exec_ import Child
from outrider.cli.main import main
from outrider.mock import MockProvider

KEY = "sk-planted-openai-0123456789"
OTHER = "sk-ant-planted-0123456789"
ASK = """
import os, openai
assert "planted" not in repr(dict(os.environ))
with openai.OpenAI(max_retries=0, timeout=120) as client:
    chunks = client.chat.completions.create(
        model="gpt-5-mini", stream=True, messages=[{"role": "user", "content": "who rides"}])
    print("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProvider]:
    with MockProvider(keys={"openai": KEY}, capture=True) as provider:
        yield provider


@pytest.fixture
def config(mock: MockProvider, tmp_path: Path) -> Path:
    path = tmp_path / "exec.yaml"
    path.write_text(f'providers: {{openai: {{connect_to: "{mock.https_url}", upstream_ca: "{mock.ca_file}"}}}}\n')
    return path


def user_environment(folder: Path, **more: str) -> dict[str, str]:
    (folder / "tmp").mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        **more,
    }


def execute(*arguments: str | Path, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrider", "exec", *map(str, arguments)]
    return subprocess.run(
        command, env=env, cwd=cwd or env["HOME"], capture_output=True, text=True, timeout=120, check=False
    )


def test_an_unmodified_sdk_reaches_its_provider_and_never_holds_the_key(
    mock: MockProvider, config: Path, tmp_path: Path
) -> None:
    mock.journal.clear()
    env = user_environment(tmp_path, OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=OTHER)
    done = execute("--config", config, "--log", "log.jsonl", "--", sys.executable, "-c", ASK, env=env)
    assert (done.returncode, done.stdout) == (0, "Echo: who rides\n"), done.stderr
    assert done.stderr.startswith(
        "outrider: intercepting openai, anthropic; 2 keys hidden from the app; http://127.0.0.1:"
    )
    assert len(done.stderr.splitlines()) == 1
    (entry,) = mock.journal.snapshot()
    assert entry.header("authorization") == f"Bearer {KEY}"
    assert b"sk-outrider-" not in b"".join(bytes(part) for part in (mock.captured or {}).values())
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["tokens"]["output"] == 3
    assert "planted" not in line
    assert not list((tmp_path / "tmp").iterdir())


def test_the_child_sees_placeholders_the_proxy_and_merged_variables(tmp_path: Path, mock: MockProvider) -> None:
    env = user_environment(
        tmp_path,
        OPENAI_API_KEY=KEY,
        COPY_OF_IT=f"Bearer {KEY}",
        ANTHROPIC_API_KEY=OTHER,
        NO_PROXY="corp.internal,.openai.com",
        REQUESTS_CA_BUNDLE=str(mock.ca_file),
        ALL_PROXY="http://127.0.0.1:9",
    )
    script = 'env; echo "=CUT="; cat "$REQUESTS_CA_BUNDLE"; echo "=CUT="; tr "\\0" "\\n" < /proc/$PPID/environ'
    done = execute("--", "sh", "-c", script, env=env)
    assert done.returncode == 0, done.stderr
    assert "planted" not in done.stdout + done.stderr
    text, bundle, _ = done.stdout.split("=CUT=\n")
    seen = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert seen["OPENAI_API_KEY"].startswith("sk-outrider-")
    assert seen["COPY_OF_IT"] == f"Bearer {seen['OPENAI_API_KEY']}"
    assert seen["HTTPS_PROXY"] == seen["https_proxy"] == done.stderr.split("; ")[2].splitlines()[0]
    assert "ALL_PROXY" not in seen
    assert seen["NO_PROXY"].split(",") == ["localhost", "127.0.0.1", "::1", "corp.internal"]
    assert not [name for name in seen if name.startswith("OUTRIDER__")]
    assert mock.ca_file.read_text().strip() in bundle
    assert "NO_PROXY entry '.openai.com' is left out" in done.stderr


def test_one_sidecar_goes_through_another_and_trusts_what_the_user_trusts(
    mock: MockProvider, config: Path, tmp_path: Path
) -> None:
    """The outer one is the inner one's corporate proxy, with a CA that only the environment's variables vouch for."""
    env = user_environment(tmp_path, OPENAI_API_KEY=KEY)
    drop = ("env", "-u", "SSL_CERT_FILE")
    inner = (*drop, sys.executable, "-m", "outrider", "exec", "--", sys.executable, "-c", ASK)
    done = execute("--config", config, "--", *inner, env=env)
    assert (done.returncode, done.stdout) == (0, "Echo: who rides\n"), done.stderr
    assert [line.split("; ")[1] for line in done.stderr.splitlines()] == [
        "1 key hidden from the app",
        "0 keys hidden from the app",
    ]


def test_a_kept_variable_stays_with_the_app(mock: MockProvider, config: Path, tmp_path: Path) -> None:
    ask = ASK.replace('assert "planted" not in repr(dict(os.environ))', "print(os.environ['OPENAI_API_KEY'])")
    env = user_environment(tmp_path, OPENAI_API_KEY=KEY)
    done = execute("--config", config, "--keep", "OPENAI_API_KEY", "--", sys.executable, "-c", ask, env=env)
    assert (done.returncode, done.stdout) == (0, f"{KEY}\nEcho: who rides\n"), done.stderr
    assert "0 keys hidden" in done.stderr


def test_a_key_from_a_file_reaches_the_provider_of_an_app_that_has_none(
    mock: MockProvider, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    config.write_text(config.read_text().replace("connect_to", f"credential: {{file: {tmp_path}/key}}, connect_to"))
    done = execute("--config", config, "--quiet", "--", sys.executable, "-c", ASK, env=user_environment(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Echo: who rides\n", "")


ASK_BEDROCK = """
import os, boto3
assert "PLANTED" not in repr(dict(os.environ)).upper()
client = boto3.client("bedrock-runtime", region_name="us-east-1")
said = client.converse(modelId="anthropic.claude-3-haiku-20240307-v1:0",
    messages=[{"role": "user", "content": [{"text": "who rides"}]}])
print(said["output"]["message"]["content"][0]["text"])
"""


def test_access_keys_sign_for_an_app_that_holds_a_pair_of_placeholders(tmp_path: Path) -> None:
    pytest.importorskip("boto3", reason="This test's app needs boto3.")
    pair = {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED012345678",
        "AWS_SECRET_ACCESS_KEY": "planted/0123456789/abcdefghij0123456789",
    }
    with MockProvider(keys={"bedrock": ":".join(pair.values())}) as mock:
        (tmp_path / "aws.yaml").write_text(
            "providers: {bedrock: {region: us-east-1, credential: {env: AWS_ACCESS_KEY_ID}, "
            f'connect_to: "{mock.https_url}", upstream_ca: "{mock.ca_file}"}}}}'
        )
        env = user_environment(tmp_path, AWS_EC2_METADATA_DISABLED="true", **pair)
        done = execute("--config", "aws.yaml", "--", sys.executable, "-W", "ignore", "-c", ASK_BEDROCK, env=env)
        assert (done.returncode, done.stdout) == (0, "Echo: who rides\n"), done.stderr
        assert "1 key hidden" in done.stderr
        assert "Credential=AKIAPLANTED012345678/" in (mock.journal[0].header("authorization") or "")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed on this machine.")
def test_curl_works_and_one_that_trusts_other_roots_is_told_of(config: Path, tmp_path: Path) -> None:
    env = user_environment(tmp_path, OPENAI_API_KEY=KEY)
    url = 'https://api.openai.com/v1/models -H "authorization: Bearer $OPENAI_API_KEY"'
    done = execute("--config", config, "--", "sh", "-c", f"curl -sf {url}", env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["object"] == "list"
    (tmp_path / "other.pem").write_text("")
    done = execute("--config", config, "--", "sh", "-c", f"curl -sf --cacert /dev/null {url}", env=env)
    assert done.returncode in (60, 77)
    if done.returncode == 60:
        assert "a client did not trust the certificate for openai" in done.stderr


def test_a_configuration_that_was_only_found_may_not_lead_keys_elsewhere(mock: MockProvider, tmp_path: Path) -> None:
    (tmp_path / "outrider.yaml").write_text(f'providers: {{openai: {{connect_to: "{mock.https_url}"}}}}\n')
    done = execute("--", "true", env=user_environment(tmp_path, OPENAI_API_KEY=KEY))
    assert done.returncode == 2
    assert (
        "providers.openai.connect_to: a configuration that was found in the working folder may not set this"
        in done.stderr
    )


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_the_exit_code_is_the_commands(script: str, code: int, tmp_path: Path) -> None:
    assert execute("--quiet", "--", "sh", "-c", script, env=user_environment(tmp_path)).returncode == code


def test_standard_input_and_the_core_limit_are_the_commands(tmp_path: Path) -> None:
    outrider = f"{sys.executable} -m outrider exec --quiet"
    command = f'ulimit -Sc; echo hello | {outrider} -- sh -c "cat; ulimit -Sc; ulimit -Hc"; ulimit -Hc'
    done = subprocess.run(
        ["sh", "-c", command], env=user_environment(tmp_path), capture_output=True, text=True, timeout=120, check=True
    )
    soft, *seen, hard = done.stdout.split()
    assert seen == ["hello", soft, hard]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH])
def test_a_signal_goes_to_the_command_once(number: signal.Signals, tmp_path: Path) -> None:
    script = (
        "import signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        "print('ready', flush=True)\n"
        f"signal.sigwait([{int(number)}])\n"
        f"sys.exit(40 + len(signal.sigpending()))\n"
    )
    command = [sys.executable, "-m", "outrider", "exec", "--quiet", "--", sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=user_environment(tmp_path), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(120) == 40


class StandIn:
    """A process that notes the signals it gets."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def send_signal(self, number: int) -> None:
        self.got.append(number)


@pytest.mark.parametrize(("foreground", "got"), [(True, [signal.SIGTERM]), (False, [signal.SIGINT, signal.SIGTERM])])
def test_what_the_terminal_sends_to_the_whole_job_is_not_sent_again(foreground: bool, got: list[int]) -> None:
    child, process = Child(lambda: foreground), StandIn()
    child._process = process  # type: ignore[assignment]
    child.pass_on(signal.SIGINT)
    child.pass_on(signal.SIGTERM)
    assert process.got == got


async def test_a_command_that_is_told_to_end_before_it_began_does_not_begin(tmp_path: Path) -> None:
    child = Child()
    child.pass_on(signal.SIGWINCH)
    child.pass_on(signal.SIGTERM)
    assert await child.run(["touch", str(tmp_path / "began")], {"PATH": os.environ["PATH"]}) == 143
    assert not (tmp_path / "began").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["exec"], 2, "outrider: exec needs a command to run: outrider exec -- python app.py\n"),
        (["exec", "--"], 2, "outrider: exec needs a command to run: outrider exec -- python app.py\n"),
        (["exec", "--", "no-such-command"], 127, "outrider: no-such-command is not on the PATH; name its path\n"),
        (["exec", "--", "/no/such"], 127, "outrider: /no/such is not there; check the path\n"),
        (["exec", "--", "FILE"], 126, "is not a file that this user may execute; check its mode\n"),
        (["exec", "--log", "/no/such/log", "--", "true"], 1, "the log file /no/such/log cannot be opened: "),
        (["exec", "--config", "/no/such.yaml", "--", "true"], 2, "/no/such.yaml: cannot be read: "),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    arguments: list[str], code: int, says: str, *, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # In this process, which the next tests need as it is.
    monkeypatch.setattr("outrider.cli.exec_.harden_process", lambda **_: [])
    assert main([word.replace("FILE", str(tmp_path / "file")) for word in arguments]) == code
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert says in err
