"""Finds the matches in a text: a sieve, one scan by an RE2 set, then the patterns that hit, then the validators.

Rules
- Texts are UTF-8 bytes. Matching is leftmost-longest, so what begins at a place does not depend on how the text was
  cut.
- A detector's candidates are tried at every place from left to right; one that its check takes uses up its bytes, one
  that it does not take uses up nothing.
- Matches of several detectors that overlap become one span, which bears the name of the detector that stands first.
- `find(..., last=False)` decides only what more text cannot change: everything before `hold`, the earliest place from
  which an open pattern reaches the end of the text.
Does not know: streams' events, actions, JSON.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

import re2  # type: ignore[import-untyped]

from outrider.govern.redact.detectors import Detector
from outrider.govern.redact.factors import sieve_masks
from outrider.govern.redact.patterns import compiled
from outrider_ext.sieve import Sieve

CONTEXT_BYTES: Final = 64  # what a check may read of the text before a match
_UNANCHORED: Final = re2._re2.RE2.Anchor.UNANCHORED
_ANCHORED: Final = re2._re2.RE2.Anchor.ANCHOR_START
NOWHERE: Final = -1


class Found(NamedTuple):
    """low, high: the span to be replaced. row: the detector's place in the scanner's list."""

    low: int
    high: int
    row: int


class _Tail:
    """How an overlong match goes on."""

    def __init__(self, detector: Detector) -> None:
        self.run = compiled(f"(?:{detector.tail})*") if detector.tail else None
        self.stop = compiled(detector.stop) if detector.stop else None
        self.always = detector.always_tail


class Scanner:
    """For one list of detectors, the order being their rank. hits(text) -> indexes of the patterns that occur in it.

    sifts: texts are whole bodies, most of them short and without a match: a sieve, made once, spares most of their
    scans. Raises: PatternError.
    """

    def __init__(self, detectors: Sequence[Detector], *, sifts: bool = False) -> None:
        self.detectors = tuple(detectors)
        self._rules = [compiled(row.parsed.text) for row in self.detectors]
        self._checks = [row.check for row in self.detectors]
        self._tails = [_Tail(row) if row.tail else None for row in self.detectors]
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 256 << 20
        self._set = re2._re2.Set(_UNANCHORED, options)
        for row in self.detectors:
            self._set.Add(row.parsed.text.encode())
        self._set.Compile()
        opens = "|".join(f"(?:{row.parsed.open})" for row in self.detectors)
        self._open = compiled(f"(?:{opens})\\z")
        self.hits: Callable[[bytes], list[int]] = self._set.Match
        masks = sieve_masks(tuple(row.parsed.source for row in self.detectors)) if sifts else None
        if masks is not None:
            self.hits = Sieve(masks, self._set.Match).hits

    def open_from(self, text: bytes, start: int) -> int:
        """The earliest place from `start` on where a match may have begun that more text could end; else the end."""
        low: int = self._open.Match(_UNANCHORED, text, start, len(text))[0][0]
        return len(text) if low < 0 else low

    def find(self, text: bytes, start: int, last: bool) -> tuple[list[Found], int, int]:
        """(spans in order, hold, row that goes on or -1) for text[start:]; what stands before is only looked back at.

        No span reaches past `hold`; where a row goes on, its span ends there and `follow` says where it ends.
        """
        hits = self.hits(text)
        hold = len(text) if last else self.open_from(text, start)
        if not hits:
            return [], hold, NOWHERE
        claims = self._sweep(text, start, hold, hits)
        if not last:
            hold = _settled(claims, hold)
        return _merged([claim for claim in claims if claim.begin < hold], hold)

    def _sweep(self, text: bytes, start: int, hold: int, hits: list[int]) -> list["_Claim"]:
        """Every match that begins before `hold`, from left to right over all rows.

        Inside a tail nothing else begins: while a text arrives its bytes are not kept.
        """
        claims: list[_Claim] = []
        coming = [at for row in hits if (at := self._next(row, text, start, hold)) is not None]
        heapify(coming)
        begun, ended = NOWHERE, NOWHERE  # of the last tail
        while coming:
            low, row, high = heappop(coming)
            again = low + 1
            if begun <= low < ended:
                again = ended
            elif (claim := self._judge(row, text, low, high)) is not None:
                claims.append(claim)
                again = claim.high
                if claim.has_tail and claim.high > ended:
                    begun, ended = claim.solid, claim.high
            if (at := self._next(row, text, again, hold)) is not None:
                heappush(coming, at)
        return claims

    def _next(self, row: int, text: bytes, at: int, hold: int) -> tuple[int, int, int] | None:
        if at >= hold:
            return None
        low, high = self._rules[row].Match(_UNANCHORED, text, at, len(text))[0]
        return (low, row, high) if 0 <= low < hold else None

    def _judge(self, row: int, text: bytes, low: int, high: int) -> "_Claim | None":
        check, tail, part = self._checks[row], self._tails[row], (0, high - low)
        if check is not None:
            found = check(text[low:high], text[max(0, low - CONTEXT_BYTES) : low])
            if found is None:
                return None
            part = found
        end = low + part[1]
        if tail is None or not (tail.always or end == high):
            return _Claim(low, low + part[0], end, end, row, False, False)
        high, goes_on = self.follow(row, text, end, end)
        return _Claim(low, low + part[0], end, high, row, True, goes_on)

    def follow(self, row: int, text: bytes, start: int, since: int) -> tuple[int, bool]:
        """(where the tail of this row's match ends, whether it reaches the text's end), from `start` on.

        since: from where its stop may begin.
        """
        tail = self._tails[row]
        assert tail is not None
        assert tail.run is not None
        end: int = tail.run.Match(_ANCHORED, text, start, len(text))[0][1]
        if tail.stop is not None:
            low, high = tail.stop.Match(_UNANCHORED, text, since, end)[0]
            if low >= 0:
                return high, False
        return end, end == len(text)


class _Claim(NamedTuple):
    """begin: of the match. low, high: of what is replaced. solid: where the match ends and its tail begins."""

    begin: int
    low: int
    solid: int
    high: int
    row: int
    has_tail: bool
    goes_on: bool


def _settled(claims: list[_Claim], hold: int) -> int:
    """Back to where a match begins that reaches past `hold`, unless it does so by its tail alone."""
    moved = True
    while moved:
        moved = False
        for claim in claims:
            if claim.begin < hold < claim.solid:
                hold, moved = claim.begin, True
    return hold


def _merged(claims: list[_Claim], hold: int) -> tuple[list[Found], int, int]:
    spans: list[Found] = []
    follower = NOWHERE
    for claim in sorted(claims, key=lambda claim: (claim.low, claim.row)):
        if claim.goes_on:
            follower = claim.row
        hold = max(hold, claim.high)
        if spans and claim.low < spans[-1].high:
            before = spans[-1]
            spans[-1] = Found(before.low, max(before.high, claim.high), min(before.row, claim.row))
        else:
            spans.append(Found(claim.low, claim.high, claim.row))
    return spans, hold, follower
