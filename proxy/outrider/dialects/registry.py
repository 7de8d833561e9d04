"""Dialects by name; a module is imported when its name is first asked for.

Does not know: providers, operations.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Final

from outrider.dialects.base import Dialect

__all__ = ["MODULES", "dialect"]

# name, as in providers' Operation.dialect -> module of this package, and its name there where that is not DIALECT
MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": "openai_chat",
        "openai.responses": "openai_responses",
        "openai.completions": "openai_completions",
        "anthropic.messages": "anthropic_messages",
        "gemini.generate": "gemini_generate",
        "bedrock.converse": "bedrock_converse",
        "bedrock.invoke": "bedrock_invoke",
        "ollama.chat": "ollama",
        "ollama.generate": "ollama:GENERATE",
        "cohere.chat": "cohere_chat",
        "replicate.predictions": "replicate",
    }
)


@cache
def _load(module: str) -> Dialect:
    file, _, name = module.partition(":")
    found: Dialect = getattr(import_module(f"outrider.dialects.{file}"), name or "DIALECT")
    return found


def dialect(name: str) -> Dialect | None:
    """None where no adapter has that name."""
    module = MODULES.get(name)
    return _load(module) if module is not None else None
