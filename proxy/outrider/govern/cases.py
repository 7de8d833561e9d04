"""Cases of a pack: a request, and what the rules say about it; `policy test`, `policy explain` and tests use them.

Rules: a request is judged by the same plan as a real one; only the relay is left out. What a case expects is compared
field by field, and every difference is said. A case that expects nothing is an error.
Does not know: terminals.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from outrider.config.document import DocumentError, read_document
from outrider.config.problems import ConfigError, Problem, sentence_for, spell
from outrider.errors import REPEATED_KEY, BadRequestError, SidecarError
from outrider.govern.budgets import zone_of
from outrider.govern.gate import decide_tunnel
from outrider.govern.lifts import NOT_LIFTED, Lifted, lifted
from outrider.govern.packs import CASES_FILE, MAX_POLICY_BYTES, Pack, load_pack
from outrider.govern.plan import Late, Plan, RuleSet, carry_out
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.govern.reading import Facts, View, facts_of
from outrider.govern.verdicts import Outcome
from outrider.providers import BUILT_IN
from outrider.providers.model import COMMON_SLOTS, Auth, Provider
from outrider.secrets.files import read_capped, reason
from outrider_ext.jsonkeys import has_repeated_key

_OTHER: Final = Provider(
    name="other", title="other hosts", otel_name="other", hosts=(), origin="", auth=Auth("none"), slots=COMMON_SLOTS,
    error_dialect="openai", endpoints=(), ratelimit="", env=(),
)  # fmt: skip


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


def _moment(value: object) -> object:
    """A moment as ISO 8601 has it; YAML reads one without quotes as a moment itself."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"must be a moment such as 2026-01-05T23:30:00+01:00, not {value[:40]!r}") from None
    return value


class _Part(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )


type Words = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class WhoCalls(_Part):
    id: str = "someone"
    team: str = ""
    project: str = ""
    environment: str = ""
    roles: Words = ()
    labels: dict[str, str] = Field(default_factory=dict)

    def principal(self) -> Principal:
        labels = MappingProxyType(dict(self.labels))
        return Principal(self.id, self.team, self.project, self.environment, frozenset(self.roles), labels)


class Asked(_Part):
    """A request. provider: a built-in provider's name, or `other`; `kind` where the name is one of your own. path: the
    provider's own, with its query. body: a section is sent as JSON, text as it is. tunnel: a CONNECT to this host."""

    provider: str = "openai"
    kind: str | None = None
    host: str | None = None
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    form: dict[str, str] | None = None
    principal: WhoCalls | None = None
    via: Literal["forward", "connect", "transparent"] = "forward"
    upgrade: bool = False
    tunnel: str | None = None


class Expected(_Part):
    """decision, rule (that refuses), status; rules, shadow, tags, errors: exactly these; redact: what each one says;
    path: with its query, as it leaves; forms: to which it is lifted; body: members that leave like this; absent:
    members that do not leave; headers: what rules make of these, null for one that they take out. Ids without a pack
    are the pack's own."""

    decision: Literal["allow", "deny"] | None = None
    rule: str | None = None
    status: int | None = None
    rules: Words | None = None
    shadow: Words | None = None
    errors: Words | None = None
    tags: Words | None = None
    redact: tuple[dict[str, Any], ...] | None = None
    path: str | None = None
    forms: Words | None = None
    body: dict[str, Any] | None = None
    absent: Words | None = None
    headers: dict[str, str | None] | None = None

    model_config = ConfigDict(strict=False, frozen=True, extra="forbid", hide_input_in_errors=True)


class Case(_Part):
    """aliases: the names under `models:` of the configuration that it plays in."""

    name: str
    request: Asked = Asked()
    expect: Expected
    values: dict[str, Any] | None = Field(None, alias="with")
    usage: dict[str, Any] = Field(default_factory=dict)
    aliases: Words = ()
    time: Annotated[str | None, BeforeValidator(_moment)] = None


class Cases(_Part):
    """A cases.yaml. with: values of the pack's parameters, for cases that give none."""

    version: Literal[1] = 1
    values: dict[str, Any] = Field(default_factory=dict, alias="with")
    cases: Annotated[tuple[Case, ...], BeforeValidator(_tuple), Field(min_length=1)]


