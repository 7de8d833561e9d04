"""nginx: plain proxy_pass; TLS on both sides with a ready certificate where the scenario speaks TLS."""

import os
import shutil
import subprocess
from pathlib import Path

from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started, fill
from bench.ports import free_ports
from bench.process import Daemon


class Nginx:
    name = "nginx"

    def absent(self) -> str:
        return "" if shutil.which("nginx") else "nginx is not installed here (Debian: nginx-light)."

    def version(self) -> str:
        done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
        return done.stderr.strip().rpartition("/")[2]

    def start(self, site: Site) -> Started:
        (port,) = free_ports(1)
        to_tls = site.tls or site.upstream_tls
        config = site.folder / "nginx.conf"
        values: dict[str, object] = {
            "USER": "user root;" if os.geteuid() == 0 else "",
            "FOLDER": site.folder,
            "LISTEN": f"127.0.0.1:{port}{' ssl' if site.tls else ''}",
            "UPSTREAM": f"127.0.0.1:{site.tls_port if to_tls else site.http_port}",
            "SCHEME": "https" if to_tls else "http",
            "CERTIFICATE": site.certificates.chain,
            "KEY": site.certificates.key,
            "CA": site.certificates.ca,
            "BUFFERING": "off" if site.stream else "on",
            "REQUEST_BUFFERING": "off" if site.large else "on",
            "PROVIDER_KEY": PROVIDER_KEY,
        }
        config.write_text(fill("nginx.conf", values))
        command: list[str | Path] = ["nginx", "-p", site.folder, "-e", site.folder / "error.log", "-c", config]
        daemon = Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log")
        return Started(Target(port, ca=site.certificates.ca if site.tls else None), daemon)
