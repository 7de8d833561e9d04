"""Keys planted in every kind of source, a varied day's work, then a search for them everywhere but at the provider."""

import base64
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from e2e.commands import Running, outrider, running
from e2e.netns_ride import AS_SIDECAR, SIDECAR_UID
from e2e.rig import AWS_KEY_ID, AWS_SECRET, REAL, VARIABLE_OF, fetch, until
from outrider.mock import MockProvider
from outrider.secrets.placeholder import Placeholder

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}),
    "anthropic": (
        "/v1/messages",
        {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
    ),
    "gemini": (
        "/v1beta/models/gemini-2.5-flash:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    ),
}
SLOT = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
PLANTED = {name: REAL[name] for name in BODIES} | {"aws": AWS_SECRET, "proxy": "pr0xy-PLANTED-password"}


@dataclass
class Day:
    """The sidecar, its provider, and everything that anyone saw of it."""

    sidecar: Running
    mock: MockProvider
    config: Path
    env: dict[str, str]
    placeholder: Placeholder
    seen: dict[str, bytes] = field(default_factory=dict)

    def ask(self, provider: str, *, key: str | None = None, path: str | None = None, **more: Any) -> httpx.Response:
        target, body = BODIES[provider]
        prefix = "Bearer " if provider == "openai" else ""
        headers = {SLOT[provider]: prefix + (self.placeholder.value if key is None else key)}
        headers["anthropic-version"] = "2023-06-01"
        url = f"{self.sidecar.proxy_url}/{provider}{path or target}"
        with self.client.stream("POST", url, json=body | more, headers=headers) as answer:
            name = f"answer {len(self.seen)}"
            self.seen[name] = b"%d\n%b\n" % (
                answer.status_code,
                b"\n".join(b"%b: %b" % row for row in answer.headers.raw),
            )
            for piece in answer.iter_raw():  # what came before a cut counts too
                self.seen[name] += piece
        return answer

    def __post_init__(self) -> None:
        self.client = httpx.Client(trust_env=False, timeout=120)


def prefix() -> tuple[str, ...]:
    """As root the sidecar gets a user of its own, so that one may ask what its user can read of it."""
    return AS_SIDECAR if os.geteuid() == 0 and shutil.which("setpriv") else ()


def configuration(folder: Path, mock: MockProvider) -> tuple[Path, dict[str, str]]:
    """One key from each kind of source. The corporate proxy is never dialled: config names every address."""
    (folder / "key").write_text(PLANTED["anthropic"] + "\n")
    (folder / "aws").write_text(f"[real]\naws_access_key_id = {AWS_KEY_ID}\naws_secret_access_key = {AWS_SECRET}\n")
    sources = {
        "openai": {"env": VARIABLE_OF["openai"]},
        "anthropic": {"file": str(folder / "key")},
        "gemini": {"env": VARIABLE_OF["gemini"]},
        "bedrock": {"aws": "real"},
    }
    reach = {"connect_to": mock.https_url, "upstream_ca": str(mock.ca_file)}
    providers: dict[str, Any] = {name: reach | {"credential": source} for name, source in sources.items()}
    providers["bedrock"]["region"] = "us-east-1"
    config = folder / "outrider.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
                "ca": {"dir": str(folder / "ca")},
                "providers": providers,
                "limits": [{"name": "few", "requests": "40/h", "providers": ["gemini"], "burst": 3}],
                "telemetry": {"log_level": "debug"},
                "timeouts": {"connect_s": 0.5, "tls_s": 1.0, "first_byte_s": 1.0},
            }
        )
    )
    env = {
        VARIABLE_OF["openai"]: PLANTED["openai"],
        VARIABLE_OF["gemini"]: PLANTED["gemini"],
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws"),
        "OUTRIDER__UPSTREAM__PROXY": f"http://user:{PLANTED['proxy']}@127.0.0.1:9",
        "HOME": str(folder),
    }
    return config, env


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leaks")


@pytest.fixture
def day(folder: Path) -> Iterator[Day]:
    keys = {name: PLANTED[name] for name in BODIES} | {"bedrock": f"{AWS_KEY_ID}:{AWS_SECRET}"}
    with MockProvider(keys=keys, tls_dir=folder / "mock", capture=True) as mock:
        config, env = configuration(folder, mock)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, SIDECAR_UID, SIDECAR_UID)
        with running(config, env, folder, prefix=prefix()) as sidecar:
            day = Day(sidecar, mock, config, env, Placeholder.open(folder / "ca"))
            with day.client:
                yield day


def work(day: Day) -> None:
    """Good calls, bad calls and bad luck."""
    for provider in BODIES:
        assert day.ask(provider).status_code == 200
        assert day.ask(provider, key="sk-of-somebody-else").status_code == 401
        assert day.ask(provider, path="/v1/nothing/like/this").status_code >= 400
    for trouble in ({"status": 500}, {"status": 401}, {"status": 429}, {"stall": "head"}, {"cut_after_bytes": 10}):
        day.mock.next(**trouble)
        try:
            day.ask("openai")
        except httpx.HTTPError as exc:
            day.seen[f"{trouble}"] = repr(exc).encode()
    assert day.ask("openai", stream=True).headers["content-type"].startswith("text/event-stream")
    for _ in range(3):
        last = day.ask("gemini")
    assert last.status_code == 429
    sign(day)
    for head in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01junk", b"CONNECT nothing HTTP/1.1\r\nhost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", int(day.sidecar.proxy_url.rpartition(":")[2])), 10) as sock:
            sock.sendall(head)
            day.seen[repr(head)] = sock.recv(65536)


