"""Questions as vectors: what was asked in other words is found by what an embedding model makes of the last text.

Rules
- Who makes vectors is a Maker: a model of a provider (here), or one in this process (stack.onnx_model). What it is, is
  in its `place`, and that in every hash by which vectors are compared: those of two models never are.
- A call is delayed by `timeout_ms` at most: whatever fails, is late or is not one vector is None, and for REST_S nobody
  is asked again. What is not made for one caller (UnaskedError) makes nobody else rest.
- What was asked last is remembered, so that the same words are not embedded twice.
- To a provider the text goes in a call of our own: through that provider's pool and the guard of addresses, with that
  provider's credential, and with nothing of the app's head. It is in the log, the metrics and the audit log as such a
  call of the same caller, who borrows for it; where a limit or a budget does not let him, it is not made. At most
  MOST_AT_ONCE are under way.
Does not know: what is done with a vector, which questions may be compared.

Shape: OpenAI's embeddings, which most compatible providers have.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

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
_NOT_LET: Final = (RateLimitedError, UnpricedError)  # budgets too
_H_ENCODING: Final = http1.header_id(b"content-encoding")


class UnaskedError(Exception):
    """No vector is made of this text now."""


class Maker(Protocol):
    """name: in metrics. place: what it is; another model has another one."""

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> bytes: ...

    async def vector(self, x: "Exchange", call: Call, text: str) -> bytes | None:
        """Of unit length (outrider_ext.nearest.unit); None where it failed. Raises: UnaskedError."""
        ...


class Semantic:
    """Vectors of questions. One for a configuration."""

    def __init__(self, settings: Settings, maker: Maker, metrics: "Metrics") -> None:
        self.settings, self.place = settings, maker.place
        self._maker = maker
        self._count = metrics.count
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
        try:
            if loop.time() < self._rests_until_s:
                raise UnaskedError
            async with asyncio.timeout(self.settings.timeout_ms / 1000):
                vector = await self._maker.vector(x, call, text)
        except UnaskedError:
            self._count("semantic_skipped", self._maker.name)
            return None
        except TimeoutError:
            vector = None
        if vector is None:
            self._rests_until_s = loop.time() + REST_S
            self._count("semantic_failed", self._maker.name)
            return None
        self._known[question] = vector
        while len(self._known) > self.settings.max_entries:
            self._known.popitem(last=False)
        return vector


class _Asked:
    """One call that is under way. found: its vector, once it is there; waiting: by whom."""

    __slots__ = ("call", "pieces", "size_bytes", "waiting", "x")

    def __init__(self, x: "Exchange", call: Call, waiting: "asyncio.Future[bytes | None]") -> None:
        self.x, self.call, self.waiting = x, call, waiting
        self.pieces: list[bytes] = []
        self.size_bytes = 0


class ProviderModel:
    """make_route() -> the route to the embedding model, with the layers' hooks; asked once, when first needed."""

    def __init__(self, settings: Settings, make_route: Callable[[], tuple[Route, bytes]]) -> None:
        assert settings.provider is not None
        self.name = settings.provider
        self.place = orjson.dumps(["outrider semantic 1", settings.provider, settings.model, settings.dimensions])
        self._settings = settings
        self._make_route = make_route
        self._route: Route | None = None
        self._head = b""
        self._asked: dict[Call, _Asked] = {}

    async def vector(self, x: "Exchange", call: Call, text: str) -> bytes | None:
        if len(self._asked) >= MOST_AT_ONCE:
            raise UnaskedError
        asked = self._ask(x, call, text)
        try:
            vector = await asked.waiting
        finally:
            _end(asked.x)  # whoever waited has left; nothing where it is over
        if isinstance(asked.call.error, _NOT_LET):
            raise UnaskedError
        return vector

    def _ask(self, x: "Exchange", call: Call, text: str) -> _Asked:
        route = self._route or self._open()
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "input": text}
        if settings.dimensions is not None:
            body["dimensions"] = settings.dimensions
        other = x.twin(self._head, orjson.dumps(body))
        own = Call(route, call.request_id + b"-semantic")
        own.principal, own.key_id, own.model, own.tags = call.principal, call.key_id, settings.model, (TAG,)
        own.plain_answer, own.max_tokens = True, 0  # a vector is no tokens
        other.state = own
        asked = self._asked[own] = _Asked(other, own, asyncio.get_running_loop().create_future())
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


__all__ = ["TAG", "Maker", "ProviderModel", "Semantic", "UnaskedError", "vector_of"]
