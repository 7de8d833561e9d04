"""One small entry per proxy: is it here, how it starts, how a client reaches the upstream through it.

Rules: one worker, one core; keep-alive and pooling on both sides; provider certificates verified; the provider's key
set by the proxy; the same answers checked byte for byte, or by their words where a gateway writes bodies anew.
Configurations stand beside their entries, with @NAMES@ that are filled in at start. Access logs are off for all but
Outrider, whose log line per request is on. What each peer is: docs/bench-peers.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.certs import Certificates
from bench.load import Target
from bench.process import Daemon
from bench.variants import fill as fill_text

HERE = Path(__file__).resolve().parent
PROVIDER_KEY = "sk-bench-provider-key"  # what the upstream demands: the proxy puts it there
CLIENT_KEY = "sk-bench-client-key"  # what the client sends, except when it speaks to the upstream itself


@dataclass(frozen=True, slots=True)
class Site:
    """Where one scenario takes place."""

    folder: Path  # private to one peer in one scenario
    certificates: Certificates
    http_port: int  # of the upstream
    tls_port: int
    tls: bool  # the scenario speaks TLS on both sides
    stream: bool
    core: int  # for the proxy
    upstream_tls: bool = False  # the provider's side speaks TLS and the client's does not; http_port is then closed
    large: bool = False  # prompts or answers of 100 kB and more


@dataclass(slots=True)
class Started:
    target: Target
    daemon: Daemon | None  # None: no proxy at all
    key: str = CLIENT_KEY
    keys: int = 0  # how many different keys the client sends; 0: as the scenario says
    slow: Target | None = None  # where calls to a second, slow provider go; None: where all go


class Peer(Protocol):
    name: str

    def absent(self) -> str:
        """Why it cannot take part, one sentence; empty when it can."""
        ...

    def version(self) -> str: ...

    def start(self, site: Site) -> Started:
        """Raises: BenchError when it does not start."""
        ...


def fill(template: str, values: dict[str, object]) -> str:
    """The committed configuration with every @NAME@ replaced."""
    return fill_text((HERE / template).read_text(encoding="utf-8"), values)


def all_peers() -> dict[str, Peer]:
    """By name, in the order of the table."""
    from bench.peers import (
        direct,
        envoy,
        haproxy,
        litellm,
        mitmproxy,
        naive,
        nginx,
        outrider,
        portkey,
        squid,
        tensorzero,
    )

    peers: list[Peer] = [direct.Direct(), nginx.Nginx(), haproxy.Haproxy(), outrider.Outrider()]
    peers += [envoy.Envoy(), squid.Squid(), mitmproxy.Mitmproxy(), naive.Naive()]
    peers += [tensorzero.Tensorzero(), portkey.Portkey(), litellm.Litellm()]
    return {peer.name: peer for peer in peers}
