from collections.abc import Callable
from typing import Any

from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange

class DigestError(ValueError): ...
class RepeatedKeyError(DigestError): ...

class Canon:
    max_depth: int
    max_bytes: int
    def __init__(self, max_depth: int = 128, max_bytes: int = ...) -> None: ...
    def canonical(self, body: bytes) -> bytes: ...
    def digest(self, body: bytes, parts: tuple[bytes, ...]) -> bytes: ...
    def raw_digest(self, body: bytes, parts: tuple[bytes, ...]) -> bytes: ...

class DigestRequest(Hook):
    def __init__(
        self,
        canon: Canon,
        parts_of: Callable[[Exchange, Call], tuple[bytes, ...]],
        plain_of: Callable[[Exchange], bytes | None],
        refuse: Callable[[Exception], Any],
    ) -> None: ...
