"""The layers, in one list. A layer that later work adds joins here and nowhere else.

A filter may offer request(route), body(route), answer(route), end(route); each returns a hook for that route, or None.
One that offers translated(route) sees what a translation makes of an answer before the others' answer hooks do, and
one that offers own(route) has a say before a call of our own is sent.
Hooks are bound once per route, so a layer that has nothing to say there costs nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from outrider.stack.adaptive import Adaptive
from outrider.stack.borrow import BorrowTokens
from outrider.stack.call import Hook, PlainHook, Route
from outrider.stack.document import WriteDocument
from outrider.stack.identify import Identify
from outrider.stack.limits import Limits
from outrider.stack.meter import Meter
from outrider.stack.price import PriceUsage
from outrider.stack.record import Record

if TYPE_CHECKING:
    from outrider.stack.audit import Audit
    from outrider.stack.batch import Batch
    from outrider.stack.body_rules import BodyRules
    from outrider.stack.cache import Books, Cache, Keep
    from outrider.stack.cheap_rules import CheapRules
    from outrider.stack.digest import Digest
    from outrider.stack.redact import Redact


def filters(
    *,
    record: Record,
    identify: Identify,
    limits: Limits,
    price: PriceUsage,
    cheap_rules: "CheapRules | None",
    meter: Meter,
    body_rules: "BodyRules | None",
    redact: "Redact | None",
    plans: Any,
    adaptive: Adaptive,
    borrow: BorrowTokens,
    audit: "Audit | None",
    digest: "Digest | None",
    cache: "Cache | None" = None,
    books: "Books | None" = None,
    keep: "Keep | None" = None,
    batch: "Batch | None" = None,
) -> tuple[Any, ...]:
    """Innermost last; on the way out the ends run from the innermost to the outermost. None: nothing was configured."""
    layers = (
        # Outermost, so that it measures refusals and counts what every layer below found out.
        record,
        # Refusals too, and what every layer below found out; its line is written before the answer has left whole.
        audit,
        # Who is calling: nothing below may spend anything on a caller who may not be here.
        identify,
        # The cheapest refusal of a caller who may: before its body is held. Its end settles what was borrowed.
        limits,
        # What a remembered answer took to make: its end comes after the price's, and before the limits'.
        books,
        # What the usage cost: before the limits' end, which settles budgets by it, after the meter's, which reads it.
        price,
        # What rules can say of caller and route alone, while there is still no body to be held.
        cheap_rules,
        # Reads the body's own words, so after everything that can refuse without them.
        meter,
        # Behind the meter, which read the model's name; before all that keeps, counts or sends the app's words.
        body_rules,
        # Behind the rules that ask for it, before anything keeps or sends the app's words.
        redact,
        # What the layers above changed is written once; below, the body is what will be sent.
        WriteDocument(),
        # Over the body as it leaves: after everything that may change it.
        digest,
        # Behind the rules that may deny it and the redaction that keeps it clean; a hit asks and borrows nothing below.
        cache,
        # Where it may go: over the body that will be sent, and before all that counts by the model that serves it.
        plans,
        # What the provider said of its own limits: asked before ours are charged, so that its refusal costs nothing.
        adaptive,
        # Tokens and dollars: after every rule that may refuse, rewrite or name another model.
        borrow,
        # Each call has borrowed for itself; now several are sent as one.
        batch,
        # Innermost, so that it copies what the provider sent, and is the last to say how an answer is read.
        keep,
    )
    return tuple(layer for layer in layers if layer is not None)


def bind(route: Route, layers: Sequence[Any]) -> None:
    """Give the route its hooks."""
    route.request_hooks = _hooks(route, layers, "request")
    route.body_hooks = _hooks(route, layers, "body")
    route.answer_hooks = _hooks(route, layers, "answer")
    route.end_hooks = _hooks(route, layers[::-1], "end")
    route.wants_body = bool(route.body_hooks) or route.attempt.needs_body
    route.reads_answer = bool(route.operation.usage)


def bind_own(route: Route, layers: Sequence[Any]) -> None:
    """For a route of calls of our own that serve an app's call: that one was identified, admitted and judged.

    What such a call takes is borrowed, counted and told like any other's. A layer's own(route) is its word on it.
    """
    route.request_hooks, route.body_hooks = (), _hooks(route, layers, "own")
    route.wants_body = bool(route.body_hooks) or route.attempt.needs_body


def bind_target(to: Route, route: Route, layers: Sequence[Any], *, translates: bool, cap_bytes: int) -> None:
    """Give a target's route its hooks of the answer and the end, for the calls of the route that apps called.

    What a layer `of_attempt` says is about who served the call; all others are about the call.
    """
    hooks = _hooks(route, layers, "answer", to)
    if translates:
        # With the adapters of dialects, for those who translate.
        from outrider.stack.translate import FRAME_ANSWER, translate_answer

        hooks = (translate_answer(cap_bytes), *_hooks(route, layers, "translated"), *hooks)
        if route.operation.dialect == "gemini.generate":
            hooks = (*hooks, FRAME_ANSWER)
    to.answer_hooks = hooks
    to.end_hooks = _hooks(route, layers[::-1], "end", to)
    to.reads_answer = bool(to.operation.usage)


def _hooks(route: Route, layers: Sequence[Any], name: str, to: Route | None = None) -> tuple[Hook, ...]:
    """Those of layers that `follow` stand only where another layer has one: alone they have nothing to follow."""

    def its(layer: Any) -> Route:
        return to if to is not None and getattr(layer, "of_attempt", False) else route

    bound = [(layer, getattr(layer, name)(its(layer))) for layer in layers if hasattr(layer, name)]
    if not any(hook is not None and not getattr(layer, "follows", False) for layer, hook in bound):
        return ()
    return tuple(hook if isinstance(hook, Hook) else PlainHook(hook) for _, hook in bound if hook is not None)
