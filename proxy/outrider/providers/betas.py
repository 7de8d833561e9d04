"""Names of Anthropic's betas, as the hosts of its models have them: some are renamed, and some are refused there.

Rules: a name that a host is known to take goes on; one that it has under another name is renamed; any other is left
out, since Bedrock and Vertex answer 400 to a name that they do not know. What is no such host gets all as they are.
Does not know: where the names stand (a header's list, a body's `anthropic_beta`), requests.
Source: the SDK's list of flags; the hosts' own documentation of what they serve.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

_BOTH: Final = (
    "computer-use-2025-01-24", "computer-use-2025-11-24", "context-1m-2025-08-07", "context-management-2025-06-27",
    "compact-2026-01-12", "tool-search-tool-2025-10-19",
)  # fmt: skip
TAKEN: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "bedrock": frozenset((*_BOTH, "effort-2025-11-24", "fine-grained-tool-streaming-2025-05-14")),
        "vertex": frozenset((*_BOTH, "interleaved-thinking-2025-05-14", "web-search-2025-03-05")),
    }
)
RENAMED: Final[Mapping[str, str]] = MappingProxyType({"advanced-tool-use-2025-11-20": "tool-search-tool-2025-10-19"})


def betas_of(header: str) -> list[str]:
    """The names in a header's value, in order."""
    return [name for part in header.split(",") if (name := part.strip())]


def betas_for(kind: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(names as a provider of this kind has them, once each; those that it does not take)."""
    taken = TAKEN.get(kind)
    kept: list[str] = []
    left: list[str] = []
    for name in names:
        known = name if taken is None else RENAMED.get(name, name)
        to = kept if taken is None or known in taken else left
        if known not in to:
            to.append(known if to is kept else name)
    return kept, left
