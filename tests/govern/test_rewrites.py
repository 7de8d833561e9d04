"""Edits in each dialect's own shape, and where there is no place for one."""

from copy import deepcopy
from typing import Any

import pytest

from outrider.govern.cases import Asked, facts_for
from outrider.govern.reading import Facts, ReadError
from outrider.govern.rewrites import RewriteError, edit
from outrider.govern.rules import Rewrite, Route

PLACES = {
    "chat": Asked(),
    "local chat": Asked(provider="local", kind="openai"),
    "groq": Asked(provider="groq", path="/openai/v1/chat/completions"),
    "responses": Asked(path="/v1/responses"),
    "messages": Asked(provider="anthropic", path="/v1/messages"),
    "gemini": Asked(provider="gemini", path="/v1beta/models/g:generateContent"),
    "converse": Asked(provider="bedrock", path="/model/m/converse"),
    "ollama": Asked(provider="local", kind="ollama", path="/api/chat"),
    "generate": Asked(provider="local", kind="ollama", path="/api/generate"),
    "cohere": Asked(provider="cohere", path="/v2/chat"),
    "cohere v1": Asked(provider="cohere", path="/v1/chat"),
    "embeddings": Asked(path="/v1/embeddings"),
}


def facts(name: str) -> Facts:
    found = facts_for(PLACES[name])
    assert found.known, name
    return found


def edited(name: str, body: dict[str, Any], **rewrite: Any) -> dict[str, Any]:
    document = deepcopy(body)
    changed = edit(document, facts(name), Rewrite.model_validate(rewrite))
    assert changed == (document != body)
    return document


@pytest.mark.parametrize(
    ("name", "body", "left"),
    [
        ("chat", {}, {"max_completion_tokens": 9}),
        ("groq", {}, {"max_tokens": 9}),
        ("chat", {"max_tokens": 5}, {"max_tokens": 5}),
        ("chat", {"max_tokens": 50}, {"max_tokens": 9}),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 50}, {"max_tokens": 5, "max_completion_tokens": 9}),
        ("chat", {"max_tokens": None}, {"max_completion_tokens": 9}),
        ("chat", {"Max_Tokens": 50}, {"Max_Tokens": 9}),
        ("responses", {"max_output_tokens": 50}, {"max_output_tokens": 9}),
        ("responses", {}, {"max_output_tokens": 9}),
        ("messages", {"max_tokens": 50}, {"max_tokens": 9}),
        ("gemini", {"generation_config": {"max_output_tokens": "50"}}, {"generation_config": {"max_output_tokens": 9}}),
        ("gemini", {"generation_config": {"topK": 1}}, {"generation_config": {"topK": 1, "maxOutputTokens": 9}}),
        ("gemini", {}, {"generationConfig": {"maxOutputTokens": 9}}),
        ("converse", {"inferenceConfig": {"maxTokens": 50}}, {"inferenceConfig": {"maxTokens": 9}}),
        ("converse", {}, {"inferenceConfig": {"maxTokens": 9}}),
        ("ollama", {"options": {"num_predict": -1}}, {"options": {"num_predict": 9}}),
        ("ollama", {}, {"options": {"num_predict": 9}}),
        ("cohere", {"max_tokens": 9.0}, {"max_tokens": 9.0}),
    ],
)
def test_max_tokens_is_cut_under_whichever_name_it_has(name: str, body: Any, left: Any) -> None:
    assert edited(name, body, max_tokens=9) == left


@pytest.mark.parametrize("value", ["many", True, 1.5, [1]])
def test_a_number_that_is_none_is_an_error(value: object) -> None:
    with pytest.raises(ReadError):
        edited("chat", {"max_tokens": value}, max_tokens=9)


MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("name", "body", "left"),
    [
        ("chat", {"messages": MESSAGES}, {"messages": [{"role": "system", "content": "P"}, *MESSAGES]}),
        ("responses", {"input": "x"}, {"input": "x", "instructions": "P"}),
        ("responses", {"instructions": "I"}, {"instructions": "P\n\nI"}),
        ("messages", {"system": "S"}, {"system": "P\n\nS"}),
        ("messages", {"system": [{"type": "text", "text": "S"}]},
         {"system": [{"type": "text", "text": "P"}, {"type": "text", "text": "S"}]}),
        ("gemini", {}, {"systemInstruction": {"parts": [{"text": "P"}]}}),
        ("gemini", {"system_instruction": {"parts": {"text": "S"}}},
         {"system_instruction": {"parts": [{"text": "P"}, {"text": "S"}]}}),
        ("converse", {"system": [{"text": "S"}]}, {"system": [{"text": "P"}, {"text": "S"}]}),
        ("generate", {}, {"system": "P"}),
        ("ollama", {"messages": MESSAGES}, {"messages": [{"role": "system", "content": "P"}, *MESSAGES]}),
        ("cohere v1", {"message": "x"}, {"message": "x", "preamble": "P"}),
    ],
)  # fmt: skip
def test_a_preamble_stands_where_the_dialect_has_its_system(name: str, body: Any, left: Any) -> None:
    assert edited(name, body, system_preamble="P") == left


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("embeddings", {}),
        ("chat", {"messages": "x"}),
        ("messages", {"system": 7}),
        ("gemini", {"systemInstruction": "x"}),
    ],
)
def test_a_preamble_without_a_place_is_an_error(name: str, body: Any) -> None:
    with pytest.raises(RewriteError):
        edited(name, body, system_preamble="P")


FUNCTION = {"type": "function", "function": {"name": "rm"}}
KEPT = {"type": "function", "function": {"name": "ls"}}


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"tools": [FUNCTION, KEPT], "tool_choice": "auto"}, {"tools": [KEPT], "tool_choice": "auto"}),
        ({"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": True}, {}),
        ({"tools": [FUNCTION, KEPT], "tool_choice": {"type": "function", "function": {"name": "rm"}}},
         {"tools": [KEPT]}),
        ({"functions": [{"name": "rm"}], "function_call": "auto"}, {}),
        ({"tools": [{"name": "rm", "input_schema": {}}]}, {}),
        ({"tools": [{"type": "rm"}]}, {}),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "rm"}}, {"toolSpec": {"name": "ls"}}]}},
         {"toolConfig": {"tools": [{"toolSpec": {"name": "ls"}}]}}),
        ({"tools": [{"functionDeclarations": [{"name": "rm"}, {"name": "ls"}]}, {"googleSearch": {}}]},
         {"tools": [{"functionDeclarations": [{"name": "ls"}]}, {"googleSearch": {}}]}),
        ({"tools": [{"function_declarations": [{"name": "rm"}], "googleSearch": {}}]},
         {"tools": [{"googleSearch": {}}]}),
        ({"tools": [KEPT]}, {"tools": [KEPT]}),
    ],
)  # fmt: skip
def test_tools_are_taken_out_with_what_chose_them(body: Any, left: Any) -> None:
    assert edited("chat", body, strip_tools=["RM"]) == left


def test_fields_are_forced_and_forbidden_in_any_spelling() -> None:
    assert edited("chat", {"Store": True, "user": "u"}, set={"store": False}, remove=["user"]) == {"store": False}
    assert edited("chat", {"store": False}, set={"store": False}) == {"store": False}
    document: dict[str, Any] = {"store": 0}
    assert edit(document, facts("chat"), Rewrite(set={"store": False}))
    assert document["store"] is False


def test_a_route_changes_the_model_in_the_body_and_nowhere_else() -> None:
    document = {"Model": "a"}
    assert edit(document, facts("chat"), Route(model="b"))
    assert document == {"model": "b"}
    with pytest.raises(RewriteError):
        edit({}, facts("gemini"), Route(model="b"))
