# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Where named top-level fields of a JSON object lie in its bytes, without building objects.

Rules kept:
1. The top level is strict (RFC 8259): members, commas, colons, strings, literals and numbers; nothing after the object.
2. Inside nested values brackets must pair by kind, and strings must be whole, with known escapes and no control
   characters; what stands between them is not judged (the provider does that).
3. A watched key may stand once. Keys are compared decoded, so an escaped spelling is the same key: two readers must
   never see different values. Other keys may repeat.
4. A watched string decodes: its UTF-8 is valid and its escapes pair surrogates. Elsewhere neither is looked at, since
   real clients send lone surrogates in prompts, and refusing those is not ours to do.

The plan: one pass. Strings are most of a body and are skipped eight bytes at a time (plain_run in jsonscan.pxd), nested
values by a bracket stack of fixed size. Helpers below return the index behind what they skipped, or ~index (negative)
of the byte that is wrong, so that nothing is raised until the one place that words the error.

Does not know: which fields matter, numbers' values beyond 64-bit integers, encodings other than UTF-8.
"""

from json import loads

import cython  # type: ignore[import-untyped,unused-ignore]

__all__ = ["FieldScan", "JsonScanError"]

if not cython.compiled:
    import re

    NAMES_CAP = 32
    DEPTH_CAP = 1024
    _SPECIAL = re.compile(rb'["\\\x00-\x1f]')

    def plain_run(data: bytes, pos: int, end: int) -> int:
        """Index of the first quote, backslash or control character in data[pos:end], else `end`."""
        found = _SPECIAL.search(data, pos, end)
        return end if found is None else found.start()

    def same_bytes(data: bytes, pos: int, name: bytes, length: int) -> bool:
        return data[pos : pos + length] == name


class JsonScanError(ValueError):
    """The body is not the JSON object that it should be; the message names the byte and is safe to show."""


class DuplicateKeyError(JsonScanError):
    """A key that is looked for stands twice: two readers could take it for two different requests."""


class FieldScan:
    """Finds top-level fields of JSON objects. One object is used for many bodies; a scan forgets the one before.

    names: the keys to look for, as UTF-8, at most 32; results are asked for by index into it.
    max_depth: nesting allowed, the object itself being 1; at most 1024. fold_case: keys are compared without regard to
    (ASCII) case, as some servers do; the names are lower-case.
    After a scan: `inside` is the index just behind the opening brace (a member can be inserted there), `close` that of
    the closing brace, `empty` whether no member stands between; before one, and after one that failed, -1, -1, False.
    Memory: keeps the body until the next scan or clear(). Cost: linear in the body.
    """

    def __init__(self, names: tuple[bytes, ...], max_depth: int = 128, fold_case: bool = False) -> None:
        if len(names) > NAMES_CAP or len(set(names)) != len(names):
            raise ValueError(f"At most {NAMES_CAP} names can be looked for, each once.")
        if not 1 <= max_depth <= DEPTH_CAP:
            raise ValueError(f"max_depth must be from 1 to {DEPTH_CAP}.")
        self.names = names
        self.max_depth = max_depth
        self._count = len(names)
        self._fold = fold_case
        if not cython.compiled:
            self._name_lengths = [0] * NAMES_CAP
            self._starts = [-1] * NAMES_CAP
            self._ends = [-1] * NAMES_CAP
            self._stack = bytearray(DEPTH_CAP)
        for i in range(self._count):
            self._name_lengths[i] = len(names[i])
        self.clear()

    def clear(self) -> None:
        """Forget the last body and what was found in it."""
        for i in range(self._count):
            self._starts[i] = self._ends[i] = -1
        self.inside = self.close = -1
        self.empty = False
        self._origin = 0
        self._body = b""

    def scan(self, body: bytes, start: int = 0, end: int = -1) -> None:
        """Scan body[start:end] (end -1: to its end). All indices count from the start of `body`.

        Raises: JsonScanError when the bytes are not one JSON object, are malformed or too deep as far as this module
        looks (see the rules above), or hold a watched key twice; IndexError when the range is not in `body`.
        """
        self.clear()
        if end == -1:
            end = len(body)
        if start < 0 or end > len(body) or start > end:
            raise IndexError("The range to scan does not lie in the body.")
        self._origin = start
        pos = _skip_space(body, start, end)
        if pos == end or body[pos] != 123:
            raise self._error(pos, "is not a JSON object")
        self.inside = pos + 1
        pos = self._members(body, pos + 1, end)
        self.close = pos
        pos = _skip_space(body, pos + 1, end)
        if pos != end:
            raise self._error(pos, "goes on after its JSON object")
        self._body = body

    def _members(self, body: bytes, pos: int, end: int) -> int:
        """Walk the members from behind the opening brace; return the index of the closing one."""
        pos = _skip_space(body, pos, end)
        if pos < end and body[pos] == 125:
            self.empty = True
            return pos
        while True:
            if pos >= end or body[pos] != 34:
                raise self._error(pos, "has no key where one must stand")
            key_end = _skip_string(body, pos, end)
            if key_end < 0:
                raise self._error(~key_end, "has a malformed string")
            index = self._match(body, pos + 1, key_end - 1)
            pos = _skip_space(body, key_end, end)
            if pos >= end or body[pos] != 58:
                raise self._error(pos, "has no colon behind a key")
            pos = _skip_space(body, pos + 1, end)
            value_end = self._value(body, pos, end)
            if index >= 0:
                self._keep(index, body, pos, value_end)
            pos = _skip_space(body, value_end, end)
            byte = body[pos] if pos < end else 0
            if byte == 125:
                return pos
            if byte != 44:
                raise self._error(pos, "has neither comma nor closing brace behind a value")
            pos = _skip_space(body, pos + 1, end)

    def _match(self, body: bytes, pos: int, end: int) -> int:
        """Index of the watched name that the key body[pos:end] (without its quotes) spells, else -1."""
        if plain_run(body, pos, end) != end:  # an escape; rare, so decoded in full
            key = loads(b'"%b"' % body[pos:end].decode("utf-8", "replace").encode())
            escaped = key.encode("utf-8", "surrogatepass")
            if self._fold:
                escaped = escaped.lower()
            return self.names.index(escaped) if escaped in self.names else -1
        length = end - pos
        if self._fold:
            folded = body[pos:end].lower()
            for i in range(self._count):
                if self._name_lengths[i] == length and folded == self.names[i]:
                    return i
            return -1
        for i in range(self._count):
            if self._name_lengths[i] == length and same_bytes(body, pos, self.names[i], length):
                return i
        return -1

    def _keep(self, index: int, body: bytes, start: int, end: int) -> None:
        if self._starts[index] >= 0:
            error = self._error(start, f"has the key {self.names[index].decode('utf-8', 'replace')!r} twice")
            raise DuplicateKeyError(str(error))
        if body[start] == 34 and not _is_plain(body, start, end):
            try:
                loads(body[start:end].decode()).encode()
            except UnicodeError:
                raise self._error(start, "has a string that is not Unicode text") from None
        self._starts[index] = start
        self._ends[index] = end

    def _value(self, body: bytes, pos: int, end: int) -> int:
        """Index behind the value at `pos`."""
        if pos >= end:
            raise self._error(pos, "ends where a value must stand")
        byte = body[pos]
        if byte == 34:
            after = _skip_string(body, pos, end)
        elif byte in {123, 91}:
            return self._nested(body, pos, end)
        elif byte == 116:
            after = _skip_word(body, pos, end, b"true")
        elif byte == 102:
            after = _skip_word(body, pos, end, b"false")
        elif byte == 110:
            after = _skip_word(body, pos, end, b"null")
        else:
            after = _skip_number(body, pos, end)
        if after < 0:
            raise self._error(~after, "has a malformed value")
        return after

    def _nested(self, body: bytes, pos: int, end: int) -> int:
        """Index behind the object or array that begins at `pos`."""
        depth = 0
        limit = self.max_depth - 1
        while pos < end:
            byte = body[pos]
            if byte == 34:
                pos = _skip_string(body, pos, end)
                if pos < 0:
                    raise self._error(~pos, "has a malformed string")
                continue
            if byte in {123, 91}:
                if depth == limit:
                    raise self._error(pos, f"is nested deeper than {self.max_depth} levels")
                self._stack[depth] = byte
                depth += 1
            elif byte in {125, 93}:
                depth -= 1
                if self._stack[depth] != byte - 2:  # "{" and "[" stand two before their partners in ASCII
                    raise self._error(pos, "has a bracket that closes another kind")
                if depth == 0:
                    return pos + 1
            pos += 1
        raise self._error(end, "ends inside a nested value")

    def _error(self, pos: int, what: str) -> JsonScanError:
        error = JsonScanError(f"The body {what}, at byte {pos - self._origin}.")
        self.clear()
        return error

    def _at(self, index: int) -> int:
        if index < 0 or index >= self._count:
            raise IndexError("No name was given for this index.")
        return index

    def raw(self, index: int) -> bytes | None:
        """The JSON text of the value, trimmed; None when the key is absent."""
        index = self._at(index)
        return self._body[self._starts[index] : self._ends[index]] if self._starts[index] >= 0 else None

    def span(self, index: int) -> tuple[int, int]:
        """(start, end) of the value in the body, (-1, -1) when the key is absent."""
        index = self._at(index)
        return (self._starts[index], self._ends[index])

    def text(self, index: int) -> str | None:
        """The decoded value when it is a JSON string, else None."""
        start = self._starts[self._at(index)]
        end = self._ends[index]
        if start < 0 or self._body[start] != 34:
            return None
        if _is_plain(self._body, start, end):
            return self._body[start + 1 : end - 1].decode("ascii")
        return str(loads(self._body[start:end]))

    def flag(self, index: int) -> bool:
        """Whether the value is `true`."""
        index = self._at(index)
        return self._starts[index] >= 0 and self._body[self._starts[index]] == 116

    def number(self, index: int) -> int | None:
        """The value when it is an integer in plain digits that fits 64 bits with sign, else None."""
        start = self._starts[self._at(index)]
        end = self._ends[index]
        if start < 0 or end - start > 20:  # a minus and 19 digits
            return None
        pos = start + 1 if self._body[start] == 45 else start
        if _skip_digits(self._body, pos, end) != end:
            return None
        value = int(self._body[start:end])
        return value if -(1 << 63) <= value < 1 << 63 else None

    def count(self, index: int) -> int:
        """The value when it is a whole number from 0 to 2**53 in plain digits, else -1; no object is made for it."""
        start = self._starts[self._at(index)]
        end = self._ends[index]
        if start < 0 or end - start > 16:
            return -1
        value = 0
        for pos in range(start, end):
            digit = self._body[pos] - 48
            if digit < 0 or digit > 9:
                return -1
            value = value * 10 + digit
        return value if value <= 1 << 53 else -1

    def starts(self, index: int) -> int:
        """Where the value starts in the body, -1 when the key is absent."""
        return self._starts[self._at(index)]

    def ends(self, index: int) -> int:
        """Where the value ends in the body, -1 when the key is absent."""
        return self._ends[self._at(index)]


def _skip_space(body: bytes, pos: int, end: int) -> int:
    while pos < end:
        byte = body[pos]
        if byte != 32 and byte != 10 and byte != 13 and byte != 9:  # noqa: PLR1714  (compiled: plain compares)
            break
        pos += 1
    return pos


def _skip_string(body: bytes, pos: int, end: int) -> int:
    """From the opening quote at `pos` to behind the closing one."""
    pos += 1
    while True:
        pos = plain_run(body, pos, end)
        if pos >= end:
            return ~end
        byte = body[pos]
        if byte == 34:
            return pos + 1
        if byte != 92 or end - pos < 2:
            return ~pos
        byte = body[pos + 1]
        if byte == 117:
            if end - pos < 6 or not _is_hex(body, pos + 2):
                return ~pos
            pos += 6
        elif byte in {34, 92, 47, 98, 102, 110, 114, 116}:
            pos += 2
        else:
            return ~pos


def _is_hex(body: bytes, pos: int) -> bool:
    """Whether the four bytes at `pos` are hexadecimal digits."""
    for i in range(pos, pos + 4):
        byte = body[i]
        if not (48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102):
            return False
    return True


def _skip_number(body: bytes, pos: int, end: int) -> int:
    """RFC 8259, 6: number = [ minus ] int [ frac ] [ exp ]; no leading zeros."""
    if pos < end and body[pos] == 45:
        pos += 1
    after = _skip_digits(body, pos, end)
    if after == pos or (body[pos] == 48 and after - pos > 1):
        return ~pos
    pos = after
    if pos < end and body[pos] == 46:
        after = _skip_digits(body, pos + 1, end)
        if after == pos + 1:
            return ~after
        pos = after
    if pos < end and body[pos] in {101, 69}:
        pos += 1
        if pos < end and body[pos] in {43, 45}:
            pos += 1
        after = _skip_digits(body, pos, end)
        if after == pos:
            return ~pos
        pos = after
    return pos


def _skip_digits(body: bytes, pos: int, end: int) -> int:
    while pos < end and 48 <= body[pos] <= 57:
        pos += 1
    return pos


def _skip_word(body: bytes, pos: int, end: int, word: bytes) -> int:
    length = len(word)
    if end - pos < length or not same_bytes(body, pos, word, length):
        return ~pos
    return pos + length


def _is_plain(body: bytes, pos: int, end: int) -> bool:
    """Whether body[pos:end] is ASCII without escapes, so that its bytes are its text."""
    for i in range(pos, end):
        byte = body[i]
        if byte >= 128 or byte == 92:
            return False
    return True
