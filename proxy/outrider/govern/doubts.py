"""What rules say and probably do not mean: rules that can never apply, routes that an earlier one shadows.

Rules: nothing here changes what is decided; a doubt is a sentence that says where, which and what to do.
Does not know: requests.
"""

from collections.abc import Iterator, Mapping, Sequence

from outrider.govern.globs import name_matcher
from outrider.govern.packs import Loaded
from outrider.govern.plan import CompiledRule
from outrider.govern.reading import TUNNEL
from outrider.govern.rules import Match
from outrider.providers.model import UNKNOWN, Provider

_LISTS = ("provider", "operation", "model", "host", "path", "method", "listener", "via")


def doubts(loaded: Loaded, providers: Mapping[str, Provider]) -> Iterator[str]:
    """providers: configured name -> its table."""
    for pack in loaded.packs:
        if not pack.rules:
            yield f"{pack.path}: has no rules; add some, or remove it from policies"
        for rule in pack.rules:
            for sentence in _never(rule, providers):
                yield f"{rule.where}: {rule.id}: {sentence}"
        if pack.policy.default == "deny" and not any(rule.action == "allow" and rule.enforces for rule in pack.rules):
            yield f"{pack.path}: default: deny without an allow rule refuses every request; add one"
    yield from _shadowed([rule for pack in loaded.packs for rule in pack.rules])


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
    if match.listener == ("transparent",) and match.via and "transparent" not in match.via:
        yield "can never apply: listener transparent has no other way in than transparent"
    if rule.rule.except_ is not None and _covers(rule.rule.except_, match):
        yield "can never apply: its except covers all that it matches"
    if rule.when is not None and rule.when.is_constant and rule.when.constant() is False:
        yield "can never apply: its condition is always false"


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
