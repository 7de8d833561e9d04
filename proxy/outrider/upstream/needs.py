"""What a call needs of a model: that it sees images, calls tools, answers in a schema, reasons; room for its text.

Rules: read from the parsed body, in whichever dialect it is; where a part is not understood it asks for nothing; a need
is never guessed from what a text says. Tokens are estimated (a quarter of the bytes), never exact.
Does not know: targets, HTTP.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_IMAGE_TYPES = frozenset({"image", "image_url", "input_image"})
_IMAGE_KEYS = ("inlineData", "inline_data", "fileData", "file_data", "image")
_TURNS = ("messages", "contents", "input", "system", "systemInstruction")
_MAX_PARTS = 20_000  # looked at; a body with more is taken to have what was found so far


@dataclass(frozen=True, slots=True)
class Needs:
    """has: of "vision", "tools", "json", "reasoning". tokens: of the request, estimated. messages: turns."""

    has: frozenset[str] = frozenset()
    tokens: int = 0
    max_tokens: int = -1
    messages: int = 0
    stateful: bool = False


def needs_of(document: dict[str, Any], body_bytes: int, max_tokens: int) -> Needs:
    """body_bytes: of the body as it stands; images in it are not text, and count as one part of it all the same."""
    has: set[str] = set()
    images_bytes = 0
    for part in _parts(document):
        if (
            part.get("type") in _IMAGE_TYPES
            or any(isinstance(part.get(key), dict) for key in _IMAGE_KEYS)
            or (isinstance(part.get("images"), list) and part["images"])  # Ollama's
        ):
            has.add("vision")
            images_bytes += _data_bytes(part)
    if any(document.get(key) for key in ("tools", "functions", "toolConfig", "tool_config")):
        has.add("tools")
    if _wants_json(document):
        has.add("json")
    if _wants_reasoning(document):
        has.add("reasoning")
    turns: list[Any] = next((document[key] for key in _TURNS if isinstance(document.get(key), list)), [])
    tokens = max(body_bytes - images_bytes, 0) // 4 + (1000 if "vision" in has else 0)
    return Needs(frozenset(has), tokens, max_tokens, len(turns), is_stateful(document))


def is_stateful(document: dict[str, Any]) -> bool:
    """Whether it reads or leaves something at the provider, so that a second call is not the same as the first."""
    if any(document.get(key) for key in ("previous_response_id", "conversation", "background", "cachedContent")):
        return True
    return document.get("store") is True


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    left = _MAX_PARTS
    waiting: list[Any] = [document[key] for key in _TURNS if key in document]
    while waiting and left:
        value = waiting.pop()
        left -= 1
        if isinstance(value, list):
            waiting.extend(value[:left])
        elif isinstance(value, dict):
            yield value
            waiting.extend(value[key] for key in ("content", "parts", "output") if isinstance(value.get(key), list))


def _data_bytes(part: dict[str, Any]) -> int:
    total = 0
    waiting: list[Any] = [part]
    for _ in range(32):
        if not waiting:
            break
        value = waiting.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
    return total


def _wants_json(document: dict[str, Any]) -> bool:
    for outer, inner in (("response_format", None), ("text", "format"), ("output_config", "format"),
                         ("output_format", None)):  # fmt: skip
        asked = document.get(outer)
        if inner is not None and isinstance(asked, dict):
            asked = asked.get(inner)
        if isinstance(asked, dict) and asked.get("type") in ("json_object", "json_schema"):
            return True
    generation = document.get("generationConfig")
    if isinstance(generation, dict):
        return bool(generation.get("responseSchema") or generation.get("responseJsonSchema"))
    return document.get("format") == "json" or isinstance(document.get("format"), dict)


def _wants_reasoning(document: dict[str, Any]) -> bool:
    if document.get("reasoning_effort") not in (None, "none", "minimal"):
        return True
    if isinstance(reasoning := document.get("reasoning"), dict) and reasoning.get("effort") not in (None, "none"):
        return True
    if isinstance(thinking := document.get("thinking"), dict):
        return thinking.get("type") in ("enabled", "adaptive")
    return document.get("think") is True
