"""What every match of a pattern must hold: a few bytes in a row, each of a class. A text without them needs no scan.

A *factor* is a row of PLACES classes of bytes; wherever the pattern matches, one of its factors occurs. They are
derived from the pattern's own syntax tree, so that a pattern and its factors cannot disagree; of what begins at each
item of the pattern those are taken that ordinary text has least. The factors of all patterns share the buckets of
outrider_ext.sieve, those together that are alike.
Rules: a factor may admit too much, never too little. Texts are UTF-8; what is beyond ASCII is any byte of 0x80 or more.
A class is an int, bit b for byte b; END is the bit of a text's end. Before its first byte a text has a line feed.
Does not know: detectors, what is done with a match.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from operator import getitem, or_
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

from outrider_ext.sieve import BUCKETS, PLACES

MAX_BEAMS: Final = 4  # factors of one beginning, before they are put together
OWN_FACTORS: Final = 6  # of one pattern
MAX_FACTORS: Final = 300
MAX_KEPT: Final = 32  # sets of patterns
MAX_PATTERN_CHARS: Final = 10_000
GOOD_RATE: Final = 1e-6  # rarer than that need no pattern's factor be
MAX_RATE: Final = 1 / 150  # how often a byte of ordinary text may begin a factor; beyond, the sieve is not worth it

type Factor = tuple[int, ...]
type Item = tuple[Any, Any, bool]  # operator, argument, whether case is ignored


def _class_of(text: str) -> int:
    return sum(1 << ord(char) for char in set(text))


END: Final = 1 << 256
ANY: Final = (1 << 257) - 1
_ASCII: Final = (1 << 128) - 1
_BEYOND: Final = ((1 << 256) - 1) & ~_ASCII
_FOLLOWING: Final = ((1 << 0xC0) - 1) & ~((1 << 0x80) - 1)
_DIGITS: Final = _class_of("0123456789")
_WORD: Final = _DIGITS | _class_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_NO_WORD: Final = ANY & ~_WORD
_SPACE: Final = _class_of("\t\n\f\r ")  # RE2's \s
# Two letters beyond ASCII that RE2 takes for letters of ASCII where case is ignored, the long s and the Kelvin sign: a
# text that has one is never let pass, so that factors need not think of them.
_FOLDS_BEYOND: Final = _class_of("KkSs")
_FOLDED_FACTORS: Final[tuple[Factor, ...]] = tuple(
    (*(1 << byte for byte in sign.encode()), *[ANY] * PLACES)[:PLACES] for sign in ("\u017f", "\u212a")
)
_CATEGORIES: Final = {
    sre.CATEGORY_DIGIT: _DIGITS, sre.CATEGORY_NOT_DIGIT: ~_DIGITS, sre.CATEGORY_SPACE: _SPACE,
    sre.CATEGORY_NOT_SPACE: ~_SPACE, sre.CATEGORY_WORD: _WORD, sre.CATEGORY_NOT_WORD: ~_WORD,
}  # fmt: skip

# How often a byte stands in a chat's JSON, roughly: per mille of each byte of the class.
_LETTERS: Final = (
    8.2, 1.5, 2.8, 4.3, 12.7, 2.2, 2.0, 6.1, 7.0, 0.15, 0.8, 4.0, 2.4,
    6.7, 7.5, 1.9, 0.1, 6.0, 6.3, 9.1, 2.8, 1.0, 2.4, 0.15, 2.0, 0.1,
)  # fmt: skip
_COMMON: Final = (
    *((1 << ord("a") + place, 7.2 * percent) for place, percent in enumerate(_LETTERS)),
    (_class_of(" "), 150.0), (_class_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 1.2),
    (_DIGITS, 2.5), (_class_of('"'), 25.0), (_class_of(",."), 10.0), (_class_of(":"), 8.0), (_class_of("\n"), 5.0),
    (_BEYOND, 0.4),
)  # fmt: skip


@lru_cache(1)
def _rate_tables() -> tuple[tuple[float, ...], ...]:
    """For each eight bytes: how often one stands of those that a byte of the class says."""
    rates = [0.001] * 256
    for bytes_, per_mille in reversed(_COMMON):
        for byte in range(256):
            if bytes_ >> byte & 1:
                rates[byte] = per_mille / 1000
    tables = []
    for low in range(0, 256, 8):
        sums = [0.0]
        for rate in rates[low : low + 8]:
            sums += [rate + one for one in sums]
        tables.append(tuple(sums))
    return (*tables, (0.0,) * 2)  # the end stands nowhere


@lru_cache(4096)
def rate_of_class(bytes_: int) -> float:
    return min(1.0, sum(map(getitem, _rate_tables(), bytes_.to_bytes(33, "little"))))


def rate_of(factor: Factor) -> float:
    """How many places of ordinary text begin it, of each."""
    rate = 1.0
    for bytes_ in factor:
        rate *= rate_of_class(bytes_)
    return rate


@lru_cache(MAX_KEPT)
def sieve_masks(patterns: tuple[str, ...]) -> tuple[int, ...] | None:
    """The masks of outrider_ext.sieve: what it lets pass holds no match of any of the patterns, as RE2 reads them.

    patterns: as `Pattern.source`. None where a sieve is not worth it. The built-in ones take 50 ms, once: a
    reload finds them again.
    """
    if any(len(pattern) > MAX_PATTERN_CHARS for pattern in patterns):
        return None
    factors = {factor for pattern in patterns for factor in _together(factors_of(pattern), OWN_FACTORS)}
    if len(factors) > MAX_FACTORS:
        return None
    buckets = _together([*sorted(factors), *_FOLDED_FACTORS], BUCKETS)
    return tuple(_masks(buckets)) if sum(map(rate_of, buckets)) <= MAX_RATE else None


def factors_of(pattern: str) -> list[Factor]:
    """Wherever the pattern matches, one of these occurs, or one of _FOLDED_FACTORS."""
    tree = parser.parse(pattern)
    return _rarest(list(_flat(tree, bool(tree.state.flags & re.IGNORECASE))))


def _masks(buckets: Sequence[Factor]) -> list[int]:
    masks = [0] * 257
    everywhere = 0
    for bucket, factor in enumerate(buckets):
        for place, bytes_ in enumerate(factor):
            bit = 1 << (BUCKETS * place + bucket)
            if bytes_ == ANY:
                everywhere |= bit
                continue
            for byte in range(257):
                if bytes_ >> byte & 1:
                    masks[byte] |= bit
    return [mask | everywhere for mask in masks]


def _union(one: Factor, other: Factor) -> Factor:
    return tuple(map(or_, one, other))


def _together(factors: Sequence[Factor], most: int) -> list[Factor]:
    """At most so many that admit what these do: two at a time are put together, those whose union costs least."""
    groups = dict(enumerate(factors))
    if len(groups) <= most:
        return list(factors)
    rates = {at: rate_of(group) for at, group in groups.items()}

    def cost(one: int, other: int) -> float:
        return rate_of(_union(groups[one], groups[other])) - rates[one] - rates[other]

    costs = [(cost(one, other), one, other) for other in groups for one in range(other)]
    heapify(costs)
    number = len(groups)
    while len(groups) > most:
        _, one, other = heappop(costs)
        if one not in groups or other not in groups:
            continue
        both = _union(groups.pop(one), groups.pop(other))
        groups[number], rates[number] = both, rate_of(both)
        for at in groups:
            if at != number:
                heappush(costs, (cost(at, number), at, number))
        number += 1
    return list(groups.values())


# -- the factors of one pattern


def _flat(items: Iterable[tuple[Any, Any]], folds: bool) -> Iterator[Item]:
    """The sequence without its groups."""
    for op, value in items:
        if op is sre.SUBPATTERN:
            _, added, removed, body = value
            inner = (folds or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
            yield from _flat(body, inner)
        else:
            yield op, value, folds


def _rarest(items: list[Item]) -> list[Factor]:
    """Of what begins at each of the sequence's items, what is rarest. Branches may each be told by something else."""
    best: list[Factor] = []
    best_rate = float("inf")
    for at, (op, value, folds) in enumerate(items):
        if best_rate < GOOD_RATE:
            break
        found = _beginning(items[at:])
        choices = [found]
        if op is sre.BRANCH:
            rest = items[at + 1 :]
            choices.append([one for branch in value[1] for one in _rarest([*_flat(branch, folds), *rest])])
        for choice in choices:
            rate = sum(map(rate_of, choice))
            if rate < best_rate:
                best, best_rate = choice, rate
    return best


