"""`outrider run`: the sidecar in the foreground, until a signal."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from outrider.cli.arguments import add_config

if TYPE_CHECKING:
    from outrider.config import Config
    from outrider.runtime import Sidecar
    from outrider.supervisor import Supervisor

HELP = "Run the sidecar until SIGTERM or SIGINT; the first signal drains, a second ends at once, SIGHUP reloads."
EXAMPLE = "outrider run --config outrider.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, "configuration (default: $OUTRIDER_CONFIG, ./outrider.yaml)")
    parser.add_argument("--quiet", action="store_true", help="do not print where it listens")


def run(args: argparse.Namespace) -> int:
    import uvloop

    from outrider.config import load
    from outrider.secrets.hygiene import harden_process

    environ = dict(os.environ)
    config = load(args.config, environ)
    problems = harden_process()  # before a secret is read
    if config.workers > 1:
        from outrider.supervisor import supervise

        for problem in problems:
            print(f"outrider: {problem}", file=sys.stderr)
        return uvloop.run(supervise(config, environ, lambda found: None if args.quiet else _announce(found, config)))
    from outrider.process import forget_credentials, prepare_memory
    from outrider.runtime import Sidecar

    prepare_memory()
    sidecar = Sidecar(config, environ)
    for problem in problems:
        sidecar.log("warning", "hygiene", message=problem)
    forget_credentials(config)
    return uvloop.run(serve(sidecar, announce=not args.quiet))


async def serve(sidecar: "Sidecar", *, announce: bool) -> int:
    """Run a sidecar until it is told to stop. Raises: StartError."""
    from outrider.process import settle_memory, until_told

    await sidecar.start()
    settle_memory()
    await until_told(sidecar, lambda: _announce(sidecar, sidecar.config) if announce else None)
    return 0


def _announce(sidecar: "Sidecar | Supervisor", config: "Config") -> None:
    from outrider.providers.registry import join_host_port

    addresses = [join_host_port(*address) for address in sidecar.proxy_addresses]
    shown = ", ".join([*addresses, *(f"unix:{path}" for path in sidecar.proxy_paths)])
    lines = [f"outrider: listening on {shown}"]
    if sidecar.transparent_addresses:
        redirected = ", ".join(join_host_port(*address) for address in sidecar.transparent_addresses)
        lines.append(f"outrider: transparent on {redirected}")
    if sidecar.admin_addresses:
        lines.append("outrider: admin on http://" + join_host_port(*sidecar.admin_addresses[0]))
    lines += [f"outrider: admin on unix:{path}" for path in sidecar.admin_paths]
    if config.workers > 1:
        lines.append(f"outrider: {config.workers} workers")
    keyed = sorted(name for name, provider in config.providers.items() if provider.credential is not None)
    lines.append(
        f"outrider: holding keys of {', '.join(keyed)}" if keyed else "outrider: holding no keys; apps use their own"
    )
    print("\n".join(lines), file=sys.stderr, flush=True)
