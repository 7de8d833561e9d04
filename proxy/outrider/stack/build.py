"""The layers, in one list. A layer that later work adds joins here and nowhere else.

A filter may offer request(route), body(route), answer(route), end(route); each returns a hook for that route, or None.
Hooks are bound once per route, so a layer that has nothing to say there costs nothing.
"""

from collections.abc import Sequence
from typing import Any

from outrider.stack.adaptive import Adaptive
from outrider.stack.borrow import BorrowTokens
from outrider.stack.call import Hook, PlainHook, Route
from outrider.stack.identify import Identify
from outrider.stack.limits import Limits
from outrider.stack.meter import Meter
from outrider.stack.price import PriceUsage
from outrider.stack.record import Record


def filters(
    *,
    record: Record,
    identify: Identify,
    limits: Limits,
    price: PriceUsage,
    meter: Meter,
    borrow: BorrowTokens,
    adaptive: Adaptive,
) -> tuple[Any, ...]:
    """Innermost last; on the way out the ends run from the innermost to the outermost."""
    return (
        # Outermost, so that it measures refusals and counts what every layer below found out.
        record,
        # Who is calling: nothing below may spend anything on a caller who may not be here.
        identify,
        # The cheapest refusal of a caller who may: before its body is held. Its end settles what was borrowed.
        limits,
        # What the usage cost: before the limits' end, which settles budgets by it, after the meter's, which reads it.
        price,
        # Reads the body's own words, so after everything that can refuse without them.
        meter,
        # What the provider said of its own limits: asked before ours are charged, so that its refusal costs nothing.
        adaptive,
        # Tokens and dollars: after every rule that may refuse, rewrite or name another model.
        borrow,
    )


def bind(route: Route, layers: Sequence[Any]) -> None:
    """Give the route its hooks."""
    route.request_hooks = _hooks(route, layers, "request")
    route.body_hooks = _hooks(route, layers, "body")
    route.answer_hooks = _hooks(route, layers, "answer")
    route.end_hooks = _hooks(route, layers[::-1], "end")
    route.wants_body = bool(route.body_hooks) or route.attempt.needs_body
    route.reads_answer = bool(route.operation.usage)


def _hooks(route: Route, layers: Sequence[Any], name: str) -> tuple[Hook, ...]:
    bound = (getattr(layer, name)(route) for layer in layers if hasattr(layer, name))
    return tuple(hook if isinstance(hook, Hook) else PlainHook(hook) for hook in bound if hook is not None)
