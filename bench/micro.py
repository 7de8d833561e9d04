"""python -m bench.micro [MODULE...] [--json] [--instructions] [--no-history]

What one call of a part costs, without sockets and other processes. A `bench_<module>.py` declares its cases in CASES;
this module is the one that times them.

Rules: a case is checked before it is timed and again afterwards, and one that does not do what it claims is an error
row, never a fast one; what is timed is the processor time of all threads, so waiting for a processor does not count; a
figure is the fastest of some rounds, since what is slower is the machine's and not the code's; what calling an empty
function costs is taken off. Nothing is collected (gc) while a case is timed, as in `timeit`.
Does not know: what the cases are about.
"""

import argparse
import datetime
import json
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import history
from bench.build import BenchError
from bench.cases import cases_of, empty, modules, prepared
from bench.table import BOLD, RED, paint

ROUNDS = 5
ROUND_S = 0.05


@dataclass(slots=True)
class Figures:
    """Of one run. unit: "ns" or "instructions"; by: what counted. cases, errors: by "module/case"."""

    unit: str
    by: str
    cases: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


# -- time


def nanoseconds(call: Callable[[Any], object], subject: Any, round_s: float = ROUND_S) -> float:
    timer = timeit.Timer("call(subject)", timer=time.process_time, globals={"call": call, "subject": subject})
    number = 1
    while (taken_s := timer.timeit(number)) < round_s:
        number = max(number * 2, int(number * round_s / max(taken_s, 1e-6)))
    return min(timer.repeat(ROUNDS, number)) / number * 1e9


def time_cases(module: str, figures: Figures, round_s: float = ROUND_S) -> None:
    base_ns = nanoseconds(empty, None, round_s)
    for case in cases_of(module):
        name = f"{module}/{case.name}"
        try:
            with prepared(case) as subject:
                taken_ns = nanoseconds(case.call, subject, round_s)
        except BenchError as exc:
            figures.errors[name] = str(exc)
        else:
            figures.cases[name] = max(0.0, taken_ns - base_ns) / case.per_call


# -- the command


def render(module: str, figures: Figures, colours: bool) -> str:
    lines = [paint(f"{module} · {figures.unit}", BOLD, colours)]
    for name, value in figures.cases.items():
        if name.startswith(f"{module}/"):
            lines.append(f"{value:12,.1f}  {name.partition('/')[2]}")
    for name, error in figures.errors.items():
        if name.startswith(f"{module}/"):
            lines.append(paint(f"{'error':>12}  {name.partition('/')[2]}: {error}", RED, colours))
    return "\n".join(lines)


def entry_of(figures: Figures, at: datetime.datetime) -> dict[str, Any]:
    """The run as one JSON object."""
    entry: dict[str, Any] = {
        "at": at.isoformat(timespec="seconds"),
        "revision": history.revision(),
        "machine": history.machine(),
        "unit": figures.unit,
        "by": figures.by,
        "cases": {name: round(value, 2) for name, value in figures.cases.items()},
    }
    return entry | {"errors": figures.errors} if figures.errors else entry


def parse(argv: Sequence[str], prog: str = "bench.micro") -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description="What one call of a part costs.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of: {', '.join(modules())}")
    parser.add_argument("--json", action="store_true", help="print the run as one JSON object and nothing else")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead of time")
    parser.add_argument(
        "--seconds", type=float, default=ROUND_S, help=f"of each of {ROUNDS} timed rounds (%(default)s)"
    )
    parser.add_argument("--no-history", action="store_true", help="add no line to bench/results")
    args = parser.parse_args(argv)
    for name in args.modules:
        if name not in modules():
            parser.error(f"no module is named {name}; known: {', '.join(modules())}")
    if args.seconds <= 0:
        parser.error("--seconds must be more than 0")
    return args


type Count = Callable[[str, Figures], None]


def timing(round_s: float) -> tuple[Count, Figures]:
    return lambda module, figures: time_cases(module, figures, round_s), Figures("ns", "cpu")


def counting() -> tuple[Count, Figures]:
    """Raises: BenchError when nothing here counts instructions."""
    from bench.instructions import count_cases, counter  # it imports this module

    return count_cases, Figures("instructions", counter())


def main(argv: Sequence[str], prog: str = "bench.micro") -> int:
    """0, or 1 when a row is an error."""
    args = parse(argv, prog)
    try:
        count, figures = counting() if args.instructions else timing(args.seconds)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    for module in args.modules or modules():
        try:
            count(module, figures)
        except BenchError as exc:
            figures.errors[f"{module}/all of it"] = str(exc)
        if not args.json:
            print(render(module, figures, sys.stdout.isatty()), flush=True)
    entry = entry_of(figures, datetime.datetime.now(datetime.UTC))
    if args.json:
        print(json.dumps(entry, ensure_ascii=False))
    if not args.no_history:
        history.append(entry, history.RESULTS / "micro.jsonl")
    return 1 if figures.errors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
