"""One text, in one piece or in many: what is found is replaced, and however it was cut the result is the same.

Rules
- What is given out can no longer change. What is kept back begins where an open pattern reaches the end of what came,
  and it is given out with the next piece, or by `finish` before the block ends.
- A match that is longer than its pattern allows, or that is known to go on, is replaced at once; the rest of it is
  dropped as it comes (on_overlong: mask).
- A text that is itself JSON (a tool's arguments) is read without its escapes and written with them again; what is
  put in the place of a bare number is put in quotes.
- A pseudonym inside a URL is not turned back unless a rule says so: a picture's address would carry it away.
Memory: a detector's greatest length and 64 bytes of what went before.
Does not know: events, dialects, what the replacement is.
"""

import re
from collections.abc import Callable
from typing import Final

from outrider.govern.redact.scan import CONTEXT_BYTES, NOWHERE, Found, Scanner

TEXT: Final = "text"
ARGUMENTS: Final = "tool_arguments"  # decoded already
JSON_TEXT: Final = "json"  # a tool's arguments as JSON in a string

# (row, value, the part is inside a URL, kind) -> what stands in its place; None leaves it
type Replace = Callable[[int, bytes, bool, str], bytes | None]

# What a URL may begin with, in whatever markup; then it lasts to white space or what closes it.
_URL: Final = re.compile(
    rb"(?i)(?://|:/|:\\|\\\\|\bwww\.|\b(?:mailto|tel|data|javascript|sms):|\]\(|\]:\s{0,9}|(?:src|href|url|action|poster)\s{0,9}=|url\()"
    rb"|[a-z0-9-]\.[a-z]{2,24}[/?#]"
)
_URL_CUT_BYTES: Final = 32  # how much of a URL's beginning may be cut off from the rest
_UNKNOWN: Final = b"?"


class Url:
    """Whether the text is inside a URL, as it goes by."""

    __slots__ = ("_inside", "_last")

    def __init__(self) -> None:
        self._inside = b""  # what closes it; b"" outside of one
        self._last = b""

    def passes(self, text: bytes) -> None:
        run = self._last + text
        at = 0  # while inside, nothing is kept
        if self._inside == _UNKNOWN:
            self._inside = b""
        while True:
            if self._inside:
                end = _closing(run, at, self._inside)
                if end < 0:
                    break
                self._inside, at = b"", end
            found = _URL.search(run, at)
            if found is None:
                break
            if found.end() == len(run):  # what closes it depends on what follows
                self._inside, self._last = _UNKNOWN, run[max(0, found.start() - _URL_CUT_BYTES) :]
                return
            self._inside, at = _closer(run, found.start(), found.end())
        self._last = b"" if self._inside else run[max(at, len(run) - _URL_CUT_BYTES) :]

    @property
    def inside(self) -> bool:
        return bool(self._inside)


def _closer(run: bytes, start: int, end: int) -> tuple[bytes, int]:
    """(what ends a URL that is opened so, where to look for it): quotes and angle brackets may hold blanks."""
    around = run[max(0, start - 12) : end]
    follows = run[end : end + 1]
    for mark, closer in ((b'"', b'"'), (b"'", b"'"), (b"<", b">")):
        if follows == mark:
            return closer, end + 1
        if re.search(mark + rb"[^\s" + mark + rb"]*$", around):
            return closer, end
    return b" ", end


def _closing(run: bytes, at: int, closer: bytes) -> int:
    ends = b"\n\r" + (b" \t" if closer == b" " else closer)
    places = [place for byte in ends if (place := run.find(bytes((byte,)), at)) >= 0]
    return min(places) + 1 if places else -1


