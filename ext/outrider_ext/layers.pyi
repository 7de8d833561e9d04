from collections.abc import Callable
from typing import Any

from outrider_ext.chatusage import ChatUsage
from outrider_ext.jsonscan import FieldScan
from outrider_ext.lane import Call, Hook, Sender
from outrider_ext.lines import LineBuffer
from outrider_ext.relay import Exchange
from outrider_ext.series import Series
from outrider_ext.tokens import Usage

class ReadFields(Hook):
    def __init__(
        self,
        scan: FieldScan,
        options: FieldScan,
        reads_model: bool,
        request: bytes | None,
        ask: Callable[[Exchange, Call, bytes], None],
        misread: Callable[[Exception], None],
        inner: FieldScan | None = None,
    ) -> None: ...

class TapAnswer(Hook):
    def __init__(
        self,
        reader: Any,
        strip: Callable[[Exchange, bytes], bytes],
        decoder: Callable[[], Any],
        units_of: Callable[[bytes], int],
        array: bool = False,
    ) -> None: ...

class CountTokens(Hook):
    def __init__(self, usual: ChatUsage | None, read: Callable[[Exchange, Call], Usage | None]) -> None: ...

class RecordExchange(Hook):
    def __init__(
        self,
        lines: LineBuffer,
        series_of: Callable[[str | None, int, str], Series],
        opening_of: Callable[[Exchange, Call], bytes],
        rest_of: Callable[[Exchange, Call], bytes],
        on_estimate: Callable[[], None],
    ) -> None: ...

class Held:
    value: Any

class HeadEdits:
    @property
    def drop(self) -> int: ...
    @property
    def drop_names(self) -> frozenset[bytes]: ...
    @property
    def lines(self) -> bytes: ...
    def __init__(self, *, drop: int, drop_names: frozenset[bytes], lines: bytes) -> None: ...
    def canonical(self) -> bytes: ...

class HeadWriter(Sender):
    @property
    def injects(self) -> bool: ...
    def __init__(
        self,
        *,
        injects: bool,
        drop: int,
        drop_names: frozenset[bytes],
        query: frozenset[bytes],
        host: bytes,
        prefix_bytes: int,
        source: Any,
    ) -> None: ...
