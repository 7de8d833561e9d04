"""What a provider is: hosts, auth slots, endpoints. A provider's file is a table of these and little else.

Rules:
- A path is matched decoded and whole. What two servers could read differently (dot segments, empty segments, an encoded
  slash where it would move a segment, a broken or double escape, a back-slash) matches nothing: `UNKNOWN`.
- Literals are tried before patterns, patterns in the order of the table; matching is linear in the path's length.
- Nothing here does I/O, and nothing here knows which providers are configured (registry.py does).

Does not know: bodies (the model of `model_in="body"` is read by whoever scans the body), queries, credentials' values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import quote

ModelIn = Literal["body", "path", "query", ""]
Framing = Literal["sse", "ndjson", "eventstream", "json-array", ""]
StreamUsage = Literal["inject", "sent", "none"]
ErrorDialect = Literal["openai", "anthropic", "google", "aws", "cohere", "ollama", "replicate"]
RateLimitFamily = Literal["openai", "anthropic", "mistral", ""]

MAX_PATH_BYTES: Final = 4096
MAX_MODEL_CHARS: Final = 2048  # Bedrock's own limit for modelId, the longest of them


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a provider does, as policies and metrics name it.

    name: metric label and policy field, e.g. "chat". dialect: the wire form ("openai.chat"), "" when it is
    passed on unread. model_in: where the model's name stands. usage: a name in dialects.usage.READERS, or "".
    stream: framing of a streamed answer. stream_usage: "inject" (ask with stream_options.include_usage, strip the extra
    chunk), "sent" (comes unasked), "none" (never comes: estimate). mints_secrets: the answer holds a key or token.
    """

    name: str
    dialect: str = ""
    model_in: ModelIn = ""
    usage: str = ""
    stream: Framing = ""
    stream_usage: StreamUsage = "none"
    mints_secrets: bool = False


UNKNOWN: Final = Operation("unknown")


@dataclass(frozen=True, slots=True)
class Auth:
    """Where our credential goes.

    kind "bearer" and "header" set header `name` to `prefix` + key, "query" sets ?name=key, "sigv4" signs for service
    `name`, "none" takes none.
    """

    kind: Literal["bearer", "header", "query", "sigv4", "none"]
    name: str = ""
    prefix: str = ""


BEARER: Final = Auth("bearer", "authorization", "Bearer ")


@dataclass(frozen=True, slots=True)
class Slots:
    """Everywhere that a client's own key for this provider may stand. All are stripped before ours is set.

    headers: lower-case names. query: parameter names. subprotocols: prefixes of Sec-WebSocket-Protocol tokens.
    """

    headers: tuple[str, ...]
    query: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()


