"""A small strict reader of HTTP/1.1 answers, written apart from the product, and ways to cut bytes.

Knows: status line, fields, length, chunked and close framing. Anything that it cannot read is an AssertionError.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


@dataclass
class Answer:
    status: int
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = True  # the framing says that it ended; False: more was promised

    def get(self, name: bytes) -> bytes | None:
        values = [value for known, value in self.fields if known == name]
        assert len(values) <= 1, f"{name!r} stands there {len(values)} times"
        return values[0] if values else None


def read_answers(data: bytes, methods: Iterable[bytes], *, closed: bool = False) -> list[Answer]:
    """All answers in `data`, one for each method (1xx do not count as one); nothing may be left over.

    closed: the connection ended after `data`, so that an answer without a length is whole.
    """
    answers, pos = [], 0
    for method in methods:
        while pos < len(data):
            answer, pos = _read_answer(data, pos, method, closed=closed)
            answers.append(answer)
            if answer.status >= 200 or answer.status == 101:
                break
    assert pos == len(data), f"bytes after the last answer: {data[pos : pos + 80]!r}"
    return answers


def _read_answer(data: bytes, pos: int, method: bytes, *, closed: bool) -> tuple[Answer, int]:
    end = data.find(b"\r\n\r\n", pos)
    assert end >= 0, f"not a head: {data[pos : pos + 80]!r}"
    first, *lines = data[pos:end].split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    assert status is not None, f"not a status line: {first!r}"
    answer = Answer(int(status[1]))
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match is not None, f"not a field line: {line!r}"
        answer.fields.append((match[1].lower(), match[2]))
    pos = end + 4
    if method == b"HEAD" or answer.status < 200 or answer.status in (204, 304):
        return answer, pos
    length, coding = answer.get(b"content-length"), answer.get(b"transfer-encoding")
    if coding is not None:
        assert coding == b"chunked"
        assert length is None, "both lengths"
        answer.body, pos, answer.whole = read_chunked(data, pos)
    elif length is not None:
        answer.body = data[pos : pos + int(length)]
        answer.whole = len(answer.body) == int(length)
        pos += len(answer.body)
    else:
        answer.body, pos, answer.whole = data[pos:], len(data), closed
    return answer, pos


def read_chunked(data: bytes, pos: int) -> tuple[bytes, int, bool]:
    """(payload, where it ended, whether the last chunk came). Extensions and trailers are an AssertionError."""
    payload = b""
    while True:
        eol = data.find(b"\r\n", pos)
        if eol < 0:
            return payload, len(data), False
        assert re.fullmatch(rb"[0-9a-fA-F]+", data[pos:eol]), f"not a chunk size: {data[pos:eol]!r}"
        size = int(data[pos:eol], 16)
        pos = eol + 2
        if size == 0:
            if data[pos : pos + 2] == b"\r\n":
                return payload, pos + 2, True
            assert len(data) - pos < 2, f"trailers: {data[pos : pos + 40]!r}"
            return payload, len(data), False
        payload += data[pos : pos + size]
        if len(data) < pos + size + 2:
            return payload, len(data), False
        assert data[pos + size : pos + size + 2] == b"\r\n"
        pos += size + 2


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def cut_at(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """`data` in pieces; cuts beyond its end are taken modulo its length."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)}) if data else []
    return (data[a:b] for a, b in pairwise(edges))
