"""`redact:` of the configuration, as plans.

Rules: every problem is said at once, a sentence a line that begins with its key; a plan for every row is made now, so
that no exchange waits for a pattern to be compiled; the hash's key is never shown.
Does not know: files' changes, exchanges.
"""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from outrider.govern.redact.detectors import BUILT_IN, GROUPS, Detector
from outrider.govern.redact.patterns import Pattern, PatternError, compiled
from outrider.govern.redact.plan import Catalogue, Count, Plans, UnknownDetectorError, own_pattern, word_list
from outrider.govern.redaction import RedactError, Redaction

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_MAX_WORDS: Final = 5000
_KEY_BYTES: Final = 16  # a shorter one could be found by trying


def configured(settings: Any, count: Count) -> tuple[Plans, tuple[Redaction, ...]]:
    """(plans, what is always redacted). Raises: RedactError."""
    problems: list[str] = []
    own = [*_collected(_patterns(settings), problems), *_collected(_word_lists(settings), problems)]
    key = _key(settings, problems)
    catalogue = Catalogue(own)
    always = tuple(
        Redaction(detectors=row.detectors, action=row.action, where=row.where, restore_in=row.restore_in)
        for row in settings.always
    )
    for place, row in enumerate(always):
        try:
            catalogue.named(row.detectors)
        except UnknownDetectorError as exc:
            problems.append(f"redact.always.{place}.detectors: {exc}")
    if problems:
        raise RedactError(problems)
    plans = Plans(catalogue, key, count)
    if always:
        plans.of(always)
    return plans, always


def _collected(found: Iterator[tuple[str, Callable[[], Detector]]], problems: list[str]) -> list[Detector]:
    made = []
    for path, make in found:
        try:
            detector = make()
            compiled(detector.parsed.text)
            compiled(f"(?:{detector.parsed.open})\\z")
            made.append(detector)
        except (PatternError, OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            problems.append(f"{path}: {reason}")
    return made


def _checked_name(name: str) -> None:
    if name in BUILT_IN or name in GROUPS:
        raise PatternError("is the name of a built-in detector or group; use another")
    if not _NAME.fullmatch(name):
        raise PatternError("cannot be a name; use lower-case letters, digits, '_', '.' and '-'")


def _patterns(settings: Any) -> Iterator[tuple[str, Callable[[], Detector]]]:
    for name, entry in settings.patterns.items():

        def make(name: str = name, entry: Any = entry) -> Detector:
            _checked_name(name)
            if entry.max_bytes is None and not Pattern(entry.pattern).bounded:
                raise PatternError(
                    "has no bound, so a stream would be held to its end; write {0,N} for * and +, or set max_bytes"
                )
            return own_pattern(name, entry.pattern, entry.max_bytes or 1000)

        yield f"redact.patterns.{name}.pattern", make


def _word_lists(settings: Any) -> Iterator[tuple[str, Callable[[], Detector]]]:
    for name, words in settings.words.items():

        def make(name: str = name, words: Any = words) -> Detector:
            _checked_name(name)
            if name in settings.patterns:
                raise PatternError("is the name of a pattern too; use another")
            listed = words.read_text("utf-8").splitlines() if isinstance(words, Path) else words
            listed = [word for word in listed if word.strip()]
            if not listed or len(listed) > _MAX_WORDS:
                raise PatternError(f"needs from 1 to {_MAX_WORDS} words")
            return word_list(name, listed)

        yield f"redact.words.{name}", make


def _key(settings: Any, problems: list[str]) -> bytes:
    """Drawn where none is given: then equal values have equal tokens until the sidecar stops."""
    if settings.key is None:
        return secrets.token_bytes(32)
    try:
        key: bytes = settings.key.file.read_bytes().strip()
    except OSError as exc:
        problems.append(f"redact.key.file: {exc.strerror}; name a file that the sidecar may read")
        return b""
    if len(key) < _KEY_BYTES:
        problems.append(f"redact.key.file: holds a key of fewer than {_KEY_BYTES} bytes; draw a longer one")
    return key
