"""Which addresses may be dialled: checked after name resolution, on the very address that is dialled next.

Rules (architecture: what keeps it safe, 4): metadata services, link-local, multicast, unspecified addresses and our own
listeners are refused always; private, loopback and carrier-grade addresses where `private` says deny, unless config
allows the name or the network; an IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo) counts as
itself.
Does not know: DNS, connections, providers.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from outrider.errors import DestinationDeniedError

type Ip = IPv4Address | IPv6Address

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
    )
)
# The address stands in the last four bytes: NAT64 (RFC 6052; RFC 8215 as a /96), IPv4-compatible (RFC 4291).
_LAST_FOUR = tuple(ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/96", "::/96"))
_LOOPBACK_6 = ip_address("::1")
_UNSPECIFIED_6 = ip_address("::")
_SHARED = ip_network("100.64.0.0/10")  # RFC 6598, which ipaddress calls neither private nor global


def embedded(ip: Ip) -> Ip:
    """The IPv4 address that an IPv6 one stands for, or the address itself (RFC 4291, 6052, 8215, 3056, 4380)."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip not in (_LOOPBACK_6, _UNSPECIFIED_6) and any(ip in network for network in _LAST_FOUR):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    return ip


def _is_this_machine(ip: Ip) -> bool:
    """Whether a listener on all addresses answers on this one: only an address of ours can be bound (bind(2))."""
    family = socket.AF_INET if isinstance(ip, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(ip), 0))
    except OSError:
        return False
    return True


class AddressGuard:
    """check(host, ip, port, private_ok): raises DestinationDeniedError with a sentence, or returns.

    allow_private: host names and CIDR networks from config. own: (address, port) of our listeners.
    """

    def __init__(self, allow_private: Iterable[str] = (), own: Iterable[tuple[str, int]] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allow_private:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                self._hosts.add(entry.lower())
        self.own = {(str(embedded(ip_address(host))), port) for host, port in own}

    def is_own(self, ip: Ip, port: int) -> bool:
        ip = embedded(ip)
        if (str(ip), port) in self.own:
            return True
        wildcard = "0.0.0.0" if isinstance(ip, IPv4Address) else "::"  # noqa: S104 - compared, not bound
        if (wildcard, port) not in self.own and ("::", port) not in self.own:
            return False
        return ip.is_loopback or ip.is_unspecified or _is_this_machine(ip)

    def is_allowed_private(self, host: str, ip: Ip) -> bool:
        return host in self._hosts or any(ip in network for network in self._networks)

    def check(self, host: str, ip: Ip, port: int, *, private_ok: bool) -> None:
        seen = embedded(ip)
        if self.is_own(ip, port):
            raise DestinationDeniedError(f"{host}:{port} is this sidecar itself")
        if ip in _METADATA or seen in _METADATA:
            raise DestinationDeniedError(
                f"{host} resolves to a metadata service, which is never reachable through the sidecar"
            )
        if seen.is_link_local or seen.is_multicast or seen.is_unspecified or seen == IPv4Address("255.255.255.255"):
            raise DestinationDeniedError(f"{host} resolves to {seen}, which is never reachable through the sidecar")
        private = seen.is_private or seen.is_loopback or seen.is_reserved or seen in _SHARED
        if private and not private_ok and not self.is_allowed_private(host, seen):
            raise DestinationDeniedError(
                f"{host} resolves to the private address {seen}; name it in egress.allow_private if that is meant"
            )
