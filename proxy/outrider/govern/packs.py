"""Policy files -> one RuleSet: where packs are, their parameters, and every problem at once.

Rules: a pack is a folder with policy.yaml (and cases.yaml); a name without a path is one that is shipped; parameters
are put in before the file is checked, so that what they make of it is checked too; a problem says file, line and key.
Rule ids are `pack/rule`; two packs may not have one name. Nothing is compiled twice.
Does not know: requests.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from outrider.config.document import Document, DocumentError, read_document
from outrider.config.problems import ConfigError, KeyPath, Problem, quote, sentence_for, spell, suggest, written
from outrider.govern.cel import Expression, ExpressionError
from outrider.govern.plan import CompiledRule, RuleSet, Usage, nothing_used
from outrider.govern.rules import ACTIONS, Match, Parameter, Policy, PrincipalMatch, Rule
from outrider.secrets.files import read_capped, reason

POLICY_FILE: Final = "policy.yaml"
CASES_FILE: Final = "cases.yaml"
MAX_POLICY_BYTES: Final = 1 << 20
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {"text": (str,), "list": (list,), "number": (int, float)}
_PLACEHOLDER: Final = re.compile(r"\$\{([a-z0-9_]+)\}")


type Where = Callable[..., str]


def _nowhere(*path: str | int) -> str:
    return ""


class Use(Protocol):
    """One entry of `policies:`."""

    @property
    def pack(self) -> str: ...
    @property
    def values(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Pack:
    """One policy file, ready. name: the first half of its rules' ids."""

    name: str
    path: Path
    policy: Policy
    rules: tuple[CompiledRule, ...]

    @property
    def cases_path(self) -> Path:
        return self.path.parent / CASES_FILE


@dataclass(frozen=True, slots=True)
class Loaded:
    packs: tuple[Pack, ...]
    rules: RuleSet
    files: tuple[Path, ...]


@cache
def shipped_folder() -> Path | None:
    """Where the packs of this installation are: beside the package in a wheel, at the top of a source tree."""
    spec = find_spec("outrider")
    here = Path(spec.origin).resolve().parent if spec is not None and spec.origin is not None else None
    if here is None:
        return None
    for folder in (here / "policies", here.parents[1] / "policies"):
        if (folder / "baseline" / POLICY_FILE).is_file():
            return folder
    return None


def shipped() -> list[str]:
    folder = shipped_folder()
    return [] if folder is None else sorted(path.parent.name for path in folder.glob(f"*/{POLICY_FILE}"))


def find(pack: str) -> Path:
    """The policy file of an entry: a shipped pack's name, or the path of a file or folder. Raises: ValueError."""
    if "/" not in pack and not pack.endswith((".yaml", ".yml")):
        folder = shipped_folder()
        if folder is None or not (folder / pack / POLICY_FILE).is_file():
            raise ValueError(
                f"is no pack that is shipped{suggest(pack, shipped())} (a file of your own is ./NAME.yaml)"
            )
        return folder / pack / POLICY_FILE
    path = Path(pack)
    return path / POLICY_FILE if path.is_dir() else path


# -- one file


@dataclass(frozen=True, slots=True)
class Given:
    """The entry of `policies:` that gives the parameters. where(*path): file:line of a key of the configuration."""

    where: Where
    at: int
    values: Mapping[str, Any]

    def problem(self, name: str | None, sentence: str) -> Problem:
        if name is None or name not in self.values:
            return Problem(self.where("policies", self.at), f"policies[{self.at}].with", sentence)
        return Problem(self.where("policies", self.at, "with", name), f"policies[{self.at}].with.{name}", sentence)


