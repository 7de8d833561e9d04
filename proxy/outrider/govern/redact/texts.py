"""Where text stands in requests, in answers and in the events of a stream, told by shape and not by who sent it.

Rules
- Every string is text unless this page says that it is not: a field that a provider adds next year is read, not missed.
- Not text: names that the protocol matches on (NAMES), what is encrypted or signed (SEALED), and base64 (BLOBS, data:
  URIs).
- Tool arguments are text of a kind of their own, whether they come as an object or as JSON in a string.
- In an event, what is appended to what came before is a Slot, whose key says to which text it belongs (choice, block,
  field); all else in it is whole: a snapshot, a final event that repeats the text.
- The shapes: OpenAI chat and completions (`choices`), responses (`type: response.*`), Anthropic (`content_block_*`),
  Gemini (`candidates`), Bedrock converse (`contentBlockIndex`) and the native events of invoke, Ollama (`done`), Cohere
  v2 (`content-delta`) and v1 (`event_type`). Of an event of another shape every string is a slot, keyed by its path.
Does not know: detectors, framing.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from outrider.govern.redact.stream import ARGUMENTS, JSON_TEXT, TEXT

type Json = dict[str, Any]
type Key = tuple[Any, ...]
type Visit = Callable[[str, str], str | None]  # (text, kind) -> the new text, None where it stays

NAMES: Final = frozenset(
    [
        "id",
        "type",
        "role",
        "object",
        "model",
        "status",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "toolUseId",
        "item_id",
        "response_id",
        "event_id",
        "message_id",
        "generation_id",
        "conversation_id",
        "previous_response_id",
        "modelVersion",
        "responseId",
        "system_fingerprint",
        "finish_reason",
        "stop_reason",
        "finishReason",
        "stopReason",
        "completionReason",
        "done_reason",
        "service_tier",
        "event",
        "event_type",
        "media_type",
        "mime_type",
        "mimeType",
        "format",
        "obfuscation",
        "p",
        "created_at",
        "encoding_format",
        "detail",
        "effort",
        "citation_id",
        "anthropic_version",
    ]
)
SEALED: Final = frozenset(
    [
        "signature",
        "encrypted_content",
        "thoughtSignature",
        "thought_signature",
        "redactedContent",
        "redacted_content",
        "data_signature",
    ]
)
BLOBS: Final = frozenset(
    [
        "data",
        "bytes",
        "b64_json",
        "file_data",
        "image_base64",
        "partial_image_b64",
        "inline_data",
        "inlineData",
        "images",
        "audio",
    ]
)
JSON_KEYS: Final = frozenset(("arguments", "partial_json"))
_TOOL_TYPES: Final = frozenset(
    ("tool_use", "server_tool_use", "mcp_tool_use", "custom_tool_call", "function_call", "mcp_call", "computer_call")
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_\-\s]*")
_DATA_URI: Final = re.compile(r"data:[^,\s]{0,120};base64,", re.IGNORECASE)
_BLOB_CHARS: Final = 64
_NUMBER_MIN: Final = 10**8  # a number of fewer digits is nobody's
ALL: Final[Key] = ()


class Slot(NamedTuple):
    """holder[name] is the next piece of the text `key`."""

    key: Key
    holder: Json
    name: str
    kind: str


class Event(NamedTuple):
    """ends: the beginning of the keys of texts that end with this event, None for none. alone: a piece of one text
    ends the other texts with the same first part of the key.
    """

    slots: list[Slot]
    ends: Key | None = None
    alone: bool = False


# -- whole documents


def is_blob(key: str, value: str) -> bool:
    if value[:5].lower() == "data:" and _DATA_URI.match(value):
        return True
    return key in BLOBS and len(value) >= _BLOB_CHARS and _BASE64.fullmatch(value) is not None


def walk(holder: Any, visit: Visit, kind: str = TEXT, skip: frozenset[tuple[int, str]] = frozenset()) -> bool:
    """Show every text to `visit` and put in its place what it returns; True when something changed."""
    if type(holder) is dict:
        changed = False
        for key, value in list(holder.items()):
            if (id(holder), key) in skip:
                continue
            changed |= _member(holder, key, value, key, visit, kind, skip)
            if kind == ARGUMENTS and (named := visit(key, kind)) is not None:
                holder[named] = holder.pop(key)
                changed = True
        return changed
    changed = False
    for index, value in enumerate(holder):
        changed |= _member(holder, index, value, "", visit, kind, skip)
    return changed


def _member(
    holder: Any, at: Any, value: Any, key: str, visit: Visit, kind: str, skip: frozenset[tuple[int, str]]
) -> bool:
    if type(value) is str:
        if not value or (kind == TEXT and key in NAMES) or key in SEALED or is_blob(key, value):
            return False
        new = visit(value, JSON_TEXT if key in JSON_KEYS and value.lstrip()[:1] in ("{", "[") else kind)
        if new is None:
            return False
        holder[at] = new
        return True
    if type(value) is dict or type(value) is list:
        return walk(value, visit, ARGUMENTS if kind == ARGUMENTS or _is_arguments(holder, key) else kind, skip)
    if type(value) is int and kind == ARGUMENTS and abs(value) >= _NUMBER_MIN:
        new = visit(str(value), kind)
        if new is not None:
            holder[at] = new
            return True
    return False


def _is_arguments(holder: Any, key: str) -> bool:
    if key in ("args", "arguments", "parameters"):  # `parameters` of a declaration is a schema: no harm
        return True
    return key == "input" and type(holder) is dict and (holder.get("type") in _TOOL_TYPES or "toolUseId" in holder)


# -- events


def read_event(event: Json) -> Event:
    for applies, read in _SHAPES:
        if applies(event):
            return _hashable(read(event))
    return _hashable(Event(list(_strings(event, ("?", event.get("type"))))))


def _hashable(event: Event) -> Event:
    """An index that is no index (an object, a list) is told apart by how it is written."""
    try:
        for slot in event.slots:
            hash(slot.key)
        hash(event.ends)
    except TypeError:
        slots = [slot._replace(key=tuple(map(repr, slot.key))) for slot in event.slots]
        return event._replace(slots=slots, ends=None if event.ends is None else tuple(map(repr, event.ends)))
    return event


def _strings(holder: Any, key: Key) -> Iterator[Slot]:
    """Every string below `holder` that is a piece of a text. A list's elements are told apart by their `index`."""
    if type(holder) is list:
        for place, value in enumerate(holder):
            mark = value.get("index", place) if type(value) is dict else place
            if type(value) in (dict, list):
                yield from _strings(value, (*key, mark))
        return
    for name, value in holder.items():
        if type(value) is str:
            if name in NAMES or name in SEALED or name == "name" or is_blob(name, value):
                continue
            yield Slot((*key, name), holder, name, JSON_TEXT if name in JSON_KEYS else TEXT)
        elif type(value) in (dict, list):
            yield from _strings(value, (*key, name))


