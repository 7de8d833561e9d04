"""Where a redirected connection wanted to go, before iptables REDIRECT sent it here.

Rules: the call is chosen by the *form* of the local address, not by the socket's family: an IPv4 connection on a
dual-stack socket (`::ffff:…`) is in the IPv4 tables only. A connection that was not redirected yields either nothing
or the proxy's own address; telling those apart from real ones is the caller's loop test.
Source: Linux `include/uapi/linux/netfilter_ipv4.h` and `netfilter_ipv6/ip6_tables.h` (SO_ORIGINAL_DST = 80).
"""

import socket
import struct
from ipaddress import IPv6Address

SO_ORIGINAL_DST = 80
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")


def original_destination(sock: socket.socket) -> tuple[str, int] | None:
    """(address, port) before the redirection, address in canonical text form; None where the kernel knows none.

    Never raises for a socket in any state: a reset connection or a machine without netfilter gives None.
    """
    try:
        local = sock.getsockname()[0]
        if "." in local:
            raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, _SOCKADDR_IN.size)
            port, packed = _SOCKADDR_IN.unpack(raw)
            return socket.inet_ntop(socket.AF_INET, packed), port
        raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
        port, packed = _SOCKADDR_IN6.unpack(raw)
    except (OSError, struct.error, TypeError, IndexError):
        return None  # TypeError, IndexError: a socket that is not an internet socket
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address), port
