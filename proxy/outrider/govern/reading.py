"""What rules can read of a request: each field by name, with its type, and how it is found in any dialect.

Rules
- Every field always has a value of its type (nothing said is "", 0, false or an empty list), so that an expression need
  not ask whether it is there. A value that is there and cannot be read is an error of the rules that read it, never 0.
- Text is decoded text: what stands in JSON strings, in form fields, and in text files of a form; not base64.
- Keys are compared without case, `_` and `-`: some servers do, and a rule must not be blind where one reads.
Does not know: rules, sockets.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from outrider.govern.models import Model, ModelError, folded, in_document, in_query, named
from outrider.govern.multipart import MultipartError, Part, is_multipart, parts_of
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.providers.model import Operation, Provider, decode_path, may_be_led

type ModelSource = Literal["path", "query", "body", "anywhere"]

TUNNEL: Final = Operation("tunnel")  # of the pseudo-request by which a CONNECT to no provider's host is decided


class ReadError(ValueError):
    """A field is there and cannot be read; the message is safe to show."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows from the route alone. path is None where two servers could read it differently.

    base_path: with which path begins at a provider whose API does not begin at its host's root.
    leads: a call that names an alias (`models:`) is led to its targets there, each of which is judged by itself.
    """

    provider: str
    kind: str
    operation: Operation
    known: bool
    host: str
    method: str
    path: str | None
    path_model: str | None
    base_path: str = ""
    leads: bool = False

    @property
    def own_path(self) -> str:
        """As the provider's table has it; "" where path is None."""
        return (self.path or "").removeprefix(self.base_path)

    @property
    def model_source(self) -> ModelSource:
        if not self.known:
            return "anywhere"
        if self.operation.model_in == "path" and self.path_model is not None:
            return "path"
        if self.operation.model_in in ("query", "body"):
            return self.operation.model_in
        return "anywhere"


def facts_of(provider: Provider, name: str, host: str, method: bytes, path: bytes) -> Facts:
    """path: the provider's own, without the query."""
    found = provider.match(method, path)
    decoded = decode_path(path)
    return Facts(
        provider=name,
        kind=provider.kind,
        operation=found.operation,
        known=found.known,
        host=host,
        method=method.decode("latin-1"),
        path=None if decoded is None else decoded.replace("\x00", "/"),
        path_model=found.model,
        leads=may_be_led(found.operation, known=found.known, method=method),
    )


def tunnel_facts(host: str) -> Facts:
    return Facts("other", "other", TUNNEL, False, host, "CONNECT", "/", None)


