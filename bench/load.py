"""Drives the compiled client (load.c): one measured run, with the proxy's CPU read at its two ends."""

import json
import os
import select
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.build import BenchError, program
from bench.certs import HOST
from bench.process import Daemon


@dataclass(frozen=True, slots=True)
class Target:
    """How a client reaches the upstream through one proxy."""

    port: int
    path: str = "/v1/chat/completions"
    host: str = HOST
    ca: Path | None = None  # speak TLS, trust this
    connect: str | None = None  # send a CONNECT for this authority first


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: float
    p90: float
    p99: float
    p999: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. Times of single requests in µs. `error`: the first wrong answer, empty when every byte was right."""

    seconds: float
    requests: int
    events: int
    cpu_s: float
    error: str
    latency: Percentiles | None
    first_event: Percentiles | None


def _line(stream: IO[str], wait_s: float) -> str:
    if not select.select([stream], [], [], wait_s)[0]:
        raise BenchError(f"The bench's client said nothing for {wait_s:.0f} s.")
    return stream.readline()


def _percentiles(result: dict[str, dict[str, float]], name: str) -> Percentiles | None:
    return Percentiles(**result[name]) if name in result else None


def run(
    target: Target,
    proxy: Daemon | None,
    *,
    mode: str,
    connections: int,
    seconds: float,
    auth: str,
    core: int,
    pace_us: int = 0,
) -> Sample:
    """Raises: BenchError when the client itself breaks; a wrong answer is a Sample with an error."""
    words = [str(program("load")), "--port", str(target.port), "--path", target.path, "--host", target.host]
    words += ["--auth", auth, "--mode", mode, "--connections", str(connections), "--seconds", str(seconds)]
    words += ["--pace-us", str(pace_us)] if pace_us else []
    words += ["--ca", str(target.ca)] if target.ca else []
    words += ["--connect", target.connect] if target.connect else []
    if shutil.which("taskset"):
        words = ["taskset", "-c", str(core), *words]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            if _line(client.stdout, 20).strip() != "ready":
                raise BenchError("The bench's client did not start.")
            before_s = proxy.cpu_s() if proxy else 0.0
            client.stdin.write("go\n")
            client.stdin.flush()
            line = _line(client.stdout, seconds + 20)
            after_s = proxy.cpu_s() if proxy else 0.0
            client.stdin.close()
        except BaseException:
            client.kill()
            raise
    result = json.loads(line)
    return Sample(
        seconds=result["seconds"],
        requests=result["requests"],
        events=result["events"],
        cpu_s=after_s - before_s,
        error=result.get("error", ""),
        latency=_percentiles(result, "latency_us"),
        first_event=_percentiles(result, "first_event_us"),
    )
