"""How our credential is put on the wire: a header line or a query parameter.

Rules: it is done last, to the outgoing bytes; the client's own key is taken out of every spelling of a query parameter
before ours goes in; all other bytes of the target stay as they came.
Does not know: which provider takes which form (a table in `providers`), or where a secret comes from.
"""

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from outrider.secrets.secret import Secret

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PREFIX = re.compile(rb"[\x20-\x7e]*")


class Injector:
    """One header slot of one provider: `Injector("authorization", "Bearer ")`, `Injector("x-api-key")`.

    header_lines(secret) -> the complete line with its CRLF. A source hands out the same Secret object until it rotates,
    so the line is built once per generation.
    Raises: ValueError at construction when name or prefix could not stand in a header.
    """

    __slots__ = ("_last", "_lines", "_start")

    def __init__(self, name: str, prefix: str = "") -> None:
        self._start = name.lower().encode("ascii") + b": " + prefix.encode("ascii")
        if not _TOKEN.fullmatch(name.encode("ascii")) or not _PREFIX.fullmatch(prefix.encode("ascii")):
            raise ValueError("a header's name is a token and its prefix is printable ASCII")
        self._last: Secret | None = None
        self._lines = b""

    def header_lines(self, secret: Secret) -> bytes:
        """b"authorization: Bearer ...\\r\\n"."""
        if secret is not self._last:
            self._lines = self._start + secret.expose() + b"\r\n"
            self._last = secret
        return self._lines


def strip_query(target: bytes, names: frozenset[bytes]) -> bytes:
    """The request target without the query parameters called `names` (lower case).

    A name is compared percent-decoded and in lower case, and `;` separates like `&`: what any server might take for the
    parameter goes. A target without such a parameter is returned as it is.
    """
    path, mark, query = target.partition(b"?")
    if not mark or not names:
        return target
    parts = re.split(rb"([&;])", query)  # parameter, separator, parameter, ...
    kept: list[bytes] = []
    for index in range(0, len(parts), 2):
        if unquote_to_bytes(parts[index].partition(b"=")[0].replace(b"+", b" ")).strip().lower() in names:
            continue
        kept += [parts[index - 1], parts[index]] if kept else [parts[index]]
    if len(kept) == len(parts):
        return target
    return path + b"?" + b"".join(kept) if kept else path


def with_query_key(target: bytes, name: bytes, secret: Secret) -> bytes:
    """The target with every `name=` of the client's taken out and ours added last, percent-encoded."""
    bare = strip_query(target, frozenset((name.lower(),)))
    separator = b"" if bare.endswith((b"?", b"&")) else b"&" if b"?" in bare else b"?"
    return bare + separator + name + b"=" + quote_from_bytes(secret.expose(), safe="").encode("ascii")
