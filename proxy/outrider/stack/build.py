"""The layers, in one list. A layer that later work adds joins here and nowhere else.

A filter may offer request(route), body(route), answer(route), end(route); each returns a hook for that route, or None.
Hooks are bound once per route, so a layer that has nothing to say there costs nothing.
"""

from collections.abc import Sequence
from typing import Any

from outrider.stack.audit import Audit
from outrider.stack.call import Hook, PlainHook, Route
from outrider.stack.digest import Digest
from outrider.stack.identify import Identify
from outrider.stack.meter import Meter
from outrider.stack.record import Record
from outrider.stack.request_limits import RequestLimits


def filters(
    *,
    record: Record,
    identify: Identify,
    request_limits: RequestLimits,
    meter: Meter,
    audit: Audit | None = None,
    digest: Digest | None = None,
) -> tuple[Any, ...]:
    """Innermost last; on the way out the ends run from the innermost to the outermost."""
    layers = (
        # Outermost, so that it measures refusals and counts what every layer below found out.
        record,
        # Refusals too, and what every layer below found out; its line is written before the answer has left whole.
        audit,
        # Who is calling: nothing below may spend anything on a caller who may not be here.
        identify,
        # The cheapest refusal of a caller who may: before a byte of the body is held.
        request_limits,
        # Reads the body's own words, so after everything that can refuse without them.
        meter,
        # Over the body as it leaves: after everything that may change it.
        digest,
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


def _hooks(route: Route, layers: Sequence[Any], name: str) -> tuple[Hook, ...]:
    bound = (getattr(layer, name)(route) for layer in layers if hasattr(layer, name))
    return tuple(hook if isinstance(hook, Hook) else PlainHook(hook) for hook in bound if hook is not None)
