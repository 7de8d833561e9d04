"""Compiles the bench's client and upstream into bench/build when their sources changed."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"


class BenchError(Exception):
    """The bench cannot go on; the message is one sentence that says what to do."""


def program(name: str) -> Path:
    """Path of the compiled `name` (load, upstream). Raises: BenchError."""
    source, target = HERE / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise BenchError("No C compiler found; install gcc.")
    BUILD.mkdir(exist_ok=True)
    fresh = BUILD / f"{name}.{os.getpid()}"  # two runs at once must not execute half a file
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(source), "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if "openssl/ssl.h" in done.stderr:
            raise BenchError("OpenSSL's headers are missing; install libssl-dev (make bench does so as root).")
        raise BenchError(f"{source.name} does not compile: {done.stderr.strip().splitlines()[0]}")
    fresh.rename(target)
    return target
