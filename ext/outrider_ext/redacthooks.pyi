from collections.abc import Callable
from typing import Any

from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange

class BodyScan:
    @property
    def plan(self) -> Any: ...
    @property
    def expects(self) -> bool: ...
    def __init__(self, hits: Callable[[bytes], list[int]] | None, plan: Any, expects: bool) -> None: ...
    def is_clean(self, body: bytes) -> bool: ...

class ScanRequest(Hook):
    def __init__(
        self,
        scan_of: Callable[[Any], BodyScan | None],
        act: Callable[[Exchange, Call], None],
        expect: Callable[[Call, Any], None],
    ) -> None: ...

class WhenRedacting(Hook):
    def __init__(self, function: Callable[[Exchange, Call], None]) -> None: ...
