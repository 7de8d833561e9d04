"""Whether a client that sent FIN is half-closed (it still reads) or gone (its socket is closed): the kernel knows.

Linux keeps the peer of a loopback connection in the same tables as our own socket: a closed one has no inode any more.
Asked through NETLINK_SOCK_DIAG for exactly one connection (sock_diag(7)), about 10 microseconds.
Does not know: HTTP. A peer on another machine cannot be asked about and counts as gone, as with nginx.
"""

import os
import socket
import struct
from ipaddress import ip_address
from typing import Any

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NOCOOKIE = b"\xff" * 8
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=LHHLL")
_REQUEST = struct.Struct("=BBBBL")
_ID = struct.Struct("!HH16s16s")
_ANSWER = struct.Struct("=BBBB48sLLLLL")  # family state timer retrans, id, expires rqueue wqueue uid inode


def is_gone(sock: Any) -> bool:
    """sock: our end of the connection, as uvloop hands it out or a socket. True when nobody will read what we send."""
    try:
        ours, theirs = sock.getsockname(), sock.getpeername()
    except OSError:
        return True
    if not isinstance(ours, tuple):
        return False  # a Unix socket: its peer's end is not looked up, and a write tells
    if not ip_address(theirs[0].partition("%")[0]).is_loopback and ours[0] != theirs[0]:
        return True
    inode = _inode(socket.AF_INET6 if ":" in theirs[0] else socket.AF_INET, theirs, ours)
    return inode is None or inode == 0


def _inode(family: int, source: tuple[Any, ...], destination: tuple[Any, ...]) -> int | None:
    """The inode of the socket bound to `source` and connected to `destination`; 0 is closed, None is not there."""
    pack = socket.inet_pton
    identity = _ID.pack(
        source[1],
        destination[1],
        pack(family, source[0].partition("%")[0]).ljust(16, b"\0"),
        pack(family, destination[0].partition("%")[0]).ljust(16, b"\0"),
    )
    identity += struct.pack("=L", 0) + _NOCOOKIE
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + identity
    message = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(0.05)
            netlink.send(message)
            answer = netlink.recv(4096)
    except OSError:
        return os.getpid()  # cannot ask: believe that it reads
    kind = _HEADER.unpack_from(answer)[1]
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    return int(_ANSWER.unpack_from(answer, _HEADER.size)[-1])
