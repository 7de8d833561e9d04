"""naive: forty lines of aiohttp and uvloop, what a team writes for itself first."""

import importlib.metadata
import sys
from pathlib import Path

from bench.load import Target
from bench.peers import HERE, PROVIDER_KEY, Site, Started
from bench.peers.installed import Installed, provider_url
from bench.ports import free_ports
from bench.process import Daemon


class Naive(Installed):
    name = "naive"

    def version(self) -> str:
        return f"aiohttp {importlib.metadata.version('aiohttp')}"

    def start(self, site: Site) -> Started:
        self.demand_http(site)
        (port,) = free_ports(1)
        # -I: this folder has modules that are named like the packages they start.
        command: list[str | Path] = [sys.executable, "-I", HERE / "naive_server.py", str(port), provider_url(site)]
        command += [site.certificates.ca]
        env = {"BENCH_PROVIDER_KEY": PROVIDER_KEY}
        return Started(
            Target(port), Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log", env=env)
        )
