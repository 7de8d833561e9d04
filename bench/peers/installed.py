"""What the entries of installed peers share: presence and version come from their recipe, no entry repeats them."""

from bench.build import BenchError
from bench.peers import Site
from bench.recipes import RECIPES, Recipe

SLOW_START_S = 60.0  # gateways that import much before they listen


def provider_url(site: Site) -> str:
    """Where the upstream is, for those who are configured with a URL."""
    is_tls = site.tls or site.upstream_tls
    return f"https://127.0.0.1:{site.tls_port}" if is_tls else f"http://127.0.0.1:{site.http_port}"


class Installed:
    """`name` is that of the recipe."""

    name: str

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.name]

    def absent(self) -> str:
        return self.recipe.absent()

    def version(self) -> str:
        return self.recipe.version

    def demand_http(self, site: Site) -> None:
        """Raises: BenchError where the scenario speaks TLS."""
        if site.tls:
            raise BenchError(f"{self.name} does not intercept HTTPS; it takes part where its clients speak HTTP.")
