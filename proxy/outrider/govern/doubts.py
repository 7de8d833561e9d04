"""What rules say and probably do not mean: rules that can never apply, routes in another's shadow, keys in them.

Rules: nothing here changes what is decided; a doubt is a sentence that says where, which and what to do.
Does not know: requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outrider.govern.globs import name_matcher
from outrider.govern.limits import sets
from outrider.govern.packs import Loaded
from outrider.govern.plan import CompiledRule
from outrider.govern.reading import TUNNEL
from outrider.govern.rules import Match
from outrider.providers.model import UNKNOWN, Provider
from outrider.secrets.secret import looks_like_secret

_UNTABLED = (UNKNOWN.name, TUNNEL.name)
_LISTS = ("provider", "operation", "model", "host", "path", "method", "listener", "via")


def doubts(loaded: Loaded, providers: Mapping[str, Provider], principals: Sequence[Any] | None = None) -> Iterator[str]:
    """providers: configured name -> its table. principals: entries of `principals:`, None where unknown."""
    for pack in loaded.packs:
        yield from _keys_in(pack.path)
        if not pack.rules:
            yield f"{pack.path}: has no rules; add some, or remove it from policies"
        for rule in pack.rules:
            for sentence in (*_never(rule, providers), *_nobody(rule, principals)):
                yield f"{rule.where}: {rule.id}: {sentence}"
        if pack.policy.default == "deny" and not any(rule.action == "allow" and rule.enforces for rule in pack.rules):
            yield f"{pack.path}: default: deny without an allow rule refuses every request; add one"
    rules = [rule for pack in loaded.packs for rule in pack.rules]
    yield from _shadowed(rules)
    yield from _refused_anyway(rules)


def _never(rule: CompiledRule, providers: Mapping[str, Provider]) -> Iterator[str]:
    match = rule.rule.match
    for name in _LISTS:
        if getattr(match, name) == ():
            yield f"can never apply: match.{name} is empty"
    names = {*providers, *(provider.kind for provider in providers.values()), "other"}
    if match.provider and not any(map(name_matcher(match.provider), names)):
        yield f"can never apply: no provider is called {_shown(match.provider)}"
    operations = {row.operation.name for provider in providers.values() for row in provider.endpoints}
    operations |= {UNKNOWN.name, TUNNEL.name}
    for glob in match.operation or ():
        if not any(map(name_matcher((glob,)), operations)):
            yield f"match.operation {glob!r} is the name of no operation; docs/policies.md lists them"
    yield from _without_operation(match, providers)
    if match.known_operation is False and match.operation and not any(map(name_matcher(match.operation), _UNTABLED)):
        yield "can never apply: a path that is in no table has no operation but unknown"
    if match.listener == ("transparent",) and match.via and "transparent" not in match.via:
        yield "can never apply: listener transparent has no other way in than transparent"
    if rule.rule.except_ is not None and _covers(rule.rule.except_, match):
        yield "can never apply: its except covers all that it matches"
    if rule.when is not None and rule.when.is_constant and rule.when.constant() is False:
        yield "can never apply: its condition is always false"


def _without_operation(match: Match, providers: Mapping[str, Provider]) -> Iterator[str]:
    """A provider and an operation that each exist, and not together."""
    if not match.provider or not match.operation:
        return
    is_named, is_meant = name_matcher(match.provider), name_matcher(match.operation)
    named = {name: table for name, table in providers.items() if is_named(name) or is_named(table.kind)}
    if not named or is_named("other") or any(map(is_meant, _UNTABLED)):
        return
    known = {row.operation.name for table in providers.values() for row in table.endpoints}
    theirs = {row.operation.name for table in named.values() for row in table.endpoints}
    if any(map(is_meant, known)) and not any(map(is_meant, theirs)):
        yield f"can never apply: {_shown(match.provider)} has no operation {_shown(match.operation)}"


def _nobody(rule: CompiledRule, principals: Sequence[Any] | None) -> Iterator[str]:
    """A caller whom no entry of `principals:` makes. A field that nobody sets is an empty text: "" and "*" match it."""
    wanted = rule.rule.match.principal
    if wanted is None or principals is None:
        return
    asked = [(name, getattr(wanted, name)) for name in ("team", "project", "environment", "roles")]
    asked += [(f"labels.{name}", globs) for name, globs in (wanted.labels or {}).items()]
    for name, globs in asked:
        fits_nobody = name.startswith("labels.") or name == "roles" or not name_matcher(globs or ("*",))("")
        if globs is not None and fits_nobody and not any(sets(principal, name) for principal in principals):
            yield f"can never apply: no principal sets {name}"


def _refused_anyway(rules: Sequence[CompiledRule]) -> Iterator[str]:
    """Deny wins: what is always refused is neither rewritten nor refused by anybody else."""
    always = [
        rule
        for rule in rules
        if rule.action == "deny" and rule.enforces and rule.when is None and rule.rule.except_ is None
    ]
    for rule in rules:
        for denial in always:
            if denial is not rule and rule.enforces and _covers(denial.rule.match, rule.rule.match):
                if denial.rule.match == rule.rule.match and rules.index(denial) > rules.index(rule) and rule in always:
                    continue  # of two alike the later one is the idle one
                yield f"{rule.where}: {rule.id}: never comes to anything, since {denial.id} refuses the same calls"
                break


def _keys_in(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # it was read a moment ago; a reload will say what became of it
    for number, line in enumerate(lines, 1):
        if looks_like_secret(line):
            yield f"{path}:{number}: looks like a key itself; move it elsewhere, rules are no place for one"


def _shadowed(rules: Sequence[CompiledRule]) -> Iterator[str]:
    """The first route holds, so a later one that it covers is never taken."""
    routes = [rule for rule in rules if rule.action == "route" and rule.enforces]
    for at, later in enumerate(routes):
        for earlier in routes[:at]:
            always = earlier.when is None and earlier.rule.except_ is None
            if always and _covers(earlier.rule.match, later.rule.match):
                yield f"{later.where}: {later.id}: is never taken, since {earlier.id} routes the same calls before it"
                break


def _covers(wide: Match, narrow: Match) -> bool:
    """Whether all that `narrow` matches is matched by `wide`; False where that is not plain to see."""
    for name in type(wide).model_fields:
        said, other = getattr(wide, name), getattr(narrow, name)
        if said is None or said == other:
            continue
        if name not in _LISTS or other is None:
            if name in _LISTS and said is not None and "*" in said and name != "model":
                continue
            return False
        if not set(other) <= set(said) and not ("*" in said or _all_covered(said, other)):
            return False
    return True


def _all_covered(said: Sequence[str], other: Sequence[str]) -> bool:
    """Plain names that the wider globs match; a glob is compared as it is written."""
    matches = name_matcher(said)
    return all(("*" not in entry and "?" not in entry and matches(entry)) or entry in said for entry in other)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
