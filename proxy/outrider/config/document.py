"""YAML text -> plain data, with the line of every key.

Rules: YAML 1.2's core scalars and no others (`off` and `yes` are words, `12:30` is text, no dates), since 1.1's
surprise people; a key given twice, a tag, a second document, deep nesting and an alias bomb are errors with a line;
anchors and merge keys work.
The plan: read the parser's events into nodes (linear in the text), then unfold nodes into data under a cap.
Does not know: which keys exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from outrider.config.problems import KeyPath, Problem, spell

MAX_NODES = 200_000  # 10,000 principals with a key each are 100,000
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class DocumentError(Exception):
    """The text cannot be read as one document; `line` counts from 1, 0 when unknown."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(slots=True)
class _Node:
    line: int
    value: Any = None  # a scalar, list[_Node] or list[tuple[_Node, _Node]]
    is_mapping: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """data: dict, list or scalar. lines: the line of the key (or list entry) at each path. problems: duplicate keys."""

    data: Any
    lines: dict[KeyPath, int]
    problems: tuple[tuple[int, KeyPath, str], ...] = ()

    def problems_in(self, name: str) -> list[Problem]:
        return [Problem(f"{name}:{line}", spell(path), sentence) for line, path, sentence in self.problems]


def read_document(text: str) -> Document:
    """Raises: DocumentError."""
    try:
        root = _Composer(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as exc:
        mark: Any = exc.problem_mark or exc.context_mark
        raise DocumentError(mark.line + 1 if mark else 0, _syntax_sentence(exc)) from exc
    except yaml.YAMLError as exc:  # a byte that no YAML text may hold
        raise DocumentError(0, "holds a character that YAML does not allow; remove control characters") from exc
    unfold = _Unfold()
    data = unfold.value(root, ())
    return Document(data, unfold.lines, tuple(unfold.problems))


def _syntax_sentence(exc: yaml.MarkedYAMLError) -> str:
    problem = str(exc.problem or exc.context or "")
    if "\\t" in problem or "'\t'" in problem or "cannot start any token" in problem:
        return "is not YAML: a tab or a reserved character starts a word here; indent with spaces, quote such values"
    if "mapping values are not allowed" in problem:
        return "is not YAML: a second ': ' on one line; put quotes around the value"
    return f'is not YAML: {problem}; check indentation, quotes and brackets (quote values such as "[::1]:8484")'


class _Composer:
    """The parser's events as nodes. An alias shares its anchor's node; a recursive one is an error."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, _Node | None] = {}
        self._count = 0

    def document(self) -> _Node:
        root = _Node(1)
        seen = False
        for event in self._events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise DocumentError(line, "a second document starts here; keep one")
                seen = True
                root = self._node(next(self._events), 0)
        return root

    def _node(self, event: Any, depth: int) -> _Node:
        line = event.start_mark.line + 1
        self._count += 1
        if self._count > MAX_NODES:
            raise DocumentError(line, f"has more than {MAX_NODES} values; make it smaller")
        if depth > MAX_DEPTH:
            raise DocumentError(line, f"is nested deeper than {MAX_DEPTH} levels; make it flatter")
        if isinstance(event, yaml.AliasEvent):
            found = self._anchors.get(event.anchor or "")
            if found is None:
                raise DocumentError(line, "an alias (*name) needs an anchor (&name) before it")
            return found
        if event.tag is not None:
            raise DocumentError(line, "a tag (!name) is not used here; remove it")
        if event.anchor:
            self._anchors[event.anchor] = None  # not usable inside itself
        node = self._container(event, line, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _container(self, event: Any, line: int, depth: int) -> _Node:
        if isinstance(event, yaml.ScalarEvent):
            return _Node(line, event.value if event.style else _plain_scalar(event.value))
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[_Node] = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return _Node(line, items)
        pairs: list[tuple[_Node, _Node]] = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            pairs.append((key, self._node(next(self._events), depth + 1)))
        return _Node(line, pairs, is_mapping=True)


def _plain_scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 32:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


class _Unfold:
    """Nodes as data; aliases are copied out, under the same cap as the text's own values."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, KeyPath, str]] = []
        self._count = 0

    def value(self, node: _Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > MAX_NODES or len(path) > MAX_DEPTH:
            raise DocumentError(node.line, f"unfolds to more than {MAX_NODES} values; use fewer aliases")
        self.lines.setdefault(path, node.line)
        if node.is_mapping:
            return self._mapping(node, path)
        if isinstance(node.value, list):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return node.value

    def _mapping(self, node: _Node, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[_Node] = []
        first_line: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key.value, list):
                raise DocumentError(key.line, "a key must be one word, not a list or a section")
            name = _key_text(key.value)
            if name == "<<":
                merged += value.value if isinstance(value.value, list) and not value.is_mapping else [value]
                continue
            here = (*path, name)
            if name in first_line:
                self.problems.append(
                    (key.line, here, f"is given twice (first in line {first_line[name]}); keep one of the two")
                )
                continue
            first_line[name] = key.line
            self.lines.setdefault(here, key.line)
            found[name] = self.value(value, here)
        for source in merged:
            if not source.is_mapping:
                raise DocumentError(source.line, "a merge key (<<) takes a section; give it an alias of one")
            for name, value in self._mapping(source, path).items():
                found.setdefault(name, value)
        return found


def _key_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
