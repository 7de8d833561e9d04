"""`outrider run` as a process of its own: started, asked where it listens, ended; and what it said."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.rig import FOREIGN, until

OUTRIDER = (sys.executable, "-m", "outrider")


@dataclass
class Running:
    """A sidecar that listens. stderr: what it has said so far, in a file."""

    process: "subprocess.Popen[bytes]"
    proxy_url: str
    admin_url: str
    stderr: Path

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, all that it said)."""
        self.process.send_signal(number)
        code = self.process.wait(120)
        return code, self.stderr.read_text()


def clean_environ(more: Mapping[str, str]) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name not in FOREIGN and "OUTRIDER" not in name}
    return known | more


def outrider(
    *words: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end. prefix: as for `running`."""
    command = [*prefix, *OUTRIDER, *words]
    return subprocess.run(
        command, env=clean_environ(env or {}), capture_output=True, text=True, timeout=120, check=False
    )


@contextlib.contextmanager
def running(config: Path, env: Mapping[str, str], folder: Path, *, prefix: Sequence[str] = ()) -> Iterator[Running]:
    """`outrider run`, ready. prefix: a program that starts it, such as setpriv."""
    stderr = folder / "stderr"
    with stderr.open("wb") as file:
        process = subprocess.Popen(
            [*prefix, *OUTRIDER, "run", "--config", str(config)],
            env=clean_environ(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
        )  # fmt: skip
    try:
        yield Running(process, *_addresses(process, stderr), stderr)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(120)


def _addresses(process: "subprocess.Popen[bytes]", stderr: Path) -> tuple[str, str]:
    until(lambda: b"holding" in stderr.read_bytes() or process.poll() is not None)
    said = stderr.read_text()
    listening = re.search(r"^outrider: listening on ([^,\n]+)", said, re.MULTILINE)
    admin = re.search(r"^outrider: admin on (\S+)", said, re.MULTILINE)
    assert listening is not None, said
    assert admin is not None, said
    return f"http://{listening[1]}", admin[1]
