"""Whether a client that sent FIN is half-closed (it still reads) or gone (its socket is closed): the kernel knows.

Linux keeps the peer of a loopback connection in the same tables as our own socket: a closed one has no inode any more.
Asked through NETLINK_SOCK_DIAG for exactly one connection (sock_diag(7)), about 10 microseconds.
Does not know: HTTP. A peer on another machine cannot be asked about and counts as gone, as with nginx.
"""

import os
from ipaddress import ip_address
from typing import Any

from outrider.lanes.sock_diag import inode_in, open_netlink, question


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
    inode = _inode(theirs, ours)
    return inode is None or inode == 0


def _inode(source: tuple[Any, ...], destination: tuple[Any, ...]) -> int | None:
    """The inode of the socket bound to `source` and connected to `destination`; 0 is closed, None is not there."""
    try:
        with open_netlink() as netlink:
            netlink.send(question(source, destination, 1))
            return inode_in(netlink.recv(4096))
    except OSError:
        return os.getpid()  # cannot ask: believe that it reads
