"""What a call uses, by name: every field, part and mark of the canonical form that not all dialects have.

Rules: what no table knows is there too, under its own name; a field that asks for nothing (a value that is the usual
one) is none.
Does not know: which dialect holds what (columns.py).
"""

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from outrider.dialects.base import Json
from outrider.dialects.canonical import (
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["FEATURES", "NAMED", "features_of", "media_feature"]

# name -> where it stands in the canonical form. Names end a sentence that begins with "This call uses".
FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "a system text": "Request.system",
        "several messages": "Request.messages",
        "a developer message": "Message.developer",
        "a system message between others": "Message.role",
        "a participant's name": "Message.name",
        "an image as base64": "Media.data",
        "an image by URL": "Media.url",
        "an image by file id": "Media.file_id",
        "an image's detail": "Media.detail",
        "several images": "Media.kind",
        "audio as base64": "Media.data",
        "audio by URL": "Media.url",
        "audio by file id": "Media.file_id",
        "a document as base64": "Media.data",
        "a document by URL": "Media.url",
        "a document by file id": "Media.file_id",
        "a document as text": "Media.text",
        "video as base64": "Media.data",
        "video by URL": "Media.url",
        "video by file id": "Media.file_id",
        "earlier thoughts": "Thinking.text",
        "sealed thoughts": "Thinking.hidden",
        "signatures": "Thinking.signature, ToolCall.signature, Text.signature",
        "an earlier refusal": "Refusal",
        "citations": "Text.citations",
        "prompt cache marks": "cache",
        "tools": "Request.tools",
        "tools that take free text": "Tool.is_custom",
        "strict tools": "Tool.strict",
        "media in a tool's result": "ToolResult.parts",
        "a failed tool's mark": "ToolResult.is_error",
        "a tool choice": "Request.tool_choice",
        "a choice among some tools": "ToolChoice.names",
        "one tool call at a time": "Request.parallel_tool_calls",
        "max_tokens": "Request.max_tokens",
        "temperature": "Request.temperature",
        "top_p": "Request.top_p",
        "top_k": "Request.top_k",
        "min_p": "Request.min_p",
        "stop sequences": "Request.stop",
        "seed": "Request.seed",
        "several answers (n)": "Request.n",
        "presence_penalty": "Request.presence_penalty",
        "frequency_penalty": "Request.frequency_penalty",
        "repetition_penalty": "Request.repetition_penalty",
        "logit_bias": "Request.logit_bias",
        "logprobs": "Request.logprobs",
        "JSON output": "Request.output",
        "output by schema": "Request.output",
        "verbosity": "Request.verbosity",
        "reasoning effort": "Reasoning.effort",
        "a thinking budget": "Reasoning.budget_tokens",
        "adaptive thinking": "Reasoning.adaptive",
        "thoughts shown": "Reasoning.show, Reasoning.summary",
        "spoken answers": "Request.modalities, Request.audio",
        "drawn answers": "Request.modalities",
        "prediction": "Request.prediction",
        "service_tier": "Request.service_tier",
        "safety settings": "Request.safety",
        "the end user's id": "Request.user",
        "metadata": "Request.metadata",
        "store": "Request.store",
        "background work": "Request.background",
        "truncation": "Request.truncation",
        "a cache key": "Request.cache_key",
        "a suffix": "Request.suffix",
        "echo": "Request.echo",
        "a conversation that its provider keeps": "Request.conversation",
        "a guardrail that its provider keeps": "rest",
        "documents to answer from": "rest",
        "a webhook": "rest",
        "the server tool": "Tool.server",
        "the part": "Opaque in what the app says",
        "the earlier part": "Opaque in what the model said",
        "the unknown field": "rest",
    }
)
# These stand with a name of their own behind them: "the unknown field web_search_options".
NAMED: Final = ("the server tool ", "the part ", "the earlier part ", "the unknown field ")


def features_of(request: Request) -> set[str]:
    """What the call uses, by the names in FEATURES (named ones with their name)."""
    found: set[str] = set()
    for feature, value in zip(_SCALARS.values(), _scalars(request), strict=True):
        if value is not None:
            found.add(feature)
    _flags(request, found)
    if request.system:
        found.add("a system text")
        _parts(request.system, found, by_model=False)
    messages = request.messages
    if len(messages) > 1:
        found.add("several messages")
    for message in messages:
        _message(message, found)
    for tool in request.tools:
        _tool(tool, found)
    if request.rest:
        _unknown(request.rest, found)
    return found


_SCALARS: Final = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "logit_bias": "logit_bias",
    "verbosity": "verbosity",
    "audio": "spoken answers",
    "prediction": "prediction",
    "service_tier": "service_tier",
    "safety": "safety settings",
    "user": "the end user's id",
    "metadata": "metadata",
    "truncation": "truncation",
    "cache_key": "a cache key",
    "suffix": "a suffix",
    "conversation": "a conversation that its provider keeps",
    "tool_choice": "a tool choice",
}
_scalars: Final = attrgetter(*_SCALARS)


