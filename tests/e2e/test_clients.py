"""Every runtime that is here, as its users run it: a child with what `outrider env` prints, and nothing else."""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e import clients
from e2e.conftest import Start
from e2e.rig import REAL, ROOT, Ride, until

CACHE = ROOT / ".make"
# A self-hosted provider, in plain HTTP, that takes the app's own key.
LOCAL: Any = {
    "providers": {"local": {"kind": "vllm", "hosts": ["llm.internal"], "connect_to": "MOCK_HTTP"}},
    "mock": {"keys": {"openai": [REAL["openai"], "app-own"]}},
}
ANSWER = "Echo: hello big world"
BEARER = f"Bearer {REAL['openai']}"


def tool(name: str) -> str:
    """The program's path; the test is skipped where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"There is no {name} on this machine.")
    return found


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One test run at a time fills a folder of downloads."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def node22() -> Path:
    """A folder with Node 22 and openai in node_modules, from npm, downloaded once."""
    npm, folder = tool("npm"), CACHE / "node"
    modules = folder / "node_modules"
    with locked(folder):
        if not (modules / ".bin" / "node").is_file() or not (modules / "openai").is_dir():
            command = [
                npm,
                "install",
                "--no-audit",
                "--no-fund",
                "--fetch-retries=0",
                "--prefix",
                str(folder),
                "node@22",
                "openai@6",
            ]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if ran.returncode or not (modules / ".bin" / "node").is_file():
                pytest.skip(f"npm could not install Node 22 and openai: {ran.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(scope="session")
def grpcio() -> Path:
    """A folder with grpcio, from the package index, downloaded once."""
    folder = CACHE / "grpcio"
    with locked(folder):
        if not (folder / "grpc").is_dir():
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--retries=0",
                "--timeout=90",
                "--target",
                str(folder),
                "grpcio>=1.70",
            ]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if ran.returncode:
                pytest.skip(f"pip could not install grpcio: {ran.stderr.strip()[-200:]}")
    return folder


QUIET = {"NODE_NO_WARNINGS": "1"}  # EnvHttpProxyAgent calls itself experimental


def binary_of(folder: Path) -> str:
    return str(folder / "node_modules" / ".bin" / "node")


def run(command: Sequence[str], env: dict[str, str], cwd: Path | None = None) -> str:
    """The child's output, stripped; whatever it complained about fails the test."""
    ran = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    complaints = [line for line in ran.stderr.splitlines() if not line.startswith("Picked up JAVA_TOOL_OPTIONS")]
    assert (ran.returncode, complaints) == (0, []), ran.stderr[-3000:]
    return ran.stdout.strip()


def check(ride: Ride, operation: str = "chat", credential: str = BEARER) -> None:
    """The one request that came carried the real key, and was counted."""
    assert [entry.header("authorization") for entry in ride.mock.journal] == [credential]
    ride.assert_hidden()
    assert [row[:2] for row in ride.requests()] == [("openai", operation)]


# --- Python -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in clients.PYTHON if name != "boto3"])
def test_a_python_client_needs_nothing_but_the_environment(ride: Ride, name: str) -> None:
    assert run([sys.executable, "-c", clients.python(name)], ride.app_env()) == ANSWER
    check(ride)


