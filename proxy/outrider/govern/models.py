"""Which model a request names, wherever it names it, in every spelling under which a rule may know it.

Rules
- What two servers could read differently is refused, not guessed at: a name with characters that no provider's has, a
  query or form field that stands twice, a key that differs from `model` only in case.
- A name has aliases (other spellings of the same model: the end of an ARN, without `models/`) and relatives (a
  fine-tune's base, a regional profile's model). A rule that restricts matches all of them; one that permits, aliases.
- A body may name more than one model (fallbacks, batches, a session): all of them count.

Does not know: rules, which models exist. An opaque ARN (an application's inference profile, a provisioned or imported
model) is its own name only: nobody but the account knows what is behind it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

MAX_MODELS: Final = 64
MAX_MODEL_CHARS: Final = 2048
MAX_FOLDED, MAX_FOLDED_CHARS = 4096, 32
_MAX_DEPTH: Final = 8
_NAME: Final = re.compile(r"[!-$&-~]+\Z")  # visible ASCII but the percent sign: an escape would be a second spelling
_REGIONAL: Final = re.compile(r"(?:us|eu|apac|jp|au|ca|sa|me|af|us-gov|global)\.(?=[a-z0-9-]+\.)")

# Keys that name a model, compared without case, `_` and `-`.
_KEYS: Final = frozenset({"model", "models", "modelid", "modelarn", "fallbacks", "fallbackmodel", "fallbackmodels"})
# Keys below which the app's own words stand: what they call "model" is none.
_CONTENT: Final = frozenset(
    {
        "messages", "input", "inputs", "contents", "content", "system", "systeminstruction", "instructions", "prompt",
        "metadata", "documents", "parameters", "inputschema", "jsonschema", "schema", "properties", "responseformat",
        "text", "query", "texts", "labels", "arguments", "user", "tags",
    }
)  # fmt: skip
_WRAPPED_CONTENT: Final = frozenset({"input", "inputconfig"})  # of Gemini's batches: {"input_config": {"requests": …}}
_QUERY_KEYS: Final = frozenset({"model", "deployment", "deployment-id", "deployment_id", "modelid"})


class ModelError(ValueError):
    """The model cannot be told for certain; the message is safe to show."""


@dataclass(frozen=True, slots=True)
class Model:
    """name: as a person would write it. aliases: the same model. relatives: related ones, for rules that restrict."""

    name: str
    aliases: tuple[str, ...]
    relatives: tuple[str, ...]


def named(text: str) -> Model:
    """Raises: ModelError."""
    if not text or len(text) > MAX_MODEL_CHARS or not _NAME.match(text):
        raise ModelError("the model's name holds characters that no model's name has, or is too long")
    aliases, relatives = [text], []
    if text.lower().startswith("arn:"):
        kind, slash, end = text.rpartition(":")[2].partition("/")
        if slash and kind.lower() in ("foundation-model", "inference-profile"):
            aliases.append(end)
    elif "/" in text:
        parts = text.split("/")
        if parts[-2].lower() in ("models", "tunedmodels", "endpoints"):  # models/x, publishers/p/models/x
            aliases.append(parts[-1])
        else:
            relatives.append(parts[-1])
    for alias in tuple(aliases):
        short = alias.rpartition("/")[2]
        bare = _REGIONAL.sub("", short, count=1)
        if bare != short:
            relatives.append(bare)
        pieces = short.split(":")
        if len(pieces) > 1 and not alias.lower().startswith("arn:"):
            relatives.append(pieces[1] if pieces[0].lower() == "ft" and pieces[1] else pieces[0])
        if "@" in short:  # a version on Vertex: claude-sonnet-4@20250514
            relatives.append(short.partition("@")[0])
    return Model(aliases[-1] if aliases else text, tuple(aliases), tuple(relatives))


def in_query(target: bytes) -> list[str]:
    """Models in a target's query. Raises: ModelError where one key stands twice or does not decode."""
    _, mark, query = target.partition(b"?")
    if not mark:
        return []
    seen: dict[str, str] = {}
    for pair in re.split(rb"[&;]", query):
        raw_key, _, raw_value = pair.partition(b"=")
        key = _decoded(raw_key)
        if key is None or key.lower() not in _QUERY_KEYS:
            continue
        value = _decoded(raw_value)
        if value is None:
            raise ModelError("the model in the query is no text")
        if key.lower() in seen:
            raise ModelError("the query names a model twice")
        seen[key.lower()] = value
    return [value for value in seen.values() if value]


def _decoded(raw: bytes) -> str | None:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        return None


_folded: dict[str, str] = {}  # what few keys there are come again and again


def folded(key: str) -> str:
    """Without case, `_` and `-`."""
    known = _folded.get(key)
    if known is None:
        known = key.casefold().replace("_", "").replace("-", "")
        if len(key) <= MAX_FOLDED_CHARS and len(_folded) < MAX_FOLDED:
            _folded[key] = known
    return known


def in_document(document: Mapping[str, Any]) -> list[str]:
    """Models named anywhere in a request's body but in the app's own words. Raises: ModelError."""
    found: list[str] = []
    _gather(document, 0, found)
    unique = list(dict.fromkeys(found))
    if len(unique) > MAX_MODELS:
        raise ModelError(f"the request names more than {MAX_MODELS} models")
    return unique


def _gather(node: Any, depth: int, found: list[str]) -> None:
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, list):
        for item in node:
            if isinstance(item, (dict, list)):
                _gather(item, depth + 1, found)
        return
    seen: set[str] = set()
    for key, value in node.items():
        name = folded(key)
        if name in _KEYS:
            if name in seen:
                raise ModelError(f"the body names {name} in two spellings")
            seen.add(name)
            found += _names(value)
        elif isinstance(value, (dict, list)) and (name not in _CONTENT or (depth and _is_wrapper(name, value))):
            _gather(value, depth + 1, found)


def _is_wrapper(name: str, value: Any) -> bool:
    return name in _WRAPPED_CONTENT and isinstance(value, dict) and any(folded(key) == "requests" for key in value)


def _names(value: Any) -> Iterator[str]:
    """A model field's names: text, a list of them, or {model: …} as some gateways write it."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if folded(key) in ("model", "id", "name", "modelid", "primary") or isinstance(inner, (dict, list)):
                yield from _names(inner)
    elif value is not None:
        raise ModelError("the model's name is no text")
