"""One connection in the kernel's tables, asked for by its exact addresses (sock_diag(7), inet_diag).

Rules
- What is asked for is one end of one connection. The kernel falls back to a listening socket at that address, and has
  entries without an owner (closed ends, half-made ones), whose uid reads as 0: none of these is an owner.
- Addresses of an IPv4 connection on a dual-stack socket (`::ffff:...`) are asked for as IPv4, where the kernel keeps
  them.
- Nothing waits: the kernel has answered when `send` returns.
Does not know: what an owner may do.
"""

import itertools
import socket
import struct
from typing import Any

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NOCOOKIE = b"\xff" * 8
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=LHHLL")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBBL")
_ID = struct.Struct("!HH16s16s")
_ANSWER = struct.Struct("=BBBB48sLLLLL")  # family state timer retrans, id, expires rqueue wqueue uid inode
_ANSWER_BYTES = 4096
# TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV: nobody holds that end (include/net/tcp_states.h).
_OWNERLESS = frozenset((6, 7, 10, 12))
_STALE_ANSWERS = 8


def is_local(theirs: str, ours: str) -> bool:
    """Whether a peer with this address is on this machine: loopback, or the very address that it connected to."""
    theirs, ours = _plain(theirs), _plain(ours)
    return theirs in {ours, "::1"} or theirs.startswith("127.")


def question(source: tuple[Any, ...], destination: tuple[Any, ...], sequence: int) -> bytes:
    """The message that asks for the socket bound to `source` and connected to `destination`.

    Raises: OSError for what is no address.
    """
    ours, theirs = _plain(source[0]), _plain(destination[0])
    family = socket.AF_INET6 if ":" in ours else socket.AF_INET
    pack = socket.inet_pton
    identity = _ID.pack(source[1], destination[1], pack(family, ours), pack(family, theirs)) + b"\0\0\0\0" + _NOCOOKIE
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + identity
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def _plain(address: str) -> str:
    return address.partition("%")[0].removeprefix("::ffff:") if ":" in address else address


def read_answer(message: bytes, source_port: int, destination_port: int) -> tuple[int, int] | None:
    """(uid, inode) of a connected socket that somebody holds; None for an error, another socket or an ownerless one."""
    if len(message) < _HEADER.size + _ANSWER.size or _HEADER.unpack_from(message)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    _, state, _, _, identity, _, _, _, uid, inode = _ANSWER.unpack_from(message, _HEADER.size)
    if state in _OWNERLESS or inode == 0 or struct.unpack_from("!HH", identity) != (source_port, destination_port):
        return None
    return uid, inode


def inode_in(message: bytes) -> int | None:
    """The inode of whatever was found, 0 for a closed one; None when there is nothing."""
    if len(message) < _HEADER.size + _ANSWER.size or _HEADER.unpack_from(message)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    return int(_ANSWER.unpack_from(message, _HEADER.size)[-1])


class SockDiag:
    """One netlink socket, kept.

    uid_of(source, destination) -> the uid of the owner; None when nobody knows. Never raises.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = itertools.count(1)

    def uid_of(self, source: tuple[Any, ...], destination: tuple[Any, ...]) -> int | None:
        sequence = next(self._sequence) & _ALL_STATES
        try:
            if self._socket is None:
                self._socket = open_netlink()
            self._socket.send(question(source, destination, sequence))
            message = self._answer_to(self._socket, sequence)
        except (OSError, struct.error, IndexError, TypeError):
            self.close()  # whatever is wrong with it, the next call begins anew
            return None
        found = read_answer(message, source[1], destination[1])
        return None if found is None else found[0]

    def _answer_to(self, sock: socket.socket, sequence: int) -> bytes:
        for _ in range(_STALE_ANSWERS):
            message = sock.recv(_ANSWER_BYTES)
            if len(message) >= _HEADER.size and _HEADER.unpack_from(message)[3] == sequence:
                return message
        raise OSError("no answer to this question")

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()


def open_netlink() -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
