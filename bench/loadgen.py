"""What loads the sidecar: locust's users, or the bench's open-loop clients for a spike.

Rules: a generator is ended with its run, whatever happened; what it counted comes back as an Outcome, and it does not
judge itself.
Does not know: readings of the sidecar, limits, reports.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.build import BenchError
from bench.load import Client, Target, command, patience_s
from bench.loadstage import BASE_PATH, PROVIDER_URL, Stage
from bench.peers import CLIENT_KEY, PROVIDER_KEY
from bench.process import cores
from bench.shapes import prepare, read_mix, right_answers
from bench.watch import generator_cores

HERE = Path(__file__).resolve().parent
STOP_S = 10  # for answers that are under way when the time is over
START_S = 30  # for locust itself to be there


@dataclass(frozen=True, slots=True)
class Plan:
    """How hard and how long. `users` are locust's; each keeps one connection."""

    per_s: float
    seconds: float
    users: int = 0
    ramp_s: float = 0.0
    pace_us: int = 0
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    requests: int
    failures: int  # wrong answers, broken calls
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    entries: list[dict[str, Any]] = field(default_factory=list)
    unfinished: int = 0  # due, but not answered (or not even sent) when the time was over


# ---- locust ----


def settings(stage: Stage, plan: Plan) -> dict[str, Any]:
    """What the users have to know, also on another machine."""
    shapes, models = read_mix()
    try:
        answers = right_answers(prepare(shapes, models, 0), stage.upstream_port, PROVIDER_KEY)
    except (ValueError, OSError) as exc:
        raise BenchError(f"The right answers are not to be had: {exc}.") from exc
    return {
        "base_url": f"http://127.0.0.1:{stage.port}",
        "base_path": BASE_PATH,
        "provider": PROVIDER_URL,
        "proxy_host": "127.0.0.1",
        "proxy_port": stage.port,
        "ca": str(stage.intercepted.ca),
        "key": CLIENT_KEY,
        "think_s": plan.users / plan.per_s,
        "pace_us": plan.pace_us,
        "answers": answers,
    }


def locust_command(plan: Plan, page: Path) -> list[str]:
    """Raises: BenchError where locust is not installed."""
    if importlib.util.find_spec("locust") is None:
        raise BenchError("locust is not installed beside this Python; make load-test installs it.")
    words = [sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--only-summary"]
    words += ["--users", str(plan.users), "--spawn-rate", f"{plan.users / max(plan.ramp_s, 1):g}"]
    words += ["--run-time", f"{plan.ramp_s + plan.seconds:.0f}s", "--stop-timeout", str(STOP_S)]
    words += ["--exit-code-on-error", "0", "--loglevel", "WARNING", "--html", str(page)]
    words += ["--processes", str(plan.processes)] if plan.processes > 1 else []
    free = ",".join(map(str, sorted(generator_cores())))
    return ["taskset", "-c", free, *words] if shutil.which("taskset") else words


@contextlib.contextmanager
def _group(words: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, gone with all of it when the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            cwd=HERE.parent,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_locust(stage: Stage, plan: Plan, page: Path, generators: list[int]) -> Outcome:
    """Raises: BenchError when locust does not start or does not end."""
    words = locust_command(plan, page)
    given, result, log = stage.folder / "load.json", stage.folder / "result.json", stage.folder / "locust.log"
    given.write_text(json.dumps(settings(stage, plan)), encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    env = {"BENCH_LOAD": str(given), "BENCH_LOAD_RESULT": str(result), "PYTHONPATH": path}
    with _group(words, log, env) as process:
        generators.append(process.pid)
        try:
            code = process.wait(START_S + plan.ramp_s + plan.seconds + STOP_S)
        except subprocess.TimeoutExpired:
            raise BenchError("locust did not end when its time was over.") from None
    if not result.exists():
        lines = log.read_text(errors="replace").strip().splitlines()
        raise BenchError(f"locust ended without a result (exit {code}): {lines[-1][:160] if lines else 'no word'}.")
    return Outcome(**json.loads(result.read_text(encoding="utf-8")))


# ---- the spike ----


@dataclass(frozen=True, slots=True)
class Part:
    """One client of the spike. `share` of the rate, all of it from the first moment on."""

    name: str
    mode: str
    share: float
    connections: int
    intercepted: bool


PARTS = (
    Part("base_url, plain", "keep", 0.6, 128, intercepted=False),
    Part("HTTPS_PROXY, plain", "keep", 0.376, 128, intercepted=True),
    Part("HTTPS_PROXY, a new connection each", "new", 0.02, 32, intercepted=True),
    Part("base_url, streams of 200 events", "stream", 0.004, 32, intercepted=False),
)


def _part_result(part: Part, result: dict[str, Any]) -> dict[str, Any]:
    times = result.get("first_event_us") or result.get("latency_us") or {}
    failures = 1 if result.get("error") else 0
    return {
        "name": part.name,
        "method": "POST",
        "requests": result["requests"] + failures,
        "failures": failures,
        **{name: times[name] / 1000 if name in times else None for name in ("p50", "p99")},
        "p99.9": times["p999"] / 1000 if "p999" in times else None,
    }


def _worst(entries: list[dict[str, Any]], name: str) -> float | None:
    return max((entry[name] for entry in entries if entry[name] is not None), default=None)


def spike_target(stage: Stage, part: Part) -> Target:
    return stage.intercepted if part.intercepted else stage.base_url


def run_spike(stage: Stage, plan: Plan, generators: list[int]) -> Outcome:
    """From nothing to `plan.per_s` at once. Latency counts from when a call was due.

    p50 is that of the worst part on kept connections, p99 that of the worst part of all.
    """
    core, auth = cores()[1], f"Bearer {CLIENT_KEY}"
    with ExitStack() as stack:
        clients = []
        for part in PARTS:
            numbers = {"connections": part.connections, "seconds": plan.seconds, "rate": plan.per_s * part.share}
            words = command(spike_target(stage, part), auth, core, part.mode, **numbers)
            client = stack.enter_context(Client(words, patience_s(part.connections)))
            clients.append(client)
            generators.append(client.pid)
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        results = list(pool.map(lambda client: client.go(plan.seconds + 20), clients))
    entries = [_part_result(part, result) for part, result in zip(PARTS, results, strict=True)]
    errors = {f"{p.name}: {r['error']}": 1 for p, r in zip(PARTS, results, strict=True) if r.get("error")}
    return Outcome(
        requests=sum(entry["requests"] for entry in entries),
        failures=sum(entry["failures"] for entry in entries),
        errors=errors,
        p50_ms=_worst([e for e, part in zip(entries, PARTS, strict=True) if part.mode == "keep"], "p50"),
        p99_ms=_worst(entries, "p99"),
        entries=entries,
        unfinished=sum(result["unfinished"] for result in results),
    )
