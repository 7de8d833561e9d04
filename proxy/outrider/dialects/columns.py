"""What each dialect can hold of a call: the table, a column a dialect, a row a feature; carry.py runs from it.

Rules
- What would change what the app gets (a second answer, a tool, a picture) is refused; what only tunes it is noted.
- What binds a call to one provider (a conversation that it keeps, its files, its own tools) is refused; proofs that it
  put on thoughts are noted, since a conversation goes on without them.
- A feature that a column does not name is carried, and what no table knows is noted.

Does not know: calls, how anything is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from outrider.dialects.features import FEATURES

__all__ = ["COLUMNS", "Cell", "Column", "column"]

type Outcome = Literal["carried", "converted", "noted", "refused"]
type Column = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Cell:
    """phrase: what it becomes, why it is left out ("" where that needs no word), or the reason of a refusal.

    fetch: of a refusal: it is carried once its bytes stand in place of its URL.
    """

    outcome: Outcome
    phrase: str = ""
    fetch: bool = False


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
