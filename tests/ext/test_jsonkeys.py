"""A key twice is found wherever it stands, and nothing else is taken for one; folded keys of jsonscan."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_ext.jsonkeys import has_repeated_key
from outrider_ext.jsonscan import FieldScan, JsonScanError


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a":{"b":1,"c":{},"b":2}}', '[{"a":1},{"b":1,"b":2}]', '{"a":1,"\\u0061":2}',
        '{"\\"":1,"\\u0022":2}', '{"Model":1,"model":2}', '{"x":[1,{"y":{"z":1,"z":1}}]}', '{"":1,"":2}',
        ' { "a" : [ ] , "a" : [ ] } ', '{"a":"{","b":{"a":1},"a":3}',
    ],
)  # fmt: skip
def test_a_key_twice_is_found(text: str) -> None:
    assert has_repeated_key(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "7", '"a"', '{"a":1,"b":{"a":1}}', '[{"a":1},{"a":1}]', '{"a":"a","b":"a"}', '{"a":["a","a","b"]}',
        '{"a":{"B":1,"b":2}}', '{"a":"\\"a\\":1,\\"a\\":2"}', '{"a\\\\":1,"a":2}',
    ],
)  # fmt: skip
def test_what_is_no_key_twice_is_not(text: str) -> None:
    assert not has_repeated_key(text.encode())


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    if len({key for key, _ in pairs}) != len(pairs):
        raise LookupError
    return dict(pairs)


KEYS = st.text(alphabet='ab"\\é\u2028\U0001f600', max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple),
    max_leaves=15,
)


def written(value: Any, *, escaped: bool) -> str:
    if isinstance(value, tuple):
        members = (
            f"{json.dumps(key, ensure_ascii=escaped)}: {written(inner, escaped=escaped)}" for key, inner in value
        )
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(inner, escaped=escaped) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=escaped)


@given(VALUES, st.booleans())
def test_it_agrees_with_a_parser(value: Any, escaped: bool) -> None:
    text = "[" + written(value, escaped=escaped) + "]"  # within a list: there, keys are compared exactly
    try:
        json.loads(text, object_pairs_hook=_pairs)
        repeated = False
    except LookupError:
        repeated = True
    assert has_repeated_key(text.encode()) is repeated


def test_a_scan_may_fold_case() -> None:
    scan = FieldScan((b"model",), fold_case=True)
    for body in (b'{"MODEL":"m"}', b'{"Mo\\u0044el":"m"}', b'{"model":"m"}'):
        scan.scan(body)
        assert scan.text(0) == "m"
    with pytest.raises(JsonScanError):
        scan.scan(b'{"model":"a","MODEL":"b"}')
    exact = FieldScan((b"model",))
    exact.scan(b'{"MODEL":"m"}')
    assert exact.text(0) is None
