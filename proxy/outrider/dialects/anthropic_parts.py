"""Content blocks of Anthropic Messages, in requests, answers and streams; finish reasons; usage.

Does not know: where they stand.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import orjson

from outrider.dialects.base import Json, Notes
from outrider.dialects.canonical import (
    FinishReason,
    Media,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from outrider.dialects.values import REST, Fields, argument_object, known, new_id, objects, rest_of, text, typed

__all__ = ["FINISH", "NAME", "PART_FIELDS", "read_part", "usage_body", "written_finish", "written_part"]

NAME: Final = "anthropic.messages"

PART_FIELDS: Final[dict[str, Fields]] = {
    "part.text": {"type": "", "text": "text", "cache_control": "cache", "citations": "citations"},
    "part.image": {"type": "", "source": "mime, data, url, file_id", "cache_control": "cache", "transformations": REST},
    "part.document": {
        "type": "",
        "source": "mime, data, url, file_id, text",
        "title": "name",
        "cache_control": "cache",
        "citations": REST,
        "context": REST,
    },
    "part.thinking": {"type": "", "thinking": "text", "signature": "signature"},
    "part.redacted_thinking": {"type": "", "data": "hidden"},
    "part.tool_use": {
        "type": "",
        "id": "id",
        "name": "name",
        "input": "arguments",
        "cache_control": "cache",
        "caller": REST,
        "toolset_name": REST,
    },
    "part.tool_result": {
        "type": "",
        "tool_use_id": "call_id",
        "content": "parts",
        "is_error": "is_error",
        "cache_control": "cache",
        "toolset_name": REST,
    },
}
_KNOWN: Final = {level.removeprefix("part."): known(fields) for level, fields in PART_FIELDS.items()}

FINISH: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "end_turn": "stop",
        "max_tokens": "length",
        "stop_sequence": "stop_sequence",
        "tool_use": "tool_calls",
        "pause_turn": "pause",
        "refusal": "refusal",
        "model_context_window_exceeded": "length",
    }
)
_FINISH_BACK: Final[Mapping[FinishReason, str]] = MappingProxyType(
    {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "refusal": "refusal",
        "pause": "pause_turn",
        "error": "max_tokens",  # there is no word for it; this one, too, says that something is missing
    }
)


def written_finish(finish: FinishReason | None, notes: Notes) -> str | None:
    if finish is None:
        return None
    if finish == "error":
        notes.add("the answer broke off")
    return _FINISH_BACK[finish]


def usage_body(usage: Usage | None) -> Json:
    """What the SDK wants is there also where nothing was told."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    made: Json = {
        "input_tokens": max(0, usage.input_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
    }
    if usage.cache_write_1h_tokens:
        for_an_hour = usage.cache_write_1h_tokens
        made["cache_creation"] = {
            "ephemeral_1h_input_tokens": for_an_hour,
            "ephemeral_5m_input_tokens": written - for_an_hour,
        }
    if usage.reasoning_tokens:
        made["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return made


# -- read


def read_part(part: Json) -> Part:
    """Raises: UnreadableError."""
    kind = part.get("type")
    if kind == "text":
        return Text(
            typed(part.get("text"), (str,), "content[].text"),
            part.get("cache_control"),
            part.get("citations") or None,
            rest=rest_of(part, _KNOWN["text"]),
        )
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is None:
        return Opaque(NAME, kind if type(kind) is str else "without a type", part)
    return reader(part)


def _media(part: Json) -> Part:
    kind = part["type"]
    source = part.get("source")
    source = source if type(source) is dict else {}
    made = Media(kind, source.get("media_type"), name=part.get("title"), cache=part.get("cache_control"))
    how = source.get("type")
    if how == "base64":
        made.data = typed(source.get("data"), (str,), "content[].source.data")
    elif how == "url":
        made.url = typed(source.get("url"), (str,), "content[].source.url")
    elif how == "file":
        made.file_id = typed(source.get("file_id"), (str,), "content[].source.file_id")
    elif how == "text":
        made.text = typed(source.get("data"), (str,), "content[].source.data")
    else:  # a document of content blocks
        return Opaque(NAME, f"{kind} of {text(how) or 'no source'}", part)
    made.rest = rest_of(part, _KNOWN[kind])
    return made


def _thinking(part: Json) -> Thinking:
    signature = part.get("signature")
    return Thinking(text(part.get("thinking")), signature or None, rest=rest_of(part, _KNOWN["thinking"]))


def _redacted(part: Json) -> Thinking:
    return Thinking(hidden=text(part.get("data")), rest=rest_of(part, _KNOWN["redacted_thinking"]))


def _tool_use(part: Json) -> ToolCall:
    arguments = part.get("input")
    return ToolCall(
        text(part.get("id")),
        text(part.get("name")),
        orjson.dumps(arguments).decode() if arguments is not None else "{}",
        cache=part.get("cache_control"),
        rest=rest_of(part, _KNOWN["tool_use"]),
    )


def _tool_result(part: Json) -> ToolResult:
    content = part.get("content")
    parts: list[Part]
    if type(content) is str:
        parts = [Text(content)]
    else:
        parts = [read_part(one) for one in objects(content, "content[].content")]
    return ToolResult(
        text(part.get("tool_use_id")),
        parts,
        is_error=part.get("is_error") is True,
        cache=part.get("cache_control"),
        rest=rest_of(part, _KNOWN["tool_result"]),
    )


_READERS: Final[Mapping[str, Callable[[Json], Part]]] = MappingProxyType(
    {
        "image": _media,
        "document": _media,
        "thinking": _thinking,
        "redacted_thinking": _redacted,
        "tool_use": _tool_use,
        "tool_result": _tool_result,
    }
)


# -- written


def written_part(part: Part, is_own: bool, notes: Notes, *, in_answer: bool = False) -> Json | None:
    """None for what has no place here; in an answer that is noted, of a request carry.py has said it."""
    made: Json | None
    if isinstance(part, Text):
        made = _written_text(part, is_own, notes, in_answer)
    elif isinstance(part, Opaque):
        if not is_own and in_answer:
            notes.add(f"{part.kind} left out")
        return part.value if is_own else None
    elif isinstance(part, Thinking):
        made = _written_thinking(part, is_own, in_answer, notes)
    elif isinstance(part, ToolCall):
        made = _written_call(part, in_answer, notes)
    elif isinstance(part, ToolResult):
        made = _written_result(part, is_own, notes)
    elif isinstance(part, Refusal):
        made = {"type": "text", "text": part.text} if part.text else None
    else:
        made = _written_media(part)
        if in_answer and not is_own:
            notes.add(f"{part.kind} left out")
            made = {"type": "text", "text": part.text} if part.text else None
    if made is not None and is_own and part.rest:
        made |= part.rest
    return made


def _written_text(part: Text, is_own: bool, notes: Notes, in_answer: bool) -> Json | None:
    if not part.text and not in_answer and not is_own:  # "text content blocks must be non-empty"
        return None
    made: Json = {"type": "text", "text": part.text}
    if part.cache is not None:
        made["cache_control"] = part.cache
    if part.citations and is_own:
        made["citations"] = part.citations
    elif part.citations and in_answer:
        notes.add("citations left out")
    return made


def _written_thinking(part: Thinking, is_own: bool, in_answer: bool, notes: Notes) -> Json | None:
    """Another provider's thoughts are shown, but never sent back: without its own signature they are refused."""
    if is_own and part.hidden is not None:
        return {"type": "redacted_thinking", "data": part.hidden}
    if is_own:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
    if not in_answer:
        return None
    if part.hidden or part.signature:
        notes.add("signatures left out")
    return {"type": "thinking", "thinking": part.text, "signature": ""} if part.text else None


def _written_call(part: ToolCall, in_answer: bool, notes: Notes) -> Json | None:
    if part.server and in_answer:
        notes.add(f"{part.name} left out")
        return None
    if part.signature and in_answer:
        notes.add("signatures left out")
    arguments = argument_object(part.arguments, notes)
    made: Json = {"type": "tool_use", "id": part.id or new_id("toolu_"), "name": part.name, "input": arguments}
    if part.cache is not None:
        made["cache_control"] = part.cache
    return made


def _written_result(part: ToolResult, is_own: bool, notes: Notes) -> Json:
    made: Json = {"type": "tool_result", "tool_use_id": part.call_id}
    parts = part.parts
    first = parts[0] if parts else None
    if len(parts) == 1 and type(first) is Text and first.cache is None and not (is_own and first.rest):
        made["content"] = first.text
    elif parts:
        made["content"] = [one for inner in parts if (one := written_part(inner, is_own, notes)) is not None]
    if part.is_error:
        made["is_error"] = True
    if part.cache is not None:
        made["cache_control"] = part.cache
    return made


def _written_media(part: Media) -> Json:
    if part.url is not None:
        source: Json = {"type": "url", "url": part.url}
    elif part.file_id is not None:
        source = {"type": "file", "file_id": part.file_id}
    elif part.text is not None:
        source = {"type": "text", "media_type": "text/plain", "data": part.text}
    else:
        mime = part.mime or ("image/png" if part.kind == "image" else "application/pdf")
        source = {"type": "base64", "media_type": mime, "data": part.data or ""}
    made: Json = {"type": "image" if part.kind == "image" else "document", "source": source}
    if part.name is not None and part.kind != "image":
        made["title"] = part.name
    if part.cache is not None:
        made["cache_control"] = part.cache
    return made
