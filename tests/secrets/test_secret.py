"""The Secret type shows itself nowhere."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.secrets.secret import Secret, looks_like_secret

PLANTED = b"sk-PLANTED-0123456789"


@pytest.mark.parametrize(
    "show",
    [
        repr, str, ascii, "{}".format, "{0!r:>40}".format, "{:>40}".format, lambda s: f"{s!s}", lambda s: repr([s]),
        "%s".__mod__, "%r".__mod__,
    ],
)  # fmt: skip
def test_every_spelling_is_masked(show: Callable[[object], str]) -> None:
    shown = show(Secret(PLANTED))
    assert "Secret('****')" in shown
    assert "PLANTED" not in shown


@pytest.mark.parametrize(
    "take",
    [
        pickle.dumps, copy.copy, copy.deepcopy, lambda s: pickle.dumps([s], protocol=0), lambda s: s.__getstate__(),
        lambda s: s.__reduce__(), lambda s: s.__reduce_ex__(2), json.dumps, hash, vars, len, bytes, list,
        lambda s: {s: 1}, lambda s: s + b"",
    ],
)  # fmt: skip
def test_it_cannot_be_pickled_copied_hashed_or_taken_apart(take: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as failed:
        take(Secret(PLANTED))
    assert "PLANTED" not in str(failed.value)


def test_it_cannot_be_subclassed() -> None:
    with pytest.raises(TypeError, match="final"):
        type("Loud", (Secret,), {})


def test_logs_and_tracebacks_do_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(PLANTED)
    logging.getLogger("x").warning("got %s %r", secret, {"key": secret})
    try:
        raise ValueError(secret)
    except ValueError as exc:
        text = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    assert "PLANTED" not in caplog.text
    assert "secret = Secret('****')" in text
    assert "ValueError: Secret('****')" in text


def test_it_is_equal_to_the_same_secret_and_to_nothing_else() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert Secret(PLANTED).expose() == PLANTED


@pytest.mark.parametrize("raw", [b"key", b"key\n", b"key\r\n"])
def test_one_trailing_newline_is_taken_off(raw: bytes) -> None:
    assert Secret.from_text(raw).expose() == b"key"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\n", b"PLANTED\n\n", b"PLANTED\nx", b"PLANTED\rx", b"PLANTED\0", b"PLANTED\x7f", b"\tPLANTED",
        "PLANTED é".encode(), b" PLANTED", b"PLANTED ",
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_header_is_refused_without_the_value(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"empty|line|control|ASCII|space") as failed:
        Secret.from_text(raw)
    assert "PLANTED" not in str(failed.value)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_safe_secret_or_refused(raw: bytes) -> None:
    try:
        value = Secret.from_text(raw).expose()
    except ValueError:
        return
    assert value
    assert all(0x20 <= byte < 0x7F for byte in value)


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefghijklmnop", "sk-ant-api03-abcdefghijkl", "credential: {env: AKIAIOSFODNN7EXAMPLE}",
        "gsk_abcdefghijklmnop", "AIzaSyA-1234567890abcdefghij", "hf_abcdefghijklmnop", "xai-abcdefghijklmnop",
        "x: 0123456789abcdef0123456789abcdef01234567", "r8_abcdefghijklmnop",
    ],
)  # fmt: skip
def test_keys_look_like_secrets(text: str) -> None:
    assert looks_like_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY", "api.openai.com", "/run/secrets/anthropic", "us-east-1", "http://127.0.0.1:8000",
        "task-force", "max_connections_per_host: 1024", "providers: {openai: {credential: {env: OPENAI_API_KEY}}}",
        "claude-sonnet-4-5-20250929", "bedrock-runtime.us-east-1.amazonaws.com", "risk-assessment-of-something-long",
    ],
)  # fmt: skip
def test_ordinary_words_do_not(text: str) -> None:
    assert not looks_like_secret(text)
