"""One call in a form that no provider speaks and every dialect can be read into and written from.

Rules
- A field stands here when two dialects have it; what only one has is kept in `rest` of the piece where it stood, under
  its own name, and given back when the target is the dialect it came from (`origin`).
- Nothing here is validated against a provider: a reader reads leniently, a writer writes what its provider takes, and
  carry.py says, before anything is written, what the target cannot hold.
- JSON stays JSON: a tool's arguments are the text as it came, a schema is the object as it came.
- Tool results stand in messages of the role "user", as three of four providers have it; adapters with a role of its own
  for them split and join.
- Equality is by value, so that there and back again can be compared. Classes are not frozen: they are made in numbers
  for every translated call, and a frozen one costs three times as much to make.

Does not know: bytes, framing, providers' limits.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from outrider_ext.tokens import Usage

__all__ = [
    "Answer", "ArgumentsDelta", "Choice", "CitationDelta", "DataDelta", "End", "ErrorEvent", "Finish", "FinishReason",
    "LogprobsDelta", "Media", "Message", "Opaque", "OutputFormat", "Part", "PartStart", "PartStop", "ProviderError",
    "Reasoning", "Refusal", "Request", "SignatureDelta", "Start", "StreamEvent", "Text", "TextDelta", "Thinking",
    "Tool", "ToolCall", "ToolChoice", "ToolResult", "Usage", "UsageEvent",
]  # fmt: skip

type Json = dict[str, Any]
type Role = Literal["system", "user", "assistant"]
type MediaKind = Literal["image", "audio", "document", "video"]
# Why a choice ended. "refusal": the model would not; "content_filter": the provider would not; "pause": the turn goes
# on when it is sent back; "error": it broke off.
type FinishReason = Literal[
    "stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "error"
]


# -- parts of a message


@dataclass(slots=True)
class Text:
    """cache: the provider's own mark that the prompt may be cached up to here ({"type": "ephemeral", "ttl": …}).

    citations: as the origin wrote them, one object each.
    """

    text: str
    cache: Json | None = None
    citations: list[Json] | None = None
    signature: str | None = None  # Gemini binds one to any part
    rest: Json | None = None


@dataclass(slots=True)
class Media:
    """Exactly one of data (base64), url, file_id and text (a plain-text document) is set. mime: None where not said."""

    kind: MediaKind
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    text: str | None = None
    name: str | None = None  # a document's title or file name
    detail: str | None = None  # how closely an image is looked at: low, high, auto
    cache: Json | None = None
    rest: Json | None = None


@dataclass(slots=True)
class Thinking:
    """What the model thought. signature: the provider's proof, bound to it. hidden: its sealed form, instead of text.

    id: the item's id where the dialect has one (Responses). summary: `text` is a summary, not the thought itself.
    """

    text: str = ""
    signature: str | None = None
    hidden: str | None = None
    id: str | None = None
    summary: bool = False
    rest: Json | None = None


@dataclass(slots=True)
class ToolCall:
    """arguments: JSON text as it came ("" and "{}" are both none). is_custom: free text instead of JSON.

    id: "" where the dialect has none; a writer that needs one makes it. server: a tool that the provider itself runs.
    """

    id: str
    name: str
    arguments: str
    is_custom: bool = False
    server: bool = False
    signature: str | None = None
    cache: Json | None = None
    rest: Json | None = None


@dataclass(slots=True)
class ToolResult:
    """name: "" where the dialect has none (found by call_id). Of parts, Text and Media."""

    call_id: str
    parts: list["Part"]
    name: str = ""
    is_error: bool = False
    is_custom: bool = False
    cache: Json | None = None
    rest: Json | None = None


@dataclass(slots=True)
class Refusal:
    """The model's own words for why it would not."""

    text: str
    rest: Json | None = None


@dataclass(slots=True)
class Opaque:
    """What only its own dialect knows (a server tool's result, an executable part): kept whole, carried only there."""

    origin: str
    kind: str
    value: Any


type Part = Text | Media | Thinking | ToolCall | ToolResult | Refusal | Opaque


@dataclass(slots=True)
class Message:
    """name: of the participant. developer: a system message that said `developer`. id: the item's, where it has one."""

    role: Role
    parts: list[Part]
    name: str | None = None
    developer: bool = False
    id: str | None = None
    rest: Json | None = None


# -- what a request asks for


@dataclass(slots=True)
class Tool:
    """schema: JSON schema of the arguments, None for a tool without. is_custom: free text, with `format` its grammar.

    A tool that the provider runs itself (web search, code) is server=True and stands whole in rest.
    """

    name: str
    description: str | None = None
    schema: Json | None = None
    strict: bool | None = None
    is_custom: bool = False
    format: Json | None = None
    server: bool = False
    cache: Json | None = None
    rest: Json | None = None


