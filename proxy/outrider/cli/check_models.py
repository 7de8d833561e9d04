"""What `outrider check` says of `models:`: conditions that are none, targets that no call will reach, and what is left.

Rules: as check.py; a target that is only unwise is a warning, since the others of its model go on.
Does not know: whether a provider is up, which models an account may use.
"""

from collections.abc import Iterator

from outrider.config import Config
from outrider.config.problems import KeyPath, Problem, spell
from outrider.config.schema import ModelTarget
from outrider.dialects import embeddings, rerank
from outrider.dialects.registry import dialect
from outrider.providers.places import dialects_of, place_of
from outrider.providers.registry import Registry


def problems(config: Config) -> Iterator[Problem]:
    """Conditions of `smart` that cannot be evaluated."""
    for name, alias in config.models.items():
        if not alias.rules:
            continue
        from outrider.upstream.smart import SmartRules, SmartRulesError  # with the library of conditions

        try:
            SmartRules([(rule.when, rule.target) for rule in alias.rules])
        except SmartRulesError as exc:
            at: KeyPath = ("models", name, "rules", exc.index, "when")
            yield Problem(config.where(*at), spell(at), str(exc))


def lines(config: Config) -> Iterator[str]:
    """ "smart: failover over openai/gpt-5, local/llama-3"."""
    for name, alias in config.models.items():
        targets = ", ".join(target.name for target in alias.targets)
        yield f"{name}: {targets}" if len(alias.targets) == 1 else f"{name}: {alias.strategy} over {targets}"


def warnings(config: Config, registry: Registry) -> Iterator[str]:
    for name, alias in config.models.items():
        for place, target in enumerate(alias.targets):
            sentence = _unreachable(registry, target)
            if sentence is not None:
                at: KeyPath = ("models", name, "targets", place)
                yield f"{config.where(*at)}: {spell(at)}: no call reaches {target.name}: {sentence}"


def _unreachable(registry: Registry, target: ModelTarget) -> str | None:
    name = target.provider
    binding = registry.by_name(name)
    if binding is None:
        return None  # a problem, said elsewhere
    if binding.origin is None:
        return f"the address of {name} is not known; set providers.{name}.connect_to, hosts or region"
    spoken = [each for each in dialects_of(binding, target.model) if _is_known(each)]
    if not spoken:
        return f"{name} has no API that calls can be translated to"
    if all(place_of(binding, each, target.model, stream=False) is None for each in spoken):
        return f"providers.{name} has to say more of where its models are: region, project or api_version"
    has_credential = binding.settings is not None and binding.settings.credential is not None
    if not has_credential and binding.provider.auth.kind != "none" and not binding.provider.needs_config:
        return (
            f"{name} has no credential of ours; set providers.{name}.credential (a server of your own that takes none "
            "is of kind: vllm or ollama)"
        )
    return None


def _is_known(name: str) -> bool:
    return dialect(name) is not None or name in embeddings.DIALECTS or name in rerank.DIALECTS
