"""Which addresses may be dialled, as a table."""

from ipaddress import ip_address

import pytest

from outrider.errors import DestinationDeniedError
from outrider.upstream.guard import AddressGuard, embedded

PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "198.18.0.1", "240.0.0.1",
    "::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1",
    "2002:a00:1::", "2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254",
    "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255",
    "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0", "2001:0:4136:e378:8000:63bf:5601:5601",
]  # fmt: skip


def allows(guard: AddressGuard, ip: str, *, private_ok: bool, host: str = "h", port: int = 443) -> bool:
    try:
        guard.check(host, ip_address(ip), port, private_ok=private_ok)
    except DestinationDeniedError:
        return False
    return True


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_may_be_dialled(ip: str) -> None:
    assert allows(AddressGuard(), ip, private_ok=False)


@pytest.mark.parametrize("ip", PRIVATE)
def test_private_addresses_only_where_they_are_allowed(ip: str) -> None:
    assert not allows(AddressGuard(), ip, private_ok=False)
    assert allows(AddressGuard(), ip, private_ok=True)


@pytest.mark.parametrize("ip", NEVER)
def test_metadata_link_local_and_multicast_never(ip: str) -> None:
    assert not allows(AddressGuard(), ip, private_ok=True)
    assert not allows(AddressGuard(["h", "0.0.0.0/0", "::/0"]), ip, private_ok=True)


def test_an_allowed_name_or_network_lets_private_addresses_through() -> None:
    guard = AddressGuard(["GPU.internal", "10.1.0.0/16", "fd00:1::/32"])
    assert allows(guard, "192.168.0.1", private_ok=False, host="gpu.internal")
    assert not allows(guard, "192.168.0.1", private_ok=False, host="other.internal")
    assert allows(guard, "10.1.2.3", private_ok=False)
    assert allows(guard, "::ffff:10.1.2.3", private_ok=False)
    assert not allows(guard, "10.2.0.1", private_ok=False)
    assert allows(guard, "fd00:1::9", private_ok=False)


@pytest.mark.parametrize(
    ("own", "ip", "port", "refused"),
    [
        (("127.0.0.1", 8484), "127.0.0.1", 8484, True),
        (("127.0.0.1", 8484), "::ffff:127.0.0.1", 8484, True),
        (("127.0.0.1", 8484), "127.0.0.1", 8000, False),
        (("0.0.0.0", 8484), "127.0.0.1", 8484, True),
        (("0.0.0.0", 8484), "127.3.2.1", 8484, True),
        (("::", 8484), "::1", 8484, True),
        (("::", 8484), "127.0.0.1", 8484, True),
        (("10.0.0.5", 8484), "10.0.0.5", 8484, True),
    ],
)
def test_our_own_listeners_never(own: tuple[str, int], ip: str, port: int, refused: bool) -> None:
    assert allows(AddressGuard(own=[own]), ip, private_ok=True, port=port) is not refused


def test_an_embedded_address_is_read_out() -> None:
    assert embedded(ip_address("64:ff9b::1.2.3.4")) == ip_address("1.2.3.4")
    assert embedded(ip_address("2002:102:304::1")) == ip_address("1.2.3.4")
    assert embedded(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