@dataclass(slots=True)
class ToolChoice:
    """mode "named" means `names[0]`; "auto" and "required" with names are bound to those names."""

    mode: Literal["auto", "none", "required", "named"]
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class OutputFormat:
    """kind "json": any JSON object; "schema": what `schema` says."""

    kind: Literal["text", "json", "schema"]
    schema: Json | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(slots=True)
class Reasoning:
    """effort: none, minimal, low, medium, high, xhigh.

    budget_tokens: the most to think; 0 forbids, -1 is up to the model. adaptive: the model decides.
    show: whether thoughts (or their summary, in the given detail) come with the answer.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    show: bool | None = None
    summary: str | None = None
    rest: Json | None = None


@dataclass(slots=True)
class Request:
    """origin: name of the dialect it was read from. system: what leads; a later system message stands in messages.

    user: the end user's id. conversation: what binds it to what a provider keeps ({"previous_response_id": …},
    {"conversation": …}, {"cached_content": …}, {"container": …}), under the origin's names.
    tokens_key: the name under which the origin gave max_tokens, where it has two.
    """

    origin: str
    model: str
    messages: list[Message]
    system: list[Part] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    tokens_key: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Json | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    output: OutputFormat | None = None
    verbosity: str | None = None
    reasoning: Reasoning | None = None
    modalities: list[str] | None = None
    audio: Json | None = None
    prediction: Json | None = None
    service_tier: str | None = None
    safety: Any = None
    user: str | None = None
    metadata: Json | None = None
    store: bool | None = None
    background: bool | None = None
    truncation: str | None = None
    cache_key: str | None = None
    stream: bool = False
    stream_usage: bool | None = None
    suffix: str | None = None  # of a completion: what follows the text that is asked for
    echo: bool | None = None
    is_completion: bool = False  # a bare prompt: messages holds it as one user message
    legacy_functions: bool = False  # tools came as OpenAI's `functions`: calls go back as `function_call`
    conversation: Json | None = None
    rest: Json | None = None


# -- what comes back


@dataclass(slots=True)
class Choice:
    """stop_sequence: the one that was met.

    native_finish: the provider's own word, given back where the target is it. logprobs: as OpenAI Chat has them.
    """

    parts: list[Part]
    finish: FinishReason | None = None
    index: int = 0
    stop_sequence: str | None = None
    native_finish: str | None = None
    logprobs: Any = None
    rest: Json | None = None


@dataclass(slots=True)
class Answer:
    """created_s: Unix time, None where it does not say. usage: None where it does not say."""

    origin: str
    id: str
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    created_s: int | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    rest: Json | None = None


@dataclass(slots=True)
class ProviderError:
    """status: HTTP status, 0 for one that came inside a stream.

    kind: ours (errors.py KINDS); native: the provider's.
    """

    status: int
    kind: str
    message: str
    native: str | None = None
    param: str | None = None
    code: str | None = None
    rest: Json | None = None


# -- events of a stream. `choice` is the choice's index; `part` counts the parts of one choice from 0, in the order in
#    which they began; parts may be interleaved (parallel tool calls), and each is started before and stopped after its
#    deltas.


@dataclass(slots=True)
class Start:
    id: str
    model: str
    created_s: int | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    rest: Json | None = None


@dataclass(slots=True)
class PartStart:
    """value: the part as far as it is known, or a whole one.

    So far as it is known: Text(""), Thinking(), ToolCall(id, name, ""), Refusal("").
    """

    choice: int
    part: int
    value: Part


@dataclass(slots=True)
class TextDelta:
    """Of a Text, Refusal or Thinking."""

    choice: int
    part: int
    text: str


@dataclass(slots=True)
class ArgumentsDelta:
    choice: int
    part: int
    json: str


@dataclass(slots=True)
class SignatureDelta:
    """Of a Thinking or a ToolCall; whole, not a piece."""

    choice: int
    part: int
    signature: str


@dataclass(slots=True)
class CitationDelta:
    choice: int
    part: int
    citation: Json


@dataclass(slots=True)
class DataDelta:
    """Base64 of a Media that is streamed (audio). transcript: its words."""

    choice: int
    part: int
    data: str = ""
    transcript: str = ""


@dataclass(slots=True)
class LogprobsDelta:
    choice: int
    logprobs: Any


@dataclass(slots=True)
class PartStop:
    """value: the part whole, where the dialect repeats it at its end."""

    choice: int
    part: int
    value: Part | None = None


@dataclass(slots=True)
class Finish:
    choice: int
    reason: FinishReason
    stop_sequence: str | None = None
    native: str | None = None


@dataclass(slots=True)
class UsageEvent:
    """Cumulative: the last one counts."""

    usage: Usage
    service_tier: str | None = None


@dataclass(slots=True)
class ErrorEvent:
    """The stream is over after it."""

    error: ProviderError


@dataclass(slots=True)
class End:
    """It ended as it should."""


type StreamEvent = (
    Start | PartStart | TextDelta | ArgumentsDelta | SignatureDelta | CitationDelta | DataDelta | LogprobsDelta
    | PartStop | Finish | UsageEvent | ErrorEvent | End
)  # fmt: skip
