"""What Gemini's requests, answers and chunks have in common: parts, finish reasons, usage.

Rules
- Names are read as camelCase and as snake_case, since proto3's JSON has both, and written as camelCase.
- A signature is given back with the part that it came with; the first call of a turn that came without one (from
  another provider, or from an app that lost it) gets the value that Google names for this, or Gemini 3 refuses the turn.

Does not know: streams.
Source: google/genai/types.py; ai.google.dev/gemini-api/docs/thought-signatures.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json, Notes
from outrider.dialects.canonical import (
    Choice,
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
from outrider.dialects.values import REST, Fields, argument_object, known, text

__all__ = [
    "FINISH",
    "NAME",
    "PART_FIELDS",
    "SKIP_SIGNATURE",
    "camel",
    "camels",
    "finish_of",
    "finish_written",
    "kind_of_mime",
    "needs_signature",
    "read_part",
    "usage_written",
    "write_part",
]

NAME: Final = "gemini.generate"
SKIP_SIGNATURE: Final = "skip_thought_signature_validator"

PART_FIELDS: Final[Fields] = {
    "text": "text",
    "thought": "thinking",
    "thoughtSignature": "signature",
    "inlineData": "media",
    "fileData": "media",
    "functionCall": "tool calls",
    "functionResponse": "tool results",
    "executableCode": "opaque",
    "codeExecutionResult": "opaque",
    "toolCall": "opaque",
    "toolResponse": "opaque",
    "videoMetadata": REST,
    "mediaResolution": REST,
    "mediaProcessing": REST,
    "partMetadata": REST,
    "audioTranscription": REST,
    "speechMetadata": REST,
    "documentMetadata": REST,
    "spreadsheetMetadata": REST,
    "audioMetadata": REST,
}
_KNOWN: Final = known(PART_FIELDS)
_OPAQUE: Final = tuple(name for name, meaning in PART_FIELDS.items() if meaning == "opaque")

FINISH: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "LANGUAGE": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
        "MODEL_ARMOR": "content_filter",
        "CONTINUATION": "pause",
        "OTHER": "error",
        "MALFORMED_FUNCTION_CALL": "error",
        "MALFORMED_RESPONSE": "error",
        "UNEXPECTED_TOOL_CALL": "error",
        "TOO_MANY_TOOL_CALLS": "error",
        "MISSING_THOUGHT_SIGNATURE": "error",
        "IMAGE_OTHER": "error",
        "NO_IMAGE": "error",
    }
)
# Some clients of Vertex write the number of the enumeration.
_NUMBERED: Final = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER", 6: "BLOCKLIST",
                    7: "PROHIBITED_CONTENT", 8: "SPII", 9: "MALFORMED_FUNCTION_CALL"}  # fmt: skip
_FINISH_BACK: Final[Mapping[FinishReason, str]] = MappingProxyType(
    {
        "stop": "STOP",
        "stop_sequence": "STOP",
        "tool_calls": "STOP",
        "length": "MAX_TOKENS",
        "content_filter": "SAFETY",
        "refusal": "SAFETY",
        "pause": "STOP",
        "error": "OTHER",
    }
)
_FOR_SNAKE: Final = re.compile(r"_([a-z0-9])")


def camel(name: str) -> str:
    return _FOR_SNAKE.sub(lambda found: found[1].upper(), name) if "_" in name else name


def camels(holder: Json) -> Json:
    """The same with camelCase names; the object itself where they are (the usual case)."""
    for name in holder:
        if "_" in name:
            return {camel(key): value for key, value in holder.items()}
    return holder


# -- parts, read


def read_part(part: Json, where: Json | None = None) -> Part:
    """Whatever it is: what has no place is Opaque."""
    part = camels(part)
    rest = None if part.keys() <= _KNOWN else {key: value for key, value in part.items() if key not in _KNOWN}
    signature = part.get("thoughtSignature")
    signature = signature if type(signature) is str else None
    value = part.get("text")
    if type(value) is str:
        if part.get("thought") is True:
            return Thinking(value, signature, rest=rest)
        return Text(value, signature=signature, rest=rest)
    for name, reader in _READERS:
        inner = part.get(name)
        if type(inner) is dict:
            return reader(camels(inner), signature, rest)
    for name in _OPAQUE:
        if name in part:
            return Opaque(NAME, name, part)
    if signature is not None and len(part) == 1:
        return Text("", signature=signature)
    return Opaque(NAME, next(iter(part), "empty"), part)


def _call(inner: Json, signature: str | None, rest: Json | None) -> ToolCall:
    args = inner.get("args")
    arguments = orjson.dumps(args).decode() if type(args) is dict and args else "{}"
    return ToolCall(text(inner.get("id")), text(inner.get("name")), arguments, signature=signature, rest=rest)


def _result(inner: Json, signature: str | None, rest: Json | None) -> ToolResult:
    """{"result": text} and {"output": text} are what SDKs wrap a plain result in; anything else is JSON."""
    response = inner.get("response")
    parts: list[Part] = []
    is_error = False
    if type(response) is dict:
        only = next(iter(response)) if len(response) == 1 else ""
        is_error = only == "error"
        if only in ("result", "output", "error") and type(response[only]) is str:
            parts.append(Text(response[only], rest={"response": ""} if only == "output" else None))
        else:
            parts.append(Text(orjson.dumps(response).decode()))
    for part in inner.get("parts") or ():
        if type(part) is dict:
            parts.append(read_part(part))
    more = {key: inner[key] for key in ("willContinue", "scheduling") if inner.get(key) is not None}
    if more:
        rest = (rest or {}) | more
    return ToolResult(text(inner.get("id")), parts, text(inner.get("name")), is_error, rest=rest)


_KINDS: Final[Mapping[str, MediaKind]] = {"image": "image", "audio": "audio", "video": "video"}


def kind_of_mime(mime: str | None) -> MediaKind:
    return _KINDS.get((mime or "").partition("/")[0], "document")


def _inline(inner: Json, signature: str | None, rest: Json | None) -> Media:
    mime = inner.get("mimeType")
    media = Media(kind_of_mime(mime), mime, text(inner.get("data")), name=inner.get("displayName"), rest=rest)
    if signature is not None:
        media.rest = (rest or {}) | {"thoughtSignature": signature}
    return media


# Files that live with Google: nobody else can open them.
_OWN_FILE: Final = re.compile(r"gs://|https://generativelanguage\.googleapis\.com/|files/")
_ENDINGS: Final[Mapping[str, MediaKind]] = {
    "png": "image", "jpg": "image", "jpeg": "image", "gif": "image", "webp": "image", "mp3": "audio", "wav": "audio",
    "mp4": "video", "mov": "video", "webm": "video",
}  # fmt: skip


def _file(inner: Json, signature: str | None, rest: Json | None) -> Media:
    mime, uri = inner.get("mimeType"), text(inner.get("fileUri"))
    kind = kind_of_mime(mime) if mime else _ENDINGS.get(uri.rpartition(".")[2].lower(), "document")
    if mime is None and ("youtube.com/" in uri or "youtu.be/" in uri):
        kind = "video"
    media = Media(kind, mime, name=inner.get("displayName"), rest=rest)
    if _OWN_FILE.match(uri):
        media.file_id = uri
    else:
        media.url = uri
    return media


_READERS: Final[tuple[tuple[str, Any], ...]] = (
    ("functionCall", _call),
    ("functionResponse", _result),
    ("inlineData", _inline),
    ("fileData", _file),
)


# -- parts, written


def write_part(part: Part, is_own: bool, notes: Notes) -> Json | None:
    """None for what has no place here."""
    made: Json
    if isinstance(part, Text):
        made = {"text": part.text}
        if is_own and part.signature:
            made["thoughtSignature"] = part.signature
    elif isinstance(part, ToolCall):
        made = _written_call(part, is_own, notes)
    elif isinstance(part, Thinking):
        if not part.text and not part.signature:
            return None
        made = {"text": part.text, "thought": True}
        if is_own and part.signature:
            made["thoughtSignature"] = part.signature
    elif isinstance(part, Media):
        made = _written_media(part)
    elif isinstance(part, Refusal):
        made = {"text": part.text}
    elif isinstance(part, Opaque):
        return part.value if is_own and part.origin == NAME else None
    else:
        made = {"functionResponse": written_result(part, part.name, part.call_id, is_own, notes)}
    if is_own and part.rest:
        made |= {
            key: value for key, value in part.rest.items() if key not in ("response", "willContinue", "scheduling")
        }
    return made


def _written_call(part: ToolCall, is_own: bool, notes: Notes) -> Json:
    call: Json = {"name": part.name, "args": argument_object(part.arguments, notes)}
    if part.id and is_own:
        call["id"] = part.id
    made: Json = {"functionCall": call}
    if is_own and part.signature:
        made["thoughtSignature"] = part.signature
    return made


def _written_media(part: Media) -> Json:
    if part.text is not None:
        return {"text": part.text}
    uri = part.url if part.url is not None else part.file_id
    if uri is not None:
        file: Json = {"fileUri": uri}
        if part.mime is not None:
            file["mimeType"] = part.mime
        return {"fileData": file}
    blob: Json = {"mimeType": part.mime or _MIME[part.kind], "data": part.data or ""}
    if part.name is not None and part.rest and "displayName" in part.rest:
        blob["displayName"] = part.name
    return {"inlineData": blob}


_MIME: Final = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4", "document": "application/pdf"}


def written_result(part: ToolResult, name: str, call_id: str, is_own: bool, notes: Notes) -> Json:
    """name: of the function, which Google wants; the other dialects go by the id alone."""
    texts = [one.text for one in part.parts if isinstance(one, (Text, Refusal))]
    joined = "".join(texts)
    response: Any = None
    if len(texts) == 1 and joined[:1] == "{":
        try:
            response = orjson.loads(joined)
        except orjson.JSONDecodeError:
            response = None
    if type(response) is not dict or part.is_error:
        first = part.parts[0] if part.parts else None
        as_output = is_own and isinstance(first, Text) and first.rest is not None and "response" in first.rest
        response = {"error" if part.is_error else "output" if as_output else "result": joined}
    made: Json = {"name": name, "response": response}
    if call_id:
        made["id"] = call_id
    media = [made for one in part.parts if isinstance(one, Media) and (made := write_part(one, is_own, notes))]
    if media:
        made["parts"] = media
    if is_own and part.rest:
        made |= {key: part.rest[key] for key in ("willContinue", "scheduling") if key in part.rest}
    return made


def needs_signature(model: str) -> bool:
    """Whether a call without a signature is refused: Gemini 3 and later."""
    found = re.search(r"gemini-(\d+)", model)
    return found is not None and int(found[1]) >= 3


# -- ends


def finish_of(native: Any, has_calls: bool) -> tuple[FinishReason | None, str | None]:
    """(ours, the provider's word). Google says STOP also where it wants tools to be called."""
    if type(native) is int:
        native = _NUMBERED.get(native, "OTHER")
    if type(native) is not str or native == "FINISH_REASON_UNSPECIFIED":
        return None, None
    finish = FINISH.get(native, "error")
    return ("tool_calls" if finish == "stop" and has_calls else finish), native


def finish_written(finish: FinishReason | None, native: str | None, notes: Notes) -> str | None:
    if native is not None:
        return native
    if finish is None:
        return None
    if finish == "pause":
        notes.add("the turn was paused")
    return _FINISH_BACK[finish]


def usage_written(usage: Usage) -> Json:
    """promptTokenCount holds what came from the cache; candidatesTokenCount leaves thoughts out."""
    made: Json = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.reasoning_tokens:
        made["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.cache_read_tokens:
        made["cachedContentTokenCount"] = usage.cache_read_tokens
    return made


def choice_parts(choice: Choice, is_own: bool, notes: Notes) -> list[Json]:
    return [made for part in choice.parts if (made := write_part(part, is_own, notes)) is not None]
