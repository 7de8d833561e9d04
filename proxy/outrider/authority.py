"""`host:port` from the wire into the one spelling that the rest of the product compares.

Rules: what two readers could understand as two different hosts is refused, never repaired. Exactly one form of each
address comes out: lower case, no trailing dot, IPv4 dotted, IPv6 compressed without brackets, IPv4-mapped IPv6 as IPv4.
Plan: split at the last colon (or the closing bracket), then `canonical_host` judges the name alone; the ClientHello
reader uses it too, so that an SNI and a CONNECT target can be compared as strings.
Does not know: resolution, providers, which hosts are allowed. Imports nothing of the door.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

IpAddress = IPv4Address | IPv6Address

MAX_HOST_BYTES = 253  # RFC 1035 §2.3.4, as text without the final dot
MAX_LABEL_BYTES = 63
_LABEL_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_HEX_DIGITS = frozenset("0123456789abcdef")


class AuthorityError(ValueError):
    """The authority cannot be used; str(exc) is one sentence, safe to show, without the offending bytes."""


@dataclass(frozen=True, slots=True)
class Authority:
    """One destination: `host` canonical (see the module's rules), `port` 1..65535, `ip` set when host is an address."""

    host: str
    port: int
    is_ip: bool
    ip: IpAddress | None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=1024)
def parse_authority(raw: bytes, default_port: int | None = None) -> Authority:
    """The authority of a CONNECT target, an absolute-form URL (what stands between `//` and `/`) or a Host field.

    `default_port=None` makes the port mandatory (CONNECT, RFC 9110 §9.3.6). Raises AuthorityError, nothing else.
    Source: RFC 3986 §3.2, RFC 9110 §4.2.4 (userinfo refused); numeric hosts as in WHATWG URL "ends in a number", where
    every spelling but the dotted decimal one is refused.
    """
    if not raw:
        raise AuthorityError("the host is missing; write host:port")
    if len(raw) > MAX_HOST_BYTES + 8:
        raise AuthorityError(f"the host name is longer than {MAX_HOST_BYTES} bytes")
    if b"@" in raw:
        raise AuthorityError("user information before the host is not accepted; write host:port")
    if raw[:1] == b"[":
        return _parse_bracketed(raw, default_port)
    name, colon, digits = raw.rpartition(b":")
    if not colon:
        name, port = raw, _default_port(default_port)
    else:
        port = _parse_port(digits)
    if b":" in name:
        raise AuthorityError("an IPv6 address must stand in brackets, as in [::1]:443")
    host, ip = canonical_host(name)
    return Authority(host, port, ip is not None, ip)


def canonical_host(name: bytes) -> tuple[str, IPv4Address | None]:
    """A host name or dotted IPv4 address, canonical, and the address if it is one.

    One trailing dot is taken off a name. Underscores are accepted (tunnels need them; a provider's name has none).
    Names in other scripts must come as A-labels (`xn--…`). Raises AuthorityError.
    """
    text = name.lower()
    dotted = text.endswith(b".")
    text = text.removesuffix(b".")
    if not text:
        raise AuthorityError("the host name is empty")
    if len(text) > MAX_HOST_BYTES:
        raise AuthorityError(f"the host name is longer than {MAX_HOST_BYTES} bytes")
    labels = text.split(b".")
    for label in labels:
        _check_label(label)
    host = text.decode("ascii")
    if not _ends_in_number(labels[-1].decode("ascii")):
        return host, None
    if dotted:
        raise AuthorityError("an IPv4 address has no trailing dot")
    try:
        return host, IPv4Address(host)
    except AddressValueError:
        raise AuthorityError("an IPv4 address must be written as four decimal numbers, as in 192.0.2.1") from None


def _check_label(label: bytes) -> None:
    if not label:
        raise AuthorityError("the host name has an empty label")
    if len(label) > MAX_LABEL_BYTES:
        raise AuthorityError(f"a label of the host name is longer than {MAX_LABEL_BYTES} bytes")
    if not _LABEL_BYTES.issuperset(label):
        raise AuthorityError("the host name has a character other than a-z, 0-9, '-', '_' and '.'")
    if label[0] == 0x2D or label[-1] == 0x2D:
        raise AuthorityError("a label of the host name begins or ends with '-'")


def _ends_in_number(label: str) -> bool:
    """Whether resolvers would take a host with this last label for an IPv4 address in some spelling."""
    return label.isdigit() or (label.startswith("0x") and _HEX_DIGITS.issuperset(label[2:]))


def _parse_bracketed(raw: bytes, default_port: int | None) -> Authority:
    inside, bracket, rest = raw[1:].partition(b"]")
    if not bracket:
        raise AuthorityError("the bracket of the IPv6 address is not closed")
    if not rest:
        port = _default_port(default_port)
    elif rest[:1] == b":":
        port = _parse_port(rest[1:])
    else:
        raise AuthorityError("only :port may follow the bracketed IPv6 address")
    if b"%" in inside:
        raise AuthorityError("an IPv6 address with a zone is not accepted")
    try:
        address = IPv6Address(inside.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        raise AuthorityError("what stands in brackets is not an IPv6 address") from None
    ip: IpAddress = address.ipv4_mapped or address
    return Authority(str(ip), port, True, ip)


def _default_port(default_port: int | None) -> int:
    if default_port is None:
        raise AuthorityError("the port is missing; write host:port")
    return default_port


def _parse_port(digits: bytes) -> int:
    # bytes.isdigit() is ASCII only; a leading zero is a second spelling of the same port
    if not digits.isdigit() or len(digits) > 5 or digits[0] == 0x30:
        raise AuthorityError("the port must be a number from 1 to 65535")
    port = int(digits)
    if port > 65535:
        raise AuthorityError("the port must be a number from 1 to 65535")
    return port
