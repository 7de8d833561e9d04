"""A changed JSON value written with the spelling of the text that it was read from, compiled and interpreted alike."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.builds import both
from outrider.govern.jsontext import dump, load, written

MODULES = pytest.mark.parametrize("module", both("jsonsplice"), ids=("compiled", "interpreted"))
KEYS = st.sampled_from(["a", "b", "c", "é", '"', "\\"])
NUMBERS = st.one_of(st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def spelled(value: Any, seed: int) -> bytes:
    """A text of the value in one of the ways in which it may be written."""
    return json.dumps(value, ensure_ascii=bool(seed & 1), indent=seed & 2 or None).encode("utf-8", "surrogatepass")


def in_order(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    ("text", "change", "wanted"),
    [
        (b'{"a":1.0,"b":"x"}', {"b": "y"}, b'{"a":1.0,"b":"y"}'),
        (b'{ "a" : 1e5 ,\n"b":"\\u0078" }', {}, b'{ "a" : 1e5 ,\n"b":"\\u0078" }'),
        (b'{ "a" : 1e5 ,\n"b":"\\u0078" }', {"b": "z"}, b'{ "a" : 1e5 ,\n"b":"z" }'),
        (b'{"a":123456789012345678901234567890,"b":0}', {"b": True}, b'{"a":123456789012345678901234567890,"b":true}'),
        (b'{"a":-0.0,"b":1}', {"b": 1.0}, b'{"a":-0.0,"b":1.0}'),
        (b'{"a":1}', {"a": True}, b'{"a":true}'),
        (b'{"a":1}', {"b": [1]}, b'{"a":1,"b":[1]}'),
        (b"{}", {"b": 1}, b'{"b":1}'),
        (b'{"a":1E2,"b":{"c":2.50}}', {"b": {"c": 2.5, "d": "x"}}, b'{"a":1E2,"b":{"c":2.50,"d":"x"}}'),
        (b'{"a":[1.0, 2.0,"x"]}', {"a": ["new", 1.0, 2.0, "x"]}, b'{"a":["new",1.0,2.0,"x"]}'),
        (b'{"a":[1.0, 2.0,"x"]}', {"a": [1.0, "x"]}, b'{"a":[1.0,"x"]}'),
        (b'{"a":[{"n":1.0},{"n":2.0}]}', {"a": [{"n": 1.0}, {"n": 3.5}]}, b'{"a":[{"n":1.0},{"n":3.5}]}'),
        (b'{"a":NaN,"b":1}', {"b": 2}, b'{"a":NaN,"b":2}'),
        (b'{"a":[]}', {"a": [1]}, b'{"a":[1]}'),
        (b'{"a":{}}', {"a": []}, b'{"a":[]}'),
        (b'{"a":"x"}', {"a": {"b": "x"}}, b'{"a":{"b":"x"}}'),
        (b'{"a":"\\ud800","b":1.0}', {"b": 2}, b'{"a":"\\ud800","b":2}'),
        (b'{"a":"\\\\n"}', {"a": "\n"}, b'{"a":"\\n"}'),
        (b'{"a":"\\n"}', {"a": "\\n"}, b'{"a":"\\\\n"}'),
    ],
)
@MODULES
def test_what_did_not_change_keeps_its_spelling(
    module: Any, text: bytes, change: dict[str, Any], wanted: bytes
) -> None:
    value = load(text)
    value.update(change)
    assert module.splice(text, value, load, dump) == wanted


@MODULES
def test_members_that_are_gone_take_their_commas_with_them(module: Any) -> None:
    text = b'{"a":1.0, "b":{"x":"1"},"c" : 3.0}'
    for gone in ("a", "b", "c"):
        value = load(text)
        del value[gone]
        value["d"] = "new"
        out = module.splice(text, value, load, dump)
        assert load(out) == value
        assert b"1.0" in out or gone == "a"
        assert b"3.0" in out or gone == "c"


@MODULES
def test_of_a_key_that_stands_twice_nothing_is_kept(module: Any) -> None:
    """What its reader did not see, and nobody redacted, does not leave."""
    text = b'{"x":1.0,"a":{"k":"secret","\\u006b":"seen","n":2.0},"z":3.0}'
    assert module.splice(text, load(text), load, dump) == b'{"x":1.0,"a":{"k":"seen","n":2.0},"z":3.0}'
    text = b'{"a":"secret","b":1.0,"a":"seen"}'
    assert load(module.splice(text, load(text), load, dump)) == {"a": "seen", "b": 1.0}
    assert b"secret" not in module.splice(text, load(text), load, dump)
    value = load(text)
    del value["a"]
    assert b"secret" not in module.splice(text, value, load, dump)


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES, st.integers(0, 3))
@MODULES
def test_any_change_is_written_whole(module: Any, before: Any, after: Any, seed: int) -> None:
    text = spelled(before, seed)
    assert module.splice(text, load(text), load, dump) == text
    assert in_order(load(module.splice(text, after, load, dump))) == in_order(load(dump(after)))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.sets(KEYS),
    st.integers(0, 3),
)
@MODULES
def test_members_changed_added_and_removed_give_that_value(
    module: Any, before: dict[str, Any], changed: dict[str, Any], removed: set[str], seed: int
) -> None:
    text = spelled(before, seed)
    value = load(text)
    value.update(changed)
    for key in removed:
        value.pop(key, None)
    assert in_order(load(module.splice(text, value, load, dump))) == in_order(load(dump(value)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:\\ 1a', max_size=30).map(str.encode), VALUES)
@MODULES
def test_a_text_that_is_none_is_an_error_or_gives_the_value(module: Any, text: bytes, value: Any) -> None:
    try:
        out = module.splice(text, value, load, dump)
    except ValueError:
        return
    assert in_order(load(out)) == in_order(load(dump(value)))


@pytest.mark.parametrize("text", ['{"a":"é"}'.encode("utf-16"), b'\xef\xbb\xbf{"a":1}', b'{"a":1} x', b'{"a":1', b""])
@MODULES
def test_what_the_value_was_not_read_from_is_an_error(module: Any, text: bytes) -> None:
    with pytest.raises(module.SpliceError):
        module.splice(text, {"a": 1}, load, dump)
    assert written(text, {"a": 1}) == b'{"a":1}'


def test_a_text_that_is_nested_too_deep_is_written_anew() -> None:
    deep = b"[" * 3000 + b"1.0" + b"]" * 3000
    assert written(b'{"a":' + deep + b"}", {"a": 2}) == b'{"a":2}'
    value: Any = 1.5
    for _ in range(1500):
        value = [value]
    assert written(b"[" * 1500 + b"1.50" + b"]" * 1500, value).count(b"[") == 1500


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b'{"a":1,"b":[0.7,-3,"1e5 and \\" 1.0"],"c":{"d":123456789012345678}}', False),
        (b"[1.0,9223372036854775807,0.1,-1.5]", False),
        (b"[1.50]", True),
        (b"[1E2]", True),
        (b'{"a":NaN}', True),
        (b"[-Infinity]", True),
        (b"[-0]", True),
        (b"[-0.0]", False),
        (b"[123456789012345678901]", True),
        (b'["\\\\",1.50]', True),
        (b'["1.50', True),
        (b"", False),
    ],
)
@MODULES
def test_a_number_with_a_spelling_of_its_own_is_seen(module: Any, text: bytes, answer: bool) -> None:
    assert module.has_own_spelling(text, load, dump) is answer


@settings(max_examples=200, deadline=None)
@given(VALUES, st.integers(0, 3))
@MODULES
def test_where_no_number_has_a_spelling_of_its_own_all_can_be_written_anew(module: Any, value: Any, seed: int) -> None:
    text = spelled(value, seed)
    if not module.has_own_spelling(text, load, dump):
        assert json.loads(dump(load(text)), parse_float=str, parse_int=str) == json.loads(
            text, parse_float=str, parse_int=str
        )