def _choices(event: Json) -> Event:
    slots: list[Slot] = []
    ended: list[Any] = []
    for place, choice in enumerate(event["choices"]):
        if type(choice) is not dict:
            continue
        index = choice.get("index", place)
        delta = choice.get("delta")
        if type(delta) is dict:
            slots += _strings(delta, (index,))
        if type(choice.get("text")) is str:
            slots.append(Slot((index, "text"), choice, "text", TEXT))
        if choice.get("finish_reason") is not None:
            ended.append(index)
    ends: Key | None = None if not ended else (ended[0],) if len(ended) == 1 else ALL
    return Event(slots, ends)


def _responses(event: Json) -> Event:
    kind = str(event["type"])
    base, _, last = kind.rpartition(".")
    place = (event.get("item_id", event.get("output_index")), event.get("content_index"), event.get("summary_index"))
    if last == "delta":
        if type(event.get("delta")) is not str or (base.endswith("audio") and is_blob("data", event["delta"])):
            return Event([])
        text_kind = JSON_TEXT if "arguments" in base else ARGUMENTS if "tool_call" in base or "code" in base else TEXT
        return Event([Slot((*place, base), event, "delta", text_kind)])
    if last == "done" and (
        "text" in base or "arguments" in base or "input" in base or "refusal" in base or "code" in base
    ):
        return Event([], (*place, base))
    if kind in ("response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"):
        return Event([], ALL)
    return Event([])


def _anthropic(event: Json) -> Event:
    kind, index = event["type"], event.get("index")
    holder = event.get("content_block") if kind == "content_block_start" else event.get("delta")
    if kind in ("content_block_start", "content_block_delta") and type(holder) is dict:
        names = ("text", "thinking", "partial_json")
        return Event(
            [
                Slot((index, name), holder, name, JSON_TEXT if name == "partial_json" else TEXT)
                for name in names
                if type(holder.get(name)) is str
            ]
        )
    if kind == "content_block_stop":
        return Event([], (index,))
    return Event([], ALL if kind in ("message_delta", "message_stop", "error") else None)


def _gemini(event: Json) -> Event:
    slots: list[Slot] = []
    ended: list[Any] = []
    for place, candidate in enumerate(event["candidates"]):
        if type(candidate) is not dict:
            continue
        index = candidate.get("index", place)
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is dict:
                slots += _gemini_part(part, index)
        if candidate.get("finishReason"):
            ended.append(index)
    ends: Key | None = None if not ended else (ended[0],) if len(ended) == 1 else ALL
    return Event(slots, ends, alone=True)


def _gemini_part(part: Json, index: Any) -> Iterator[Slot]:
    if type(part.get("text")) is str:
        yield Slot((index, "thought" if part.get("thought") else "text"), part, "text", TEXT)
    call = part.get("functionCall")
    partial = call.get("partialArgs") if type(call) is dict else None
    for one in partial if type(partial) is list else ():
        if type(one) is dict and type(one.get("stringValue")) is str:
            yield Slot((index, "args", one.get("jsonPath")), one, "stringValue", ARGUMENTS)


