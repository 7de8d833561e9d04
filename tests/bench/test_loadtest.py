"""A load test says rightly what came of it: verdicts on made-up readings, and short runs whose speed is not judged."""

import dataclasses
import http.client
import importlib.util
import json
import math
from pathlib import Path

import pytest
from bench.loadtest import RUNS, adjusted, busy, main, parse, perform, render, steady_part
from bench.peers import PROVIDER_KEY
from bench.peers.outrider import command
from bench.verdict import Limits, Line, Load, is_passed, judge, slope
from bench.watch import Reading, generator_cores, leaks, series

from bench import loadgen, loadpage, mix, process, run, shapes, verdict

LIMITS = Limits(per_s=1000, p50_ms=20, p99_ms=200)
GOOD = Load(requests=60_000, failures=0, errors={}, p50_ms=2, p99_ms=30, per_s=1001, seconds=54, busy=0.5)


def reading(at_s: float, rss_mb: float = 80.0, **changes: float) -> Reading:
    usual = {"cpu_s": 0.0, "generator_s": 0.0, "idle_s": 0.0, "own_idle_s": 0.0, "requests": round(at_s * 1000)}
    counts = {"files": 20, "clients": 0, "providers": 0, "pooled": 2}
    return Reading(at_s=at_s, rss_mb=rss_mb, **(usual | counts | changes))  # type: ignore[arg-type]


def rising(mb_per_h: float, seconds: int = 600, noise_mb: float = 0.2) -> list[Reading]:
    return [reading(at, 80 + mb_per_h * at / 3600 + (noise_mb if at % 2 else -noise_mb)) for at in range(seconds)]


def lines_of(load: Load, readings: list[Reading], end: Reading | None = None) -> dict[str, Line]:
    return {line.name: line for line in judge(load, LIMITS, readings, reading(0), end or reading(700))}


def test_a_good_run_passes() -> None:
    lines = lines_of(GOOD, rising(0))
    assert [name for name, line in lines.items() if line.is_met is not True] == ["sidecar", "generator"]
    assert is_passed(list(lines.values()))


def test_a_wave_is_not_taken_for_a_sure_slope() -> None:
    waves = [reading(at, 80 + 3 * math.sin(at / 40)) for at in range(700)]
    fit = slope(waves)
    assert fit is not None
    assert fit.mb_per_h < 2 * fit.error_mb_per_h
    assert lines_of(GOOD, waves)["memory slope"].is_met is True


@pytest.mark.parametrize("mb_per_h", [-30.0, 0.0, 5.0, 120.0])
def test_the_slope_is_found_under_noise(mb_per_h: float) -> None:
    fit = slope(rising(mb_per_h))
    assert fit is not None
    assert fit.mb_per_h == pytest.approx(mb_per_h, abs=0.5)
    assert 0 <= fit.error_mb_per_h < 1
    assert fit.gained_mb == pytest.approx(mb_per_h / 6, abs=0.1)


def test_two_readings_and_readings_of_one_moment_have_no_slope() -> None:
    assert slope([reading(0), reading(1)]) is None
    assert slope([reading(1)] * 5) is None


def test_memory_that_grows_for_long_is_missed() -> None:
    line = lines_of(GOOD, rising(60))["memory slope"]
    assert line.is_met is False
    assert "+10.0 MB in 599 s" in line.note


def test_what_an_allocator_gains_is_no_leak() -> None:
    line = lines_of(GOOD, rising(9))["memory slope"]  # 1.5 MB
    assert line.is_met is True
    assert "above the limit, but within an allocator's grain of 4 MB" in line.note
    scattered = [reading(at, 80 + (at * 7919 % 50)) for at in range(600)]
    assert lines_of(GOOD, scattered)["memory slope"].is_met is True  # no slope within two standard errors


def test_a_short_run_tells_no_slope() -> None:
    line = lines_of(GOOD, rising(1000, seconds=50))["memory slope"]
    assert line.is_met is None
    assert "too short to judge" in line.note


def test_one_wrong_answer_or_no_answer_at_all_fails() -> None:
    wrong = dataclasses.replace(GOOD, failures=1, errors={"base_url, plain: body differs at byte 7": 1})
    line = lines_of(wrong, rising(0))["errors"]
    assert line.is_met is False
    assert "byte 7" in line.note
    silent = dataclasses.replace(GOOD, requests=0, p50_ms=None, p99_ms=None)
    assert [lines_of(silent, [])[name].is_met for name in ("errors", "latency p50")] == [False, False]


