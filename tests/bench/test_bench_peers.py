"""The bench's peers: all say why they are absent, all configurations are filled, those that are here answer right."""

import contextlib
import dataclasses
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from bench.build import BenchError
from bench.peers import PROVIDER_KEY, Site, all_peers
from bench.recipes import RECIPES, STAMP, Recipe
from bench.scenarios import BY_NAME

from bench import certs, installer, load, run
from support.benches import CORE

ROOT = Path(__file__).resolve().parents[2]
HTTP_ONLY = {"naive", "litellm", "tensorzero", "portkey"}
FILLER = "the quick brown fox jumps over the lazy dog and then rests for a while " * 20
PLACEHOLDER = re.compile(r"@[A-Z_]+@")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> certs.Certificates:
    return certs.make(tmp_path_factory.mktemp("certificates"))


# ---- the table, the entries, their absence


def test_the_installers_table_and_the_benchs_peers_agree() -> None:
    assert set(RECIPES) == set(all_peers()) - {"direct", "outrider"}
    assert all(recipe.version for recipe in RECIPES.values() if recipe.is_pinned)


def test_the_page_about_peers_has_the_installers_table() -> None:
    page = (ROOT / "docs" / "bench-peers.md").read_text()
    for recipe in RECIPES.values():
        assert f"| `{recipe.name}` | {recipe.source} | `{recipe.package}` |" in page
    told = {name for name in RECIPES if re.search(rf"^\| `{name}` .*\| – \| \w+ \|$", page, re.MULTILINE)}
    assert told == HTTP_ONLY


@pytest.mark.parametrize("name", RECIPES)
def test_an_absent_peer_says_so_in_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_BENCH_PEERS", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_args: None)
    words = all_peers()[name].absent()
    assert re.fullmatch(rf"{name} [^\n]+\.", words)


@pytest.mark.parametrize("name", sorted(HTTP_ONLY))
def test_a_gateway_that_cannot_intercept_says_so_in_one_sentence(
    name: str, tmp_path: Path, certificates: certs.Certificates
) -> None:
    site = Site(tmp_path, certificates, 1, 2, tls=True, stream=False, core=CORE)
    with pytest.raises(BenchError, match=rf"^{name} does not intercept HTTPS; [^\n]+\.$"):
        all_peers()[name].start(site)


class NotStarted:
    """In the place of a Daemon: holds what would have been started."""

    def __init__(self, _name: str, command: list[str | Path], **options: object) -> None:
        self.words = [str(word) for word in command] + [f"{options}"]


@pytest.mark.parametrize(
    ("name", "tls"), [(name, tls) for name in RECIPES for tls in (False, True) if not (tls and name in HTTP_ONLY)]
)
def test_what_a_peer_is_started_with_has_every_placeholder_filled(
    name: str, tls: bool, tmp_path: Path, certificates: certs.Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"bench.peers.{name}.Daemon", NotStarted)
    (tmp_path / "port").write_text("7")  # what TensorZero's server would have said
    started = all_peers()[name].start(Site(tmp_path, certificates, 1, 2, tls=tls, stream=True, core=CORE))
    assert isinstance(started.daemon, NotStarted)
    texts = [*started.daemon.words, *started.target.headers]
    texts += [path.read_text() for path in tmp_path.iterdir() if path.suffix != ".pem"]
    assert not [text for text in texts if PLACEHOLDER.search(text)]
    assert any(PROVIDER_KEY in text for text in texts)


# ---- installing


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("OUTRIDER_BENCH_PEERS", str(tmp_path / "peers"))
    recipe = Recipe("made-up", "pip", "made-up==1.2", "bin/made-up")
    monkeypatch.setitem(RECIPES, "made-up", recipe)
    return recipe


