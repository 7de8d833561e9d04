"""Processes of the bench: start on one core, wait for a port, read CPU and memory of the whole tree, end it."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.build import BenchError

TICKS = os.sysconf("SC_CLK_TCK")
SETTLES_S = 0.3
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[int, int]:
    """(the proxy's core, the core of client and upstream); the same one where there is no other."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def raise_file_limit() -> None:
    """As many descriptors as are allowed, for us and what we start: 1,000 streams take 2,000 in one proxy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stat(pid: int) -> list[str]:
    # "pid (name) state ppid ...": the name may hold spaces and parentheses
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(name)] = int(_stat(int(name))[1])
    found = [pid]
    for parent in found:  # grows while it is read
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def cpu_s(pid: int) -> float:
    """User and system time of the tree since its start, seconds; a tick is 10 ms. 0 for what is gone."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            words = _stat(each)
            total += sum(int(word) for word in words[11:15])  # utime, stime, and those of children that ended
    return total / TICKS


def rss_mb(pid: int) -> float:
    """Resident memory of the tree, MB; pages shared by two of its processes count twice."""
    pages = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 1e6


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _environ() -> dict[str, str]:
    """An installed program has its bytecode: one that may not keep it would be measured compiling."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Daemon:
    """A process on one core, ended with everything it started when the `with` block ends.

    start_s: from start until `port` accepted a connection. Raises: BenchError with the last line it wrote.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        port: int,
        core: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        wait_s: float = 60.0,
    ) -> None:
        words = [str(word) for word in command]
        if shutil.which("taskset"):
            words = ["taskset", "-c", str(core), *words]
        if _accepts(port):  # whoever answers there would be measured in its place
            raise BenchError(f"{name} did not start: port {port} is in use by another process.")
        began = time.monotonic()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environ() | (env or {}),
                start_new_session=True,
            )
        self.pid = self._process.pid
        while not _accepts(port):
            if self._process.poll() is not None or time.monotonic() - began > wait_s:
                ended = self._process.poll() is not None
                self.stop()
                lines = log.read_text(errors="replace").strip().splitlines()
                why = f"exit {self._process.returncode}" if ended else f"no answer on port {port} in {wait_s:.0f} s"
                raise BenchError(f"{name} did not start: {why}{f': {lines[-1][:160]}' if lines else ''}.")
            time.sleep(0.002)
        self.start_s = time.monotonic() - began

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def idle_rss_mb(self) -> float:
        """What it takes a moment after its port answers, when its start is over."""
        time.sleep(SETTLES_S)
        return self.rss_mb()

    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    def stop(self) -> None:
        pids = tree(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(3)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