class _Automaton:
    """States are numbers; the last of a sequence accepts. edges: class and target. free: target, and a word boundary's
    kind (True for \\b, False for \\B, None for nothing) that has to hold on the way.
    """

    def __init__(self, items: list[Item]) -> None:
        self.edges: list[list[tuple[int, int]]] = []
        self.free: list[list[tuple[int, bool | None]]] = []
        self.start = self._state()
        self.accept = self._sequence(items, self.start)

    def _state(self) -> int:
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def _sequence(self, items: Iterable[Item], at: int) -> int:
        for op, value, folds in items:
            at = self._one(op, value, folds, at)
        return at

    def _one(self, op: Any, value: Any, folds: bool, at: int) -> int:
        if op is sre.AT:
            after = self._state()
            self.free[at].append((after, value is sre.AT_BOUNDARY))
            return after
        if op is sre.BRANCH:
            after = self._state()
            for branch in value[1]:
                self.free[self._sequence(_flat(branch, folds), at)].append((after, None))
            return after
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self._repeat(int(value[0]), value[1], list(_flat(value[2], folds)), at)
        if op is sre.LITERAL and value >= 128 and not folds:
            for byte in chr(value).encode("utf-8", "surrogatepass"):
                at = self._edge(at, 1 << byte)
            return at
        return self._edge(at, _class(op, value, folds))

    def _edge(self, at: int, bytes_: int) -> int:
        after = self._state()
        self.edges[at].append((bytes_, after))
        if bytes_ & _BEYOND == _BEYOND:  # the first byte of any character; the others may be there or not
            self.edges[after].append((_FOLLOWING, after))
        return after

    def _repeat(self, low: int, high: Any, body: list[Item], at: int) -> int:
        """More than PLACES times are no other than PLACES times: what follows is out of sight."""
        for _ in range(min(low, PLACES)):
            at = self._sequence(body, at)
        last = self._state()
        more = PLACES if high is sre.MAXREPEAT else min(int(high) - low, PLACES)
        for _ in range(more):
            self.free[at].append((last, None))
            at = self._sequence(body, at)
        self.free[at].append((last, None))
        return last

    def reach(self, states: Iterable[int], before: int) -> dict[int, int]:
        """Where one gets to without a byte -> the class of the byte that may follow. before: the last byte's class."""
        found: dict[int, int] = {}
        open_ = [(state, ANY) for state in states]
        while open_:
            state, allowed = open_.pop()
            if found.get(state, 0) | allowed == found.get(state, 0):
                continue
            found[state] = found.get(state, 0) | allowed
            for target, boundary in self.free[state]:
                open_.append((target, allowed if boundary is None else allowed & _beside(before, boundary)))
        return found


