"""An app that is pinned to an old version of an API, served by a newer one: what changes in its request.

Rules
- What is said of one provider's API changes nothing of another's: a lift concerns the operations that PARTS names.
- Path, query and head are changed here, and so are names in the body. Another form of the whole call (FORMS) is left to
  the adapters of dialects, since its answer comes back in the old form, streams too.
- A path that has no counterpart in the version asked for is an error of the rule, never left as it was.

Does not know: conditions, bytes of bodies, how a call is sent (upstream.aliases, stack.translate).
Source: learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle, docs.anthropic.com/en/api/versioning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from outrider.govern.reading import Facts, ReadError, View
from outrider.govern.rewrites import RewriteError
from outrider.govern.rules import BetaNames, Lift
from outrider.providers.betas import betas_for, betas_of

if TYPE_CHECKING:
    from outrider.govern.verdicts import Outcome

type Json = dict[str, Any]

FUNCTIONS: Final = "functions"
COMPLETIONS: Final = "completions"
MAX_TOKENS: Final = "max_tokens"
_BETA: Final = "anthropic-beta"
_AZURE: Final = "/openai/"
_DEPLOYMENTS: Final = "/openai/deployments/"
_V1: Final = "/openai/v1/"
# What stands under a deployment in Azure's classic API; all else there stands under /openai itself.
_DEPLOYED: Final = ("chat/completions", "completions", "embeddings", "audio/", "images/")


def _is_azure(facts: Facts) -> bool:
    return facts.kind == "azure" and facts.own_path.startswith(_AZURE)


def _has_head(facts: Facts) -> bool:
    return facts.operation.dialect.startswith("anthropic.") and facts.kind != "vertex"


def _has_betas(facts: Facts) -> bool:
    return facts.operation.dialect.startswith("anthropic.") or facts.operation.dialect == "bedrock.invoke"


def _speaks(*dialects: str) -> Callable[[Facts], bool]:
    return lambda facts: facts.operation.dialect in dialects


# key of `lift` -> whether an operation is concerned by it
PARTS: Final[Mapping[str, Callable[[Facts], bool]]] = MappingProxyType(
    {
        "api_version": _is_azure,
        "anthropic_version": _has_head,
        "anthropic_beta": _has_betas,
        "functions": _speaks("openai.chat"),
        "completions": _speaks("openai.completions"),
        "max_tokens": _speaks("openai.chat", "openai.completions"),
    }
)


class Lifting:
    """A lift at one operation. parts: the keys that concern it."""

    __slots__ = ("facts", "lift", "parts")

    def __init__(self, lift: Lift, facts: Facts) -> None:
        self.lift = lift
        self.facts = facts
        given = (key for key in lift.model_fields_set if getattr(lift, key) is not None)
        self.parts = frozenset(key for key in given if PARTS[key](facts))

    @property
    def reads_body(self) -> bool:
        if self.parts & {"functions", "completions", "max_tokens"}:
            return True
        if "anthropic_beta" in self.parts and self.facts.operation.dialect == "bedrock.invoke":
            return True
        return "api_version" in self.parts and self._moves_model

    @property
    def reads_head(self) -> bool:
        """Whether what changes depends on the request's head."""
        return "anthropic_beta" in self.parts and self.facts.operation.dialect != "bedrock.invoke"

    # -- head

    def head_changes(self, header: Callable[[str], str]) -> dict[str, str | None]:
        """Name -> its value, None for a field that goes."""
        changes: dict[str, str | None] = {}
        if "anthropic_version" in self.parts:
            changes["anthropic-version"] = self.lift.anthropic_version
        if self.reads_head and self.lift.anthropic_beta is not None:
            said = betas_of(header(_BETA))
            kept = _kept(self.lift.anthropic_beta, said, self.facts)
            if kept != said:
                changes[_BETA] = ", ".join(kept) or None
        return changes

    # -- body

    def change(self, document: Json) -> bool:
        """Whether anything changed. Raises: RewriteError."""
        facts, betas = self.facts, self.lift.anthropic_beta
        changed = False
        if "max_tokens" in self.parts and facts.operation.dialect == "openai.chat":
            changed = _rename_max_tokens(document)
        if "anthropic_beta" in self.parts and betas is not None and "anthropic_beta" in document:
            changed = _lift_betas(document, betas, facts) or changed
        if "api_version" in self.parts and facts.path_model is not None and self._to_v1:
            self._check_counterpart()
            if document.get("model") != facts.path_model:
                document["model"] = facts.path_model
                changed = True
        return changed

    # -- form

    def forms_of(self, document: Json) -> tuple[str, ...]:
        """Which forms of this call are another one's in the newer API, in the order of their names; () for none."""
        if "completions" in self.parts:
            return (COMPLETIONS, MAX_TOKENS) if "max_tokens" in self.parts else (COMPLETIONS,)
        return (FUNCTIONS,) if "functions" in self.parts and _has_functions(document) else ()

    # -- path and query

    @property
    def _to_v1(self) -> bool:
        return self.lift.api_version == "v1" and self.facts.own_path.startswith(_DEPLOYMENTS)

    @property
    def _moves_model(self) -> bool:
        if self.lift.api_version == "v1":
            return self._to_v1
        own = self.facts.own_path
        return own.startswith(_V1) and own.removeprefix(_V1).startswith(_DEPLOYED)

    def _check_counterpart(self) -> None:
        """Of a deployment's paths those of a whole resource have no other form: only a body of JSON takes the model."""
        rest = self.facts.own_path.removeprefix(_DEPLOYMENTS).partition("/")[2]
        if not rest.startswith(_DEPLOYED):
            raise RewriteError(f"{rest[:80]!r} has no counterpart in the API version {self.lift.api_version}")

    def target(self, path: str, query: str, model: str | None) -> str | None:
        """path with its query as the version has it, None where nothing changes. path: the provider's, as it is quoted.

        model: what the body names, where it has to go into the path. Raises: RewriteError.
        """
        version, base = self.lift.api_version, self.facts.base_path
        if version is None or "api_version" not in self.parts:
            return None
        own = path.removeprefix(base)
        if not own.startswith(_AZURE):
            raise RewriteError(f"the path has to begin with {base}{_AZURE}, without escapes")
        kept = [part for part in query.split("&") if part and unquote(part.partition("=")[0]).lower() != "api-version"]
        if version == "v1":
            lifted = base + self._v1_path(own)
        else:
            lifted = base + _classic_path(own, model)
            kept.append(f"api-version={version}")
        target = f"{lifted}?{'&'.join(kept)}" if kept else lifted
        return target if target != (f"{path}?{query}" if query else path) else None

    def _v1_path(self, path: str) -> str:
        if path.startswith(_DEPLOYMENTS):
            self._check_counterpart()
            return _V1 + path.removeprefix(_DEPLOYMENTS).partition("/")[2]
        return path if path.startswith(_V1) else _V1 + path.removeprefix(_AZURE)


