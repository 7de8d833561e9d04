"""What each dialect can hold of a call that was made in another one: one table, from which the code and the docs run.

Rules
- A feature of a call is carried, converted (with a phrase), noted (left out, and said so) or refused (with a sentence).
  Nothing is left out in silence: what no table knows is noted by its name.
- What would change what the app gets (a second answer, a tool, a picture) is refused; what only tunes it is noted.
- What binds a call to one provider (a conversation that it keeps, its files, its own tools) is refused; proofs that it
  put on thoughts are noted, since a conversation goes on without them.
- A call to its own dialect is never looked at: everything is carried there.

Does not know: bytes, how anything is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal

from outrider.dialects.base import Json, Notes, UnreadableError
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

__all__ = [
    "COLUMNS",
    "FEATURES",
    "CannotCarryError",
    "Cell",
    "check",
    "column",
    "docs_table",
    "features_of",
    "is_converted",
    "remote_media",
]

type Outcome = Literal["carried", "converted", "noted", "refused"]
type Column = Mapping[str, Cell]


class CannotCarryError(ValueError):
    """The target cannot hold what the call asks for. str() names the feature and says why; safe to show."""

    def __init__(self, feature: str, target: str, reason: str) -> None:
        super().__init__(f"This call uses {feature}, which cannot be carried to {target}: {reason}.")
        self.feature = feature


@dataclass(frozen=True, slots=True)
class Cell:
    """phrase: what it becomes, why it is left out ("" where that needs no word), or the reason of a refusal.

    fetch: of a refusal: it is carried once its bytes stand in place of its URL.
    """

    outcome: Outcome
    phrase: str = ""
    fetch: bool = False


# -- features

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
_NAMED: Final = ("the server tool ", "the part ", "the earlier part ", "the unknown field ")


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


# -- columns


def column(
    *,
    converted: Mapping[str, str] | None = None,
    noted: tuple[str, ...] = (),
    refused: Mapping[str, str] | None = None,
    fetched: tuple[str, ...] = (),
) -> Column:
    """All features, of which those that are not named are carried. fetched: URLs whose bytes the target wants."""
    cells = dict.fromkeys(FEATURES, _CARRIED)
    cells |= {feature: Cell("converted", phrase) for feature, phrase in (converted or {}).items()}
    cells |= dict.fromkeys((*noted, *_NOTED_ALWAYS), Cell("noted"))
    cells |= {feature: Cell("refused", reason) for feature, reason in (_REFUSED_ALWAYS | dict(refused or {})).items()}
    cells |= dict.fromkeys(fetched, Cell("refused", "it takes the bytes and not a URL", fetch=True))
    unknown = cells.keys() - FEATURES.keys()
    if unknown:
        raise ValueError(f"No feature is named {sorted(unknown)[0]!r}.")
    return MappingProxyType(cells)


_CARRIED: Final = Cell("carried")
_BOUND: Final = "the id is known to its own provider only"
_NOTED_ALWAYS: Final = ("the earlier part", "the unknown field", "signatures", "sealed thoughts", "safety settings")
_REFUSED_ALWAYS: Final = {
    "a conversation that its provider keeps": "what it refers to is known to its own provider only",
    "an image by file id": _BOUND,
    "audio by file id": _BOUND,
    "a document by file id": _BOUND,
    "video by file id": _BOUND,
    "drawn answers": "it does not draw",
    "a guardrail that its provider keeps": "the call would go out unguarded",
    "documents to answer from": "nothing there says the same",
    "a webhook": "nobody there calls it",
    "the server tool": "it is run by its own provider",
    "the part": "nothing there says the same",
}
_NO_VIDEO: Final = {"video as base64": "it takes no video", "video by URL": "it takes no video"}
_NO_FREE_TEXT: Final = {"tools that take free text": "its tools take JSON"}
_COMPLETION_ONLY: Final = {
    "a suffix": "it has no such thing as text to put in between",
    "echo": "it does not repeat the prompt",
}
_IN_EFFORT: Final = "given as the nearest effort"

_ONE_ANSWER: Final = {
    "several answers (n)": "it gives one answer a call",
    "spoken answers": "it does not speak",
    "background work": "it answers at once",
}
_NO_SOUND: Final = {"audio as base64": "it takes no audio", "audio by URL": "it takes no audio"}
_NO_DOCUMENTS: Final = {
    "a document as base64": "it takes no documents",
    "a document by URL": "it takes no documents",
}
_IN_SYSTEM: Final = {
    "a developer message": "given in the system text",
    "a system message between others": "moved into the system text",
}
_BEDROCK_NOTED: Final = (
    "a participant's name",
    "an image's detail",
    "citations",
    "earlier thoughts",
    "one tool call at a time",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "verbosity",
    "prediction",
    "the end user's id",
    "metadata",
    "store",
    "truncation",
    "a cache key",
)
_OLLAMA_NOTED: Final = (
    "a participant's name",
    "an image's detail",
    "citations",
    "prompt cache marks",
    "earlier thoughts",
    "strict tools",
    "a failed tool's mark",
    "one tool call at a time",
    "logit_bias",
    "verbosity",
    "prediction",
    "service_tier",
    "the end user's id",
    "metadata",
    "store",
    "truncation",
    "a cache key",
)
# Llama's and Titan's bodies are one text.
_IN_PROMPT: Final = {
    "a system text": "written into the prompt",
    "several messages": "written into the prompt, turn by turn",
    "a developer message": "written into the prompt",
    "a system message between others": "written into the prompt",
    "an earlier refusal": "given as text",
}
_PROMPT_NOTED: Final = (
    *_BEDROCK_NOTED,
    "top_k",
    "prompt cache marks",
    "reasoning effort",
    "a thinking budget",
    "adaptive thinking",
    "thoughts shown",
    "service_tier",
    "a failed tool's mark",
    "strict tools",
)
_PROMPT_REFUSED: Final = (
    _COMPLETION_ONLY
    | _NO_VIDEO
    | _NO_FREE_TEXT
    | _ONE_ANSWER
    | _NO_SOUND
    | _NO_DOCUMENTS
    | dict.fromkeys(
        ("an image as base64", "an image by URL", "a document as text", "media in a tool's result"),
        "it takes text only",
    )
    | dict.fromkeys(("tools", "a tool choice", "a choice among some tools"), "it has no tools")
    | dict.fromkeys(("JSON output", "output by schema"), "it promises no form")
)

# Replicate's: one prompt, with fields beside it that the makers of its models name.
_IN_REPLICATE: Final = {key: phrase for key, phrase in _IN_PROMPT.items() if key != "a system text"}
_SEES: Final = ("an image as base64", "an image by URL")
_TUNING: Final = ("temperature", "top_p")
_PENALTIES: Final = ("presence_penalty", "frequency_penalty")


def _replicate(
    *,
    converted: Mapping[str, str] | None = None,
    carried: tuple[str, ...] = (),
    refused: Mapping[str, str] | None = None,
) -> Column:
    """carried: of what others of its columns leave out or refuse."""
    noted = ("stop sequences", "temperature", "top_p", *_PROMPT_NOTED)
    return column(
        converted=_IN_REPLICATE | dict(converted or {}),
        noted=tuple(one for one in noted if one not in carried and one not in (converted or {})),
        refused={key: why for key, why in _PROMPT_REFUSED.items() if key not in carried} | dict(refused or {}),
    )


# dialect -> feature -> cell. docs/dialects.md prints it.
COLUMNS: Final[dict[str, Column]] = {
    "openai.chat": column(
        converted={
            "a document as text": "given as a text part",
            "media in a tool's result": "given in a user message behind the results",
            "a thinking budget": _IN_EFFORT,
        },
        noted=(
            "earlier thoughts",
            "citations",
            "prompt cache marks",
            "a failed tool's mark",
            "top_k",
            "min_p",
            "repetition_penalty",
            "adaptive thinking",
            "thoughts shown",
            "truncation",
        ),
        refused=_COMPLETION_ONLY | _NO_VIDEO | {"background work": "it answers at once"},
        fetched=("a document by URL", "audio by URL"),
    ),
    "openai.responses": column(
        converted={"a document as text": "given as a text part", "a thinking budget": _IN_EFFORT},
        noted=(
            "earlier thoughts",
            "citations",
            "prompt cache marks",
            "a participant's name",
            "a failed tool's mark",
            "top_k",
            "min_p",
            "repetition_penalty",
            "adaptive thinking",
            "stop sequences",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "prediction",
        ),
        refused=_COMPLETION_ONLY
        | _NO_VIDEO
        | {"several answers (n)": "it gives one answer a call", "spoken answers": "it does not speak"},
        fetched=("audio by URL",),
    ),
    "openai.completions": column(
        converted={"an earlier refusal": "given as text"},
        noted=(
            "a participant's name",
            "top_k",
            "min_p",
            "repetition_penalty",
            "prompt cache marks",
            "citations",
            "earlier thoughts",
            "verbosity",
            "reasoning effort",
            "a thinking budget",
            "adaptive thinking",
            "thoughts shown",
            "prediction",
            "service_tier",
            "metadata",
            "store",
            "truncation",
            "a cache key",
            "one tool call at a time",
            "a failed tool's mark",
            "an image's detail",
            "strict tools",
        ),
        refused=_NO_VIDEO
        | _NO_FREE_TEXT
        | dict.fromkeys(
            (
                "a system text",
                "several messages",
                "a developer message",
                "a system message between others",
            ),
            "it takes one prompt and no conversation",
        )
        | dict.fromkeys(("tools", "a tool choice", "a choice among some tools"), "it has no tools")
        | dict.fromkeys(("JSON output", "output by schema"), "it promises no form")
        | dict.fromkeys(
            (
                "an image as base64",
                "an image by URL",
                "audio as base64",
                "audio by URL",
                "a document as base64",
                "a document by URL",
                "media in a tool's result",
            ),
            "it takes text only",
        )
        | {"spoken answers": "it does not speak", "background work": "it answers at once"},
    ),
    "anthropic.messages": column(
        converted={
            "a developer message": "given in the system text",
            "a system message between others": "moved into the system text",
            "an earlier refusal": "given as text",
            "a choice among some tools": "given by leaving out the other tools",
            "JSON output": "asked for in the system text",
            "tools that take free text": "given as tools with one argument of text",
            "reasoning effort": "given as a thinking budget, or as the model's own effort",
            "service_tier": "given as auto or standard_only",
        },
        noted=(
            "a participant's name",
            "an image's detail",
            "citations",
            "earlier thoughts",
            "min_p",
            "repetition_penalty",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "verbosity",
            "prediction",
            "metadata",
            "store",
            "truncation",
            "a cache key",
        ),
        refused=_COMPLETION_ONLY
        | _NO_VIDEO
        | {
            "audio as base64": "it takes no audio",
            "audio by URL": "it takes no audio",
            "several answers (n)": "it gives one answer a call",
            "spoken answers": "it does not speak",
            "background work": "it answers at once",
        },
    ),
    "gemini.generate": column(
        converted={
            "a developer message": "given as a user's",
            "a system message between others": "given as a user's",
            "an earlier refusal": "given as text",
            "a document as text": "given as a text part",
            "reasoning effort": "given as a thinking level or budget",
        },
        noted=(
            "a participant's name",
            "an image's detail",
            "citations",
            "prompt cache marks",
            "earlier thoughts",
            "strict tools",
            "one tool call at a time",
            "min_p",
            "repetition_penalty",
            "logit_bias",
            "verbosity",
            "adaptive thinking",
            "prediction",
            "service_tier",
            "the end user's id",
            "metadata",
            "store",
            "truncation",
            "a cache key",
        ),
        refused=_COMPLETION_ONLY
        | _NO_FREE_TEXT
        | {"spoken answers": "its voices are other ones", "background work": "it answers at once"},
        fetched=("an image by URL", "audio by URL", "a document by URL", "video by URL"),
    ),
    "bedrock.converse": column(
        converted=_IN_SYSTEM
        | {
            "an earlier refusal": "given as text",
            "a choice among some tools": "given by leaving out the other tools",
            "JSON output": "asked for in the system text",
        },
        noted=(
            *_BEDROCK_NOTED,
            "service_tier",
        ),
        refused=_COMPLETION_ONLY | _NO_FREE_TEXT | _ONE_ANSWER,
        fetched=("an image by URL", "audio by URL", "a document by URL", "video by URL"),
    ),
    "bedrock.nova": column(
        converted=_IN_SYSTEM
        | {
            "an earlier refusal": "given as text",
            "a choice among some tools": "given by leaving out the other tools",
            "JSON output": "asked for in the system text",
            "output by schema": "asked for in the system text",
        },
        noted=(
            *_BEDROCK_NOTED,
            "strict tools",
            "reasoning effort",
            "a thinking budget",
            "adaptive thinking",
            "thoughts shown",
            "service_tier",
        ),
        refused=_COMPLETION_ONLY | _NO_FREE_TEXT | _ONE_ANSWER,
        fetched=("an image by URL", "audio by URL", "a document by URL", "video by URL"),
    ),
    "bedrock.llama": column(converted=_IN_PROMPT, noted=(*_PROMPT_NOTED, "stop sequences"), refused=_PROMPT_REFUSED),
    "bedrock.titan": column(converted=_IN_PROMPT, noted=_PROMPT_NOTED, refused=_PROMPT_REFUSED),
    "ollama.chat": column(
        converted={
            "a developer message": "given as a system message",
            "an earlier refusal": "given as text",
            "a document as text": "given as text",
            "a tool choice": "kept where it is auto or none",
            "a choice among some tools": "given by leaving out the other tools",
            "a thinking budget": _IN_EFFORT,
            "adaptive thinking": "given as thinking",
        },
        noted=_OLLAMA_NOTED,
        refused=_COMPLETION_ONLY | _NO_VIDEO | _NO_FREE_TEXT | _ONE_ANSWER | _NO_SOUND | _NO_DOCUMENTS,
        fetched=("an image by URL",),
    ),
    "ollama.generate": column(
        converted={
            "an earlier refusal": "given as text",
            "a thinking budget": _IN_EFFORT,
            "adaptive thinking": "given as thinking",
        },
        noted=(*_OLLAMA_NOTED, "strict tools", "a failed tool's mark"),
        refused={"echo": _COMPLETION_ONLY["echo"]}
        | _NO_VIDEO
        | _NO_FREE_TEXT
        | _ONE_ANSWER
        | _NO_SOUND
        | _NO_DOCUMENTS
        | dict.fromkeys(
            ("several messages", "a developer message", "a system message between others"),
            "it takes one prompt and no conversation",
        )
        | {"a document as text": "it takes one prompt and no documents"}
        | dict.fromkeys(("tools", "a tool choice", "a choice among some tools"), "it has no tools")
        | {"media in a tool's result": "it has no tools"},
        fetched=("an image by URL",),
    ),
    "cohere.chat": column(
        converted={
            "a developer message": "given as a system message",
            "an earlier refusal": "given as text",
            "a document as text": "given as a text part",
            "strict tools": "asked of all tools or none",
            "a tool choice": "given as any tool or none",
            "a choice among some tools": "given by leaving out the other tools",
            "reasoning effort": "given as a thinking budget",
            "adaptive thinking": "given as thinking",
        },
        noted=(
            "a participant's name",
            "citations",
            "prompt cache marks",
            "earlier thoughts",
            "a failed tool's mark",
            "one tool call at a time",
            "min_p",
            "repetition_penalty",
            "logit_bias",
            "verbosity",
            "thoughts shown",
            "prediction",
            "service_tier",
            "the end user's id",
            "metadata",
            "store",
            "truncation",
            "a cache key",
        ),
        refused=_COMPLETION_ONLY
        | _NO_VIDEO
        | _NO_FREE_TEXT
        | _ONE_ANSWER
        | _NO_SOUND
        | _NO_DOCUMENTS
        | {"media in a tool's result": "its results are text"},
    ),
    "replicate.openai": _replicate(
        converted={"a thinking budget": _IN_EFFORT},
        carried=(*_TUNING, *_SEES, *_PENALTIES, "reasoning effort"),
    ),
    "replicate.anthropic": _replicate(
        converted={"reasoning effort": "given as a thinking budget"},
        carried=(*_SEES, "a thinking budget"),
        refused={"several images": "it takes one a call"},
    ),
    "replicate.google": _replicate(
        converted={"reasoning effort": "given as a thinking budget"},
        carried=(*_TUNING, *_SEES, "a thinking budget", "adaptive thinking"),
    ),
    "replicate.llama": _replicate(carried=(*_TUNING, *_PENALTIES, "top_k", "stop sequences")),
    "replicate.other": _replicate(converted={"a system text": _IN_PROMPT["a system text"]}, carried=_TUNING),
}


# -- what runs from it


def check(request: Request, target: str, notes: Notes) -> None:
    """Adds what is converted or left out to notes. Raises: CannotCarryError for what the target cannot hold.

    target: a name in COLUMNS.
    """
    target = _column_of(target, request.model)
    if request.origin == target:
        return
    cells = COLUMNS[target]
    for feature in sorted(features_of(request)):
        name = _row_of(feature)
        cell = cells[name]
        if cell.outcome == "refused":
            raise CannotCarryError(feature, target, cell.phrase)
        if cell.outcome == "noted":
            notes.add(f"{_short(feature)} left out")
        elif cell.outcome == "converted" and cell.phrase:
            notes.add(f"{_short(feature)} {cell.phrase}")


def _column_of(target: str, model: str) -> str:
    """InvokeModel holds bodies of several kinds, by the model; Replicate's inputs are its makers'."""
    if target == "replicate.predictions":
        from outrider.dialects.replicate import column_of

        return column_of(model)
    if target != "bedrock.invoke":
        return target
    from outrider.dialects.bedrock_invoke import family_of

    try:
        return family_of(model)
    except UnreadableError as exc:
        raise CannotCarryError(f"the model {model[:128]}", target, "the kind of its body is not known") from exc


def is_converted(feature: str, request: Request, target: str) -> bool:
    target = _column_of(target, request.model)
    return request.origin != target and COLUMNS[target][feature].outcome == "converted"


def _row_of(feature: str) -> str:
    if feature in FEATURES:
        return feature
    for named in _NAMED:
        if feature.startswith(named):
            return named.rstrip()
    raise KeyError(feature)


def _short(feature: str) -> str:
    return feature.removeprefix("the unknown field ").removeprefix("the earlier part ")


def remote_media(request: Request, target: str) -> list[Media]:
    """Those that are given by URL and whose bytes the target wants; whoever may fetch sets `data` and clears `url`."""
    column = _column_of(target, request.model)
    # Claude's body at InvokeModel is Anthropic's own, but that host fetches nothing.
    is_hosted = target == "bedrock.invoke" and column == "anthropic.messages"
    if request.origin == column and not is_hosted:
        return []
    cells = COLUMNS[column]
    found: list[Media] = []
    pending: list[Part] = [*request.system, *(part for message in request.messages for part in message.parts)]
    for part in pending:
        for one in part.parts if isinstance(part, ToolResult) else (part,):
            if isinstance(one, Media) and one.url is not None and (is_hosted or cells[media_feature(one)].fetch):
                found.append(one)
    return found


def docs_table() -> str:
    """COLUMNS as a Markdown table, a row a feature."""
    names = list(COLUMNS)
    lines = ["| feature | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for feature in FEATURES:
        cells = (_printed(COLUMNS[name][feature]) for name in names)
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _printed(cell: Cell) -> str:
    if cell.fetch:
        return "fetched"
    words = {"carried": "yes", "converted": "converted", "noted": "left out", "refused": "refused"}[cell.outcome]
    return f"{words}: {cell.phrase}" if cell.phrase else words
