"""The form of a policy file: rules, what they match, when, and then what. docs/policies.md says it in words.

Rules: strict, frozen, unknown keys are errors; a rule has exactly one action; what a rule reads is known when it is
loaded. Nothing here evaluates anything.
Does not know: files, packs, expressions' meaning (cel.py), requests.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from outrider.config.values import time_zone
from outrider.govern.globs import Matcher, name_matcher
from outrider.govern.heads import name_problem, value_problem
from outrider.govern.redaction import Redaction

NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
DENY_STATUSES: Final = (400, 401, 402, 403, 404, 409, 413, 422, 429, 451)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


type Globs = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]  # an empty list matches nothing
type Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None


class _Part(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True
    )


class PrincipalMatch(_Part):
    id: Globs | None = None
    team: Globs | None = None
    project: Globs | None = None
    environment: Globs | None = None
    roles: Globs | None = None  # one of the principal's roles
    labels: dict[str, Globs] | None = None


class Match(_Part):
    """All fields that are given have to match, each by one of its entries."""

    principal: PrincipalMatch | None = None
    provider: Globs | None = None
    operation: Globs | None = None
    model: Globs | None = None
    host: Globs | None = None
    path: Globs | None = None
    method: Globs | None = None
    listener: Annotated[tuple[Literal["proxy", "transparent"], ...] | None, BeforeValidator(_as_tuple)] = None
    via: Annotated[tuple[Literal["forward", "connect", "transparent"], ...] | None, BeforeValidator(_as_tuple)] = None
    known_operation: bool | None = None
    mints_secrets: bool | None = None

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, name) is not None for name in type(self).model_fields)


class Deny(_Part):
    status: int = 403
    message: str | None = None

    @model_validator(mode="after")
    def _known_status(self) -> Self:
        if self.status not in DENY_STATUSES:
            raise ValueError(f"status must be one of {', '.join(map(str, DENY_STATUSES))}")
        return self


class HeaderChange(_Part):
    """set: name -> the one value that leaves. remove: names, in any case. Which ones no rule may touch: heads.py."""

    set: dict[str, str] | None = Field(None, min_length=1)
    remove: Annotated[tuple[str, ...] | None, BeforeValidator(_as_tuple)] = None

    @model_validator(mode="after")
    def _may_be_changed(self) -> Self:
        if not self.set and not self.remove:
            raise ValueError("needs set: or remove: with at least one header")
        problems = [name_problem(name) or value_problem(name, value) for name, value in (self.set or {}).items()]
        problems += [name_problem(name, removes=True) for name in self.remove or ()]
        if found := [problem for problem in problems if problem is not None]:
            raise ValueError("; ".join(found))
        if twice := {name.lower() for name in self.set or {}} & {name.lower() for name in self.remove or ()}:
            raise ValueError(f"both sets and removes {min(twice)}")
        return self

    @property
    def changes(self) -> Mapping[str, str | None]:
        """Name -> value, None for a field that goes."""
        return {**(self.set or {}), **dict.fromkeys(self.remove or (), None)}


class Rewrite(_Part):
    """max_tokens: at most this much, under whichever name the dialect has; set where the app said nothing."""

    max_tokens: int | None = Field(None, ge=1)
    set: Mapping[str, Scalar | dict[str, Any] | list[Any]] | None = Field(None, min_length=1)
    remove: Globs | None = None
    system_preamble: str | None = Field(None, min_length=1)
    strip_tools: Globs | None = None
    headers: HeaderChange | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one of max_tokens, set, remove, system_preamble, strip_tools and headers")
        if self.set is not None and (taken := {"model", "stream"} & set(self.set)):
            raise ValueError(f"may not set {min(taken)}; use route for the model, and leave stream to the app")
        return self

    @property
    def edits_body(self) -> bool:
        return bool(self.model_fields_set - {"headers"})


class Route(_Part):
    """model: the name that is asked for instead, one of `models:` or the same provider's. provider: another one's."""

    provider: str | None = Field(None, min_length=1, max_length=63)

    model: str = Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")


class BetaNames(_Part):
    """Names of Anthropic's betas. rename: old -> new; then drop: globs; keep: all others go. for_host: as the provider
    has them (providers/betas.py)."""

    rename: Mapping[str, str] = Field(default_factory=dict)
    drop: Globs = ()
    keep: Globs | None = None
    for_host: bool = False

    @cached_property
    def is_kept(self) -> Matcher:
        dropped, kept = name_matcher(self.drop), name_matcher(("*",) if self.keep is None else self.keep)
        return lambda name: kept(name) and not dropped(name)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one of rename, drop, keep and for_host")
        if wrong := [name for name in self.rename.values() if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name)]:
            raise ValueError(f"{wrong[0]!r} is no name of a beta")
        return self


class Lift(_Part):
    """A newer version of the API that the app speaks; what it answers comes back in the app's own. One key for each."""

    api_version: str | None = Field(None, pattern=r"^(v1|[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?)$")
    anthropic_version: str | None = Field(None, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    anthropic_beta: BetaNames | None = None
    functions: Literal["tools"] | None = None
    completions: Literal["chat"] | None = None
    max_tokens: Literal["max_completion_tokens"] | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not any(getattr(self, name) is not None for name in type(self).model_fields):
            raise ValueError(f"needs at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def changes_form(self) -> bool:
        return self.functions is not None or self.completions is not None


class Require(_Part):
    """What a request has to have; one that has not is refused as by `deny`."""

    max_body_bytes: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    headers: dict[str, Globs] | None = None
    fields: Mapping[str, Scalar] | None = None
    tools: Annotated[tuple[str, ...] | None, BeforeValidator(_as_tuple)] = None
    mcp_servers: Annotated[tuple[str, ...] | None, BeforeValidator(_as_tuple)] = None
    status: int = 403
    message: str | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.model_fields_set - {"status", "message"}:
            raise ValueError("needs at least one of max_body_bytes, max_tokens, headers, fields, tools and mcp_servers")
        if self.status not in DENY_STATUSES:
            raise ValueError(f"status must be one of {', '.join(map(str, DENY_STATUSES))}")
        return self

    @property
    def reads_body(self) -> bool:
        return bool(self.model_fields_set - {"status", "message", "headers"})


ACTIONS: Final = ("allow", "deny", "redact", "rewrite", "route", "lift", "tag", "require", "cache")


class Then(_Part):
    """Exactly one action. `then: allow` and `then: deny` stand for themselves with nothing more to say."""

    allow: dict[str, Any] | None = Field(None, max_length=0)
    deny: Deny | None = None
    redact: Redaction | None = None
    rewrite: Rewrite | None = None
    route: Route | None = None
    lift: Lift | None = None
    tag: Globs | None = None
    require: Require | None = None
    cache: Literal["on", "off"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_word_stands_for_a_section(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data not in ("allow", "deny"):
                raise ValueError(f"must be allow, deny, or a section with one of {', '.join(ACTIONS[2:])}")
            return {data: {}}
        if isinstance(data, dict):
            if len(data) != 1:
                raise ValueError(f"needs exactly one action of {', '.join(ACTIONS)}")
            if isinstance(data.get("cache"), bool):  # YAML reads on and off as one
                return {"cache": "on" if data["cache"] else "off"}
            return {key: {} if value is None and key in ("allow", "deny") else value for key, value in data.items()}
        return data

    @property
    def action(self) -> str:
        return next(name for name in ACTIONS if getattr(self, name) is not None)


class Rule(_Part):
    id: str = Field(pattern=NAME)
    description: str = Field(min_length=1, max_length=400)
    match: Match = Match()
    except_: Match | None = Field(None, alias="except")
    when: str | None = Field(None, min_length=1, max_length=8192)
    then: Then
    on_error: Literal["deny", "allow"] = "deny"
    mode: Literal["enforce", "shadow"] = "enforce"
    websocket: Literal["refuse", "allow-uninspected"] = "refuse"

    @model_validator(mode="after")
    def _except_says_something(self) -> Self:
        if self.except_ is not None and self.except_.is_empty:
            raise ValueError("except: without a field would except everything; name a field or remove it")
        return self


class Parameter(_Part):
    """What a pack lets its user choose; `${name}` stands for it in the rules."""

    description: str
    type: Literal["text", "list", "number"] = "text"
    default: Any = None

    @property
    def is_required(self) -> bool:
        return "default" not in self.model_fields_set


class Policy(_Part):
    """One policy file. default: what becomes of a request that no `allow` rule of this file applies to. timezone: of
    `time` in its conditions."""

    version: Literal[1] = 1
    name: str | None = Field(None, pattern=NAME)
    description: str = ""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    patterns: dict[str, str] = Field(default_factory=dict)
    default: Literal["allow", "deny"] = "allow"
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    rules: Annotated[
        tuple[Rule, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ]


def json_schema() -> dict[str, Any]:
    """For editors. A placeholder of a parameter may stand wherever a value may, so editors should not be stricter."""
    schema = Policy.model_json_schema(by_alias=True, mode="validation")
    _loosen(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Outrider policy", **schema}


def _loosen(node: Any) -> None:
    """Lists may be given as a single word, the action as a word, a number as `${parameter}`."""
    if isinstance(node, list):
        for item in node:
            _loosen(item)
        return
    if not isinstance(node, dict):
        return
    for value in list(node.values()):
        _loosen(value)
    if node.get("type") == "array":
        inner = dict(node)
        node.clear()
        node["anyOf"] = [inner, {"type": "string"}]
    elif node.get("type") == "integer":
        inner = dict(node)
        node.clear()
        node["anyOf"] = [inner, {"type": "string", "pattern": r"^\$\{[a-z0-9_]+\}$"}]
    elif node.get("title") == "Then":
        inner = dict(node)
        node.clear()
        node["anyOf"] = [inner, {"enum": ["allow", "deny"]}]
