"""The bench runs, and says what it could not measure. Figures themselves are not judged here."""

import dataclasses
import datetime
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from bench.__main__ import chosen_scenarios, main, parse
from bench.build import BenchError
from bench.peers import HERE, all_peers
from bench.peers.direct import Direct
from bench.ports import free_ports
from bench.scenarios import BY_NAME, SCENARIOS, Scenario

from bench import history, process, run, table
from support.benches import CORE, rows_of

ROOT = Path(__file__).resolve().parents[2]
BRIEF = run.Settings(repeat=1, loaded_s=0.15, single_s=0.05, scheduled_s=0.05)


def small(name: str) -> Scenario:
    """The scenario with few connections: whether it works, not what it measures."""
    scenario = BY_NAME[name]
    few = {field: min(getattr(scenario, field), 20) for field in ("connections", "rate_connections", "stalled")}
    return dataclasses.replace(scenario, **few, requests=min(scenario.requests, 100))


OTHERS = [name for name in all_peers() if name in ("direct", "nginx", "haproxy")]
WORK = ("base_url", "intercepted", "resumed_intercepted", "stream", "stream_paced", "http_to_tls")
WORK += ("prompt_1m", "answer_1m", "head_of_line", "connections_intercepted", "start")


@pytest.mark.parametrize("name", WORK)
def test_the_peers_that_are_here_take_part(programs: None, name: str) -> None:
    peers = [peer for peer_name, peer in all_peers().items() if peer_name in OTHERS and not peer.absent()]
    rows = run.run_scenario(small(name), peers, BRIEF, lambda _: None)
    assert {row.peer: row.error for row in rows.values() if row.error} == {}
    for peer in peers:
        measured = set(rows[peer.name].values)
        assert ("start_s" in measured) == (peer.name != "direct")
        assert ("cpu_us" in measured) == (peer.name != "direct" and name not in ("start", "connections_intercepted"))


@pytest.mark.parametrize(("name", "config"), [("refused", "default"), ("intercepted", "all-on")])
def test_outrider_takes_part_with_its_configuration(programs: None, name: str, config: str) -> None:
    peer = all_peers()["outrider"]
    if peer.absent():
        pytest.skip(peer.absent())
    settings = dataclasses.replace(BRIEF, config=config, single_s=0.5)  # until the limit is reached
    rows = run.run_scenario(small(name), [peer], settings, lambda _: None)
    (row,) = rows.values()
    assert row.error == ""
    assert row.peer == ("outrider" if config == "default" else "outrider all-on")
    assert (row.median("refused_pct") or 0) > 90 or name != "refused"


@pytest.mark.parametrize("name", ["translated", "translated_stream", "cached", "failover"])
def test_what_outrider_answers_by_itself_or_translates_is_checked_too(programs: None, name: str) -> None:
    peer = all_peers()["outrider"]
    if peer.absent():
        pytest.skip(peer.absent())
    rows = run.run_scenario(small(name), [peer], BRIEF, lambda _: None)
    assert {row.peer: row.error for row in rows.values()} == dict.fromkeys(
        (variant.row for variant in BY_NAME[name].variants), ""
    )
    assert all(row.median("cpu_us") is not None for row in rows.values())


def test_a_proxy_that_does_not_speak_tls_to_the_provider_has_no_row(programs: None) -> None:
    class Plain(Direct):
        name = "plain"

    rows = run.run_scenario(small("http_to_tls"), [Plain()], BRIEF, lambda _: None)
    assert "cannot connect" in rows["plain"].error


class Broken:
    name = "broken"

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def start(self, site: run.Site) -> run.Started:
        words = [sys.executable, "-c", "raise SystemExit('no such key: bogus')"]
        process.Daemon(self.name, words, port=free_ports(1)[0], core=CORE, log=site.folder / "log")
        raise AssertionError("it must not start")


class Absent(Broken):
    name = "absent"

    def absent(self) -> str:
        return "absent is not installed here."


def test_a_peer_that_does_not_start_is_a_sentence_and_the_others_go_on(programs: None) -> None:
    scenario = BY_NAME["base_url"]
    rows = run.run_scenario(scenario, [Direct(), Broken(), Absent()], BRIEF, lambda _: None)
    text = table.render(scenario, rows)
    assert "broken: broken did not start: exit 1: no such key: bogus." in text
    assert "absent: absent is not installed here." in text
    assert rows["direct"].error == ""


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BenchError, match=f"port {port} is in use by another process"):
            process.Daemon("nginx", ["sleep", "60"], port=port, core=CORE, log=tmp_path / "log")


