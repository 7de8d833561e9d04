from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from door import hellos
from door.hellos import alpn_extension, extension, message, records, sni_extension, vector
from outrider.door.client_hello import (
    MAX_HELLO_BYTES,
    ClientHello,
    ClientHelloError,
    ClientHelloReader,
    bytes_wanted,
    parse_client_hello,
)

WANTED = ClientHello("api.openai.com", (b"h2", b"http/1.1"), False)


def rich_message() -> bytes:
    return message(
        hellos.GREASE,
        sni_extension(b"API.OpenAI.com"),
        hellos.POST_QUANTUM,
        alpn_extension(b"h2", b"http/1.1"),
        session=bytes(32),
        ciphers=b"\x1a\x1a\x13\x01\x13\x02",
    )


def alert_of(data: bytes) -> int:
    with pytest.raises(ClientHelloError) as caught:
        parse_client_hello(data)
    assert str(caught.value)
    return caught.value.alert


def drip(data: bytes, reader: ClientHelloReader) -> ClientHello | None:
    for i in range(len(data)):
        wanted = reader.bytes_wanted
        assert 1 <= wanted <= len(data) - i, f"at byte {i} it asks for {wanted} more"
        found = reader.receive_data(data[i : i + 1])
        if found is not None:
            assert i == len(data) - 1
            return found
    return None


