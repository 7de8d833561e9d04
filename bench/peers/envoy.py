"""Envoy: router only; TLS on both sides with a ready certificate where the scenario speaks TLS, as nginx does."""

import json
from pathlib import Path

from bench.certs import HOST
from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started, fill
from bench.peers.installed import Installed
from bench.ports import free_ports
from bench.process import Daemon

TLS_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def transport(kind: str, common: dict[str, object], **others: object) -> str:
    """The line that makes a side speak TLS; JSON is YAML."""
    config = {"@type": TLS_TYPES + kind, "common_tls_context": common, **others}
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": config}
    return f"transport_socket: {json.dumps(socket)}"


class Envoy(Installed):
    name = "envoy"

    def start(self, site: Site) -> Started:
        (port,) = free_ports(1)
        certificates, to_tls = site.certificates, site.tls or site.upstream_tls
        chain = {
            "certificate_chain": {"filename": str(certificates.chain)},
            "private_key": {"filename": str(certificates.key)},
        }
        name = {"san_type": "DNS", "matcher": {"exact": HOST}}
        trust = {"trusted_ca": {"filename": str(certificates.ca)}, "match_typed_subject_alt_names": [name]}
        client_tls = transport("DownstreamTlsContext", {"tls_certificates": [chain]})
        provider_tls = transport("UpstreamTlsContext", {"validation_context": trust}, sni=HOST)
        values: dict[str, object] = {
            "PORT": port,
            "UPSTREAM_PORT": site.tls_port if to_tls else site.http_port,
            "PROVIDER_KEY": PROVIDER_KEY,
            "CLIENT_TLS": client_tls if site.tls else "",
            "PROVIDER_TLS": provider_tls if to_tls else "",
        }
        config = site.folder / "envoy.yaml"
        config.write_text(fill("envoy.yaml", values))
        command: list[str | Path] = [self.recipe.path, "-c", config, "--concurrency", "1", "--disable-hot-restart"]
        command += ["--log-level", "error"]
        daemon = Daemon(self.name, command, port=port, core=site.core, log=site.folder / "log")
        return Started(Target(port, ca=certificates.ca if site.tls else None), daemon)
