"""Runs inside a network namespace of its own (test_transparent_netns.py starts it): real redirection, JSON out.

Each case is [name, what the door did]. Nothing here waits for time: every case ends when the door has decided.
"""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from door import hellos
from door.world import FakeHost
from outrider.door.contract import Intercept
from outrider.door.door import Door
from outrider.door.listener import Listener, bind
from outrider.lanes.sock_diag import SockDiag
from outrider_ext.callers import Caller

ADDRESSES = {"v4": "203.0.113.7", "v6": "2001:db8::7"}
TARGETS = [(443, hellos.hello()), (443, hellos.hello(b"other.example")), (80, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def redirect(port: int) -> None:
    """Both documentation networks exist on loopback only, and what goes there for 80 and 443 comes to the door."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "route", "add", "203.0.113.0/24", "dev", "lo")
    run("ip", "-6", "route", "add", "2001:db8::/32", "dev", "lo")
    for tables, network in (("iptables", "203.0.113.0/24"), ("ip6tables", "2001:db8::/32")):
        match = ["-d", network, "-p", "tcp", "-m", "multiport", "--dports", "80,443"]
        run(tables, "-w", "-t", "nat", "-A", "OUTPUT", *match, "-j", "REDIRECT", "--to-ports", str(port))


class Watched(FakeHost):
    """Tells when something was decided."""

    def __init__(self) -> None:
        super().__init__()
        self.decided = asyncio.Event()
        self.diag = SockDiag()
        self.uids: list[object] = []

    def caller(self, sock: socket.socket, peer: Any, destination: tuple[str, int] | None) -> Caller:
        """The user of the client's own socket: it is connected to where it wanted to go."""
        assert destination is not None
        self.uids.append(self.diag.uid_of(peer, destination))
        return super().caller(sock, peer, destination)

    def serve_http(self, sock: socket.socket, *rest: Any) -> None:
        super().serve_http(sock, *rest)
        self.decided.set()

    def tunnel(self, *args: Any) -> None:
        super().tunnel(*args)
        self.decided.set()

    def count(self, event: str, name: str) -> None:
        super().count(event, name)
        if event == "loop":
            self.decided.set()

    async def next_decision(self) -> list[object]:
        async with asyncio.timeout(90):
            await self.decided.wait()
        self.decided.clear()
        if self.served:
            sock, origin, context = self.served.pop()
            data = sock.recv(65536)
            sock.close()
            return ["served", origin.host, origin.address, origin.port, context is not None, len(data)]
        if self.tunnels:
            for sock in self.tunnels.pop()[:2]:
                sock.close()
            return ["tunnelled", *self.dialled.pop()]
        return ["loop", self.counts["loop"]]


def spawn(coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(coro, name=name)
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return task


TASKS: set[asyncio.Task[None]] = set()


async def visit(host: Watched, address: str, port: int, data: bytes) -> list[object]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (address, port))
        await loop.sock_sendall(client, data)
        return await host.next_decision()


def dual_stack(port: int) -> socket.socket:
    """One `::` socket for both families, on which IPv4 clients look like ::ffff:…"""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    sock.listen()
    return sock


async def main() -> list[list[object]]:
    run("ip", "link", "set", "lo", "up")
    sockets = bind(["127.0.0.1:0", "[::1]:0"])
    port = sockets[0].getsockname()[1]
    redirect(port)
    host = Watched()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    host.verdicts["api.openai.com", 443] = Intercept("openai", lambda: context)
    door = Door(host, "transparent", spawn)
    cases: list[list[object]] = []
    for kind in ("two listeners", "dual stack"):
        listener = Listener(
            sockets, door.handle, max_connections=100, connections=lambda: door.open_count, count=host.count
        )
        listener.start()
        for family, address in ADDRESSES.items():
            for target_port, data in TARGETS:
                found = await visit(host, address, target_port, data)
                cases.append([kind, family, target_port, len(data), *found])
        for address in ("127.0.0.1", "::1"):
            cases.append([kind, "direct", *await visit(host, address, port, b"")])
        listener.close()
        sockets = [dual_stack(port)] if kind == "two listeners" else []
    door.close()
    cases.append(["uids", *host.uids])
    host.diag.close()
    for sock in host.far_ends:
        sock.close()
    return cases


if __name__ == "__main__":
    json.dump(uvloop.run(main()), sys.stdout)
