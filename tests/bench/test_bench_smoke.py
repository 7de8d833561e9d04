"""The bench runs, judges its answers and says what it could not measure. Figures themselves are not judged here."""

import contextlib
import datetime
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # `bench` stands beside tests/, as `python -m bench` finds it from the project's folder
    sys.path.append(str(ROOT))

from bench.__main__ import main, parse  # noqa: E402
from bench.build import BenchError, program  # noqa: E402
from bench.peers import CLIENT_KEY, HERE, PROVIDER_KEY, all_peers  # noqa: E402
from bench.peers.direct import Direct  # noqa: E402
from bench.scenarios import BY_NAME, SCENARIOS  # noqa: E402

from bench import figures, history, load, process, run, table  # noqa: E402

CORE = process.cores()[1]


@pytest.fixture(scope="module")
def programs() -> None:
    try:
        program("load")
        program("upstream")
    except BenchError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def upstream(programs: None, tmp_path: Path) -> Iterator[tuple[load.Target, load.Target]]:
    """Targets of the bench's own provider: plain, TLS."""
    daemon, certificates, http_port, tls_port = run.start_upstream(tmp_path, CORE)
    with daemon:
        yield load.Target(http_port), load.Target(tls_port, ca=certificates.ca)


def one_run(target: load.Target, mode: str = "keep", connections: int = 2, key: str = PROVIDER_KEY) -> load.Sample:
    return load.run(target, None, mode=mode, connections=connections, seconds=0.1, auth=f"Bearer {key}", core=CORE)


@pytest.mark.parametrize("mode", ["keep", "new", "stream"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_every_mode_gets_right_answers_from_the_upstream(
    upstream: tuple[load.Target, load.Target], mode: str, tls: bool
) -> None:
    sample = one_run(upstream[tls], mode)
    assert sample.error == ""
    assert sample.requests > 0
    assert sample.events == (200 * sample.requests if mode == "stream" else 0)
    assert sample.latency is not None
    assert sample.latency.p50 <= sample.latency.p99
    assert (sample.first_event is not None) == (mode == "stream")


def test_a_wrong_key_is_an_error_and_never_a_fast_row(upstream: tuple[load.Target, load.Target]) -> None:
    sample = one_run(upstream[0], key=CLIENT_KEY)
    assert sample.requests == 0
    assert "401" in sample.error


def test_a_provider_that_is_not_trusted_is_an_error(upstream: tuple[load.Target, load.Target]) -> None:
    plain, tls = upstream
    stranger = load.Target(tls.port, ca=tls.ca, host="other.bench")
    assert "TLS" in one_run(stranger).error
    assert "connect" in one_run(load.Target(process.free_ports(1)[0])).error
    assert "404" in one_run(load.Target(plain.port, path="/v1/models")).error


class Forwarder(threading.Thread):
    """A proxy of one connection: answers a CONNECT where asked, then copies bytes, each way through `change`."""

    def __init__(self, port: int, tunnel: bool, old: bytes = b"", new: bytes = b"") -> None:
        super().__init__(daemon=True)
        self._to, self._tunnel, self._old, self._new = port, tunnel, old, new
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connect_head = b""

    def run(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                if self._tunnel:
                    while not self.connect_head.endswith(b"\r\n\r\n"):
                        self.connect_head += client.recv(1)
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self._copy, args=(server, client, self._old, self._new), daemon=True)
                back.start()
                self._copy(client, server, b"", b"")
                back.join()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, old: bytes, new: bytes) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data.replace(old, new) if old else data)
        with contextlib.suppress(OSError):  # after a reset too: the other direction ends with this one
            sink.shutdown(socket.SHUT_RDWR)


def test_a_connect_goes_before_the_handshake(upstream: tuple[load.Target, load.Target]) -> None:
    tls = upstream[1]
    proxy = Forwarder(tls.port, tunnel=True)
    proxy.start()
    sample = one_run(load.Target(proxy.port, ca=tls.ca, connect="llm.bench:443"), connections=1)
    proxy.join()
    assert sample.error == ""
    assert proxy.connect_head.startswith(b"CONNECT llm.bench:443 HTTP/1.1\r\nhost: llm.bench:443\r\n")


def test_one_changed_byte_in_a_stream_is_found(upstream: tuple[load.Target, load.Target]) -> None:
    proxy = Forwarder(upstream[0].port, tunnel=False, old=b'" w137"', new=b'" W137"')
    proxy.start()
    sample = one_run(load.Target(proxy.port), "stream", connections=1)
    proxy.join()
    assert "body differs at byte" in sample.error


def test_a_dropped_byte_in_an_answer_is_found(upstream: tuple[load.Target, load.Target]) -> None:
    proxy = Forwarder(upstream[0].port, tunnel=False, old=b"content-length: 1", new=b"content-length: 0")
    proxy.start()
    sample = one_run(load.Target(proxy.port), connections=1)
    proxy.join()
    assert "bytes came after the end of an answer" in sample.error


