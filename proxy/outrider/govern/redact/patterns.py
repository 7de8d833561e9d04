"""What a detector's pattern implies: the *open* pattern, its greatest length, and a bounded form of an unbounded one.

Rules: all of it is derived from the pattern's own syntax tree, so that a pattern and its open pattern cannot disagree.
The open pattern of P matches exactly the beginnings of what P matches: P(ab) = P(a) | a P(b). A pattern is what both
Python's parser and RE2 understand, without anchors other than \\b and \\B (a text in pieces has no beginning to anchor
at), and never matches the empty text.
Does not know: detectors, texts.
"""

import re
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

import re2  # type: ignore[import-untyped]

REPEAT_MAX: Final = 1000  # RE2's own bound for {m,n}
_ESCAPED: Final = re.compile(r"[^A-Za-z0-9_\s]")
_CATEGORIES: Final = {
    sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_NOT_DIGIT: r"\D", sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S", sre.CATEGORY_WORD: r"\w", sre.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_BOUNDARIES: Final = {sre.AT_BOUNDARY: r"\b", sre.AT_NON_BOUNDARY: r"\B"}


class PatternError(ValueError):
    """The pattern cannot be used; the message ends a sentence that begins with the key."""


class Pattern:
    """text: the pattern for RE2. open: its beginnings, to be matched at the end of a text. bounded: whether `source`
    was. tail: the class of characters that an unbounded end repeats, "" where there is none.

    Raises: PatternError.
    """

    __slots__ = ("bounded", "open", "source", "tail", "text")

    def __init__(self, source: str, max_repeat: int = REPEAT_MAX) -> None:
        if "[[:" in source:
            raise PatternError("uses a [[:class:]], which is not supported; write the characters out")
        try:
            tree = parser.parse(source)
        except (re.error, RecursionError, OverflowError) as exc:
            raise PatternError(f"is not a regular expression: {exc}") from exc
        low, high = tree.getwidth()
        if low == 0:
            raise PatternError("matches the empty text; make it match something")
        self.source = source
        self.bounded = high < sre.MAXREPEAT and high < 1 << 31
        flags = "(?i)" if tree.state.flags & re.IGNORECASE else ""
        flags += "(?s)" if tree.state.flags & re.DOTALL else ""
        writer = _Writer(min(max_repeat, REPEAT_MAX))
        items = list(tree)
        self.text = flags + writer.sequence(items)
        self.open = flags + writer.beginnings(items)
        self.tail = writer.tail(items)


def compiled(pattern: str) -> Any:
    """An RE2 object with leftmost-longest matching. Raises: PatternError."""
    options = re2.Options()
    options.longest_match = True
    options.log_errors = False
    options.max_mem = 64 << 20  # a limit; what is not needed is not taken
    found = re2._re2.RE2(pattern.encode(), options)
    if not found.ok():
        raise PatternError(f"is not understood by RE2: {found.error()}")
    return found


class _Writer:
    """Writes a syntax tree as a pattern again; an unbounded repeat ends at `most`."""

    def __init__(self, most: int) -> None:
        self._most = most

    def sequence(self, items: Any) -> str:
        return "".join(self.one(op, value) for op, value in items)

    def beginnings(self, items: Any) -> str:
        """Every beginning of what the sequence matches, the empty one and the whole included."""
        nested = ""
        for op, value in reversed(list(items)):
            begun = self._begun(op, value)
            whole = self.one(op, value)
            nested = f"(?:{whole}{nested}|{begun})"
        return nested

    def _begun(self, op: Any, value: Any) -> str:
        """What one item may have begun with, the whole left out; "" is nothing yet."""
        if op is sre.BRANCH:
            return "|".join(f"(?:{self.beginnings(branch)})" for branch in value[1])
        if op is sre.SUBPATTERN:
            _, added, removed, body = value
            return f"(?{_flags(added, removed)}:{self.beginnings(body)})"
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            _, high, body = value
            high = self._most if high is sre.MAXREPEAT else int(high)
            before = f"(?:{self.sequence(body)}){{0,{high - 1}}}" if high > 1 else ""
            return f"{before}(?:{self.beginnings(body)})" if high else ""
        return ""

    def one(self, op: Any, value: Any) -> str:
        if op is sre.LITERAL:
            return _literal(value)
        if op is sre.NOT_LITERAL:
            return f"[^{_literal(value)}]"
        if op is sre.ANY:
            return "."
        if op is sre.IN:
            return _class(value)
        if op is sre.AT and value in _BOUNDARIES:
            return _BOUNDARIES[value]
        if op is sre.BRANCH:
            return "(?:" + "|".join(self.sequence(branch) for branch in value[1]) + ")"
        if op is sre.SUBPATTERN:
            _, added, removed, body = value
            return f"(?{_flags(added, removed)}:{self.sequence(body)})"
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, body = value
            return f"(?:{self.sequence(body)})" + self._times(int(low), high)
        if op is sre.AT:
            raise PatternError(r"has an anchor; a text in pieces has no place for ^ and $, use \b")
        raise PatternError("uses look-around, a back reference or another thing that RE2 does not have")

    def _times(self, low: int, high: Any) -> str:
        most = max(low, self._most) if high is sre.MAXREPEAT else int(high)
        if max(low, most) > REPEAT_MAX:
            raise PatternError(f"repeats something more than {REPEAT_MAX} times")
        return "?" if (low, most) == (0, 1) else f"{{{low},{most}}}"

    def tail(self, items: Any) -> str:
        if not items:
            return ""
        op, value = items[-1]
        if op is sre.SUBPATTERN:
            return self.tail(list(value[3]))
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT) and value[1] is sre.MAXREPEAT and len(value[2]) == 1:
            inner, what = value[2][0]
            if inner in (sre.IN, sre.LITERAL, sre.NOT_LITERAL, sre.ANY):
                return self.one(inner, what)
        return ""


def _flags(added: int, removed: int) -> str:
    on = ("i" if added & re.IGNORECASE else "") + ("s" if added & re.DOTALL else "")
    off = ("i" if removed & re.IGNORECASE else "") + ("s" if removed & re.DOTALL else "")
    return on + (f"-{off}" if off else "")


def _literal(code: int) -> str:
    char = chr(code)
    if char in "\n\r\t\f\v" or code < 32:
        return f"\\x{code:02x}"
    return _ESCAPED.sub(lambda match: "\\" + match[0], char) if code < 128 else f"\\x{{{code:x}}}"


def _class(parts: Any) -> str:
    out = ""
    for op, value in parts:
        if op is sre.NEGATE:
            out += "^"
        elif op is sre.LITERAL:
            out += _literal(value)
        elif op is sre.RANGE:
            out += f"{_literal(value[0])}-{_literal(value[1])}"
        else:
            out += _CATEGORIES[value]
    return f"[{out}]"