def test_a_slow_answer_fails_unless_the_generator_had_no_time() -> None:
    slow = dataclasses.replace(GOOD, p99_ms=900, per_s=700)
    assert [lines_of(slow, rising(0))[name].is_met for name in ("latency p99", "requests/s")] == [False, False]
    lines = lines_of(dataclasses.replace(slow, busy=0.97), rising(0))
    assert [lines[name].is_met for name in ("latency p99", "requests/s")] == [None, None]
    assert "no CPU left" in lines["latency p99"].note
    assert lines["generator"].note == "saturated"
    assert is_passed(list(lines.values()))


def test_what_was_never_answered_is_an_error_unless_it_may_never_have_been_asked() -> None:
    late = dataclasses.replace(GOOD, unfinished=7)
    assert lines_of(late, rising(0))["errors"].is_met is False
    line = lines_of(dataclasses.replace(late, busy=0.95), rising(0))["errors"]
    assert line.is_met is True
    assert line.note == "7 were not answered in time"


def test_others_on_the_sidecars_core_are_named() -> None:
    assert lines_of(dataclasses.replace(GOOD, own_share=0.6, own_idle=0.35), [])["sidecar"].note == ""
    line = lines_of(dataclasses.replace(GOOD, own_share=0.5, own_idle=0.1), [])["sidecar"]
    assert (line.shown, line.note) == ("50% of its core", "others took 40% of it: no fair run")


def test_chance_is_no_shortfall() -> None:
    few = dataclasses.replace(GOOD, per_s=960, seconds=54)
    assert lines_of(few, rising(0))["requests/s"].is_met is True
    assert lines_of(dataclasses.replace(few, per_s=900), rising(0))["requests/s"].is_met is False


def test_what_stays_open_is_named_and_the_pool_is_not() -> None:
    end = reading(700, files=30, clients=3, providers=1, pooled=4)
    assert leaks(reading(0), end) == {"client connections": 3, "provider connections": 1, "descriptors": 8}
    line = lines_of(GOOD, rising(0), end)["left open"]
    assert line.is_met is False
    assert line.shown == "+3 client connections, +1 provider connections, +8 descriptors"
    assert leaks(reading(0), reading(700, files=38, pooled=20)) == {}


def test_the_metrics_page_is_read() -> None:
    page = (
        b'# TYPE outrider_connections gauge\noutrider_connections{side="client",state="open"} 5.0\n'
        b'outrider_connections{side="provider",state="idle"} 2\n'
        b'outrider_requests_total{provider="a",model="x"} 7.0\noutrider_requests_total{provider="b"} 1e+02\n'
    )
    assert series(page) == (107, {"client open": 5, "provider idle": 2})


def test_the_steady_part_begins_after_the_users_came() -> None:
    readings = [reading(at, requests=500 + max(0, at - 3)) for at in range(100)]
    plan = loadgen.Plan(per_s=1, seconds=50, ramp_s=10)
    part = steady_part(readings, reading(0, requests=500), plan)
    assert (part[0].at_s, part[-1].at_s) == (19, 63)
    assert steady_part(readings[:2], reading(0, requests=500), plan) == []
    assert verdict.rate(part) == 1.0


def test_a_core_that_others_used_up_is_busy_too() -> None:
    own = len(generator_cores())
    assert busy([reading(0), reading(10, generator_s=5, idle_s=10 * own)], 1) == pytest.approx(5 / min(own, 2) / 10)
    assert busy([reading(0), reading(10, generator_s=0, idle_s=0)], 1) == 1.0
    assert busy([], 1) == 0.0


# ---- the calls ----


def test_the_sum_is_fnv_1a() -> None:
    assert [shapes.fnv1a(text) for text in (b"", b"a", b"foobar")] == [
        0xCBF29CE484222325,
        0xAF63DC4C8601EC8C,
        0x85944171F73967E8,
    ]


def test_a_prompt_has_the_size_that_was_recorded() -> None:
    for size in (300, 5000):
        for stream in (False, True):
            body = shapes.prompt("gpt-4o", stream, size)
            assert len(body) == size
            assert json.loads(body).get("stream", False) is stream
    assert json.loads(shapes.prompt("gpt-4o", True, 1))["messages"][0]["content"] == ""


