"""Every case does what it claims and a wrong one has no figure; what is counted adds up. Figures are not judged."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.bench_stack import EVERYTHING, LOCAL
from bench.build import BenchError
from bench.cases import Case, cases_of, modules, prepared
from bench.counted import Counter, count, has_counter
from bench.micro import Figures, main, render, time_cases
from bench.rig import Stack

from bench import history, instructions, micro, samples

ROOT = Path(__file__).resolve().parents[2]
ALL = [pytest.param(case, id=f"{module}: {case.name}") for module in modules() for case in cases_of(module)]
SOFTWARE, TASK_CLOCK = 1, 1  # an event of the kernel's own, which every machine has


def test_every_compiled_module_has_its_cases() -> None:
    compiled = {path.stem for path in (ROOT / "ext" / "outrider_ext").iterdir() if path.suffix in (".py", ".pyx")} - {
        "__init__"
    }
    # What stands after an underscore is a part of the module before it (http1_body, http1_tables).
    wanted = {name.partition("_")[0] for name in compiled}
    # The lane, its layers and callers have no meaning but in a whole exchange, and Usage none but in what reads it.
    within = {
        "callers": "stack",
        "lane": "stack",
        "layers": "stack",
        "tokens": "chatusage",
        "rulehooks": "rules",
        "remember": "cache",
        "nearest": "cache",
        "jsonkeys": "rules",
        "eventholes": "redact",
        "jsonsplice": "redact",
        "bodytext": "redact",
        "sieve": "redact",
        "redacthooks": "redact",
        "sha256": "audit",  # what hashes is measured with what is hashed
    }
    wanted.remove("process")  # run once, at the start
    assert {within.get(name, name) for name in wanted} <= set(modules())


@pytest.mark.parametrize("case", ALL)
def test_a_case_does_what_it_claims(case: Case) -> None:
    with prepared(case) as subject:
        case.call(subject)


@pytest.mark.parametrize("module", modules())
def test_no_two_cases_of_a_module_share_a_name(module: str) -> None:
    names = [case.name for case in cases_of(module)]
    assert len(names) == len(set(names))


# -- the whole stack without the kernel


def test_everything_on_means_key_limit_usage_metrics_and_log_line(tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    sections = {**EVERYTHING, "telemetry": {"log": str(log)}}
    stack = Stack(sections, (samples.request(samples.CHAT),), (samples.answer(samples.ANSWER),))
    stack.run()
    stack.run()
    stack.close()

    head, _, body = stack.to_provider.partition(b"\r\n\r\n")
    assert body == samples.CHAT
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer " + samples.PROVIDER_KEY in head
    assert samples.PLACEHOLDER.value.encode() not in head
    assert b"\r\nhost: llm.bench" in head

    head, _, body = stack.to_client.partition(b"\r\n\r\n")
    assert body == samples.ANSWER
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert samples.PROVIDER_KEY not in head

    assert stack.metrics.limits.value("all", "allow") >= 2
    exposition = stack.metrics.exposition().decode()
    assert re.search(r'outrider_tokens_total\{.*type="input".*\} 462\b', exposition)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["tokens"]["output"] for line in lines if "tokens" in line] == [198, 198]
    assert samples.PROVIDER_KEY.decode() not in log.read_text()


def test_a_stream_reaches_the_client_event_for_event() -> None:
    stack = Stack(EVERYTHING, (samples.request(samples.STREAMED_UNASKED),), samples.streamed())
    stack.run()
    stack.close()
    assert samples.payload_of(stack.to_client) == b"".join(samples.STREAM).replace(samples.USAGE_EVENT, b"")
    assert json.loads(stack.to_provider.partition(b"\r\n\r\n")[2])["stream_options"] == {"include_usage": True}


def test_what_a_row_leaves_out_is_left_out() -> None:
    """So that a difference between two rows is the layer's."""
    bare = {**EVERYTHING, "limits": [], "providers": {"local": {**LOCAL, "require_placeholder": False}}}
    request = samples.request(samples.CHAT, b"/local/v1/files", auth=b"")
    stack = Stack(bare, (request,), (samples.answer(samples.ANSWER),))
    stack.run()
    stack.close()
    assert samples.payload_of(stack.to_client) == samples.ANSWER
    assert stack.metrics.limits.values == {}
    assert "outrider_tokens_total{" not in stack.metrics.exposition().decode()


def test_a_message_that_is_cut_or_followed_has_no_payload() -> None:
    whole = samples.answer(samples.ANSWER)
    assert samples.payload_of(whole) == samples.ANSWER
    assert (
        samples.payload_of(whole[:-1]) == samples.payload_of(whole + b"x") == samples.payload_of(b"HTTP/1.1 2") == b""
    )


# -- error rows


class Once(list[int]):
    """Works the first time only."""

    def call(self) -> bool:
        self.append(1)
        return len(self) == 1


RIGHT = Case("right", dict, len, lambda _, result: result == 0)
WRONG = (
    Case("lies", dict, len, lambda _, result: result == 1),
    Case("raises", list, lambda subject: subject[0], lambda _, result: True),
    Case("cannot be set up", lambda: {}["x"], len, lambda _, result: True),
    Case("stops working", Once, Once.call, lambda _, result: result),
)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "cases_of", lambda module: (RIGHT, *WRONG))