def test_a_scenario_that_cannot_be_run_is_a_sentence_and_the_others_go_on(
    programs: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, calls = run.start_upstream, iter([True, False])

    def once_broken(folder: Path, core: int, **_: bool) -> tuple[process.Daemon, run.certs.Certificates, int, int]:
        if next(calls):
            raise BenchError("upstream did not start: port 7 is in use by another process.")
        return start(folder, core)

    monkeypatch.setattr(run, "start_upstream", once_broken)
    words = ["--only", "direct", "--scenario", "base_url,prompt_1m", "--repeat", "1", "--no-history"]
    assert main([*words, "--seconds", "0.05", "--single", "0.05", "--scheduled", "0.05"]) == 0
    out = capsys.readouterr().out
    assert "base_url: upstream did not start: port 7" in out
    assert "prompt_1m · " in out


def test_the_short_table_is_the_core_set_and_all_is_all() -> None:
    assert [one.name for one in chosen_scenarios("")] == [one.name for one in SCENARIOS if one.core]
    assert chosen_scenarios("all") == list(SCENARIOS)
    assert [one.name for one in chosen_scenarios("layers,base_url")] == ["base_url", "layers"]


def test_the_list_has_a_line_for_each_scenario_and_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(SCENARIOS) + len(all_peers())


def test_other_proxies_are_guests_of_the_short_tables_wide_scenarios() -> None:
    class Guest(Absent):
        name = "litellm"

    settings = run.Settings(brief=True)
    assert [peer.name for peer in run.rows_for(BY_NAME["base_url"], [Direct(), Guest()], settings)] == [
        "direct",
        "litellm",
    ]
    assert [peer.name for peer in run.rows_for(BY_NAME["stream"], [Direct(), Guest()], settings)] == ["direct"]
    assert len(run.rows_for(BY_NAME["stream"], [Direct(), Guest()], run.Settings())) == 2


def test_what_the_short_table_repeats_is_not_repeated_for_its_guests() -> None:
    settings = run.Settings(repeat=3, brief=True)
    rows = rows_of({"nginx": [1.0], "outrider all-on": [1.0], "litellm": [1.0]})
    assert [run.repeats(BY_NAME["base_url"], settings, row) for row in rows.values()] == [3, 3, 1]
    assert run.repeats(BY_NAME["memory_100k"], settings, rows["nginx"]) == 1


def test_a_run_leaves_one_line_of_history(tmp_path: Path) -> None:
    rows = rows_of({"nginx": [20.0], "outrider": [22.0]})
    rows["outrider"].notes.add("could not keep up")
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
    assert read["config"] == "default"
    targets = read["scenarios"]["base_url"]["targets"]
    assert targets["cpu_us"]["met"] is True
    assert targets["cpu_us of envoy"]["met"] is None
    assert read["scenarios"]["base_url"]["notes"] == {"outrider": ["could not keep up"]}


def test_the_cpu_of_a_process_tree_holds_that_of_its_children(tmp_path: Path) -> None:
    code = (
        "import socket, subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.2: pass'])\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "time.sleep(60)\n"
    )
    (port,) = free_ports(1)
    words = [sys.executable, "-c", code, str(port)]
    with process.Daemon("busy", words, port=port, core=CORE, log=tmp_path / "log") as daemon:
        assert daemon.cpu_s() >= 0.15
        assert daemon.rss_mb() > 1
        assert daemon.start_s > 0.1
    assert not Path(f"/proc/{daemon.pid}").exists()


def test_every_placeholder_of_a_peers_configuration_is_filled_by_its_entry() -> None:
    configs = [path for path in HERE.glob("*.*") if path.suffix in {".conf", ".cfg", ".yaml"}]
    for config in [*configs, HERE.parent / "all-on.yaml"]:
        entry = (HERE / f"{config.stem.replace('all-on', 'outrider')}.py").read_text()
        for name in re.findall(r"@([A-Z_]+)@", config.read_text()):
            assert f'"{name}":' in entry, f"{config.name}: @{name}@"


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--only", "apache"])
    assert ended.value.code == 2
    assert "known: direct, nginx, haproxy" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_its_json(
    programs: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    words = ["--only", "direct", "--scenario", "base_url", "--repeat", "1", "--seconds", "0.1", "--single", "0.05"]
    words += ["--scheduled", "0.1"]
    assert main([*words, "--json", str(out), "--no-history"]) == 0
    assert "base_url · " in capsys.readouterr().out
    assert json.loads(out.read_text())["scenarios"]["base_url"]["rows"]["direct"]["per_s"][0] > 0


def test_the_bench_is_run_as_a_module_from_the_projects_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert "--scenario" in done.stdout
