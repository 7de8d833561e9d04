"""Runs inside network and mount namespaces of its own (test_transparent.py starts it): apps that know of no sidecar.

Plan: two documentation networks exist on this machine alone; /etc/hosts puts the providers' names there; iptables sends
what goes there for 80 and 443 to the sidecar, except what the sidecar's own user sends. Prints what was seen as JSON.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from e2e import clients
from e2e.commands import Running, clean_environ, running
from e2e.rig import REAL, metric, until
from outrider.mock import MockProvider
from outrider.secrets.placeholder import Placeholder

SIDECAR_UID = 65534
PORT = 8486
PROVIDER, PROVIDER6 = "203.0.113.7", "2001:db8::7"
FAR, FAR6 = "203.0.113.9", "2001:db8::9"
NAMES = f"""
127.0.0.1 localhost
{PROVIDER} api.openai.com
{PROVIDER6} api.openai.com
{FAR} other.example
{FAR6} other.example
"""
# The sidecar's user may read this project, wherever it lies, and is nobody otherwise.
AS_SIDECAR = (
    "setpriv", f"--reuid={SIDECAR_UID}", f"--regid={SIDECAR_UID}", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
)  # fmt: skip
URLLIB3 = """
import urllib3
with urllib3.PoolManager(ca_certs=os.environ["SSL_CERT_FILE"]) as pool:
    show(pool.request("POST", url, body=body, headers=headers).data)
