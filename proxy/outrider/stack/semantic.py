"""Questions as vectors: what was asked in other words is found by what an embedding model makes of the last text.

Rules
- The text goes to the one provider and model of `cache.semantic`, in a call of our own: through that provider's pool
  and the guard of addresses, with that provider's credential, and with nothing of the app's head. It is in the log,
  the metrics and the audit log as such a call of the same caller, who borrows for it; where a limit or a budget does
  not let him, it is not made.
- It delays a call by `timeout_ms` at most: whatever fails, is late or is not one vector is None, and for REST_S nobody
  is asked again. At most MOST_AT_ONCE are under way.
- What was asked last is remembered, so that the same words are not embedded twice.
Does not know: what is done with a vector, which questions may be compared.

Shape: OpenAI's embeddings, which most compatible providers have.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from outrider.config.schema import Semantic as Settings
from outrider.errors import RateLimitedError, UnpricedError
from outrider.stack.call import Call, PlainHook, Route
from outrider_ext import http1
from outrider_ext.nearest import unit

if TYPE_CHECKING:
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.relay import Exchange

MOST_AT_ONCE: Final = 64
REST_S: Final = 1.0
ANSWER_BYTES: Final = 1 << 20
TAG: Final = "cache:semantic"
_NOT_LET: Final = (RateLimitedError, UnpricedError)  # budgets too: nobody else has to rest for it
_H_ENCODING: Final = http1.header_id(b"content-encoding")


class _Asked:
    """One call that is under way. found: its vector, once it is there; waiting: by whom."""

    __slots__ = ("call", "pieces", "size_bytes", "waiting", "x")

    def __init__(self, x: "Exchange", call: Call, waiting: "asyncio.Future[bytes | None]") -> None:
        self.x, self.call, self.waiting = x, call, waiting
        self.pieces: list[bytes] = []
        self.size_bytes = 0


class Semantic:
    """make_route() -> the route to the embedding model, with the layers' hooks; asked once, when first needed."""

    def __init__(self, settings: Settings, make_route: Callable[[], tuple[Route, bytes]], metrics: "Metrics") -> None:
        self.settings = settings
        self.place = orjson.dumps(["outrider semantic 1", settings.provider, settings.model, settings.dimensions])
        self._make_route = make_route
        self._count = metrics.count
        self._route: Route | None = None
        self._head = b""
        self._asked: dict[Call, _Asked] = {}
        self._rests_until_s = 0.0
        self._known: OrderedDict[bytes, bytes] = OrderedDict()  # question -> vector

    def known(self, question: bytes) -> bytes | None:
        """The vector of what was asked lately. question: a hash of the text and of all that it is compared by."""
        vector = self._known.get(question)
        if vector is not None:
            self._known.move_to_end(question)
        return vector

    async def vector(self, x: "Exchange", call: Call, question: bytes, text: str) -> bytes | None:
        """Of the text; None where it could not be had in time."""
        loop = asyncio.get_running_loop()
        settings = self.settings
        if len(self._asked) >= MOST_AT_ONCE or loop.time() < self._rests_until_s:
            self._count("semantic_skipped", settings.provider)
            return None
        asked = self._ask(x, call, text, loop)
        timer = loop.call_later(settings.timeout_ms / 1000, _end, asked.x)
        try:
            vector = await asked.waiting
        finally:
            timer.cancel()
            _end(asked.x)  # whoever waited has left; nothing where it is over
        if vector is None and isinstance(asked.call.error, _NOT_LET):
            self._count("semantic_skipped", settings.provider)
            return None
        if vector is None:
            self._rests_until_s = loop.time() + REST_S
            self._count("semantic_failed", settings.provider)
            return None
        self._known[question] = vector
        while len(self._known) > settings.max_entries:
            self._known.popitem(last=False)
        return vector

    def _ask(self, x: "Exchange", call: Call, text: str, loop: asyncio.AbstractEventLoop) -> _Asked:
        route = self._route or self._open()
        settings = self.settings
        body: dict[str, Any] = {"model": settings.model, "input": text}
        if settings.dimensions is not None:
            body["dimensions"] = settings.dimensions
        other = x.twin(self._head, orjson.dumps(body))
        own = Call(route, call.request_id + b"-semantic")
        own.principal, own.key_id, own.model, own.tags = call.principal, call.key_id, settings.model, (TAG,)
        own.plain_answer, own.max_tokens = True, 0  # a vector is no tokens
        other.state = own
        asked = self._asked[own] = _Asked(other, own, loop.create_future())
        owner: Any = x.client.hub.owner
        owner.resume(other, own, 0)
        return asked

    def _open(self) -> Route:
        route, lines = self._make_route()
        self._head = (
            b"POST %b HTTP/1.1\r\nhost: outrider\r\ncontent-type: application/json\r\n"
            b"accept: application/json\r\n%b\r\n" % (route.path, lines)
        )
        route.answer_hooks += (PlainHook(self.answer),)
        route.end_hooks += (PlainHook(self.end),)
        self._route = route
        return route

    # -- the answer, as hooks of that route

    def answer(self, x: "Exchange", call: Call) -> None:
        asked = self._asked.get(call)
        if asked is None or x.status != 200:
            return
        coding = x.answer_head.get(_H_ENCODING)
        if coding is None or coding.lower() == b"identity":
            x.sink = partial(_take, asked)

    def end(self, x: "Exchange", call: Call) -> None:
        asked = self._asked.pop(call, None)
        if asked is None or asked.waiting.done():
            return
        is_good = x.outcome == 0 and x.status == 200 and asked.size_bytes <= ANSWER_BYTES
        asked.waiting.set_result(vector_of(b"".join(asked.pieces)) if is_good else None)


def _take(asked: _Asked, x: "Exchange", piece: bytes) -> None:
    asked.size_bytes += len(piece)
    if asked.size_bytes <= ANSWER_BYTES:
        asked.pieces.append(piece)


def _end(x: "Exchange") -> None:
    """It is not waited for any more."""
    if x.ended:
        return
    waiter, x.waiter = x.waiter, None
    if waiter is not None:
        waiter.cancel()
    x.abort("not waited for")


def vector_of(body: bytes) -> bytes | None:
    """The one vector of an answer, of unit length; None where it has not exactly one."""
    try:
        (row,) = orjson.loads(body)["data"]
        numbers = row["embedding"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return unit(numbers) if isinstance(numbers, list) else None


__all__ = ["TAG", "Semantic", "vector_of"]
