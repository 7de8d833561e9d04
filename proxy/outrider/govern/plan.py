"""Which rules apply to a request, and what they decide together.

The order (docs/policies.md says it for users)
1. Rules are taken in the order of `policies:`, and of the file within a pack.
2. A route (provider, host, method, path) keeps the rules that can apply to it: RouteRules. For each (principal, way in,
   upgrade) it has a Plan, where all that needs no body is decided; for each set of models a Late, where all is decided
   but what has a condition. Each is one dictionary look-up.
3. Conditions are judged on the request as the app sent it, all in one evaluation.
4. Deny wins: any rule that refuses refuses, whatever others allow. The first that is known names the refusal.
5. Redactions and tags add up; edits are made in order, each on what the one before left; the first route holds.
6. A name of `models:` is the configuration's own: what refuses all models but some, or permits some, leaves a call
   alone that names an alias and nothing else, since its targets are judged each by itself (stack.target_rules). What
   refuses the alias by its name refuses the call.
7. A rule that errs is `on_error`: deny refuses, allow leaves the rule out. A shadow rule does neither.

Does not know: exchanges, files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

from outrider.errors import SidecarError
from outrider.govern.cel import (
    Batch,
    Expression,
    clock_values,
    header_variable,
    new_context,
    principal_map,
    variable,
)
from outrider.govern.globs import Matcher, name_matcher, path_matcher
from outrider.govern.lifts import Lifting
from outrider.govern.models import Model, ModelError, named
from outrider.govern.principal import Principal
from outrider.govern.reading import FIELDS, TUNNEL, Facts, ReadError, View, mcp_servers_of, needs_body, tools_of
from outrider.govern.reading import _max_tokens as max_tokens_of
from outrider.govern.rewrites import RewriteError, edit
from outrider.govern.rules import Match, PrincipalMatch, Require, Rule
from outrider.govern.verdicts import Outcome

MAX_PLANS: Final = 1024
_REFUSES: Final = frozenset({"deny", "require"})
_SIGNED: Final = "(rule {} of the sidecar's policies)"
# A prompt does not stay in memory until the next one comes.
_NO_WORDS: Final = {variable("text"): "", variable("system"): ""}
MAX_MODEL_CHARS: Final = 120  # the app chooses the name: a longer one is decided anew each time

type Usage = Callable[[Principal, str], Mapping[str, Any]]
type ModelKey = tuple[str, ...]


def nothing_used(principal: Principal, provider: str) -> Mapping[str, Any]:
    return {}


class CompiledMatch:
    """A Match as three questions, asked as soon as each can be: of the route, of who calls, of the models."""

    def __init__(self, match: Match) -> None:
        self._of_facts: list[Callable[[Facts], bool | None]] = []
        if match.provider is not None:
            provider = name_matcher(match.provider)
            self._of_facts.append(lambda facts: provider(facts.provider) or provider(facts.kind))
        if match.operation is not None:
            self._add(name_matcher(match.operation), lambda facts: facts.operation.name)
        if match.host is not None:
            self._add(name_matcher(match.host), lambda facts: facts.host)
        if match.method is not None:
            self._add(name_matcher(match.method), lambda facts: facts.method)
        if match.path is not None:
            matches = path_matcher(match.path)
            self._of_facts.append(lambda facts: None if facts.path is None else matches(facts.path))
        if match.known_operation is not None:
            known = match.known_operation
            self._of_facts.append(lambda facts: (facts.known or facts.operation is TUNNEL) is known)
        if match.mints_secrets is not None:
            mints = match.mints_secrets
            self._of_facts.append(lambda facts: facts.operation.mints_secrets is mints)
        self._listeners, self._ways = match.listener, match.via
        self._principal = _principal_matcher(match.principal)
        self.model: Matcher | None = None if match.model is None else name_matcher(match.model)

    def _add(self, matches: Matcher, read: Callable[[Facts], str]) -> None:
        self._of_facts.append(lambda facts: matches(read(facts)))

    def facts(self, facts: Facts) -> bool | None:
        """None: it cannot be told."""
        answers = [ask(facts) for ask in self._of_facts]
        return False if False in answers else None if None in answers else True

    def caller(self, principal: Principal, via: str) -> bool:
        if self._ways is not None and via not in self._ways:
            return False
        if self._listeners is not None and ("transparent" if via == "transparent" else "proxy") not in self._listeners:
            return False
        return self._principal is None or self._principal(principal)

    def any_model(self, models: Iterable[Model], words: Iterable[Model]) -> bool:
        """For what restricts: one of all names, and of all that are related, is enough."""
        assert self.model is not None
        names = (name for model in (*models, *words) for name in (*model.aliases, *model.relatives))
        return any(map(self.model, names)) or (not models and not words and self.model(""))

    def every_model(self, models: Sequence[Model]) -> bool:
        """For what permits: every model that is named, by a name of its own."""
        assert self.model is not None
        if not models:
            return self.model("")
        return all(any(map(self.model, model.aliases)) for model in models)


def _principal_matcher(match: PrincipalMatch | None) -> Callable[[Principal], bool] | None:
    if match is None:
        return None
    texts = [
        (name, name_matcher(globs))
        for name in ("id", "team", "project", "environment")
        if (globs := getattr(match, name)) is not None
    ]
    role = None if match.roles is None else name_matcher(match.roles)
    labels = {key: name_matcher(globs) for key, globs in (match.labels or {}).items()}

    def matches(principal: Principal) -> bool:
        if not all(ask(getattr(principal, name)) for name, ask in texts):
            return False
        if role is not None and not any(map(role, principal.roles)):
            return False
        return all(key in principal.labels and ask(principal.labels[key]) for key, ask in labels.items())

    return matches


class CompiledRule:
    """id: pack/rule. where: file:line, for messages of `check`."""

    def __init__(self, pack: str, rule: Rule, when: Expression | None, where: str = "") -> None:
        self.pack, self.rule, self.when, self.where = pack, rule, when, where
        self.id = f"{pack}/{rule.id}"
        self.action = rule.then.action
        self.enforces = rule.mode == "enforce"
        self.match = CompiledMatch(rule.match)
        self.except_ = None if rule.except_ is None else CompiledMatch(rule.except_)

    @property
    def permits(self) -> bool:
        return self.action == "allow"

    def edits_body(self, facts: Facts) -> bool:
        """Something but the head is changed."""
        rewrite, lift = self.rule.then.rewrite, self.rule.then.lift
        if lift is not None:
            return Lifting(lift, facts).reads_body
        return self.action == "route" or (rewrite is not None and rewrite.edits_body)

    @property
    def reads_models(self) -> bool:
        return self.match.model is not None or (self.except_ is not None and self.except_.model is not None)

    def is_dynamic(self, facts: Facts) -> bool:
        """Something is left to be looked at when principal and models are known."""
        lift = self.rule.then.lift
        if lift is not None and Lifting(lift, facts).reads_head:
            return True
        return self.when is not None or (self.action == "require" and not self.is_size_alone)

    @property
    def is_size_alone(self) -> bool:
        """Nothing but the body's size decides: no expression and no reading, so it is a comparison of two numbers."""
        require = self.rule.then.require
        if require is None or self.when is not None:
            return False
        return require.model_fields_set <= {"max_body_bytes", "status", "message"}

    def reads_body(self, facts: Facts) -> bool:
        """Whether the body has to be there for this rule to be evaluated or carried out."""
        if self.reads_models and facts.model_source in ("body", "anywhere"):
            return True
        if self.when is not None and any(needs_body(name, facts) for name in self.when.fields):
            return True
        require, redact = self.rule.then.require, self.rule.then.redact
        if require is not None and require.reads_body:
            return True
        return self.edits_body(facts) or (redact is not None and "request" in redact.where)

    def decides_late(self, facts: Facts) -> bool:
        """Whether it can be decided at the body stage only."""
        if self.reads_models and facts.model_source != "path":
            return True
        if self.when is not None and any(needs_body(name, facts) for name in self.when.fields):
            return True
        require = self.rule.then.require
        return require is not None and require.reads_body

    def on_route(self, facts: Facts) -> bool | None:
        """False: it can never apply there. None: whether it does cannot be told."""
        if self.except_ is not None and self.except_.model is None and self._is_excepted_by_route_alone(facts):
            return False
        lift = self.rule.then.lift
        if lift is not None and facts.known and not Lifting(lift, facts).parts:
            return False
        return self.match.facts(facts)

    def _is_excepted_by_route_alone(self, facts: Facts) -> bool:
        match = self.rule.except_
        assert match is not None
        assert self.except_ is not None
        alone = match.principal is None and match.via is None and match.listener is None
        return alone and self.except_.facts(facts) is True

    def for_caller(self, facts: Facts, principal: Principal, via: str) -> bool:
        if not self.match.caller(principal, via):
            return False
        excepted = self.except_
        if excepted is None or excepted.model is not None:
            return True
        return not (excepted.facts(facts) is True and excepted.caller(principal, via))

    def for_models(
        self,
        facts: Facts,
        principal: Principal,
        via: str,
        models: Sequence[Model],
        words: Sequence[Model],
        *,
        is_alias: bool = False,
    ) -> bool:
        """is_alias: all that is named is an alias, whose targets are judged by themselves."""
        match, excepted = self.match, self.except_
        if match.model is not None:
            if self.permits:
                fits = is_alias or match.every_model((*models, *words))
            else:
                fits = match.any_model(models, words)
            if not fits:
                return False
        if excepted is None or excepted.model is None:
            return True
        if excepted.facts(facts) is not True or not excepted.caller(principal, via):
            return True
        if is_alias and self.action in _REFUSES:
            return False
        known = excepted.any_model(models, words) if self.permits else excepted.every_model((*models, *words))
        return not known

    def sentence(self, message: str | None, because: str = "") -> str:
        said = message or self.rule.description
        return f"{said.rstrip('.')}{because} {_SIGNED.format(self.id)}"


