"""Conditions in CEL: what an expression reads, whether it can be evaluated at all, and all of them in one evaluation.

Rules
- An expression is compiled once. What it reads of the request is known by name, so that nothing else is looked for; an
  unknown name is an error when the file is loaded, not when a request comes.
- The rules of one plan are one list expression on one context. When that errs, each is evaluated by itself, so that one
  rule's mistake is that rule's.
- Each field is a variable of its own, `request.model` becomes `request__model`: a map costs 24 µs to convert, and
  four variables 6 (with update(): add_variable() takes 4 for one text).
- `time` and its fields are in the time zone of the rule's file, so each (field, zone) is a variable of its own too.
- A value that is no bool is an error, as is whatever the library raises.
The library is imported with the first expression: it takes 0.24 s and 10 MB that a configuration without one saves.
Does not know: what a rule does with the answer.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Final

from outrider.govern.budgets import zone_of
from outrider.govern.reading import FIELDS

VARIABLES: Final = ("request", "principal", "provider", "operation", "time", "usage")
# Slots of keys: a rule that read them could put them into a message or a tag.
SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key",
     "ocp-apim-subscription-key", "x-amz-security-token", "sec-websocket-protocol"}
)  # fmt: skip

_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME_FIELDS: Final[Mapping[str, Callable[[datetime], int | str]]] = MappingProxyType(
    {
        "weekday": lambda at: _WEEKDAYS[at.weekday()],
        "hour": lambda at: at.hour,
        "minute": lambda at: at.minute,
        "date": lambda at: at.date().isoformat(),
        "day": lambda at: at.day,
        "month": lambda at: at.month,
        "year": lambda at: at.year,
    }
)
_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n]*)
    |(?P<string>(?i:[rb]{0,2})(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
        |'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][0-9A-Za-z.]*)
    |(?P<space>\s+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_SAMPLE_PRINCIPAL: Final = {
    "id": "i",
    "team": "",
    "project": "",
    "environment": "",
    "roles": [],
    "labels": {},
    "anonymous": False,
}


class ExpressionError(ValueError):
    """The expression cannot be used; the message is the end of a sentence."""


class Expression:
    """source. variables: of VARIABLES, those that it reads. fields: of request. headers: lower-case names. clock: what
    it reads of `time`, as (field or "", zone). zone: a name of the time zone database.

    Raises: ExpressionError.
    """

    def __init__(self, source: str, zone: str = "UTC") -> None:
        self.source = source
        read = _Reading(source, zone)
        self.variables, self.fields = frozenset(read.variables), frozenset(read.fields)
        self.headers, self.clock, self.flat = frozenset(read.headers), frozenset(read.clock), read.flat
        _compile(source)  # what is wrong is said in the words of the file
        self.program = _compile(self.flat)
        self._try()

    def _try(self) -> None:
        """On a made-up request, so that a function that does not exist is found now."""
        request = {variable(name): field.sample for name, field in FIELDS.items()}
        request |= {header_variable(name): "" for name in self.headers}
        values = {**request, "principal": _SAMPLE_PRINCIPAL, "provider": "openai", "operation": "chat"}
        try:
            self.program.execute({**values, **clock_values(self.clock, datetime(2026, 1, 1, tzinfo=UTC)), "usage": {}})
        except BaseException as exc:
            _reraise(exc)
            if "Undefined variable or function" in str(exc):
                missing = re.search(r"'([^']*)'", str(exc))
                what = missing[1] if missing else "something"
                raise ExpressionError(f"calls or reads {what!r}, which there is not") from exc

    @property
    def is_constant(self) -> bool:
        return not self.variables

    def constant(self) -> bool | None:
        """The value of an expression that reads nothing; None where it errs."""
        answer = one(self, new_context({}))
        return answer if isinstance(answer, bool) else None


def _compile(source: str) -> Any:
    import cel

    try:
        return cel.compile(source)
    except BaseException as exc:
        _reraise(exc)
        lines = str(exc).strip().splitlines()
        raise ExpressionError(f"is not CEL: {lines[0][-200:] if lines else 'it cannot be read'}") from exc


def _reraise(exc: BaseException) -> None:
    """The library's own panics are no Exception; what is not its own goes on."""
    if isinstance(exc, (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError)):
        raise exc


type Token = tuple[str, str, int]  # kind, text, where it ends


def variable(name: str) -> str:
    """What a field of the request is called when it is evaluated."""
    return f"request__{name}"


def header_variable(name: str) -> str:
    return f"request__header_{name.encode('ascii').hex()}"


def clock_variable(field: str, zone: str) -> str:
    """What `time` (field "") or one of its fields is called when it is evaluated."""
    return f"time__{field}__{zone.encode().hex()}"


def clock_values(clock: Iterable[tuple[str, str]], now: datetime) -> dict[str, Any]:
    """The variables of a clock's readings. Of a zone the library knows its distance from UTC alone."""
    found: dict[str, Any] = {}
    for field, zone in clock:
        at = now.astimezone(zone_of(zone))
        if field:
            found[clock_variable(field, zone)] = TIME_FIELDS[field](at)
        else:
            found[clock_variable(field, zone)] = at.replace(tzinfo=timezone(at.utcoffset() or timedelta()))
    return found


def _tokens(source: str) -> list[Token]:
    found: list[Token] = []
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or ""
        if kind not in ("comment", "space"):
            found.append((kind, match.group(), match.end()))
    return found