@dataclass(slots=True)
class View:
    """One request as rules see it. What costs something is found when it is first asked for.

    header(name) -> value, "" where it is absent. target: with its query. plain_body() -> without its content-encoding.
    parse(body) -> the JSON value; it may know it already. Both raise what the caller wants to see raised.
    """

    facts: Facts
    principal: Principal = ANONYMOUS
    via: str = "forward"
    upgrade: bool = False
    target: bytes = b"/"
    header: Callable[[str], str] = lambda name: ""
    plain_body: Callable[[], bytes] = lambda: b""
    parse: Callable[[], Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    _form: bool | None = None
    _parts: list[Part] | None = None
    _document: Any = None
    _parsed: bool = False
    _models: tuple[Model, ...] | None = None
    _text: str | None = None

    @property
    def document(self) -> dict[str, Any] | None:
        """The body's JSON object, None where the body is empty or something else."""
        if not self._parsed:
            self._parsed = True
            value = self.parse() if self.parse is not None else _loads(self.plain_body())
            self._document = value if isinstance(value, dict) else None
        found: dict[str, Any] | None = self._document
        return found

    @property
    def is_form(self) -> bool:
        if self._form is None:
            self._form = is_multipart(self.header("content-type").encode("latin-1", "replace"))
        return self._form

    @property
    def parts(self) -> list[Part]:
        """The form's fields. Raises: ReadError."""
        if self._parts is None:
            try:
                self._parts = parts_of(self.plain_body(), self.header("content-type").encode("latin-1", "replace"))
            except MultipartError as exc:
                raise ReadError(str(exc)) from exc
        return self._parts

    def require_object(self) -> dict[str, Any] | None:
        """The JSON object; None where the body is empty or a form. Raises: ReadError for anything else."""
        if self.is_form:
            return None
        found = self.document
        if found is None and self.plain_body():
            raise ReadError("the body is neither a JSON object nor a form")
        return found

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that the request names, the one that runs first. Raises: ReadError."""
        if self._models is None:
            try:
                self._models = tuple(named(text) for text in dict.fromkeys(self._named()) if text)
            except ModelError as exc:
                raise ReadError(str(exc)) from exc
        return self._models

    def _named(self) -> Iterator[str]:
        source, facts = self.facts.model_source, self.facts
        if source == "path":
            yield facts.path_model or ""
            return
        yield from in_query(self.target)
        if source == "query":
            return
        if self.is_form:
            yield from _models_in_form(self.parts)
        else:
            found = self.require_object()
            if found is not None:
                yield from in_document(found)
        if facts.known and facts.path_model is not None:
            yield facts.path_model

    @property
    def path_words(self) -> tuple[Model, ...]:
        """On a path that no table has, any part of it may name the model. Raises: ReadError."""
        if self.facts.known or self.facts.kind == "other":
            return ()
        if self.facts.path is None:
            raise ReadError("two servers could read the path differently")
        words = [word for segment in self.facts.path.split("/") for word in (segment, segment.partition(":")[0])]
        return tuple(named(word) for word in dict.fromkeys(words) if re.fullmatch(r"[!-$&-~]{1,2048}", word))

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = "\n".join(self._texts())
        return self._text

    def _texts(self) -> Iterator[str]:
        if self.is_form:
            for part in self.parts:
                if not part.is_file:
                    yield part.data.decode("utf-8", "replace")
                else:
                    yield from _file_texts(part.data)
            return
        found = self.document
        if found is not None:
            yield from strings_of(found)
            return
        body = self.plain_body()
        value = _loads(body)
        if value is not None:
            yield from strings_of(value)
            return
        try:
            yield body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise ReadError("the body is neither JSON, nor a form, nor text") from exc


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _json_lines(data: bytes) -> list[Any] | None:
    """The values of a file of JSON lines (a batch), None where it is none."""
    if data.lstrip()[:1] != b"{":
        return None
    try:
        return [orjson.loads(line) for line in data.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError:
        return None


def _file_texts(data: bytes) -> Iterator[str]:
    lines = _json_lines(data)
    if lines is not None:
        for line in lines:
            yield from strings_of(line)
        return
    try:
        yield data.decode("utf-8")
    except UnicodeDecodeError:
        return  # audio, an image, a PDF: no text to be read here


def _models_in_form(parts: list[Part]) -> Iterator[str]:
    seen: set[str] = set()
    for part in parts:
        if part.is_file:
            for line in _json_lines(part.data) or ():
                if isinstance(line, dict):
                    yield from in_document(line)
            continue
        name = folded(part.name)
        if name in ("model", "models", "modelid"):
            if name in seen:
                raise ModelError("the form names a model twice")
            seen.add(name)
            try:
                yield part.data.decode("utf-8")
            except UnicodeDecodeError as exc:
                raise ModelError("the model's name is no text") from exc
        elif part.data.lstrip()[:1] == b"{":  # a realtime call's session, as JSON in a field
            value = _loads(part.data)
            if isinstance(value, dict):
                yield from in_document(value)


# Values that are no text of the app's: names, identifiers, encoded bytes.
_NO_TEXT: Final = frozenset(
    {"model", "role", "type", "id", "toolcallid", "callid", "object", "data", "bytes", "b64json", "signature",
     "thoughtsignature", "encryptedcontent", "mimetype", "mediatype", "format", "detail", "cachecontrol"}
)  # fmt: skip


def strings_of(value: Any, depth: int = 0) -> Iterator[str]:
    """The strings of a JSON value but those under keys that hold no text, and data: URLs."""
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                if folded(key) not in _NO_TEXT and not inner.startswith("data:"):
                    yield inner
            elif inner.__class__ in (dict, list) and depth < 64:
                yield from strings_of(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_of(inner, depth + 1)


# -- max_tokens

_MAX_NAMES: Final = frozenset(
    {"maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxtokenstosample", "numpredict", "maxnewtokens",
     "maxgenlen", "maxtokencount", "maxprompttokens"} - {"maxprompttokens"}
)  # fmt: skip
_CONTAINERS: Final = frozenset({"generationconfig", "inferenceconfig", "options", "parameters", "textgenerationconfig"})


def max_tokens_places(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the body says how long the answer may be: (object, key)."""
    for key, value in document.items():
        name = folded(key)
        if name in _MAX_NAMES:
            yield document, key
        elif name in _CONTAINERS and isinstance(value, dict):
            yield from ((value, inner) for inner in value if folded(inner) in _MAX_NAMES)


def token_count(value: Any) -> int:
    """0 for nothing said; -1 for no bound (Ollama's). Raises: ReadError."""
    if value is None:
        return 0
    if isinstance(value, bool):
        raise ReadError("max_tokens is no number")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):  # numbers as text: Google's JSON takes them
        return int(value)
    if not isinstance(value, int) or abs(value) >= 1 << 53:
        raise ReadError("max_tokens is no whole number")
    return value if value >= 0 else -1


