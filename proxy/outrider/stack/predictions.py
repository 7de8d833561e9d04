"""Calls that Replicate serves: asked to wait, an answer begins a prediction and may end it, with one status for both.

Rules: the answer is given anew with the status that says what became of it (dialects.replicate), before any layer and
the health of the target hear of it: one that failed or was not done in time is an error, and another target may be
tried. An app that asked for a stream gets the pieces of the whole answer as one.
Does not know: sockets, who is tried next.
"""

from typing import TYPE_CHECKING

from outrider.dialects.base import UnreadableError
from outrider.dialects.replicate import settled
from outrider.errors import UpstreamBrokenError
from outrider.stack.replay import whole_wire
from outrider.stack.translate import Translator

if TYPE_CHECKING:
    from outrider.stack.call import Call

_LINES = b"application/x-ndjson"
_JSON = b"application/json"


class Predictions(Translator):
    """provider is the dialect of Replicate's predictions."""

    def restate(self, call: "Call", status: int, body: bytes) -> bytes:
        """The whole HTTP/1.1 answer. Raises: UpstreamBrokenError."""
        try:
            status, body = settled(status, body)
        except UnreadableError as exc:
            raise UpstreamBrokenError(f"the answer of {call.to.destination_host} cannot be translated: {exc}") from exc
        kind = _JSON
        if status == 200 and call.translation.asked.stream:
            kind, body = _LINES, body.replace(b"\n", b" ") + b"\n"  # none stands in a string of JSON
        return whole_wire(status, b"content-type: %b\r\n" % kind, body)


__all__ = ["Predictions"]