# An app that moves from one provider to another leaves keys in the other's slot, so every provider strips all of these.
COMMON_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
COMMON_SLOTS: Final = Slots(COMMON_HEADERS)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: methods (space separated), a path template, what it is.

    Template: `{id}` one segment; `{model}` one segment, captured; `{id%}` and `{model%}` the same, but encoded slashes
    belong to it (an ARN); `{model*}` one or more segments, captured; a final `/**` one or more segments
    of anything; `:verb` may end a segment. `prefixes` repeats the row under each prefix.
    """

    methods: str
    template: str
    operation: Operation
    prefixes: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class Match:
    """model is None unless it stands in the path. known=False: not in the table, operation is UNKNOWN."""

    operation: Operation
    model: str | None
    known: bool


NO_MATCH: Final = Match(UNKNOWN, None, False)


def may_be_led(operation: Operation, *, known: bool, method: bytes) -> bool:
    """Whether a call may go to other targets by the model's name that it says (`models:`), or by a rule's word."""
    return known and method == b"POST" and operation.model_in in ("body", "path")


# A decoded slash is carried as this byte, so that only `{model%}` can hold it; it cannot come from the wire.
_SLASH: Final = "\x00"
_SEGMENT: Final = r"[A-Za-z0-9._:@+~=,!$'()*-]+"
_MODEL_SEGMENT: Final = rf"[A-Za-z0-9._:@+~=,{_SLASH}-]+"
_ALLOWED: Final = re.compile(rb"/[!$%'()*+,./0-9:=@A-Z_a-z~-]*\Z")
# No second escape, no control, none of ; ? # and back-slash, which servers cut at or turn.
_DECODED: Final = re.compile(rb"/[\x00!$'()*+,./0-9:=@A-Z_a-z~-]*\Z")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_HOLE: Final = re.compile(r"\{(id%|id|model%|model\*|model)\}")
_MODEL_HOLE: Final = re.compile(r"\{model[%*]?\}")
# Google's names may say themselves in which of these they stand.
_COLLECTIONS: Final = frozenset({"models", "tunedModels"})


def decode_path(path: bytes) -> str | None:
    """The path with escapes resolved once, or None when two servers could read it differently.

    An encoded slash comes out as NUL. Source: RFC 3986 section 6.2.2, read strictly.
    """
    if len(path) > MAX_PATH_BYTES or not _ALLOWED.match(path):
        return None
    if b"%" in path:
        if _BROKEN_ESCAPE.search(path):
            return None
        path = _ESCAPE.sub(_unescape, path)
        if not _DECODED.match(path):
            return None
    text = path.decode("ascii")
    *whole, last = text[1:].replace(_SLASH, "/").split("/")
    if any(piece in ("", ".", "..") for piece in whole) or last in (".", "..") or text.endswith(_SLASH):
        return None
    return text


def _unescape(found: re.Match[bytes]) -> bytes:
    byte = bytes((int(found[1], 16),))
    return b"\x00" if byte == b"/" else byte


def _compile(template: str) -> re.Pattern[str]:
    """The template as a regular expression over a decoded path; linear, no nested repetition."""
    tail = template.endswith("/**")
    pieces = _HOLE.split(template.removesuffix("/**"))
    out = []
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            out.append(re.escape(piece))
        elif piece == "id":
            out.append(_SEGMENT)
        elif piece == "id%":
            out.append(_MODEL_SEGMENT)
        elif piece == "model%":
            out.append(f"(?P<model>{_MODEL_SEGMENT})")
        elif piece == "model*":
            out.append(r"(?P<model>[A-Za-z0-9._:@+~=,/-]+)")
        else:
            out.append(rf"(?P<model>{_SEGMENT})")
    return re.compile("".join(out) + ("/[^\x00]+" if tail else "") + r"\Z")


@dataclass(frozen=True)
class Provider:
    """A provider's table.

    name: the key in config and the base_url prefix. kind: equal to name for built-in ones. title: for people.
    otel_name: `gen_ai.provider.name`. hosts: exact names, and patterns where `*` stands for part of a label or (as a
    leading `*.`) for one or more labels. origin: "https://host", with `{region}` where one is needed, "" when the name
    of a resource is. regional_origins: regions whose host is not made by the template. env: variables where SDKs look
    for the key, in their order.
    """

    name: str
    title: str
    otel_name: str
    hosts: tuple[str, ...]
    origin: str
    auth: Auth
    slots: Slots
    error_dialect: ErrorDialect
    endpoints: tuple[Endpoint, ...]
    ratelimit: RateLimitFamily
    env: tuple[str, ...]
    kind: str = ""
    regional_origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    needs_config: bool = False  # self-hosted: exists only where config names it

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)

    @cached_property
    def _exact(self) -> Mapping[tuple[str, str], Match]:
        table: dict[tuple[str, str], Match] = {}
        for method, template, operation in self._rows():
            if "{" not in template and "*" not in template:
                table.setdefault((method, template), Match(operation, None, True))
        return table

    @cached_property
    def _patterns(self) -> Mapping[str, tuple[tuple[re.Pattern[str], Operation, str], ...]]:
        table: dict[str, list[tuple[re.Pattern[str], Operation, str]]] = {}
        compiled: dict[str, re.Pattern[str]] = {}
        for method, template, operation in self._rows():
            if "{" in template or "*" in template:
                if template not in compiled:
                    compiled[template] = _compile(template)
                table.setdefault(method, []).append((compiled[template], operation, template))
        return {method: tuple(rows) for method, rows in table.items()}

    def _rows(self) -> list[tuple[str, str, Operation]]:
        return [
            (method, prefix + row.template, row.operation)
            for row in self.endpoints
            for prefix in row.prefixes
            for method in row.methods.split()
        ]

    def with_model(self, method: bytes, path: bytes, model: str) -> bytes | None:
        """This path with the name of another model in it; None where it has no place for one."""
        text = decode_path(path)
        if text is None:
            return None
        for pattern, _, template in self._patterns.get(method.decode("latin-1"), ()):
            hole, found = _MODEL_HOLE.search(template), pattern.match(text)
            if hole is not None and found is not None:
                start, end = found.span("model")
                placed = _placed(text[:start], hole[0], model, text[end:])
                return placed.replace(_SLASH, "%2F").encode("ascii")
        return None

    def match(self, method: bytes, path: bytes) -> Match:
        """The operation of a request. path: as it came, without the query. Never raises. 1-30 µs: remember it."""
        text = decode_path(path)
        if text is None:
            return NO_MATCH
        verb = method.decode("latin-1")
        exact = self._exact.get((verb, text))
        if exact is not None:
            return exact
        for pattern, operation, _ in self._patterns.get(verb, ()):
            found = pattern.match(text)
            if found is not None:
                return _matched(found, operation)
        return NO_MATCH


def fill_path(template: str, model: str) -> str:
    """The path of a template for this model; the template itself where no model stands in it."""
    hole = _MODEL_HOLE.search(template)
    return template if hole is None else _placed(template[: hole.start()], hole[0], model, template[hole.end() :])


def _placed(before: str, hole: str, model: str, after: str) -> str:
    """The name is quoted whole, so that it can never name another path."""
    root, _, segment = before[:-1].rpartition("/")
    collection, _, name = model.partition("/")
    if hole == "{model}" and name and {segment, collection} <= _COLLECTIONS:
        before, model = f"{root}/{collection}/", name
    return before + quote(model, safe="/" if hole == "{model*}" else "") + after


def _matched(found: re.Match[str], operation: Operation) -> Match:
    model = found.groupdict().get("model")
    if model is None:
        return Match(operation, None, True)
    model = model.replace(_SLASH, "/")
    return Match(operation, model, True) if len(model) <= MAX_MODEL_CHARS else NO_MATCH
