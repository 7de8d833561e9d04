"""Content blocks of Bedrock Converse (and of Nova's own bodies, which are the same), their ends and their usage.

Rules
- A cachePoint is a block of its own: it is a mark on the part before it, and is written behind that part.
- Bytes are base64 in the JSON, formats are words ("png", "pdf") and not media types.

Does not know: requests, streams.
Source: botocore's data of bedrock-runtime.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json, Notes
from outrider.dialects.canonical import (
    FinishReason,
    Media,
    MediaKind,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from outrider.dialects.values import REST, Fields, argument_object, known, new_id, text

__all__ = [
    "BLOCK_FIELDS",
    "FINISH",
    "NAME",
    "cache_point",
    "finish_written",
    "read_blocks",
    "usage_written",
    "write_blocks",
]

NAME: Final = "bedrock.converse"

BLOCK_FIELDS: Final[Fields] = {
    "text": "text",
    "image": "media",
    "document": "media",
    "video": "media",
    "audio": "media",
    "toolUse": "tool calls",
    "toolResult": "tool results",
    "reasoningContent": "thinking",
    "citationsContent": "citations",
    "cachePoint": "cache",
    "guardContent": "text",
    "searchResult": "opaque",
    "toolAddition": "opaque",
    "toolRemoval": "opaque",
}
SOURCE_FIELDS: Final[Fields] = {
    "format": "mime",
    "name": "name",
    "source": "data, url, text",
    "context": REST,
    "citations": REST,
    "error": REST,
}
_SOURCE: Final = known(SOURCE_FIELDS)

FINISH: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "end_turn": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "stop_sequence": "stop_sequence",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "refusal": "refusal",
        "pause_turn": "pause",
        "malformed_model_output": "error",
        "malformed_tool_use": "error",
        "model_context_window_exceeded": "length",
    }
)
_FINISH_BACK: Final[Mapping[FinishReason, str]] = MappingProxyType(
    {
        "stop": "end_turn",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "stop_sequence": "stop_sequence",
        "content_filter": "content_filtered",
        "refusal": "content_filtered",
        "pause": "end_turn",
        "error": "malformed_model_output",
    }
)

_MIMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "png": "image/png",
        "jpeg": "image/jpeg",
        "gif": "image/gif",
        "webp": "image/webp",
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
        "mkv": "video/x-matroska",
        "mov": "video/quicktime",
        "flv": "video/x-flv",
        "mpg": "video/mpeg",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
        "mp3": "audio/mpeg",
        "wav": "audio/wav",
    }
)
_FORMATS: Final = {mime: form for form, mime in _MIMES.items()} | {
    "image/jpg": "jpeg",
    "audio/mp3": "mp3",
    "audio/x-wav": "wav",
}
_DEFAULTS: Final = {"image": "png", "document": "pdf", "video": "mp4", "audio": "wav"}


def _mime(kind: str, form: Any) -> str | None:
    if type(form) is not str:
        return None
    return _MIMES.get(form) or f"{'application' if kind == 'document' else kind}/{form}"


def _format(part: Media) -> str:
    if part.mime is None:
        return "txt" if part.text is not None else _DEFAULTS[part.kind]
    return _FORMATS.get(part.mime) or part.mime.rpartition("/")[2]


# -- read


def read_blocks(blocks: list[Any]) -> list[Part]:
    parts: list[Part] = []
    for block in blocks:
        if type(block) is not dict:
            continue
        point = block.get("cachePoint")
        if type(point) is dict and parts and not isinstance(parts[-1], (Thinking, Refusal, Opaque)):
            parts[-1].cache = {"type": "ephemeral"} | ({"ttl": point["ttl"]} if "ttl" in point else {})
        else:
            parts.append(_block(block))
    return parts


def _block(block: Json) -> Part:
    value = block.get("text")
    if type(value) is str:
        return Text(value)
    for name, inner in block.items():
        reader = _READERS.get(name)
        if reader is not None and type(inner) is dict:
            part: Part = reader(inner)
            return part
    return Opaque(NAME, next(iter(block), "empty"), block)


def _tool_use(inner: Json) -> ToolCall:
    given = inner.get("input")
    arguments = orjson.dumps(given).decode() if given else "{}"
    return ToolCall(
        text(inner.get("toolUseId")), text(inner.get("name")), arguments, server=inner.get("type") is not None
    )


def _tool_result(inner: Json) -> ToolResult:
    rows = inner.get("content")
    parts: list[Part] = []
    for row in rows if type(rows) is list else ():
        if type(row) is dict and "json" in row:
            parts.append(Text(orjson.dumps(row["json"]).decode(), rest={"json": ""}))
        elif type(row) is dict:
            parts.append(_block(row))
    rest = {"type": inner["type"]} if "type" in inner else None
    return ToolResult(text(inner.get("toolUseId")), parts, is_error=inner.get("status") == "error", rest=rest)


def _reasoning(inner: Json) -> Thinking:
    spoken = inner.get("reasoningText")
    if type(spoken) is dict:
        signature = spoken.get("signature")
        return Thinking(text(spoken.get("text")), signature if type(signature) is str else None)
    return Thinking(hidden=text(inner.get("redactedContent")))


def _cited(inner: Json) -> Text:
    words = "".join(text(one.get("text")) for one in inner.get("content") or () if type(one) is dict)
    citations = [one for one in inner.get("citations") or () if type(one) is dict]
    return Text(words, citations=[_citation(one) for one in citations])


def _citation(citation: Json) -> Json:
    """With the name that other dialects look for beside AWS's own."""
    location = citation.get("location")
    web = location.get("web") if type(location) is dict else None
    return citation | {"url": web["url"]} if type(web) is dict and "url" in web else citation


