"""The programs of the benches, built once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.build import BenchError, program

from bench import load, process, run


@pytest.fixture(scope="module")
def programs() -> None:
    try:
        program("load")
        program("upstream")
    except BenchError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def upstream(programs: None, tmp_path: Path) -> Iterator[tuple[load.Target, load.Target]]:
    """Targets of the bench's own provider: plain, TLS."""
    daemon, certificates, http_port, tls_port = run.start_upstream(tmp_path, process.cores()[1])
    with daemon:
        yield load.Target(http_port), load.Target(tls_port, ca=certificates.ca)