"""
OPENAI = """
import openai
with openai.OpenAI(max_retries=0) as client:
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=json.loads(body)["messages"], stream=True))
    print("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
"""


def sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def lay_network(folder: Path, *, exempt: bool) -> None:
    """exempt: the sidecar's own connections are not sent back to it."""
    sh("ip", "link", "set", "lo", "up")
    for command, route in ((["ip"], "203.0.113.0/24"), (["ip", "-6"], "2001:db8::/32")):
        sh(*command, "route", "add", "local", route, "dev", "lo")
    sh("ip", "-6", "addr", "add", FAR6, "dev", "lo", "nodad")  # IPv6 has to own an address to listen on it
    for tables, network in (("iptables", "203.0.113.0/24"), ("ip6tables", "2001:db8::/32")):
        chain = [tables, "-w", "-t", "nat"]
        if exempt:
            sh(*chain, "-A", "OUTPUT", "-m", "owner", "--uid-owner", str(SIDECAR_UID), "-j", "RETURN")
        match = ["-d", network, "-p", "tcp", "-m", "multiport", "--dports", "80,443"]
        sh(*chain, "-A", "OUTPUT", *match, "-j", "REDIRECT", "--to-ports", str(PORT))
    hosts = folder / "hosts"
    hosts.write_text(NAMES)
    sh("mount", "--bind", str(hosts), "/etc/hosts")


class World:
    """The provider, the far end that nobody claims, and the sidecar between."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        options: Any = {"keys": {name: REAL[name] for name in REAL}, "capture": True}
        self.provider = stack.enter_context(MockProvider(tls_dir=folder / "provider", **options))
        far: Any = {"port": 80, "tls_port": 443, "names": ("other.example",), "tls_dir": folder / "far"}
        self.far = [stack.enter_context(MockProvider(host=host, **far)) for host in (FAR, FAR6)]
        self.far_ca = folder / "far" / "ca.pem"
        self.sidecar = self._sidecar(folder, stack)
        self.ca_dir = folder / "ca"
        self.placeholder = Placeholder.open(self.ca_dir).value

    def _sidecar(self, folder: Path, stack: ExitStack) -> Running:
        os.chown(folder, SIDECAR_UID, SIDECAR_UID)
        reach = {"connect_to": self.provider.https_url, "upstream_ca": str(self.provider.ca_file)}
        config = folder / "outrider.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "version": 1,
                    "listen": {
                        "proxy": "127.0.0.1:0",
                        "admin": "127.0.0.1:0",
                        "transparent": [f"127.0.0.1:{PORT}", f"[::1]:{PORT}"],
                        "max_connections": 200,
                    },
                    "ca": {"dir": str(folder / "ca")},
                    "providers": {"openai": reach | {"credential": {"env": "OPENAI_API_KEY"}}},
                    "timeouts": {"detect_s": 0.3},
                }
            )
        )
        env = {"OPENAI_API_KEY": REAL["openai"], "HOME": str(folder)}
        return stack.enter_context(running(config, env, folder, prefix=AS_SIDECAR))

    def app(self, *command: str) -> str:
        """An app's output, its failure or its complaint: it knows a key and whom to trust."""
        bundle = self.ca_dir / "bundle-for-apps.pem"
        if not bundle.exists():
            bundle.write_bytes((self.ca_dir / "outrider-ca.pem").read_bytes() + self.far_ca.read_bytes())
        env = clean_environ({"OPENAI_API_KEY": self.placeholder, "SSL_CERT_FILE": str(bundle)})
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        return ran.stdout.strip() if ran.returncode == 0 else f"exit {ran.returncode}: {ran.stderr.strip()[-300:]}"

    def python(self, source: str) -> str:
        return self.app(sys.executable, "-c", source)

    def curl(self, *words: str) -> str:
        key = f"authorization: Bearer {self.placeholder}"
        return self.app(*clients.CURL, "-H", key, "-w", "\n%{http_code} %{remote_ip}", *words)

    def events(self) -> dict[str, int]:
        return {at["event"]: n for at, n in metric(self.sidecar.admin_url, "outrider_events_total")}


def exempted(world: World) -> dict[str, Any]:
    """The sidecar's own user is left alone, as it should be."""
    seen: dict[str, Any] = {}
    for family, address in (("-4", PROVIDER), ("-6", PROVIDER6)):
        seen[f"curl {family}"] = world.curl(family, clients.URL).splitlines()[-1] == f"200 {address}"
    seen["openai SDK"] = world.python(clients._PYTHON_HEAD + OPENAI)
    seen["urllib3"] = world.python(clients._PYTHON_HEAD + URLLIB3)
    seen["requests without a variable"] = world.python(
        clients._PYTHON_HEAD + clients.PYTHON["requests"].replace("timeout=120", "verify=os.environ['SSL_CERT_FILE']")
    )
    seen["keys"] = sorted({entry.header("authorization") or "" for entry in world.provider.journal})
    seen["hosts"] = sorted({entry.header("host") or "" for entry in world.provider.journal})
    seen["placeholder at the provider"] = any(
        world.placeholder.encode() in data for data in (world.provider.captured or {}).values()
    )
    before = len(world.provider.journal)
    seen["plain HTTP"] = world.curl(clients.URL.replace("https", "http")).splitlines()[-1]
    seen["plain HTTP, requests"] = len(world.provider.journal) - before
    # A host that nobody claims goes where it was going, with its own certificate, in both families.
    for family in ("-4", "-6"):
        seen[f"tunnel {family}"] = world.app(
            "curl", "-sS", family, "--cacert", str(world.far_ca), "-o", "/dev/null", "-w", "%{http_code}",
            "https://other.example/v1/models",
        )  # fmt: skip
    seen["plain HTTP to another"] = world.app(
        "curl", "-sS", "-4", "-o", "/dev/null", "-w", "%{http_code}", "http://other.example/v1/models"
    )
    seen["far end"] = [[entry.header("host") for entry in far.journal] for far in world.far]
    # A provider's name at an address that is not the provider's: the name is what counts.
    seen["claimed name"] = world.curl("--resolve", "api.openai.com:443:203.0.113.99", clients.URL).splitlines()[-1]
    seen["direct"] = [
        world.app("curl", "-sS", "--max-time", "5", f"http://{host}:{PORT}/").split(":")[0]
        for host in ("127.0.0.1", "[::1]")
    ]
    seen["events"] = world.events()
    return seen


def forgotten(world: World) -> dict[str, Any]:
    """The rule that leaves the sidecar's own user alone is missing: its dial comes back to itself."""
    seen: dict[str, Any] = {}
    seen["provider"] = world.curl("-4", clients.URL).splitlines()[-1]
    for name, url in (("TLS", "https://other.example/v1/models"), ("HTTP", "http://other.example/v1/models")):
        seen[name] = world.app("curl", "-sS", "-4", "--max-time", "10", "--cacert", str(world.far_ca), url)[:7]
    with socket.create_connection((FAR, 443), 10) as silent:  # a server that speaks first would be waited for
        seen["silence"] = ended(silent)
    until(lambda: _open_tunnels(world) == 0)
    seen["provider afterwards"] = world.curl("-4", clients.URL).splitlines()[-1]
    seen["events"] = world.events()
    return seen


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def _open_tunnels(world: World) -> int:
    rows = metric(world.sidecar.admin_url, "outrider_connections")
    return sum(n for at, n in rows if at["state"] in ("tunnel", "door"))


CASES: dict[str, Callable[[World], dict[str, Any]]] = {"exempted": exempted, "forgotten": forgotten}


def main(case: str, folder: Path) -> None:
    folder.chmod(0o755)
    lay_network(folder, exempt=case == "exempted")
    with ExitStack() as stack:
        world = World(folder, stack)
        seen = CASES[case](world)
        code, said = world.sidecar.end()
    seen["end"] = [code, "Traceback" in said, any(key in said for key in REAL.values())]
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
