"""mitmproxy (mitmdump): reverse proxy for HTTP, regular proxy that intercepts where the scenario speaks TLS.

Its leaves take the key type of its CA, which is P-256 here as everywhere in the bench. It opens a connection to the
provider for each of a client's: it has no pool to share.
"""

from pathlib import Path

from bench.certs import make_authority
from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started
from bench.peers.installed import SLOW_START_S, Installed, provider_url
from bench.ports import free_ports
from bench.process import Daemon


class Mitmproxy(Installed):
    name = "mitmproxy"

    def start(self, site: Site) -> Started:
        (port,) = free_ports(1)
        ca, _ = make_authority(site.folder, "mitmproxy-ca.pem")
        options = {
            "confdir": site.folder,
            "listen_host": "127.0.0.1",
            "listen_port": port,
            "modify_headers": f"/~q/authorization/Bearer {PROVIDER_KEY}",
            "ssl_verify_upstream_trusted_ca": site.certificates.ca,
            "http2": "false",
            "flow_detail": 0,
        }
        if not site.tls:
            options["mode"] = f"reverse:{provider_url(site)}"
        if site.stream:
            options["stream_large_bodies"] = 1  # by default it keeps a stream until its end
        command: list[str | Path] = [self.recipe.path, "--quiet"]
        for name, value in options.items():
            command += ["--set", f"{name}={value}"]
        daemon = Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log", wait_s=SLOW_START_S)
        if not site.tls:
            return Started(Target(port), daemon)
        # The CONNECT names the upstream's own address, so that no name has to resolve; SNI and Host say the provider's.
        return Started(Target(port, ca=ca, connect=f"127.0.0.1:{site.tls_port}"), daemon)
