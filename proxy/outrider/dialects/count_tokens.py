"""How many tokens would a call have: Anthropic's count_tokens, OpenAI's input_tokens, Gemini's countTokens.

Rules
- A question holds a call of the dialect beside it, without what only an answer needs.
- A target that has no such question is not asked: `estimated` guesses from the call, and the answer's note says so.

Does not know: HTTP, which path is whose.
Source: anthropic/types/message_count_tokens_params.py, openai/types/responses/input_token_count_params.py,
ai.google.dev/api/tokens.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json, Notes, UnreadableError
from outrider.dialects.canonical import Media, Opaque, Part, Request, ToolCall, ToolResult
from outrider.dialects.models import resource_name
from outrider.dialects.usage import estimate

__all__ = ["ASKED", "MEDIA_TOKENS", "estimated", "read_answer", "read_question", "written_answer", "written_question"]

# dialect -> what of its call a question may hold; None: all of it, one level down
ASKED: Final[Mapping[str, frozenset[str] | None]] = MappingProxyType(
    {
        "anthropic.messages": frozenset(
            "model messages system tools tool_choice thinking output_config cache_control speed".split()  # noqa: SIM905
        ),
        "openai.responses": frozenset(
            "model input instructions tools tool_choice parallel_tool_calls reasoning text truncation "  # noqa: SIM905
            "conversation previous_response_id".split()
        ),
        "gemini.generate": None,
    }
)
_ANSWER_KEYS: Final = {
    "anthropic.messages": "input_tokens",
    "openai.responses": "input_tokens",
    "gemini.generate": "totalTokens",
}
MEDIA_TOKENS: Final = 1000  # of a picture or a page: what providers count lies between some 250 and 1,600
NOTE: Final = "tokens estimated"


def read_question(name: str, body: Json, model: str | None = None) -> Json:
    """The call that is asked about, as a body of that dialect; model: what the path said. Raises: UnreadableError."""
    if name not in ASKED:
        raise UnreadableError(f"The dialect {name} has no question for tokens.")
    if name == "gemini.generate" and type(body.get("generateContentRequest")) is dict:
        body = body["generateContentRequest"]
    if name == "openai.responses" and body.get("input") is None:
        body = body | {"input": []}
    return body | {"model": model} if model is not None and name != "gemini.generate" else body


def written_question(name: str, body: Json, model: str) -> Json:
    """From a call's body in that dialect."""
    names = ASKED[name]
    if names is None:
        return {"generateContentRequest": {"model": resource_name(model)} | body}
    return {key: value for key, value in body.items() if key in names}


def read_answer(name: str, body: Json) -> int:
    """Raises: UnreadableError."""
    tokens = body.get(_ANSWER_KEYS[name])
    if type(tokens) is not int or not 0 <= tokens < 1 << 53:
        raise UnreadableError("The answer has no number of tokens.")
    return tokens


def written_answer(name: str, tokens: int) -> Json:
    made: Json = {_ANSWER_KEYS[name]: tokens}
    return {"object": "response.input_tokens"} | made if name == "openai.responses" else made


# -- guessed


def estimated(request: Request, notes: Notes) -> int:
    """Tokens of a call, from its bytes of text: see usage.estimate for how far off that is."""
    notes.add(NOTE)
    parts = [*request.system, *(part for message in request.messages for part in message.parts)]
    text_bytes, media = _size(parts)
    for tool in request.tools:
        text_bytes += _bytes(tool.rest if tool.server else [tool.name, tool.description, tool.schema])
    if request.output is not None and request.output.schema is not None:
        text_bytes += _bytes(request.output.schema)
    return estimate(text_bytes, 0).input_tokens + media * MEDIA_TOKENS


def _bytes(value: Any) -> int:
    return len(orjson.dumps(value))


def _size(parts: Iterable[Part]) -> tuple[int, int]:
    """(bytes of text, pieces of media)."""
    text_bytes = media = 0
    for part in parts:
        if isinstance(part, Media):
            if part.text is not None:
                text_bytes += len(part.text.encode())
            else:
                media += 1
        elif isinstance(part, ToolCall):
            text_bytes += len(part.name.encode()) + len(part.arguments.encode())
        elif isinstance(part, ToolResult):
            inner = _size(part.parts)
            text_bytes, media = text_bytes + inner[0], media + inner[1]
        elif isinstance(part, Opaque):
            text_bytes += _bytes(part.value)
        else:
            text_bytes += len(part.text.encode())
    return text_bytes, media
