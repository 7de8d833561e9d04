"""TensorZero: the gateway that its wheel embeds, without a database.

It writes bodies anew, so their words are compared. The scheduler starts a worker per usable core, so it has one here.
"""

from pathlib import Path

from bench.load import Target
from bench.peers import HERE, PROVIDER_KEY, Site, Started, fill
from bench.peers.installed import SLOW_START_S, Installed, provider_url
from bench.ports import free_ports
from bench.process import Daemon

MODEL = "tensorzero::model_name::gpt-4o-mini"


class Tensorzero(Installed):
    name = "tensorzero"

    def start(self, site: Site) -> Started:
        self.demand_http(site)
        (ready_port,) = free_ports(1)
        config, port_file = site.folder / "tensorzero.toml", site.folder / "port"
        config.write_text(fill("tensorzero.toml", {"PROVIDER": provider_url(site)}))
        command: list[str | Path] = [self.recipe.path, "-I", HERE / "tensorzero_server.py", config, str(ready_port)]
        command += [port_file]
        env = {"BENCH_PROVIDER_KEY": PROVIDER_KEY, "RUST_LOG": "error", "SSL_CERT_FILE": str(site.certificates.ca)}
        daemon = Daemon(
            self.name,
            command,
            port=ready_port,
            core=site.core,
            log=site.folder / "log",
            env=env,
            wait_s=SLOW_START_S,
        )
        port = int(port_file.read_text())
        return Started(Target(port, path="/openai/v1/chat/completions", check="content", model=MODEL), daemon)