def _beside(before: int, is_boundary: bool) -> int:
    """What may follow a byte of this class where there is a word boundary, or none."""
    follows = 0
    if before & _WORD:
        follows |= _NO_WORD if is_boundary else _WORD
    if before & _NO_WORD:
        follows |= _WORD if is_boundary else _NO_WORD
    return follows


def _class(op: Any, value: Any, folds: bool) -> int:
    """The class of an item's first byte; what is beyond ASCII is any byte beyond it."""
    if op is sre.LITERAL:
        return _folded(1 << value if value < 128 else _BEYOND, folds, value >= 128)
    if op is sre.NOT_LITERAL:
        return (_ASCII & ~(1 << value if value < 128 else 0)) | _BEYOND
    if op is sre.IN:
        found, negated = 0, False
        for kind, what in value:
            if kind is sre.NEGATE:
                negated = True
            elif kind is sre.LITERAL:
                found |= 1 << what if what < 128 else _BEYOND
            elif kind is sre.RANGE:
                low, high = what
                found |= ((1 << (min(high, 127) + 1)) - 1) & ~((1 << low) - 1) if low < 128 else 0
                found |= _BEYOND if high >= 128 else 0
            else:
                category = _CATEGORIES[what]
                found |= category & _ASCII | (_BEYOND if category < 0 else 0)
        found = _folded(found, folds, bool(found & _BEYOND))
        return _ASCII & ~(found & _ASCII if not folds else 0) | _BEYOND if negated else found
    return _ASCII | _BEYOND


def _folded(bytes_: int, folds: bool, is_beyond: bool) -> int:
    if not folds:
        return bytes_
    for low in range(ord("a"), ord("z") + 1):
        pair = 1 << low | 1 << (low - 32)
        if bytes_ & pair:
            bytes_ |= pair
    return bytes_ | _FOLDS_BEYOND if is_beyond else bytes_


def _beginning(items: list[Item]) -> list[Factor]:
    """The factors with which a match of the sequence begins, the byte before it included where that is bound to be."""
    automaton = _Automaton(items)
    beams = _first(automaton)
    done: dict[Factor, None] = {}
    splits = True
    for _ in range(PLACES):
        split = _step(automaton, beams, splits=splits, done=done)
        if splits and len(split) > MAX_BEAMS:
            splits = False
            split = _step(automaton, beams, splits=False, done=done)
        beams = split
    return list(done)


type _Beams = dict[Factor, frozenset[int]]


def _first(automaton: _Automaton) -> _Beams:
    """What is told by the byte before: with a word boundary at the beginning, whether it is one of a word."""
    around = [automaton.reach([automaton.start], before) for before in (_WORD, _NO_WORD)]
    start = frozenset((automaton.start,))
    if all(reached.get(state) == ANY for reached in around for state in around[0]):
        return {(): start}
    return {(_WORD,): start, (_NO_WORD,): start}


def _step(automaton: _Automaton, beams: _Beams, *, splits: bool, done: dict[Factor, None]) -> _Beams:
    """One byte more. Whatever is PLACES long, or has accepted, goes to `done`."""
    new: dict[Factor, frozenset[int]] = {}
    for row, states in beams.items():
        if len(row) == PLACES:
            done[row] = None
            continue
        reached = automaton.reach(states, row[-1] if row else ANY)
        allowed = reached.get(automaton.accept, 0)
        if allowed:
            done[(*row, allowed, *[ANY] * PLACES)[:PLACES]] = None
        if allowed == ANY:
            continue
        out: dict[int, set[int]] = {}
        for state, may_follow in reached.items():
            for bytes_, target in automaton.edges[state]:
                if bytes_ := bytes_ & may_follow & ~allowed:  # what may follow a whole match is told by the match
                    out.setdefault(bytes_, set()).add(target)
        if out and not splits:
            union = 0
            for bytes_ in out:
                union |= bytes_
            out = {union: set().union(*out.values())}
        for bytes_, targets in out.items():
            key = (*row, bytes_)
            new[key] = new.get(key, frozenset()) | targets
    for row in [row for row in new if len(row) == PLACES]:
        done[row] = None
        del new[row]
    return new
