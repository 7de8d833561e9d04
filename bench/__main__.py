"""python -m bench [--only NAME,...] [--scenario NAME,...|all] [--config default|all-on] [--repeat N] [--list]"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import history, process, table
from bench.build import BenchError, program
from bench.figures import Row
from bench.peers import Peer, all_peers
from bench.run import Settings, run_scenario
from bench.scenarios import BY_NAME, SCENARIOS, Scenario
from bench.variants import BASES


def parse(argv: Sequence[str]) -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="bench", description="Outrider beside its peers, in one run. Without --scenario: the short table."
    )
    parser.add_argument("--list", action="store_true", help="print scenarios and proxies, a line each, and end")
    parser.add_argument("--only", default="", help=f"proxies, of: {', '.join(all_peers())}")
    parser.add_argument("--scenario", default="", help=f"all, or of: {', '.join(BY_NAME)}")
    parser.add_argument("--config", choices=list(BASES), default=defaults.config, help="of Outrider (%(default)s)")
    parser.add_argument("--repeat", type=int, default=defaults.repeat, help="runs of each cell (%(default)s)")
    parser.add_argument("--seconds", type=float, default=defaults.loaded_s, help="of each loaded run (%(default)s)")
    parser.add_argument("--single", type=float, default=defaults.single_s, help="of one connection (%(default)s)")
    parser.add_argument("--scheduled", type=float, default=defaults.scheduled_s, help="of an open loop (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the whole result there as well")
    parser.add_argument("--no-history", action="store_true", help="add no line to bench/results")
    args = parser.parse_args(argv)
    for asked, known, what in (
        (args.only, list(all_peers()), "proxy"),
        (args.scenario, ["all", *BY_NAME], "scenario"),
    ):
        for name in filter(None, asked.split(",")):
            if name not in known:
                parser.error(f"no {what} is named {name}; known: {', '.join(known)}")
    if args.repeat < 1 or min(args.seconds, args.single, args.scheduled) <= 0:
        parser.error("--repeat, --seconds, --single and --scheduled must be more than 0")
    return args


def chosen_peers(only: str) -> list[Peer]:
    """Those asked for; direct always, since latency is told relative to it."""
    names = set(filter(None, only.split(",")))
    return [peer for name, peer in all_peers().items() if not names or name in names or name == "direct"]


def chosen_scenarios(asked: str) -> list[Scenario]:
    """Those asked for, in the order of the table; the core ones when none was."""
    names = set(filter(None, asked.split(",")))
    return [one for one in SCENARIOS if "all" in names or one.name in names or (not names and one.core)]


def listing() -> str:
    width = max(map(len, [*BY_NAME, *all_peers()])) + 2
    lines = ["Scenarios (* in the short table):"]
    lines += [f"  {one.name:{width}}{'*' if one.core else ' '} {one.title}" for one in SCENARIOS]
    lines += ["Proxies:"]
    lines += [f"  {name:{width}}  {peer.absent() or peer.version() or 'here'}" for name, peer in all_peers().items()]
    return "\n".join(lines)


def progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def headline(versions: dict[str, str]) -> str:
    here = history.machine()
    proxy_core, client_core = process.cores()
    words = [f"{here['cpu']}, {here['cores']} cores, Linux {here['kernel']}"]
    words.append("; ".join(f"{name} {version}" for name, version in versions.items() if version))
    words.append(
        f"proxy alone on core {proxy_core}, client and upstream on core {client_core}; medians (least–greatest)"
        if proxy_core != client_core
        else "only one core here: proxy, client and upstream share it, and every figure suffers for it"
    )
    return "\n".join(words)


def run_all(scenarios: Sequence[Scenario], peers: list[Peer], settings: Settings) -> dict[str, dict[str, Row]]:
    """Prints each table as it is there; a scenario that cannot be run is a sentence, and the others go on."""
    results: dict[str, dict[str, Row]] = {}
    for scenario in scenarios:
        try:
            results[scenario.name] = run_scenario(scenario, peers, settings, progress)
            text = table.render(scenario, results[scenario.name], sys.stdout.isatty())
        except BenchError as exc:
            text = f"{scenario.name}: {exc}"
        progress("")
        print(f"\n{text}", flush=True)
    return results


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    if args.list:
        print(listing())
        return 0
    began = time.monotonic()
    brief = not args.scenario
    settings = Settings(args.repeat, args.seconds, args.single, args.scheduled, args.config, brief)
    peers = chosen_peers(args.only)
    process.raise_file_limit()
    try:
        for name in ("load", "upstream"):
            program(name)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    versions = {peer.name: peer.version() for peer in peers if not peer.absent()}
    print(headline(versions), flush=True)
    results = run_all(chosen_scenarios(args.scenario), peers, settings)
    if not results:
        return 1
    shown = {"repeat": args.repeat, "loaded_s": args.seconds, "single_s": args.single, "scheduled_s": args.scheduled}
    entry = history.record(results, versions, shown, datetime.datetime.now(datetime.UTC), args.config)
    if args.json:
        args.json.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    where = "" if args.no_history else f"; added to {history.append(entry).relative_to(Path.cwd(), walk_up=True)}"
    print(f"\n{time.monotonic() - began:.0f} s{where}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
