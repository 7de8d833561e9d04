"""python -m bench.instructions [MODULE...]: instructions per call, where wall time is too noisy to compare.

Rules: a module's cases run in a process of their own (bench.counted), N times and then 2 N times; the difference,
divided by N, is the call's, so neither start-up nor what stands around the loop counts. The processor's own counter is
used where the machine has one (many virtual machines have not), else `valgrind --tool=callgrind`: exact, and 50 times
slower. Only user-space instructions are counted, those of all threads.
Does not know: what the kernel does, caches, the clock.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.build import BenchError
from bench.cases import EMPTY, HERE
from bench.counted import MARK, has_counter
from bench.micro import Figures, main

CALLS = {"perf": 1000, "callgrind": 100}  # N
TIMEOUT_S = 900


def counter() -> str:
    """Name of what counts here: "perf" or "callgrind". Raises: BenchError."""
    if has_counter():
        return "perf"
    if shutil.which("valgrind") is None:
        raise BenchError("This machine's processor counts no instructions for us; install valgrind, which does.")
    return "callgrind"


def count_cases(module: str, figures: Figures) -> None:
    """Adds the module's cases. Raises: BenchError."""
    times = CALLS[figures.by]
    base = 0.0  # of the empty call, which comes first
    for row in _rows(module, figures.by, times):
        name = f"{module}/{row['case']}"
        if row["error"]:
            figures.errors[name] = row["error"]
            continue
        value = (row["twice"] - row["once"]) / times
        if row["case"] == EMPTY:
            base = value
        else:
            figures.cases[name] = max(0.0, value - base) / row["per_call"]


def _rows(module: str, by: str, times: int) -> list[dict[str, Any]]:
    """What bench.counted printed; under callgrind the counts come from its dumps."""
    command = [sys.executable, "-m", "bench.counted", module, by, str(times)]
    if by == "perf":
        return _run(command)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "parts"
        callgrind = ["valgrind", "-q", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        rows = _run(callgrind + command)
        totals = list(_totals(out))
    good = [row for row in rows if not row["error"]]
    if len(totals) != 3 * len(good):
        raise BenchError(
            f"callgrind wrote {len(totals)} parts for {len(good)} cases of {module}; three a case were due."
        )
    for index, row in enumerate(good):
        row["once"], row["twice"] = totals[3 * index + 1 : 3 * index + 3]
    return rows


def _run(command: list[str]) -> list[dict[str, Any]]:
    # A hash seed that changes from run to run would change the work of every dictionary.
    env = os.environ | {"PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=env, cwd=HERE.parent, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"counting took longer than {TIMEOUT_S} s; name fewer modules.") from exc
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BenchError(f"{command[0]} did not count: {last}.")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _totals(out: Path) -> Iterator[int]:
    """Instructions up to each mark, since the one before."""
    number = 1
    while (part := out.with_name(f"{out.name}.{number}")).exists():
        for line in part.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("totals:"):
                yield int(line.split()[1])
        number += 1


if __name__ == "__main__":
    raise SystemExit(main(["--instructions", *sys.argv[1:]], "bench.instructions"))