@pytest.mark.parametrize("name", [name for name in all_peers() if name != "outrider"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_peer_that_is_here_takes_part_in_every_scenario(
    programs: None, name: str, scenario: figures.Scenario
) -> None:
    peer = all_peers()[name]
    if peer.absent():
        pytest.skip(peer.absent())
    rows = run.run_scenario(scenario, [peer], run.Settings(1, 0.15, 0.05), lambda _: None)
    assert rows[name].error == ""
    assert (rows[name].median("per_s") or 0) > 0
    assert (rows[name].median("cpu_us") is None) == isinstance(peer, Direct)


class Broken:
    name = "broken"

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def start(self, site: run.Site) -> run.Started:
        words = [sys.executable, "-c", "raise SystemExit('no such key: bogus')"]
        process.Daemon(self.name, words, port=process.free_ports(1)[0], core=CORE, log=site.folder / "log")
        raise AssertionError("it must not start")


class Absent(Broken):
    name = "absent"

    def absent(self) -> str:
        return "absent is not installed here."


def test_a_peer_that_does_not_start_is_a_sentence_and_the_others_go_on(programs: None) -> None:
    scenario = BY_NAME["base_url"]
    rows = run.run_scenario(scenario, [Direct(), Broken(), Absent()], run.Settings(1, 0.05, 0.05), lambda _: None)
    text = table.render(scenario, rows)
    assert "broken: broken did not start: exit 1: no such key: bogus." in text
    assert "absent: absent is not installed here." in text
    assert rows["direct"].error == ""


def rows_of(cpu: dict[str, list[float]]) -> dict[str, figures.Row]:
    return {
        name: figures.Row(name, values={"cpu_us": values, "per_s": [1000.0]}, busy=[0.99])
        for name, values in cpu.items()
    }


def test_a_target_is_met_or_missed_by_the_ratio_of_medians() -> None:
    scenario = BY_NAME["base_url"]
    rows = rows_of({"nginx": [20.0, 22.0, 90.0], "outrider": [26.0, 1.0, 27.0]})
    met = {verdict.target.figure: verdict.is_met for verdict in figures.judge(scenario, rows)}
    assert met["cpu_us"] is True  # 26 / 22 = 1.18
    assert met["start_s"] is None
    rows = rows_of({"nginx": [20.0], "outrider": [26.0]})
    assert figures.judge(scenario, rows)[0].is_met is False
    assert re.search(r"MISSED CPU µs/request: 1\.30 \(at most 1\.2 × nginx\)", table.render(scenario, rows))


def test_without_nginx_nothing_is_said_of_the_ratio() -> None:
    verdict = figures.judge(BY_NAME["base_url"], rows_of({"outrider": [26.0]}))[0]
    assert verdict.is_met is None
    assert "not measured" in verdict.words


def test_a_proxy_that_left_its_core_idle_is_marked() -> None:
    rows = rows_of({"nginx": [20.0]})
    assert "*" not in table.render(BY_NAME["base_url"], rows)
    rows["nginx"].busy = [0.5]
    assert "1,000 *" in table.render(BY_NAME["base_url"], rows)


def test_latency_is_what_was_added_to_direct() -> None:
    rows = {"direct": figures.Row("direct"), "nginx": figures.Row("nginx"), "late": figures.Row("late")}
    for name, values in {"direct": [20.0, 22.0, 21.0], "nginx": [121.0, 131.0, 141.0]}.items():
        for value in values:
            rows[name].add("p50_us", value)
    figures.subtract_direct(rows)
    assert rows["nginx"].median("p50_us") == 110.0
    assert rows["direct"].median("p50_us") == 21.0
    assert rows["late"].median("p50_us") is None


def test_an_error_empties_every_figure_of_its_row() -> None:
    row = rows_of({"nginx": [20.0]})["nginx"]
    row.error = "body differs at byte 7"
    assert row.median("cpu_us") is None
    text = table.render(BY_NAME["base_url"], {"nginx": row})
    assert "nginx: body differs at byte 7" in text
    assert "20.0" not in text


def test_a_run_leaves_one_line_of_history(tmp_path: Path) -> None:
    rows = rows_of({"nginx": [20.0], "outrider": [22.0]})
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    entry = history.record({"base_url": rows}, {"nginx": "1.22.1"}, {"repeat": 1}, at)
    path = tmp_path / "results" / "history.jsonl"
    history.append(entry, path)
    history.append(entry, path)
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    read = json.loads(lines[0])
    assert read["at"] == "2026-01-02T03:04:05+00:00"
    assert read["scenarios"]["base_url"]["rows"]["nginx"]["cpu_us"] == [20.0]
    assert read["scenarios"]["base_url"]["targets"]["cpu_us"]["met"] is True


def test_the_cpu_of_a_process_tree_holds_that_of_its_children(tmp_path: Path) -> None:
    code = (
        "import socket, subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.2: pass'])\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "time.sleep(60)\n"
    )
    (port,) = process.free_ports(1)
    words = [sys.executable, "-c", code, str(port)]
    with process.Daemon("busy", words, port=port, core=CORE, log=tmp_path / "log") as daemon:
        assert daemon.cpu_s() >= 0.15
        assert daemon.rss_mb() > 1
        assert daemon.start_s > 0.1
    assert not Path(f"/proc/{daemon.pid}").exists()


def test_every_placeholder_of_a_peers_configuration_is_filled_by_its_entry() -> None:
    for config in HERE.glob("*.*"):
        if config.suffix not in {".conf", ".cfg", ".yaml"}:
            continue
        entry = (HERE / f"{config.stem}.py").read_text()
        for name in re.findall(r"@([A-Z_]+)@", config.read_text()):
            assert f'"{name}":' in entry, f"{config.name}: @{name}@"


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--only", "apache"])
    assert ended.value.code == 2
    assert "known: direct, nginx, haproxy, outrider" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_its_json(
    programs: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    words = ["--only", "direct", "--scenario", "base_url", "--repeat", "1", "--seconds", "0.1", "--single", "0.05"]
    assert main([*words, "--json", str(out), "--no-history"]) == 0
    assert "base_url · " in capsys.readouterr().out
    assert json.loads(out.read_text())["scenarios"]["base_url"]["rows"]["direct"]["per_s"][0] > 0


def test_the_bench_is_run_as_a_module_from_the_projects_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert "--scenario" in done.stdout
