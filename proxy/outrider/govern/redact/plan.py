"""From what is asked for (Redaction rows) to what is done: one scanner and one action per detector for each direction.

Rules
- Detectors named twice take the strictest action: block, mask, hash, pseudonymise.
- In an answer, pseudonyms are turned back and never made: what the model says of its own is not the app's to restore.
- Plans are made once for a set of rows and kept.
- Values are in no error, log or repr; counts are by the detector's name.
Does not know: exchanges, JSON.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Final, NamedTuple

from outrider.errors import ForbiddenError
from outrider.govern.redact.actions import LITERAL, PSEUDONYM, Vault, keyed_hash, mask
from outrider.govern.redact.detectors import GROUPS, ROWS, Detector
from outrider.govern.redact.patterns import Pattern
from outrider.govern.redact.scan import Scanner
from outrider.govern.redact.stream import TEXT, Replace, TextStream
from outrider.govern.redaction import Redaction

STRICTEST: Final = ("block", "mask", "hash", "pseudonymise")
MAX_PLANS: Final = 256

type Count = Callable[[str, str, str], None]  # (detector, action, where)


class UnknownDetectorError(ValueError):
    """No built-in detector, group, pattern or word list has this name."""


class Catalogue:
    """The built-in detectors and those of the configuration. `patterns` and `words`: name -> Detector."""

    def __init__(self, own: Iterable[Detector] = ()) -> None:
        self._rows: tuple[Detector, ...] = (*ROWS, *own)
        self._by_name: Mapping[str, Detector] = {row.name: row for row in self._rows}

    def named(self, names: Sequence[str]) -> set[str]:
        """The detectors that the names and groups stand for. Raises: UnknownDetectorError."""
        found: set[str] = set()
        for name in names:
            if name in GROUPS or name == "pii":
                found |= {
                    row.name for row in self._rows if row.group == name or (name == "pii" and row.group == "network")
                }
            elif name in self._by_name:
                found.add(name)
            else:
                raise UnknownDetectorError(f"no detector, group, pattern or word list is called {name!r}")
        return found

    def rows(self, names: Iterable[str]) -> list[Detector]:
        wanted = set(names)
        return [row for row in self._rows if row.name in wanted]


class Side(NamedTuple):
    """One direction. The last row of the scanner may be the pseudonyms' (to restore, or look-alikes to escape)."""

    scanner: Scanner
    actions: tuple[str, ...]
    restore_in: tuple[frozenset[str], ...]


class Plan:
    """request, answer: None where nothing is to be done. restores: pseudonyms are made, so answers have to be read."""

    def __init__(self, redactions: Sequence[Redaction], catalogue: Catalogue, key: bytes, count: Count) -> None:
        self._key, self._tally = key, count
        chosen = {where: _chosen(redactions, where, catalogue) for where in ("request", "answer")}
        self.restores = any(action == "pseudonymise" for action, _ in chosen["request"].values())
        self.request = _side(chosen["request"], catalogue, "escape" if self.restores else "")
        told = {name: row for name, row in chosen["answer"].items() if row[0] != "pseudonymise"}
        self.answer = _side(told, catalogue, "restore" if self.restores else "")
        self.redacts_answers = bool(told)

    def untold(self) -> "Plan":
        """The same, of which nothing is counted: for a text that was read before."""
        found = copy(self)
        found._tally = lambda *labels: None
        return found

    # -- what is put in a match's place

    def for_request(self, vault: Vault) -> Replace:
        assert self.request is not None
        return self._replacing(self.request, vault, "request")

    def for_answer(self, vault: Vault) -> Replace:
        assert self.answer is not None
        return self._replacing(self.answer, vault, "answer")

    def _replacing(self, side: Side, vault: Vault, where: str) -> Replace:
        rows, actions = side.scanner.detectors, side.actions

        def replace(row: int, value: bytes, in_url: bool, kind: str) -> bytes | None:
            detector, action = rows[row], actions[row]
            if action == "escape":
                return vault.pseudonym(LITERAL, value, frozenset(("text", "tool_arguments", "urls")))
            if action == "restore":
                kept = vault.by_token.get(value)
                if kept is None or kind not in kept.restore_in or (in_url and "urls" not in kept.restore_in):
                    return None
                self._tally(PSEUDONYM.name, action, where)
                return kept.value
            self._tally(detector.name, action, where)
            vault.count(detector.label)
            if action == "block":
                raise blocked(detector.name, where)
            if action == "mask":
                return mask(detector.label)
            if action == "hash":
                return keyed_hash(self._key, detector.label, value)
            return vault.pseudonym(detector.label, value, side.restore_in[row])

        return replace

    # -- texts

    def request_text(self, vault: Vault) -> Callable[[bytes, str], bytes]:
        side, replace = self.request, self.for_request(vault)
        assert side is not None
        return lambda text, kind: TextStream(side.scanner, replace, kind).finish(text)

    def answer_stream(self, vault: Vault) -> Callable[[str], TextStream]:
        side, replace, restores = self.answer, self.for_answer(vault), self.restores
        assert side is not None
        return lambda kind: TextStream(side.scanner, replace, kind, watch_urls=restores)


