from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.authority import Authority, AuthorityError, parse_authority

ACCEPTED = [
    (b"api.openai.com:443", "api.openai.com", 443),
    (b"API.OpenAI.COM:443", "api.openai.com", 443),
    (b"api.openai.com.:443", "api.openai.com", 443),
    (b"localhost:1", "localhost", 1),
    (b"a_b.example:65535", "a_b.example", 65535),
    (b"xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
    (b"1password.com:443", "1password.com", 443),
    (b"3com.1a:80", "3com.1a", 80),
    (b"0xz.example:80", "0xz.example", 80),
    (b"192.0.2.1:443", "192.0.2.1", 443),
    (b"[::1]:8484", "::1", 8484),
    (b"[2001:DB8:0:0::1]:443", "2001:db8::1", 443),
    (b"[::ffff:127.0.0.1]:80", "127.0.0.1", 80),
    (b"[::ffff:7f00:1]:80", "127.0.0.1", 80),
    (b"a" * 63 + b".example:443", "a" * 63 + ".example", 443),
    (b".".join([b"a" * 49] * 5) + b".com:443", ".".join(["a" * 49] * 5) + ".com", 443),
    ((b"ab." * 84)[:-1] + b"c:65535", ("ab." * 84)[:-1] + "c", 65535),
]
REFUSED = [
    b"",
    b":443",
    b".:443",
    b"api.openai.com",
    b"api.openai.com:",
    b"api.openai.com:0",
    b"api.openai.com:65536",
    b"api.openai.com:0443",
    b"api.openai.com:+443",
    b"api.openai.com: 443",
    b"api.openai.com:443 ",
    b"api.openai.com:4_3",
    b"api.openai.com:https",
    "api.openai.com:４４３".encode(),
    b"api.openai.com:99999999999999999999",
    b" api.openai.com:443",
    b"api.openai.com..:443",
    b"api..openai.com:443",
    b".openai.com:443",
    b"-a.example:443",
    b"a-.example:443",
    b"user@api.openai.com:443",
    b"user:pass@api.openai.com:443",
    b"api.openai.com%00.example:443",
    b"api.openai.com\0.example:443",
    b"api.openai.com/x:443",
    b"http://api.openai.com:443",
    b"*.openai.com:443",
    b"a\tb:443",
    "bücher.example:443".encode(),
    "ａpi.openai.com:443".encode(),
    b"2130706433:80",
    b"0x7f000001:80",
    b"0x:80",
    b"0x7f.1:80",
    b"127.1:80",
    b"127.0.0.0x1:80",
    b"0177.0.0.1:80",
    b"127.0.0.01:80",
    b"127.0.0.256:80",
    b"127.0.0.1.:80",
    b"1.2.3.4.5:80",
    b"foo.123:80",
    b"::1:80",
    b"[::1",
    b"[::1]",
    b"[::1]443",
    b"[::1]]:443",
    b"[[::1]]:443",
    b"[::1%eth0]:443",
    b"[::1%25eth0]:443",
    b"[127.0.0.1]:443",
    b"[]:443",
    b"[v1.x]:443",
    b"[:::1]:443",
    b"[::g]:443",
    b"a" * 64 + b".example:443",
    b"ab." * 85 + b":443",
    b"a." * 200 + b":443",
    b"x" * 100_000,
]


@pytest.mark.parametrize(("raw", "host", "port"), ACCEPTED)
def test_one_spelling_comes_out(raw: bytes, host: str, port: int) -> None:
    found = parse_authority(raw)
    assert (found.host, found.port) == (host, port)
    assert found.is_ip == (found.ip is not None)
    if found.ip is not None:
        assert found.ip == ip_address(host)


@pytest.mark.parametrize(("raw", "host", "port"), ACCEPTED)
def test_what_comes_out_is_its_own_spelling(raw: bytes, host: str, port: int) -> None:
    found = parse_authority(raw)
    assert parse_authority(str(found).encode()) == found


@pytest.mark.parametrize("raw", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(AuthorityError) as caught:
        parse_authority(raw)
    message = str(caught.value)
    assert message
    assert "openai" not in message


def test_a_default_port_stands_in_for_a_missing_one_only() -> None:
    assert parse_authority(b"example.com", 80) == Authority("example.com", 80, False, None)
    assert parse_authority(b"[::1]", 80).port == 80
    assert parse_authority(b"example.com:81", 80).port == 81
    with pytest.raises(AuthorityError):
        parse_authority(b"example.com:", 80)


@given(st.binary(max_size=60))
def test_garbage_gives_the_declared_error_or_a_canonical_authority(raw: bytes) -> None:
    try:
        found = parse_authority(raw, 80)
    except AuthorityError:
        return
    assert parse_authority(str(found).encode()) == found
    assert found.host == found.host.lower()
    assert found.host.isascii()
    assert 1 <= found.port <= 65535


@given(st.text("0123456789.xabcdefABCDEF", max_size=20))
def test_no_numeric_spelling_but_the_canonical_one_passes(text: str) -> None:
    try:
        found = parse_authority(text.encode() + b":80")
    except AuthorityError:
        return
    last = found.host.rsplit(".", 1)[-1]
    if last.isdigit():
        assert found.ip is not None
        assert str(found.ip) == text