@dataclass(slots=True)
class _Reader:
    """Reads one file: collects problems. given: who gives its parameters, None for nobody whose lines are known."""

    path: Path
    shown: str
    content: bytes | None = None  # of the file, where somebody else has read it
    given: Given | None = None
    problems: list[Problem] = field(default_factory=list)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)  # parameters that have no value, of which it was said
    filled: dict[KeyPath, str] = field(default_factory=dict)  # where a parameter was put in -> its name

    def say(self, path: KeyPath, sentence: str) -> None:
        self.problems.append(Problem(self.where(path), spell(path), sentence))

    def say_given(self, name: str, sentence: str) -> None:
        """Of what stands under `with:`, or is missing there. Where nobody says where that is: of the parameter."""
        if self.given is None:
            self.say(("parameters", name), sentence)
        else:
            self.problems.append(self.given.problem(name, f"{sentence} (parameter {name} of {self.shown})"))

    def where(self, path: KeyPath) -> str:
        for end in range(len(path), -1, -1):
            if (line := self.lines.get(path[:end])) is not None:
                return f"{self.shown}:{line}"
        return self.shown

    def document(self) -> Document:
        try:
            content = self.content if self.content is not None else read_capped(self.path, MAX_POLICY_BYTES)
            text = content.decode("utf-8-sig")
            found = read_document(text)
        except OSError as exc:
            raise ConfigError([Problem(self.shown, "", f"cannot be read: {reason(exc)}; name a policy file")]) from exc
        except UnicodeDecodeError as exc:
            raise ConfigError([Problem(self.shown, "", "is not UTF-8 text; save it as UTF-8")]) from exc
        except DocumentError as exc:
            raise ConfigError([Problem(f"{self.shown}:{exc.line}" if exc.line else self.shown, "", str(exc))]) from exc
        self.lines = found.lines
        self.problems += found.problems_in(self.shown)
        return found

    def policy(self, values: Mapping[str, Any]) -> Policy | None:
        data = self.document().data
        if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
            self.say((), "must be a section with rules: and a list below it; see docs/policies.md")
            return None
        filled = _Filling(self, self._parameters(data.get("parameters"), values)).of(data, ())
        try:
            policy = Policy.model_validate(filled)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                self._say_error(error, filled)
            return None
        self._check_ids(policy)
        self._check_patterns(policy)
        return policy

    def _parameters(self, declared: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        known: dict[str, Parameter] = {}
        for name, entry in (declared if isinstance(declared, dict) else {}).items():
            try:
                known[name] = Parameter.model_validate(entry)
            except ValidationError:
                continue  # said when the whole file is checked
        chosen: dict[str, Any] = {}
        for name, parameter in known.items():
            if name in values:
                value = values[name]
                if parameter.type == "list" and isinstance(value, str):
                    value = [value]
                if not isinstance(value, _TYPES[parameter.type]):
                    self.say_given(name, f"needs a {parameter.type}, and with: gives {quote(value)}")
                    self.failed.add(name)
                    continue
                chosen[name] = value
            elif parameter.is_required:
                self.say_given(name, f"has to be given: {parameter.description}; write with: {{{name}: …}}")
                self.failed.add(name)
            else:
                chosen[name] = parameter.default
        for name in values:
            if name not in known:
                self.say_given(name, f"is not known, there is no such parameter{suggest(name, known)}")
        return chosen

    def _say_error(self, error: Any, data: Any) -> None:
        path = tuple(step for step in error["loc"] if not _is_inner(step))
        sentence = sentence_for(error, _known_beside(path))
        for end in range(len(path), 0, -1):
            name = self.filled.get(path[:end])
            if name in self.failed:
                return  # it has no value, and that was said
            if name is not None and self.given is not None and name in self.given.values:
                self.say_given(name, sentence)
                return
        self.say(written(path, data), sentence)

    def _check_ids(self, policy: Policy) -> None:
        seen: set[str] = {"default"}
        for at, rule in enumerate(policy.rules):
            if rule.id in seen:
                self.say(("rules", at, "id"), f"is the second rule called {rule.id!r}; give it another name")
            seen.add(rule.id)

    def _check_patterns(self, policy: Policy) -> None:
        for name, pattern in policy.patterns.items():
            if (why := _pattern_problem(pattern)) is not None:
                self.say(("patterns", name), why)

    def compiled(self, name: str, policy: Policy, defaults: Mapping[str, str]) -> tuple[CompiledRule, ...]:
        found = []
        for at, rule in enumerate(policy.rules):
            when: Expression | None = None
            if rule.when is not None:
                try:
                    when = Expression(rule.when, policy.timezone)
                except ExpressionError as exc:
                    self.say(("rules", at, "when"), str(exc))
                    continue
                if "matched" in when.fields and not defaults:
                    self.say(("rules", at, "when"), "reads request.matched, and the file has no patterns:")
            found.append(CompiledRule(name, rule, when, self.where(("rules", at))))
        return tuple(found)


class _Filling:
    """Parameters into the data: a value that is only `${name}` becomes the parameter's, in a list it is spliced in; in
    an expression it becomes a CEL literal."""

    def __init__(self, reader: _Reader, values: Mapping[str, Any]) -> None:
        self._reader, self._values = reader, values

    def of(self, node: Any, path: KeyPath) -> Any:
        if isinstance(node, dict):
            if path == ("parameters",):
                return node
            return {key: self.of(value, (*path, key)) for key, value in node.items()}
        if isinstance(node, list):
            return self._list(node, path)
        if isinstance(node, str) and "${" in node:
            whole = _PLACEHOLDER.fullmatch(node)
            if whole is not None and path[-1:] != ("when",):
                return self._value(whole[1], path)
            return _PLACEHOLDER.sub(lambda found: self._text(found[1], path), node)
        return node

    def _list(self, node: list[Any], path: KeyPath) -> list[Any]:
        filled: list[Any] = []
        moved: dict[KeyPath, str] = {}  # an element that follows a list which was put in stands further on
        for at, item in enumerate(node):
            value = self.of(item, (*path, at))
            spliced = isinstance(item, str) and isinstance(value, list)
            if (name := self._reader.filled.pop((*path, at), None)) is not None:
                moved |= {(*path, len(filled) + more): name for more in range(len(value) if spliced else 1)}
            filled += value if spliced else [value]
        self._reader.filled |= moved
        return filled

    def _value(self, name: str, path: KeyPath) -> Any:
        self._reader.filled[path] = name
        if name not in self._values:
            if name not in self._reader.failed:
                self._reader.say(path, f"names a parameter that the file does not declare: {name}")
            return None
        return self._values[name]

    def _text(self, name: str, path: KeyPath) -> str:
        value = self._value(name, path)
        return json.dumps(value) if path[-1:] == ("when",) else str(value)


def _is_inner(step: Any) -> bool:
    """A step of pydantic's own that the file does not have (which of a union's members)."""
    return isinstance(step, str) and (
        step in ("bool", "int", "float", "str", "[key]") or step.startswith(("dict[", "list["))
    )


def _known_beside(path: KeyPath) -> list[str]:
    """The keys that may stand where an unknown one does."""
    fields: dict[tuple[str, ...], Sequence[str]] = {
        (): list(Policy.model_fields),
        ("rules",): [item.alias or name for name, item in Rule.model_fields.items()],
        ("rules", "match"): list(Match.model_fields),
        ("rules", "except"): list(Match.model_fields),
        ("rules", "match", "principal"): list(PrincipalMatch.model_fields),
        ("rules", "except", "principal"): list(PrincipalMatch.model_fields),
        ("rules", "then"): ACTIONS,
    }
    return list(fields.get(tuple(step for step in path[:-1] if isinstance(step, str)), ()))


def _pattern_problem(pattern: str) -> str | None:
    import re2  # type: ignore[import-untyped,unused-ignore]

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as exc:
        said = exc.args[0] if exc.args else ""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"is no RE2 pattern: {text}"
    return None


# -- all of them


def load_pack(
    path: Path,
    values: Mapping[str, Any],
    *,
    shown: str | None = None,
    content: bytes | None = None,
    given: Given | None = None,
) -> Pack:
    """content: of the file, where it was read already. given: whose entry the values are, so that a wrong one is told
    there. Raises: ConfigError with every problem of the file.
    """
    reader = _Reader(path, shown or str(path), content, given)
    policy = reader.policy(values)
    rules: tuple[CompiledRule, ...] = ()
    name = ""
    if policy is not None:
        name = policy.name or (path.parent.name if path.name == POLICY_FILE else path.stem).lower()
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            reader.say(
                (), f"is called {name!r}, which cannot stand in a rule's id; give it a name: of a-z, 0-9 and '-'"
            )
        rules = reader.compiled(name, policy, policy.patterns)
    if reader.problems or policy is None:
        raise ConfigError(reader.problems)
    return Pack(name, path, policy, rules)


def load_policies(
    uses: Sequence[Use],
    *,
    where: Where = _nowhere,
    usage: Usage = nothing_used,
    contents: Mapping[str, bytes] | None = None,
    **more: Any,
) -> Loaded:
    """All entries of `policies:`. where(*path): file:line of a key. contents: what `read_files` read.

    Raises: ConfigError with every problem of all files.
    """
    packs: list[Pack] = []
    problems: list[Problem] = []
    for at, use in enumerate(uses):
        here = where("policies", at)
        try:
            path = find(use.pack)
        except ValueError as exc:
            problems.append(Problem(here, f"policies[{at}]", f"{use.pack!r} {exc}"))
            continue
        try:
            content = (contents or {}).get(str(path))
            packs.append(load_pack(path, use.values, content=content, given=Given(where, at, use.values)))
        except ConfigError as exc:
            problems += exc.problems
            continue
        if any(pack.name == packs[-1].name for pack in packs[:-1]):
            sentence = f"is the second pack called {packs[-1].name!r}; give one of the files a name:"
            problems.append(Problem(here, f"policies[{at}]", sentence))
    patterns = _all_patterns(packs, problems)
    if problems:
        raise ConfigError(problems)
    rules = RuleSet(
        [rule for pack in packs for rule in pack.rules],
        patterns=patterns,
        default_deny=[pack.name for pack in packs if pack.policy.default == "deny"],
        usage=usage,
        **more,
    )
    return Loaded(tuple(packs), rules, tuple(pack.path for pack in packs))


def read_files(uses: Sequence[Use]) -> dict[str, bytes]:
    """The policies' files as they are now, by path, for several processes that have to judge by the same ones.

    What is none or cannot be read is left out: whoever loads the policies says why.
    """
    found: dict[str, bytes] = {}
    for use in uses:
        with suppress(ValueError, OSError):
            path = find(use.pack)
            found[str(path)] = read_capped(path, MAX_POLICY_BYTES)
    return found


def _all_patterns(packs: Sequence[Pack], problems: list[Problem]) -> dict[str, str]:
    patterns: dict[str, str] = {}
    for pack in packs:
        for name, pattern in pack.policy.patterns.items():
            if patterns.setdefault(name, pattern) != pattern:
                sentence = "is another pattern in another pack; give it another name"
                problems.append(Problem(str(pack.path), f"patterns.{name}", sentence))
    return patterns