@pytest.mark.parametrize("trust", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_boto3_reads_either_of_its_trust_variables(ride: Ride, trust: str) -> None:
    env = ride.app_env()
    for name in {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} - {trust}:
        del env[name]
    assert run([sys.executable, "-c", clients.python("boto3")], env) == ANSWER
    assert ride.entry.header("authorization") == f"Bearer {REAL['bedrock']}"
    ride.assert_hidden()


@pytest.mark.parametrize("name", clients.REALTIME)
def test_a_realtime_session_gets_the_real_key_whichever_way_it_carried_the_placeholder(ride: Ride, name: str) -> None:
    assert run([sys.executable, "-c", clients.realtime(name)], ride.app_env()) == ANSWER
    check(ride, "realtime")
    assert ride.entry.status == 101
    assert "openai-insecure-api-key" not in (ride.entry.header("sec-websocket-protocol") or "")
    assert len(ride.entry.messages) == 2


def test_a_child_without_the_variables_does_not_trust_us_and_is_told_what_to_set(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ride = start(telemetry={"log": str(log)})
    env = ride.app_env()
    del env["SSL_CERT_FILE"]
    ran = subprocess.run([sys.executable, "-c", clients.python("httpx")], env=env, capture_output=True, check=False)
    assert ran.returncode != 0
    until(lambda: ride.events().get("client_untrusting") == 1)
    until(lambda: "client_untrusting" in log.read_text())
    (line,) = [row for row in map(json.loads, log.read_text().splitlines()) if row["event"] == "client_untrusting"]
    assert line["host"] == "api.openai.com"
    assert "SSL_CERT_FILE" in line["message"]


# --- curl, wget, git --------------------------------------------------------------------------------------------------


def test_curl_needs_nothing_but_the_environment(ride: Ride) -> None:
    command = [tool("curl"), *clients.CURL[1:], "-H", f"authorization: Bearer {ride.placeholder}", clients.URL]
    assert f'"content":"{ANSWER}"' in run(command, ride.app_env())
    check(ride)


@pytest.mark.parametrize("trust", ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_curl_reads_either_of_its_trust_variables(ride: Ride, trust: str) -> None:
    env = ride.app_env()
    for name in {"SSL_CERT_FILE", "CURL_CA_BUNDLE"} - {trust}:
        del env[name]
    command = [tool("curl"), *clients.CURL[1:], "-H", f"authorization: Bearer {ride.placeholder}", clients.URL]
    assert f'"content":"{ANSWER}"' in run(command, env)


def test_curl_reaches_the_sidecar_by_base_url(ride: Ride) -> None:
    env = ride.app_env("--base-url")
    url = env["OPENAI_BASE_URL"] + "/chat/completions"
    command = [tool("curl"), *clients.CURL[1:], "-H", f"authorization: Bearer {ride.placeholder}", url]
    assert f'"content":"{ANSWER}"' in run(command, env)
    check(ride)


def test_curl_waits_for_the_providers_leave_to_send_a_large_body(ride: Ride, tmp_path: Path) -> None:
    body = tmp_path / "body"
    text = "x" * 3_000_000
    body.write_text(json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}))
    command = [tool("curl"), "-sS", "-H", f"authorization: Bearer {ride.placeholder}", "-H", "expect: 100-continue",
               "-H", "content-type: application/json", "--data-binary", f"@{body}", clients.URL]  # fmt: skip
    assert '"choices"' in run(command, ride.app_env())
    assert ride.entry.body == body.read_bytes()


def test_wget_finds_the_proxy_by_the_environment_and_takes_the_bundle(ride: Ride) -> None:
    """Wget over OpenSSL reads SSL_CERT_FILE; over GnuTLS, as Debian builds it, no variable names a CA."""
    env = ride.app_env()
    command = [tool("wget"), *clients.WGET[1:], f"--header=authorization: Bearer {ride.placeholder}"]
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    if "ssl/gnutls" in version:
        command.append(f"--ca-certificate={env['SSL_CERT_FILE']}")
    assert f'"content":"{ANSWER}"' in run([*command, clients.URL], env)
    check(ride)


def test_git_trusts_us_and_gets_no_key_for_what_is_no_operation(ride: Ride) -> None:
    command = [tool("git"), "ls-remote", "https://api.openai.com/some/repository.git"]
    env = ride.app_env() | {"GIT_TERMINAL_PROMPT": "0"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert "could not read Username" in ran.stderr  # the provider's 401, as git takes it
    assert ride.entry.target == "/some/repository.git/info/refs?service=git-upload-pack"
    assert (ride.entry.header("user-agent") or "").startswith("git/")
    assert ride.entry.header("authorization") is None


# --- Node -------------------------------------------------------------------------------------------------------------


def test_node_20_trusts_us_when_something_else_brings_it_to_the_proxy(ride: Ride) -> None:
    assert run([tool("node"), "-e", clients.node("https by an own CONNECT")], ride.app_env()) == ANSWER
    check(ride)


def test_node_20_fetch_reaches_the_sidecar_by_base_url(ride: Ride) -> None:
    env = ride.app_env("--base-url")
    env["TEST_URL"] = env["OPENAI_BASE_URL"] + "/chat/completions"
    assert run([tool("node"), "-e", clients.node("fetch")], env) == ANSWER
    check(ride)


@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
def test_openai_for_node_reaches_the_sidecar_by_base_url(ride: Ride, node22: Path, name: str) -> None:
    assert run([tool("node"), "-e", clients.node(name)], ride.app_env("--base-url"), node22) == ANSWER
    check(ride)
    assert [count for (_, _, kind), count in ride.tokens().items() if kind == "output"] == [4]


@pytest.mark.parametrize("name", ["fetch", "https", "openai", "openai, streamed"])
def test_node_22_needs_nothing_but_the_environment(ride: Ride, node22: Path, name: str) -> None:
    assert run([binary_of(node22), "-e", clients.node(name)], ride.app_env() | QUIET, node22) == ANSWER
    check(ride)


def test_node_22_speaks_websocket_with_its_key_as_a_subprotocol(ride: Ride, node22: Path) -> None:
    assert run([binary_of(node22), "-e", clients.node("WebSocket")], ride.app_env() | QUIET, node22) == ANSWER
    check(ride, "realtime")


def test_node_22_fetch_opens_a_tunnel_for_plain_http_too(start: Start, node22: Path) -> None:
    ride = start(**LOCAL)
    env = ride.app_env() | {"TEST_URL": "http://llm.internal/v1/chat/completions", "OPENAI_API_KEY": "app-own"} | QUIET
    assert run([binary_of(node22), "-e", clients.node("fetch")], env) == ANSWER
    assert ride.entry.header("host") == "llm.internal"
    assert [row[:2] for row in ride.requests()] == [("local", "chat")]


# --- Java -------------------------------------------------------------------------------------------------------------


def test_java_needs_nothing_but_java_tool_options(start: Start, tmp_path: Path) -> None:
    """HttpClient offers h2 and http/1.1, and asks plain servers for h2c; the old URLConnection does neither."""
    ride = start(**LOCAL)
    source = tmp_path / "App.java"
    source.write_text(clients.JAVA)
    plain = "http://llm.internal/v1/chat/completions"
    env = ride.app_env()
    printed = run([tool("java"), str(source), clients.URL, f"old {clients.URL}"], env)
    assert printed.splitlines() == [ANSWER] * 2
    assert [entry.header("authorization") for entry in ride.mock.journal] == [BEARER] * 2
    ride.assert_hidden()
    printed = run([tool("java"), str(source), plain], env | {"OPENAI_API_KEY": "app-own"})
    assert printed == ANSWER
    assert (ride.entry.header("upgrade"), ride.entry.header("http2-settings")) == (None, None)
    assert ride.entry.header("authorization") == "Bearer app-own"


# --- HTTP/2 only ------------------------------------------------------------------------------------------------------


def test_a_client_that_offers_only_h2_is_refused_clearly_and_counted(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ride = start(telemetry={"log": str(log)})
    printed = run([sys.executable, "-c", clients.H2_ONLY], ride.app_env())
    assert "no application protocol" in printed.lower().replace("_", " ")
    assert ride.events()["http2_denied"] == 1
    until(lambda: "http2_denied" in log.read_text())
    assert len(ride.mock.journal) == 0


def test_grpcio_is_refused_at_once_and_counted(ride: Ride, grpcio: Path) -> None:
    env = ride.app_env() | {"PYTHONPATH": str(grpcio), "GRPC_VERBOSITY": "NONE"}
    assert run([sys.executable, "-c", clients.GRPC], env) == "UNAVAILABLE"
    assert ride.events()["http2_denied"] >= 1
    assert len(ride.mock.journal) == 0
