from collections.abc import Callable

from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange, Hub

class Chain:
    denies: bool
    @property
    def seq(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def written(self) -> int: ...
    @property
    def head(self) -> str: ...
    def __init__(self, key: bytes, wake: Callable[[], object], seq: int = 0, head: str = ...) -> None: ...
    def add(self, members: bytes) -> None: ...
    def flush(self, fd: int) -> int: ...
    def drop(self) -> int: ...
    def on_wake(self, wake: Callable[[], object]) -> None: ...
    def sign(self, text: bytes) -> str: ...

class Commit:
    fd: int
    is_plain: bool
    rotate_at: int
    checkpoint_at: int
    def __init__(
        self,
        chain: Chain,
        hub: Hub,
        call_soon: Callable[[Commit], object],
        otherwise: Callable[[], object],
        failed: Callable[[int, list[Exchange]], object],
        due: Callable[[], object],
    ) -> None: ...
    @property
    def chain(self) -> Chain: ...
    def schedule(self) -> None: ...
    def __call__(self) -> None: ...

class AuditBegin(Hook):
    def __init__(self, chain: Chain, refuse: Callable[[], object]) -> None: ...

class AuditEnd(Hook):
    def __init__(
        self,
        chain: Chain,
        opening_of: Callable[[Exchange, Call], bytes],
        decided_of: Callable[[Call], bytes],
        rest_of: Callable[[Exchange, Call], bytes],
        refused: Callable[[Exchange, Call], bool],
        has_content: bool,
        redacts: bool = False,
    ) -> None: ...
