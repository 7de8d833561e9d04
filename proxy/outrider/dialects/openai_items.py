"""Items of OpenAI Responses, in requests, answers and streams; its usage and its annotations.

Does not know: how items make messages.
"""

from collections.abc import Callable
from typing import Any, Final

from outrider.dialects.base import Json, Notes
from outrider.dialects.canonical import Opaque, Part, Refusal, Text, Thinking, ToolCall, ToolResult, Usage
from outrider.dialects.openai_parts import url_annotation
from outrider.dialects.values import REST, Fields, known, listed, new_id, rest_of, text

__all__ = [
    "ITEM_FIELDS",
    "NAME",
    "flat_annotations",
    "read_item",
    "read_output_content",
    "reasoning_item",
    "usage_body",
    "written_call",
]

NAME: Final = "openai.responses"

ITEM_FIELDS: Final[dict[str, Fields]] = {
    "part.output_text": {"type": "", "text": "text", "annotations": "citations", "logprobs": REST},
    "part.refusal": {"type": "", "refusal": "text"},
    "item.function_call": {
        "type": "",
        "call_id": "id",
        "name": "name",
        "arguments": "arguments",
        "id": REST,
        "status": REST,
        "caller": REST,
        "namespace": REST,
        "async": REST,
    },
    "item.custom_tool_call": {
        "type": "",
        "call_id": "id",
        "name": "name",
        "input": "arguments",
        "id": REST,
        "status": REST,
        "caller": REST,
        "namespace": REST,
        "async": REST,
    },
    "item.function_call_output": {"type": "", "call_id": "call_id", "output": "parts", "id": REST, "status": REST},
    "item.custom_tool_call_output": {"type": "", "call_id": "call_id", "output": "parts", "id": REST},
    "item.reasoning": {
        "type": "",
        "id": "id",
        "summary": "text",
        "content": "text",
        "encrypted_content": "hidden",
        "status": REST,
    },
}
_KNOWN: Final = {level.partition(".")[2]: known(fields) for level, fields in ITEM_FIELDS.items()}


def usage_body(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


# -- read


def read_item(item: Json, content: Callable[[Any], list[Part]]) -> Part:
    """Any item but a message. content: reads a result's."""
    kind = item.get("type")
    if kind in ("function_call", "custom_tool_call"):
        is_custom = kind == "custom_tool_call"
        arguments = text(item.get("input" if is_custom else "arguments"))
        call_id = text(item.get("call_id")) or text(item.get("id"))
        return ToolCall(call_id, text(item.get("name")), arguments, is_custom, rest=rest_of(item, _KNOWN[kind]))
    if kind in ("function_call_output", "custom_tool_call_output"):
        made = ToolResult(text(item.get("call_id")), content(item.get("output")), rest=rest_of(item, _KNOWN[kind]))
        made.is_custom = kind == "custom_tool_call_output"
        return made
    if kind == "reasoning":
        return read_reasoning(item)
    return Opaque(NAME, kind if type(kind) is str else "without a type", item)


def read_reasoning(item: Json) -> Thinking:
    summary = [text(part.get("text")) for part in listed(item.get("summary")) if type(part) is dict]
    thought = [text(part.get("text")) for part in listed(item.get("content")) if type(part) is dict]
    made = Thinking("\n\n".join(summary) if summary else "".join(thought), hidden=item.get("encrypted_content"))
    made.id = item.get("id")
    made.summary = bool(summary)
    made.rest = rest_of(item, _KNOWN["reasoning"])
    if len(summary) > 1 or (summary and thought) or len(thought) > 1:  # more than the text says: kept as it stood
        made.rest = (made.rest or {}) | {key: item[key] for key in ("summary", "content") if item.get(key)}
    return made


def read_output_content(part: Json) -> Part:
    """Of a message that the model made."""
    kind = part.get("type")
    if kind == "output_text":
        citations = part.get("annotations")
        made = Text(text(part.get("text")), citations=citations if citations and type(citations) is list else None)
        made.rest = rest_of(part, _KNOWN["output_text"])
        if made.rest == {"logprobs": []}:
            made.rest = None
        return made
    if kind == "refusal":
        return Refusal(text(part.get("refusal")), rest=rest_of(part, _KNOWN["refusal"]))
    return Opaque(NAME, kind if type(kind) is str else "without a type", part)


# -- written


def written_call(part: ToolCall, is_own: bool) -> Json:
    made: Json
    if part.is_custom:
        made = {"type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
    else:
        made = {
            "type": "function_call",
            "call_id": part.id or new_id("call_"),
            "name": part.name,
            "arguments": part.arguments or "{}",
        }
    if is_own and part.rest:
        made |= part.rest
    return made


def reasoning_item(part: Thinking) -> Json:
    made: Json = {"type": "reasoning", "id": part.id or new_id("rs_"), "summary": []}
    if part.text and (part.summary or part.id is None):
        made["summary"] = [{"type": "summary_text", "text": part.text}]
    elif part.text:
        made["content"] = [{"type": "reasoning_text", "text": part.text}]
    if part.hidden is not None and part.id is not None:
        made["encrypted_content"] = part.hidden
    return made | (part.rest or {})


def flat_annotations(part: Text, is_own: bool, notes: Notes) -> list[Json]:
    if is_own:
        return part.citations or []
    made = []
    for citation in part.citations or ():
        annotation = url_annotation(citation, 0, len(part.text))
        if annotation is None:
            notes.add("citations left out")
        else:
            made.append({"type": "url_citation"} | annotation)
    return made
