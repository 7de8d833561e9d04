"""Who began which conversation: what providers' answers named, and which provider it was.

Rules: values are kept as keyed hashes; at most MOST of them, each for KEPT_S, the least used forgotten first. It is one
process's memory: after a restart, and in another worker, a conversation is one that nobody knows.
Does not know: dialects (dialects.bonds), exchanges.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

MOST: Final = 20_000
KEPT_S: Final = 30 * 86_400.0  # as long as OpenAI keeps an answer
_DIGEST_BYTES: Final = 16


class Conversations:
    """remember(value, provider); provider_of(value) -> its name, None where nobody knows."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, value: str, provider: str) -> None:
        key = self._hash(value)
        self._known[key] = provider, self._clock() + KEPT_S
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def provider_of(self, value: str) -> str | None:
        key = self._hash(value)
        found = self._known.get(key)
        if found is None:
            return None
        provider, until_s = found
        if until_s <= self._clock():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return provider

    def _hash(self, value: str) -> bytes:
        return blake2b(value.encode("utf-8", "surrogatepass"), key=self._key, digest_size=_DIGEST_BYTES).digest()
