"""What bench.compare says of made-up lines: arithmetic, marks, which lines are taken, and what it cannot compare."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench.build import BenchError
from bench.compare import (
    BETTER,
    TIE,
    WORSE,
    Change,
    compare_macro,
    compare_micro,
    is_of,
    macro_changes,
    main,
    micro_changes,
    percent,
    read_lines,
)

MACHINE = {"cpu": "a", "cores": 2}


def macro(revision: str = "aaaaaaa", **scenarios: dict[str, Any]) -> dict[str, Any]:
    named = {name: {"rows": rows, "targets": {}} for name, rows in scenarios.items()}
    return {"at": "2026-01-01T00:00:00+00:00", "revision": revision, "machine": MACHINE, "scenarios": named}


def micro(revision: str = "aaaaaaa", by: str = "cpu", errors: Any = None, **cases: float) -> dict[str, Any]:
    unit = "ns" if by == "cpu" else "instructions"
    entry = {"at": "2026-01-01T00:00:00+00:00", "revision": revision, "machine": MACHINE, "unit": unit, "by": by}
    return entry | {"cases": cases} | ({"errors": errors} if errors else {})


def row(**figures: Any) -> dict[str, Any]:
    return {name: values if isinstance(values, list) else [values] for name, values in figures.items()} | {"busy": [1]}


# -- arithmetic and marks


@pytest.mark.parametrize(
    ("old", "new", "changed"), [(10, 12, 20.0), (10, 5, -50.0), (0, 5, None), (-3, 5, None), (None, 5, None)]
)
def test_a_change_is_relative_to_a_positive_base(old: Any, new: Any, changed: Any) -> None:
    assert percent(old, new) == (pytest.approx(changed) if changed is not None else None)


@pytest.mark.parametrize(
    ("noise_pct", "new", "mark"),
    [
        (15, 114, TIE), (15, 116, WORSE), (15, 86, TIE), (15, 84, BETTER),
        (10, 109, TIE), (10, 111, WORSE), (10, 89, BETTER),
        (2, 101.9, TIE), (2, 102.1, WORSE), (2, 97.9, BETTER),
    ],
)  # fmt: skip
def test_what_is_within_noise_is_a_tie(noise_pct: float, new: float, mark: str) -> None:
    assert Change("x", 100, new, noise_pct=noise_pct).mark == mark
    reverse = {TIE: TIE, BETTER: WORSE, WORSE: BETTER}
    assert Change("x", 100, new, noise_pct=noise_pct, more_is_better=True).mark == reverse[mark]


def test_the_ratio_to_nginx_decides_where_there_is_one() -> None:
    """The machine was twice as slow in the second run; the product was not."""
    assert Change("x", 20, 40, (1.0, 1.0), 15).mark == TIE
    assert Change("x", 20, 20, (1.0, 0.5), 15).mark == BETTER
    assert Change("x", 0, 3, None, 15).mark == ""


# -- the macro bench


def test_figures_are_medians_and_their_ratios_those_of_one_run() -> None:
    old = macro(base_url={"nginx": row(cpu_us=[20, 10, 30]), "outrider": row(cpu_us=[50, 40, 30], per_s=100)})
    new = macro(base_url={"nginx": row(cpu_us=[20]), "outrider": row(cpu_us=[20], per_s=[150])})
    cpu, per_s = macro_changes(old, new)
    assert (cpu.name, cpu.old, cpu.new, cpu.of_nginx, cpu.mark) == ("base_url cpu_us", 40, 20, (2.0, 1.0), BETTER)
    assert (per_s.name, per_s.of_nginx, per_s.mark) == ("base_url per_s", None, BETTER)
    assert per_s.percent == pytest.approx(50)


def test_every_row_of_outrider_is_compared_and_nobody_elses() -> None:
    rows = {name: row(cpu_us=1) for name in ("nginx", "outrider", "outrider all-on", "outriders")}
    assert [c.name for c in macro_changes(macro(s=rows), macro(s=rows))] == ["s cpu_us", "s all-on cpu_us"]


def test_what_only_one_run_has_is_not_compared() -> None:
    old = macro(a={"outrider": row(cpu_us=1, start_s=1)}, b={"outrider": row(cpu_us=1)})
    new = macro(a={"outrider": row(cpu_us=1, rss_idle_mb=1)}, c={"outrider": row(cpu_us=1)})
    assert [c.name for c in macro_changes(old, new)] == ["a cpu_us"]


def test_an_error_that_came_is_worse_and_one_that_went_has_no_base() -> None:
    good, bad = macro(a={"outrider": row(cpu_us=1)}), macro(a={"outrider": {"error": "401."}})
    (came,) = macro_changes(good, bad)
    assert (came.mark, came.words) == (WORSE, "error: 401.")
    assert list(macro_changes(bad, good)) == []
    assert "a: error: 401.  WORSE" in compare_macro([good, bad], "", False)


def test_nginx_with_an_error_or_a_latency_of_nothing_gives_no_ratio() -> None:
    old = macro(a={"nginx": {"error": "x"}, "outrider": row(cpu_us=1)})
    new = macro(a={"nginx": row(cpu_us=1), "outrider": row(cpu_us=1)})
    assert next(macro_changes(old, new)).of_nginx is None
    old = macro(a={"nginx": row(p50_us=100), "outrider": row(p50_us=-5)})
    change = next(macro_changes(old, old))
    assert (change.of_nginx, change.percent, change.mark) == (None, None, "")


def test_the_macro_table_says_runs_figures_and_marks() -> None:
    old = macro("aaaaaaa", base_url={"nginx": row(cpu_us=20), "outrider": row(cpu_us=40, start_s=1)})
    new = macro("bbbbbbb+", base_url={"nginx": row(cpu_us=20), "outrider": row(cpu_us=30, start_s=1)})
    lines = compare_macro([old, new], "", False).splitlines()
    assert lines[0].startswith("Macro bench: aaaaaaa (2026-01-01T00:00) → bbbbbbb+ (2026-01-01T00:00), less than 15 %")
    assert lines[1].split() == ["old", "new", "change", "%", "×", "nginx", "old", "new", "change", "%"]
    assert lines[2].split() == ["base_url", "cpu_us", "40.0", "30.0", "-25.0", "2.00", "1.50", "-25.0", "better"]
    assert lines[3].split() == ["base_url", "start_s", "1.0", "1.0", "+0.0", "-", "-", "-", "tie"]
    assert lines[4] == "1 better, 0 worse, 1 within noise"
    assert "\x1b[32m" in compare_macro([old, new], "", True)


# -- the micro bench


def test_cases_of_both_runs_are_compared_with_the_noise_of_their_unit() -> None:
    changes = micro_changes(micro(a=100, b=100, c=1), micro(a=105, b=80, d=1))
    assert [(c.name, c.mark) for c in changes] == [("a", TIE), ("b", BETTER)]
    changes = micro_changes(micro(by="callgrind", a=100), micro(by="callgrind", a=105))
    assert [c.mark for c in changes] == [WORSE]


def test_runs_are_compared_with_those_counted_in_the_same_way_that_share_a_case() -> None:
    lines = [
        micro("1111111", a=100),
        micro("2222222", by="callgrind", a=1000),
        micro("3333333", b=7),
        micro("4444444", by="perf", a=900),
        micro("5555555", a=50),
        micro("6666666", by="callgrind", a=1100),
    ]
    by_cpu, by_callgrind, by_perf = compare_micro(lines, "", False)
    assert by_cpu.startswith("Micro bench, ns by cpu: 1111111 ")
    assert "→ 5555555 " in by_cpu
    assert "-50.0  better" in by_cpu
    assert "2222222 " in by_callgrind
    assert "+10.0  WORSE" in by_callgrind
    assert by_perf == "Micro bench, instructions by perf: no earlier run shares a case with the newest."


def test_a_case_that_became_an_error_is_worse() -> None:
    text = "\n".join(compare_micro([micro(a=1, b=1), micro(b=1, errors={"a": "lies", "c": "new"})], "", False))
    assert "a: error: lies  WORSE" in text
    assert "0 better, 1 worse, 1 within noise" in text
    assert "c: " not in text


# -- which lines


@pytest.mark.parametrize(
    ("own", "asked", "is_it"),
    [("43613e9", "43613e9", True), ("43613e9+", "43613e9", True), ("43613e9", "43613e9abcdef0123", True),
     ("43613e9", "436", True), ("43613e9", "bb6fe43", False), ("", "bb6fe43", False)],
)  # fmt: skip
def test_a_revision_may_be_abbreviated_or_whole(own: str, asked: str, is_it: bool) -> None:
    assert is_of({"revision": own}, asked) is is_it


def test_base_picks_the_newest_earlier_line_of_that_revision() -> None:
    lines = [micro("aaaaaaa", a=1), micro("aaaaaaa", a=2), micro("bbbbbbb", a=3), micro("ccccccc", a=4)]
    (text,) = compare_micro(lines, "aaa", False)
    assert "aaaaaaa (" in text
    assert "2.0  4.0" in text
    (text,) = compare_micro(lines, "ddd", False)
    assert text == "Micro bench, ns by cpu: no earlier run of the revision ddd shares a case with the newest."
    macros = [macro("aaaaaaa", s={"outrider": row(cpu_us=1)}), macro("bbbbbbb"), macro("ccccccc", s={})]
    assert compare_macro(macros, "ddd", False) == (
        "Macro bench: no earlier run of the revision ddd is in history.jsonl."
    )
    assert "no scenario in common" in compare_macro(macros, "", False)


def test_other_machines_and_configurations_are_said() -> None:
    old, new = micro(a=1), micro(a=1) | {"machine": {"cpu": "b"}}
    assert "on different machines" in next(iter(compare_micro([old, new], "", False)))
    rows = {"s": {"outrider": row(cpu_us=1)}}
    lines = [macro(**rows) | {"config": "default"}, macro(**rows) | {"config": "all-on"}]
    assert "on different configurations" in compare_macro(lines, "", False)


# -- the command


def test_nothing_to_compare_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path) == 0
    said = capsys.readouterr().out
    assert "Macro bench: fewer than two runs are in history.jsonl" in said
    assert "Micro bench: fewer than two runs are in micro.jsonl" in said


def test_the_command_reads_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"s": {"outrider": row(cpu_us=1)}}
    for name, entry in (("history.jsonl", macro(**rows)), ("micro.jsonl", micro(a=1))):
        (tmp_path / name).write_text(f"{json.dumps(entry)}\n" * 2)
    assert main(["--base", "aaaaaaa"], tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("0 better, 0 worse, 1 within noise") == 2
    assert "\x1b" not in said


@pytest.mark.parametrize("line", ["{", "[]", ""])
def test_a_broken_line_is_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f"{{}}\n{line}\n{{}}\n")
    with pytest.raises(BenchError, match=r"history\.jsonl:2 is not a JSON object; remove the line\."):
        read_lines(path)
    assert main([], tmp_path) == 1
    assert capsys.readouterr().err.startswith("bench: history.jsonl:2 ")
