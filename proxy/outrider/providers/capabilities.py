"""What a model is known not to do, by its name, where config does not say what it does (`models.*.targets.*.has`).

Rules: only what its maker says of it and will not change under that name; a model that is not known here does
everything. The longest beginning of the bare name counts (without a provider's prefix, in any case).
Source: the makers' model pages.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SEES: Final = frozenset[str]()
_BLIND: Final = frozenset({"vision"})
_WORDS_ALONE: Final = frozenset({"vision", "tools", "reasoning"})

_SAME: Final[tuple[tuple[frozenset[str], tuple[str, ...]], ...]] = (
    (_SEES, ("kimi-k2.5",)),
    (_BLIND | {"reasoning"}, ("gpt-3.5", "gpt-4-0613")),
    (
        _BLIND,
        (
            "o1-mini", "o1-preview", "o3-mini", "gpt-oss", "amazon.nova-micro", "command-r", "command-a-03",
            "codestral",
            "open-mistral-7b", "open-mixtral", "mistral-large-2402", "mistral-large-2407", "mistral-large-2411",
            "deepseek-chat", "deepseek-reasoner", "kimi-k2", "jamba", "grok-3", "llama-3.1", "llama-3.3", "llama3.1",
            "llama3.3", "llama3.2:1b", "llama3.2:3b",
        ),
    ),
    (
        _WORDS_ALONE,
        (
            "claude-2", "claude-instant", "anthropic.claude-v2", "anthropic.claude-instant", "amazon.titan-text",
            "command-light",
        ),
    ),
)  # fmt: skip
LACKS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {start: missing for missing, starts in _SAME for start in starts}
)


def lacks(model: str) -> frozenset[str]:
    """Of "vision", "tools", "reasoning"."""
    name = model.lower().rpartition("/")[2]
    found = max((start for start in LACKS if name.startswith(start)), key=len, default=None)
    return LACKS[found] if found is not None else frozenset()
