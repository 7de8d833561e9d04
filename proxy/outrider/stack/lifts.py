"""A call that rules lift to a newer version of its API: where it goes there, and in which form of the call.

Rules: the path is changed before anything is sent, and remembered on the call; a call that has another form in the
newer API is dispatched, since its answer has to be brought back to the app's.
Does not know: versions (govern.lifts), how a call is sent.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from outrider.govern.lifts import lifted

if TYPE_CHECKING:
    from outrider.govern.reading import View
    from outrider.govern.verdicts import Outcome
    from outrider.stack.call import Call
    from outrider_ext.relay import Exchange


def lift_call(x: "Exchange", call: "Call", outcome: "Outcome", view: "View", change: Callable[[], object]) -> None:
    """Puts path and form on the call; may set outcome.refusal. change(): the body has to be written anew."""
    path, query = call.route.path.decode("latin-1"), x.target.partition(b"?")[2].decode("latin-1")
    found = lifted(outcome, view, path, query, call.model if view.facts.model_source == "body" else None)
    if found.path is not None:
        call.path = found.path.encode("latin-1")
    if found.forms:
        provider, model = (None, call.model) if call.routed is None else call.routed[:2]
        call.routed = provider, model, found.forms
        change()  # also where it came compressed: in another form its bytes are others
