"""What OpenAI's dialects have in common: finish reasons, usage, pictures, annotations, effort.

Does not know: where in a body they stand.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from outrider.dialects.base import Json, Notes
from outrider.dialects.canonical import FinishReason, Media, MediaKind, Part, Reasoning, Text, Usage
from outrider.dialects.usage import openai_usage
from outrider.dialects.values import data_url, from_data_url, text

__all__ = [
    "AUDIO_FORMATS",
    "FINISH",
    "annotations_of",
    "arguments_text",
    "chat_usage",
    "effort_of",
    "image_url_of",
    "media_from_url",
    "plain_content",
    "url_annotation",
    "usage_body",
    "written_finish",
]

# a provider's word -> ours; compatible servers have words of their own
FINISH: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        "eos": "stop",
        "stop_sequence": "stop_sequence",
        "model_length": "length",
        "max_tokens": "length",
        "insufficient_system_resource": "error",
        "error": "error",
    }
)
_FINISH_BACK: Final[Mapping[FinishReason, str]] = MappingProxyType(
    {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "content_filter",
        "pause": "stop",
        "error": "length",  # there is no word for it; this one, too, says that something is missing
    }
)
AUDIO_FORMATS: Final[Mapping[str, str]] = MappingProxyType({"wav": "audio/wav", "mp3": "audio/mpeg"})


def written_finish(finish: FinishReason | None, notes: Notes) -> str | None:
    if finish is None:
        return None
    if finish == "pause":
        notes.add("the turn was paused")
    elif finish == "error":
        notes.add("the answer broke off")
    return _FINISH_BACK[finish]


# -- usage


def chat_usage(body: Json) -> Usage | None:
    """Of an answer or a chunk; Groq and Moonshot have places of their own for a stream's."""
    usage = body.get("usage")
    if type(usage) is not dict:
        groq = body.get("x_groq")
        usage = groq.get("usage") if type(groq) is dict else None
    if type(usage) is not dict:
        choices = body.get("choices")
        first = choices[0] if type(choices) is list and choices else None
        usage = first.get("usage") if type(first) is dict else None
    return openai_usage(usage, body.get("model"), body.get("service_tier")) if type(usage) is dict else None


def usage_body(usage: Usage) -> Json:
    """As Chat and Completions have it."""
    details: Json = {"cached_tokens": usage.cache_read_tokens, "audio_tokens": usage.audio_input_tokens}
    if usage.cache_write_tokens:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
        },
    }


# -- parts


def media_from_url(kind: MediaKind, url: str) -> Media:
    inline = from_data_url(url)
    return Media(kind, inline[0], inline[1]) if inline is not None else Media(kind, url=url)


def image_url_of(part: Media) -> str:
    """A URL of its own, or one that holds the bytes."""
    if part.url is not None:
        return part.url
    return data_url(part.mime or ("image/png" if part.kind == "image" else "application/pdf"), part.data or "")


def plain_content(parts: list[Part], is_own: bool) -> str | None:
    """Plain text where that says it all: servers that take no lists are many."""
    if not parts:
        return ""
    first = parts[0]
    return first.text if len(parts) == 1 and type(first) is Text and not (is_own and first.rest) else None


def arguments_text(holder: Json) -> str:
    """Some servers write the object itself instead of its text."""
    value: Any = holder.get("arguments")
    return orjson.dumps(value).decode() if type(value) is dict else text(value)


def annotations_of(part: Text, start: int, notes: Notes) -> list[Json]:
    """Another provider's citations as annotations; one that names no URL has no place here."""
    made = []
    for citation in part.citations or ():
        annotation = url_annotation(citation, start, start + len(part.text))
        if annotation is None:
            notes.add("citations left out")
        else:
            made.append({"type": "url_citation", "url_citation": annotation})
    return made


def url_annotation(citation: Json, start: int, end: int) -> Json | None:
    """{"url", "title", "start_index", "end_index"}, of a citation in the words of whatever provider."""
    inner = citation.get("url_citation", citation)
    if type(inner) is not dict or type(inner.get("url")) is not str:
        return None
    url = inner["url"]
    begin, stop = inner.get("start_index"), inner.get("end_index")
    if type(begin) is int and type(stop) is int:
        start, end = begin, stop
    return {"url": url, "title": text(inner.get("title")), "start_index": start, "end_index": end}


# -- effort

_BUDGETS: Final = ((2048, "low"), (8192, "medium"))


def effort_of(reasoning: Reasoning, notes: Notes) -> str | None:
    """In OpenAI's words; None leaves it to the model."""
    if reasoning.effort is not None:
        return "xhigh" if reasoning.effort == "max" else reasoning.effort
    budget_tokens = reasoning.budget_tokens
    if budget_tokens is None or budget_tokens < 0:
        return None
    if budget_tokens == 0:  # models that do not think refuse the field, whatever it says
        notes.add("a thinking budget of 0 left out")
        return None
    return next((effort for most, effort in _BUDGETS if budget_tokens <= most), "high")