class RuleSet:
    """All rules of a configuration. patterns: name -> RE2 pattern. default_deny: packs whose default is deny.

    usage(principal, provider): what limits and budgets know. now() is the wall clock. aliases: the names of `models:`.
    """

    def __init__(
        self,
        rules: Sequence[CompiledRule] = (),
        *,
        patterns: Mapping[str, str] | None = None,
        default_deny: Sequence[str] = (),
        usage: Usage = nothing_used,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        aliases: Iterable[str] = (),
    ) -> None:
        self.rules = tuple(rules)
        self.aliases = frozenset(aliases)
        self.default_deny = tuple(default_deny)
        self.usage = usage
        self.now = now
        self._patterns = dict(patterns or {})
        self._set: Any = None

    def on_route(self, facts: Facts, *others: Facts) -> "RouteRules | None":
        """None: no rule can ever have anything to say there.

        others: where a call can be served besides. Each of these places is judged again by itself, so what refuses
        counts here only where it refuses all of them; what permits or changes counts where it is for any.
        """
        found = [(rule, applies) for rule in self.rules if (applies := _applies(rule, facts, others)) is not False]
        return RouteRules(self, facts, found) if found or self.default_deny else None

    def matched(self, text: str) -> list[str]:
        """The names of the patterns that are found in the text."""
        if not self._patterns:
            return []
        if self._set is None:
            self._set = _pattern_set(self._patterns.values())
        names = list(self._patterns)
        return [names[at] for at in self._set.Match(text.encode("utf-8", "replace")) or ()]


