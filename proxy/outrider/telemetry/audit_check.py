"""Whether an audit log is whole: every line by its keyed hash, its number and the hash of the line before.

Rules: what is wrong is named by file and line; one fault is one finding, as far as the lines after it allow; the order
in which files are named does not matter, their first lines say where they belong. A last line that a crash cut is told
apart from the rest: where the next segment vouches for it, it is a note.
Cannot see: that lines are missing at the end, without a checkpoint that counts them; what is older than the first file.
Does not know: what lines say.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from outrider.telemetry.audit import GENESIS, LINE, checkpoint_text
from outrider_ext.sha256 import Mac

_CHECKPOINT = re.compile(rb'\{"time":"[^"]*","event":"audit_checkpoint",.*\}')


@dataclass(frozen=True, slots=True)
class Finding:
    path: Path
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


@dataclass(slots=True)
class Report:
    """problems: what was changed, removed, moved or cut. torn: last lines that are not whole. notes: good to know."""

    problems: list[Finding] = field(default_factory=list)
    torn: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    lines: int = 0
    files: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.problems and not self.torn


@dataclass(slots=True)
class _Claim:
    """One checkpoint."""

    at: Finding
    count: int
    head: str


@dataclass(slots=True)
class _File:
    path: Path
    chain: str
    first: int


def verify(paths: Iterable[Path], key: bytes, checkpoints: Iterable[Path] = ()) -> Report:
    """Raises: OSError when a file cannot be read."""
    report = Report()
    mac = Mac(key)
    claims = _read_claims(checkpoints, mac, report)
    groups: dict[str, list[_File]] = {}
    for path in dict.fromkeys(paths):
        found = _first_look(path)
        groups.setdefault(found.chain, []).append(found)
    for chain, files in sorted(groups.items(), reverse=True):
        files.sort(key=lambda file: (file.first, str(file.path)))
        # A file without a whole first line may be of any chain that a checkpoint counted and no other file has.
        mine = claims.pop(chain, []) if chain else [claim for left in claims.values() for claim in left]
        _Walk(chain, mac, mine, report).files(files)
    if "" not in groups:
        for chain, left in claims.items():
            what = (
                f"counted {left[-1].count} lines of chain {chain}, no file of which was named: removed, or to be named"
            )
            report.problems.append(Finding(left[-1].at.path, left[-1].at.line, what))
    return report


def _first_look(path: Path) -> _File:
    """Where the file belongs, as its first line claims."""
    with path.open("rb") as file:
        found = LINE.fullmatch(file.readline().removesuffix(b"\n"))
    members = _members(found[0]) if found is not None else {}
    return _File(path, str(members.get("chain", "")), int(found[2]) if found is not None else 0)


def _members(line: bytes) -> dict[str, Any]:
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}


def _read_claims(paths: Iterable[Path], mac: Mac, report: Report) -> dict[str, list[_Claim]]:
    claims: dict[str, list[_Claim]] = {}
    for path in paths:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                line = raw.strip()
                if b'"audit_checkpoint"' not in line:
                    continue  # standard error has other lines too
                at = Finding(path, number, "")
                claim = _members(line) if _CHECKPOINT.fullmatch(line) else {}
                chain, count, head = claim.get("chain"), claim.get("count"), claim.get("head")
                if not (isinstance(chain, str) and isinstance(count, int) and isinstance(head, str)):
                    report.problems.append(Finding(path, number, "is not a whole checkpoint"))
                elif not head.isascii() or mac.of(checkpoint_text(chain, count, head)).hex() != claim.get("mac"):
                    report.problems.append(Finding(path, number, "is a checkpoint that was changed, or of another key"))
                else:
                    claims.setdefault(chain, []).append(_Claim(at, count, head))
    return claims


class _Walk:
    """One chain, file by file."""

    def __init__(self, chain: str, mac: Mac, claims: list[_Claim], report: Report) -> None:
        self._chain, self._mac, self._report = chain, mac, report
        self._claims: dict[int, list[_Claim]] = {}
        for claim in claims:
            self._claims.setdefault(claim.count, []).append(claim)
        self._seq = -1  # of the last line; -1 before the first
        self._hash = GENESIS
        self._path, self._number = Path(), 0
        self._torn: tuple[Finding, bytes] | None = None

    def files(self, files: list[_File]) -> None:
        for found in files:
            self._report.files += 1
            self._path, self._number = found.path, 0
            self._file()
        if self._torn is not None:
            self._report.torn.append(self._torn[0])
        for claim in (one for at in sorted(self._claims) for one in self._claims[at]):
            if claim.count > self._seq:
                self._bad(
                    f"the log was cut: it ends with line {max(self._seq, 0)} of its chain, and the checkpoint at "
                    f"{claim.at.path}:{claim.at.line} counted {claim.count}"
                )
                break

    def _bad(self, sentence: str) -> None:
        self._report.problems.append(Finding(self._path, self._number, sentence))

    def _file(self) -> None:
        for raw in _lines(self._path):
            self._number += 1
            if raw.endswith(b"\n"):
                self._line(raw[:-1])
            else:
                where = "the last line is not whole: the process was killed or the end was cut off"
                self._torn = (Finding(self._path, self._number, where), raw)
        if self._number == 0:
            self._number = 1
            self._bad("the file is empty, and even a new one has its first line")

    def _line(self, line: bytes) -> None:
        self._report.lines += 1
        found = LINE.fullmatch(line)
        if found is None:
            self._bad("is no line of an audit log, or was changed")
            self._skip()
            return
        seq, before, own = int(found[2]), found[3].decode("ascii"), found[4].decode("ascii")
        if self._mac.of(found[1]).hex() != own:
            self._bad("was changed, or written with another key: its keyed hash does not fit")
            self._skip(own)
            return
        if self._number == 1:
            self._first_line(line, seq, before)
        elif self._torn is not None:
            self._bad("stands after a line that is not whole")
        if self._seq < 0:
            if seq > 1:
                self._note(f"the chain begins with line {seq} here; what was before it was not named")
        elif seq > self._seq + 1:
            self._bad(f"{seq - self._seq - 1} lines are missing before this one ({self._seq + 1} to {seq - 1})")
        elif seq <= self._seq:
            self._bad(f"is line {seq} of its chain and stands after line {self._seq}: moved or repeated")
        elif self._hash and before != self._hash:
            self._bad("does not follow the line before it: that one was put in another's place")
        self._seq, self._hash = seq, own
        for claim in self._claims.get(seq, ()):
            if claim.head != own:
                self._bad(f"is not the line that the checkpoint at {claim.at.path}:{claim.at.line} saw")

    def _first_line(self, line: bytes, seq: int, before: str) -> None:
        members = _members(line)
        if members.get("event") != "segment":
            self._bad("a file begins with a segment's line; the lines before this one were removed")
        elif seq == 1 and before != GENESIS:
            self._bad("the first line of a chain follows nothing")
        if members.get("reason") == "unverified":
            self._bad("a new chain was begun here, since the end of the one before did not fit the key")
        self._match_torn(members)

    def _match_torn(self, members: dict[str, Any]) -> None:
        """Does this segment vouch for what the file before it ends with?"""
        torn, self._torn = self._torn, None
        if torn is not None and members.get("torn_sha256") == hashlib.sha256(torn[1]).hexdigest():
            where = torn[0]
            self._note_at(where.path, where.line, "torn: a crash cut the last line, as the next segment says")
        elif torn is not None:
            self._report.problems.append(
                Finding(
                    torn[0].path, torn[0].line, "the last line is not whole, and the next segment knows nothing of it"
                )
            )
        elif members.get("torn_bytes") and self._seq >= 0:
            self._bad("the torn line before this segment was removed")

    def _note(self, sentence: str) -> None:
        self._note_at(self._path, self._number, sentence)

    def _note_at(self, path: Path, line: int, sentence: str) -> None:
        self._report.notes.append(Finding(path, line, sentence))

    def _skip(self, own: str = "") -> None:
        """A line that says nothing for sure: the next is expected after it."""
        self._seq = self._seq + 1 if self._seq >= 0 else 1
        self._hash = own


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
