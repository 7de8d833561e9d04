"""HAProxy: reverse proxy with reused connections; TLS on both sides where the scenario speaks TLS."""

import shutil
import subprocess
from pathlib import Path

from bench.certs import HOST
from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started, fill
from bench.ports import free_ports
from bench.process import Daemon


class Haproxy:
    name = "haproxy"

    def absent(self) -> str:
        return "" if shutil.which("haproxy") else "haproxy is not installed here (Debian: haproxy)."

    def version(self) -> str:
        done = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=False)
        return done.stdout.split()[2].partition("-")[0] if done.stdout else ""

    def start(self, site: Site) -> Started:
        (port,) = free_ports(1)
        to_tls = site.tls or site.upstream_tls
        tls_server = f" ssl verify required ca-file {site.certificates.ca} sni str({HOST}) verifyhost {HOST}"
        values: dict[str, object] = {
            "BIND": f"127.0.0.1:{port} backlog 4096{f' ssl crt {site.certificates.both}' if site.tls else ''}",
            "SERVER": f"127.0.0.1:{site.tls_port if to_tls else site.http_port}{tls_server if to_tls else ''}",
            "NO_DELAY": "option http-no-delay" if site.stream else "",
            "PROVIDER_KEY": PROVIDER_KEY,
        }
        config = site.folder / "haproxy.cfg"
        config.write_text(fill("haproxy.cfg", values))
        command: list[str | Path] = ["haproxy", "-db", "-f", config]
        daemon = Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log")
        return Started(Target(port, ca=site.certificates.ca if site.tls else None), daemon)