def test_a_peer_is_installed_once_and_anew_when_it_was_cut_short(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs: list[list[str]] = []

    def pretend(_recipe: Recipe, words: list[str | Path]) -> None:
        runs.append([str(word) for word in words])
        recipe.path.parent.mkdir(exist_ok=True)
        recipe.path.touch()

    monkeypatch.setattr(installer, "run", pretend)
    assert installer.main(["made-up"]) == 0
    assert runs[-1][-1] == "made-up==1.2"
    assert recipe.version == "1.2"
    assert recipe.absent() == ""
    made = len(runs)
    assert installer.main(["made-up"]) == 0
    assert len(runs) == made
    assert "made-up is here already." in capsys.readouterr().out
    (recipe.folder / STAMP).unlink()
    (recipe.folder / "half").touch()
    assert installer.main(["made-up"]) == 0
    assert len(runs) == 2 * made
    assert not (recipe.folder / "half").exists()


def test_what_cannot_be_had_is_one_sentence_and_leaves_no_folder(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(one: Recipe) -> None:
        code = "print('Looking'); raise SystemExit('ERROR: no made-up for this machine\\n')"
        installer.run(one, [sys.executable, "-c", code])

    monkeypatch.setitem(installer.SOURCES, "pip", refuse)
    assert installer.main(["made-up"]) == 1
    assert capsys.readouterr().err == "install: made-up cannot be had here: ERROR: no made-up for this machine.\n"
    assert not recipe.folder.exists()
    assert recipe.absent()


def test_a_program_that_a_package_does_not_hold_is_said(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer, "run", lambda *_args: None)
    assert installer.main(["made-up"]) == 1
    assert "made-up==1.2 holds no bin/made-up." in capsys.readouterr().err


def test_the_install_command_lists_every_peer_and_refuses_others() -> None:
    command = ROOT / "bench" / "peers" / "install"
    listed = subprocess.run([command, "--list"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(RECIPES)
    refused = subprocess.run([command, "apache"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no peer is named apache" in refused.stderr


# ---- bodies that are written anew


def answered(port: int, path: str, body: bytes) -> int:
    headers = {"authorization": f"Bearer {PROVIDER_KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def test_the_upstream_judges_a_rewritten_request_by_its_prompt(programs: None, tmp_path: Path) -> None:
    prompt = FILLER[:1180]
    whole, cut = (json.dumps({"messages": [{"content": text}]}, indent=1).encode() for text in (prompt, prompt[:-1]))
    daemon, _, port, _ = run.start_upstream(tmp_path, CORE)
    with daemon:
        assert answered(port, "/rewritten/v1/chat/completions", whole) == 200
        assert answered(port, "/rewritten/v1/chat/completions", cut) == 400
        assert answered(port, "/v1/chat/completions", whole) == 400


class Gateway(threading.Thread):
    """Answers every request of one connection with the same body."""

    def __init__(self, body: bytes) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        self.port = self._listener.getsockname()[1]
        self.request = b""

    def run(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                while data := client.recv(65536):
                    self.request += data
                    if self.request.endswith(b"}]}"):  # the last bytes of every prompt
                        client.sendall(self._answer)


def verdict(body: bytes, mode: str) -> str:
    gateway = Gateway(body)
    gateway.start()
    target = load.Target(gateway.port, check="content", model="its::own", headers=("x-one: 1", "x-two: 2"))
    sample = load.run(target, None, mode=mode, connections=1, seconds=0.02, auth="Bearer k", core=CORE, pace_us=7)
    gateway.join()
    assert b"\r\nx-one: 1\r\nx-two: 2\r\n" in gateway.request
    assert b'{"model":"its::own","seed":7,' in gateway.request
    assert (sample.requests > 0) == (sample.error == "")
    return sample.error


@pytest.mark.parametrize(
    ("text", "is_right"),
    [(FILLER[:1000], True), (FILLER[:999], False), (FILLER[1:1001], False)],
    ids=["whole", "cut", "changed"],
)
def test_a_rewritten_answer_is_judged_by_its_text(programs: None, text: str, is_right: bool) -> None:
    body = json.dumps({"choices": [{"message": {"content": text}}], "id": 1}, indent=1).encode()
    assert ("the answer's text is not whole" in verdict(body, "keep")) != is_right


def stream(words: list[str], end: str = "data: [DONE]\n\n") -> bytes:
    events = [json.dumps({"choices": [{"delta": {"content": word}, "index": 0}]}) for word in words]
    return ("".join(f"data: {event}\n\n" for event in events) + end).encode()


WORDS = [f" w{number:03}" for number in range(198)]


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        (stream(WORDS), True),
        (stream([*WORDS[:137], *WORDS[138:]]), False),
        (stream([*WORDS[:5], WORDS[6], WORDS[5], *WORDS[7:]]), False),
        (stream(WORDS, end=""), False),
    ],
    ids=["whole", "one lost", "two swapped", "no end"],
)
def test_a_rewritten_stream_is_judged_by_every_events_text_in_order(
    programs: None, body: bytes, is_right: bool
) -> None:
    assert ("the answer's text is not whole" in verdict(body, "stream")) != is_right


# ---- for real


SLOW = {"litellm", "mitmproxy", "portkey"}  # seconds for each start


def named(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.long) if name in SLOW else name


INSTALLED = [named(name) for name in RECIPES if name not in {"nginx", "haproxy"}]  # those two: test_bench_smoke.py


@pytest.mark.parametrize("scenario", ["base_url", "stream"])
@pytest.mark.parametrize("name", INSTALLED)
def test_a_peer_that_is_here_answers_right(programs: None, name: str, scenario: str) -> None:
    peer = all_peers()[name]
    if peer.absent():
        pytest.skip(peer.absent())
    few = dataclasses.replace(BY_NAME[scenario], connections=4)
    settings = run.Settings(repeat=1, loaded_s=0.15, single_s=0.05, scheduled_s=0.05)
    rows = run.run_scenario(few, [peer], settings, lambda _: None)
    assert rows[name].error == ""
    assert (rows[name].median("per_s") or 0) > 0
    assert peer.version()


@pytest.mark.parametrize("is_trusted", [True, False], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("name", INSTALLED)
def test_a_peer_verifies_the_provider(
    programs: None, name: str, is_trusted: bool, tmp_path: Path, certificates: certs.Certificates
) -> None:
    peer = all_peers()[name]
    if peer.absent():
        pytest.skip(peer.absent())
    upstream, own, http_port, tls_port = run.start_upstream(tmp_path, CORE)
    folder = tmp_path / "own"
    folder.mkdir()
    tls = name not in HTTP_ONLY
    trusted = own if is_trusted else certificates
    site = Site(folder, trusted, http_port, tls_port, tls=tls, stream=False, core=CORE, upstream_tls=not tls)
    with upstream:
        started = peer.start(site)
        assert started.daemon is not None
        with started.daemon:
            sample = load.run(
                started.target, None, mode="keep", connections=2, seconds=0.1, auth=f"Bearer {started.key}", core=CORE
            )
    assert (sample.error == "") == is_trusted
    assert (sample.requests > 0) == is_trusted


def test_the_name_in_tls_is_the_hosts_without_its_port(programs: None, tmp_path: Path) -> None:
    upstream, own, _, port = run.start_upstream(tmp_path, CORE)
    with upstream:
        target = load.Target(port, host=f"{certs.HOST}:{port}", ca=own.ca)
        sample = load.run(
            target, None, mode="new", connections=1, seconds=0.02, auth=f"Bearer {PROVIDER_KEY}", core=CORE
        )
    assert sample.error == ""


def test_the_naive_one_is_always_here() -> None:
    assert all_peers()["naive"].absent() == ""
