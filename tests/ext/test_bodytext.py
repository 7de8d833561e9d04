"""What a scanner sees of a JSON body that nobody parsed."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_ext.bodytext import body_text

TEXTS = st.text(max_size=30) | st.text(alphabet='\\"/\n\r\t\b\fu0a\u2039😀\x00\x1f', max_size=12)
VALUES = st.recursive(TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))
SIMPLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b'"': b'"', b"/": b"/"}
ESCAPE = re.compile(rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")


def strings_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for one in value for text in strings_of(one)]
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (key, *strings_of(one))]
    return []


def plainly(match: re.Match[bytes]) -> bytes:
    if match[4] is not None:
        return SIMPLE[match[4]]
    codes = [int(code, 16) for code in match.groups()[:3] if code is not None]
    text = "".join(map(chr, codes)).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.booleans())
def test_every_string_of_a_body_stands_in_its_text(value: dict[str, Any], to_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=to_ascii).encode("utf-8", "surrogatepass")
    text = body_text(body)
    strings = strings_of(value)
    assert (text is None) == any("\\" in one for one in strings)
    if text is not None:
        assert all(one.encode("utf-8", "surrogatepass") in text for one in strings)
        assert text == ESCAPE.sub(plainly, body)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([b"\\", b"u", b"00", b"d8", b"3d", b"dc", b"n", b"x", b'"', b"{", b"a"]), max_size=14))
def test_any_bytes_have_a_text_or_none(pieces: list[bytes]) -> None:
    body = b"{" + b"".join(pieces)
    text = body_text(body)
    assert text is None or len(text) <= len(body)
    assert text is not None or b"\\" in body


def test_a_body_without_an_escape_is_its_own_text() -> None:
    body = b'{"a":"b"}'
    assert body_text(body) is body
    assert body_text(b"") == b""


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"C:\\users"}',  # in a tool's arguments the next byte may be an escape's
        rb'{"a":"\u005c"}',
        rb'{"a":"\x41"}',
        rb'{"a":"\u12"}',
        rb'{"a":"\u12g4"}',
        b'{"a":"\\',
        b'{"a":"\\u12',
        rb"b\b@example.com",  # no JSON, so no escape
        rb'"a\nb"',
    ],
)
def test_what_has_to_be_parsed_has_no_text(body: bytes) -> None:
    assert body_text(body) is None


def test_half_a_pair_stands_alone() -> None:
    assert body_text(rb'{"a":"\ud83dx\ude00"}') == '{"a":"\ud83dx\ude00"}'.encode("utf-8", "surrogatepass")
    assert body_text(rb' ["\ud83d\ude00\ud83d\u0041"]') == ' ["😀\ud83dA"]'.encode("utf-8", "surrogatepass")
