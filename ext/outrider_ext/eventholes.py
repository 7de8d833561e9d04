# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Events of one stream that are the same but for a text: found by comparing bytes, without reading their JSON again.

Rules: an event matches if its bytes are the template's outside the holes, and each hole is what it was: the text a
whole JSON string, a number digits, a padding a string without escapes. So its JSON has the template's structure, and
whoever knows what the template means knows what the event means.
Does not know: what the holes mean, JSON's structure around them.
"""

import cython  # type: ignore[import-untyped,unused-ignore]

__all__ = ["NUMBER", "PADDING", "TEXT", "Template", "is_plain"]

TEXT, NUMBER, PADDING = 0, 1, 2

if not cython.compiled:
    import re

    _SPECIAL = re.compile(rb'["\\\x00-\x1f]')

    def plain_run(data: bytes, pos: int, end: int) -> int:
        found = _SPECIAL.search(data, pos, end)
        return end if found is None else found.start()

    def same_bytes(data: bytes, pos: int, name: bytes, length: int) -> bool:
        return data[pos : pos + length] == name


class Template:
    """literals: the bytes before, between and behind the holes; kinds: of the holes, one TEXT among them.

    After a match: start, end of the text's raw JSON between its quotes, and whether escapes are in it.
    """

    def __init__(self, literals: tuple[bytes, ...], kinds: tuple[int, ...]) -> None:
        if len(literals) != len(kinds) + 1 or kinds.count(TEXT) != 1:
            raise ValueError("A template has one text and a literal on each side of every hole.")
        self._literals = literals
        self._kinds = kinds
        self.start = self.end = 0
        self.escaped = False

    def match(self, event: bytes) -> bool:
        size = len(event)
        pos = 0
        for i in range(len(self._kinds)):
            literal = self._literals[i]
            length = len(literal)
            if size - pos < length or not same_bytes(event, pos, literal, length):
                return False
            pos += length
            kind = self._kinds[i]
            if kind == 1:
                pos = self._number(event, pos, size)
            elif kind == 2:
                pos = plain_run(event, pos, size)
            else:
                pos = self._text(event, pos, size)
            if pos < 0:
                return False
        literal = self._literals[len(self._kinds)]
        length = len(literal)
        return size - pos == length and same_bytes(event, pos, literal, length)

    def _number(self, event: bytes, pos: int, size: int) -> int:
        """No leading zero and no more than digits: what follows is compared."""
        start = pos
        while pos < size and 48 <= event[pos] <= 57:
            pos += 1
        return -1 if pos == start or (event[start] == 48 and pos - start > 1) else pos

    def _text(self, event: bytes, pos: int, size: int) -> int:
        self.start = pos
        self.escaped = False
        while True:
            pos = plain_run(event, pos, size)
            if pos >= size or event[pos] < 32:
                return -1
            if event[pos] == 34:
                self.end = pos
                return pos
            self.escaped = True
            pos += 2
            if pos > size:
                return -1


def is_plain(data: bytes) -> bool:
    """Whether it can stand in a JSON string as it is."""
    return plain_run(data, 0, len(data)) == len(data)
