"""How many tokens would a call have, for a target that cannot be asked: estimated, and said so.

Rules: nothing is sent; `x-outrider-translated` says that the number is an estimate; the answer is in the app's words.
Does not know: questions that are asked of a target (stack.translate), how they are spelled (dialects.count_tokens).
"""

from typing import TYPE_CHECKING

import orjson

from outrider.dialects import count_tokens
from outrider.dialects.base import Notes
from outrider.providers.places import CALLS
from outrider.stack.call import Taken
from outrider.stack.translate import asked_about

if TYPE_CHECKING:
    from outrider.stack.call import Call
    from outrider_ext.lane import Lane
    from outrider_ext.relay import Exchange


class Estimate(Taken):
    """An answer of ours, for a target that has no such question. Raises: BadRequestError."""

    def __init__(self, x: "Exchange", call: "Call", asked: str, body: bytes) -> None:
        notes = Notes()
        tokens = count_tokens.estimated(asked_about(asked, asked, call, body).asked, notes)
        self._x, self._call = x, call
        self._note = "; ".join(notes.phrases)
        self._body = orjson.dumps(count_tokens.written_answer(CALLS[asked], tokens))

    def park(self, lane: "Lane", stage: int) -> None:
        x = self._x
        lines = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-outrider-request-id: %b\r\n" % (
            self._call.request_id
        )
        lines += b"x-outrider-translated: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            self._note.encode("ascii"), len(self._body), b"connection: close\r\n" if x.must_close else b"",
        )  # fmt: skip
        x.answer(lines + self._body, 200)
