"""python -m bench.micro [MODULE...] [--json] [--instructions] [--no-history]

What one call of a part costs, without sockets and other processes. A `bench_<module>.py` declares its cases in CASES;
this module is the one that runs them.

Rules: a case is checked before it is timed and again afterwards, and one that does not do what it claims is an error
row, never a fast one; a figure is the fastest of some rounds, since what is slower is the machine's and not the code's;
what calling an empty function costs is taken off. Nothing is collected (gc) while a case is timed, as in `timeit`.
Does not know: what the cases are about.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import sys
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import history
from bench.build import BenchError
from bench.table import BOLD, RED, paint

HERE = Path(__file__).resolve().parent
ROUNDS = 5
ROUND_S = 0.05
EMPTY = "an empty call"


@dataclass(frozen=True, slots=True)
class Case:
    """One operation. setup() makes its subject, call(subject) does it once, claim(subject, result) says if rightly.

    per_call: how many of what is counted one call does. close(subject) comes in the end, where it is given.
    """

    name: str
    setup: Callable[[], Any]
    call: Callable[[Any], object]
    claim: Callable[[Any, Any], bool]
    per_call: int = 1
    close: Callable[[Any], None] | None = None


@dataclass(slots=True)
class Figures:
    """Of one run. unit: "ns" or "instructions"; by: what counted. cases, errors: by "module/case"."""

    unit: str
    by: str
    cases: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def modules() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def cases_of(module: str) -> tuple[Case, ...]:
    """Raises: BenchError when the module's own imports fail (not compiled, or its names have changed)."""
    try:
        found: tuple[Case, ...] = importlib.import_module(f"bench.bench_{module}").CASES
    except (ImportError, AttributeError) as exc:
        raise BenchError(f"bench_{module}.py cannot be used: {exc}.") from exc
    return found


@contextlib.contextmanager
def prepared(case: Case) -> Iterator[Any]:
    """Its subject, checked before and after. Raises: BenchError with the sentence of its error row."""
    with contextlib.ExitStack() as stack:
        try:
            subject = case.setup()
            if case.close is not None:
                stack.callback(case.close, subject)
            _check(case, subject)
            yield subject
            _check(case, subject)
        except BenchError:
            raise
        except Exception as exc:
            raise BenchError(f"raised {type(exc).__name__}: {exc}") from exc


def _check(case: Case, subject: Any) -> None:
    if not case.claim(subject, case.call(subject)):
        raise BenchError("did not do what it claims, so it has no figure")


# -- wall time


def nanoseconds(call: Callable[[Any], object], subject: Any, round_s: float = ROUND_S) -> float:
    timer = timeit.Timer("call(subject)", globals={"call": call, "subject": subject})
    number = 1
    while (taken_s := timer.timeit(number)) < round_s:
        number = max(number * 2, int(number * round_s / max(taken_s, 1e-6)))
    return min(timer.repeat(ROUNDS, number)) / number * 1e9


def empty(subject: Any) -> None:
    """What is taken off."""


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


def main(argv: Sequence[str], prog: str = "bench.micro") -> int:
    args = parse(argv, prog)
    try:
        if args.instructions:
            from bench.instructions import count_cases, counter

            figures = Figures("instructions", counter())
        else:
            figures = Figures("ns", "time")
        for module in args.modules or modules():
            if args.instructions:
                count_cases(module, figures)
            else:
                time_cases(module, figures, args.seconds)
            if not args.json:
                print(render(module, figures, sys.stdout.isatty()), flush=True)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    entry = entry_of(figures, datetime.datetime.now(datetime.UTC))
    if args.json:
        print(json.dumps(entry, ensure_ascii=False))
    if not args.no_history:
        history.append(entry, history.RESULTS / "micro.jsonl")
    return 1 if figures.errors else 0


def run_alone(file: str) -> int:
    """`python -m bench.bench_<module>`."""
    name = Path(file).stem
    return main([name.removeprefix("bench_"), *sys.argv[1:]], f"bench.{name}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
