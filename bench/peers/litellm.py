"""LiteLLM's proxy: one worker, one model, no database. It writes bodies anew, so their words are compared."""

from pathlib import Path

from bench.load import Target
from bench.peers import CLIENT_KEY, PROVIDER_KEY, Site, Started, fill
from bench.peers.installed import SLOW_START_S, Installed, provider_url
from bench.ports import free_ports
from bench.process import Daemon

ENVIRONMENT = {
    "BENCH_CLIENT_KEY": CLIENT_KEY,
    "BENCH_PROVIDER_KEY": PROVIDER_KEY,
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices from the package, not from the network
}


class Litellm(Installed):
    name = "litellm"

    def start(self, site: Site) -> Started:
        self.demand_http(site)
        (port,) = free_ports(1)
        config = site.folder / "litellm.yaml"
        config.write_text(fill("litellm.yaml", {"PROVIDER": provider_url(site)}))
        command: list[str | Path] = [self.recipe.folder / "bin/python", "-I", self.recipe.path, "--config", config]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        daemon = Daemon(
            self.name,
            command,
            port=port,
            core=site.core,
            log=site.folder / "log",
            env=ENVIRONMENT | {"SSL_CERT_FILE": str(site.certificates.ca)},
            wait_s=SLOW_START_S,
        )
        return Started(Target(port, check="content"), daemon)
