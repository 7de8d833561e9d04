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

# name, as in providers' Operation.dialect -> module of this package
MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": "openai_chat",
        "openai.responses": "openai_responses",
        "openai.completions": "openai_completions",
        "anthropic.messages": "anthropic_messages",
    }
)


@cache
def _load(module: str) -> Dialect:
    found: Dialect = import_module(f"outrider.dialects.{module}").DIALECT
    return found


def dialect(name: str) -> Dialect | None:
    """None where no adapter has that name."""
    module = MODULES.get(name)
    return _load(module) if module is not None else None
