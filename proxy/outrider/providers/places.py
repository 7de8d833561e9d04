"""Where a provider takes a call that was not addressed to it: from (dialect, model, streamed or not) to a path there.

Rules
- What a provider serves is read from its own table of endpoints, the first row of a dialect first; PREFERRED names the
  dialects of providers whose other ones are imitations that carry less than a translation does.
- A model's name is quoted whole where it stands in the path, so that it can never name another path.
- What only this provider wants in a body or a head stands here; what a dialect wants everywhere is the adapter's.

Does not know: hosts, credentials, bodies.
Source: the providers' files beside this one; anthropic (lib/vertex), cloud.google.com/vertex-ai, learn.microsoft.com.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from outrider.providers import BUILT_IN
from outrider.providers.model import Endpoint, Operation, Provider, fill_path
from outrider.providers.registry import Binding

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
# Of what else they serve they are not the origin: other providers' APIs as Anthropic, Google, Cohere and Ollama imitate
# them leave out what a translation carries, and Bedrock's serves a few models only.
PREFERRED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "anthropic": ("anthropic.messages", "anthropic.count_tokens"),
        "gemini": ("gemini.generate", "gemini.embed", "gemini.count_tokens"),
        "bedrock": ("bedrock.converse", "bedrock.invoke"),
        "cohere": ("cohere.chat", "cohere.embed", "cohere.rerank"),
        "ollama": ("ollama.chat", "ollama.generate", "ollama.embed"),
    }
)
# A question for tokens -> the dialect of the call that it is about.
CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic.count_tokens": "anthropic.messages",
        "openai.input_tokens": "openai.responses",
        "gemini.count_tokens": "gemini.generate",
    }
)
# What has no address of its own.
_WRAPPED: Final = dict.fromkeys(
    ("bedrock.titan_embed", "bedrock.cohere_embed", "bedrock.cohere_rerank", "bedrock.amazon_rerank"), "bedrock.invoke"
)
# Asked at one address, whether the app wants a stream or not: the answer comes whole.
_WHOLE: Final = frozenset({"replicate.predictions"})
_CLAUDE: Final = ("claude", "anthropic")
_MESSAGES_AT_BEDROCK: Final = re.compile(r"anthropic\.claude-(?!v2|instant)")  # the older ones have another body
_VERTEX_ANTHROPIC: Final = MappingProxyType({"anthropic_version": "vertex-2023-10-16"})
_ANTHROPIC_VERSION: Final = MappingProxyType({"anthropic-version": "2023-06-01"})


@dataclass(frozen=True, slots=True)
class Place:
    """One path of a provider. path: with its query, quoted.

    body: fields that the provider wants in the body besides. drop: fields that it does not take. headers: what it
    wants where the app sent none.
    """

    operation: Operation
    path: str
    body: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    drop: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


def dialects_of(binding: Binding, model: str, asked: str = "") -> tuple[str, ...]:
    """The dialects in which this provider serves this model, the best first; () where it serves none that we know.

    asked: what the app speaks: which is the best may follow from it.
    """
    kind = binding.provider.kind
    if kind == "bedrock" and asked == "anthropic.messages" and _MESSAGES_AT_BEDROCK.search(model):
        # InvokeModel takes Anthropic's own body, with what Converse has no place for: betas, thinking, marks of caches.
        return ("bedrock.invoke", "bedrock.converse")
    if kind == "vertex":
        if model.startswith(_CLAUDE):
            return ("anthropic.messages", "anthropic.count_tokens")
        return ("gemini.generate", "gemini.count_tokens")
    if kind == "azure" and model.startswith(_CLAUDE):
        return ("anthropic.messages", "anthropic.count_tokens")
    if kind == "bedrock" and "embed" in model:
        return ("bedrock.cohere_embed",) if "cohere." in model else ("bedrock.titan_embed",)
    if kind == "bedrock" and "rerank" in model:
        return ("bedrock.cohere_rerank",) if "cohere." in model else ("bedrock.amazon_rerank",)
    served = tuple(_served(kind))
    if kind == "azure":
        return tuple(dialect for dialect in served if dialect.startswith("openai."))
    return served


def place_of(binding: Binding, dialect: str, model: str, *, stream: bool) -> Place | None:
    """Where `binding` takes a call in `dialect`; None where it does not, or where config does not say enough."""
    found = _at_root(binding, dialect, model, stream=stream)
    if found is None or not binding.base_path:
        return found
    return replace(found, path=binding.base_path.decode("ascii") + found.path)


def _at_root(binding: Binding, dialect: str, model: str, *, stream: bool) -> Place | None:
    kind = binding.provider.kind
    if kind == "vertex":
        return _vertex(binding, dialect, model, stream=stream)
    if kind == "azure":
        return _azure(binding, dialect, model, stream=stream)
    row = _row(binding.provider, _WRAPPED.get(dialect, dialect), stream=stream)
    if row is None:
        return None
    path = _filled(row, model)
    if dialect == "gemini.generate" and stream:
        path += "?alt=sse"
    headers = _ANTHROPIC_VERSION if dialect.startswith("anthropic.") else _NOTHING
    return Place(row.operation, path, headers=headers)


def _vertex(binding: Binding, dialect: str, model: str, *, stream: bool) -> Place | None:
    project = getattr(binding.settings, "project", None)
    if project is None or binding.region is None:
        return None
    row = _row(binding.provider, dialect, stream=stream)
    if row is None:
        return None
    located = f"/projects/{quote(project, safe='')}/locations/{quote(binding.region, safe='')}"
    path = _filled(row, model).replace("/projects/{id}/locations/{id}", located, 1)
    if dialect == "anthropic.messages":
        return Place(row.operation, path, body=_VERTEX_ANTHROPIC, drop=("model",))
    if dialect == "anthropic.count_tokens":  # one path for all models
        return Place(row.operation, path, body=_VERTEX_ANTHROPIC)
    return Place(row.operation, path + ("?alt=sse" if stream else ""))


def _azure(binding: Binding, dialect: str, model: str, *, stream: bool) -> Place | None:
    """The v1 API, or a deployment's path where config names a version of the classic one."""
    version = getattr(binding.settings, "api_version", None)
    if dialect.startswith("anthropic."):
        row = _row(binding.provider, dialect, stream=stream)
        if row is None:
            return None
        return Place(row.operation, _filled(row, model), headers=_ANTHROPIC_VERSION)
    for row in binding.provider.endpoints:
        if row.operation.dialect != dialect or (stream and not row.operation.stream):
            continue
        path = _filled(row, model)
        if path.startswith("/openai/v1/"):
            if version is None:
                return Place(row.operation, path)
            if dialect == "openai.responses":  # it names no deployment, in either API
                return Place(row.operation, f"{path.replace('/v1', '', 1)}?api-version={version}")
        elif version is not None and path.startswith("/openai/deployments/"):
            return Place(row.operation, f"{path}?api-version={version}")
    return None


@lru_cache(maxsize=64)
def _served(kind: str) -> Mapping[str, tuple[Endpoint | None, Endpoint | None]]:
    """dialect -> (the row for a whole answer, the row for a stream), in the table's order."""
    found: dict[str, tuple[Endpoint | None, Endpoint | None]] = {}
    for row in BUILT_IN[kind].endpoints:
        dialect = row.operation.dialect
        if not dialect or "POST" not in row.methods.split() or "{id" in row.template.replace(_LOCATED, ""):
            continue
        if dialect in PREFERRED.get(kind, (dialect,)):
            plain, streamed = found.get(dialect, (None, None))
            if row.operation.stream:
                streamed = streamed or row
            found[dialect] = (plain or row, streamed)
    order = PREFERRED.get(kind, tuple(found))
    return {dialect: found[dialect] for dialect in order if dialect in found}


_LOCATED: Final = "/projects/{id}/locations/{id}"


def _row(provider: Provider, dialect: str, *, stream: bool) -> Endpoint | None:
    plain, streamed = _served(provider.kind).get(dialect, (None, None))
    return streamed if stream and dialect not in _WHOLE else plain


def _filled(row: Endpoint, model: str) -> str:
    return fill_path(row.prefixes[0] + row.template, model)
