from collections.abc import Callable
from typing import Any

from outrider_ext.digest import Canon
from outrider_ext.jsonscan import FieldScan
from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange
from outrider_ext.series import Tally

NEVER: int
OPEN: int
FIXED: int

class Question:
    def __init__(
        self, scan: FieldScan, judged_from: int, is_fixed: bool, is_usual: bool, look: Callable[[bytes], int]
    ) -> None: ...
    def read(self, body: bytes) -> int: ...

class AskMemory(Hook):
    def __init__(
        self,
        question: Question,
        canon: Canon,
        least: int,
        bypassed: Tally,
        bypass_lines: bytes,
        parts_of: Callable[[Exchange, Call], tuple[bytes, ...]],
        careful: Callable[[Exchange, Call], Any],
        ask: Callable[[Exchange, Call, bytes], Any],
    ) -> None: ...
    def bypass(self, call: Call) -> None: ...
    def key_of(self, x: Exchange, call: Call) -> bytes | None: ...

class WhereKept(Hook):
    def __init__(self, function: Callable[[Exchange, Call], object]) -> None: ...

class KeepAnswer(Hook):
    def __init__(self, function: Callable[[Exchange, Call], object]) -> None: ...
