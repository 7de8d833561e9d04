"""Who serves a model that was named without its provider.

Rules
- `provider/model` names its provider, if there is one of that name here; a bare name belongs to the provider whose own
  models are called so (MADE_BY), and only while that is one provider: two accounts of the same kind, or a name that
  nobody claims, are said, never guessed at.
- What config mentions counts before what it does not: one configured provider of the right kind is the owner, however
  many others could serve the model.

Does not know: aliases of config, which models exist, credentials.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from outrider.providers.registry import Binding, Registry

# kind -> how the names of its own models begin; compared without case. The longest beginning wins.
MADE_BY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": (
            "gpt-", "chatgpt-", "o1", "o3", "o4", "codex-", "computer-use-", "text-embedding-", "davinci-", "babbage-",
            "omni-moderation-", "text-moderation-", "dall-e-", "whisper-", "tts-", "sora-", "ft:gpt-",
        ),
        "anthropic": ("claude-",),
        "gemini": (
            "gemini-", "gemma-", "learnlm-", "imagen-", "veo-", "text-embedding-004", "embedding-001", "models/",
        ),
        "mistral": (
            "mistral-", "ministral-", "codestral-", "magistral-", "devstral-", "pixtral-", "voxtral-", "open-mistral-",
            "open-mixtral-", "open-codestral-",
        ),
        "cohere": ("command", "embed-english-", "embed-multilingual-", "embed-v", "rerank-", "c4ai-", "aya-"),
        "deepseek": ("deepseek-",),
        "xai": ("grok-",),
        "moonshot": ("kimi-", "moonshot-"),
        "perplexity": ("sonar", "pplx-"),
        "ai21": ("jamba-",),
        "bedrock": (
            "anthropic.", "amazon.", "meta.", "cohere.", "mistral.", "ai21.", "us.anthropic.", "eu.anthropic.",
            "apac.anthropic.", "global.anthropic.", "us.amazon.", "eu.amazon.", "us.meta.", "arn:aws:bedrock:",
        ),
        "fireworks": ("accounts/fireworks/",),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """Who serves it, and the model's name there."""

    binding: Binding
    model: str


class UnknownModelError(LookupError):
    """str(): one sentence that names the model and says what to write instead."""


def owner_of(model: str, registry: Registry) -> Owner:
    """Raises: UnknownModelError."""
    name, slash, rest = model.partition("/")
    if slash and rest and (binding := registry.by_name(name)) is not None:
        return Owner(binding, rest)
    shown = model[:80]
    kind = maker_of(model)
    if kind is None:
        raise UnknownModelError(
            f"no provider here is known to serve {shown!r}; write it as provider/model, or name it under models"
        )
    serving = [binding for binding in registry.bindings.values() if binding.provider.kind == kind]
    configured = [binding for binding in serving if binding.settings is not None] or serving
    if len(configured) != 1:
        names = " and ".join(sorted(binding.name for binding in configured)) or "no provider"
        raise UnknownModelError(f"{shown!r} could be served by {names}; write it as provider/model")
    return Owner(configured[0], model)


def maker_of(model: str) -> str | None:
    """The kind of provider whose own model this is, by its name."""
    lower = model.lower()
    found = [(len(start), kind) for kind, starts in MADE_BY.items() for start in starts if lower.startswith(start)]
    return max(found)[1] if found else None
