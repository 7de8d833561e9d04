"""What lies in a store that others can read and write: sealed for the fleet alone, each value in its own place.

Rules: AES-256-GCM under a key of this purpose, derived from the fleet's; the place is authenticated with the value, so
that one moved elsewhere is none. `cryptography` is imported by the first value.
Does not know: stores, what a value says.
"""

import hmac
import os
from functools import cached_property
from typing import Any

_NONCE_BYTES = 12


class Seals:
    """seal(place, data) -> bytes; open(place, sealed) -> data, None for what nobody of the fleet sealed there."""

    def __init__(self, fleet_key: bytes, purpose: bytes) -> None:
        self._key = hmac.digest(fleet_key, purpose, "sha256")

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key)

    def seal(self, place: bytes, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + bytes(self._cipher.encrypt(nonce, data, place))

    def open(self, place: bytes, sealed: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place))
        except (InvalidTag, ValueError):
            return None
