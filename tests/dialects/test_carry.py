"""What can be carried from one dialect to another: the table, what runs from it, and what the docs print of it."""

from pathlib import Path
from typing import Any

import pytest

from outrider.dialects import carry, replicate
from outrider.dialects.base import Notes
from outrider.dialects.bedrock_invoke import FAMILIES
from outrider.dialects.canonical import Media, Message, Opaque, Request, Text, Thinking, Tool, ToolCall
from outrider.dialects.carry import CannotCarryError, check, remote_media
from outrider.dialects.columns import COLUMNS, column
from outrider.dialects.features import FEATURES, features_of
from outrider.dialects.registry import MODULES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"


def asking(*parts: Any, **more: Any) -> Request:
    return Request("openai.chat", "m", [Message("user", list(parts) or [Text("x")])], **more)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_says_something_of_every_feature(name: str) -> None:
    assert COLUMNS[name].keys() == FEATURES.keys()
    refused = [cell for cell in COLUMNS[name].values() if cell.outcome == "refused"]
    assert all(cell.phrase for cell in refused)


def test_every_dialect_of_conversations_has_its_column() -> None:
    assert {"openai.chat", "openai.responses", "openai.completions", "anthropic.messages"} <= COLUMNS.keys()
    of_models = {name for _, name in FAMILIES} | {family.name for _, family in replicate.FAMILIES} | {"replicate.other"}
    assert COLUMNS.keys() | {"bedrock.invoke", "replicate.predictions"} == MODULES.keys() | of_models


def test_the_docs_print_the_table_that_the_code_runs_from() -> None:
    assert carry.docs_table() in DOCS.read_text()


def test_a_call_to_its_own_dialect_is_not_looked_at() -> None:
    notes = Notes()
    check(asking(conversation={"x": 1}, rest={"secret_field": 1}, n=5), "openai.chat", notes)
    assert notes.phrases == []


@pytest.mark.parametrize(
    ("request_", "feature"),
    [
        (asking(n=2), "several answers (n)"),
        (asking(conversation={"previous_response_id": "r"}), "a conversation that its provider keeps"),
        (asking(tools=[Tool("web_search", server=True)]), "the server tool web_search"),
        (asking(Media("image", file_id="f")), "an image by file id"),
        (asking(Media("audio", data="x")), "audio as base64"),
        (asking(Opaque("openai.chat", "hologram", {})), "the part hologram"),
        (asking(background=True), "background work"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_its_name(request_: Request, feature: str) -> None:
    with pytest.raises(CannotCarryError) as refusal:
        check(request_, "anthropic.messages", Notes())
    assert str(refusal.value).startswith(f"This call uses {feature}, which cannot be carried to anthropic.messages: ")
    assert refusal.value.feature == feature


def test_what_only_tunes_the_answer_is_left_out_and_said() -> None:
    notes = Notes()
    check(asking(seed=1, logit_bias={"1": 2}, rest={"web_search_options": {"a": 1}}), "anthropic.messages", notes)
    assert notes.phrases == ["logit_bias left out", "seed left out", "web_search_options left out"]


def test_unknown_fields_are_found_at_every_level() -> None:
    request = asking(
        Text("x", rest={"in_part": 1}),
        tools=[Tool("t", rest={"in_tool": 1})],
        rest={"in_request": 1},
    )
    request.messages.append(
        Message("assistant", [ToolCall("1", "t", "{}", rest={"in_call": 1})], rest={"in_message": 1})
    )
    named = {feature for feature in features_of(request) if feature.startswith("the unknown field ")}
    assert named == {
        f"the unknown field {name}" for name in ("in_part", "in_tool", "in_request", "in_call", "in_message")
    }


def test_fields_that_ask_for_nothing_are_no_features() -> None:
    request = asking(
        n=1, store=False, background=False, parallel_tool_calls=True, logprobs=False, rest={"a": None, "b": [], "c": ""}
    )
    assert features_of(request) == set()


def test_proofs_on_thoughts_are_left_out_and_the_conversation_goes_on() -> None:
    request = asking()
    request.messages.append(Message("assistant", [Thinking("hm", signature="s"), Thinking(hidden="h"), Text("y")]))
    notes = Notes()
    check(request, "anthropic.messages", notes)
    assert notes.phrases == ["earlier thoughts left out", "sealed thoughts left out", "signatures left out"]


def test_a_url_whose_bytes_are_wanted_is_found_and_carried_once_it_is_fetched() -> None:
    request = Request("anthropic.messages", "m", [Message("user", [Media("document", url="https://x.test/a.pdf")])])
    with pytest.raises(CannotCarryError, match="it takes the bytes and not a URL"):
        check(request, "openai.chat", Notes())
    (media,) = remote_media(request, "openai.chat")
    media.url, media.data, media.mime = None, "JVBERi0=", "application/pdf"
    check(request, "openai.chat", Notes())
    assert remote_media(request, "openai.chat") == []


def test_a_feature_that_no_table_knows_cannot_be_put_into_a_column() -> None:
    with pytest.raises(ValueError, match="No feature is named 'telepathy'"):
        column(noted=("telepathy",))


def test_notes_are_bounded_and_said_once() -> None:
    notes = Notes()
    for number in range(100):
        notes.add(f"field{number % 50} left out")
    assert len(notes.phrases) == Notes.MAX