def _guarded(inner: Json) -> Part:
    words = inner.get("text")
    if type(words) is dict:
        return Text(text(words.get("text")), rest={"guardContent.qualifiers": words.get("qualifiers") or ""})
    return Opaque(NAME, "guardContent", {"guardContent": inner})


def _media(kind: MediaKind) -> Any:
    def read(inner: Json) -> Media:
        source = inner.get("source")
        source = source if type(source) is dict else {}
        media = Media(kind, _mime(kind, inner.get("format")), name=inner.get("name"))
        media.rest = {key: value for key, value in inner.items() if key not in _SOURCE} or None
        if type(source.get("bytes")) is str:
            media.data = source["bytes"]
        elif type(source.get("text")) is str:
            media.text = source["text"]
        elif type(source.get("content")) is list:
            pieces = [text(one.get("text")) for one in source["content"] if type(one) is dict]
            media.text = "\n".join(pieces)
            media.rest = (media.rest or {}) | ({"source.content": pieces} if len(pieces) > 1 else {})
        elif type(source.get("s3Location")) is dict:
            media.file_id = text(source["s3Location"].get("uri"))
            if "bucketOwner" in source["s3Location"]:
                media.rest = (media.rest or {}) | {"bucketOwner": source["s3Location"]["bucketOwner"]}
        return media

    return read


_READERS: Final[dict[str, Any]] = {
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
    "guardContent": _guarded,
    "image": _media("image"),
    "document": _media("document"),
    "video": _media("video"),
    "audio": _media("audio"),
}


# -- written


def cache_point(cache: Json) -> Json:
    point: Json = {"type": "default"}
    if cache.get("ttl") in ("5m", "1h"):
        point["ttl"] = cache["ttl"]
    return {"cachePoint": point}


def write_blocks(parts: list[Part], is_own: bool, notes: Notes) -> list[Json]:
    blocks: list[Json] = []
    for part in parts:
        if type(part) is Text and not part.citations and not part.rest:
            if part.text:  # an empty block is refused
                blocks.append({"text": part.text})
        else:
            made = _written(part, is_own, notes)
            if made is not None:
                blocks.append(made)
        if not isinstance(part, (Thinking, Refusal, Opaque)) and part.cache is not None:
            blocks.append(cache_point(part.cache))
    return blocks


