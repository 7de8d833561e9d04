from collections.abc import Callable, Iterable
from typing import Any

from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange

class Epoch:
    @property
    def n(self) -> int: ...
    def move(self) -> None: ...

class Book:
    requires_token: bool
    @property
    def epoch(self) -> Epoch: ...
    def __init__(self, epoch: Epoch) -> None: ...

class Caller:
    uid: int | None
    gid: int | None
    pid: int | None
    asked: bool
    token_mac: bytes | None
    @property
    def is_unix(self) -> bool: ...
    def __init__(
        self, *, uid: int | None = None, gid: int | None = None, pid: int | None = None, is_unix: bool = False
    ) -> None: ...
    def last(self, book: Book, key: bytes | None, proxy: bytes | None, now_ns: int) -> Any: ...
    def remember(
        self,
        book: Book,
        key: bytes | None,
        proxy: bytes | None,
        until_ns: int,
        principal: object,
        key_id: str | None = None,
    ) -> None: ...
    def forget(self) -> None: ...

class NameCaller(Hook):
    def __init__(
        self,
        book: Book,
        slots: tuple[int, ...],
        placeholder: bytes,
        query: bool,
        required: bool,
        otherwise: Callable[[Exchange, Call], None],
    ) -> None: ...

class NameKeyOwner(Hook):
    def __init__(self, book: Book, canaries: Iterable[bytes], otherwise: Callable[[Exchange, Call], None]) -> None: ...