def test_a_wrong_case_is_an_error_row_and_never_a_fast_one(made_up: None) -> None:
    figures = Figures("ns", "cpu")
    time_cases("gcra", figures, 1e-6)
    assert list(figures.cases) == ["gcra/right"]
    assert figures.errors == {
        "gcra/lies": "did not do what it claims, so it has no figure",
        "gcra/raises": "raised IndexError: list index out of range",
        "gcra/cannot be set up": "raised KeyError: 'x'",
        "gcra/stops working": "did not do what it claims, so it has no figure",
    }
    text = render("gcra", figures, colours=False)
    assert "error  lies: did not do what it claims" in text
    assert "\x1b" not in text
    assert "\x1b[31m" in render("gcra", figures, colours=True)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_subject_is_closed_whatever_happened(is_right: bool) -> None:
    closed: list[object] = []
    case = Case("x", lambda: "subject", len, lambda _, result: is_right, close=closed.append)
    with contextlib.suppress(BenchError), prepared(case):
        assert closed == []
    assert closed == ["subject"]


def test_a_module_that_cannot_be_imported_is_a_row_of_the_rest(
    made_up: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cases(module: str) -> tuple[Case, ...]:
        return (RIGHT,) if module == "sse" else cases_of("nothing")

    monkeypatch.setattr(micro, "cases_of", cases)
    assert main(["gcra", "sse", "--no-history", "--seconds", "1e-6"]) == 1
    said = capsys.readouterr().out
    assert "all of it: bench_nothing.py cannot be used: No module named" in said
    assert re.search(r"\d  right\n", said)


# -- the command


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history, "RESULTS", tmp_path)
    return tmp_path / "micro.jsonl"


def test_a_run_is_one_line_of_history(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gcra", "series", "--seconds", "1e-6"]) == 0
    assert main(["gcra", "--seconds", "1e-6", "--json"]) == 0
    first, second = (json.loads(line) for line in results.read_text().splitlines())
    assert {"at", "revision", "machine", "unit", "by", "cases"} == first.keys()
    assert (first["unit"], first["by"]) == ("ns", "cpu")
    assert {name.partition("/")[0] for name in first["cases"]} == {"gcra", "series"}
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == second


def test_no_history_leaves_none(results: Path) -> None:
    assert main(["gcra", "--seconds", "1e-6", "--no-history"]) == 0
    assert not results.exists()


@pytest.mark.parametrize("words", [["nothing"], ["gcra", "--seconds", "0"]])
def test_wrong_words_are_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "error: " in capsys.readouterr().err


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words, "--no-history"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def test_a_file_runs_alone() -> None:
    done = run("bench.bench_gcra", "--seconds", "1e-6")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^gcra · ns\n +[\d.,]+  take, admitted\n", done.stdout)


# -- instructions


def test_instructions_are_counted_by_what_this_machine_has() -> None:
    if not has_counter() and shutil.which("valgrind") is None:
        pytest.skip("This machine has neither a counter nor valgrind.")
    done = run("bench.instructions", "gcra", "--json")
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)
    assert (entry["unit"], entry["by"]) == ("instructions", "perf" if has_counter() else "callgrind")
    assert {f"gcra/{case.name}" for case in cases_of("gcra")} == entry["cases"].keys()
    assert all(20 < value < 20_000 for value in entry["cases"].values()), entry["cases"]


def test_a_call_is_the_difference_less_the_empty_one_divided_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"case": "an empty call", "error": "", "once": 1_500, "twice": 2_500, "per_call": 1},
        {"case": "run of 10", "error": "", "once": 70_500, "twice": 121_500, "per_call": 10},
        {"case": "lies", "error": "did not"},
    ]
    monkeypatch.setattr(instructions, "_rows", lambda module, by, times: rows)
    monkeypatch.setitem(instructions.CALLS, "callgrind", 100)
    figures = Figures("instructions", "callgrind")
    instructions.count_cases("sse", figures)
    assert figures.cases == {"sse/run of 10": (510 - 10) / 10}
    assert figures.errors == {"sse/lies": "did not"}


def test_the_loop_is_marked_before_between_and_after() -> None:
    calls: list[int] = []
    marks: list[int] = []

    def mark() -> int:
        marks.append(len(calls))
        return 10 * len(calls)

    case = Case("appends", lambda: calls, lambda subject: subject.append(1), lambda subject, _: True, per_call=2)
    row = count(case, 7, mark)
    assert (row["once"], row["twice"], row["per_call"], row["error"]) == (70, 140, 2, "")
    assert [b - a for a, b in pairwise(marks)] == [7, 14]
    assert count(WRONG[0], 7, mark) == {"case": "lies", "error": "did not do what it claims, so it has no figure"}


def test_the_kernels_counter_is_read_as_it_grows() -> None:
    try:
        counter = Counter(SOFTWARE, TASK_CLOCK)
    except OSError as exc:
        pytest.skip(f"This machine lets nobody count: {exc}.")
    before = counter.read()
    sum(range(100_000))
    after = counter.read()
    counter.close()
    assert after > before


def test_callgrinds_parts_are_read_in_order_and_have_to_be_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 13):
        (tmp_path / f"parts.{number}").write_text(f"version: 1\nsummary: 5\n\ntotals: {number * 100}\n")
    assert list(instructions._totals(tmp_path / "parts")) == [number * 100 for number in range(1, 13)]
    monkeypatch.setattr(instructions, "_run", lambda command: [{"case": "x", "error": ""}])
    with pytest.raises(BenchError, match=r"callgrind wrote 0 parts for 1 cases of sse; three a case were due\."):
        instructions.count_cases("sse", Figures("instructions", "callgrind"))


def test_without_counter_and_valgrind_a_sentence_says_what_to_install(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instructions, "has_counter", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert main(["gcra", "--instructions"]) == 1
    assert capsys.readouterr().err == (
        "bench: This machine's processor counts no instructions for us; install valgrind, which does.\n"
    )
    assert not results.exists()


def test_a_counting_process_that_fails_says_its_last_words() -> None:
    with pytest.raises(BenchError, match=r"did not count: bench_nothing\.py cannot be used"):
        instructions._run([sys.executable, "-m", "bench.counted", "nothing", "callgrind", "1"])
