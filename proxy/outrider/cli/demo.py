"""`outrider demo`: a mock provider, a sidecar and an unmodified app with two official SDKs; no key and no network.

Plan: an environment with keys made up for this run, as a user's would hold real ones; the sidecar takes them over just
as `outrider exec` does; the app's output is shown as it comes, and beside it what the provider's journal and the
sidecar's metrics say.
Rules: nothing of the user's own keys, proxies or configuration is read; nothing is left behind; what is claimed is
checked against the bytes that reached the provider, and a claim that fails is exit 1.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outrider.cli import exec_
from outrider.cli.demo_screen import Screen
from outrider.errors import StartError

if TYPE_CHECKING:
    from outrider.mock import Journalled, MockProvider
    from outrider.runtime import Sidecar

HELP = "See it work: a mock provider, the sidecar and an unmodified app. Needs no key and no network."
EXAMPLE = "outrider demo"

LIMIT: Final = "12/min"
PACE_MS: Final = 35
TIMEOUT_S: Final = 25.0
KEYS: Final = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
_APP: Final = Path(__file__).with_name("demo_app.py")
# Of the user's environment: what a Python child needs, and nothing that names a key, a proxy or a CA.
_PASSED_ON: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
)
_SHOWN_CALLS: Final = 5
_CHAT: Final = "/v1/chat/completions"
_CALLS_BEFORE_OUTAGE: Final = 2  # of the app to OpenAI

CONFIG = """\
providers:
  openai:    {{connect_to: {url}, upstream_ca: {ca}}}
  anthropic: {{connect_to: {url}, upstream_ca: {ca}}}
models:
  gpt-4o: {{targets: [openai/gpt-4o, anthropic/claude-sonnet-4-6]}}
cache: {{mode: exact}}
limits:
  - {{name: demo, key: [provider], requests: {limit}}}
ca: {{dir: {ca_dir}}}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain lines, on a terminal too")


def run(args: argparse.Namespace) -> int:
    missing = [name for name in KEYS if importlib.util.find_spec(name) is None]
    if missing:
        raise StartError(f"the demo's app needs the SDK of {' and '.join(missing)}: pip install 'outrider[demo]'")
    import uvloop

    screen = Screen(rich=False if args.plain else None)
    with tempfile.TemporaryDirectory(prefix="outrider-demo-", ignore_cleanup_errors=True) as folder:
        problems = uvloop.run(Demo(screen, Path(folder), environment(os.environ, Path(folder))).play())
    for problem in problems:
        print(f"outrider: the demo failed: {problem}", file=sys.stderr)
    return 1 if problems else 0