def _flags(request: Request, found: set[str]) -> None:
    """Fields that ask for something only with some of their values."""
    if request.stop:
        found.add("stop sequences")
    if request.n is not None and request.n > 1:
        found.add("several answers (n)")
    if request.logprobs or request.top_logprobs:
        found.add("logprobs")
    if request.store:
        found.add("store")
    if request.background:
        found.add("background work")
    if request.echo:
        found.add("echo")
    if request.parallel_tool_calls is False:
        found.add("one tool call at a time")
    if request.tool_choice is not None and request.tool_choice.names and request.tool_choice.mode != "named":
        found.add("a choice among some tools")
    if request.modalities:
        if "audio" in request.modalities:
            found.add("spoken answers")
        if "image" in request.modalities:
            found.add("drawn answers")
    if request.output is not None and request.output.kind != "text":
        found.add("JSON output" if request.output.kind == "json" else "output by schema")
    reasoning = request.reasoning
    if reasoning is not None:
        if reasoning.effort is not None:
            found.add("reasoning effort")
        if reasoning.budget_tokens is not None:
            found.add("a thinking budget")
        if reasoning.adaptive:
            found.add("adaptive thinking")
        if reasoning.show or reasoning.summary:
            found.add("thoughts shown")
        if reasoning.rest:
            _unknown(reasoning.rest, found)


def _message(message: Message, found: set[str]) -> None:
    if message.role == "system":
        found.add("a developer message" if message.developer else "a system message between others")
    if message.name:
        found.add("a participant's name")
    if message.rest:
        _unknown(message.rest, found)
    _parts(message.parts, found, by_model=message.role == "assistant")


def _parts(parts: list[Part], found: set[str], *, by_model: bool) -> None:
    for part in parts:
        kind = type(part)
        if kind is Text:
            _text(part, found)  # type: ignore[arg-type]
        elif kind is Opaque:
            found.add(("the earlier part " if by_model else "the part ") + part.kind)  # type: ignore[union-attr]
        else:
            _other_part(part, found)


def _text(part: Text, found: set[str]) -> None:
    if part.cache is not None:
        found.add("prompt cache marks")
    if part.citations:
        found.add("citations")
    if part.signature:
        found.add("signatures")
    if part.rest:
        _unknown(part.rest, found)


def _other_part(part: Part, found: set[str]) -> None:
    if isinstance(part, Media):
        feature = media_feature(part)
        if part.kind == "image" and not found.isdisjoint(_IMAGES):
            found.add("several images")
        found.add(feature)
        if part.detail and part.detail != "auto":
            found.add("an image's detail")
    elif isinstance(part, Thinking):
        if part.text:
            found.add("earlier thoughts")
        if part.hidden:
            found.add("sealed thoughts")
        if part.signature:
            found.add("signatures")
    elif isinstance(part, ToolCall):
        if part.signature:
            found.add("signatures")
        if part.is_custom:
            found.add("tools that take free text")
    elif isinstance(part, ToolResult):
        _result(part, found)
    elif isinstance(part, Refusal):
        found.add("an earlier refusal")
    if not isinstance(part, Opaque):
        if part.rest:
            _unknown(part.rest, found)
        if isinstance(part, (Media, ToolCall, ToolResult)) and part.cache is not None:
            found.add("prompt cache marks")


def _result(part: ToolResult, found: set[str]) -> None:
    if part.is_error:
        found.add("a failed tool's mark")
    for one in part.parts:
        if isinstance(one, Media):
            found.add("media in a tool's result")
    _parts(part.parts, found, by_model=False)


_IMAGES: Final = frozenset({"an image as base64", "an image by URL", "an image by file id"})
_MEDIA: Final = {"image": "an image", "audio": "audio", "document": "a document", "video": "video"}


def media_feature(part: Media) -> str:
    """Its name in FEATURES: the kind, and how it is given."""
    if part.url is not None:
        how = "by URL"
    elif part.file_id is not None:
        how = "by file id"
    else:
        how = "as text" if part.text is not None else "as base64"
    return f"{_MEDIA[part.kind]} {how}"


def _tool(tool: Tool, found: set[str]) -> None:
    if tool.server:
        found.add(f"the server tool {tool.name}")
        return
    found.add("tools that take free text" if tool.is_custom else "tools")
    if tool.strict:
        found.add("strict tools")
    if tool.cache is not None:
        found.add("prompt cache marks")
    if tool.rest:
        _unknown(tool.rest, found)


# Names under which adapters keep what is not theirs to explain: the ids of items, states that say nothing new.
_SILENT: Final = frozenset({"id", "status", "index", "phase", "summary", "content"})


# Fields of one dialect only, without which the answer would be another one.
_WEIGHTY: Final = {
    "guardrailConfig": "a guardrail that its provider keeps",
    "documents": "documents to answer from",
    "webhook": "a webhook",
}


def _unknown(rest: Json, found: set[str]) -> None:
    for name, value in rest.items():
        if name in _WEIGHTY and value:
            found.add(_WEIGHTY[name])
        elif name not in _SILENT and value not in (None, "", [], {}, False):
            found.add(f"the unknown field {name[:64]}")
