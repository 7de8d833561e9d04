"""Who serves a model that was named without its provider."""

import pytest

from outrider.providers import BUILT_IN
from outrider.providers.owners import MADE_BY, UnknownModelError, maker_of, owner_of
from outrider.providers.registry import Registry
from providers.test_places import settings


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-5-mini", "openai"), ("o3", "openai"), ("text-embedding-3-small", "openai"),
        ("Claude-sonnet-4-5", "anthropic"),
        ("gemini-2.5-pro", "gemini"), ("text-embedding-004", "gemini"), ("models/gemini-2.5-pro", "gemini"),
        ("mistral-large-latest", "mistral"), ("mistral.mistral-large-2402-v1:0", "bedrock"),
        ("command-a-03-2025", "cohere"),
        ("deepseek-chat", "deepseek"), ("grok-4", "xai"), ("kimi-k2", "moonshot"), ("sonar-pro", "perplexity"),
        ("jamba-large", "ai21"), ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "bedrock"),
        ("accounts/fireworks/models/x", "fireworks"), ("llama-3", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_tells_who_makes_the_model(model: str, kind: str | None) -> None:
    assert maker_of(model) == kind


def test_every_maker_is_a_provider() -> None:
    assert set(MADE_BY) <= set(BUILT_IN)


def test_a_bare_model_belongs_to_its_one_provider_and_a_prefix_names_any() -> None:
    registry = Registry({"local": settings(kind="vllm", connect_to="http://127.0.0.1:8000")})
    assert owner_of("gpt-5", registry).binding.name == "openai"
    found = owner_of("local/meta-llama/Llama-3", registry)
    assert (found.binding.name, found.model) == ("local", "meta-llama/Llama-3")
    assert owner_of("openrouter/anthropic/claude-x", registry).model == "anthropic/claude-x"


def test_a_configured_account_counts_before_one_that_is_only_built_in() -> None:
    registry = Registry({"work": settings(kind="anthropic")})
    assert owner_of("claude-x", registry).binding.name == "work"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("claude-x", "could be served by a and b; write it as provider/model"),
        ("llama-3", "no provider here is known to serve 'llama-3'"),
        ("nobody/x", "no provider here is known to serve 'nobody/x'"),
    ],
)
def test_what_cannot_be_told_is_said(model: str, says: str) -> None:
    registry = Registry({"a": settings(kind="anthropic"), "b": settings(kind="anthropic")})
    with pytest.raises(UnknownModelError, match=says):
        owner_of(model, registry)
