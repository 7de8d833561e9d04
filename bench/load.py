"""Drives the compiled client (load.c): one measured run, with CPU and memory of the proxy read at its two ends."""

import contextlib
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

from bench.build import BenchError, program
from bench.certs import HOST
from bench.process import Daemon


@dataclass(frozen=True, slots=True)
class Target:
    """How a client reaches the upstream through one proxy."""

    port: int
    path: str = "/v1/chat/completions"
    host: str = HOST  # with a port where it is not the scheme's own
    ca: Path | None = None  # speak TLS, trust this
    connect: str | None = None  # send a CONNECT for this authority first
    check: Literal["bytes", "content"] = "bytes"  # content: the gateway writes bodies anew, their words are compared
    model: str = "gpt-4o-mini"  # the gateway's name of it, where check is content
    headers: tuple[str, ...] = ()  # lines added to every request


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
    gap: Percentiles | None = None  # between two events of one paced stream
    refused: int = 0
    connects: int = 0
    handshakes: int = 0
    resumed: int = 0
    scheduled: int = 0  # of an open loop
    unfinished: int = 0  # of those: not answered when patience ended
    client_cpu_s: float = 0.0  # of client and upstream together
    rss_mb: float = 0.0  # of the proxy, with every connection of the client open


def command(target: Target, auth: str, core: int, mode: str, **numbers: float) -> list[str]:
    """The client's command line; `numbers` are its options by name; what is 0 or False is left out."""
    words = [str(program("load")), "--port", str(target.port), "--path", target.path, "--host", target.host]
    words += ["--auth", auth, "--mode", mode, "--check", target.check, "--model", target.model]
    for name, value in numbers.items():
        words += [f"--{name.replace('_', '-')}", str(value + 0)] if value else []  # True is 1
    words += ["--ca", str(target.ca)] if target.ca else []
    words += ["--connect", target.connect] if target.connect else []
    words += ["--headers", "".join(f"{line}\r\n" for line in target.headers)] if target.headers else []
    return ["taskset", "-c", str(core), *words] if shutil.which("taskset") else words


def patience_s(connections: int) -> float:
    """For the warm-up, which itself gives up after 10 s and 20 ms for each connection."""
    return 20 + connections * 0.02


class Client:
    """The client's process, warmed up when the `with` block begins. Raises: BenchError when it breaks."""

    def __init__(self, command: list[str], wait_s: float) -> None:
        self._command = command
        self._wait_s = wait_s

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        try:
            if self._line(self._wait_s).strip() != "ready":
                raise BenchError("The bench's client did not start.")
        except BaseException:
            self._process.kill()
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _line(self, wait_s: float) -> str:
        stream: IO[str] | None = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], wait_s)[0]:
            raise BenchError(f"The bench's client said nothing for {wait_s:.0f} s.")
        return stream.readline()

    def go(self, wait_s: float) -> dict[str, Any]:
        """What it measured; its connections stay open until the block ends."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._line(wait_s)
        if not line:
            raise BenchError("The bench's client ended without a result.")
        result: dict[str, Any] = json.loads(line)
        return result


def _percentiles(result: dict[str, Any], name: str) -> Percentiles | None:
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
    upstream: Daemon | None = None,
    **numbers: float,
) -> Sample:
    """Raises: BenchError when the client itself breaks; a wrong answer is a Sample with an error."""
    words = command(target, auth, core, mode, connections=connections, seconds=seconds, **numbers)
    with Client(words, patience_s(connections)) as client:
        before_s = proxy.cpu_s() if proxy else 0.0
        upstream_before_s = upstream.cpu_s() if upstream else 0.0
        result = client.go(seconds + 20)
        after_s = proxy.cpu_s() if proxy else 0.0
        upstream_s = upstream.cpu_s() - upstream_before_s if upstream else 0.0
        rss_mb = proxy.rss_mb() if proxy else 0.0
    counts = ("requests", "events", "refused", "connects", "handshakes", "resumed", "scheduled", "unfinished")
    return Sample(
        seconds=result["seconds"],
        cpu_s=after_s - before_s,
        error=result.get("error", ""),
        latency=_percentiles(result, "latency_us"),
        first_event=_percentiles(result, "first_event_us"),
        gap=_percentiles(result, "gap_us"),
        client_cpu_s=result["cpu_s"] + upstream_s,
        rss_mb=rss_mb,
        **{name: result[name] for name in counts},
    )


@contextlib.contextmanager
def held(target: Target, *, connections: int, auth: str, core: int, mode: str, **numbers: float) -> Iterator[None]:
    """Calls that stay open while the block runs: streams after their first event, others before their answer.

    Raises: BenchError, at the block's end, when one of them did not.
    """
    words = command(target, auth, core, mode, connections=connections, seconds=0.001, hold=1, **numbers)
    with Client(words, patience_s(connections)) as client:
        yield
        result = client.go(20)
    if result["errors"]:
        raise BenchError(f"The calls that should stay open did not: {result['error']}.")
