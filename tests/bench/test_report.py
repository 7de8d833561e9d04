"""The report shows what the history holds, known or not, and the README gets nothing but the part that is its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench.build import BenchError
from bench.history import RESULTS
from bench.report import BEGIN, END, main, panels, read_history, replaced, whole_page
from bench.reportdata import CORE, newest, ratio_history, whole_run
from bench.reporttable import markdown

from bench import plots, report

COMMITTED = RESULTS / "history.jsonl"
needs_plots = pytest.mark.skipif(bool(plots.missing()), reason=plots.missing() or "plots can be drawn")


if not plots.missing():  # fonts are opened once in a process and kept; no test may be blamed for those
    plots.panels([plots.BarPanel("", "", [plots.Bar("a", 1, 1, 1, is_own=True), plots.Bar("b", 9, 9, 9)], 1)], "a")


def row(cpu_us: float, **more: list[float]) -> dict[str, Any]:
    return {"cpu_us": [cpu_us, cpu_us + 1, cpu_us - 1], "p50_us": [100.0], "p99_us": [150.0], "busy": [0.99]} | more


def entry(day: int, own_us: float = 30.0, scenarios: tuple[str, ...] = CORE) -> dict[str, Any]:
    rows = {
        "direct": {"per_s": [80000.0], "p50_us": [20.0], "busy": []},
        "nginx": row(20.0, rss_idle_mb=[20.0], per_s=[50000.0]),
        "litellm": row(7283.0),
        "envoy": {"error": "envoy is not installed here."},
        "outrider": row(own_us, rss_idle_mb=[70.0], p999_us=[900.0], twist_ms=[3.25]),
        "outrider all-on": row(own_us + 5),
    }
    targets = {
        "cpu_us of litellm": {"met": True, "words": "CPU µs/request: 0.0041 (at most 1/250 × litellm)"},
        "cpu_us": {"met": own_us <= 24, "words": f"CPU µs/request: {own_us / 20:.2f} (at most 1.2 × nginx)"},
        "rss_idle_mb": {"met": False, "words": "RSS idle MB: 70 (at most 60)"},
        "twist_ms": {"met": None, "words": "a twist <of> its own"},
    }
    return {
        "at": f"2026-01-{day:02}T08:00:00+00:00",
        "revision": f"abcdef{day}",
        "machine": {"cpu": "A CPU", "cores": 2, "kernel": "6.1", "python": "3.13.0"},
        "versions": {"direct": "", "nginx": "1.22.1", "outrider": "0.1.0"},
        "settings": {"repeat": 3},
        "scenarios": {name: {"rows": rows, "targets": targets} for name in scenarios},
    }


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "history.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in entries))
    return path


def load_document() -> dict[str, Any]:
    names = (
        "rss_mb",
        "cpu_s",
        "generator_s",
        "idle_s",
        "own_idle_s",
        "files",
        "requests",
        "clients",
        "providers",
        "pooled",
    )
    readings = [{"at_s": float(at), **dict.fromkeys(names, at + 1)} for at in range(20)]
    lines = [{"name": "errors", "shown": "0 of 9", "limit": "0", "is_met": True, "note": ""}]
    about = {"name": "soak", "what": "users", "at": "2026-01-05T08:00:00+00:00"}
    return about | {"lines": lines, "readings": readings, "later_s": [10.0, 19.0]}


def test_a_scenario_shows_its_newest_run_and_the_readme_one_run_alone() -> None:
    entries = [entry(1), entry(2), entry(3, scenarios=("stream", "brand_new"))]
    assert newest(entries, "stream") is entries[2]
    assert newest(entries, "base_url") is entries[1]
    assert whole_run(entries) is entries[1]
    assert whole_run(entries[2:]) is entries[2]


def test_the_readmes_table_has_ratios_targets_reasons_and_its_origin() -> None:
    text = markdown(entry(2))
    assert "2 cores of A CPU, Linux 6.1, Python 3.13.0; nginx 1.22.1, outrider 0.1.0; medians of 3, 2026-01-02" in text
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "**30.0 µs, 1.50 ×**" in lines["Outrider"]
    assert "7,283.0 µs, 364.15 ×" in lines["LiteLLM"]
    assert "| 35.0 µs, 1.75 ×" in lines["Outrider all-on"]
    assert "≤ 1.2 × nginx: **missed**" in lines["target"]
    assert "≤ 60 MB: **missed**" in lines["target"]
    assert "envoy" not in lines
    assert "Envoy: envoy is not installed here." in text
    assert "direct" not in lines


def test_names_that_are_not_known_are_shown_as_they_are() -> None:
    page = whole_page([entry(1), entry(2, scenarios=("brand_new",))], [load_document()])
    assert "brand_new" in page
    assert "twist_ms" in page
    assert "a twist &lt;of&gt; its own" in page
    assert "envoy is not installed here." in page
    assert "Load test: soak" in page
    assert "<script" not in page
    assert "http" not in page.replace("HTTP", "")  # nothing is fetched from anywhere


def test_ratios_over_revisions_keep_gaps() -> None:
    entries = [entry(1), entry(2, scenarios=("stream",)), entry(3, own_us=22.0)]
    labels, series, aims = ratio_history(entries, ["base_url"])
    assert labels[0] == "abcdef1\n2026-01-01"
    assert series == {"base_url": [1.5, None, 1.1]}
    assert aims == {"base_url": 1.2}


@needs_plots
def test_every_picture_is_a_png_of_1600_pixels() -> None:
    for name, some in panels([entry(1)], CORE).items():
        png = plots.panels(some, report.TITLES[name])
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20], "big") == 1600


@needs_plots
def test_a_proxy_far_beyond_the_others_is_cut_and_ours_never_is() -> None:
    (panel,) = panels([entry(1)], ["base_url"])["bench-cpu.png"]
    assert isinstance(panel, plots.BarPanel)
    assert panel.base == 20.0
    assert panel.aim == plots.Aim(24.0, "target ≤ 1.2 × nginx: missed", False)
    assert [bar.is_own for bar in panel.bars] == [False, False, True, True]
    assert plots.axis_end(panel) == 20.0 * plots.CUT
    ours = [*panel.bars, plots.Bar("outrider slow", 500, 500, 510, is_own=True)]
    assert plots.axis_end(plots.BarPanel(panel.title, panel.unit, ours, panel.base)) == 510


def test_without_matplotlib_there_are_tables_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "matplotlib is not installed beside this Python"
    monkeypatch.setattr(plots, "missing", lambda: sentence)
    history = written(tmp_path, entry(1))
    assert main(["--history", str(history), "--out", str(tmp_path / "out"), "--loads", str(tmp_path)]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count(sentence) == 1
    assert "<table>" in page
    assert "<img" not in page
    said = capsys.readouterr()
    assert "| Outrider |" in said.out
    assert "![" not in said.out
    assert sentence in said.err


def test_the_committed_history_is_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--history", str(COMMITTED), "--out", str(tmp_path), "--loads", str(tmp_path)]) == 0
    assert "| Outrider |" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    run = whole_run(read_history(COMMITTED))
    assert run["revision"] in page
    assert all(name in page for name in run["scenarios"])


def test_only_the_part_between_the_markers_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\\1\n{END}\nafter\n")
    words = ["--history", str(written(tmp_path, entry(1))), "--out", str(tmp_path / "out"), "--loads", str(tmp_path)]
    assert main([*words, "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n2 cores of A CPU")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    linked = {line.rpartition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    assert linked == {f"docs/images/{path.name}" for path in (tmp_path / "docs" / "images").iterdir()}
    assert len(linked) == (0 if plots.missing() else 3)


@pytest.mark.parametrize("text", ["no markers", f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_left_alone(text: str) -> None:
    with pytest.raises(BenchError, match="needs one <!-- bench -->"):
        replaced(text, "new")


@pytest.mark.parametrize(
    ("content", "words"), [("", "holds no run"), ("{", "line 1 is no JSON"), ("{}", "line 1 is no run of the bench")]
)
def test_a_broken_history_is_a_sentence(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(content)
    assert main(["--history", str(path), "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_history_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--history", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
