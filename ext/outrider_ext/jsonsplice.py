# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A JSON text written anew after its value was changed: what did not change stays as it was spelled.

Rules
- A string, number, bool or null that is what the text says stays byte for byte, with the white space around it: a
  number beyond 64 bits, 1.0, 1e5 and an escape leave as they came. Only what changed is written by `dump`.
- Of an object in which a key stands twice nothing is kept: what a reader of the value did not see does not leave.
- A text that does not look like the value is an error, and the caller writes the whole value.
Linear in the text, but for a list that has another length than before.
Does not know: what changed it, what stands where.
"""

from typing import Any

import cython  # type: ignore[import-untyped,unused-ignore]

__all__ = ["SpliceError", "has_own_spelling", "splice"]

MAX_DEPTH = 1024
SAFE_DIGITS = 18  # an integer of so many is within 64 bits
MAX_MISSES = 16  # elements of a list that are looked for and not found, before the rest is written anew

if not cython.compiled:
    import re

    _SPECIAL = re.compile(rb'["\\\x00-\x1f]')

    def plain_run(data: bytes, pos: int, end: int) -> int:
        found = _SPECIAL.search(data, pos, end)
        return end if found is None else found.start()


class SpliceError(ValueError):
    """The text is not what the value was read from."""


def splice(text: bytes, value: Any, load: Any, dump: Any) -> bytes:
    """The text of `value`, with the spelling of `text`, from which it was loaded before it was changed.

    load(bytes) -> value, dump(value) -> bytes: they read and write one JSON text. Raises: SpliceError.
    """
    splicer = _Splicer(text, load, dump)
    try:
        end = splicer.blank(splicer.compare(splicer.blank(0), value, 0))
    except SpliceError:
        raise
    except ValueError as exc:  # a piece of it is no JSON by itself
        raise SpliceError("the text is not what the value was read from") from exc
    if end != len(text):
        raise SpliceError("something follows the value")
    if not splicer.patches:
        return text
    return splicer.patched(0, end, 0, len(splicer.patches))


def has_own_spelling(text: bytes, load: Any, dump: Any) -> bool:
    """Whether a number in it would be spelled in another way by load and dump: where none is, dump can write it all."""
    end = len(text)
    pos = 0
    while pos < end:
        byte = text[pos]
        if byte == 34:
            pos += 1
            while True:
                pos = plain_run(text, pos, end)
                if pos >= end:
                    return True
                byte = text[pos]
                pos += 1
                if byte == 34:
                    break
                pos += byte == 92
        elif byte == 45 or (48 <= byte <= 57):
            start = pos
            pos += 1
            plain = byte != 45
            while pos < end:
                byte = text[pos]
                if 48 <= byte <= 57:
                    pos += 1
                elif byte == 46 or byte == 101 or byte == 69 or byte == 43 or byte == 45:  # noqa: PLR1714
                    plain = False
                    pos += 1
                else:
                    break
            if (not plain or pos - start > SAFE_DIGITS) and not _is_kept(text[start:pos], load, dump):
                return True
        elif byte == 78 or byte == 73:  # noqa: PLR1714  (NaN and Infinity, which some write and some read)
            return True
        else:
            pos += 1
    return False


def _is_kept(number: bytes, load: Any, dump: Any) -> bool:
    try:
        said: bytes = dump(load(number))
    except ValueError:
        return False
    return said == number


@cython.final
@cython.cclass
class _Splicer:
    """patches: (start, end, what stands there now), in order and apart."""

    def __init__(self, text: bytes, load: Any, dump: Any) -> None:
        self.text, self.load, self.dump = text, load, dump
        self.size = len(text)
        self.patches: list[tuple[int, int, bytes]] = []

    # -- where things end

    def blank(self, pos: int) -> int:
        while pos < self.size and (
            self.text[pos] == 32 or self.text[pos] == 10 or self.text[pos] == 13 or self.text[pos] == 9
        ):
            pos += 1
        return pos

    def byte(self, pos: int) -> int:
        """What stands there. Raises: SpliceError at the end."""
        if pos >= self.size:
            raise SpliceError("the text is cut off")
        return self.text[pos]

    def after_string(self, pos: int) -> int:
        """pos: of its quote."""
        pos += 1
        while True:
            pos = plain_run(self.text, pos, self.size)
            byte = self.byte(pos)
            if byte == 34:
                return pos + 1
            if byte != 92:
                raise SpliceError("a string holds a control character")
            pos += 2

    def after_word(self, pos: int) -> int:
        """Of a number, true, false or null: up to what cannot stand in one."""
        start = pos
        while pos < self.size:
            byte = self.text[pos]
            if byte == 44 or byte == 93 or byte == 125 or byte <= 32 or byte == 34 or byte == 58:  # noqa: PLR1714
                break
            pos += 1
        if pos == start:
            raise SpliceError("a value is missing")
        return pos

    def after_value(self, pos: int) -> int:
        """Of any value: its brackets are counted, since a parser has accepted it."""
        depth = 0
        while True:
            byte = self.byte(pos)
            if byte == 34:
                pos = self.after_string(pos)
            elif byte == 123 or byte == 91:  # noqa: PLR1714
                depth += 1
                pos += 1
            elif byte == 125 or byte == 93:  # noqa: PLR1714
                depth -= 1
                pos += 1
            elif byte == 44 or byte == 58 or byte <= 32:  # noqa: PLR1714
                pos += 1
            else:
                pos = self.after_word(pos)
            if depth == 0:
                return pos
            if depth < 0:
                raise SpliceError("a bracket closes what was not opened")

    # -- what differs

    def compare(self, pos: int, value: Any, depth: int) -> int:
        """Where the value at `pos` ends; what differs from `value` is added to the patches."""
        if depth > MAX_DEPTH:
            raise SpliceError("the text is nested too deep")
        byte = self.byte(pos)
        if byte == 123 and type(value) is dict:
            return self.compare_object(pos, value, depth)
        if byte == 91 and type(value) is list:
            return self.compare_list(pos, value, depth)
        end = self.after_value(pos)
        if byte == 34 and type(value) is str:
            if not self.is_string(pos, end, value):
                self.patches.append((pos, end, self.dump(value)))
        elif not self.is_same(pos, end, value):
            self.patches.append((pos, end, self.dump(value)))
        return end

    def is_string(self, pos: int, end: int, value: str) -> bool:
        inner = self.text[pos + 1 : end - 1]
        if inner == value.encode("utf-8", "surrogatepass"):
            return b"\\" not in inner  # where an escape is meant as such, the text says something else
        return b"\\" in inner and self.load(self.text[pos:end]) == value

    def is_same(self, pos: int, end: int, value: Any) -> bool:
        span = self.text[pos:end]
        if value is None:
            return span == b"null"
        if value is True or value is False:
            return span == (b"true" if value else b"false")
        if type(value) is int and span == b"%d" % value:
            return True
        said: bytes = self.dump(value)
        return said == span or bytes(self.dump(self.load(span))) == said

    def key(self, pos: int, end: int) -> str:
        inner = self.text[pos + 1 : end - 1]
        if b"\\" in inner:
            return str(self.load(self.text[pos:end]))
        return inner.decode("utf-8", "surrogatepass")

    def compare_object(self, pos: int, value: dict[str, Any], depth: int) -> int:
        start = pos
        mark = len(self.patches)
        members: list[tuple[int, int, int, int]] = []  # of what is kept: where it stands, and which patches are its own
        seen: set[str] = set()
        is_whole = True  # every member of the text is one of the value's
        pos = self.blank(pos + 1)
        while self.byte(pos) != 125:
            if self.byte(pos) != 34:
                raise SpliceError("a key is missing")
            begin = pos
            pos = self.after_string(pos)
            key = self.key(begin, pos)
            pos = self.blank(pos)
            if self.byte(pos) != 58:
                raise SpliceError("a colon is missing")
            pos = self.blank(pos + 1)
            if key in seen:
                end = self.after_value(start)
                del self.patches[mark:]
                self.patches.append((start, end, self.dump(value)))
                return end
            if key in value:
                seen.add(key)
                low = len(self.patches)
                pos = self.compare(pos, value[key], depth + 1)
                members.append((begin, pos, low, len(self.patches)))
            else:
                is_whole = False
                seen.add(key)
                pos = self.after_value(pos)
            pos = self.after_comma(pos, 125)
        pos += 1
        if not is_whole or len(members) != len(value):
            pieces = [self.patched(begin, end, low, high) for begin, end, low, high in members]
            pieces += [self.dump(key) + b":" + self.dump(value[key]) for key in value if key not in seen]
            del self.patches[mark:]
            self.patches.append((start, pos, b"{" + b",".join(pieces) + b"}"))
        return pos

    def after_comma(self, pos: int, closing: int) -> int:
        """pos: behind an element. Where the next one begins, or the bracket is."""
        pos = self.blank(pos)
        byte = self.byte(pos)
        if byte == 44:
            pos = self.blank(pos + 1)
            if self.byte(pos) == closing:
                raise SpliceError("a comma is followed by nothing")
            return pos
        if byte != closing:
            raise SpliceError("a comma is missing")
        return pos

    def compare_list(self, pos: int, value: list[Any], depth: int) -> int:
        start = pos
        mark = len(self.patches)
        elements: list[tuple[int, int]] = []
        count = len(value)
        pos = self.blank(pos + 1)
        while self.byte(pos) != 93:
            begin = pos
            place = len(elements)
            pos = self.compare(pos, value[place], depth + 1) if place < count else self.after_value(pos)
            elements.append((begin, pos))
            pos = self.after_comma(pos, 93)
        pos += 1
        if len(elements) != count:
            del self.patches[mark:]
            self.patches.append((start, pos, b"[" + b",".join(self.aligned(elements, value)) + b"]"))
        return pos

    def aligned(self, elements: list[tuple[int, int]], value: list[Any]) -> list[bytes]:
        """The elements' texts: of one that was there before, its own."""
        found: list[bytes] = []
        said: list[Any] = [None] * len(elements)  # how each would be written, once it was looked at
        place = misses = 0
        for one in value:
            wanted = self.dump(one)
            at = place
            while misses < MAX_MISSES and at < len(elements):
                if said[at] is None:
                    begin, end = elements[at]
                    said[at] = self.dump(self.load(self.text[begin:end]))
                if said[at] == wanted:
                    break
                at += 1
            if misses < MAX_MISSES and at < len(elements):
                begin, end = elements[at]
                found.append(self.text[begin:end])
                place = at + 1
            else:
                found.append(wanted)
                misses += 1
        return found

    def patched(self, start: int, end: int, low: int, high: int) -> bytes:
        """The text from start to end, with the patches from number `low` to before `high`, which stand in it."""
        pieces: list[bytes] = []
        for place in range(low, high):
            begin, close, said = self.patches[place]
            pieces += (self.text[start:begin], said)
            start = close
        pieces.append(self.text[start:end])
        return b"".join(pieces)
