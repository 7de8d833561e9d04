"""What lifts make of a request, and which are none."""

from typing import Any

import pytest
from pydantic import ValidationError

from outrider.govern.cases import Asked, Judged, judge
from outrider.govern.plan import CompiledRule, RuleSet
from outrider.govern.rules import Lift, Rule
from outrider.providers.betas import betas_for

DEPLOYED = "/openai/deployments/gpt-4o/chat/completions?api-version=2023-05-15&x=1"


def judged(asked: Asked, *lifts: dict[str, Any], on_error: str = "deny") -> Judged:
    rules = [
        Rule.model_validate({"id": f"r{at}", "description": "D.", "then": {"lift": one}, "on_error": on_error})
        for at, one in enumerate(lifts)
    ]
    return judge(RuleSet([CompiledRule("pack", rule, None) for rule in rules]), asked)


@pytest.mark.parametrize(
    ("version", "path", "left"),
    [
        ("v1", DEPLOYED, "/openai/v1/chat/completions?x=1"),
        ("2025-01-01", DEPLOYED, "/openai/deployments/gpt-4o/chat/completions?x=1&api-version=2025-01-01"),
        ("v1", "/openai/responses?api-version=1", "/openai/v1/responses"),
        ("v1", "/openai/v1/chat/completions", None),
        ("v1", "/openai/v1/chat/completions?api-version=preview", "/openai/v1/chat/completions"),
        ("2025-01-01", "/openai/v1/embeddings", "/openai/deployments/m%2Fn/embeddings?api-version=2025-01-01"),
        ("2025-01-01", "/openai/v1/responses", "/openai/responses?api-version=2025-01-01"),
    ],
)
def test_azures_paths_and_queries_are_those_of_the_version(version: str, path: str, left: str | None) -> None:
    found = judged(Asked(provider="azure", path=path, body={"model": "m/n"}), {"api_version": version})
    assert found.refusal is None
    assert found.lifted.path == left


def test_a_deployment_goes_into_the_body_as_the_model() -> None:
    found = judged(Asked(provider="azure", path=DEPLOYED, body={"messages": []}), {"api_version": "v1"})
    assert found.document == {"messages": [], "model": "gpt-4o"}


def test_what_has_no_counterpart_is_an_error_of_its_rule() -> None:
    asked = Asked(provider="azure", path="/openai/v1/chat/completions", body={"messages": []})
    for on_error, refused in (("deny", True), ("allow", False)):
        found = judged(asked, {"api_version": "2025-01-01"}, on_error=on_error)
        assert (found.refusal is not None, found.outcome.errors, found.lifted.path) == (refused, ["pack/r0"], None)


def test_a_lift_has_nothing_to_say_of_other_providers_and_operations() -> None:
    everything = {"api_version": "v1", "anthropic_version": "2023-06-01", "functions": "tools", "completions": "chat"}
    found = judged(Asked(provider="gemini", path="/v1beta/models/g:generateContent", body={}), everything)
    assert (found.outcome.rules, found.outcome.heads, found.plan) == ([], [], None)
    found = judged(Asked(body={"model": "m", "messages": []}), everything)
    assert (found.outcome.heads, found.lifted.path, found.lifted.forms) == ([], None, ())


def test_betas_are_renamed_then_dropped_then_kept() -> None:
    betas = {"rename": {"a-1": "b-1"}, "drop": ["c-*"], "keep": ["b-*", "c-*"]}
    asked = Asked(provider="anthropic", path="/v1/messages", headers={"anthropic-beta": "a-1,c-1, d-1 ,b-1"}, body={})
    assert judged(asked, {"anthropic_beta": betas}).outcome.heads == [("pack/r0", {"anthropic-beta": "b-1"})]
    asked = Asked(provider="anthropic", path="/v1/messages", headers={"anthropic-beta": "b-1"}, body={})
    assert judged(asked, {"anthropic_beta": betas}).outcome.heads == []


def test_betas_of_invoke_model_are_lifted_in_the_body() -> None:
    said = ["advanced-tool-use-2025-11-20", "mcp-client-2025-04-04", "context-1m-2025-08-07"]
    asked = Asked(provider="bedrock", path="/model/anthropic.claude/invoke", body={"anthropic_beta": said})
    found = judged(asked, {"anthropic_beta": {"for_host": True}})
    assert found.document == {"anthropic_beta": ["tool-search-tool-2025-10-19", "context-1m-2025-08-07"]}


def test_names_of_betas_are_those_of_the_host() -> None:
    assert betas_for("anthropic", ["x", "y", "x"]) == (["x", "y"], [])
    assert betas_for("vertex", ["x", "web-search-2025-03-05"]) == (["web-search-2025-03-05"], ["x"])


@pytest.mark.parametrize(
    "lift",
    [{}, {"api_version": "2023"}, {"functions": "chat"}, {"anthropic_beta": {}}, {"api_version": None},
     {"anthropic_beta": {"rename": {"a": "b\r\nx-api-key: y"}}}, {"anthropic_version": "2023-06-01\r\n"}],
)  # fmt: skip
def test_a_lift_that_says_nothing_or_no_version_is_refused(lift: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Lift.model_validate(lift)