class _Reading:
    """What a source reads, and the source with a variable for each field. Raises: ExpressionError."""

    def __init__(self, source: str, zone: str) -> None:
        self.variables: set[str] = set()
        self.fields: set[str] = set()
        self.headers: set[str] = set()
        self.clock: set[tuple[str, str]] = set()
        self._zone = zone
        tokens = [*_tokens(source), *[("end", "", len(source))] * 6]
        bound = _bound(tokens)
        flat: list[str] = []
        done = 0
        for at, (kind, text, _) in enumerate(tokens):
            if kind != "name" or (at and tokens[at - 1][1] == ".") or text in bound:
                continue
            if text not in VARIABLES or tokens[at + 1][1] == "(":
                continue
            self.variables.add(text)
            if text == "request":
                until, name = _read_field(tokens, at, self.fields, self.headers)
            elif text == "time":
                until, name = self._read_clock(tokens, at)
            else:
                continue
            begin, name = _without_has(tokens, at, until, name)
            flat += [source[done:begin], name]
            done = tokens[until][2] if name != "true" else tokens[until + 1][2]
        if taken := bound & set(VARIABLES):
            raise ExpressionError(f"uses the name {min(taken)} for its own variable; call it something else")
        self.flat = "".join([*flat, source[done:]])

    def _read_clock(self, tokens: Sequence[Token], at: int) -> tuple[int, str]:
        """(the last token of it, its variable)."""
        until, field = at, ""
        if tokens[at + 1][1] == "." and tokens[at + 2][0] == "name" and tokens[at + 3][1] != "(":
            until, field = at + 2, tokens[at + 2][1]
            if field not in TIME_FIELDS:
                raise ExpressionError(f"reads time.{field}, which there is not; known here: {', '.join(TIME_FIELDS)}")
        self.clock.add((field, self._zone))
        return until, clock_variable(field, self._zone)


def _bound(tokens: Sequence[Token]) -> set[str]:
    """The names that macros bind."""
    return {
        tokens[at + 2][1]
        for at, (kind, text, _) in enumerate(tokens)
        if kind == "name"
        and text in _MACROS
        and tokens[at + 1][1] == "("
        and tokens[at + 2][0] == "name"
        and tokens[at + 3][1] == ","
    }


def _without_has(tokens: Sequence[Token], at: int, until: int, name: str) -> tuple[int, str]:
    """(where the replacement begins, what it is): `has(request.model)` is true, since every field is always there, and
    so are those of time."""
    asks = at >= 2 and tokens[at - 1][1] == "(" and tokens[at - 2][1] == "has" and tokens[until + 1][1] == ")"
    if asks and name.startswith(("request__", "time__")) and not name.startswith(clock_variable("", "")):
        return tokens[at - 2][2] - len("has"), "true"
    return tokens[at][2] - len(tokens[at][1]), name


def _read_field(tokens: Sequence[Token], at: int, fields: set[str], headers: set[str]) -> tuple[int, str]:
    """(the last token of it, its variable)."""
    name = tokens[at + 2][1]
    if tokens[at + 1][1] != "." or tokens[at + 2][0] != "name":
        raise ExpressionError("reads request as a whole; name its fields, as in request.model")
    if name not in FIELDS:
        raise ExpressionError(f"reads request.{name}, which there is not; known here: {', '.join(FIELDS)}")
    fields.add(name)
    if name != "headers":
        return at + 2, variable(name)
    opening, key = tokens[at + 3][1], tokens[at + 4]
    if opening == "." and key[0] == "name":
        header = key[1]
    elif opening == "[" and key[0] == "string" and key[1][0] in "'\"":
        header = key[1].strip("'\"")
    else:
        raise ExpressionError("reads headers without saying which; write request.headers['name']")
    if header != header.lower() or not re.fullmatch(r"[a-z0-9_-]{1,64}", header):
        raise ExpressionError(f"reads the header {header!r}; write its name in lower case")
    if header in SECRET_HEADERS:
        raise ExpressionError(f"reads {header}, where keys stand; rules may not")
    headers.add(header)
    if opening == "." or tokens[at + 5][1] != "]":
        return at + 4, header_variable(header)
    return at + 5, header_variable(header)


# -- evaluation


def new_context(values: Mapping[str, Any]) -> Any:
    import cel

    return cel.Context(dict(values))


class Batch:
    """Several expressions as one. evaluate(context) -> True, False or an exception for each."""

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self.expressions = tuple(expressions)
        # Each stands in its own brackets, and on its own line: a comment at its end takes nothing with it.
        self._program = _compile("[" + ",\n".join(f"(\n{one.flat}\n)" for one in self.expressions) + "]")

    def evaluate(self, context: Any) -> Sequence[bool | Exception]:
        try:
            answers = self._program.execute(context)
        except BaseException as exc:
            _reraise(exc)
            return [one(expression, context) for expression in self.expressions]
        for answer in answers:
            if answer is not True and answer is not False:
                return [one(expression, context) for expression in self.expressions]
        found: Sequence[bool | Exception] = answers
        return found


def one(expression: Expression, context: Any) -> bool | Exception:
    try:
        answer = expression.program.execute(context)
    except BaseException as exc:
        _reraise(exc)
        return ExpressionError(_cause(exc))
    return answer if isinstance(answer, bool) else ExpressionError("the expression gives no truth value")


def _cause(exc: BaseException) -> str:
    """Why, without a value of the request in it."""
    if isinstance(exc, KeyError):
        return "a field that it reads is not there"
    if isinstance(exc, IndexError):
        return "it reads beyond the end of a list"
    if isinstance(exc, TypeError):
        return "it compares or joins values of different types"
    return "its evaluation failed"


def principal_map(principal: Any) -> dict[str, Any]:
    """The variable `principal`."""
    return {
        "id": principal.id,
        "team": principal.team,
        "project": principal.project,
        "environment": principal.environment,
        "roles": sorted(principal.roles),
        "labels": dict(principal.labels),
        "anonymous": principal.is_anonymous,
    }
