"""Globs over names: `*` any run of characters, `?` one; without regard to case, since servers disagree about it.

Rules: matching is linear in the text (RE2's kind of pattern, no nested repetition is ever made); a list of globs is one
compiled pattern. In paths `*` stays within a segment and `**` does not.
Does not know: what is named.
"""

import re
from collections.abc import Callable, Iterable

type Matcher = Callable[[str], bool]


def _translate(glob: str, any_run: str, any_one: str) -> str:
    out = []
    at = 0
    while at < len(glob):
        if glob.startswith("**", at):
            out.append(".*")
            at += 2
            continue
        letter = glob[at]
        out.append(any_run if letter == "*" else any_one if letter == "?" else re.escape(letter))
        at += 1
    return "".join(out)


def name_matcher(globs: Iterable[str]) -> Matcher:
    """text -> whether one of the globs matches all of it."""
    return _matcher(globs, ".*", ".")


def path_matcher(globs: Iterable[str]) -> Matcher:
    return _matcher(globs, "[^/]*", "[^/]")


def _matcher(globs: Iterable[str], any_run: str, any_one: str) -> Matcher:
    whole = "|".join(f"(?:{_translate(glob, any_run, any_one)})" for glob in globs)
    pattern = re.compile(whole or r"(?!)", re.IGNORECASE | re.DOTALL | re.ASCII)
    match = pattern.fullmatch
    return lambda text: match(text) is not None
