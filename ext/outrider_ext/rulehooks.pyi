from collections.abc import Callable
from typing import Any

from outrider_ext.lane import Call, Hook
from outrider_ext.relay import Exchange
from outrider_ext.series import Tally

SCANNED: tuple[bytes, ...]

class Settled:
    rules: tuple[str, ...]
    shadow_rules: tuple[str, ...]
    tags: tuple[str, ...]
    redactions: Any
    head_edits: Any
    tallies: tuple[Tally, ...]
    source: Any
    needs_body: bool
    late: bool
    wants_models: bool
    scans_models: bool
    acts: bool
    body_cap: int
    by_model: dict[str, Settled]
    def __init__(
        self,
        *,
        source: Any,
        rules: tuple[str, ...],
        shadow_rules: tuple[str, ...],
        tags: tuple[str, ...],
        redactions: Any,
        tallies: tuple[Tally, ...],
        needs_body: bool,
        late: bool,
        wants_models: bool,
        scans_models: bool,
        acts: bool,
        body_cap: int,
        head_edits: Any = None,
    ) -> None: ...

class DecideEarly(Hook):
    def __init__(
        self,
        settle: Callable[[Any, str, bool], Settled],
        act: Callable[[Exchange, Call, Settled], None],
        nobody: Any,
        overridden: Callable[[Exchange], None],
    ) -> None: ...

class DecideLate(Hook):
    def __init__(
        self,
        settle: Callable[[Exchange, Call, Settled, str | None], Settled],
        act: Callable[[Exchange, Call, Settled], None],
    ) -> None: ...

class WithDocument(Hook):
    def __init__(self, function: Callable[[Exchange, Call], None]) -> None: ...
