"""Outrider as a user runs it: default policies, a credential, one limit, metrics and its log line per request.

A variant of its configuration is a row of its own (bench.variants).
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.build import BenchError
from bench.certs import HOST
from bench.load import Target
from bench.peers import CLIENT_KEY, PROVIDER_KEY, Site, Started
from bench.ports import free_ports
from bench.process import Daemon
from bench.variants import DEFAULT, RULES_FILE, Variant, configuration, rules


def command() -> str | None:
    """The one installed beside this interpreter, else the PATH's."""
    beside = Path(sys.executable).parent / "outrider"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("outrider")


def fetch(url: str, wait_s: float = 30.0) -> bytes:
    """The admin port may be ready a moment after the proxy's. Raises: BenchError."""
    until = time.monotonic() + wait_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=wait_s) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, OSError) as exc:
            if time.monotonic() > until:
                raise BenchError(f"outrider's admin port did not give {url}: {exc}.") from exc
            time.sleep(0.01)


class Outrider:
    def __init__(self, variant: Variant = DEFAULT) -> None:
        self.variant = variant
        self.name = variant.row

    def absent(self) -> str:
        return "" if command() else "outrider is not installed beside this Python; run make setup."

    def version(self) -> str:
        done = subprocess.run([str(command()), "version"], capture_output=True, text=True, check=False, timeout=20)
        return done.stdout.split("\n")[0].removeprefix("outrider").strip()

    def start(self, site: Site) -> Started:
        port, admin_port, transparent_port = free_ports(3)
        to_tls = site.tls or site.upstream_tls
        values: dict[str, object] = {
            "PORT": port,
            "ADMIN_PORT": admin_port,
            "TRANSPARENT_PORT": transparent_port,
            "FOLDER": site.folder,
            "CONNECT_TO": f"https://127.0.0.1:{site.tls_port}" if to_tls else f"http://127.0.0.1:{site.http_port}",
            "UPSTREAM_CA": f"upstream_ca: {site.certificates.ca}" if to_tls else "",
            "HOST": HOST,
        }
        config = site.folder / "outrider.yaml"
        config.write_text(json.dumps(configuration(self.variant, values)))  # JSON is YAML
        if self.variant.rules:
            (site.folder / RULES_FILE).write_text(json.dumps(rules(self.variant.rules)))
        env = {"BENCH_PROVIDER_KEY": PROVIDER_KEY}
        words: list[str | Path] = [str(command()), "run", "--config", config]
        daemon = Daemon(self.name, words, port=port, core=site.core, log=site.folder / "log", env=env)
        key = PROVIDER_KEY if self.variant.without_credential else CLIENT_KEY
        if self.variant.translated:
            return Started(unified(port), daemon, key)
        if not site.tls:
            slow = base_url(port, "slow") if self.variant.slow else None
            return Started(base_url(port, "local"), daemon, key, keys=self.variant.keys, slow=slow)
        ca = site.folder / "outrider-ca.pem"
        try:
            ca.write_bytes(fetch(f"http://127.0.0.1:{admin_port}/ca.pem"))
        except BenchError:
            daemon.stop()
            raise
        return Started(Target(port, ca=ca, connect=f"{HOST}:443"), daemon, key, keys=self.variant.keys)


def unified(port: int) -> Target:
    """Anthropic's Messages on the API over all providers: the same words, served by a provider that speaks Chat."""
    headers = ("anthropic-version: 2023-06-01",)
    host, model = f"127.0.0.1:{port}", "local/gpt-4o-mini"
    return Target(port, path="/v1/messages", host=host, check="content", model=model, headers=headers)


def base_url(port: int, provider: str) -> Target:
    return Target(port, path=f"/{provider}/v1/chat/completions", host=f"127.0.0.1:{port}")
