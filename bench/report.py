"""python -m bench.report [--history FILE] [--loads FOLDER] [--out FOLDER] [--readme README.md]

One page of tables and plots from the bench's history and from the load tests that were run here, the README's PNGs, and
its table on stdout. --readme puts table and pictures between <!-- bench --> and <!-- /bench -->.

Rules: of each scenario the newest run that has it counts, and the page says when that was; the README's numbers come
from one run alone. Figures, scenarios and proxies that are not known here are shown under their own names.
Does not know: how anything was measured.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from itertools import batched
from pathlib import Path
from typing import Any

from bench import loadpage, plots
from bench import page as html
from bench.build import BUILD, BenchError
from bench.history import RESULTS
from bench.reportdata import (
    CORE,
    OWN,
    Entry,
    bar_panel,
    entry_words,
    headings,
    newest,
    range_panels,
    ratio_history,
    rows_of,
    shown,
    targets,
    title,
    whole_run,
)
from bench.reporttable import markdown

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
MEMORY = ("rss_idle_mb", "rss_after_mb")
AT_ONCE = 6  # panels of one picture on the page
TITLES = {
    "bench-cpu.png": "CPU of the proxy",
    "bench-latency.png": "Latency added to a direct call",
    "bench-memory.png": "Resident memory",
}
PICTURES = {  # file name -> what it shows
    "bench-cpu.png": "CPU of each proxy, medians (thin lines: least to greatest); targets are dashed",
    "bench-latency.png": "Latency that each proxy adds to a direct call at one connection; → is beyond the axis",
    "bench-memory.png": "Resident memory of each proxy",
}


def read_history(path: Path) -> list[Entry]:
    """Oldest first. Raises: BenchError, one sentence."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise BenchError(f"{path} cannot be read: {exc.strerror}; python -m bench writes it.") from exc
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError as exc:
            raise BenchError(f"{path}, line {number} is no JSON.") from exc
        if not isinstance(entry, dict) or not isinstance(entry.get("scenarios"), dict):
            raise BenchError(f"{path}, line {number} is no run of the bench.")
        entries.append(entry)
    if not entries:
        raise BenchError(f"{path} holds no run; python -m bench adds one.")
    return sorted(entries, key=lambda entry: str(entry.get("at", "")))


