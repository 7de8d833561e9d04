"""What is wrong with a configuration, said to a person.

Rules: every problem at once; each names where (file:line or the environment variable), which key, what is wrong and
what to do; a value is quoted only when it cannot be a secret.
Does not know: the schema's keys (they are passed in).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.errors import StartError
from outrider.secrets.secret import looks_like_secret

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where ("outrider.yaml:3", "$OUTRIDER__EGRESS__DEFAULT"), key ("limits[0].requests"), sentence."""

    where: str
    key: str
    sentence: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.sentence) if part)


class ConfigError(StartError):
    """The configuration cannot be used; `problems` in the order of the file, str() a line each. Exit code 2."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)), exit_code=2)


def spell(path: KeyPath) -> str:
    """("limits", 0, "requests") -> "limits[0].requests"; a key that is a key to something is not spelt out."""
    text = ""
    for step in path:
        word = "****" if isinstance(step, str) and looks_like_secret(step) else str(step)
        text += f"[{word}]" if isinstance(step, int) else f".{word}" if text else word
    return text


def suggest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" when one known word is near, else what is known; "" when nothing is."""
    import difflib  # for those who made a mistake

    known = sorted(known)
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""


def quote(value: object) -> str:
    """A value for a message: short and never of a secret's shape."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    if looks_like_secret(text):
        return "a value not shown"
    return f"'{text[:60]}...'" if len(text) > 60 else f"'{text}'" if isinstance(value, str) else text


# pydantic's error type -> our sentence. {got} is the value, {ctx} pydantic's context.
_BOUNDS = {
    "greater_than": "must be more than {gt}, not {got}",
    "greater_than_equal": "must be at least {ge}, not {got}",
    "less_than": "must be less than {lt}, not {got}",
    "less_than_equal": "must be at most {le}, not {got}",
    "too_short": "needs at least {min_length} entry",
    "too_long": "has more than {max_length} entries; shorten it",
    "string_too_short": "may not be empty; give a value or remove the key",
    "string_too_long": "is longer than {max_length} characters; shorten it",
    "string_pattern_mismatch": "may hold letters, digits, '.', '_' and '-' and begins with a letter or digit",
    "finite_number": "must be a finite number, not {got}",
}
_TYPES = {
    "missing": "is missing; add it",
    "bool_type": "must be true or false, not {got}",
    "int_type": "must be a whole number, not {got}",
    "int_from_float": "must be a whole number, not {got}",
    "float_type": "must be a number, not {got}",
    "string_type": "must be text, not {got}; put quotes around it if it is meant as text",
    "model_type": "must be a section (key: value), not {got}",
    "model_attributes_type": "must be a section (key: value), not {got}",
    "dict_type": "must be a section (key: value), not {got}",
    "tuple_type": "must be a list, not {got}",
    "list_type": "must be a list, not {got}",
    "literal_error": "must be {expected}, not {got}",
}


def sentence_for(error: Any, known: Sequence[str]) -> str:
    """One of pydantic's error dictionaries as our sentence; `known` are the keys beside an unknown one."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + (suggest(str(error["loc"][-1]), known) or "; remove it")
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error" and " or " not in str(context.get("expected")):
        return f"must be {context['expected']} in this version, not {quote(error['input'])}"
    template = _TYPES.get(kind) or _BOUNDS.get(kind)
    if template is None:
        return f"is not valid: {error['msg']}"
    return template.format(got=quote(error["input"]), **context)


def written(path: KeyPath, data: Any) -> KeyPath:
    """The path as the file has it: a single value that stands for a list of one has no [0]."""
    at = data
    for depth, step in enumerate(path):
        if isinstance(step, int) and not isinstance(at, (list, tuple)):
            return path[:depth]
        try:
            at = at[step]
        except (KeyError, IndexError, TypeError):  # a key that is missing: nothing below it is written
            return path
    return path