def _written(part: Part, is_own: bool, notes: Notes) -> Json | None:
    if isinstance(part, Text):
        return _written_text(part, is_own)
    if isinstance(part, ToolCall):
        use: Json = {
            "toolUseId": part.id or new_id("tooluse_"),
            "name": part.name,
            "input": argument_object(part.arguments, notes),
        }
        if part.server:
            use["type"] = "server_tool_use"
        return {"toolUse": use} if is_own or not part.server else None
    if isinstance(part, ToolResult):
        result: Json = {"toolUseId": part.call_id, "content": _written_result(part, is_own, notes)}
        if part.is_error:
            result["status"] = "error"
        if is_own and part.rest:
            result |= part.rest
        return {"toolResult": result}
    if isinstance(part, Media):
        return _written_media(part, is_own)
    if isinstance(part, Thinking):
        return _written_thinking(part, is_own)
    if isinstance(part, Refusal):
        return {"text": part.text} if part.text else None
    return part.value if is_own and part.origin == NAME else None


def _written_text(part: Text, is_own: bool) -> Json | None:
    rest = (part.rest if is_own else None) or {}
    if "guardContent.qualifiers" in rest:
        words: Json = {"text": part.text}
        if rest["guardContent.qualifiers"]:
            words["qualifiers"] = rest["guardContent.qualifiers"]
        return {"guardContent": {"text": words}}
    if is_own and part.citations:
        citations = [{key: value for key, value in one.items() if key != "url"} for one in part.citations]
        return {"citationsContent": {"content": [{"text": part.text}], "citations": citations}}
    return {"text": part.text} if part.text else None


def _written_result(part: ToolResult, is_own: bool, notes: Notes) -> list[Json]:
    rows: list[Json] = []
    for one in part.parts:
        if isinstance(one, Text) and is_own and one.rest and "json" in one.rest:
            rows.append({"json": orjson.loads(one.text)})
        elif isinstance(one, Text):
            rows.append({"text": one.text})
        else:
            rows += [made for made in (_written(one, is_own, notes),) if made is not None]
    return rows


def _written_thinking(part: Thinking, is_own: bool) -> Json | None:
    if part.hidden:
        return {"reasoningContent": {"redactedContent": part.hidden}} if is_own else None
    spoken: Json = {"text": part.text}
    if part.signature and is_own:
        spoken["signature"] = part.signature
    return {"reasoningContent": {"reasoningText": spoken}}


# "Alphanumeric characters, whitespace (no more than one in a row), hyphens, parentheses, square brackets"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9\-()\[\]]+")


def _written_media(part: Media, is_own: bool) -> Json:
    form = _format(part)
    made: Json = {"format": form}
    rest = (part.rest if is_own else None) or {}
    if part.text is not None:
        pieces = rest.get("source.content")
        made["source"] = {"content": [{"text": piece} for piece in pieces]} if pieces else {"text": part.text}
    elif part.file_id is not None:
        location = {"uri": part.file_id} | ({"bucketOwner": rest["bucketOwner"]} if "bucketOwner" in rest else {})
        made["source"] = {"s3Location": location}
    else:
        made["source"] = {"bytes": part.data or ""}
    if part.kind == "document":
        name = part.name or "document"
        made["name"] = (
            name if is_own else _NOT_IN_NAMES.sub(" ", name.rpartition(".")[0] or name).strip()[:200] or "document"
        )
    made |= {key: value for key, value in rest.items() if key not in ("source.content", "bucketOwner")}
    return {part.kind: made}


def finish_written(finish: FinishReason | None, native: str | None, notes: Notes) -> str:
    if native is not None:
        return native
    if finish == "pause":
        notes.add("the turn was paused")
    return _FINISH_BACK[finish or "stop"]


def usage_written(usage: Usage | None) -> Json:
    """inputTokens leaves both cache parts out; totalTokens is the sum of all four. SDKs ask for all three."""
    usage = usage or Usage(0, 0)
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    made: Json = {
        "inputTokens": max(0, usage.input_tokens - read - written),
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
    }
    if read or written:
        made["cacheReadInputTokens"] = read
        made["cacheWriteInputTokens"] = written
    if usage.cache_write_1h_tokens:
        rows = [{"ttl": "1h", "inputTokens": usage.cache_write_1h_tokens}]
        if written > usage.cache_write_1h_tokens:
            rows.append({"ttl": "5m", "inputTokens": written - usage.cache_write_1h_tokens})
        made["cacheDetails"] = rows
    return made
