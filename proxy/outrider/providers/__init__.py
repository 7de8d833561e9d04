"""The providers that are built in, by name, in the order in which people read them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from outrider.providers import (
    ai21,
    anthropic,
    azure,
    bedrock,
    cohere,
    deepseek,
    fireworks,
    gemini,
    groq,
    huggingface,
    mistral,
    moonshot,
    ollama,
    openai,
    openrouter,
    perplexity,
    replicate,
    together,
    vertex,
    vllm,
    xai,
)
from outrider.providers.model import Provider

BUILT_IN: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        module.PROVIDER.name: module.PROVIDER
        for module in (
            openai,
            anthropic,
            gemini,
            vertex,
            azure,
            bedrock,
            mistral,
            cohere,
            together,
            moonshot,
            groq,
            deepseek,
            xai,
            perplexity,
            fireworks,
            openrouter,
            huggingface,
            replicate,
            ai21,
            ollama,
            vllm,
        )
    }
)

__all__ = ["BUILT_IN"]