def _applies(rule: CompiledRule, facts: Facts, others: Sequence[Facts]) -> bool | None:
    if not others:
        return rule.on_route(facts)
    found = [rule.on_route(one) for one in (facts, *others)]
    if rule.action in _REFUSES:
        return False if False in found else None if None in found else True
    return True if True in found else None if None in found else False


def _pattern_set(patterns: Iterable[str]) -> Any:
    import re2  # type: ignore[import-untyped,unused-ignore]

    options = re2.Options()
    options.encoding = re2.Options.Encoding.UTF8
    options.log_errors = False
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


class RouteRules:
    """The rules that can apply to one route, and the plans made for it so far."""

    def __init__(self, whole: RuleSet, facts: Facts, rules: Sequence[tuple[CompiledRule, bool | None]]) -> None:
        self.whole, self.facts, self.rules = whole, facts, tuple(rules)
        self.plans: dict[tuple[Principal, str, bool], Plan] = {}
        # A rule that errs on the route itself has no better chance later, so it counts as one that reads nothing.
        sure = [rule for rule, applies in rules if applies]
        self.can_be_late = any(rule.decides_late(facts) or rule.edits_body(facts) for rule in sure)
        self.can_need_body = any(rule.reads_body(facts) for rule in sure)

    def plan(self, principal: Principal, via: str, upgrade: bool) -> "Plan":
        key = (principal, via, upgrade)
        found = self.plans.get(key)
        if found is None:
            if len(self.plans) >= MAX_PLANS:
                self.plans.clear()
            found = self.plans[key] = Plan(self, principal, via, upgrade)
        return found