def drip_all(data: bytes) -> None:
    reader = ClientHelloReader()
    for i in range(len(data)):
        reader.receive_data(data[i : i + 1])


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in pieces of the given sizes, over and over."""
    pos = 0
    for size in cycle(sizes):
        if pos >= len(data):
            return
        yield data[pos : pos + size]
        pos += size


def test_a_real_hello_is_read() -> None:
    found = parse_client_hello(hellos.openssl_hello("api.anthropic.com", ["h2", "http/1.1"]))
    assert found == ClientHello("api.anthropic.com", (b"h2", b"http/1.1"), False)


def test_a_real_hello_without_a_name_is_read() -> None:
    assert parse_client_hello(hellos.openssl_hello(None)) == ClientHello(None, (), False)


@pytest.mark.parametrize("name", ["example.com", None])
def test_every_prefix_of_a_real_hello_wants_more(name: str | None) -> None:
    data = hellos.openssl_hello(name, ["http/1.1"])
    assert all(parse_client_hello(data[:i]) is None for i in range(len(data)))
    assert drip(data, ClientHelloReader()) == ClientHello(name, (b"http/1.1",), False)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100, 1 << 14])
def test_any_size_of_record_gives_the_same_hello(size: int) -> None:
    data = records(rich_message(), size)
    assert parse_client_hello(data) == WANTED
    assert drip(data, ClientHelloReader()) == WANTED
    assert parse_client_hello(data + b"\x14\x03\x03\x00\x01\x01 and early data") == WANTED


SIZES = st.lists(st.integers(1, 900), min_size=1, max_size=8)


@given(SIZES, SIZES)
def test_any_cut_into_records_and_segments_gives_the_same_hello(in_records: list[int], in_segments: list[int]) -> None:
    raw = b"".join(records(part) for part in cut(rich_message(), in_records))
    reader = ClientHelloReader()
    found = [reader.receive_data(part) for part in cut(raw, in_segments)]
    assert found[-1] == WANTED
    assert set(found[:-1]) <= {None}


@pytest.mark.parametrize("version", [b"\x03\x01", b"\x03\x02", b"\x03\x03"])
def test_the_record_version_of_every_client_is_accepted(version: bytes) -> None:
    assert parse_client_hello(records(rich_message(), version=version)) == WANTED


@pytest.mark.parametrize(
    ("extensions", "wanted"),
    [
        ((), ClientHello(None, (), False)),
        ((hellos.GREASE,), ClientHello(None, (), False)),
        ((extension(0, b""),), ClientHello(None, (), False)),
        ((extension(0, b"\0\0"),), ClientHello(None, (), False)),
        ((sni_extension(b""),), ClientHello(None, (), False)),
        ((sni_extension(b"192.0.2.1"),), ClientHello(None, (), False)),
        ((sni_extension(b"Example.COM."),), ClientHello("example.com", (), False)),
        ((sni_extension(b"a_b.example"),), ClientHello("a_b.example", (), False)),
        ((hellos.ECH, sni_extension(b"cloudflare-ech.com")), ClientHello("cloudflare-ech.com", (), True)),
        ((alpn_extension(b"h2"),), ClientHello(None, (b"h2",), False)),
        ((alpn_extension(b"\x0a\x0a", b"http/1.1"),), ClientHello(None, (b"\x0a\x0a", b"http/1.1"), False)),
    ],
)
def test_names_and_protocols_are_found(extensions: tuple[bytes, ...], wanted: ClientHello) -> None:
    assert parse_client_hello(records(message(*extensions))) == wanted


def test_a_hello_of_64_kib_is_read_and_one_byte_more_is_refused() -> None:
    largest = records(hellos.padded_message(MAX_HELLO_BYTES))
    assert parse_client_hello(largest) == ClientHello("api.openai.com", (), False)
    assert alert_of(b"\x16\x03\x01\x00\x04\x01" + (MAX_HELLO_BYTES - 3).to_bytes(3, "big")) == 47


@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (b"GET / HTTP/1.1\r\n", 10),
        (b"\x17", 10),
        (b"\x16\x02", 70),
        (b"\x16\x03\x00", 70),
        (b"\x16\x03\x04", 70),
        (b"\x16\x03\x01\x00\x00", 10),
        (b"\x16\x03\x01\x40\x01", 22),
        (records(b"\x02" + vector(3, bytes(40))), 10),
        (records(b"\x01\0\0\0"), 50),
        (records(message())[:20] + b"", None),
        (records(message(version=b"\x02\x00")), 70),
        (records(message(session=bytes(33))), 50),
        (records(message(ciphers=b"")), 50),
        (records(message(ciphers=b"\x13")), 50),
        (records(b"\x01" + vector(3, message()[4:] + b"\0")), 50),
        (records(b"\x01" + vector(3, message(hellos.GREASE)[4:] + b"x")), 50),
        (records(message(extension(21, b"ab")[:-1])), 50),
        (records(message(sni_extension(b"a.example"), sni_extension(b"b.example"))), 47),
        (records(message(extension(0, vector(2, b"\0" + vector(2, b"a.example") + b"\0" + vector(2, b"b"))))), 47),
        (records(message(sni_extension(b"a.example", kind=1))), 47),
        (records(message(extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x"))), 50),
        (records(message(sni_extension(b"a..example"))), 47),
        (records(message(sni_extension(b"a b"))), 47),
        (records(message(sni_extension(b"a\0b"))), 47),
        (records(message(sni_extension(b"0x7f.1"))), 47),
        (records(message(sni_extension("é.example".encode()))), 47),
        (records(message(extension(16, b"\0\0"))), 50),
        (records(message(alpn_extension(b""))), 50),
        (records(rich_message()[:60], 60) + b"\x15\x03\x01\x00\x02\x02\x28", 10),
    ],
)
def test_what_is_no_hello_gets_its_alert(data: bytes, alert: int | None) -> None:
    if alert is None:
        assert parse_client_hello(data) is None
        return
    assert alert_of(data) == alert
    with pytest.raises(ClientHelloError) as caught:
        drip_all(data)
    assert caught.value.alert == alert


def test_bytes_wanted_leads_to_the_end() -> None:
    data = records(rich_message(), 500)
    have = 0
    while (more := bytes_wanted(data[:have])) > 0:
        have += more
    assert have == len(data)


BEGINNINGS = [b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\xff\x01\x00\x00\xfb\x03\x03"]


def is_error_or_result(data: bytes) -> bool:
    try:
        found = parse_client_hello(data)
    except ClientHelloError as exc:
        return 0 < exc.alert < 256
    return found is None or isinstance(found, ClientHello)


@given(st.binary(max_size=300), st.sampled_from(BEGINNINGS))
def test_garbage_gives_the_declared_error_or_a_result(garbage: bytes, prefix: bytes) -> None:
    assert is_error_or_result(prefix + garbage)


@given(st.integers(0, 1800), st.integers(0, 255))
def test_one_changed_byte_gives_the_declared_error_or_a_result(position: int, value: int) -> None:
    data = bytearray(records(rich_message()))
    data[position % len(data)] = value
    assert is_error_or_result(bytes(data))


def test_a_record_inside_a_record_is_not_taken_for_the_hello() -> None:
    whole = records(rich_message())
    reader = ClientHelloReader()
    assert reader.receive_data(b"\x16\x03\x01" + len(whole).to_bytes(2, "big")) is None
    with pytest.raises(ClientHelloError, match="not a ClientHello"):
        reader.receive_data(whole)


@pytest.mark.parametrize("extra", [b"", b"\x17\x03\x03\x00\x01x"])
def test_one_record_is_read_at_once_whatever_follows(extra: bytes) -> None:
    assert ClientHelloReader().receive_data(records(rich_message()) + extra) == WANTED


@pytest.mark.parametrize("at", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("value", [0x00, 0x04, 0xFF])
def test_a_changed_header_gives_the_same_at_once_and_by_the_byte(at: int, value: int) -> None:
    data = bytearray(records(rich_message()))
    data[at] = value
    results: list[object] = []
    for size in (len(data), 1):
        reader, found = ClientHelloReader(), None
        try:
            for i in range(0, len(data), size):
                found = found or reader.receive_data(bytes(data[i : i + size]))
            results.append(found)
        except ClientHelloError as exc:
            results.append((exc.alert, str(exc)))
    assert results[0] == results[1]
