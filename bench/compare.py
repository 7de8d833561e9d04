"""python -m bench.compare [--base REV]: what changed between two runs of the history, and what of it is noise.

Rules: the newest line of bench/results/history.jsonl and of micro.jsonl is compared with the one before it, or with the
newest earlier one of the revision REV. Figures of the macro bench are judged by their ratio to nginx's in the same run
where there is one, since machines differ from hour to hour. What changed less than NOISE is a tie. Runs of the micro
bench are compared with runs that were counted in the same way and share a case with them.
Does not know: why.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.build import BenchError
from bench.history import RESULTS
from bench.table import BOLD, DIM, GREEN, RED, paint

NOISE_PCT = {"macro": 15.0, "ns": 10.0, "instructions": 2.0}
MORE_IS_BETTER = ("per_s",)
NOT_COMPARED = ("busy", "requests", "refused_pct")  # what a row says about its run, not what it costs
OUTRIDER, NGINX = "outrider", "nginx"
TIE, BETTER, WORSE = "tie", "better", "WORSE"
_COLOURS = {TIE: DIM, BETTER: GREEN, WORSE: RED}

type Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure. of_nginx: its old and its new ratio to nginx's, where there is one. words: what came instead."""

    name: str
    old: float | None = None
    new: float | None = None
    of_nginx: tuple[float, float] | None = None
    noise_pct: float = 0.0
    more_is_better: bool = False
    words: str = ""

    @property
    def percent(self) -> float | None:
        return percent(self.old, self.new)

    @property
    def nginx_percent(self) -> float | None:
        return percent(*self.of_nginx) if self.of_nginx else None

    @property
    def mark(self) -> str:
        """Nothing where there is no base to judge by; a row with words is an error that came."""
        if self.words:
            return WORSE
        changed = self.nginx_percent if self.of_nginx else self.percent
        if changed is None:
            return ""
        if abs(changed) <= self.noise_pct:
            return TIE
        return BETTER if (changed > 0) == self.more_is_better else WORSE


def percent(old: float | None, new: float | None) -> float | None:
    """None without a positive base: a latency that a proxy added may be measured as nothing."""
    return None if old is None or new is None or old <= 0 else (new / old - 1) * 100


# -- lines


def read_lines(path: Path) -> list[Entry]:
    """Raises: BenchError for a line that is not a JSON object."""
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise BenchError(f"{path.name}:{number} is not a JSON object; remove the line.")
        entries.append(entry)
    return entries


def is_of(entry: Entry, revision: str) -> bool:
    """Abbreviated or not, and whatever else the tree held."""
    own = str(entry.get("revision", "")).rstrip("+")
    asked = revision.rstrip("+")
    return bool(own and asked) and (own.startswith(asked) or asked.startswith(own))


def base_of(earlier: Sequence[Entry], revision: str) -> Entry | None:
    return next((entry for entry in reversed(earlier) if not revision or is_of(entry, revision)), None)


# -- the macro bench


def figures_of(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in row.items() if name not in NOT_COMPARED and values}


def macro_changes(old: Entry, new: Entry) -> Iterator[Change]:
    """Every figure of Outrider's rows in the scenarios that both have."""
    for scenario, then in old["scenarios"].items():
        now = new["scenarios"].get(scenario)
        for peer in then["rows"] if now is not None else ():
            if peer.partition(" ")[0] == OUTRIDER and peer in now["rows"]:
                name = scenario + peer.removeprefix(OUTRIDER)
                yield from row_changes(name, then["rows"], now["rows"], peer)


def row_changes(name: str, then: Mapping[str, Any], now: Mapping[str, Any], peer: str) -> Iterator[Change]:
    if "error" in then[peer] or "error" in now[peer]:
        if "error" in now[peer]:
            yield Change(name, words=f"error: {now[peer]['error']}")
        return
    old, new = figures_of(then[peer]), figures_of(now[peer])
    old_nginx, new_nginx = (
        figures_of(rows[NGINX]) if NGINX in rows and "error" not in rows[NGINX] else {} for rows in (then, now)
    )
    for figure in [figure for figure in old if figure in new]:
        bases = old_nginx.get(figure, 0), new_nginx.get(figure, 0)
        is_judged_by_nginx = min(*bases, old[figure]) > 0
        yield Change(
            f"{name} {figure}",
            old[figure],
            new[figure],
            (old[figure] / bases[0], new[figure] / bases[1]) if is_judged_by_nginx else None,
            NOISE_PCT["macro"],
            figure in MORE_IS_BETTER,
        )


# -- the micro bench


