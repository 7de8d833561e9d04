"""How many tokens would a call have, for a target that cannot be asked: estimated, and said so.

Rules: nothing is sent; `x-outrider-translated` says that the number is an estimate; the answer is in the app's words.
Does not know: questions that are asked of a target (stack.translate), how they are spelled (dialects.count_tokens).
"""

from typing import TYPE_CHECKING

import orjson

from outrider.dialects import count_tokens
from outrider.dialects.base import Notes
from outrider.providers.places import CALLS
from outrider.stack.call import Answered
from outrider.stack.translate import asked_about

if TYPE_CHECKING:
    from outrider.stack.call import Call
    from outrider_ext.relay import Exchange


def estimate(x: "Exchange", call: "Call", asked: str, body: bytes) -> Answered:
    """An answer of ours, for a target that has no such question. Raises: BadRequestError."""
    notes = Notes()
    tokens = count_tokens.estimated(asked_about(asked, asked, call, body).asked, notes)
    note = notes.note.encode("ascii")
    told = orjson.dumps(count_tokens.written_answer(CALLS[asked], tokens))
    return Answered(x, call, told, b"x-outrider-translated: %b\r\n" % note)
