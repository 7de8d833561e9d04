"""What ties a call to the provider that began its conversation, as it stands in requests and in answers.

Rules
- A bond is a name and a value that only the provider's own account knows: an answer's id, a conversation, a container,
  cached content, a file, and the proofs that stand on thoughts. Of a proof the first PROOF_CHARS are its value; a
  shorter one is none (Google names such for calls from elsewhere). Anthropic's proofs hold at all of its hosts.
- Requests are looked through to a bound of MAX_VISITED values. A null is no bond.
- Answers are read off the wire, in pieces however cut; nothing of them is kept but a few last bytes.

Does not know: who began what (upstream.conversations), HTTP.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["MADE", "PROOF_CHARS", "Bond", "Made", "bonds", "may_have_bonds"]

PROOF_CHARS: Final = 48
MAX_VISITED: Final = 20_000
MAX_BONDS: Final = 256
_MAX_ID_CHARS: Final = 256
_OVERLAP_BYTES: Final = 512  # no bond with its name is longer

type Bond = tuple[str, str]  # the field that names it, its value

_NAMED: Final = ("previous_response_id", "conversation", "container", "cachedContent", "cached_content", "prompt")
_WORDS: Final = (
    b'"previous_response_id"', b'"conversation"', b'"container"', b'"cachedContent"', b'"cached_content"', b'"prompt"',
    b"encrypted_content", b"thoughtSignature", b"thought_signature", b'"file_id"', b"item_reference",
)  # fmt: skip
_PROOFS: Final = frozenset({"encrypted_content", "thoughtSignature", "thought_signature"})


def may_have_bonds(body: bytes) -> bool:
    """Without reading it as JSON."""
    return any(word in body for word in _WORDS)


def bonds(document: dict[str, Any]) -> list[Bond]:
    """In the order in which they stand; at most MAX_BONDS."""
    found: list[Bond] = []
    for name in _NAMED:
        value = document.get(name)
        if isinstance(value, dict):
            value = value.get("id")
            if name == "prompt" and value is None:
                continue
        elif name == "prompt":  # the text of a completion
            continue
        if isinstance(value, str) and value:
            found.append((name, value[:_MAX_ID_CHARS]))
    for name in ("input", "contents", "messages"):
        value = document.get(name)
        if isinstance(value, list):
            for bond in _inner(value):
                if len(found) >= MAX_BONDS:
                    return found
                found.append(bond)
    return found


def _inner(value: list[Any]) -> Iterator[Bond]:
    waiting: list[Any] = [value]
    for _ in range(MAX_VISITED):
        if not waiting:
            return
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
        elif isinstance(one, dict):
            if one.get("type") == "item_reference" and isinstance(one.get("id"), str):
                yield "item_reference", one["id"][:_MAX_ID_CHARS]
            for name, inner in reversed(one.items()):
                if isinstance(inner, dict | list):
                    waiting.append(inner)
                elif name in _PROOFS and isinstance(inner, str) and len(inner) >= PROOF_CHARS:
                    yield name, inner[:PROOF_CHARS]
                elif name == "file_id" and isinstance(inner, str) and inner:
                    yield name, inner[:_MAX_ID_CHARS]


def _of(*patterns: bytes) -> re.Pattern[bytes]:
    return re.compile(b"|".join(patterns))


_PROOF: Final = rb'"\s{0,4}:\s{0,4}"([^"\\]{48})'
_ID: Final = rb'"id"\s{0,4}:\s{0,4}"'

# By the dialect that the provider speaks: where its answers name what only it knows.
MADE: Final[Mapping[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        "openai.responses": _of(
            _ID + rb'((?:resp|conv|rs|msg|fc)_[\w-]{1,250})"', rb'"encrypted_content' + _PROOF
        ),
        "anthropic.messages": _of(rb'"container"\s{0,4}:\s{0,4}\{\s{0,4}' + _ID + rb'([^"\\]{1,256})"'),
        "gemini.generate": _of(rb'"thought_?[sS]ignature' + _PROOF),
    }
)  # fmt: skip


class Made:
    """watch(exchange, piece) over an answer as it comes. tell(value) for each bond that it makes."""

    __slots__ = ("_before", "_tell", "_wanted")

    def __init__(self, wanted: re.Pattern[bytes], tell: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._tell = tell
        self._before = b""

    def __call__(self, x: Any, piece: bytes) -> bool:
        if piece:
            piece = self._before + piece
            at = 0
            for found in self._wanted.finditer(piece):
                value = next(group for group in found.groups() if group is not None)
                self._tell(value.decode("utf-8", "replace"))
                at = found.end()
            self._before = piece[max(at, len(piece) - _OVERLAP_BYTES) :]
        return True
