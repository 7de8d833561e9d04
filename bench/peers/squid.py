"""squid: reverse proxy for HTTP, ssl-bump for intercepted HTTPS.

A bumped connection owns one to the provider: squid pools none of those (bumped before it connects, it opens one per
request). Its leaves carry the key of the CA that signs them, which is P-256.
"""

import subprocess
from pathlib import Path

from bench.certs import HOST, make_authority
from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started, fill
from bench.peers.installed import Installed
from bench.ports import free_ports
from bench.process import Daemon


class Squid(Installed):
    name = "squid"

    def version(self) -> str:
        done = subprocess.run(["squid", "-v"], capture_output=True, text=True, check=False)
        return done.stdout.split("\n")[0].rpartition(" ")[2]

    def start(self, site: Site) -> Started:
        (port,) = free_ports(1)
        to_tls = site.tls or site.upstream_tls
        ca, both = make_authority(site.folder, "ca-both.pem")
        bump = f"ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={both}"
        peer_tls = f"tls sslcafile={site.certificates.ca} ssldomain={HOST}"
        values: dict[str, object] = {
            "LISTEN": f"127.0.0.1:{port} {bump if site.tls else f'accel defaultsite={HOST}'}",
            "UPSTREAM_PORT": site.tls_port if to_tls else site.http_port,
            "PEER_TLS": peer_tls if to_tls else "",
            "CA": site.certificates.ca,
            "PROVIDER_KEY": PROVIDER_KEY,
        }
        config = site.folder / "squid.conf"
        config.write_text(fill("squid.conf", values))
        command: list[str | Path] = ["squid", "-N", "-d", "1", "-f", config]
        daemon = Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log")
        if not site.tls:
            return Started(Target(port), daemon)
        # Only the port it connects to may stand in the CONNECT, and in the Host of what is in the tunnel.
        authority = f"{HOST}:{site.tls_port}"
        return Started(Target(port, ca=ca, connect=authority, host=authority), daemon)
