"""One API over all providers, on the proxy port: `/v1/…` with model names `provider/model`, an alias, or a bare model.

Rules
- Which provider a call is for stands in its body, so the body is held before any layer sees the call; then it is a call
  of that provider like any other, for every rule, limit and credential, made in the dialect of its path.
- An alias counts as its first target's until another one serves it; every target is judged by the rules on its own.
- The listing of models is answered here: what config and the price list know, and nothing of any account.

Does not know: how targets are chosen and called (upstream, lanes.dispatcher), dialects.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import orjson

from outrider.errors import BadRequestError, BodyTooLargeError, ModelNotFoundError
from outrider.govern.catalog import Catalog, as_model
from outrider.providers import anthropic, cohere, openai
from outrider.providers.model import Operation
from outrider.providers.owners import UnknownModelError, owner_of
from outrider.providers.registry import Binding, Registry
from outrider.stack.call import Answered, Call, PlainHook, Route, Taken
from outrider.stack.document import document_of, plain_body
from outrider_ext.jsonscan import FieldScan, JsonScanError
from outrider_ext.lane import Sender

if TYPE_CHECKING:
    from outrider.dialects.models import Shape
    from outrider_ext.relay import Exchange

MODELS_PATH: Final = b"/v1/models"
LISTING: Final = Operation("models")

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


class AliasLike(Protocol):
    """What is read of config's ModelAlias."""

    @property
    def targets(self) -> tuple[Any, ...]: ...


class Own(Sender):
    """Nothing is sent for a route that we answer ourselves: who asks may show our key, and need not."""

    injects = True
    refusal = None
    no_credential = ""
    needs_body = False


class Unified:
    """One per configuration. make(binding, operation, path, others) -> a call's Route.

    others: of an alias, who may serve it besides. make_own(operation, method, path, resolver) -> one that leads to no
    provider.
    """

    def __init__(
        self,
        registry: Registry,
        models: Mapping[str, AliasLike],
        make: Callable[[Binding, Operation, bytes, tuple[Binding, ...] | None], Route],
        make_own: Callable[..., Route],
        *,
        cap_bytes: int,
    ) -> None:
        self._registry = registry
        self._serving = {
            alias: tuple(dict.fromkeys(target.provider for target in one.targets)) for alias, one in models.items()
        }
        self._make = make
        self._make_own = make_own
        self._cap_bytes = cap_bytes
        self._scan = FieldScan((b"model",))
        self._fronts: dict[tuple[tuple[str, ...], bytes, bool], Route] = {}
        usable = (
            (name, found.provider.kind) for name, found in registry.bindings.items() if found.settings is not None
        )
        self._catalog = Catalog(
            {alias: [target.name for target in one.targets] for alias, one in models.items()}, usable
        )

    def route(self, method: bytes, path: bytes) -> Route | None:
        """None where this API has no such path."""
        if path in OPERATIONS:
            if method != b"POST":
                raise BadRequestError(f"{path.decode('ascii')} takes POST and no other method")
            return self._make_own(OPERATIONS[path], method, path, self._resolver(path))
        if path == MODELS_PATH or path.startswith(MODELS_PATH + b"/"):
            if method not in (b"GET", b"HEAD"):
                raise BadRequestError("the list of models is only read")
            route = self._make_own(LISTING, method, path, None)
            route.request_hooks = (*route.request_hooks, PlainHook(self._listing(path)))
            return route
        return None

    # -- whom a call is for

    def _resolver(self, path: bytes) -> Callable[["Exchange", Call], Route]:
        def resolve(x: "Exchange", call: Call) -> Route:
            model, span = self._model(x)
            serving = self._serving.get(model)
            if serving is not None:
                return self._front(serving, path, is_alias=True)
            try:
                owner = owner_of(model, self._registry)
            except UnknownModelError as exc:
                raise ModelNotFoundError(str(exc)) from exc
            call.routed = owner.binding.name, owner.model
            if owner.model != model:
                self._rename(x, call, owner.model, span)
            return self._front((owner.binding.name,), path, is_alias=False)

        return resolve

    def _model(self, x: "Exchange") -> tuple[str, tuple[int, int]]:
        """With the place where it stands in the plain body."""
        if x.body is None:
            raise BodyTooLargeError("the request's body is too large to be read; raise caps.held_body_bytes")
        try:
            self._scan.scan(plain_body(x, self._cap_bytes))
            span = self._scan.span(0)
            model = self._scan.text(0) if span[0] >= 0 else None
        except JsonScanError as exc:
            raise BadRequestError(f"the body cannot be read: {exc}") from exc
        finally:
            self._scan.clear()
        if not model:
            raise BadRequestError('the body has to name a model, as in "model": "openai/gpt-5"')
        return model, span

    def _rename(self, x: "Exchange", call: Call, model: str, span: tuple[int, int]) -> None:
        """From here on the call names the model as its provider does: rules, limits and prices know no other name."""
        plain = plain_body(x, self._cap_bytes)
        if plain is not x.body:
            document_of(x, call, self._cap_bytes).change()["model"] = model
            return
        start, end = span
        x.body = b"%b%b%b" % (plain[:start], orjson.dumps(model), plain[end:])

    def _front(self, serving: tuple[str, ...], path: bytes, *, is_alias: bool) -> Route:
        """serving: names of providers, the first of them first."""
        found = self._fronts.get((serving, path, is_alias))
        if found is None:
            bindings = [binding for name in serving if (binding := self._registry.by_name(name)) is not None]
            made = self._make(bindings[0], OPERATIONS[path], path, tuple(bindings[1:]) if is_alias else None)
            found = self._fronts[serving, path, is_alias] = made
        return found

    # -- the listing

    def _listing(self, path: bytes) -> Callable[["Exchange", Call], Any]:
        name = unquote_to_bytes(path[len(MODELS_PATH) + 1 :]).decode("utf-8", "replace")

        async def answer(x: "Exchange", call: Call) -> Taken:
            from outrider.dialects.models import Listing as Models  # for who asks
            from outrider.dialects.models import written_listing, written_model

            shape: Shape = "anthropic" if x.head.get_name(b"anthropic-version") is not None else "openai"
            if not self._catalog.is_made:  # the price list takes a third of a second to read
                await asyncio.to_thread(self._catalog.all)
            if not name:
                models = [as_model(listed) for listed in self._catalog.all()]
                return Answered(x, call, orjson.dumps(written_listing(shape, Models(models))))
            found = self._catalog.find(name)
            if found is None:
                raise ModelNotFoundError(
                    f"no model {name[:80]!r} is listed here; one that is not may still be asked for"
                )
            return Answered(x, call, orjson.dumps(written_model(shape, as_model(found))))

        return answer
