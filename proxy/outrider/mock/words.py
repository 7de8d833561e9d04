"""The emulated model: a deterministic answer and a token count that anybody can redo by hand.

The rules, which tests may rely on:
  text      `Echo: ` and the words of the last user message; with `events: n`, those words over and over, n in all.
  token     one white-space separated word. Prompt tokens = words of every text in the prompt + 1 for each message
            (a system prompt is a message). Completion tokens = words of the answer, or, for a tool call, the words of
            its JSON arguments + 1.
  stream    one event a word (its leading space belongs to it).
  limit     max tokens cuts the answer after that many words, and the finish reason says so.
  tools     a request with tools whose last message is the user's calls them: those that the text names, else the
            first. A forced tool is called alone; choice "none" and a tool's result as last message give text.
  schema    a request for JSON of a schema, when no tool is called, gets that object as its text, in two events.
  arguments are made from the tool's JSON schema: enum's first, a string is the user's last word, 1, 1.5, true, [x].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in no provider's words. `texts` is every text of the prompt, `messages` their number."""

    texts: Sequence[str]
    messages: int
    last_user: str
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"  # "none", "auto", "required", or "=NAME"
    parallel: bool = True
    after_tool_result: bool = False
    max_tokens: int | None = None
    events: int | None = None
    schema: Mapping[str, Any] | None = None  # of the JSON that the answer has to be; {} for any object


@dataclass(frozen=True, slots=True)
class ToolUse:
    name: str
    arguments: dict[str, Any]

    @property
    def text(self) -> str:
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Reply:
    """`pieces` joined are the text; `tools` not empty means that the answer is tool calls and no text."""

    pieces: tuple[str, ...]
    tools: tuple[ToolUse, ...]
    truncated: bool
    prompt_tokens: int
    completion_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def count(text: str) -> int:
    """Tokens of a text: its white-space separated words."""
    return len(text.split())


def think(prompt: Prompt) -> Reply:
    """The model."""
    prompt_tokens = sum(map(count, prompt.texts)) + prompt.messages
    tools = _chosen(prompt)
    if tools:
        uses = tuple(ToolUse(tool.name, _object(tool.schema, prompt.last_user)) for tool in tools)
        return Reply((), uses, False, prompt_tokens, sum(count(use.text) + 1 for use in uses))
    if prompt.schema is not None:
        text = orjson.dumps(_object(prompt.schema, prompt.last_user)).decode()
        return Reply(halves(text), (), False, prompt_tokens, count(text))
    words = ["Echo:", *prompt.last_user.split()]
    if prompt.events is not None:
        words = [words[i % len(words)] for i in range(prompt.events)]
    truncated = prompt.max_tokens is not None and len(words) > prompt.max_tokens
    words = words[: prompt.max_tokens] if truncated else words
    pieces = tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))
    return Reply(pieces, (), truncated, prompt_tokens, len(words))


def vector(text: Any, size: int) -> list[float]:
    """The embedding of a text: a unit vector in which the text's bytes decide which axis it lies on."""
    found = [0.0] * size
    found[sum(orjson.dumps(text)) % size] = 1.0
    return found


def ranked(query: str, documents: Sequence[Any]) -> list[tuple[int, float]]:
    """(index, score), the best first: the share of the query's words that a document has."""
    wanted = set(query.lower().split())
    scores = [len(wanted & set(str(text).lower().split())) / len(wanted) for text in documents]
    return sorted(enumerate(scores), key=lambda one: (-one[1], one[0]))


def halves(text: str) -> tuple[str, ...]:
    """A tool's arguments as a stream sends them: in more than one piece, so that readers must join."""
    middle = len(text) // 2
    return tuple(part for part in (text[:middle], text[middle:]) if part)


def _chosen(prompt: Prompt) -> list[Tool]:
    if not prompt.tools or prompt.tool_choice == "none":
        return []
    if prompt.tool_choice.startswith("="):
        return [tool for tool in prompt.tools if tool.name == prompt.tool_choice[1:]][:1]
    if prompt.after_tool_result and prompt.tool_choice == "auto":
        return []
    named = [tool for tool in prompt.tools if tool.name in prompt.last_user] or list(prompt.tools[:1])
    return named if prompt.parallel else named[:1]


def _object(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _value(part if isinstance(part, dict) else {}, text) for name, part in properties.items()}


def _value(schema: Mapping[str, Any], text: str) -> Any:
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else kind
    match str(kind).lower():  # Gemini writes its types in capitals
        case "integer":
            return 1
        case "number":
            return 1.5
        case "boolean":
            return True
        case "array":
            return [_value(schema.get("items") or {}, text)]
        case "object":
            return _object(schema, text)
        case "null":
            return None
    return (text.split() or ["text"])[-1].strip("?!.,")