class Plan:
    """What is decided for one caller on one route before the body is there.

    outcome: of the rules that need nothing more. is_final: nothing is left to do. late: the rest is decided when the
    models are known (by_model), else at once. needs_body: a body that cannot be held has to be refused.
    """

    def __init__(self, route: RouteRules, principal: Principal, via: str, upgrade: bool) -> None:
        self.route, self.facts, self.whole = route, route.facts, route.whole
        self.principal, self.via, self.upgrade = principal, via, upgrade
        self.outcome = Outcome()
        self.needs_body = False
        self.by_model: dict[Any, Late] = {}
        rest: list[CompiledRule] = []
        for rule, applies in route.rules:
            if rule.for_caller(self.facts, principal, via) and self._admits(rule, applies):
                rest.append(rule)
        facts = self.facts
        self.path_models = _path_models(facts)
        self.wants_models = any(rule.reads_models and facts.model_source != "path" for rule in rest)
        self.late = any(rule.decides_late(facts) or rule.edits_body(facts) for rule in rest)
        self.rest = tuple(rest)
        self.first: Late | None = None
        if not self.late:
            self.first = Late(self, (), ())
            if not self.first.dynamic:
                self.outcome = self.first.outcome
        self.is_final = not self.late and (self.first is None or not self.first.dynamic)
        if self.outcome.refusal is None and self.late:
            self._decide_early()

    def _admits(self, rule: CompiledRule, applies: bool | None) -> bool:
        """Whether the rule is still to be decided."""
        if applies is None:
            _err(self.outcome, rule, "the path could be read in two ways")
            return False
        if not rule.reads_body(self.facts):
            return True
        if self.facts.operation is TUNNEL:
            return False  # whether bytes may pass unread at all is what egress and rules without a body say
        if self.upgrade:
            if rule.rule.websocket == "refuse" and not rule.permits:
                because = ", and a WebSocket is not inspected; set websocket: allow-uninspected on it to allow this"
                _refuse(self.outcome, rule, rule.sentence(None, because), 403)
            return False
        if rule.enforces:
            self.needs_body = True
        return True

    def _decide_early(self) -> None:
        """A refusal that is certain before the body is read spares reading it."""
        for rule in self.rest:
            certain = (
                rule.action == "deny" and rule.enforces and rule.when is None and not rule.decides_late(self.facts)
            )
            if certain and (not rule.reads_models or self._fits_path_model(rule)):
                _apply(self.outcome, rule, self.facts)
                return

    def _fits_path_model(self, rule: CompiledRule) -> bool:
        known = self.path_models
        if known is None:
            return False
        return rule.for_models(self.facts, self.principal, self.via, known, (), is_alias=self.is_alias(known, ()))

    def is_alias(self, models: Sequence[Model], words: Sequence[Model]) -> bool:
        """Whether all that is named is an alias, as it is written under `models:`."""
        if not self.facts.leads or words or len(models) != 1:
            return False
        return models[0].aliases[0] in self.whole.aliases

    def for_models(self, models: tuple[Model, ...], words: tuple[Model, ...]) -> "Late":
        key = tuple(model.aliases[0] for model in models)
        found = self.by_model.get(key)
        return self.remember(key, Late(self, models, words)) if found is None else found

    def remember(self, key: Any, late: "Late") -> "Late":
        if sum(map(len, key)) <= MAX_MODEL_CHARS:
            if len(self.by_model) >= MAX_PLANS:
                self.by_model.clear()
            self.by_model[key] = late
        return late

    def view(self, **more: Any) -> View:
        return View(self.facts, self.principal, self.via, self.upgrade, **more)

    def for_name(self, text: str) -> "Late":
        """The decision for a body that names this one model, and "" for none."""
        facts = self.facts
        try:
            texts = [text, facts.path_model if facts.known else None]
            models = tuple(named(one) for one in texts if one)
            return self.for_models(models, View(facts).path_words)
        except (ModelError, ReadError) as exc:
            return Late(self, None, (), str(exc))

    def late_for(self, view: View) -> "Late":
        """The decision for the models that this request names. Raises: what the view's body raises."""
        if not self.wants_models:
            return self.for_models((), ())
        try:
            return self.for_models(view.models, view.path_words)
        except ReadError as exc:
            return Late(self, None, (), unread=str(exc))

    def finish(self, outcome: Outcome) -> None:
        """What a file's `default: deny` adds when all its rules were asked."""
        for pack in self.whole.default_deny:
            if pack not in outcome.allowed:
                rule = f"{pack}/default"
                outcome.refuse(rule, f"no rule of {pack} allows this request {_SIGNED.format(rule)}")


