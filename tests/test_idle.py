"""What a sidecar that nobody calls yet takes: nothing is loaded that its configuration does not use."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrider_ext import process

# A configuration that says nothing but where to listen uses none of these.
UNUSED = (
    "aiohttp", "botocore", "cel", "ctypes", "genai_prices", "importlib.metadata", "numpy", "onnxruntime",
    "prometheus_client", "re2", "redis", "tempfile", "tokenizers", "outrider.dialects.canonical",
    "outrider.govern.multipart", "outrider.govern.packs", "outrider.govern.plan", "outrider.govern.reading",
    "outrider.mock", "outrider.stack.audit", "outrider.stack.digest", "outrider.stack.redact", "outrider.store.redis",
    "outrider.store.shm", "outrider.supervisor", "outrider.telemetry.audit", "outrider_ext.audit",
    "outrider_ext.digest", "outrider_ext.sharedcells",
)  # fmt: skip
RUN = f"""
import asyncio, sys
from outrider.cli import main
from outrider.cli import run
run.serve = lambda sidecar, announce: started(sidecar)
async def started(sidecar):
    await sidecar.start()
    print([name for name in {UNUSED!r} if name in sys.modules])
    await sidecar.drain()
    return 0
sys.exit(main.main(["run", "--config", sys.argv[1]]))
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The default, but for its ports and folder."""
    path = tmp_path / "outrider.yaml"
    path.write_text(f"version: 1\nlisten: {{proxy: 127.0.0.1:0, admin: 127.0.0.1:0}}\nca: {{dir: {tmp_path / 'ca'}}}\n")
    return path


def test_nothing_is_imported_that_the_configuration_does_not_use(plain: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(plain)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_adapters_of_dialects_are_imported_before_a_call_needs_them_where_models_are_named(plain: Path) -> None:
    plain.write_text(plain.read_text() + "models: {smart: {targets: [openai/gpt-5, anthropic/claude-sonnet-4-6]}}\n")
    waits = "await asyncio.wait_for(asyncio.gather(*sidecar._tasks), 60)\n"
    waits += "    print('outrider.stack.translate' in sys.modules)"
    code = RUN.replace(f"print([name for name in {UNUSED!r} if name in sys.modules])", waits)
    done = subprocess.run(
        [sys.executable, "-c", code, str(plain)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_an_idle_sidecar_takes_less_than_60_mb(plain: Path) -> None:
    command = [sys.executable, "-m", "outrider.cli.main", "run", "--config", str(plain)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sidecar:
        try:
            assert sidecar.stderr is not None
            assert sidecar.stderr.readline().startswith("outrider: listening on ")
            pages = int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1])
        finally:
            sidecar.terminate()
    assert pages * os.sysconf("SC_PAGE_SIZE") < 60_000_000


def test_code_that_was_unmapped_runs_again() -> None:
    for _ in range(3):
        assert process.trim_code() > 1_000_000
        assert time.strftime("%Y", time.gmtime(0)) == "1970"
        assert os.getpid() > 0
