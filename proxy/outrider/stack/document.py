"""The request's body as a JSON object, for the layers that need more of it than its top-level fields.

Rules: it is parsed once, by the first layer that asks; a layer that changes it says so; the bytes are written anew
once, by the last body layer, and only if something changed; what did not change keeps its spelling. What is refused
here is refused because a rule could not be evaluated: a body that is read twice in two ways is no basis for a rule.
Does not know: dialects, rules.
"""

import zlib
from typing import Any

import orjson

from outrider.errors import REPEATED_KEY, BadRequestError, BodyTooLargeError
from outrider.govern.jsontext import written
from outrider.stack.call import Call
from outrider_ext import http1
from outrider_ext.jsonkeys import has_repeated_key
from outrider_ext.relay import Exchange
from outrider_ext.rulehooks import WithDocument

_ENCODING = http1.header_id(b"content-encoding")
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Document:
    """value: the JSON object, which layers may change in place after `change()`. None where the body is no JSON object.

    encoded: the body came compressed, so it goes on as plain bytes once it is written anew. text: what it was read
    from.
    """

    __slots__ = ("changed", "encoded", "text", "value")

    def __init__(self, value: dict[str, Any] | None, encoded: bool, text: bytes) -> None:
        self.value, self.text = value, text
        self.encoded = encoded
        self.changed = False

    @property
    def written_plain(self) -> bool:
        """It came compressed and does not leave so: the field that says how it came is not true any more."""
        return self.changed and self.encoded

    def change(self) -> dict[str, Any]:
        """The object, to be changed."""
        assert self.value is not None
        self.changed = True
        return self.value


def document_of(x: Exchange, call: Call, cap_bytes: int) -> Document:
    """The call's document; a held body is needed (a `body` hook).

    Raises: BodyTooLargeError beyond the cap, also unpacked; BadRequestError for a coding that we do not know or that
    does not unpack.
    """
    found: Document | None = call.document
    if found is None:
        found = call.document = _read(x, cap_bytes)
    return found


def plain_body(x: Exchange, cap_bytes: int) -> bytes:
    """The held body without its content-encoding. Raises as `document_of`."""
    if x.body is None:
        raise BodyTooLargeError("the request's body is too large for the rules to read; raise caps.held_body_bytes")
    coding = x.head.get(_ENCODING)
    if coding is None or coding.lower() == b"identity":
        return x.body
    if coding.lower() not in (b"gzip", b"x-gzip"):
        shown = coding.decode("latin-1")[:40]
        raise BadRequestError(
            f"a body with content-encoding {shown!r} cannot be read by the rules; send it plain or as gzip"
        )
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = decoder.decompress(x.body, cap_bytes)
    except zlib.error as exc:
        raise BadRequestError("the body is not the gzip that content-encoding says") from exc
    if decoder.unconsumed_tail:
        raise BodyTooLargeError("the request's body unpacks to more than caps.held_body_bytes")
    if not decoder.eof or decoder.unused_data:
        raise BadRequestError("the body is not one whole gzip member")
    return plain


def _read(x: Exchange, cap_bytes: int) -> Document:
    plain = plain_body(x, cap_bytes)
    try:
        value = orjson.loads(plain)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and has_repeated_key(plain):
        raise BadRequestError(REPEATED_KEY)
    return Document(value if isinstance(value, dict) else None, plain is not x.body, plain)


class WriteDocument:
    """The filter: the last body layer. What changed in the document becomes the body that is sent."""

    follows = True  # where no layer reads the body, none changes it

    def body(self, route: object) -> Any:
        return WithDocument(_write)


def _write(x: Exchange, call: Call) -> None:
    document: Document | None = call.document
    if document is not None and document.changed and document.value is not None:
        x.body = written(document.text, document.value)