def test_the_weights_of_all_calls_are_the_whole() -> None:
    calls = shapes.prepare(*shapes.read_mix(), pace_us=5000)
    assert sum(call.weight for call in calls) == pytest.approx(1, abs=0.01)
    assert {call.stream for call in calls} == {True, False}


def test_the_committed_mix_is_what_the_recorded_calls_give(vectors: Path) -> None:
    exchanges = vectors / "exchanges.jsonl.gz"
    assert mix.main([str(exchanges), "--check"]) == 0


def test_without_recorded_calls_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mix.main([str(tmp_path / "none.gz")]) == 1
    assert "no recorded calls" in capsys.readouterr().err


def test_the_upstream_answers_every_shape_and_finds_a_changed_byte(programs: None, tmp_path: Path) -> None:
    table, models = shapes.read_mix()
    calls = shapes.prepare(table, models, pace_us=100_000)
    daemon, _, port, _ = run.start_upstream(tmp_path, process.cores()[1])
    with daemon:
        answers = shapes.right_answers(calls, port, PROVIDER_KEY)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        changed = calls[0].body.replace(b"quick", b"quicK")
        connection.request("POST", shapes.PATH, changed, calls[0].headers | {"authorization": f"Bearer {PROVIDER_KEY}"})
        assert connection.getresponse().status == 400
        connection.close()
        with pytest.raises(ValueError, match="401"):
            shapes.right_answers(calls, port, "another")
    assert len(answers) == len(table)
    for shape, answer in zip(table, answers, strict=True):
        if shape.stream:
            events = answer.split("\n\n")
            assert len(events) - 1 == min(shape.events, shapes.LONGEST_STREAM)
            assert events[-2] == "data: [DONE]"
            assert '"usage"' in events[-3]
        else:
            assert len(answer) == max(shape.answer_bytes, len(answers[0]))
            json.loads(answer)


# ---- the command ----


def test_a_number_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["soak", "--seconds", "0"])
    assert "--seconds must be more than 0" in capsys.readouterr().err


def test_the_rate_sets_users_and_limit() -> None:
    asked = adjusted(RUNS["sustained"], parse(["sustained", "--rate", "50", "--pace-ms", "2.5"]))
    assert (asked.plan.users, asked.limits.per_s, asked.plan.pace_us) == (50, 50, 2500)
    assert adjusted(RUNS["spike"], parse(["spike", "--rate", "50"])).plan.users == 0


def test_without_locust_it_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["sustained", "--html", str(tmp_path / "page.html")]) == 1
    assert capsys.readouterr().err == (
        "loadtest: locust is not installed beside this Python; make load-test installs it.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_is_a_table() -> None:
    lines = [Line("errors", "1 of 9", "0", False, "body differs"), Line("generator", "50% busy", "", None)]
    text = render(lines, colours=False)
    assert "errors" in text
    assert "MISSED  body differs" in text
    assert "\x1b[31m" in render(lines, colours=True)


def check_real_run(name: str, words: list[str], html: Path) -> None:
    """What holds however slow the machine is."""
    lines, document = perform(adjusted(RUNS[name], parse([name, *words])), html)
    found = {line.name: line for line in lines}
    assert found["errors"].is_met is True, found["errors"]
    assert found["left open"].is_met is True, found["left open"]
    assert all(entry["requests"] > 0 for entry in document["entries"])
    page = loadpage.page(json.loads(json.dumps(document)))
    assert all(line.shown.split(" of ")[0] in page for line in lines)


def test_a_short_spike_ends_in_a_verdict(programs: None, tmp_path: Path) -> None:
    if command() is None:
        pytest.skip("outrider is not installed beside this Python.")
    check_real_run("spike", ["--rate", "750", "--seconds", "1"], tmp_path / "spike.html")


def test_a_few_users_of_locust_end_in_a_verdict(programs: None, tmp_path: Path) -> None:
    if importlib.util.find_spec("locust") is None:
        pytest.skip("locust is not installed here; make load-test installs it.")
    if command() is None:
        pytest.skip("outrider is not installed beside this Python.")
    check_real_run("sustained", ["--rate", "20", "--seconds", "2", "--ramp", "1"], tmp_path / "sustained.html")
