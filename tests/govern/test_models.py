"""Which model a request names, in every place and spelling; forms are read in one way or not at all."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.govern.models import ModelError, in_document, in_query, named
from outrider.govern.multipart import MultipartError, parts_of

ARN = "arn:aws:bedrock:us-east-1:1:"


@pytest.mark.parametrize(
    ("text", "aliases", "relatives"),
    [
        ("gpt-5", {"gpt-5"}, set()),
        ("models/gemini-2.5-pro", {"models/gemini-2.5-pro", "gemini-2.5-pro"}, set()),
        ("publishers/google/models/g", {"publishers/google/models/g", "g"}, set()),
        ("openai/gpt-4o:free", {"openai/gpt-4o:free"}, {"gpt-4o:free", "gpt-4o"}),
        ("ft:gpt-4o:acme::1", {"ft:gpt-4o:acme::1"}, {"gpt-4o"}),
        ("us.anthropic.claude", {"us.anthropic.claude"}, {"anthropic.claude"}),
        (f"{ARN}foundation-model/a.b", {f"{ARN}foundation-model/a.b", "a.b"}, set()),
        (f"{ARN}inference-profile/us.a.b", {f"{ARN}inference-profile/us.a.b", "us.a.b"}, {"a.b"}),
        (f"{ARN}application-inference-profile/x", {f"{ARN}application-inference-profile/x"}, set()),
        ("claude-sonnet-4@20250514", {"claude-sonnet-4@20250514"}, {"claude-sonnet-4"}),
        ("anthropic.claude-v1:0", {"anthropic.claude-v1:0"}, {"anthropic.claude-v1"}),
    ],
)
def test_a_model_is_known_by_its_names(text: str, aliases: set[str], relatives: set[str]) -> None:
    model = named(text)
    assert set(model.aliases) == aliases
    assert set(model.relatives) >= relatives


@pytest.mark.parametrize("text", ["", "a b", "a%20b", "gpt\u20115", "a\x00", "x" * 3000, "gpt-5\n"])
def test_a_name_that_no_model_has_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        named(text)


@pytest.mark.parametrize(
    ("document", "models"),
    [
        ({"model": "a"}, ["a"]),
        ({"MODEL": "a"}, ["a"]),
        ({"model": "a", "models": ["b", "a"], "fallbacks": [{"model": "c"}, "d"]}, ["a", "b", "c", "d"]),
        ({"requests": [{"custom_id": "1", "params": {"model": "a", "messages": [{"model": "no"}]}}]}, ["a"]),
        ({"session": {"model": "a", "audio": {"input": {"transcription": {"model": "b"}}}}}, ["a"]),
        ({"tools": [{"type": "image_generation", "model": "a"}]}, ["a"]),
        ({"batch": {"input_config": {"requests": {"requests": [{"request": {"model": "a"}}]}}}}, ["a"]),
        ({"retrieveAndGenerateConfiguration": {"knowledgeBaseConfiguration": {"modelArn": "a"}}}, ["a"]),
        ({"messages": [{"content": "x", "model": "no"}], "metadata": {"model": "no"}}, []),
        ({"tools": [{"function": {"parameters": {"properties": {"model": {"type": "string"}}}}}]}, []),
        ({"model": None}, []),
        ({}, []),
    ],
)
def test_a_body_names_models_in_these_places(document: dict[str, Any], models: list[str]) -> None:
    assert in_document(document) == models


@pytest.mark.parametrize(
    "document", [{"model": 7}, {"model": "a", "Model": "b"}, {"models": [f"m{n}" for n in range(99)]}]
)
def test_a_body_that_names_models_in_no_one_way_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        in_document(document)


@pytest.mark.parametrize(
    ("target", "models"),
    [
        (b"/v1/realtime", []),
        (b"/v1/realtime?model=a", ["a"]),
        (b"/v1/realtime?x=1&mod%65l=%61", ["a"]),
        (b"/v1/realtime?MODEL=a", ["a"]),
        (b"/v1/realtime?deployment=a&api-version=1", ["a"]),
        (b"/v1/realtime?model=", []),
    ],
)
def test_a_query_names_a_model(target: bytes, models: list[str]) -> None:
    assert in_query(target) == models


@pytest.mark.parametrize("query", [b"model=a&model=b", b"model=a&Model=a", b"model=a;model=b", b"model=%ff"])
def test_a_query_that_could_be_read_in_two_ways_is_refused(query: bytes) -> None:
    with pytest.raises(ModelError):
        in_query(b"/v1/realtime?" + query)


# -- forms

KIND = b"multipart/form-data; boundary=b"


def part(head: bytes, data: bytes = b"x") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


NAMED = b'Content-Disposition: form-data; name="model"'


@pytest.mark.parametrize(
    "kind", [KIND, b'Multipart/Form-Data; charset=utf-8; boundary="b"', b"multipart/form-data;boundary=b"]
)
def test_a_forms_fields_are_read(kind: bytes) -> None:
    file = part(b'content-disposition: form-data; name=f; filename="a.txt"\r\ncontent-type: text/plain', b"\r\n--c")
    found = parts_of(part(NAMED) + file + b"--b--\r\n", kind)
    assert [(one.name, one.is_file, one.data) for one in found] == [("model", False, b"x"), ("f", True, b"\r\n--c")]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"preamble\r\n" + part(NAMED) + b"--b--\r\n", KIND),
        (part(NAMED), KIND),
        (part(NAMED) + b"--b-- and more", KIND),
        (part(NAMED + b"\r\n" + NAMED) + b"--b--", KIND),
        (part(NAMED + b'; name="other"') + b"--b--", KIND),
        (part(NAMED + b"; name*=utf-8''other") + b"--b--", KIND),
        (part(b'Content-Disposition: form-data; name="mo\\del"') + b"--b--", KIND),
        (part(NAMED + b"\r\nContent-Transfer-Encoding: base64") + b"--b--", KIND),
        (part(b"X: y") + b"--b--", KIND),
        (part(NAMED + b"\r\n folded: x") + b"--b--", KIND),
        (part(NAMED) + b"--b--", b"multipart/form-data; boundary=b; boundary=c"),
        (part(NAMED) + b"--b--", b"multipart/form-data"),
        (part(NAMED) + b"--b--", b"multipart/mixed; boundary=b"),
        (part(NAMED, b"x\r\n--bx") + b"--b--", KIND),
        (b"", KIND),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(body: bytes, kind: bytes) -> None:
    with pytest.raises(MultipartError):
        parts_of(body, kind)


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_any_bytes_are_a_form_or_the_declared_error(body: bytes, kind: bytes) -> None:
    for one in (body, part(NAMED, body), b"--b\r\n" + body + b"\r\n--b--"):
        for content_type in (KIND, kind, KIND + b"; " + kind):
            with contextlib.suppress(MultipartError):
                parts_of(one, content_type)
