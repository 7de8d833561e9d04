"""Model listings: OpenAI's, Anthropic's and Gemini's, each from each.

Rules
- A listing that is not understood is UnreadableError; a row of it that is not is left out.
- What a shape has to say and nobody told is said as the SDK takes it: a date unknown is 1970, a limit unknown is null.
- Pages are told of and not joined: whoever asks for the next one is served by the provider's own mark.

Does not know: which models there are, who may use them, prices.
Source: openai/types/model.py, anthropic/types/model_info.py, google/genai/types.py of the Python SDKs.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from outrider.dialects.base import Json, UnreadableError
from outrider.dialects.values import dicts, seconds_of, text, word

__all__ = [
    "Listing", "Model", "Shape", "read_listing", "read_model", "resource_name", "written_listing", "written_model",
]  # fmt: skip

type Shape = Literal["openai", "anthropic", "gemini"]


@dataclass(slots=True)
class Model:
    """title: a name for people. context_tokens, output_tokens: the most that goes in and comes out.

    None where it was not told. beside: what else is told, in OpenAI's shape alone, where SDKs pass over it.
    """

    id: str
    title: str | None = None
    owner: str | None = None
    created_s: int | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    description: str | None = None
    lifecycle: str = "active"
    beside: Json = field(default_factory=dict)


@dataclass(slots=True)
class Listing:
    """next_page: the provider's mark for what comes after, None where that is nothing."""

    models: list[Model]
    next_page: str | None = None


def resource_name(model: str) -> str:
    """As Google's bodies name it: a name may say itself in which collection it stands."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 53 else None


# -- read


def read_listing(shape: Shape, body: Json) -> Listing:
    """Raises: UnreadableError."""
    rows = body.get("models" if shape == "gemini" else "data")
    if type(rows) is not list:
        raise UnreadableError("The listing of models is none.")
    models = [read_model(shape, row) for row in dicts(rows)]
    if shape == "gemini":
        next_page = word(body.get("nextPageToken"))
    else:
        next_page = word(body.get("last_id")) if body.get("has_more") is True else None
    return Listing([model for model in models if model.id], next_page or None)


def read_model(shape: Shape, row: Json) -> Model:
    """One row, or the answer to a question about one model. id: "" where it is none."""
    if shape == "gemini":
        return Model(
            text(row.get("name")).removeprefix("models/"),
            word(row.get("displayName")),
            "google",
            context_tokens=_count(row.get("inputTokenLimit")),
            output_tokens=_count(row.get("outputTokenLimit")),
            description=word(row.get("description")),
        )
    if shape == "anthropic":
        return Model(
            text(row.get("id")),
            word(row.get("display_name")),
            "anthropic",
            _seconds(row.get("created_at")),
            _count(row.get("max_input_tokens")),
            _count(row.get("max_tokens")),
            lifecycle=text(row.get("lifecycle")) or "active",
        )
    # OpenAI, and the names under which compatible servers tell more
    return Model(
        text(row.get("id")),
        word(row.get("display_name")) or word(row.get("name")),
        word(row.get("owned_by")),
        seconds_of(row.get("created")),
        _first(row, "context_length", "context_window", "max_context_length", "max_model_len"),
        _first(row, "max_output_tokens", "max_completion_tokens"),
        word(row.get("description")),
    )


def _first(row: Json, *names: str) -> int | None:
    return next((found for name in names if (found := _count(row.get(name))) is not None), None)


def _seconds(value: Any) -> int | None:
    try:
        at = datetime.fromisoformat(text(value))
        return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp())
    except (ValueError, OverflowError):
        return None


# -- written


def written_listing(shape: Shape, listing: Listing) -> Json:
    rows = [written_model(shape, model) for model in listing.models]
    if shape == "gemini":
        return {"models": rows} | ({"nextPageToken": listing.next_page} if listing.next_page is not None else {})
    if shape == "anthropic":
        ids = [model.id for model in listing.models]
        return {
            "data": rows,
            "has_more": listing.next_page is not None,
            "first_id": ids[0] if ids else None,
            "last_id": listing.next_page or (ids[-1] if ids else None),
        }
    return {"object": "list", "data": rows}


_GEMINI_ACTIONS: Final = ["generateContent", "countTokens"]


def written_model(shape: Shape, model: Model) -> Json:
    made: Json
    if shape == "gemini":
        made = {
            "name": resource_name(model.id),
            "version": "001",
            "displayName": model.title or model.id,
            "description": model.description or "",
            "supportedGenerationMethods": _GEMINI_ACTIONS,
        }
        limits = {"inputTokenLimit": model.context_tokens, "outputTokenLimit": model.output_tokens}
        return made | {name: limit for name, limit in limits.items() if limit is not None}
    if shape == "anthropic":
        return {
            "type": "model",
            "id": model.id,
            "display_name": model.title or model.id,
            "created_at": _moment(model.created_s),
            "lifecycle": model.lifecycle,
            "max_input_tokens": model.context_tokens,
            "max_tokens": model.output_tokens,
        }
    made = {"id": model.id, "object": "model", "created": model.created_s or 0, "owned_by": model.owner or "unknown"}
    return made | ({"context_length": model.context_tokens} if model.context_tokens is not None else {}) | model.beside


def _moment(seconds: int | None) -> str:
    try:
        return datetime.fromtimestamp(seconds or 0, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return "1970-01-01T00:00:00Z"
