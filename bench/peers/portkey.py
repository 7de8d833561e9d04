"""Portkey's gateway on Node, headless. It writes bodies anew, so their words are compared.

It has no configuration file of its own: where to and with which key comes with each request, in a header.
"""

import shutil
from pathlib import Path

from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started, fill
from bench.peers.installed import SLOW_START_S, Installed, provider_url
from bench.ports import free_ports
from bench.process import Daemon


class Portkey(Installed):
    name = "portkey"

    def absent(self) -> str:
        return super().absent() or ("" if shutil.which("node") else "portkey needs node, which is not installed here.")

    def start(self, site: Site) -> Started:
        self.demand_http(site)
        (port,) = free_ports(1)
        config = fill("portkey.json", {"PROVIDER": provider_url(site), "PROVIDER_KEY": PROVIDER_KEY})
        command: list[str | Path] = ["node", self.recipe.path, f"--port={port}", "--headless"]
        daemon = Daemon(
            self.name,
            command,
            port=port,
            core=site.core,
            log=site.folder / "log",
            env={"NODE_ENV": "production", "NODE_EXTRA_CA_CERTS": str(site.certificates.ca)},
            wait_s=SLOW_START_S,
        )
        headers = (f"x-portkey-config: {config.strip()}",)
        return Started(Target(port, check="content", headers=headers), daemon)
