"""Listening sockets: bound all or none, accepted from in batches, quiet when there is no room.

Rules: a socket that was accepted is given away at once. Without a file descriptor left, or at the connection cap,
accepting pauses (the kernel's backlog waits) and is tried again after PAUSE_S: an accept loop that spins on EMFILE
takes a whole core.
Does not know: what a connection is; it asks `connections()` how many there are.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from typing import cast

from outrider.config.values import UNIX
from outrider.door.contract import CallLater, Peer, Timer
from outrider.door.unix_socket import listen_unix
from outrider.errors import StartError

BACKLOG = 1024
ACCEPTS_PER_WAKEUP = 64
PAUSE_S = 0.1
_PORT_TRIES = 16
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NO_IPV6 = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))


def parse_listen_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 8484) from "127.0.0.1:8484", ("::1", 0) from "[::1]:0". Raises StartError (exit code 2)."""
    host, colon, digits = address.rpartition(":")
    try:
        if host.startswith("[") and host.endswith("]"):
            host = str(IPv6Address(host[1:-1]))
        else:
            host = str(IPv4Address(host))
        if not colon or not digits.isascii() or not digits.isdigit() or int(digits) > 65535:
            raise ValueError
    except (AddressValueError, ValueError):
        hint = "write an IP address and a port, as 127.0.0.1:8484 or [::1]:8484"
        raise StartError(f"Cannot listen on {address!r}: {hint}.", 2) from None
    return host, int(digits)


def bind(
    addresses: Sequence[str],
    *,
    shared: bool = False,
    listens: bool = True,
    unix_mode: int = 0o600,
    unix_group: int | str | None = None,
) -> list[socket.socket]:
    """Non-blocking listening sockets, Unix ones (`unix:PATH`) last. Raises StartError and leaves nothing bound.

    Port 0 means any free port, the same one for all addresses that say 0. An IPv6 address on a machine without IPv6 is
    left out when another address could be bound, since the default lists both loopbacks.
    shared: processes of this user may bind the same addresses, and the kernel spreads connections over those that
    listen (SO_REUSEPORT). listens=False keeps an address for them.
    """
    wanted = [parse_listen_address(address) for address in addresses if not address.startswith(UNIX)]
    paths = [Path(address.removeprefix(UNIX)) for address in addresses if address.startswith(UNIX)]
    if not wanted and not paths:
        raise StartError("No address to listen on: name at least one, as 127.0.0.1:8484.", 2)
    sockets = _bind_tcp(wanted, shared=shared, listens=listens) if wanted else []
    try:
        for path in paths:
            sockets.append(listen_unix(path, mode=unix_mode, group=unix_group, backlog=BACKLOG))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_tcp(wanted: list[tuple[str, int]], *, shared: bool, listens: bool) -> list[socket.socket]:
    for left in range(_PORT_TRIES, 0, -1):
        sockets: list[socket.socket] = []
        try:
            return _bind_all(wanted, sockets, shared, listens)
        except _BindError as exc:
            for sock in sockets:
                sock.close()
            if left == 1 or not exc.is_ours_to_choose:
                raise exc.start_error from None
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
    raise AssertionError("unreachable")


class Listener:
    """Accepts from `sockets` and gives each connection to `on_socket(sock, peer)`.

    `connections` tells how many are open in the whole product; at `max_connections` accepting pauses. `count(event,
    name)` hears "accept_paused" and "accept_failed". close() stops accepting and closes the listening sockets.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        on_socket: Callable[[socket.socket, Peer], None],
        *,
        max_connections: int,
        connections: Callable[[], int],
        count: Callable[[str, str], None],
        loop: asyncio.AbstractEventLoop | None = None,
        call_later: CallLater | None = None,
    ) -> None:
        self.sockets = list(sockets)
        self._on_socket = on_socket
        self._max_connections = max_connections
        self._connections = connections
        self._count = count
        self._loop = loop or asyncio.get_running_loop()
        self._call_later = call_later or cast(CallLater, self._loop.call_later)
        self._timer: Timer | None = None
        self._is_accepting = False

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each TCP socket as really bound."""
        return [sock.getsockname()[:2] for sock in self.sockets if sock.family != socket.AF_UNIX]

    def start(self) -> None:
        self._timer = None
        self._is_accepting = True
        for sock in self.sockets:
            self._loop.add_reader(sock, partial(self._accept, sock))

    def close(self) -> None:
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock in self.sockets:
            sock.close()
        self.sockets = []

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_WAKEUP):
            if not self._is_accepting:
                return
            if self._connections() >= self._max_connections:
                self._pause("max_connections")
                return
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno in _NO_ROOM:
                    self._pause(errno.errorcode.get(exc.errno, "no_room"))
                    return
                self._count("accept_failed", errno.errorcode.get(exc.errno or 0, "unknown"))
                continue  # that connection was gone before it was accepted
            self._on_socket(sock, peer)

    def _pause(self, why: str) -> None:
        self._count("accept_paused", why)
        self._stop()
        self._timer = self._call_later(PAUSE_S, self.start)

    def _stop(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self.sockets:
                self._loop.remove_reader(sock)


class _BindError(Exception):
    def __init__(self, start_error: StartError, is_ours_to_choose: bool) -> None:
        self.start_error = start_error
        self.is_ours_to_choose = is_ours_to_choose


def _bind_all(
    wanted: list[tuple[str, int]], sockets: list[socket.socket], shared: bool, listens: bool
) -> list[socket.socket]:
    """Adds to `sockets` as it goes, so that the caller can close what was bound before a failure."""
    chosen = 0
    failure: StartError | None = None
    for host, port in wanted:
        try:
            sock = _bind_one(host, port or chosen, shared, listens)
        except OSError as exc:
            failure = StartError(_explain(host, port or chosen, exc))
            if ":" in host and exc.errno in _NO_IPV6:
                continue
            raise _BindError(failure, exc.errno == errno.EADDRINUSE and port == 0) from exc
        sockets.append(sock)
        if port == 0:
            chosen = sock.getsockname()[1]
    if not sockets and failure is not None:
        raise failure
    return sockets


def _bind_one(host: str, port: int, shared: bool, listens: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what it accepts
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if listens:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(host: str, port: int, exc: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if exc.errno == errno.EADDRINUSE:
        return f"Cannot listen on {where}: another program uses this port; stop it or choose another port."
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"Cannot listen on {where}: this machine has no such address; choose one that it has."
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"Cannot listen on {where}: not permitted; choose a port above 1023 or allow this user to bind it."
    return f"Cannot listen on {where}: {exc.strerror or 'the system refused'}."
