"""`models:` and `resilience:` as groups, and their targets for each route that apps call.

Rules: a group is made once per configuration; what is known of a target's health outlives it. A target that cannot
serve a route is left out there with a sentence why; an alias none of whose targets can is refused with all of them.
Does not know: pools, credentials (`make_route` is handed in), exchanges.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from outrider.config import Config
from outrider.config.schema import ModelAlias, ModelTarget
from outrider.errors import StartError
from outrider.govern.pricing import Pricing
from outrider.govern.queues import Room
from outrider.providers.capabilities import lacks
from outrider.providers.places import CALLS, Place, dialects_of, place_of
from outrider.providers.registry import Binding, Registry
from outrider.stack.call import Call, Route, Taken
from outrider.upstream.health import Health, Healths
from outrider.upstream.needs import Needs
from outrider.upstream.plans import Fetch, PlanCalls, Refusal
from outrider.upstream.retries import RetryBudget
from outrider.upstream.targets import EVERYTHING, Answer, Group, Target, Translator

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

# A body of InvokeModel is of its model's kind, and an alias's model is the target's.
_INVOKED = {"embed": "bedrock.invoke_embed", "rerank": "bedrock.invoke_rerank"}
_COST_TOKENS = 500  # an answer whose length nobody bounded


type Forms = tuple[str, ...]  # to which rules lift a call: govern.lifts
type Found = tuple[Route, bytes | None, bool, Translator | None]  # to, path, whether the model stands in it, translator


def translator_between(asked: str, spoken: str) -> Translator | None:
    """The adapters of dialects are imported for those who translate."""
    from outrider.stack.translate import translator

    return translator(asked, spoken)


def _relocation(asked: str) -> Translator:
    from outrider.stack.translate import Relocation

    return Relocation(asked)


def _gemini_embed() -> Translator:
    from outrider.stack.translate import GeminiEmbed

    return GeminiEmbed("gemini.embed")


def _estimated(asked: str) -> Answer:
    def answer(x: "Exchange", call: Call, body: bytes) -> Taken:
        from outrider.stack.counting import estimate

        return estimate(x, call, asked, body)

    return answer


def _lifted(asked: str, spoken: str, forms: Forms) -> Translator | None:
    from outrider.stack.translate import lifted

    return lifted(asked, spoken, forms)


class MakeRoute(Protocol):
    """The route to a path of another provider, for calls of `route`.

    lifts: to another form of the app's own API, at the address that the app called where the provider is the same.
    """

    def __call__(self, route: Route, binding: Binding, path: bytes, *, lifts: bool = False) -> Route: ...


class Aliases:
    """All groups of one configuration. layer: the filter that plans calls.

    translator(dialect asked, dialect spoken) -> a Translator, None where there is none between them. refusal, fetch: as
    PlanCalls has them.
    Raises: StartError (a condition of `rules` that is no CEL).
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        healths: Healths,
        make_route: MakeRoute,
        *,
        pricing: Pricing | None = None,
        rules_route: bool = False,
        translator: Callable[[str, str], Translator | None] = translator_between,
        refusal: Refusal | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self._registry = registry
        self.healths = healths
        self._make_route = make_route
        self._pricing = pricing
        self._translator = translator
        settings = config.resilience
        self._breaker = settings.breaker
        self._retry = settings.retry
        self._timeouts = settings.timeouts
        self._models = config.models
        self.groups = {name: self._group(config, name, alias) for name, alias in config.models.items()}
        self._lifts: dict[tuple[Route, Forms], tuple[Route, Translator]] = {}
        self._known: dict[str, tuple[Health, Any]] = {}  # the pool of each target that some call could go to
        self._routed = self._plain_group("the routed model")
        plain = (self._plain_group("the model"), self._own) if settings.plain_calls else None
        self.layer = PlanCalls(
            self.groups,
            self._targets_of,
            self._route_to,
            plain,
            rules_route=rules_route,
            cap_bytes=config.caps.held_body_bytes,
            refusal=refusal,
            fetch=fetch,
            conversations=healths.conversations,
        )

    def is_planned(self, route: Route) -> bool:
        """Whether calls of this route may be served by several targets."""
        return self.layer.covers(route)

    # -- groups

    def _group(self, config: Config, name: str, alias: ModelAlias) -> Group:
        smart = None
        if alias.rules:
            from outrider.upstream.smart import SmartRules, SmartRulesError

            try:
                smart = SmartRules([(rule.when, rule.target) for rule in alias.rules]).choose
            except SmartRulesError as exc:
                where = config.where("models", name, "rules", exc.index, "when")
                raise StartError(f"{where}: models.{name}.rules[{exc.index}].when {exc}", exit_code=2) from exc
        hedge, queue, static = alias.hedge, alias.queue, alias.static_answer
        needs = any(_has(target) != EVERYTHING or target.context_tokens is not None for target in alias.targets)
        return Group(
            name,
            alias.strategy,
            self._retry,
            alias.timeouts or self._timeouts,
            self._retry_budget(),
            sticky=alias.sticky,
            hedge=hedge,
            hedges=RetryBudget(hedge.percent / 100, 0) if hedge is not None else None,
            smart=smart,
            cost_of=self._cost_of if alias.strategy == "cost" else None,
            input_cost_of=self._input_cost_of if hedge is not None else None,
            reads_body=needs or alias.strategy in ("smart", "cost"),
            max_wait_s=queue.max_wait_s,
            priority_of=queue.priority_of,
            static_answer=static.text if static is not None else None,
            room=Room(queue.max_waiting),
        )

    def _plain_group(self, name: str) -> Group:
        return Group(name, "failover", self._retry, self._timeouts, self._retry_budget())

    def _retry_budget(self) -> RetryBudget:
        return RetryBudget(self._retry.budget_percent / 100, self._retry.min_per_s)

    def _cost_of(self, target: Target, needs: Needs) -> float | None:
        if self._pricing is None:
            return None
        made = needs.max_tokens if needs.max_tokens > 0 else _COST_TOKENS
        kind = target.binding.provider.name
        tariff = self._pricing.tariff(target.binding.name, kind, None, target.model, None)
        return None if tariff is None else float(tariff.estimate(needs.tokens, made))

    def _input_cost_of(self, target: Target, tokens: int) -> int | None:
        if self._pricing is None:
            return None
        tariff = self._pricing.tariff(target.binding.name, target.binding.provider.name, None, target.model, None)
        return None if tariff is None else int(tariff.estimate(tokens, 0))

    def probe(self, now_ns: int, spawn: Callable[..., Any]) -> None:
        """Open a connection to each target that is left alone; one that takes it is tried with the next call."""
        for health, pool in self._known.values():
            if health.breaker.state(now_ns) == "open":
                pool.open(partial(_reached, health), lambda error: None, spawn)

    # -- targets

    def _targets_of(self, route: Route, alias: str, forms: Forms = ()) -> Sequence[Target | str]:
        return [self._target(route, spec, forms) for spec in self._models[alias].targets]

    def _route_to(
        self, route: Route, provider: str | None, model: str | None, forms: Forms = ()
    ) -> tuple[Group, Sequence[Target | str]]:
        if provider is None and model in self.groups:
            return self.groups[model], self._targets_of(route, model, forms)
        if provider is None or model is None:
            return self._routed, [self._lifted_at_home(route, model, forms)]
        return self._routed, [self._target(route, ModelTarget(provider=provider, model=model), forms)]

    def _lifted_at_home(self, route: Route, model: str | None, forms: Forms) -> Target | str:
        """The route's own provider and the model that the app named, in another form of the API."""
        found = self._lifts.get((route, forms))
        if found is None:
            path = _lifted_path(route.path.decode("latin-1"), forms).encode("latin-1")
            to = self._make_route(route, route.binding, path, lifts=True)
            translator = _lifted(route.operation.dialect, to.operation.dialect, forms)
            if translator is None:
                return f"{route.provider} has no address for this form of the call"
            if len(self._lifts) >= Healths.MOST:
                self._lifts.clear()
            found = self._lifts[route, forms] = to, translator
        return self._own(route, model, *found)

    def _own(
        self, route: Route, model: str | None, to: Route | None = None, translator: Translator | None = None
    ) -> Target:
        """The route itself, for a call that names a model of its provider; to: its way to another form of the API."""
        name = f"{route.provider}/{model}" if model is not None and len(model) <= 256 else route.provider
        health = self.healths.of(name, self._breaker)
        return Target(name, route.binding, None, to or route, health, translator=translator)

    def _target(self, route: Route, spec: ModelTarget, forms: Forms = ()) -> Target | str:
        binding = self._registry.by_name(spec.provider)
        if binding is None:
            return f"there is no provider {spec.provider}"
        at_home = binding is route.binding and not route.is_front
        found: Found | Answer | str
        if at_home and not forms:
            found = self._at_home(route, spec.model)
        else:
            found = self._elsewhere(route, binding, spec.model, forms)
        if isinstance(found, str):
            return found
        if not isinstance(found, tuple):
            health = self.healths.of(spec.name, self._breaker)
            return Target(spec.name, binding, spec.model, route, health, answer=found)
        to, path, in_path, translator = found
        health = self.healths.of(spec.name, self._breaker)
        if spec.name in self._known or len(self._known) < Healths.MOST:
            self._known[spec.name] = health, to.pool
        return Target(
            spec.name,
            binding,
            spec.model,
            to,
            health,
            path,
            in_path,
            translator,
            spec.weight,
            _has(spec),
            spec.context_tokens,
            spec.max_concurrent,
        )

    def _at_home(self, route: Route, model: str) -> Found | str:
        if route.operation.model_in != "path":
            return route, None, False, None
        path = route.binding.with_model(route.method, route.path, model)
        if path is None:
            return f"the path of this call has no place for {model}"
        own = _gemini_embed() if route.operation.dialect == "gemini.embed" else None
        return route, path, True, own

    def _elsewhere(self, route: Route, binding: Binding, model: str, forms: Forms = ()) -> Found | Answer | str:
        if binding.origin is None:
            return f"the address of {binding.name} is not known without config"
        asked = route.operation.dialect
        found = self._place(route, binding, model, forms)
        if found is None and asked in CALLS and route.known:
            return _estimated(asked)
        if found is None:
            return f"{binding.name} does not speak {asked or 'this operation'}, and no translation leads there"
        place, translator = found
        path, query, value = place.path.partition("?")
        to = self._make_route(route, binding, path.encode("ascii"), lifts=bool(forms))
        refusal = _refusal(route, to)
        if refusal is not None:
            return refusal
        # A stream of Google's says in its query how it comes: as the app wants it, where the dialect is the same.
        whole = path if asked == "gemini.generate" else path + query + value
        return to, whole.encode("ascii"), place.operation.model_in == "path", translator

    def _place(
        self, route: Route, binding: Binding, model: str, forms: Forms
    ) -> tuple[Place, Translator | None] | None:
        """Where the provider takes it, in the app's dialect if it can be, else in the first that can be translated."""
        asked, streams = route.operation.dialect, bool(route.operation.stream)
        spoken = dialects_of(binding, model, asked)
        if forms:
            newer = "openai.chat" if asked == "openai.completions" else asked
            place = place_of(binding, newer, model, stream=streams) if newer in spoken else None
            if place is not None:
                return place, _lifted(asked, newer, forms)
        if asked in spoken:
            place = place_of(binding, asked, model, stream=streams)
            if place is None:
                return None
            return place, _relocation(asked) if place.body or place.drop else None
        if asked == "bedrock.invoke":
            asked = next((name for word, name in _INVOKED.items() if word in model.lower()), asked)
        for dialect in spoken if asked else ():
            translator = self._translator(asked, dialect)
            place = place_of(binding, dialect, model, stream=False) if translator is not None else None
            if place is not None:
                return place, translator
        return None


