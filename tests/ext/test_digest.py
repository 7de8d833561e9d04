"""The canonical text and hash of a request: equal for every spelling of one value, different for all else."""

import gzip
import hashlib
import hmac
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider_ext.digest import Canon, DigestError, RepeatedKeyError
from outrider_ext.sha256 import IS_DIRECT, Mac, sha256

CANON = Canon()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False, places=5)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=20),
    max_leaves=30,
)


def number(value: Decimal) -> str:
    """ECMAScript's Number::toString, of the exact decimal."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    n = len(text) + exponent
    text = text.rstrip("0")
    if not text:
        return "0"
    k = len(text)
    if k <= n <= 21:
        shown = text + "0" * (n - k)
    elif 0 < n <= 21:
        shown = f"{text[:n]}.{text[n:]}"
    elif -6 < n <= 0:
        shown = "0." + "0" * -n + text
    else:
        shown = f"{text[0]}{'.' + text[1:] if k > 1 else ''}e{n - 1:+d}"
    return "-" * sign + shown


def reference(value: Any) -> str:
    """The same text, made from parsed values."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{reference(key)}:{reference(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(reference, value)) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, Decimal)):
        return number(Decimal(value))
    return json.dumps(value, ensure_ascii=False)


def spelled(value: Any, rng: random.Random) -> str:
    """One of the many ways to write a value."""
    space = lambda: "".join(rng.choice(" \t\r\n") for _ in range(rng.randrange(3)))  # noqa: E731
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        inner = ",".join(
            f"{space()}{spelled(key, rng)}{space()}:{space()}{spelled(one, rng)}{space()}" for key, one in items
        )
        return "{" + inner + space() + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{space()}{spelled(one, rng)}{space()}" for one in value) + space() + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    shift = rng.randrange(-9, 9)
    sign, digits, exponent = Decimal(value).as_tuple()  # scaleb would round beyond the context's 28 digits
    assert isinstance(exponent, int)
    return f"{Decimal((sign, digits, exponent + shift)):f}{rng.choice('eE')}{-shift}"


@example(10**28 + 1, random.Random(0))
@given(JSON, st.randoms(use_true_random=False))
def test_every_spelling_has_the_text_of_the_reference(value: Any, rng: random.Random) -> None:
    assert CANON.canonical(spelled(value, rng).encode()).decode() == reference(value)


@given(JSON, JSON, st.randoms(use_true_random=False))
def test_two_values_have_one_text_only_when_they_are_equal(one: Any, other: Any, rng: random.Random) -> None:
    same = CANON.canonical(spelled(one, rng).encode()) == CANON.canonical(spelled(other, rng).encode())
    assert same == (reference(one) == reference(other))


# The rules on purpose unlike RFC 8785: exact decimals.
EXACT = {"values.json": ("333333333.3333333,", "333333333.33333329,")}


def test_the_vectors_of_rfc_8785(vectors: Path) -> None:
    rows = [json.loads(line) for line in gzip.decompress((vectors / "jcs.jsonl.gz").read_bytes()).splitlines()]
    assert len(rows) >= 6
    for row in rows:
        wanted = row["output"].replace(*EXACT.get(row["id"], ("", "")))
        assert CANON.canonical(row["input"].encode()).decode() == wanted, row["id"]


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1e0", "10e-1", "0.1E+1", "100000e-5"),
        ("0", "-0", "0.0", "0e9", "-0.000e-7"),
        ("1e400", "10e399", "0.1e401"),
        ('"a/\\n"', '"\\u0061\\/\\u000a"', '"\\u0061/\\u000A"'),
        ('"\\ud83d\\ude02"', '"😂"'),
        ('"\\ud83d"', '"\\uD83D"'),
    ],
)
def test_equal_values_are_equal(spellings: tuple[str, ...]) -> None:
    assert len({CANON.digest(text.encode(), ()) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("1", "-1"),
        ("1", '"1"'),
        ("1", "10"),
        ("[1,2]", "[2,1]"),
        ("[1,[2]]", "[[1],2]"),
        ('"\\ud83d"', '"\\ude02"'),
        ('"\\\\ud83d"', '"\\ud83d"'),
        ('{"a":null}', "{}"),
        ('"é"', '"e\\u0301"'),
        ("true", "false"),
    ],
)
def test_unequal_values_are_not(one: str, other: str) -> None:
    assert CANON.digest(one.encode(), ()) != CANON.digest(other.encode(), ())


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"b":[{"x":1,"y":2,"x":3}]}', '{"\\n":1,"\\u000a":2}',
             "{" + ",".join(f'"{n % 40}":1' for n in range(60)) + "}"],
)  # fmt: skip
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(RepeatedKeyError, match="twice"):
        CANON.canonical(text.encode())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", '{"a":1,}', "01", "1.", ".5", "1e", "+1", "nul", '"a', '"\\x"', '"\\u12g4"', "[1]]", '{"a" 1}',
     '{1:2}', '"\x01"', "1e9999999999999999999", "-", "[}", "tru\u00e9"],
)  # fmt: skip
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(DigestError):
        CANON.canonical(text.encode())


@given(st.binary(max_size=60) | JSON.map(lambda value: reference(value).encode()[:-1]))
def test_garbage_is_refused_or_is_json_with_its_own_text_as_a_fixed_point(data: bytes) -> None:
    try:
        text = CANON.canonical(data)
    except DigestError:
        return
    assert CANON.canonical(text) == text


def test_depth_and_size_have_caps() -> None:
    deep = b"[" * 128 + b"]" * 128
    assert CANON.canonical(deep) == deep
    with pytest.raises(DigestError, match="deeper"):
        CANON.canonical(b"[" + deep + b"]")
    with pytest.raises(DigestError, match="larger"):
        Canon(max_bytes=3).canonical(b"[1,2]")


def test_keys_that_are_not_unicode_are_refused_and_values_kept() -> None:
    with pytest.raises(DigestError, match="key"):
        CANON.canonical(b'{"\xff":1}')
    assert CANON.canonical(b'{"a":"\xff"}') == b'{"a":"\xff"}'


def test_the_parts_are_mixed_in_and_do_not_run_together() -> None:
    lists = [(), (b"",), (b"a", b"b"), (b"ab",), (b"ab", b""), (b"", b"ab"), (b"b", b"a")]
    body = b'{"a":1}'
    made = {CANON.digest(body, parts) for parts in lists} | {CANON.raw_digest(body, parts) for parts in lists}
    assert len(made) == 2 * len(lists)


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_the_hashes_are_those_of_the_standard_library(data: bytes, key: bytes) -> None:
    assert sha256(data) == hashlib.sha256(data).digest()
    wanted = hmac.digest(key, data, "sha256")
    assert Mac(key).of(data) == wanted
    assert Mac(key, False).of(data) == wanted


def test_the_quick_way_is_the_one_in_use_where_python_has_its_own_libcrypto() -> None:
    maps = Path("/proc/self/maps").read_text()
    assert ("libcrypto.so.3" in maps or "libcrypto.so.1.1" in maps) == IS_DIRECT
