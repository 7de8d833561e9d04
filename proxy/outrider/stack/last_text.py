"""What a user said last, apart from all the rest of a request: two requests may ask the same in other words.

Rules
- The rest is everything but that text: system prompt, earlier turns, tools, parameters. Who compares two requests
  compares it whole.
- Nothing is guessed: a last turn that is not a user's words alone (a tool's result, an image), a part of any turn that
  is not in the tables below, a dialect that is not here, or a key that stands twice, and there is no last text.
- Numbers decide what is asked as words do not: whoever compares texts by their meaning compares `numbers` exactly.
Does not know: vectors, tenants.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from outrider_ext.jsonkeys import has_repeated_key

# What a turn may hold: by "type" where parts say it, else by the names that a part has.
_SAID: Final = frozenset(("text", "input_text", "output_text"))
_TYPES: Final = _SAID | {
    "thinking", "redacted_thinking", "reasoning", "refusal", "tool_use", "tool_result", "tool-call", "function_call",
    "function_call_output", "message",
}  # fmt: skip
_NAMES: Final = frozenset(
    (
        "text", "thought", "thoughtSignature", "functionCall", "functionResponse", "toolUse", "toolResult",
        "reasoningContent", "cachePoint",
    )
)  # fmt: skip
_MEDIA: Final = frozenset(("images", "image", "audio", "inlineData", "inline_data", "fileData", "file_data", "source"))
_DEPTH: Final = 64
_NUMBER: Final = re.compile(r"\d+(?:[.,:/]\d+)*")

type Split = tuple[bytes, str]  # all but the text, as JSON with sorted keys; the text


def split_last_text(dialect: str, body: bytes) -> Split | None:
    """The last user's text and the rest; None where there is none, or where the request holds more than text."""
    turns_of = _TURNS.get(dialect)
    if turns_of is None:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or has_repeated_key(body):
        return None
    text = turns_of(value)
    if text is None or not text.strip():
        return None
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS), text


def numbers(text: str) -> str:
    """Every number in it, in order."""
    return " ".join(_NUMBER.findall(text))


def _in_list(name: str, content: str) -> Callable[[dict[str, Any]], str | None]:
    """Turns under `name`, what one says under `content`."""

    def take(value: dict[str, Any]) -> str | None:
        turns = value.get(name)
        if not isinstance(turns, list) or not turns or not all(_is_text(turn, content) for turn in turns):
            return None
        last = turns[-1]
        if last.get("role", "user" if content == "parts" else None) != "user":
            return None
        return _taken(last, content)

    return take


def _input(value: dict[str, Any]) -> str | None:
    """The Responses API: one text, or items."""
    if isinstance(value.get("input"), str):
        return _taken(value, "input")
    return _in_list("input", "content")(value)


def _message(value: dict[str, Any]) -> str | None:
    """Cohere's v1: the text stands alone, earlier turns beside it."""
    if value.get("tool_results") or value.get("documents") or not isinstance(value.get("message"), str):
        return None
    return _taken(value, "message")


def _taken(holder: dict[str, Any], name: str) -> str | None:
    """The text, which is null where it stood."""
    said = holder.get(name)
    if isinstance(said, str):
        holder[name] = None
        return said
    if not isinstance(said, list) or not said:
        return None
    texts = []
    for part in said:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            return None
        if not _is_one_of(part.get("type", "text"), _SAID):
            return None
        if "type" not in part and set(part) != {"text"}:
            return None
        texts.append(part["text"])
        part["text"] = None
    return "\n".join(texts)


def _is_one_of(kind: Any, known: frozenset[str]) -> bool:
    return isinstance(kind, str) and kind in known


def _is_text(turn: Any, content: str) -> bool:
    """Whether a turn holds words, calls of tools and their results, and nothing else."""
    if not isinstance(turn, dict) or turn.keys() & _MEDIA:
        return False
    if not _is_one_of(turn.get("type", "message"), _TYPES):
        return False
    return _are_parts(turn.get(content), 0) and _are_parts(turn.get("output"), 0)


def _are_parts(said: Any, depth: int) -> bool:
    if said is None or isinstance(said, str):
        return True
    return isinstance(said, list) and depth < _DEPTH and all(_is_part(part, depth + 1) for part in said)


def _is_part(part: Any, depth: int) -> bool:
    if isinstance(part, str):
        return True
    if not isinstance(part, dict) or part.keys() & _MEDIA:
        return False
    if "type" in part:
        return _is_one_of(part["type"], _TYPES) and _are_parts(part.get("content"), depth)
    if not part.keys() <= _NAMES:
        return False
    result = part.get("toolResult")
    if result is None:
        return True
    inner = result.get("content") if isinstance(result, dict) else None
    return isinstance(inner, list) and all(isinstance(one, dict) and one.keys() <= {"text", "json"} for one in inner)


_TURNS: Final[dict[str, Callable[[dict[str, Any]], str | None]]] = {
    "openai.chat": _in_list("messages", "content"),
    "openai.responses": _input,
    "anthropic.messages": _in_list("messages", "content"),
    "gemini.generate": _in_list("contents", "parts"),
    "bedrock.converse": _in_list("messages", "content"),
    "cohere.chat": _in_list("messages", "content"),
    "cohere.chat_v1": _message,
    "ollama.chat": _in_list("messages", "content"),
}

__all__ = ["Split", "numbers", "split_last_text"]
