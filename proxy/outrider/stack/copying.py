"""A copy of an answer that is translated on its way: what the app gets of it before its pseudonyms are resolved.

Rules
- The copy is taken between the translation and every layer that changes what it gives. What may yet be discarded, since
  another target is tried, is not given to the copy before that is decided.
- Usage that is in the copy for others, and that this app did not ask for, is taken out behind it.
Does not know: dialects, what becomes of the copy.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from outrider.stack.call import behind
from outrider.stack.meter import without_extra_chunk

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

type Take = Callable[["Exchange", bytes], None]


class Copying:
    """Of one answer. take(x, piece): a piece, b"" at the end; None where nothing is copied. strips: see above."""

    __slots__ = ("_held", "_strips", "_take")

    def __init__(self, take: Take | None, *, strips: bool) -> None:
        self._take, self._strips = take, strips
        self._held: list[bytes] = []

    def begin(self, x: "Exchange") -> None:
        """Behind the translation, before all that follows it."""
        behind(x, self._passed)

    def _passed(self, x: "Exchange", piece: bytes, is_last: bool) -> bytes:
        if self._take is not None:
            self._copy(x, piece, is_last=is_last)
        return without_extra_chunk(x, piece) if self._strips and b'"usage"' in piece else piece

    def _copy(self, x: "Exchange", piece: bytes, *, is_last: bool) -> None:
        take = self._take
        assert take is not None
        if piece:
            self._held.append(piece)
        if x.judge is not None:
            return
        held, self._held = self._held, []
        for one in held:
            take(x, one)
        if is_last:
            take(x, b"")


__all__ = ["Copying"]
