"""What stands in a value's place: a mask, a keyed hash, a pseudonym, or nothing since the request is refused.

Rules
- A mask says what was there: [EMAIL]. A hash is the same for the same value and key: [EMAIL:9f86d081a3b2].
- A pseudonym belongs to one exchange: ‹EMAIL_1_k7f3›, its last four characters drawn at random for each value, so
  that nobody can name one who was not shown it. Within the exchange a value has one pseudonym.
- What looks like a pseudonym in the app's own text becomes a value like any other and gets one: it comes back
  as it was.
- A pseudonym is turned back only if it is in the exchange's vault; one that a model invents is left alone.
Does not know: where texts stand, streams.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from outrider.govern.redact.detectors import Detector

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
PSEUDONYM: Final = Detector("pseudonym", "", r"‹[A-Z0-9_]{1,48}_[0-9]{1,9}_[a-z0-9]{4}›")
LITERAL: Final = "LITERAL"


def mask(label: str) -> bytes:
    return f"[{label}]".encode()


def keyed_hash(key: bytes, label: str, value: bytes) -> bytes:
    return f"[{label}:{hmac.digest(key, value, sha256).hex()[:12]}]".encode()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a pseudonym stands for, and where it may be turned back."""

    value: bytes
    restore_in: frozenset[str]

    def __repr__(self) -> str:
        return "Kept(****)"


@dataclass(slots=True, repr=False)
class Vault:
    """The pseudonyms of one exchange. A retry of the exchange shows the provider the same ones.

    redacted: label -> how often something was found and acted on, in the request and in the answer.
    """

    redacted: dict[str, int] = field(default_factory=dict)
    by_token: dict[bytes, Kept] = field(default_factory=dict)
    _by_value: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def count(self, label: str) -> None:
        self.redacted[label] = self.redacted.get(label, 0) + 1

    def pseudonym(self, label: str, value: bytes, restore_in: frozenset[str]) -> bytes:
        token = self._by_value.get((label, value))
        if token is None:
            number = self._counts[label] = self._counts.get(label, 0) + 1
            drawn = "".join(secrets.choice(_ALPHABET) for _ in range(4))
            token = f"‹{label}_{number}_{drawn}›".encode()
            self._by_value[label, value] = token
            self.by_token[token] = Kept(value, restore_in)
        return token