def _path_models(facts: Facts) -> tuple[Model, ...] | None:
    if facts.model_source != "path":
        return ()
    try:
        return View(facts).models
    except ReadError:
        return None


class Late:
    """All rules of a plan, decided but for those with a condition: `dynamic`.

    outcome: of those without one, complete (with the defaults) when `dynamic` is empty.
    """

    def __init__(
        self,
        plan: Plan,
        models: tuple[Model, ...] | None,
        words: tuple[Model, ...],
        unread: str = "",
    ) -> None:
        self.plan = plan
        self.outcome = plan.outcome.copy()
        found: list[CompiledRule] = []
        facts = plan.facts
        for rule in plan.rest:
            if not rule.reads_models:
                found.append(rule)
                continue
            known = plan.path_models if facts.model_source == "path" else models
            if known is None:
                _err(self.outcome, rule, unread or "the model in the path cannot be told")
            elif rule.for_models(facts, plan.principal, plan.via, known, words, is_alias=plan.is_alias(known, words)):
                found.append(rule)
        self.rules = tuple(found)
        self.dynamic = any(rule.is_dynamic(facts) for rule in found)
        caps = [
            rule.rule.then.require.max_body_bytes or 0
            for rule in found
            if rule.is_size_alone and rule.rule.then.require
        ]
        self.body_cap = min(caps, default=-1)  # a body that is larger has to be looked at
        self._conditions = [rule for rule in found if rule.when is not None]
        self._batch = (
            Batch([rule.when for rule in self._conditions if rule.when is not None]) if self._conditions else None
        )
        self._reads_cheaply = all(
            not needs_body(name, facts)
            for rule in self._conditions
            if rule.when is not None
            for name in rule.when.fields
        )
        self._fields = {name for rule in self._conditions if rule.when is not None for name in rule.when.fields}
        self._variables = {name for rule in self._conditions if rule.when is not None for name in rule.when.variables}
        self._headers = {name for rule in self._conditions if rule.when is not None for name in rule.when.headers}
        self._clock = {row for rule in self._conditions if rule.when is not None for row in rule.when.clock}
        self._keeps_words = bool(self._fields & {"text", "system"})
        self._context: Any = None
        if not self.dynamic:
            for rule in found:
                if not rule.is_size_alone:
                    _apply(self.outcome, rule, facts)
            plan.finish(self.outcome)

    # -- with a request

    def decide(self, view: View) -> Outcome:
        """Raises: SidecarError that reading the body raised, where a rule that enforces needs it."""
        if not self.dynamic:
            return self.outcome if self.body_cap < 0 else self._sized(view)
        outcome = self.outcome.copy()
        answers = self._evaluate(view)
        for rule in self.rules:
            answer = answers.get(rule.id, True)
            if isinstance(answer, Exception):
                _err(outcome, rule, str(answer))
            elif answer and rule.rule.then.require is not None:
                _demand(outcome, rule, rule.rule.then.require, view)
            elif answer:
                _apply(outcome, rule, view.facts, view.header)
        self.plan.finish(outcome)
        return outcome

    def _sized(self, view: View) -> Outcome:
        outcome = self.outcome.copy()
        for rule in self.rules:
            if rule.is_size_alone and rule.rule.then.require is not None:
                _demand(outcome, rule, rule.rule.then.require, view)
        return outcome

    def _evaluate(self, view: View) -> dict[str, bool | Exception]:
        if self._batch is None:
            return {}
        if self._context is None:
            self._context = new_context(self._constants(view))
        context, whole = self._context, self.plan.whole
        values, unread = self._request(view)
        if unread:  # what an earlier request said must not stand for what this one does not
            context = new_context(self._constants(view))
        if self._clock:
            values |= clock_values(self._clock, whole.now())
        if "usage" in self._variables:
            values["usage"] = dict(whole.usage(view.principal, view.facts.provider))
        context.update(values)
        answers = self._batch.evaluate(context)
        if self._keeps_words:
            context.update(_NO_WORDS)
        found: dict[str, bool | Exception] = {}
        for rule, answer in zip(self._conditions, answers, strict=True):
            assert rule.when is not None
            missing = next((name for name in sorted(rule.when.fields) if name in unread), None)
            found[rule.id] = ReadError(unread[missing]) if missing and isinstance(answer, Exception) else answer
        return found

    @staticmethod
    def _constants(view: View) -> dict[str, Any]:
        return {
            "principal": principal_map(view.principal),
            "provider": view.facts.provider,
            "operation": view.facts.operation.name,
        }

    def _request(self, view: View) -> tuple[dict[str, Any], dict[str, str]]:
        """(the fields that could be read, why the others could not)."""
        values: dict[str, Any] = {}
        unread: dict[str, str] = {}
        for name in self._fields:
            try:
                if name == "headers":
                    values |= {header_variable(header): view.header(header) for header in self._headers}
                else:
                    values[variable(name)] = self._field(name, view)
            except (ReadError, RecursionError) as exc:
                unread[name] = str(exc) if isinstance(exc, ReadError) else "the body is nested too deep"
            except SidecarError as exc:
                if any(
                    rule.enforces and rule.when is not None and name in rule.when.fields for rule in self._conditions
                ):
                    raise
                unread[name] = str(exc)
        return values, unread

    def _field(self, name: str, view: View) -> Any:
        read = FIELDS[name].read
        return read(view) if read is not None else self.plan.whole.matched(view.text)


