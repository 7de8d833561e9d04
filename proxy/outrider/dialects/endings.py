"""Whether a stream has come to its end, by what each dialect says last.

Rules: for streams whose length nobody states, so that a connection that ended early looks like any other; a stream of
which all content has come is whole, even where its very last word is missing; an error that it tells itself is an end,
too. A dialect that is not in the table has no known end, and is not watched.
Does not know: HTTP, framing (what is looked for cannot stand inside a JSON string, where its quotes are escaped).
Cost: one pass of a regular expression over each piece, with the last bytes of the piece before it.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["ENDINGS", "Ending"]

_OVERLAP_BYTES: Final = 64  # what is looked for is no longer
_ERROR: Final = rb'|"error"\s{0,4}:\s{0,4}[{"]'


def _ending(*words: bytes) -> re.Pattern[bytes]:
    return re.compile(b"|".join(words) + _ERROR)


def _said(name: bytes, value: bytes) -> bytes:
    return rb'"%b"\s{0,4}:\s{0,4}%b' % (name, value)


_CHAT: Final = _ending(rb"(?m:^data: ?\[DONE\])", _said(b"finish_reason", rb'"'))

# By the dialect that the provider speaks.
ENDINGS: Final[Mapping[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        "openai.chat": _CHAT,
        "openai.completions": _CHAT,
        "openai.responses": _ending(
            _said(b"type", rb'"(?:response\.(?:completed|incomplete|failed|cancelled)|error)"')
        ),
        "anthropic.messages": _ending(_said(b"type", rb'"message_stop"')),
        "gemini.generate": _ending(_said(b"finishReason", rb'"'), _said(b"blockReason", rb'"')),
        "bedrock.converse": _ending(rb":event-type\x07\x00\x0bmessageStop", rb":exception-type"),
        "ollama.chat": _ending(_said(b"done", rb"true")),
        "ollama.generate": _ending(_said(b"done", rb"true")),
        "cohere.chat": _ending(_said(b"type", rb'"message-end"')),
    }
)


class Ending:
    """watch(exchange, piece) over a stream as it comes; b"" for its end -> whether it was one."""

    __slots__ = ("_before", "_found", "_wanted")

    def __init__(self, wanted: re.Pattern[bytes]) -> None:
        self._wanted = wanted
        self._before = b""
        self._found = False

    def __call__(self, x: Any, piece: bytes) -> bool:
        if not self._found and piece:
            piece = self._before + piece
            self._found = self._wanted.search(piece) is not None
            self._before = piece[-_OVERLAP_BYTES:]
        return self._found
