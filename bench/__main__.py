"""python -m bench [--only NAME,...] [--scenario NAME,...] [--repeat N] [--json FILE]"""

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
from bench.scenarios import SCENARIOS


def parse(argv: Sequence[str]) -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="bench", description="Outrider beside its peers, in one run.")
    parser.add_argument("--only", default="", help=f"proxies, of: {', '.join(all_peers())}")
    parser.add_argument("--scenario", default="", help=f"scenarios, of: {', '.join(s.name for s in SCENARIOS)}")
    parser.add_argument("--repeat", type=int, default=defaults.repeat, help="runs of each cell (%(default)s)")
    parser.add_argument("--seconds", type=float, default=defaults.loaded_s, help="of each loaded run (%(default)s)")
    parser.add_argument("--single", type=float, default=defaults.single_s, help="of one connection (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the whole result there as well")
    parser.add_argument("--no-history", action="store_true", help="add no line to bench/results")
    args = parser.parse_args(argv)
    for asked, known, what in (
        (args.only, list(all_peers()), "proxy"),
        (args.scenario, [s.name for s in SCENARIOS], "scenario"),
    ):
        for name in filter(None, asked.split(",")):
            if name not in known:
                parser.error(f"no {what} is named {name}; known: {', '.join(known)}")
    if args.repeat < 1 or args.seconds <= 0 or args.single <= 0:
        parser.error("--repeat, --seconds and --single must be more than 0")
    return args


def chosen_peers(only: str) -> list[Peer]:
    """Those asked for; direct always, since latency is told relative to it."""
    names = set(filter(None, only.split(",")))
    return [peer for name, peer in all_peers().items() if not names or name in names or name == "direct"]


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


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    began = time.monotonic()
    settings = Settings(args.repeat, args.seconds, args.single)
    peers = chosen_peers(args.only)
    wanted = set(filter(None, args.scenario.split(",")))
    try:
        for name in ("load", "upstream"):
            program(name)
        versions = {peer.name: peer.version() for peer in peers if not peer.absent()}
        print(headline(versions), flush=True)
        results: dict[str, dict[str, Row]] = {}
        for scenario in SCENARIOS:
            if wanted and scenario.name not in wanted:
                continue
            results[scenario.name] = run_scenario(scenario, peers, settings, progress)
            progress("")
            print(f"\n{table.render(scenario, results[scenario.name], sys.stdout.isatty())}", flush=True)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    shown = {"repeat": settings.repeat, "loaded_s": settings.loaded_s, "single_s": settings.single_s}
    entry = history.record(results, versions, shown, datetime.datetime.now(datetime.UTC))
    if args.json:
        args.json.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    where = "" if args.no_history else f"; added to {history.append(entry).relative_to(Path.cwd(), walk_up=True)}"
    print(f"\n{time.monotonic() - began:.0f} s{where}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