def _kept(names: BetaNames, said: list[str], facts: Facts) -> list[str]:
    renamed = [names.rename.get(name, name) for name in said]
    kept = [name for name in dict.fromkeys(renamed) if names.is_kept(name)]
    return betas_for(facts.kind, kept)[0] if names.for_host else kept


def _rename_max_tokens(document: Json) -> bool:
    if "max_tokens" not in document:
        return False
    bound = document.pop("max_tokens")
    document.setdefault("max_completion_tokens", bound)
    return True


def _lift_betas(document: Json, names: BetaNames, facts: Facts) -> bool:
    said = document["anthropic_beta"]
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        raise RewriteError("anthropic_beta is no list of names")
    kept = _kept(names, said, facts)
    if kept == said:
        return False
    if kept:
        document["anthropic_beta"] = kept
    else:
        del document["anthropic_beta"]
    return True


def _has_functions(document: Json) -> bool:
    if document.get("functions") is not None or document.get("function_call") is not None:
        return True
    messages = document.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and (message.get("role") == "function" or message.get("function_call") is not None)
        for message in messages
    )


def _classic_path(path: str, model: str | None) -> str:
    if not path.startswith(_V1):
        return path
    rest = path.removeprefix(_V1)
    if not rest.startswith(_DEPLOYED):
        return "/openai/" + rest
    if not model:
        raise RewriteError("the body names no model, and the deployment has to stand in the path")
    return f"{_DEPLOYMENTS}{quote(model, safe='')}/{rest}"


# -- all lifts of one request


@dataclass(frozen=True, slots=True)
class Lifted:
    """path: with its query, as it is asked now; None as the app asked. forms: see forms_of."""

    path: str | None = None
    forms: tuple[str, ...] = ()


NOT_LIFTED: Final = Lifted()


def lifted(outcome: "Outcome", view: View, path: str, query: str, model: str | None) -> Lifted:
    """What the rules that applied make of path and form; may set outcome.refusal. Of several the last one holds.

    path, query: as the provider would be asked. model: that of the body, where it has one.
    """
    target: str | None = None
    forms: tuple[str, ...] = ()
    for rule, on_error, lifting in outcome.lifts:
        try:
            target = lifting.target(path, query, model) or target
            document = view.require_object() if lifting.lift.changes_form and lifting.parts else None
        except (RewriteError, ReadError) as exc:
            outcome.errors.append(rule)
            if on_error == "deny":
                sentence = f"the request could not be lifted as it has to be: {exc}"
                outcome.refuse(rule, f"{sentence} (rule {rule} of the sidecar's policies)")
            continue
        forms = (lifting.forms_of(document) if document is not None else ()) or forms
    return Lifted(target, forms)
