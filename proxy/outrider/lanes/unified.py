"""One API over all providers, on the proxy port: `/v1/…` with model names `provider/model`, an alias, or a bare model.

Rules
- Which provider a call is for stands in its body, so the body is held before any layer sees the call; then it is a call
  of that provider like any other, for every rule, limit and credential, made in the dialect of its path.
- An alias counts as its first target's until another one serves it; every target is judged by the rules on its own.
- The listing of models is answered here: what config and the price list know, and nothing of any account.

Does not know: how targets are chosen and called (upstream, lanes.dispatcher), dialects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import orjson

from outrider.errors import BadRequestError, BodyTooLargeError, ModelNotFoundError
from outrider.govern.catalog import Catalog, as_anthropic, as_openai
from outrider.providers import anthropic, cohere, openai
from outrider.providers.model import Operation
from outrider.providers.owners import UnknownModelError, owner_of
from outrider.providers.registry import Binding, Registry
from outrider.stack.call import Route
from outrider.stack.document import plain_body
from outrider_ext.jsonscan import FieldScan, JsonScanError

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

MODELS_PATH: Final = b"/v1/models"
MAX_REMEMBERED: Final = 1024

# path -> what it is, as the provider who made that API has it.
OPERATIONS: Final[Mapping[bytes, Operation]] = MappingProxyType(
    {
        b"/v1/chat/completions": openai.chat("inject"),
        b"/v1/completions": openai.completions("inject"),
        b"/v1/responses": openai.RESPONSES,
        b"/v1/messages": anthropic.MESSAGES,
        b"/v1/messages/count_tokens": anthropic.COUNT_TOKENS,
        b"/v1/embeddings": openai.EMBEDDINGS,
        b"/v1/rerank": cohere.RERANK,
    }
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """route: the call's own from now on. routed: (provider, model), or None where the model is an alias."""

    route: Route
    model: str
    routed: tuple[str, str] | None


class Unified:
    """One per configuration. aliases: alias -> the provider of its first target.

    make(binding, operation, path) -> a call's Route. Raises (all methods): SidecarError.
    """

    def __init__(
        self,
        registry: Registry,
        aliases: Mapping[str, str],
        make: Callable[[Binding, Operation, bytes], Route],
        catalog: Catalog,
        *,
        cap_bytes: int,
    ) -> None:
        self._registry = registry
        self._aliases = aliases
        self._make = make
        self._catalog = catalog
        self._cap_bytes = cap_bytes
        self._scan = FieldScan((b"model",))
        self._fronts: dict[tuple[str, bytes], Route] = {}

    def resolve(self, x: "Exchange", path: bytes) -> Resolved:
        """What the held body asks for."""
        model = self._model(x)
        first = self._aliases.get(model)
        if first is not None:
            binding = self._registry.by_name(first)
            assert binding is not None  # config was checked
            return Resolved(self._front(binding, path), model, None)
        try:
            owner = owner_of(model, self._registry)
        except UnknownModelError as exc:
            raise ModelNotFoundError(str(exc)) from exc
        return Resolved(self._front(owner.binding, path), model, (owner.binding.name, owner.model))

    def _model(self, x: "Exchange") -> str:
        if x.body is None:
            raise BodyTooLargeError("the request's body is too large to be read; raise caps.held_body_bytes")
        try:
            self._scan.scan(plain_body(x, self._cap_bytes))
            model = self._scan.text(0) if self._scan.span(0)[0] >= 0 else None
        except JsonScanError as exc:
            raise BadRequestError(f"the body cannot be read: {exc}") from exc
        finally:
            self._scan.clear()
        if not model:
            raise BadRequestError('the body has to name a model, as in "model": "openai/gpt-5"')
        return model

    def _front(self, binding: Binding, path: bytes) -> Route:
        key = (binding.name, path)
        found = self._fronts.get(key)
        if found is None:
            if len(self._fronts) >= MAX_REMEMBERED:
                self._fronts.clear()
            found = self._fronts[key] = self._make(binding, OPERATIONS[path], path)
        return found

    # -- the listing

    def models(self, path: bytes, *, as_anthropics: bool) -> bytes:
        """The body of an answer to `GET /v1/models` or `/v1/models/NAME`. Raises: ModelNotFoundError."""
        entry = as_anthropic if as_anthropics else as_openai
        name = unquote_to_bytes(path[len(MODELS_PATH) + 1 :]).decode("utf-8", "replace")
        if not name:
            rows = [entry(listed) for listed in self._catalog.all()]
            if as_anthropics:
                ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {}
                return orjson.dumps({"data": rows, "has_more": False, **ends})
            return orjson.dumps({"object": "list", "data": rows})
        found = self._catalog.find(name)
        if found is None:
            raise ModelNotFoundError(f"no model {name[:80]!r} is listed here; one that is not may still be asked for")
        return orjson.dumps(entry(found))