def environment(own: Mapping[str, str], folder: Path) -> dict[str, str]:
    """A user's environment, with keys made up for this run."""
    environ = {name: own[name] for name in _PASSED_ON if name in own}
    made_up = {variable: f"sk-demo-{name}-{secrets.token_hex(12)}" for name, variable in KEYS.items()}
    return environ | made_up | {"HOME": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


class Demo:
    """One run. `play()` returns what did not hold, a sentence each."""

    def __init__(self, screen: Screen, folder: Path, environ: dict[str, str]) -> None:
        self._screen = screen
        self._folder = folder
        self._environ = environ
        self._keys = {name: environ[variable] for name, variable in KEYS.items()}
        self._told = 0
        self._calls: dict[str, int] = {}
        self._tokens: dict[tuple[str, ...], int] = {}
        self._bitten = False
        self._hits = 0

    async def play(self) -> list[str]:
        from outrider.mock import Behaviour, MockProvider
        from outrider.runtime import Sidecar

        started_s = time.monotonic()
        mock = MockProvider(keys=self._keys, behaviour=Behaviour(pace_ms=PACE_MS), capture=True)
        async with mock:
            mock.next(times=_CALLS_BEFORE_OUTAGE, path=_CHAT)
            mock.fail(503, path=_CHAT)  # the one after them: OpenAI is down when gpt-4o is asked for
            beside = self._prepare(mock)
            sidecar = Sidecar(beside.config, beside.settings)
            await sidecar.start()
            try:
                environ, said = exec_.dress(sidecar, beside)
                self._introduce(mock, said)
                code = await self._run_app(mock, sidecar, environ)
                problems = self._judge(mock, sidecar, code)
                self._sum_up(sidecar, time.monotonic() - started_s)
            finally:
                await sidecar.stop()
        return problems

    def _prepare(self, mock: "MockProvider") -> exec_.Beside:
        file = self._folder / "demo.yaml"
        url, ca, ca_dir = (json.dumps(str(value)) for value in (mock.https_url, mock.ca_file, self._folder / "ca"))
        file.write_text(CONFIG.format(url=url, ca=ca, ca_dir=ca_dir, limit=LIMIT), encoding="utf-8")
        return exec_.prepare(file, self._environ, self._folder)

    def _introduce(self, mock: "MockProvider", said: list[str]) -> None:
        self._screen.title("Outrider: an unmodified app reaches its providers through the sidecar")
        self._screen.say("provider", f"a mock of OpenAI and Anthropic on {mock.https_url}; it knows these keys only:")
        for name, key in self._keys.items():
            self._screen.say("provider", f"  {name.ljust(9)} {key}")
        self._screen.say("sidecar", said[0])
        self._screen.say("app", f"python {_APP.name}, with the openai and the anthropic SDK")

    async def _run_app(self, mock: "MockProvider", sidecar: "Sidecar", environ: Mapping[str, str]) -> int:
        child = exec_.Child()
        shown: list[asyncio.Task[None]] = []

        def on_start(process: asyncio.subprocess.Process) -> None:
            assert process.stdout is not None
            reading = self._show(process.stdout, mock, sidecar)
            shown.append(asyncio.get_running_loop().create_task(reading, name="the app's output"))

        # -P: the script's own folder holds modules of ours, which must not stand for others.
        command = [sys.executable, "-P", str(_APP)]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                code = await child.run(command, environ, stdout=asyncio.subprocess.PIPE, on_start=on_start)
                await asyncio.gather(*shown)
                self._tell(mock, sidecar)
        except TimeoutError as exc:
            raise StartError(f"the demo's app did not end within {TIMEOUT_S:g} s; run it again") from exc
        finally:
            child.kill()
            for task in shown:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*shown)
        return code

    async def _show(self, output: asyncio.StreamReader, mock: "MockProvider", sidecar: "Sidecar") -> None:
        while piece := await output.read(4096):
            for line in piece.decode("utf-8", "replace").splitlines(keepends=True):
                self._screen.app(line)
                self._tell(mock, sidecar)

    # -- what stands beside the app's own words

    def _tell(self, mock: "MockProvider", sidecar: "Sidecar") -> None:
        entries = mock.journal.snapshot()
        for entry in entries[self._told :]:
            if not entry.status:  # its turn comes when it is answered
                break
            self._told += 1
            self._tell_call(entry)
        self._tell_tokens(sidecar)
        hits = _hits(sidecar)
        if hits > self._hits:
            self._hits = hits
            self._screen.say("cache", "asked before: answered from memory, and no provider heard of it")
        if not self._bitten and sidecar.metrics.limits.value("demo", "reject"):
            self._bitten = True
            self._screen.say("limit", f"{LIMIT} for each provider: this call never left the sidecar")

    def _tell_call(self, entry: "Journalled") -> None:
        self._calls[entry.provider] = number = self._calls.get(entry.provider, 0) + 1
        if number > _SHOWN_CALLS:
            return
        slot = "x-api-key" if entry.header("x-api-key") else "authorization"
        host = entry.header("host")
        self._screen.say("provider", f"got {entry.method} {host}{entry.target} with {slot}: {entry.header(slot)}")
        if entry.status >= 500:
            self._screen.say("provider", f"answered {entry.status}: it is down")
            self._screen.say("failover", "gpt-4o goes on to anthropic/claude-sonnet-4-6, in Anthropic's own dialect")
        if number == _SHOWN_CALLS:
            self._screen.say("provider", "(and so on for every further call)")

    def _tell_tokens(self, sidecar: "Sidecar") -> None:
        now = sidecar.metrics.tokens
        for provider in self._keys:
            read, written = (
                _of(now, provider, kind) - _of(self._tokens, provider, kind) for kind in ("input", "output")
            )
            if (read or written) and self._calls.get(provider, 0) <= _SHOWN_CALLS:
                self._screen.say("sidecar", f"counted {read} input and {written} output tokens of {provider}")
        self._tokens = now

    # -- the end

    def _judge(self, mock: "MockProvider", sidecar: "Sidecar", code: int) -> list[str]:
        """What was claimed, held against what arrived."""
        entries = mock.journal.snapshot()
        arrived = b"".join(bytes(part) for part in (mock.captured or {}).values())
        problems = []
        if code:
            problems.append(f"the app ended with exit code {code}")
        if sorted(entry.status for entry in entries if entry.status != 200) != [503]:
            problems.append("the provider refused a call that it should take, or was never down")
        if not _hits(sidecar):
            problems.append("nothing was answered from memory")
        if sidecar.placeholder.value.encode() in arrived:
            problems.append("the placeholder reached the provider")
        if not sidecar.metrics.limits.value("demo", "reject"):
            problems.append("the limit did not bite")
        if not problems:
            self._screen.say("provider", f"{len(entries)} calls, each with the real key; the placeholder never arrived")
        return problems

    def _sum_up(self, sidecar: "Sidecar", took_s: float) -> None:
        metrics = sidecar.metrics
        rows = [(*labels, str(count)) for labels, count in sorted(metrics.requests.items())]
        self._screen.table(
            "outrider_requests_total", ("provider", "operation", "model", "status", "decision", "count"), rows
        )
        rows = [(*labels, str(count)) for labels, count in sorted(metrics.tokens.items())]
        self._screen.table("outrider_tokens_total", ("provider", "model", "type", "count"), rows)
        cells = metrics.overhead.cells.values()
        counts = [sum(column) for column in zip(*(cell.counts for cell in cells), strict=True)]
        median_us = median(metrics.overhead.bounds, counts) * 1e6
        self._screen.say(
            "sidecar", f"median overhead {median_us:.0f} µs a request, TLS apart (outrider_overhead_seconds)"
        )
        self._screen.title(f"done in {took_s:.1f} s. On a real app: outrider exec -- python app.py")


def _hits(sidecar: "Sidecar") -> int:
    return sum(count for (_, result), count in sidecar.metrics.cache.values.items() if result == "hit")


def _of(tokens: Mapping[tuple[str, ...], int], provider: str, kind: str) -> int:
    return sum(count for labels, count in tokens.items() if labels[0] == provider and labels[-1] == kind)


def median(bounds: tuple[float, ...], counts: list[int]) -> float:
    """The median of a histogram, by a straight line within its cell; the last bound for what lies beyond; 0 of none."""
    half, running, low = sum(counts) / 2, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and running + count >= half:
            return low + (bound - low) * (half - running) / count
        running, low = running + count, bound
    return bounds[-1] if sum(counts) else 0.0