# -- what one rule adds


def _err(outcome: Outcome, rule: CompiledRule, why: str) -> None:
    outcome.errors.append(rule.id)
    if rule.rule.on_error == "deny":
        because = f", and whether this request may pass could not be found out: {why}"
        _refuse(outcome, rule, rule.sentence(None, because), 403)


def _refuse(outcome: Outcome, rule: CompiledRule, sentence: str, status: int) -> None:
    if rule.enforces:
        outcome.refuse(rule.id, sentence, status)
    else:
        outcome.shadow.append(rule.id)


def _no_header(name: str) -> str:
    return ""


def _apply(outcome: Outcome, rule: CompiledRule, facts: Facts, header: Callable[[str], str] = _no_header) -> None:
    then = rule.rule.then
    if then.deny is not None:
        _refuse(outcome, rule, rule.sentence(then.deny.message), then.deny.status)
        return
    if not rule.enforces:
        outcome.shadow.append(rule.id)
        return
    outcome.rules.append(rule.id)
    if then.allow is not None:
        outcome.allowed.add(rule.pack)
    elif then.tag is not None:
        outcome.tags += [tag for tag in then.tag if tag not in outcome.tags]
    elif then.cache is not None:
        if (tag := f"cache:{then.cache}") not in outcome.tags:
            outcome.tags.append(tag)
    elif then.redact is not None:
        if then.redact not in outcome.redactions:
            outcome.redactions.append(then.redact)
    elif then.rewrite is not None:
        if then.rewrite.headers is not None:
            outcome.heads.append((rule.id, then.rewrite.headers.changes))
        if then.rewrite.edits_body:
            outcome.edits.append((rule.id, rule.rule.on_error, then.rewrite))
    elif then.lift is not None:
        lifting = Lifting(then.lift, facts)
        if changes := lifting.head_changes(header):
            outcome.heads.append((rule.id, changes))
        if lifting.reads_body:
            outcome.edits.append((rule.id, rule.rule.on_error, lifting))
        outcome.lifts.append((rule.id, rule.rule.on_error, lifting))
    elif then.route is not None and not outcome.routed:
        outcome.routed = True
        outcome.edits.append((rule.id, rule.rule.on_error, then.route))