def sign(day: Day, *, fails: bool = False) -> None:
    client = boto3.session.Session().client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=f"{day.sidecar.proxy_url}/bedrock",
        aws_access_key_id=day.placeholder.aws_access_key_id,
        aws_secret_access_key=day.placeholder.aws_secret_access_key,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )  # fmt: skip
    asked = [{"role": "user", "content": [{"text": "hello"}]}]
    try:
        made = client.converse(modelId="anthropic.claude-3-haiku-20240307-v1:0", messages=asked)
        day.seen["bedrock"] = repr(made).encode()
        # boto3 takes an answer that was cut behind its head for an empty one.
        assert ("output" in made) is not fails
    except (ClientError, BotoCoreError) as exc:
        day.seen["bedrock failed"] = repr(exc).encode() + repr(getattr(exc, "response", "")).encode()
        assert fails
    finally:
        client.close()


ECHOES: dict[str, dict[str, Any]] = {
    "in the body": {"body": b'{"error": {"message": "bad key KEY"}}'},
    "in the body of an error": {"body": b'{"error": {"message": "bad key KEY"}}', "status": 401},
    "in the body, in pieces": {"body": b'{"error": {"message": "bad key KEY"}}', "chunk_bytes": 3},
    "in a field": {"headers": {"x-debug": "KEY"}},
    "at the end of a long body": {"body": b"x" * 300_000 + b"KEY"},
}


def echo(day: Day) -> None:
    """A provider that sends the key back: whole, in pieces, in a field, behind much else."""
    for provider in ("openai", "anthropic"):
        for how, behaviour in ECHOES.items():
            day.mock.next(**filled(behaviour, PLANTED[provider]))
            try:
                answer = day.ask(provider)
            except httpx.HTTPError as exc:  # the key came after the head had gone on: the answer is cut
                day.seen[f"{provider} {how}"] = repr(exc).encode()
            else:
                assert answer.status_code == 502, how
                assert answer.headers["x-outrider-error"] == "upstream_broken"
    day.mock.next(**filled(ECHOES["in the body"], AWS_SECRET))
    sign(day, fails=True)


def filled(behaviour: dict[str, Any], key: str) -> dict[str, Any]:
    made = dict(behaviour)
    if "body" in made:
        made["body"] = made["body"].replace(b"KEY", key.encode())
    if "headers" in made:
        made["headers"] = {name: value.replace("KEY", key) for name, value in made["headers"].items()}
    return made


def gather(day: Day) -> dict[str, bytes]:
    """Everything that somebody else than the provider can see."""
    day.seen["metrics"] = fetch(f"{day.sidecar.admin_url}/metrics")
    for words in (
        ["check", "--verbose"],
        ["check", "--json"],
        ["ca", "show"],
        ["env", "--proxy", "http://127.0.0.1:1"],
    ):
        ran = outrider(*words, "--config", str(day.config), env=day.env, prefix=prefix())
        assert ran.returncode == 0, ran.stderr
        day.seen[" ".join(words)] = (ran.stdout + ran.stderr).encode()
    pid = day.sidecar.process.pid
    day.seen["command line"] = Path(f"/proc/{pid}/cmdline").read_bytes()
    code, said = day.sidecar.end()
    assert code == 0
    day.seen["stderr"] = said.encode()
    for file in (day.config.parent / "ca").rglob("*"):
        if file.is_file():
            day.seen[f"file {file.name}"] = file.read_bytes()
    return day.seen


def shapes(key: str) -> set[bytes]:
    """The key as it may be written: plain, and in base64 wherever it begins in what was encoded."""
    raw = key.encode()
    return {raw, *(base64.b64encode(b"x" * lead + raw)[4:-6] for lead in range(3))}


def test_a_planted_key_is_seen_by_the_provider_and_by_nobody_else(day: Day) -> None:
    until(lambda: _signs(day))
    work(day)
    echo(day)
    for name, data in gather(day).items():
        for source, key in PLANTED.items():
            found = [shape for shape in shapes(key) if shape in data]
            assert not found, f"the key of {source} stands in {name}"
        if name.startswith(("stderr", "metrics", "answer", "command line", "check")):
            assert day.placeholder.value.encode() not in data, f"the placeholder stands in {name}"
    wire = b"".join(bytes(data) for data in (day.mock.captured or {}).values())
    for provider in BODIES:
        assert PLANTED[provider].encode() in wire
    assert AWS_SECRET.encode() not in wire
    assert day.placeholder.value.encode() not in wire
    said = day.seen["stderr"]
    assert b"Traceback" not in said
    assert b"internal_error" not in said
    assert said.count(b'"event":"exchange"') == len(re.findall(rb'"overhead_us"', said)) > 20
    assert int(
        re.findall(rb'outrider_events_total\{event="secret_echoed",provider="openai"\} (\d+)', day.seen["metrics"])[0]
    )


def _signs(day: Day) -> bool:
    """AWS's chain is read in the background, within the first second or two."""
    try:
        sign(day)
    except AssertionError:
        return False
    return True


def test_nobody_reads_the_keys_from_the_running_process(day: Day) -> None:
    pid = day.sidecar.process.pid
    assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())
    for task in Path(f"/proc/{pid}/task").iterdir():
        assert (task / "children").read_text() == ""
    with subprocess.Popen([*prefix(), "sleep", "60"], env=day.env) as other:
        try:
            until(lambda: PLANTED["openai"].encode() in read(other.pid, "environ"))  # as any other process shows it
        finally:
            other.kill()
    for name in ("environ", "maps", "mem"):
        assert b"ermission denied" in read(pid, name)


def read(pid: int, name: str) -> bytes:
    """A file of /proc as the sidecar's own user sees it, or the complaint."""
    command = [*prefix(), "cat", f"/proc/{pid}/{name}"]
    ran = subprocess.run(command, capture_output=True, check=False)
    return ran.stdout + ran.stderr