def micro_changes(old: Entry, new: Entry) -> Iterator[Change]:
    noise_pct = NOISE_PCT[new["unit"]]
    for name, value in new["cases"].items():
        if name in old["cases"]:
            yield Change(name, old["cases"][name], value, noise_pct=noise_pct)
    for name, error in new.get("errors", {}).items():
        if name in old["cases"]:
            yield Change(name, words=f"error: {error}")


def shares_a_case(old: Entry, new: Entry) -> bool:
    return any(True for _ in micro_changes(old, new))


# -- for people


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _cells(change: Change, has_nginx: bool) -> list[str]:
    row = [change.name, _number(change.old), _number(change.new), _percent(change.percent)]
    if has_nginx:
        ratios = change.of_nginx or (None, None)
        row += [*(_number(ratio, 2) for ratio in ratios), _percent(change.nginx_percent)]
    return [*row, change.mark]


def render(title: str, changes: Sequence[Change], colours: bool) -> str:
    """One table; the columns of nginx only where a figure has it."""
    has_nginx = any(change.of_nginx for change in changes)
    heading = ["", "old", "new", "change %", *(["× nginx old", "new", "change %"] if has_nginx else []), ""]
    shown = [change for change in changes if not change.words]
    cells = [heading, *(_cells(change, has_nginx) for change in shown)]
    first, *lines = columns(cells)
    out = [paint(title, BOLD, colours), paint(first, DIM, colours)] if shown else [paint(title, BOLD, colours)]
    for change, line in zip(shown, lines, strict=True):
        out.append(paint(line, _COLOURS[change.mark], colours) if change.mark else line)
    out += [paint(f"{change.name}: {change.words}  {change.mark}", RED, colours) for change in changes if change.words]
    counts = {mark: sum(change.mark == mark for change in changes) for mark in (BETTER, WORSE, TIE)}
    out.append(f"{counts[BETTER]} better, {counts[WORSE]} worse, {counts[TIE]} within noise")
    return "\n".join(out)


def title_of(what: str, old: Entry, new: Entry, noise_pct: float) -> str:
    def named(entry: Entry) -> str:
        return f"{entry.get('revision') or 'no revision'} ({entry['at'][:16]})"

    title = f"{what}: {named(old)} → {named(new)}, less than {noise_pct:g} % is a tie"
    for key, word in (("machine", "machines"), ("config", "configurations")):
        if old.get(key) != new.get(key):
            title += f"\nThe two ran on different {word}, so only what is far apart says anything."
    return title


def compare_macro(lines: Sequence[Entry], revision: str, colours: bool) -> str:
    if len(lines) < 2:
        return "Macro bench: fewer than two runs are in history.jsonl, so there is nothing to compare; run make bench."
    old, new = base_of(lines[:-1], revision), lines[-1]
    if old is None:
        return f"Macro bench: no earlier run of the revision {revision} is in history.jsonl."
    changes = list(macro_changes(old, new))
    if not changes:
        return "Macro bench: the two runs have no scenario in common in which outrider took part."
    return render(title_of("Macro bench", old, new, NOISE_PCT["macro"]), changes, colours)


def compare_micro(lines: Sequence[Entry], revision: str, colours: bool) -> Iterator[str]:
    """A table for each way of counting."""
    if len(lines) < 2:
        yield (
            "Micro bench: fewer than two runs are in micro.jsonl, so there is nothing to compare; run make bench-micro."
        )
        return
    for by in dict.fromkeys(entry["by"] for entry in lines):
        *earlier, new = [entry for entry in lines if entry["by"] == by]
        old = base_of([entry for entry in earlier if shares_a_case(entry, new)], revision)
        what = f"Micro bench, {new['unit']} by {by}"
        if old is None:
            of = f" of the revision {revision}" if revision else ""
            yield f"{what}: no earlier run{of} shares a case with the newest."
        else:
            yield render(title_of(what, old, new, NOISE_PCT[new["unit"]]), list(micro_changes(old, new)), colours)


def report(results: Path, revision: str, colours: bool) -> Iterable[str]:
    """Raises: BenchError."""
    yield compare_macro(read_lines(results / "history.jsonl"), revision, colours)
    yield from compare_micro(read_lines(results / "micro.jsonl"), revision, colours)


def main(argv: Sequence[str], results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="The last two runs beside each other.")
    parser.add_argument(
        "--base", default="", metavar="REV", help="compare with the newest earlier run of this revision"
    )
    args = parser.parse_args(argv)
    try:
        print("\n\n".join(report(results, args.base, sys.stdout.isatty())))
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
