"""Header lines and query parameters of our credential."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.secrets.injection import Injector, strip_query, with_query_key
from outrider.secrets.secret import Secret

KEY = frozenset({b"key"})


def test_a_header_line_is_complete_and_built_once_per_secret() -> None:
    bearer = Injector("Authorization", "Bearer ")
    secret = Secret(b"abc")
    line = bearer.header_lines(secret)
    assert line == b"authorization: Bearer abc\r\n"
    assert bearer.header_lines(secret) is line
    assert bearer.header_lines(Secret(b"new")) == b"authorization: Bearer new\r\n"
    assert Injector("x-api-key").header_lines(secret) == b"x-api-key: abc\r\n"


@pytest.mark.parametrize(("name", "prefix"), [("a b", ""), ("", ""), ("a:", ""), ("a", "x\r\ny: "), ("a\n", "")])
def test_a_name_or_prefix_that_breaks_a_header_is_refused(name: str, prefix: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Injector(name, prefix)


@pytest.mark.parametrize(
    ("target", "bare"),
    [
        (b"/v1/x", b"/v1/x"),
        (b"/v1/x?", b"/v1/x?"),
        (b"/v1/x?key=a", b"/v1/x"),
        (b"/v1/x?key=a&alt=sse", b"/v1/x?alt=sse"),
        (b"/v1/x?alt=sse&key=a&key=b", b"/v1/x?alt=sse"),
        (b"/v1/x?alt=sse&key", b"/v1/x?alt=sse"),
        (b"/v1/x?%6bey=a&b=1", b"/v1/x?b=1"),
        (b"/v1/x?%6B%65%79=a&b=1", b"/v1/x?b=1"),
        (b"/v1/x?KEY=a&b=1", b"/v1/x?b=1"),
        (b"/v1/x?+key=a&b=1", b"/v1/x?b=1"),
        (b"/v1/x?b=1;key=a", b"/v1/x?b=1"),
        (b"/v1/x?b=%20%26key=1&c=+", b"/v1/x?b=%20%26key=1&c=+"),
        (b"/v1/x?keys=a&monkey=b&x=key", b"/v1/x?keys=a&monkey=b&x=key"),
        (b"/v1/x?a=?key=1&key=2", b"/v1/x?a=?key=1"),
    ],
)
def test_every_spelling_of_the_parameter_is_stripped_and_nothing_else(target: bytes, bare: bytes) -> None:
    assert strip_query(target, KEY) == bare
    assert strip_query(bare, KEY) == bare


def test_our_key_comes_last_and_percent_encoded() -> None:
    secret = Secret(b"a b&c=%")
    assert with_query_key(b"/x?key=theirs&alt=sse", b"key", secret) == b"/x?alt=sse&key=a%20b%26c%3D%25"
    assert with_query_key(b"/x", b"key", secret) == b"/x?key=a%20b%26c%3D%25"
    assert with_query_key(b"/x?", b"key", secret) == b"/x?key=a%20b%26c%3D%25"


QUERY = st.text(alphabet="keyKEY%6bB59&;=+a? ", max_size=40).map(lambda text: text.encode())


@given(QUERY)
def test_whatever_the_query_a_server_finds_our_key_only(query: bytes) -> None:
    target = with_query_key(b"/x?" + query, b"key", Secret(b"ours"))
    for separator in "&;":
        pairs = parse_qsl(target.partition(b"?")[2].decode(), keep_blank_values=True, separator=separator)
        values = [value for name, value in pairs if name.strip().lower() == "key"]
        assert [value.rpartition("key=")[2] for value in values] in (["ours"], [])
    assert target.endswith(b"key=ours")
