"""No proxy: what client and upstream cost each other, and where they saturate."""

from bench.load import Target
from bench.peers import PROVIDER_KEY, Site, Started


class Direct:
    name = "direct"

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return ""

    def start(self, site: Site) -> Started:
        if site.tls:
            return Started(Target(site.tls_port, ca=site.certificates.ca), None, PROVIDER_KEY)
        return Started(Target(site.http_port), None, PROVIDER_KEY)