def load_cases(path: Path) -> Cases:
    """Raises: ConfigError."""
    try:
        document = read_document(read_capped(path, MAX_POLICY_BYTES).decode("utf-8-sig"))
    except OSError as exc:
        raise ConfigError(
            [Problem(str(path), "", f"cannot be read: {reason(exc)}; a pack needs a {CASES_FILE}")]
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([Problem(str(path), "", "is not UTF-8 text; save it as UTF-8")]) from exc
    except DocumentError as exc:
        raise ConfigError([Problem(f"{path}:{exc.line}", "", str(exc))]) from exc
    try:
        return Cases.model_validate(document.data)
    except ValidationError as exc:
        problems = []
        for error in exc.errors(include_url=False):
            loc = tuple(error["loc"])
            line = next(
                (document.lines[loc[:end]] for end in range(len(loc), -1, -1) if loc[:end] in document.lines), 1
            )
            problems.append(Problem(f"{path}:{line}", spell(loc), sentence_for(error, ())))
        raise ConfigError(problems) from exc


# -- one request


@dataclass(frozen=True, slots=True)
class Judged:
    """late: of the rules that are decided with the body, None where it did not come to that."""

    facts: Facts
    outcome: Outcome
    view: View
    plan: Plan | None = None
    late: Late | None = None
    error: SidecarError | None = None
    lifted: Lifted = NOT_LIFTED

    @property
    def document(self) -> dict[str, Any] | None:
        return self.view.document if self.error is None else None

    @property
    def refusal(self) -> SidecarError | None:
        return self.error or self.outcome.refusal


def facts_for(asked: Asked) -> Facts:
    """Raises: ValueError."""
    provider = _OTHER if asked.provider == "other" else BUILT_IN.get(asked.kind or asked.provider)
    if provider is None:
        raise ValueError(f"{asked.kind or asked.provider!r} is no built-in provider; give a kind")
    exact = [host for host in provider.hosts if "*" not in host]
    host = asked.host or (exact[0] if exact else "host.example")
    return facts_of(
        provider, asked.provider, host.lower(), asked.method.encode("latin-1"), _bytes(asked.path).partition(b"?")[0]
    )


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")


def judge(rules: RuleSet, asked: Asked) -> Judged:
    """What the rules decide. Raises: ValueError for a request that is none."""
    principal = ANONYMOUS if asked.principal is None else asked.principal.principal()
    if asked.tunnel is not None:
        found = decide_tunnel(rules, asked.tunnel) or Outcome()
        return Judged(facts_for(Asked(provider="other")), found, View(facts_for(Asked(provider="other"))))
    facts = facts_for(asked)
    body, headers = _encoded(asked)
    view = View(
        facts, principal, asked.via, asked.upgrade, target=_bytes(asked.path),
        header=lambda name: headers.get(name, ""), plain_body=lambda: body, parse=lambda: _parsed(body),
    )  # fmt: skip
    route = rules.on_route(facts)
    if route is None:
        return Judged(facts, Outcome(), view)
    plan = route.plan(principal, asked.via, asked.upgrade)
    if plan.outcome.refusal is not None:
        return Judged(facts, plan.outcome, view, plan)
    try:
        late = plan.first if plan.first is not None else plan.late_for(view)
        outcome = late.decide(view)
        if outcome.edits and outcome.refusal is None:
            outcome = outcome.copy()
            carry_out(outcome, view, lambda: None)
    except SidecarError as exc:
        return Judged(facts, plan.outcome, view, plan, None, exc)
    path, _, query = asked.path.partition("?")
    model = (view.document or {}).get("model") if outcome.lifts and view.document is not None else None
    outcome = outcome.copy() if outcome.lifts else outcome
    changed = lifted(outcome, view, path, query, model if isinstance(model, str) else None)
    return Judged(facts, outcome, view, plan, late, lifted=changed)


def _encoded(asked: Asked) -> tuple[bytes, dict[str, str]]:
    headers = {name.lower(): value for name, value in asked.headers.items()}
    if asked.form is not None:
        headers.setdefault("content-type", "multipart/form-data; boundary=case")
        parts = "".join(
            f'--case\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in asked.form.items()
        )
        return f"{parts}--case--\r\n".encode(), headers
    if asked.body is None:
        return b"", headers
    if isinstance(asked.body, str):
        return asked.body.encode(), headers
    headers.setdefault("content-type", "application/json")
    return orjson.dumps(asked.body), headers


def _parsed(body: bytes) -> Any:
    try:
        value = orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, dict) and has_repeated_key(body):
        raise BadRequestError(REPEATED_KEY)
    return value


# -- all cases of a pack


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences


@dataclass(slots=True)
class Runner:
    """The cases of one pack. without: ids of rules that are left out, to see which cases notice."""

    path: Path
    _packs: dict[str, Pack] = field(default_factory=dict)

    def run(self, cases: Cases, without: Sequence[str] = ()) -> Iterator[Result]:
        """Raises: ConfigError (a case's parameters do not fit), ValueError (its request is none)."""
        for case in cases.cases:
            pack = self.pack(cases.values if case.values is None else case.values)
            kept = [rule for rule in pack.rules if rule.rule.id not in without]
            yield Result(case.name, tuple(_differences(pack, case, judge(rules_of(pack, case, kept), case.request))))

    def pack(self, values: Mapping[str, Any]) -> Pack:
        key = key_of(values)
        if key not in self._packs:
            self._packs[key] = load_pack(self.path, values)
        return self._packs[key]


def key_of(values: Mapping[str, Any]) -> str:
    """By what a pack with these values of its parameters is found again."""
    return repr(sorted(values.items(), key=lambda item: item[0]))


def rules_of(pack: Pack, case: Case, kept: Sequence[Any]) -> RuleSet:
    now = datetime.fromisoformat(case.time) if case.time is not None else datetime(2026, 1, 5, 12, tzinfo=UTC)
    if now.tzinfo is None:
        now = now.replace(tzinfo=zone_of(pack.policy.timezone))
    return RuleSet(
        kept,
        patterns=pack.policy.patterns,
        default_deny=[pack.name] if pack.policy.default == "deny" else [],
        usage=lambda principal, provider: case.usage,
        now=lambda: now,
        aliases=case.aliases,
    )


def _differences(pack: Pack, case: Case, judged: Judged) -> Iterator[str]:
    expect, outcome, refusal = case.expect, judged.outcome, judged.refusal
    if not expect.model_fields_set:
        yield "the case expects nothing; say at least decision:"
    said = "allow" if refusal is None else "deny"
    if expect.decision is not None and said != expect.decision:
        yield f"decision: expected {expect.decision}, was {said}" + (f" ({refusal})" if refusal is not None else "")
    rule = getattr(refusal, "rule", None)
    if expect.rule is not None and rule != _whole(pack, expect.rule):
        yield f"rule: expected {_whole(pack, expect.rule)}, was {rule or 'none'}"
    if expect.status is not None and (refusal is None or refusal.status != expect.status):
        yield f"status: expected {expect.status}, was {refusal.status if refusal is not None else 'none'}"
    for name in ("rules", "shadow", "errors"):
        wanted = getattr(expect, name)
        if wanted is not None and sorted(_whole(pack, one) for one in wanted) != sorted(getattr(outcome, name)):
            asked = _listed(_whole(pack, one) for one in wanted)
            yield f"{name}: expected {asked}, was {_listed(getattr(outcome, name))}"
    if expect.tags is not None and sorted(expect.tags) != sorted(outcome.tags):
        yield f"tags: expected {_listed(expect.tags)}, was {_listed(outcome.tags)}"
    yield from _redaction_differences(expect, outcome)
    yield from _header_differences(expect, outcome)
    if expect.path is not None and expect.path != (left := judged.lifted.path or case.request.path):
        yield f"path: expected {expect.path}, was {left}"
    if expect.forms is not None and sorted(expect.forms) != sorted(judged.lifted.forms):
        yield f"forms: expected {_listed(expect.forms)}, was {_listed(judged.lifted.forms)}"
    document = judged.document or {}
    for name, value in (expect.body or {}).items():
        if name not in document or document[name] != value:
            yield f"body.{name}: expected {value!r}, was {document.get(name, 'absent')!r}"
    for name in expect.absent or ():
        if name in document:
            yield f"body.{name}: expected to be absent, was {document[name]!r}"


def _header_differences(expect: Expected, outcome: Outcome) -> Iterator[str]:
    changed = {name.lower(): value for _, change in outcome.heads for name, value in change.items()}
    for name, value in (expect.headers or {}).items():
        if name.lower() not in changed:
            yield f"headers.{name}: expected {_leaves(value)}, and no rule changes it"
        elif changed[name.lower()] != value:
            yield f"headers.{name}: expected {_leaves(value)}, was {_leaves(changed[name.lower()])}"


def _leaves(value: str | None) -> str:
    return "to be taken out" if value is None else repr(value)


def _redaction_differences(expect: Expected, outcome: Outcome) -> Iterator[str]:
    if expect.redact is None:
        return
    found = [{key: _plain(value) for key, value in one.model_dump().items()} for one in outcome.redactions]
    wanted = list(expect.redact)
    if len(found) != len(wanted) or any(
        have.get(key) != ([value] if isinstance(have.get(key), list) and isinstance(value, str) else value)
        for have, want in zip(found, wanted, strict=False)
        for key, value in want.items()
    ):
        yield f"redact: expected {wanted}, was {found}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _whole(pack: Pack, rule: str) -> str:
    return rule if "/" in rule else f"{pack.name}/{rule}"


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
