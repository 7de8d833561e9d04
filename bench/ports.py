"""Ports for servers that are started a moment later."""

import contextlib
import random
import socket
from pathlib import Path

from bench.build import BenchError

LOWEST, BEYOND = 10_240, 65_536


def free_ports(count: int, also: int = 0) -> list[int]:
    """Outside the range from which the kernel gives ports to connections: none of those takes one before its owner.

    also: so far above each port another one is free, too. Raises: BenchError.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    given = range(low, high + 1)
    every = range(LOWEST, BEYOND - also)
    outside = [port for port in every if port not in given and port + also not in given]
    ports: list[int] = []
    for port in random.sample(outside or every, min(1000, len(outside or every))):
        with socket.socket() as sock, socket.socket() as other, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if also:
                other.bind(("127.0.0.1", port + also))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise BenchError("No port was free.")
