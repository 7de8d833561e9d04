"""The fields of a multipart/form-data body, read so strictly that no other reader could find other ones.

Rules: one boundary, the body begins with it and ends after the last; every part has exactly one content-disposition of
form-data with one plain `name`; no transfer encoding; anything else is an error. A field may stand more than once
(`image[]` does): who reads one that may not has to look.
Does not know: which fields matter. Source: RFC 7578, RFC 2046 section 5.1, read strictly.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_PARTS: Final = 1024
MAX_PART_HEAD_BYTES: Final = 16_384

_BOUNDARY: Final = re.compile(
    rb"multipart/form-data\s*((?:;\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:\"[^\"\\]*\"|[^;\"\s]+)\s*)*)\Z", re.IGNORECASE
)
_PARAMETER: Final = re.compile(rb";\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:\"([^\"\\]*)\"|([^;\"\s]+))")
_NAME: Final = re.compile(
    rb"form-data((?:\s*;\s*[A-Za-z*]+=(?:\"(?:[^\"\\\r\n]|\\.)*\"|[^;\"\s]+))*)\s*;?\s*\Z", re.IGNORECASE
)
_PAIR: Final = re.compile(rb";\s*([A-Za-z*]+)=(?:\"((?:[^\"\\\r\n]|\\.)*)\"|([^;\"\s]+))")


class MultipartError(ValueError):
    """The body is not one that everybody reads alike; the message is safe to show."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    is_file: bool
    data: bytes


def is_multipart(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.lstrip()[:10].lower() == b"multipart/"


def parts_of(body: bytes, content_type: bytes) -> list[Part]:
    """Raises: MultipartError."""
    mark = b"--" + _boundary(content_type)
    if not body.startswith(mark):
        raise MultipartError("the form does not begin with its boundary")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)[1:]
    *inner, last = pieces
    if not inner or last.rstrip(b"\r\n") != b"--":
        raise MultipartError("the form does not end with its boundary")
    if len(inner) > MAX_PARTS:
        raise MultipartError(f"the form has more than {MAX_PARTS} parts")
    return [_part(piece) for piece in inner]


def _boundary(content_type: bytes) -> bytes:
    found = _BOUNDARY.match(content_type.strip())
    if found is None:
        raise MultipartError("the content-type is not a plain multipart/form-data")
    values = [quoted or bare for name, quoted, bare in _PARAMETER.findall(found[1]) if name.lower() == b"boundary"]
    if len(values) != 1 or not 1 <= len(values[0]) <= 70 or values[0].endswith(b" "):
        raise MultipartError("the content-type needs one boundary")
    return bytes(values[0])


def _part(piece: bytes) -> Part:
    if not piece.startswith(b"\r\n"):
        raise MultipartError("a boundary is followed by other bytes")
    head, blank, data = piece.partition(b"\r\n\r\n")
    if not blank or len(head) > MAX_PART_HEAD_BYTES:
        raise MultipartError("a part has no head of its own")
    fields: dict[bytes, bytes] = {}
    for line in head[2:].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        key = name.lower()
        if (
            not colon
            or key in fields
            or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", key)
            or b"\n" in line
            or b"\r" in line
        ):
            raise MultipartError("a part's head cannot be read in one way only")
        fields[key] = value.strip()
    if fields.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"7bit", b"8bit"):
        raise MultipartError("a part is encoded")
    field, is_file = _disposition(fields.get(b"content-disposition", b""))
    return Part(field, is_file, data)


def _disposition(value: bytes) -> tuple[str, bool]:
    found = _NAME.match(value)
    pairs = _PAIR.findall(found[1]) if found is not None else []
    names = [quoted or bare for key, quoted, bare in pairs if key.lower() == b"name"]
    if len(names) != 1 or b"\\" in names[0] or b"%" in names[0]:
        raise MultipartError("a part needs one plain name")
    if any(key.lower() == b"name*" for key, _, _ in pairs):
        raise MultipartError("a part's name is given in two ways")
    try:
        name = names[0].decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MultipartError("a part's name is no text") from exc
    return name, any(key.lower() in (b"filename", b"filename*") for key, _, _ in pairs)
