"""`outrider run`: the sidecar in the foreground, until a signal."""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.config import Config
    from outrider.runtime import Sidecar
    from outrider.supervisor import Supervisor

HELP = "Run the sidecar until SIGTERM or SIGINT; the first signal drains, a second ends at once, SIGHUP reloads."
EXAMPLE = "outrider run --config outrider.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration (default: $OUTRIDER_CONFIG, ./outrider.yaml)"
    )
    parser.add_argument("--quiet", action="store_true", help="do not print where it listens")


def run(args: argparse.Namespace) -> int:
    import uvloop

    with _without_plugins():
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
    from outrider.runtime import Sidecar
    from outrider_ext import readbuffers

    readbuffers.install()  # before the first connection; without it memory grows further, and that is all
    sidecar = Sidecar(config, environ)
    for problem in problems:
        sidecar.log("warning", "hygiene", message=problem)
    _forget_credentials(config)
    return uvloop.run(serve(sidecar, announce=not args.quiet))


@contextlib.contextmanager
def _without_plugins() -> Iterator[None]:
    """Pydantic would search all that is installed for plugins of its own: 15 ms, and code that nobody chose."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    before = os.environ.get(name)
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _forget_credentials(config: "Config") -> None:
    """What config reads from the environment is taken out of ours, so that no child and no dump has it."""
    from outrider.secrets.hygiene import forget_variables
    from outrider.secrets.sources import variables_of

    for provider in config.providers.values():
        if provider.credential is not None:
            forget_variables(variables_of(provider.credential))


async def serve(sidecar: "Sidecar", *, announce: bool) -> int:
    """Run a started sidecar until it is told to stop. Raises: StartError."""
    await sidecar.start()
    _settle_memory()
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    now = asyncio.Event()

    def on_signal() -> None:
        (now if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reload_from_file)
    if announce:
        _announce(sidecar, sidecar.config)
    await told.wait()
    drain = loop.create_task(sidecar.drain(), name="drain")
    hurry = loop.create_task(now.wait(), name="second signal")
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not drain.done():
        drain.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drain
    return 0


def _settle_memory() -> None:
    """What start-up made stays for good: the collector need not look at it again, and less often at what is young."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _announce(sidecar: "Sidecar | Supervisor", config: "Config") -> None:
    shown = ", ".join([*map(_shown, sidecar.proxy_addresses), *(f"unix:{path}" for path in sidecar.proxy_paths)])
    lines = [f"outrider: listening on {shown}"]
    if sidecar.transparent_addresses:
        lines.append(
            "outrider: transparent on " + ", ".join(_shown(address) for address in sidecar.transparent_addresses)
        )
    if sidecar.admin_addresses:
        lines.append("outrider: admin on http://" + _shown(sidecar.admin_addresses[0]))
    lines += [f"outrider: admin on unix:{path}" for path in sidecar.admin_paths]
    if config.workers > 1:
        lines.append(f"outrider: {config.workers} workers")
    keyed = sorted(name for name, provider in config.providers.items() if provider.credential is not None)
    lines.append(
        f"outrider: holding keys of {', '.join(keyed)}" if keyed else "outrider: holding no keys; apps use their own"
    )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