def _demand(outcome: Outcome, rule: CompiledRule, require: Require, view: View) -> None:
    try:
        missing = _missing(require, view)
    except (ReadError, RecursionError) as exc:
        _err(outcome, rule, str(exc) if isinstance(exc, ReadError) else "the body is nested too deep")
        return
    except SidecarError:
        if rule.enforces:
            raise
        outcome.errors.append(rule.id)
        return
    if missing is not None:
        sentence = rule.sentence(require.message, "" if require.message else f": {missing}")
        _refuse(outcome, rule, sentence, require.status)


def _missing(require: Require, view: View) -> str | None:
    """What the request lacks, None where it has all. Raises: ReadError."""
    for name, globs in (require.headers or {}).items():
        value: object = view.header(name.lower())
        if not value or not name_matcher(globs)(str(value)):
            return f"the header {name} is missing or has another value than it must have"
    if require.max_body_bytes is not None and len(view.plain_body()) > require.max_body_bytes:
        return f"the body has {len(view.plain_body())} bytes, and {require.max_body_bytes} are allowed"
    if require.max_tokens is not None:
        asked = max_tokens_of(view)
        if not 0 < asked <= require.max_tokens:
            said = "asks for no bound" if asked <= 0 else f"asks for {asked} tokens"
            return f"the request {said}, and it has to ask for at most {require.max_tokens}"
    if require.fields:
        params = view.require_object() or {}
        for name, wanted in require.fields.items():
            value = params.get(name)
            if value != wanted or (isinstance(wanted, bool) is not isinstance(value, bool)):
                return f"the field {name} is missing or has another value than it must have"
    if require.tools is not None:
        known = name_matcher(require.tools)
        if any(not known(name) for name in tools_of(view)):
            return "it offers a tool that is not on the list"
    if require.mcp_servers is not None:
        known = name_matcher(require.mcp_servers)
        if any(not known(url) for url in mcp_servers_of(view)):
            return "it names an MCP server that is not on the list"
    return None


# -- edits


def carry_out(outcome: Outcome, view: View, change: Callable[[], object]) -> bool:
    """Make the edits in view.document; change() is told of each. False where nothing changed.

    A rule whose edit cannot be made errs, which may set outcome.refusal.
    """
    changed = False
    for rule, on_error, action in outcome.edits:
        before: dict[str, Any] | None = None
        try:
            found = view.require_object()
            if found is None:
                if not view.is_form:
                    continue  # a request without a body has nothing to be changed
                raise RewriteError("a form cannot be rewritten")
            before = deepcopy(found) if on_error == "allow" else None
            if edit(found, view.facts, action):
                change()
                changed = True
        except (RewriteError, ReadError) as exc:
            outcome.errors.append(rule)
            outcome.heads = [row for row in outcome.heads if row[0] != rule]
            outcome.lifts = [row for row in outcome.lifts if row[0] != rule]
            if on_error == "deny":
                outcome.refuse(rule, f"the request could not be changed as it has to be: {exc} {_SIGNED.format(rule)}")
            elif before is not None and view.document is not None:
                view.document.clear()
                view.document.update(before)
    return changed
