"""`outrider mock`: the provider emulator as a process. Runs until SIGINT or SIGTERM; exit 0.

The first lines on stdout say where it listens, so that a parent which gave port 0 can read the ports.
"""

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from outrider.errors import StartError

if TYPE_CHECKING:
    from outrider.mock import MockProvider

HELP = "Run a provider emulator: OpenAI, Azure, Anthropic, Gemini, Vertex, Bedrock, Ollama and Cohere on one port."
EXAMPLE = "outrider mock --port 9900 --key openai=sk-test --journal journal.jsonl"
_MAX_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=9900, help="plain HTTP; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--tls-port", type=_port, metavar="N", help="HTTPS as well, with a CA of its own; 0: a free one"
    )
    parser.add_argument("--tls-dir", type=Path, metavar="DIR", help="where ca.pem lies (default: a temporary folder)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append every request to FILE, one JSON a line")
    parser.add_argument("--pace-ms", type=_positive, metavar="N", help="wait N ms before each stream event")
    parser.add_argument("--chunk-bytes", type=_count, metavar="N", help="write answers in pieces of N bytes")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PROVIDER=KEY",
        help="accept only this key (may be repeated; bedrock=ACCESS_KEY_ID:SECRET for signatures)",
    )


def run(args: argparse.Namespace) -> int:
    keys = _keys(args.key)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(args, keys))
    except OSError as exc:
        raise StartError(_sentence(exc, args)) from exc


async def _serve(args: argparse.Namespace, keys: dict[str, list[str]]) -> int:
    from outrider.mock import Behaviour, MockProvider

    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    mock = MockProvider(
        keys=keys,
        host=args.host,
        port=args.port,
        tls=args.tls_port is not None,
        tls_port=args.tls_port or 0,
        tls_dir=args.tls_dir,
        journal_file=args.journal,
        behaviour=Behaviour(pace_ms=args.pace_ms, chunk_bytes=args.chunk_bytes),
    )
    async with mock:
        _announce(mock, keys)
        await stop.wait()
    return 0


def _announce(mock: "MockProvider", keys: dict[str, list[str]]) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(f"mock provider on {mock.http_url}", flush=True)
        if mock.https_port:
            print(f"and on {mock.https_url}, CA in {mock.ca_file}", flush=True)
        held = ", ".join(sorted(keys)) or "none: any key in the right place is accepted"
        print(f"keys checked for: {held}", flush=True)


def _keys(given: list[str]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for text in given:
        provider, equals, key = text.partition("=")
        if not (provider and equals and key):
            raise StartError("--key must be PROVIDER=KEY, as in --key openai=sk-test", exit_code=2)
        keys.setdefault(provider, []).append(key)
    return keys


def _sentence(exc: OSError, args: argparse.Namespace) -> str:
    if exc.filename is not None:
        return f"cannot write {exc.filename}: {exc.strerror}; choose another path with --journal or --tls-dir"
    ports = f"{args.port}" if args.tls_port is None else f"{args.port} or {args.tls_port}"
    reason = os.strerror(exc.errno).lower() if exc.errno else str(exc)
    return f"cannot listen on {args.host} port {ports}: {reason}; choose another with --port or --tls-port"


def _number(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return value


def _port(text: str) -> int:
    return _number(text, 0, _MAX_PORT)


def _positive(text: str) -> int:
    return _number(text, 0, 3_600_000)


def _count(text: str) -> int:
    return _number(text, 1, 1 << 30)