def read_loads(folder: Path) -> list[dict[str, Any]]:
    """Documents of load tests, as bench.loadtest wrote them; anything else in the folder is left alone."""
    found = []
    for path in sorted(folder.glob("loadtest-*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise BenchError(f"{path} is no JSON; run that load test again.") from exc
        if {"name", "lines", "readings", "later_s"} <= document.keys():
            found.append(document)
    return found


Panels = Sequence[plots.BarPanel | plots.RangePanel]


def panels(entries: Sequence[Entry], scenarios: Sequence[str], run: Entry | None = None) -> dict[str, Panels]:
    """By the names of PICTURES; what has nothing to show is left out. Of `run` alone, or of each one's newest."""
    chosen = [(name, run or newest(entries, name)) for name in scenarios]
    here = [(name, entry) for name, entry in chosen if name in entry["scenarios"]]
    found: dict[str, Panels] = {
        "bench-cpu.png": [panel for name, entry in here if (panel := bar_panel(entry, name, "cpu_us"))],
        "bench-latency.png": [panel for name, entry in here for panel in range_panels(entry, name)],
        "bench-memory.png": [panel for figure in MEMORY if (panel := _memory_panel(here, figure))],
    }
    return {name: some for name, some in found.items() if some}


def _memory_panel(here: Sequence[tuple[str, Entry]], figure: str) -> plots.BarPanel | None:
    """Of the first scenario that has it: what a process holds hardly differs between those of one kind."""
    return next((panel for name, entry in here if (panel := bar_panel(entry, name, figure))), None)


def _scenario(entry: Entry, name: str) -> list[str]:
    rows = rows_of(entry, name)
    columns = headings(rows, name)
    good = [[row.peer, *(shown(row, figure) for figure in columns)] for row in rows.values() if not row.error]
    wrong = [html.paragraph(f"{row.peer}: {row.error}", "bad") for row in rows.values() if row.error]
    judged = [[html.Cell(words, "words"), loadpage.VERDICT[is_met]] for words, is_met in targets(entry, name)]
    parts = [html.heading(title(name)), html.paragraph(entry_words(entry))]
    parts.append(html.table(["", *columns.values()], good, own=OWN) if good else "")
    parts += wrong
    if any(row.is_bounded_by_client for row in rows.values()):
        parts.append(html.paragraph("* bounded by client and upstream, not by the proxy: not to be compared."))
    parts.append(html.table(["target", ""], judged) if judged else "")
    return parts


def _load(document: dict[str, Any]) -> list[str]:
    lines = [
        [line["name"], line["shown"], line["limit"], loadpage.VERDICT[line["is_met"]]] for line in document["lines"]
    ]
    says = f"Load test {document['name']} of {document['at'][:10]}: memory with its regression, exchanges, CPU"
    parts = [html.heading(f"Load test: {document['name']}"), html.paragraph(f"{document['what']}; {document['at']}.")]
    parts.append(html.table(["", "measured", "limit", ""], lines))
    if not plots.missing() and len(document["readings"]) > 2:
        parts.append(html.picture(plots.load_over_time(document), says))
    return parts


def whole_page(entries: Sequence[Entry], loads: Sequence[dict[str, Any]]) -> str:
    scenarios = list(dict.fromkeys(name for entry in entries for name in entry["scenarios"]))
    parts = [html.paragraph("Ratios count, for machines differ; less than 15 % is a tie.")]
    if plots.missing():
        parts.append(html.paragraph(plots.missing()))
    else:
        for name, some in panels(entries, scenarios).items():
            for few in batched(some, AT_ONCE):
                parts.append(html.picture(plots.panels(few, TITLES[name]), PICTURES[name]))
        core = [name for name in scenarios if name in CORE]
        labels, series, aims = ratio_history(entries, core or scenarios)
        if series:
            png = plots.history(labels, series, aims, "Outrider's CPU in nginx's of the same run, over revisions")
            parts.append(html.picture(png, "Each run's ratio; the target of a scenario is dashed in its colour"))
    for name in scenarios:
        parts += _scenario(newest(entries, name), name)
    for document in loads:
        parts += _load(document)
    return html.whole("Outrider: what it costs", parts)


def replaced(readme: str, between: str) -> str:
    """Raises: BenchError where the two markers are not there, once each and in order."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or not pattern.search(readme):
        raise BenchError(f"The README needs one {BEGIN} and after it one {END}; what is between them is replaced.")
    return pattern.sub(lambda _: f"{BEGIN}\n{between}\n{END}", readme)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.report", description="Tables and plots from the bench's history.")
    parser.add_argument("--history", type=Path, default=RESULTS / "history.jsonl")
    parser.add_argument("--loads", type=Path, default=BUILD, help="folder of loadtest-NAME.json (bench/build)")
    parser.add_argument("--out", type=Path, default=BUILD / "report", help="folder of the page (bench/build/report)")
    parser.add_argument("--readme", type=Path, help="replace its part between the markers; pictures go to docs/images")
    return parser.parse_args(argv)


def write(args: argparse.Namespace) -> str:
    """Writes all files; the README's table. Raises: BenchError, before anything is written where input is wrong."""
    entries, loads = read_history(args.history), read_loads(args.loads)
    run = whole_run(entries)
    readme = args.readme.read_text(encoding="utf-8") if args.readme else ""
    images = args.readme.parent / "docs" / "images" if args.readme else args.out
    chosen = {} if plots.missing() else panels(entries, CORE, run)
    drawn = {name: plots.panels(some, TITLES[name]) for name, some in chosen.items()}
    links = [f"![{PICTURES[name]}](docs/images/{name})" for name in drawn]
    table = "\n".join((markdown(run), "", *links)).rstrip()
    fresh = replaced(readme, table) if args.readme else ""
    for folder in (args.out, images):
        folder.mkdir(parents=True, exist_ok=True)
    for name, png in drawn.items():
        (images / name).write_bytes(png)
    (args.out / "index.html").write_text(whole_page(entries, loads), encoding="utf-8")
    if args.readme:
        args.readme.write_text(fresh, encoding="utf-8")
    return table


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    try:
        table = write(args)
    except (BenchError, OSError) as exc:
        print(f"report: {exc}", file=sys.stderr)
        return 1
    print(table)
    if plots.missing():
        print(f"report: {plots.missing()}", file=sys.stderr)
    print(f"report: {args.out / 'index.html'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