def blocked(name: str, where: str) -> ForbiddenError:
    what = "request holds" if where == "request" else "answer holds"
    return ForbiddenError(f"the {what} what looks like {name}, and a rule blocks that (action: block); take it out")


def _chosen(redactions: Sequence[Redaction], where: str, catalogue: Catalogue) -> dict[str, tuple[str, frozenset[str]]]:
    """Detector -> (action, restore_in)."""
    chosen: dict[str, tuple[str, frozenset[str]]] = {}
    for redaction in redactions:
        if where not in redaction.where:
            continue
        for name in catalogue.named(redaction.detectors):
            before = chosen.get(name)
            if before is None or STRICTEST.index(redaction.action) < STRICTEST.index(before[0]):
                chosen[name] = (redaction.action, _kinds(redaction.restore_in))
    return chosen


def _kinds(restore_in: Sequence[str]) -> frozenset[str]:
    return frozenset(restore_in)


def _side(chosen: Mapping[str, tuple[str, frozenset[str]]], catalogue: Catalogue, pseudonyms: str) -> Side | None:
    rows = catalogue.rows(chosen)
    if not rows and not pseudonyms:
        return None
    actions = [chosen[row.name][0] for row in rows]
    places = [chosen[row.name][1] for row in rows]
    if pseudonyms:  # in a request a look-alike becomes a value; in an answer a pseudonym is turned back
        rows.append(PSEUDONYM)
        actions.append(pseudonyms)
        places.append(frozenset((TEXT,)))
    return Side(Scanner(rows), tuple(actions), tuple(places))


class Plans:
    """Plan by rows; bounded."""

    def __init__(self, catalogue: Catalogue, key: bytes, count: Count) -> None:
        self._catalogue, self._key, self._count = catalogue, key, count
        self._plans: dict[tuple[Redaction, ...], Plan] = {}

    def of(self, redactions: tuple[Redaction, ...]) -> Plan:
        """Raises: UnknownDetectorError."""
        plan = self._plans.get(redactions)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[redactions] = Plan(redactions, self._catalogue, self._key, self._count)
        return plan


def word_list(name: str, words: Sequence[str]) -> Detector:
    """Whole words, in any case; the longest wins."""
    from re import escape

    ordered = sorted({word.strip() for word in words if word.strip()}, key=len, reverse=True)
    pattern = "(?i)(?:" + "|".join(_bounded(escape(word), word) for word in ordered) + ")"
    return Detector(name, "words", pattern)


def _bounded(escaped: str, word: str) -> str:
    """A boundary where an ASCII letter or digit begins or ends: RE2's \\b knows no others."""
    first = r"\b" if word[0].isascii() and word[0].isalnum() else ""
    return first + escaped + (r"\b" if word[-1].isascii() and word[-1].isalnum() else "")


def own_pattern(name: str, pattern: str, max_bytes: int) -> Detector:
    """A pattern of the configuration's. An unbounded repeat ends at max_bytes; more is masked as it comes."""
    parsed = Pattern(pattern, max_bytes)
    return Detector(name, "patterns", pattern, tail=parsed.tail, max_repeat=max_bytes)
