"""Where a load test takes place: the bench's upstream and a sidecar with the bench's configuration, warmed up.

Rules: the sidecar has its core to itself, and speaks TLS to the upstream whichever way a client came; everything
started here is ended with the `with` block.
Does not know: what loads it, how it is judged.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import load
from bench.build import BenchError
from bench.certs import HOST
from bench.peers import CLIENT_KEY, Site
from bench.peers.outrider import Outrider
from bench.process import Daemon, cores, raise_file_limit
from bench.run import start_upstream

BASE_PATH = "/local"  # what the configuration's provider is called
PROVIDER_URL = f"https://{HOST}"


@dataclass(frozen=True, slots=True)
class Stage:
    folder: Path
    sidecar: Daemon
    upstream: Daemon
    upstream_port: int  # plain HTTP, to ask the upstream itself
    port: int
    admin_port: int
    intercepted: load.Target
    version: str

    @property
    def base_url(self) -> load.Target:
        return load.Target(self.port, path=f"{BASE_PATH}/v1/chat/completions", host=f"127.0.0.1:{self.port}")

    @property
    def log(self) -> Path:
        return self.folder / "outrider" / "requests.log"


def _warm_up(stage: Stage, core: int) -> None:
    """A few calls each way: what is made once is made now. Raises: BenchError."""
    for target in (stage.base_url, stage.intercepted):
        auth = f"Bearer {CLIENT_KEY}"
        sample = load.run(target, None, mode="keep", connections=2, seconds=0.2, auth=auth, core=core)
        if sample.error:
            raise BenchError(f"The sidecar does not answer as it should before any load: {sample.error}.")


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Raises: BenchError when a part does not start."""
    outrider = Outrider()
    if outrider.absent():
        raise BenchError(outrider.absent())
    raise_file_limit()
    proxy_core, client_core = cores()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrider-load-")))
        upstream, certificates, http_port, tls_port = start_upstream(folder, client_core)
        stack.enter_context(upstream)
        own = folder / "outrider"
        own.mkdir()
        started = outrider.start(Site(own, certificates, http_port, tls_port, tls=True, stream=True, core=proxy_core))
        assert started.daemon is not None
        stack.enter_context(started.daemon)
        listen = yaml.safe_load((own / "outrider.yaml").read_text(encoding="utf-8"))["listen"]
        made = Stage(
            folder=folder,
            sidecar=started.daemon,
            upstream=upstream,
            upstream_port=http_port,
            port=started.target.port,
            admin_port=int(listen["admin"].rpartition(":")[2]),
            intercepted=started.target,
            version=outrider.version(),
        )
        _warm_up(made, client_core)
        yield made
