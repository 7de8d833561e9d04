"""JSON as others wrote it, taken field by field: what every adapter does with its tables.

Rules
- A field that stands in no table, or stands there as "rest", is kept under its own name and never looked into.
- null is as good as absent: every provider here reads it so.
- A value of a type that the field cannot have is UnreadableError, with the field's name and never with its value.

Does not know: any dialect.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from os import urandom
from typing import Any, Final

import orjson

from outrider.dialects.base import Notes, UnreadableError
from outrider.dialects.canonical import Opaque, Part, Text, Thinking, ToolCall

__all__ = [
    "NUMBER",
    "REST",
    "Fields",
    "Plain",
    "argument_object",
    "data_url",
    "dicts",
    "from_data_url",
    "index_of",
    "known",
    "listed",
    "new_id",
    "note_part",
    "note_rest",
    "objects",
    "optional",
    "place_of",
    "plain_fields",
    "rest_of",
    "seconds_of",
    "strings",
    "text",
    "typed",
    "word",
    "written_fields",
]

type Json = dict[str, Any]
type Fields = Mapping[str, str]  # wire field -> the canonical field or feature that it becomes, or REST
type Plain = Mapping[str, tuple[str, tuple[type, ...]]]  # wire field, taken as it is -> (canonical name, its types)

REST: Final = "rest"
NUMBER: Final = (int, float)


def known(fields: Fields) -> frozenset[str]:
    """The names that an adapter itself reads."""
    return frozenset(name for name, meaning in fields.items() if meaning != REST)


def rest_of(holder: Json, names: frozenset[str]) -> Json | None:
    """What is not known, None where that is nothing (the usual case: no object is made for it)."""
    if holder.keys() <= names:
        return None
    return {name: value for name, value in holder.items() if name not in names}


def plain_fields(body: Json, plain: Plain, names: frozenset[str]) -> tuple[dict[str, Any], Json]:
    """(canonical name -> value, the rest: what is neither plain nor in names). Raises: UnreadableError."""
    given: dict[str, Any] = {}
    rest: Json = {}
    for key, value in body.items():
        known_as = plain.get(key)
        if known_as is not None:
            if value is not None:
                given[known_as[0]] = typed(value, known_as[1], key)
        elif key not in names:
            rest[key] = value
    return given, rest


def written_fields(request: object, plain: Plain, left_out: frozenset[str] = frozenset()) -> Json:
    """The way back of plain_fields; left_out: canonical names."""
    return {
        key: value
        for key, (name, _) in plain.items()
        if (value := getattr(request, name)) is not None and name not in left_out
    }


# How long it took: nothing that the app asked for.
_DURATIONS: Final = frozenset({"metrics", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"})


def note_rest(rest: Json | None, notes: Notes) -> None:
    """Says what another dialect's writer leaves out; what holds nothing is not worth a word."""
    for name, value in (rest or {}).items():
        if value not in (None, "", [], {}, False) and name not in _DURATIONS:
            notes.add(f"{name} left out")


def note_part(part: Part, notes: Notes, *, cites: bool = False) -> None:
    """Says what of a part of an answer another dialect's writer leaves out. cites: it has a place for citations."""
    if isinstance(part, (ToolCall, Thinking)) and part.signature:
        notes.add("signatures left out")
    if isinstance(part, Thinking) and part.hidden:
        notes.add("sealed thoughts left out")
    if not cites and isinstance(part, Text) and part.citations:
        notes.add("citations left out")
    if isinstance(part, Opaque):
        notes.add(f"{part.kind} left out")
    else:
        note_rest(part.rest, notes)
    if isinstance(part, ToolCall) and part.server:
        notes.add(f"{part.name} left out")


def typed(value: Any, kinds: tuple[type, ...], field: str) -> Any:
    """The value, if its type is one of `kinds` (bool is no int). Raises: UnreadableError."""
    if type(value) not in kinds:
        raise UnreadableError(f"The field {field} is {_KINDS.get(type(value), 'null')} and should be {_words(kinds)}.")
    return value


_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _words(kinds: Iterable[type]) -> str:
    return " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))


def optional(value: Any, kinds: tuple[type, ...], field: str) -> Any:
    """As typed, and None where there is none. Raises: UnreadableError."""
    return None if value is None else typed(value, kinds, field)


def strings(value: Any, field: str) -> list[str]:
    """A list of texts; null is none, and a single text is a list of it. Raises: UnreadableError."""
    if value is None:
        return []
    if type(value) is str:
        return [value]
    return [typed(one, (str,), f"{field}[]") for one in typed(value, (list,), field)]


def objects(value: Any, field: str) -> list[Json]:
    """A list of objects; null is none. Raises: UnreadableError."""
    if value is None:
        return []
    for one in typed(value, (list,), field):
        if type(one) is not dict:
            typed(one, (dict,), f"{field}[]")
    return value  # type: ignore[no-any-return]


def listed(value: Any) -> list[Any]:
    """A list in an answer, or nothing where something else stands."""
    return value if type(value) is list else []


def text(value: Any) -> str:
    """Text in an answer, or "" where something else stands."""
    return value if type(value) is str else ""


def word(value: Any) -> str | None:
    """Text in an answer, or None where something else stands."""
    return value if type(value) is str else None


def index_of(value: Any) -> int:
    """A place in an answer: small and not negative, 0 where it is none."""
    return value if type(value) is int and 0 <= value < _INDEX_MAX else 0


def place_of(value: Any) -> int:
    """As index_of, -1 where it is none."""
    return value if type(value) is int and 0 <= value < _INDEX_MAX else -1


def seconds_of(value: Any) -> int | None:
    """Unix time, whole; None where it is none."""
    return int(value) if type(value) in NUMBER and 0 <= value < _SECONDS_MAX else None


def dicts(value: Any) -> list[Json]:
    """The objects of a list in an answer."""
    return [one for one in value if type(one) is dict] if type(value) is list else []


_INDEX_MAX: Final = 1 << 16
_SECONDS_MAX: Final = 1 << 40


def argument_object(arguments: str, notes: Notes) -> Json:
    """A tool's arguments where the target wants an object and not its text.

    What is not a JSON object (models write such) is carried under "arguments", with a note: a provider would refuse
    the call otherwise, and the conversation could not go on.
    """
    if not arguments or arguments == "{}":
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = arguments
    if type(value) is dict:
        return value
    notes.add("arguments that are not a JSON object put into one")
    return {"arguments": value}


def data_url(mime: str | None, data: str) -> str:
    return f"data:{mime or 'application/octet-stream'};base64,{data}"


def from_data_url(url: str) -> tuple[str | None, str] | None:
    """(media type, base64) of a data: URL, None for any other."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    if not comma:
        return None
    mime, *more = head.split(";")
    if "base64" not in more:  # percent-encoded text: what it means is its bytes
        from urllib.parse import unquote_to_bytes

        data = b64encode(unquote_to_bytes(data)).decode("ascii")
    return mime or None, data


def new_id(prefix: str) -> str:
    """Where the other side gave none and this one has to have one."""
    return prefix + urandom(12).hex()