def _converse(event: Json) -> Event:
    index, delta = event["contentBlockIndex"], event.get("delta")
    if type(delta) is not dict:
        return Event([], None if "start" in event else (index,))
    slots = []
    if type(delta.get("text")) is str:
        slots.append(Slot((index, "text"), delta, "text", TEXT))
    for name, field, kind in (("toolUse", "input", JSON_TEXT), ("reasoningContent", "text", TEXT)):
        inner = delta.get(name)
        if type(inner) is dict and type(inner.get(field)) is str:
            slots.append(Slot((index, name), inner, field, kind))
    return Event(slots)


_NOVA: Final = ("contentBlockStart", "contentBlockDelta", "contentBlockStop")


def _nova(event: Json) -> Event:
    return next(_converse(event[name]) for name in _NOVA if type(event.get(name)) is dict)


# Native events of models behind Bedrock's invoke: the field with the text, and the field that says that it ended.
_NATIVE: Final = (
    ("outputText", "completionReason"), ("generation", "stop_reason"), ("completion", "stop_reason"),
    ("response", "done"), ("text", "is_finished"),
)  # fmt: skip


def _native(event: Json) -> Event:
    field, end = next(row for row in _NATIVE if type(event.get(row[0])) is str)
    return Event([Slot((field,), event, field, TEXT)], ALL if event.get(end) else None)


def _outputs(event: Json) -> Event:
    ended = any(type(one) is dict and one.get("stop_reason") for one in event["outputs"])
    slots = [
        Slot((place, "text"), one, "text", TEXT)
        for place, one in enumerate(event["outputs"])
        if type(one) is dict and type(one.get("text")) is str
    ]
    return Event(slots, ALL if ended else None)


def _ollama(event: Json) -> Event:
    slots = [Slot((name,), event, name, TEXT) for name in ("response", "thinking") if type(event.get(name)) is str]
    message = event.get("message")
    if type(message) is dict:
        slots += [
            Slot(("message", n), message, n, TEXT) for n in ("content", "thinking") if type(message.get(n)) is str
        ]
    return Event(slots, ALL if event.get("done") is True else None)


def _cohere(event: Json) -> Event:
    kind, index = event["type"], event.get("index")
    delta = event.get("delta")
    message = delta.get("message") if type(delta) is dict else None
    if kind.endswith(("-delta", "-start")) and kind != "citation-start" and type(message) is dict:
        return Event(list(_strings(message, (index,))))
    if kind in ("content-end", "tool-call-end"):
        return Event([], (index,))
    return Event([], ALL if kind == "message-end" else None)


def _cohere_v1(event: Json) -> Event:
    if event["event_type"] == "text-generation" and type(event.get("text")) is str:
        return Event([Slot(("text",), event, "text", TEXT)])
    return Event([], ALL if event["event_type"] == "stream-end" else None)


_ANTHROPIC: Final = frozenset(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ]
)
_COHERE: Final = frozenset(
    [
        "message-start",
        "content-start",
        "content-delta",
        "content-end",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "citation-start",
        "citation-end",
        "message-end",
    ]
)
_SHAPES: Final[tuple[tuple[Callable[[Json], bool], Callable[[Json], Event]], ...]] = (
    (lambda event: type(event.get("choices")) is list, _choices),
    (lambda event: str(event.get("type")) in _ANTHROPIC, _anthropic),
    (lambda event: str(event.get("type")).startswith("response."), _responses),
    (lambda event: str(event.get("type")) in _COHERE, _cohere),
    (lambda event: type(event.get("candidates")) is list, _gemini),
    (lambda event: "contentBlockIndex" in event, _converse),
    (lambda event: any(type(event.get(name)) is dict for name in _NOVA), _nova),
    (lambda event: "stopReason" in event or "messageStop" in event, lambda event: Event([], ALL)),
    (lambda event: type(event.get("event_type")) is str, _cohere_v1),
    (lambda event: type(event.get("done")) is bool, _ollama),
    (lambda event: type(event.get("outputs")) is list, _outputs),
    (lambda event: any(type(event.get(row[0])) is str for row in _NATIVE), _native),
)


def drop_logprobs(holder: Any) -> bool:
    """Take out the log probabilities, which spell the text out a second time; True when there were some."""
    if type(holder) is list:
        return sum(drop_logprobs(one) for one in holder) > 0  # all of them, not up to the first
    if type(holder) is not dict:
        return False
    changed = False
    for name, value in holder.items():
        if name in ("logprobs", "logprobsResult") and value:
            holder[name] = [] if type(value) is list else None
            changed = True
        elif type(value) in (dict, list):
            changed |= drop_logprobs(value)
    return changed
