"""Tools that take free text, for providers whose tools take JSON: the text is one argument, `input`, and back again.

Rules
- What the app asked stays as it was: the request that is written is another one.
- In a stream the text is told when it is whole: a piece of JSON is no piece of it.
- Arguments that are not what was asked for reach the app as they came.

Does not know: dialects.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

import orjson

from outrider.dialects.base import Json
from outrider.dialects.canonical import (
    Answer,
    ArgumentsDelta,
    Message,
    Part,
    PartStart,
    PartStop,
    Request,
    StreamEvent,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["Unwrapping", "as_json", "as_text", "names_of"]

_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's input, as it is, and nothing around it"}},
    "required": ["input"],
    "additionalProperties": False,
}


def names_of(request: Request) -> frozenset[str]:
    return frozenset(tool.name for tool in request.tools if tool.is_custom)


def as_json(request: Request) -> Request:
    """The same call with tools that take JSON in their place. A grammar is told in the description."""
    messages = [_message(message) for message in request.messages]
    return replace(request, tools=[_tool(tool) for tool in request.tools], messages=messages)


def _tool(tool: Tool) -> Tool:
    if not tool.is_custom:
        return tool
    description = tool.description or ""
    definition = (tool.format or {}).get("definition")
    if type(definition) is str:
        description = f"{description}\nThe input follows this grammar:\n{definition}".strip()
    return Tool(tool.name, description or None, _SCHEMA, cache=tool.cache)


def _message(message: Message) -> Message:
    if any(isinstance(part, (ToolCall, ToolResult)) and part.is_custom for part in message.parts):
        return replace(message, parts=[_part(part) for part in message.parts])
    return message


def _part(part: Part) -> Part:
    if isinstance(part, ToolCall) and part.is_custom:
        return replace(part, arguments=orjson.dumps({"input": part.arguments}).decode(), is_custom=False)
    if isinstance(part, ToolResult) and part.is_custom:
        return replace(part, is_custom=False)
    return part


# -- back


def as_text(answer: Answer, names: Collection[str]) -> None:
    """Calls of these tools take free text again."""
    for choice in answer.choices:
        choice.parts = [
            _free(part) if isinstance(part, ToolCall) and part.name in names else part for part in choice.parts
        ]


def _free(call: ToolCall) -> ToolCall:
    return replace(call, arguments=_unwrapped(call.arguments), is_custom=True)


def _unwrapped(arguments: str) -> str:
    try:
        value: Any = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return arguments
    text = value.get("input") if type(value) is dict else None
    return text if type(text) is str else arguments


class Unwrapping:
    """The same for the events of a stream."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held: dict[tuple[int, int], list[str]] = {}  # (choice, part) -> arguments so far

    def events(self, events: list[StreamEvent]) -> list[StreamEvent]:
        out: list[StreamEvent] = []
        for event in events:
            if isinstance(event, PartStart) and isinstance(event.value, ToolCall) and event.value.name in self._names:
                self._held[event.choice, event.part] = [event.value.arguments]
                out.append(replace(event, value=replace(event.value, arguments="", is_custom=True)))
            elif isinstance(event, ArgumentsDelta) and (event.choice, event.part) in self._held:
                self._held[event.choice, event.part].append(event.json)
            else:
                if isinstance(event, PartStop) and (event.choice, event.part) in self._held:
                    words = _unwrapped("".join(self._held.pop((event.choice, event.part))))
                    out.append(ArgumentsDelta(event.choice, event.part, words))
                out.append(event)
        return out
