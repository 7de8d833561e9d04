"""python -m bench.loadtest sustained|spike|soak [--rate N] [--seconds N] [--html FILE]

Starts upstream, sidecar and load by itself, prints a verdict and writes a page (and its numbers as JSON beside it).
Exit code 0: every promise kept, or said why it cannot be judged here; 1: one was missed, or a part did not start.
"""

import argparse
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import history, loadpage
from bench.build import BUILD, BenchError, program
from bench.loadgen import Outcome, Plan, locust_command, run_locust, run_spike
from bench.loadstage import Stage, stage
from bench.table import GREEN, PLAIN, RED, columns
from bench.verdict import Limits, Line, Load, is_passed, judge, rate, steady
from bench.watch import Reading, Watch, generator_cores, leaks

MOST_READINGS = 900  # of one run: a soak of a day is read every other minute
SETTLE_SHARE = 0.1  # of the load, before its rate is looked at
MEMORY_SHARE = 0.5  # of the load, before memory is: buffers of a connection grow to the largest call it had
SETTLE_S = 20.0  # for what is open to be closed again, after the load


@dataclass(frozen=True, slots=True)
class Run:
    name: str
    what: str
    plan: Plan
    limits: Limits


# Latency is what a user sees: upstream, sidecar and the client's own process.
RUNS = {
    run.name: run
    for run in (
        Run(
            "sustained",
            "locust's users, half by HTTPS_PROXY and half by base_url, plain and streamed",
            Plan(per_s=1000, seconds=60, users=1000, ramp_s=10, pace_us=5000),
            Limits(per_s=1000, p50_ms=20, p99_ms=200),
        ),
        Run(
            "spike",
            "open-loop clients, from nothing to the whole rate at once",
            Plan(per_s=5000, seconds=20),
            Limits(per_s=5000, p50_ms=5, p99_ms=100),
        ),
        Run(
            "soak",
            "as sustained with fewer and busier users, for as long as --seconds says",
            # So busy that each connection had its largest call several times before its memory is looked at.
            Plan(per_s=300, seconds=600, users=100, ramp_s=10, pace_us=5000),
            Limits(per_s=300, p50_ms=20, p99_ms=200),
        ),
    )
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.loadtest", description="Loads a sidecar and says what came of it.")
    parser.add_argument("run", choices=list(RUNS), help="; ".join(f"{run.name}: {run.what}" for run in RUNS.values()))
    parser.add_argument("--rate", type=float, help="requests per second")
    parser.add_argument("--seconds", type=float, help="of load, after the users have come")
    parser.add_argument("--users", type=int, help="of locust; each calls at the rate that is left for it")
    parser.add_argument("--ramp", type=float, help="seconds in which the users come")
    parser.add_argument("--pace-ms", type=float, help="between two events of a stream (5)")
    parser.add_argument("--processes", type=int, default=1, help="of locust; more than one needs more than two cores")
    parser.add_argument("--html", type=Path, help="the page (bench/build/loadtest-NAME.html)")
    args = parser.parse_args(argv)
    for name in ("rate", "seconds", "users"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f"--{name} must be more than 0")
    return args


def adjusted(run: Run, args: argparse.Namespace) -> Run:
    """The run with what the command line says."""
    per_s = args.rate or run.plan.per_s
    plan = dataclasses.replace(
        run.plan,
        per_s=per_s,
        seconds=args.seconds or run.plan.seconds,
        users=args.users or math.ceil(run.plan.users * per_s / run.plan.per_s),
        ramp_s=run.plan.ramp_s if args.ramp is None else args.ramp,
        pace_us=run.plan.pace_us if args.pace_ms is None else round(args.pace_ms * 1000),
        processes=args.processes,
    )
    return dataclasses.replace(run, plan=plan, limits=dataclasses.replace(run.limits, per_s=per_s))


def _generate(run: Run, on: Stage, html: Path, generators: list[int]) -> Outcome:
    if run.plan.users:
        return run_locust(on, run.plan, html.with_name(f"{html.stem}-locust.html"), generators)
    return run_spike(on, run.plan, generators)


def steady_part(readings: list[Reading], start: Reading, plan: Plan, share: float = SETTLE_SHARE) -> list[Reading]:
    """Those of the load after the users came and `share` of it was over."""
    loaded = [reading for reading in readings if reading.requests > start.requests]
    if not loaded:
        return []
    began_s = loaded[0].at_s + plan.ramp_s
    return steady(loaded, began_s + share * plan.seconds, began_s + plan.seconds - 1)


def share(readings: Sequence[Reading], clock: Callable[[Reading], float]) -> float:
    """How fast a clock of CPU ran: 1 is a whole core."""
    if len(readings) < 2:
        return 0.0
    return (clock(readings[-1]) - clock(readings[0])) / (readings[-1].at_s - readings[0].at_s)


def busy(readings: Sequence[Reading], processes: int) -> float:
    """Of what the generator could use: how much it did, or how much was gone where others used the rest."""
    if len(readings) < 2:
        return 0.0
    own = len(generator_cores())
    used = share(readings, lambda one: one.generator_s) / min(own, processes + 1)
    return max(used, 1 - share(readings, lambda one: one.idle_s) / own)


def perform(run: Run, html: Path) -> tuple[list[Line], dict[str, Any]]:
    """The verdict, and the whole run as a document. Raises: BenchError."""
    if run.plan.users:
        locust_command(run.plan, html)  # says that locust is missing before anything starts
    with stage() as on:
        every_s = max(0.5, (run.plan.seconds + run.plan.ramp_s) / MOST_READINGS)
        with Watch(on.sidecar.pid, on.admin_port, on.log, every_s) as watch:
            watch.generators.append(on.upstream.pid)
            start = watch.until(lambda now: now.clients == 0 and now.providers == 0, SETTLE_S)
            outcome = _generate(run, on, html, watch.generators)
            end = watch.until(lambda now: not leaks(start, now), SETTLE_S)
        part = steady_part(watch.readings, start, run.plan)
        load = Load(
            requests=outcome.requests,
            failures=outcome.failures,
            errors=outcome.errors,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            per_s=rate(part),
            seconds=part[-1].at_s - part[0].at_s if part else 0.0,
            busy=busy(part, run.plan.processes),
            unfinished=outcome.unfinished,
            own_share=share(part, lambda one: one.cpu_s),
            own_idle=share(part, lambda one: one.own_idle_s),
        )
        later = steady_part(watch.readings, start, run.plan, MEMORY_SHARE)
        lines = judge(load, run.limits, later, start, end)
        document = {
            "name": run.name,
            "what": run.what,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "revision": history.revision(),
            "version": on.version,
            "machine": history.machine(),
            "plan": dataclasses.asdict(run.plan),
            "passed": is_passed(lines),
            "lines": [dataclasses.asdict(line) for line in lines],
            "entries": outcome.entries,
            "errors": outcome.errors,
            "later_s": [later[0].at_s, later[-1].at_s] if later else [],
            "readings": [dataclasses.asdict(reading) for reading in watch.readings],
        }
    return lines, document


def render(lines: Sequence[Line], colours: bool) -> str:
    words = {True: ("ok", GREEN), False: ("MISSED", RED), None: ("said", PLAIN)}
    cells = [
        ["", "measured", "limit", ""],
        *([line.name, line.shown, line.limit, words[line.is_met][0]] for line in lines),
    ]
    texts = columns(cells)
    for at, line in enumerate(lines, start=1):
        colour = words[line.is_met][1]
        texts[at] = f"{colour}{texts[at]}{PLAIN}" if colours else texts[at]
        texts[at] += f"  {line.note}" if line.note else ""
    return "\n".join(texts)


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    run = adjusted(RUNS[args.run], args)
    html: Path = args.html or BUILD / f"loadtest-{run.name}.html"
    print(f"{run.name}: {run.plan.per_s:,.0f} requests/s for {run.plan.seconds:,.0f} s; {run.what}", flush=True)
    try:
        for name in ("load", "upstream"):
            program(name)
        html.parent.mkdir(parents=True, exist_ok=True)
        lines, document = perform(run, html)
    except BenchError as exc:
        print(f"loadtest: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("loadtest: ended before its time; no verdict.", file=sys.stderr)
        return 1
    html.with_suffix(".json").write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    html.write_text(loadpage.page(document), encoding="utf-8")
    print(render(lines, sys.stdout.isatty()))
    print(f"{'passed' if is_passed(lines) else 'FAILED'}; {html}")
    return 0 if is_passed(lines) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