class TextStream:
    """feed(piece) -> what can be given out; finish() -> the rest. `piece` is UTF-8 of whole characters."""

    __slots__ = (
        "_context",
        "_follower",
        "_held",
        "_is_json",
        "_kind",
        "_quoted",
        "_replace",
        "_scanner",
        "_stop",
        "_url",
    )

    def __init__(self, scanner: Scanner, replace: Replace, kind: str = TEXT, *, watch_urls: bool = False) -> None:
        self._scanner = scanner
        self._replace = replace
        self._is_json = kind == JSON_TEXT
        self._kind = ARGUMENTS if self._is_json else kind
        self._context = b""
        self._held = b""
        self._follower = NOWHERE
        self._stop = b""  # the last bytes dropped, where the end of the tail may have begun
        self._quoted = False  # (JSON) inside a string
        self._url = Url() if watch_urls else None

    @property
    def pending(self) -> bool:
        return bool(self._held) or self._follower != NOWHERE

    def feed(self, piece: bytes) -> bytes:
        return self._take(piece, False)

    def finish(self, piece: bytes = b"") -> bytes:
        """The rest, after which a new text may begin."""
        out = self._take(piece, True)
        self._context = self._stop = b""
        self._follower, self._quoted = NOWHERE, False
        if self._url is not None:
            self._url = Url()
        return out

    def _take(self, piece: bytes, last: bool) -> bytes:
        text = self._held + piece
        if self._is_json:
            return self._take_json(text, last)
        return b"".join(self._pieces(text, last))

    def _take_json(self, raw: bytes, last: bool) -> bytes:
        """`_held` is kept in its decoded form, so only an unfinished escape is kept raw, at its end."""
        whole = len(raw) if last else _whole_escapes(raw)
        rest = raw[whole:]
        out = json_raw(b"".join(self._pieces(json_view(raw[:whole]), last)))
        self._held = json_raw(self._held) + rest
        return out

    def _pieces(self, text: bytes, last: bool) -> list[bytes]:
        if self._follower != NOWHERE:
            text = self._drop_tail(text, last)
        if not text:
            self._held = b""
            return []
        context = self._context
        start = len(context)
        whole = context + text if start else text
        spans, hold, follower = self._scanner.find(whole, start, last)
        self._held = whole[hold:]
        self._context = whole[max(0, hold - CONTEXT_BYTES) : hold]
        self._follower = follower
        if follower != NOWHERE:
            self._stop = whole[max(spans[-1].low, hold - CONTEXT_BYTES) : hold]
        if not spans and self._url is None and not self._is_json:
            return [whole[start:hold]]
        return self._replaced(whole, start, hold, spans)

    def _replaced(self, whole: bytes, start: int, hold: int, spans: list[Found]) -> list[bytes]:
        pieces: list[bytes] = []
        at = start
        for low, high, row in spans:
            self._pass(pieces, whole[at:low])
            value = whole[low:high]
            inside = self._url is not None and self._url.inside
            put = self._replace(row, value, inside, self._kind)
            if put is None:
                self._pass(pieces, value)
            else:
                pieces.append(put if not self._is_json else json_view_of(put, bare=not self._quoted))
            at = high
        self._pass(pieces, whole[at:hold])
        return pieces

    def _pass(self, pieces: list[bytes], text: bytes) -> None:
        if not text:
            return
        pieces.append(text)
        if self._is_json and text.count(b'"') % 2:
            self._quoted = not self._quoted
        if self._url is not None:
            self._url.passes(text)

    def _drop_tail(self, text: bytes, last: bool) -> bytes:
        """What is behind the end of the tail; b"" while it goes on."""
        whole = self._stop + text
        end, goes_on = self._scanner.follow(self._follower, whole, len(self._stop), 0)
        self._context = whole[max(0, end - CONTEXT_BYTES) : end]
        if goes_on and not last:
            self._stop = whole[-CONTEXT_BYTES:]
            return b""
        self._follower, self._stop = NOWHERE, b""
        return whole[end:]


# -- JSON in a string: a view without escapes, from which the text can be written again

# Bytes that no JSON text holds stand for what must stay apart from the text's own structure: 01 and 02 for an escaped
# quote and back-slash, 0b, 0e and 0f for the white space between members.
_SIMPLE: Final = {
    b'"': b"\x01", b"\\": b"\x02", b"/": b"/", b"b": b"\x08", b"f": b"\x0c", b"n": b"\n", b"r": b"\r", b"t": b"\t",
}  # fmt: skip
_TO_RAW: Final = {
    0x01: b'\\"', 0x02: b"\\\\", 0x08: b"\\b", 0x0C: b"\\f", 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t",
    0x0B: b"\n", 0x0E: b"\r", 0x0F: b"\t",
}  # fmt: skip
_TAKEN: Final = frozenset((0x01, 0x02, 0x0B, 0x0E, 0x0F))
_ASIDE: Final = 0xDC80  # where the control characters go whose places are taken; no text has half a pair
_SPACES: Final = bytes.maketrans(b"\n\r\t", b"\x0b\x0e\x0f")
_ESCAPE: Final = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([\"\\/bfnrt]))"
)
_SPECIAL: Final = re.compile(rb"[\x00-\x1f]|\xed[\xa0-\xbf][\x80-\xbf]")
_CUT_ESCAPE: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)?)\Z"
)


def json_view(raw: bytes) -> bytes:
    """The text with its escapes decoded. What cannot be told apart again stays as it is."""
    if b"\\" not in raw:
        return raw.translate(_SPACES) if b"\n" in raw or b"\t" in raw or b"\r" in raw else raw
    return _ESCAPE.sub(_decode, raw.translate(_SPACES))


def _decode(match: re.Match[bytes]) -> bytes:
    high, low, single, simple = match.groups()
    if simple is not None:
        return _SIMPLE[simple]
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00).encode()
    code = int(single, 16)
    if code in (0x22, 0x5C):
        return b"\x01" if code == 0x22 else b"\x02"
    return chr(code + _ASIDE if code in _TAKEN else code).encode("utf-8", "surrogatepass")


def json_raw(view: bytes) -> bytes:
    return _SPECIAL.sub(_encode, view) if _SPECIAL.search(view) else view


def _encode(match: re.Match[bytes]) -> bytes:
    if len(match[0]) == 1:
        code = match[0][0]
        return _TO_RAW.get(code) or b"\\u%04x" % code
    code = ord(match[0].decode("utf-8", "surrogatepass"))
    return b"\\u%04x" % (code - _ASIDE if code - _ASIDE in _TAKEN else code)


def json_view_of(value: bytes, *, bare: bool) -> bytes:
    """A replacement as the view has it. bare: it stands where no string is."""
    escaped = value.replace(b"\\", b"\x02").replace(b'"', b"\x01")
    return b'"' + escaped + b'"' if bare else escaped


def _whole_escapes(raw: bytes) -> int:
    """Where an unfinished escape begins at the end, else the length."""
    if b"\\" not in raw[-12:]:
        return len(raw)
    match = _CUT_ESCAPE.search(raw)
    return match.start(1) if match else len(raw)
