"""Watches one sidecar while it is loaded: memory and descriptors from /proc, connections and requests from its metrics.

Rules: a reading is whole or it is not kept; the sidecar's own log is cut when it grows beyond LOG_CAP_BYTES, so that a
long run does not fill the disk.
Does not know: who loads it, what is good enough.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.build import BenchError
from bench.peers.outrider import fetch
from bench.process import TICKS, cores, cpu_s, rss_mb, tree

LOG_CAP_BYTES = 64 << 20
_SERIES = re.compile(rb"^(outrider_connections|outrider_requests_total)\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    at_s: float  # since the watch began
    rss_mb: float
    cpu_s: float
    generator_s: float  # CPU of client and upstream
    idle_s: float  # of the cores that are not the sidecar's, together: others may use them as well
    own_idle_s: float  # of the sidecar's core
    files: int  # open descriptors
    requests: int  # exchanges that ended since the sidecar's start
    clients: int  # connections of clients, whatever their state, and exchanges in flight
    providers: int  # connections to providers, those left out that wait in the pool
    pooled: int

    @property
    def files_in_use(self) -> int:
        """Those of the pool are meant to stay open for a while."""
        return self.files - self.pooled


def generator_cores() -> set[int]:
    """All but the sidecar's, or the only one there is."""
    proxy_core, client_core = cores()
    return os.sched_getaffinity(0) - {proxy_core} or {client_core}


def idle_s(of: set[int]) -> float:
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *words = line.split()
        if name.removeprefix("cpu").isdigit() and int(name.removeprefix("cpu")) in of:
            ticks += int(words[3]) + int(words[4])  # idle, and waiting for a disk
    return ticks / TICKS


def series(metrics: bytes) -> tuple[int, dict[str, int]]:
    """(exchanges, connections by "side state") of a page of metrics."""
    requests, connections = 0, {}
    for name, labels, value in _SERIES.findall(metrics):
        if name == b"outrider_requests_total":
            requests += int(float(value))
        else:
            side_state = " ".join(re.findall(r'"([^"]*)"', labels.decode()))
            connections[side_state] = int(float(value))
    return requests, connections


class Watch(threading.Thread):
    """Readings of the process tree `pid` every `every_s` while the `with` block runs."""

    def __init__(self, pid: int, admin_port: int, log: Path, every_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._pid, self._url, self._log, self._every_s = pid, f"http://127.0.0.1:{admin_port}/metrics", log, every_s
        self._began_s = time.monotonic()
        self.generators: list[int] = []  # process trees of client and upstream
        self._ended = threading.Event()
        self.readings: list[Reading] = []

    def read(self) -> Reading:
        """Raises: BenchError when the sidecar does not answer."""
        files = 0
        for each in tree(self._pid):
            with contextlib.suppress(OSError):
                files += len(os.listdir(f"/proc/{each}/fd"))
        memory_mb, used_s = rss_mb(self._pid), cpu_s(self._pid)
        requests, connections = series(fetch(self._url))
        idle = connections.get("provider idle", 0)
        return Reading(
            at_s=time.monotonic() - self._began_s,
            rss_mb=memory_mb,
            cpu_s=used_s,
            generator_s=sum(cpu_s(pid) for pid in self.generators),
            idle_s=idle_s(generator_cores()),
            own_idle_s=idle_s({cores()[0]}),
            files=files,
            requests=requests,
            clients=sum(count for name, count in connections.items() if name.startswith("client ")),
            providers=connections.get("provider open", 0) - idle,
            pooled=idle,
        )

    def run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(BenchError, OSError):
                self.readings.append(self.read())
            with contextlib.suppress(OSError):
                if self._log.stat().st_size > LOG_CAP_BYTES:
                    os.truncate(self._log, 0)  # it is opened to append
            self._ended.wait(self._every_s)

    def until(self, good: Callable[[Reading], bool], wait_s: float) -> Reading:
        """The first good reading, or the last one in `wait_s`. Raises: BenchError."""
        end_s = time.monotonic() + wait_s
        while True:
            now = self.read()
            if good(now) or time.monotonic() > end_s:
                return now
            time.sleep(0.1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def leaks(start: Reading, end: Reading) -> dict[str, int]:
    """What is more at the end than at the start, by its name for people."""
    pairs = {
        "client connections": end.clients - start.clients,
        "provider connections": end.providers - start.providers,
        "descriptors": end.files_in_use - start.files_in_use,
    }
    return {name: more for name, more in pairs.items() if more > 0}
