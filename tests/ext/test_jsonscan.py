"""Top-level fields of JSON bytes, compiled and interpreted alike, judged by orjson."""

import json
from types import ModuleType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both

BUILDS = both("jsonscan")
NAMES = (b"model", b"stream", b"max_tokens", b"n", b"stream_options")
SPACES = st.sampled_from(["", " ", "\n\t", "\r\n  "])


@pytest.fixture(params=BUILDS, ids=["compiled", "interpreted"])
def jsonscan(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def scanned(build: ModuleType, body: bytes, **kwargs: Any) -> Any:
    scan = build.FieldScan(NAMES, **kwargs)
    scan.scan(body)
    return scan


def verdict(build: ModuleType, body: bytes) -> Any:
    """Everything a scan says of a body, or the error's words."""
    scan = build.FieldScan(NAMES)
    try:
        scan.scan(body)
    except build.JsonScanError as error:
        assert (scan.inside, scan.close, scan.empty, scan.span(0)) == (-1, -1, False, (-1, -1))
        return str(error)
    found = [(scan.span(i), scan.raw(i), scan.text(i), scan.flag(i), scan.number(i)) for i in range(len(NAMES))]
    return found, scan.inside, scan.close, scan.empty


def spelled(text: str, escape: list[bool]) -> str:
    """A JSON string with some characters written as escapes."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    if plain != text:  # it needs escapes of its own: leave those
        return f'"{plain}"'
    return (
        '"'
        + "".join(
            json.dumps(char)[1:-1] if ord(char) > 0xFFFF else f"\\u{ord(char):04X}" if hit else char
            for char, hit in zip(text, (escape + [False] * len(text))[: len(text)], strict=True)
        )
        + '"'
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """A JSON object as text: any white space, some keys watched, some characters escaped."""
    keys = draw(st.lists(st.sampled_from([name.decode() for name in NAMES]) | TEXTS, max_size=6, unique=True))
    members = []
    for key in keys:
        value = draw(VALUES)
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        name = spelled(key, draw(st.lists(st.booleans(), max_size=4)))
        members.append(draw(SPACES) + name + draw(SPACES) + ":" + draw(SPACES) + text + draw(SPACES))
    return (draw(SPACES) + "{" + (",".join(members) or draw(SPACES)) + "}" + draw(SPACES)).encode()


@given(objects())
def test_every_object_that_orjson_accepts_has_the_same_values_in_its_spans(body: bytes) -> None:
    whole = orjson.loads(body)
    for build in BUILDS:
        scan = scanned(build, body)
        assert body[scan.inside - 1 : scan.inside] == b"{"
        assert body[scan.close :].strip() == b"}"
        assert scan.empty == (whole == {})
        for index, name in enumerate(NAMES):
            raw = scan.raw(index)
            assert (raw is None) == (name.decode() not in whole)
            if raw is None:
                assert (scan.span(index), scan.text(index), scan.flag(index), scan.number(index)) == (
                    (-1, -1),
                    None,
                    False,
                    None,
                )
                continue
            value = whole[name.decode()]
            assert orjson.loads(raw) == value
            assert raw == raw.strip() == body[slice(*scan.span(index))]
            assert scan.text(index) == (value if isinstance(value, str) else None)
            assert scan.flag(index) == (value is True)
            assert scan.number(index) == (value if type(value) is int else None)


TOKENS = [
    "{",
    "}",
    ":",
    ",",
    '"n"',
    '"a"',
    '"',
    "\\",
    "\\n",
    "\\u00",
    "41",
    "0",
    "-",
    "1",
    ".",
    "e",
    "+",
    "true",
    "nul",
    "l",
]
TOKENS += [" ", "\n", "\x00", "\x0b", "é", "[", "]"]


@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(lambda parts: "{" + "".join(parts) + "}"))
def test_flat_objects_are_accepted_exactly_when_orjson_accepts_them(text: str) -> None:
    body = text.encode()
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        whole = None
    verdicts = [verdict(build, body) for build in BUILDS]
    assert verdicts[0] == verdicts[1]
    if isinstance(verdicts[0], str):
        assert whole is None or "twice" in verdicts[0]
    elif whole is None:  # laxer inside nested values, and in how large a number may be
        assert any(mark in text[1:-1] for mark in "[{") or "e" in text


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda raw: b'{"n":' + raw + b"}"))
def test_garbage_gives_a_result_or_the_declared_error_alike_in_both_builds(body: bytes) -> None:
    assert verdict(BUILDS[0], body) == verdict(BUILDS[1], body)


@given(objects(), st.data())
def test_a_changed_byte_or_a_cut_never_crashes_and_both_builds_agree(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    broken = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    for variant in (broken, body[:at]):
        assert verdict(BUILDS[0], variant) == verdict(BUILDS[1], variant)


@given(objects())
def test_every_prefix_of_an_object_and_anything_behind_one_is_refused(body: bytes) -> None:
    body = body.strip()
    for build in BUILDS:
        for end in range(0, len(body), 3):
            assert isinstance(verdict(build, body[:end]), str)
        assert "goes on after" in verdict(build, body + b"x")
        assert "goes on after" in verdict(build, body + body)


@given(objects(), st.binary(max_size=5), st.binary(max_size=5))
def test_a_range_of_a_buffer_scans_like_the_bytes_alone(body: bytes, before: bytes, after: bytes) -> None:
    for build in BUILDS:
        alone = scanned(build, body)
        scan = build.FieldScan(NAMES)
        scan.scan(before + body + after, len(before), len(before) + len(body))
        assert [scan.raw(i) for i in range(len(NAMES))] == [alone.raw(i) for i in range(len(NAMES))]
        assert scan.inside - alone.inside == scan.close - alone.close == len(before)


MALFORMED = [
    (b"", "is not a JSON object"),
    (b"[]", "is not a JSON object"),
    (b'"model"', "is not a JSON object"),
    (b"\xef\xbb\xbf{}", "is not a JSON object"),
    (b"{", "no key"),
    (b"{,}", "no key"),
    (b'{"n":1,}', "no key"),
    (b"{n:1}", "no key"),
    (b"{'n':1}", "no key"),
    (b'{"n" 1}', "no colon"),
    (b'{"n":', "ends where a value"),
    (b'{"n":1', "neither comma nor"),
    (b'{"n":1 "m":2}', "neither comma nor"),
    (b'{"n":01}', "malformed value"),
    (b'{"n":1.}', "malformed value"),
    (b'{"n":.5}', "malformed value"),
    (b'{"n":+1}', "malformed value"),
    (b'{"n":-}', "malformed value"),
    (b'{"n":1e}', "malformed value"),
    (b'{"n":1e+}', "malformed value"),
    (b'{"n":NaN}', "malformed value"),
    (b'{"n":tru}', "malformed value"),
    (b'{"n":truex}', "neither comma nor"),
    (b'{"n":True}', "malformed value"),
    (b'{"n":/**/1}', "malformed value"),
    (b'{"n":"a', "malformed value"),
    (b'{"n":"a\nb"}', "malformed value"),
    (b'{"n":"\\x"}', "malformed value"),
    (b'{"n":"\\u12g4"}', "malformed value"),
    (b'{"n":"\\u12"}', "malformed value"),
    (b'{"n":"\\', "malformed value"),
    (b'{"a\x1f":1}', "malformed string"),
    (b'{"a":["\\q"]}', "malformed string"),
    (b'{"a":["]}', "malformed string"),
    (b'{"a":[}', "closes another kind"),
    (b'{"a":{"b":[1}]}', "closes another kind"),
    (b'{"a":[[]', "ends inside"),
    (b'{"a":1}}', "goes on after"),
    (b'{"a":1}\x00', "goes on after"),
]


@pytest.mark.parametrize(("body", "words"), MALFORMED)
def test_what_is_malformed_at_the_top_or_unbalanced_below_is_refused(
    jsonscan: ModuleType, body: bytes, words: str
) -> None:
    with pytest.raises(jsonscan.JsonScanError, match=words) as refused:
        scanned(jsonscan, body)
    assert isinstance(refused.value, ValueError)


def test_an_error_names_the_byte_counted_from_the_start_of_the_range(jsonscan: ModuleType) -> None:
    with pytest.raises(jsonscan.JsonScanError, match="at byte 5"):
        jsonscan.FieldScan(NAMES).scan(b'xx{"n":?}', 2)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":{"model":1},"mod\\u0065l":"b"}',
        b'{"\\u006d\\u006F\\u0064\\u0065\\u006c":"a","model":"b"}',
        b'{"model":null,"model":null}',
    ],
)
def test_a_watched_key_twice_is_refused_however_it_is_spelled(jsonscan: ModuleType, body: bytes) -> None:
    with pytest.raises(jsonscan.JsonScanError, match="'model' twice"):
        scanned(jsonscan, body)


def test_other_keys_may_repeat_and_keys_below_the_top_are_not_looked_at(jsonscan: ModuleType) -> None:
    scan = scanned(jsonscan, b'{"a":1,"a":2,"b":{"model":"x","model":"y"},"c":[{"model":"z"}],"Model":1,"model ":2}')
    assert scan.raw(0) is None


def test_a_key_that_is_spelled_with_escapes_is_found(jsonscan: ModuleType) -> None:
    assert scanned(jsonscan, b'{"\\u006dod\\u0065l":"gpt"}').text(0) == "gpt"
    scan = jsonscan.FieldScan(("schlüssel".encode(), b'a"b', b"a/b"))
    scan.scan(b'{"schl\\u00fcssel":1,"a\\"b":2,"a\\/b":3}')
    assert [scan.number(i) for i in range(3)] == [1, 2, 3]
    scan.scan('{"schlüssel":1}'.encode())
    assert scan.number(0) == 1


def test_a_key_with_lone_surrogates_or_broken_utf8_is_only_another_key(jsonscan: ModuleType) -> None:
    assert scanned(jsonscan, b'{"\\ud800":1,"\\ud83d\\ude00":2,"\xff\\n":3,"\xff":4,"n":5}').number(3) == 5


@pytest.mark.parametrize("value", [b'"\\ud800"', b'"a\\udc00b"', b'"\xff"', b'"\xc3\\n"', b'"\xed\xa0\x80"'])
def test_a_watched_string_that_is_not_unicode_text_is_refused_and_another_is_not(
    jsonscan: ModuleType, value: bytes
) -> None:
    with pytest.raises(jsonscan.JsonScanError, match="not Unicode text"):
        scanned(jsonscan, b'{"model":' + value + b"}")
    scanned(jsonscan, b'{"prompt":' + value + b',"x":[' + value + b"]}")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"256", 256),
        (b"9223372036854775807", (1 << 63) - 1),
        (b"-9223372036854775808", -(1 << 63)),
        (b"9223372036854775808", None),
        (b"-9223372036854775809", None),
        (b"1" + b"0" * 400, None),
        (b"1.0", None),
        (b"1e3", None),
        (b'"1"', None),
        (b"true", None),
        (b"null", None),
        (b"[1]", None),
    ],
)
def test_a_number_is_an_integer_in_plain_digits_that_fits_64_bits(
    jsonscan: ModuleType, value: bytes, number: int | None
) -> None:
    assert scanned(jsonscan, b'{"n":' + value + b"}").number(3) == number


@pytest.mark.parametrize(("value", "flag"), [(b"true", True), (b"false", False), (b'"true"', False), (b"1", False)])
def test_a_flag_is_set_by_true_alone(jsonscan: ModuleType, value: bytes, flag: bool) -> None:
    assert scanned(jsonscan, b'{"stream": ' + value + b" }").flag(1) is flag


def test_depth_is_counted_from_the_object_itself(jsonscan: ModuleType) -> None:
    scanned(jsonscan, b'{"a":' + b"[" * 127 + b"]" * 127 + b"}")
    with pytest.raises(jsonscan.JsonScanError, match="deeper than 128 levels"):
        scanned(jsonscan, b'{"a":' + b"[" * 128 + b"]" * 128 + b"}")
    scanned(jsonscan, b'{"a":1}', max_depth=1)
    with pytest.raises(jsonscan.JsonScanError, match="deeper than 1 levels"):
        scanned(jsonscan, b'{"a":{}}', max_depth=1)
    scanned(jsonscan, b'{"a":' + b'{"b":' * 1023 + b"1" + b"}" * 1023 + b"}", max_depth=1024)


def test_a_new_scan_forgets_the_one_before(jsonscan: ModuleType) -> None:
    scan = scanned(jsonscan, b'{"model":"a","stream":true}')
    scan.scan(b"{ }")
    assert (scan.text(0), scan.flag(1), scan.empty, scan.inside, scan.close) == (None, False, True, 1, 2)
    scan.scan(b'{"n":1}')
    with pytest.raises(jsonscan.JsonScanError):
        scan.scan(b'{"n":1,"n":2}')
    assert scan.number(3) is None
    scan.scan(b'{"n":1}')
    scan.clear()
    assert (scan.raw(3), scan.inside) == (None, -1)


def test_a_member_can_be_inserted_at_inside(jsonscan: ModuleType) -> None:
    for body in (b'{"a":1}', b"{}", b" {\n}"):
        scan = scanned(jsonscan, body)
        member = b'"n":7' if scan.empty else b'"n":7,'
        assert orjson.loads(body[: scan.inside] + member + body[scan.inside :]) == {"n": 7} | orjson.loads(body)


def test_what_cannot_be_asked_for_is_refused(jsonscan: ModuleType) -> None:
    scan = scanned(jsonscan, b"{}")
    for index in (-1, len(NAMES), 32):
        for ask in (scan.raw, scan.span, scan.text, scan.flag, scan.number):
            with pytest.raises(IndexError):
                ask(index)
    for start, end in ((-1, 2), (0, 3), (2, 1)):
        with pytest.raises(IndexError):
            scan.scan(b"{}", start, end)
    with pytest.raises(ValueError, match="At most 32"):
        jsonscan.FieldScan(tuple(b"%d" % i for i in range(33)))
    with pytest.raises(ValueError, match="each once"):
        jsonscan.FieldScan((b"a", b"a"))
    for depth in (0, 1025):
        with pytest.raises(ValueError, match="max_depth"):
            jsonscan.FieldScan((b"a",), depth)


@pytest.mark.parametrize("length", range(40))
def test_a_string_of_any_length_ends_at_its_quote_wherever_the_marks_stand(jsonscan: ModuleType, length: int) -> None:
    for mark in (b"", b"\\n", b'\\"', b"\\\\", "é".encode(), b"\x7f", b"!", b"[", b"]"):
        value = b'"' + b"a" * length + mark + b"b" * (length % 9) + b'"'
        scan = scanned(jsonscan, b'{"a":[' + value + b'],"model":' + value + b"}")
        assert scan.raw(0) == value
        assert scan.text(0) == orjson.loads(value)
    for wrong in (b"\x00", b"\x1f", b"\n"):
        with pytest.raises(jsonscan.JsonScanError):
            scanned(jsonscan, b'{"a":"' + b"a" * length + wrong + b'bbbbbbbb"}')