def _max_tokens(view: View) -> int:
    document = view.require_object()
    if document is None:
        return 0
    counts = [token_count(place[key]) for place, key in max_tokens_places(document)]
    return -1 if -1 in counts else max(counts, default=0)


# -- tools


def tool_lists(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where tools stand: (object, key), each value a list."""
    for key, value in document.items():
        name = folded(key)
        if name in ("tools", "functions") and isinstance(value, list):
            yield document, key
        elif name in ("toolconfig", "session") and isinstance(value, dict):
            yield from tool_lists(value)


def _declarations(tool: dict[str, Any]) -> str | None:
    return next((key for key in tool if folded(key) == "functiondeclarations" and isinstance(tool[key], list)), None)


def tool_names(tool: Any) -> list[str]:
    """The names under which one entry offers something to be called."""
    if not isinstance(tool, dict):
        return [str(tool)]
    declared = _declarations(tool)
    if declared is not None:
        names = [str(one.get("name", "")) for one in tool[declared] if isinstance(one, dict)]
        return names + [key for key in tool if key != declared]
    for key in ("function", "toolSpec", "tool_spec"):
        inner = tool.get(key)
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            return [inner["name"]]
    if isinstance(tool.get("name"), str):
        return [tool["name"]]
    if isinstance(tool.get("type"), str):
        return [tool["type"]]
    return list(tool)  # Gemini: {"googleSearch": {}}


def _all_tools(view: View) -> list[Any]:
    document = view.require_object()
    if document is None:
        return []
    return [tool for place, key in tool_lists(document) for tool in place[key]]


def tools_of(view: View) -> list[str]:
    return list(dict.fromkeys(name for tool in _all_tools(view) for name in tool_names(tool)))


def _tool_types(view: View) -> list[str]:
    types = (tool.get("type") for tool in _all_tools(view) if isinstance(tool, dict))
    return list(dict.fromkeys(kind for kind in types if isinstance(kind, str)))


_MCP_NAMES: Final = frozenset({"serverurl", "url", "connectorid"})


def mcp_servers_of(view: View) -> list[str]:
    """URLs (or connectors) of MCP servers that the provider is told to call; "?" where an entry names none."""
    document = view.require_object()
    if document is None:
        return []
    entries = [
        tool for tool in _all_tools(view) if isinstance(tool, dict) and "mcp" in str(tool.get("type", "")).lower()
    ]
    for key, value in document.items():
        if folded(key) == "mcpservers":
            if not isinstance(value, list):
                raise ReadError("mcp_servers is no list")
            entries += value
    found: list[str] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ReadError("an MCP server is no object")
        urls = [str(inner) for name, inner in entry.items() if folded(name) in _MCP_NAMES]
        if "mcp_toolset" not in str(entry.get("type", "")):  # Anthropic's toolset only refers to a server
            found += urls or ["?"]
    return list(dict.fromkeys(found))


# -- the table


def _system(view: View) -> str:
    document = view.require_object()
    if document is None:
        return ""
    found: list[str] = []
    for key, value in document.items():
        if folded(key) in ("system", "instructions", "systeminstruction", "preamble", "systemprompt"):
            found += strings_of(value)
        elif folded(key) in ("messages", "input") and isinstance(value, list):
            for message in value:
                if isinstance(message, dict) and str(message.get("role", "")).lower() in ("system", "developer"):
                    found += strings_of(message.get("content"))
    return "\n".join(found)


def _messages(view: View) -> int:
    document = view.require_object()
    if document is None:
        return 0
    counts = [
        len(value) if isinstance(value, list) else 1
        for key, value in document.items()
        if folded(key) in ("messages", "input", "contents", "prompt", "inputs") and value is not None
    ]
    return sum(counts)


def _stream(view: View) -> bool:
    document = view.require_object()
    if document is None:
        return False
    return any(folded(key) == "stream" and bool(value) for key, value in document.items())


def _params(view: View) -> dict[str, Any]:
    """Top-level members that are no text of the app's: numbers, truth values and short words."""
    if view.is_form:
        return {
            part.name: part.data.decode("utf-8", "replace")
            for part in view.parts
            if not part.is_file and len(part.data) <= 256
        }
    document = view.require_object() or {}
    kept = {}
    for key, value in document.items():
        short = isinstance(value, str) and len(value) <= 256
        if short or isinstance(value, (bool, float)) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
            kept[key] = value
    return kept


def _path(view: View) -> str:
    if view.facts.path is None:
        raise ReadError("two servers could read the path differently")
    return view.facts.path


@dataclass(frozen=True, slots=True)
class Field:
    """type: as CEL calls it. read(view) -> value, None where it is worked out elsewhere (headers, matched)."""

    type: str
    body: bool
    sample: Any
    read: Callable[[View], Any] | None


FIELDS: Final[Mapping[str, Field]] = {
    "method": Field("string", False, "POST", lambda view: view.facts.method),
    "path": Field("string", False, "/v1", _path),
    "host": Field("string", False, "h", lambda view: view.facts.host),
    "headers": Field("map", False, {}, None),
    "upgrade": Field("bool", False, False, lambda view: view.upgrade),
    "model": Field("string", True, "m", lambda view: view.models[0].name if view.models else ""),
    "models": Field("list", True, [], lambda view: [model.name for model in view.models]),
    "stream": Field("bool", True, False, _stream),
    "max_tokens": Field("int", True, 0, _max_tokens),
    "messages": Field("int", True, 0, _messages),
    "text": Field("string", True, "t", lambda view: view.text),
    "system": Field("string", True, "s", _system),
    "tools": Field("list", True, [], tools_of),
    "tool_types": Field("list", True, [], _tool_types),
    "mcp_servers": Field("list", True, [], mcp_servers_of),
    "params": Field("map", True, {}, _params),
    "bytes": Field("int", True, 0, lambda view: len(view.plain_body())),
    "matched": Field("list", True, [], None),
}


def needs_body(name: str, facts: Facts) -> bool:
    if name in ("model", "models") and facts.model_source in ("path", "query"):
        return False
    return FIELDS[name].body