def _lifted_path(path: str, forms: Forms) -> str:
    """Of the same provider: with OpenAI's API, completions of either kind stand beside each other."""
    if "completions" in forms and path.endswith("/completions") and not path.endswith("/chat/completions"):
        return f"{path.removesuffix('/completions')}/chat/completions"
    return path


def _reached(health: Health, connection: Any) -> None:
    connection.release()
    health.breaker.reached(time.monotonic_ns())


def _refusal(route: Route, to: Route) -> str | None:
    """Why a call of this route may not be sent there: whoever shows nothing does not get our credential elsewhere."""
    attempt, binding = to.attempt, to.binding
    if binding is route.binding and not attempt.injects:
        refused: str | None = attempt.refusal
        return refused  # else it is the app's own key, for whom it is
    if attempt.injects:
        settings = route.binding.settings
        shows = route.attempt.injects and (settings is None or settings.require_placeholder)
        if shows or (binding.settings is not None and not binding.settings.require_placeholder):
            return None
        return (
            f"a call with the app's own key of {route.provider} does not get the sidecar's credential of "
            f"{binding.name}; "
            f"set providers.{route.provider}.credential, so that apps show the placeholder"
        )
    if binding.provider.auth.kind == "none" or (binding.provider.needs_config and not _has_credential(binding)):
        return None  # it takes none, or was set up without one
    return str(attempt.refusal or attempt.no_credential)


def _has(spec: ModelTarget) -> frozenset[str]:
    """What config says that it does, else all but what the model is known not to do."""
    return frozenset(spec.has) if spec.has is not None else EVERYTHING - lacks(spec.model)


def _has_credential(binding: Binding) -> bool:
    return binding.settings is not None and binding.settings.credential is not None
