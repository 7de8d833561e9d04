"""Answers from memory: the same question of the same tenant gets the answer that it got before.

Rules
- A question is the same when everything that could change its answer is: provider and address, operation, model, method
  and target, the body in canonical form as it leaves, every field of the head that is not known to change nothing, the
  tenant (`cache.scope`), and where the app's own key passes, that key. All of it is in one hash, which is the key.
- What is kept is the provider's side: pseudonyms as they are, the usage chunk that was asked for by us; whoever is
  served gets it through its own layers. Of the head a few fields are kept and no other.
- What is remembered, and who may be answered so, says `stack.cacheable`. A rule's `cache` decides before it.
- A call that is served borrows no tokens and counts for limits on requests.
- What was asked in other words (`cache.semantic`) is looked for last, among questions that differ in nothing but the
  words of the last text: the same tenant, model, system prompt, tools, parameters and numbers, by hash.
- A call that an alias or a rule leads to other targets is judged before memory is asked: which of them the rules let
  serve it is a part of its question, and where they let none it is refused.
Does not know: where answers are kept, how several calls share one (stack.flight).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, Protocol

from outrider.config.schema import Cache as Settings
from outrider.dialects.streams import framing_of
from outrider.errors import NotCachedError, UpstreamBrokenError, UpstreamConnectError, UpstreamTimeoutError
from outrider.govern.principal import ANONYMOUS
from outrider.stack.cacheable import Requests, is_cacheable, is_complete, unpacked
from outrider.stack.call import Call, LayerHook, Route, Taken
from outrider.stack.copying import Copying
from outrider.stack.digest import tenant_of
from outrider.stack.flight import Flight
from outrider.stack.last_text import numbers, split_last_text
from outrider.stack.likeness import Likeness
from outrider.stack.replay import END, Paced, Whole, chunk
from outrider_ext import http1
from outrider_ext.digest import Canon, DigestError
from outrider_ext.limits import Clock
from outrider_ext.remember import FIXED, OPEN, AskMemory, KeepAnswer, WhereKept
from outrider_ext.series import Tally
from outrider_ext.sse import event_spans

if TYPE_CHECKING:
    from outrider.stack.semantic import Semantic
    from outrider.store.cache_memory import MemoryCache
    from outrider.store.vectors import Vectors
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.http1 import Head
    from outrider_ext.lane import Lane
    from outrider_ext.relay import Exchange

HIT, JOINED, STALE, MISS, BYPASS, SEMANTIC = b"hit", b"joined", b"stale", b"miss", b"bypass", b"semantic"
_SERVED: Final = (HIT, JOINED, STALE, SEMANTIC)
_MISS_LINES: Final = b"x-outrider-cache: miss\r\n"
_BYPASS_LINES: Final = b"x-outrider-cache: bypass\r\n"
_FROM_PROVIDER: Final = (UpstreamConnectError, UpstreamTimeoutError, UpstreamBrokenError)
_NS: Final = 1_000_000_000
_LEAST: Final = {"deterministic": FIXED, "all": OPEN, "rules": FIXED + 1}  # that is asked for without a rule's word
ON, OFF = "cache:on", "cache:off"  # tags by which a rule's `cache` decides

_COOKIE: Final = http1.mask_of(b"set-cookie")
_CONTROLLED: Final = http1.mask_of(b"cache-control")
_H_CONTROL: Final = http1.header_id(b"cache-control")
_H_ACCEPT_ENCODING: Final = http1.header_id(b"accept-encoding")
_H_TYPE: Final = http1.header_id(b"content-type")
_H_ENCODING: Final = http1.header_id(b"content-encoding")
# Fields of an answer that are kept with it. Limits, cookies and dates are of the moment, all else of the connection.
_KEPT: Final = (
    b"content-type", b"content-encoding", b"content-language", b"x-request-id", b"request-id", b"x-amzn-requestid",
    b"apim-request-id", b"openai-version", b"openai-model", b"x-amzn-bedrock-input-token-count",
    b"x-amzn-bedrock-output-token-count",
)  # fmt: skip
# A balancer's cookies say which machine answered; any other cookie says to whom.
_BALANCERS: Final = (b"__cf_bm=", b"_cfuvid=", b"__cflb=")
_KEPT_BYTES: Final = 4096  # of those fields


@dataclass(slots=True)
class Entry:
    """One remembered answer. wire: as a provider would send it. beats: (where a piece ends in it, ms after the first).

    at_ns: wall clock, when it was complete. tokens, cost_nusd: what it took to make it, None while unknown. made: the
    fleet's newest number when it was asked for (store.cache_redis). The rest says whose it is, for invalidation.
    """

    wire: bytes
    beats: tuple[tuple[int, float], ...]
    at_ns: int
    provider: str
    model: str
    principal: str
    tokens: int | None = None
    cost_nusd: int | None = None
    made: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.wire) + 128 * len(self.beats)


class FarStore(Protocol):
    """Where a fleet remembers. Nothing raises: what fails is None, and counted. now: the newest number."""

    @property
    def now(self) -> int: ...

    def attach(self, state: "CacheState") -> None: ...

    async def forget(
        self, *, key: str | None = None, model: str | None = None, principal: str | None = None
    ) -> None: ...

    async def get(self, key: bytes) -> Entry | None: ...

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request's Cache-Control asks. RFC 9111, 5.2.1."""

    reads: bool = True
    keeps: bool = True
    max_age_s: float | None = None
    only_cached: bool = False


_ANY: Final = Wanted()

type Standing = Callable[["Exchange", Call], bytes]


def wanted_of(value: bytes | None) -> Wanted:
    """Of a field's value; what is not understood asks for nothing."""
    if value is None:
        return _ANY
    reads, keeps, only, age = True, True, False, None
    for part in value.lower().split(b","):
        name, _, said = part.strip().partition(b"=")
        if name == b"no-store":
            reads = keeps = False
        elif name == b"no-cache":
            reads = False
        elif name == b"only-if-cached":
            only = True
        elif name == b"max-age":
            said = said.strip(b' "')
            age = float(said) if said.isdigit() and len(said) < 12 else 0.0
    return Wanted(reads, keeps, age, only)


class CacheState:
    """What outlives a reload: the entries, and the calls that others wait for."""

    def __init__(self, memory: "MemoryCache[Entry]", far: FarStore | None = None) -> None:
        self.memory = memory
        self.far = far
        self.flights: dict[bytes, Flight] = {}
        self.copying_bytes = 0  # of answers that are on their way
        self.vectors: Vectors | None = None  # of their questions, where other words may find them
        if far is not None:
            far.attach(self)

    def find_by_vectors(self, max_entries: int | None) -> None:
        """How many questions are remembered for other words; None for no more of that."""
        if max_entries is None:
            self.vectors = None
            self.memory.on_gone = _nobody_told
            return
        if self.vectors is None:
            from outrider.store.vectors import Vectors

            self.vectors = vectors = Vectors(max_entries)
            self.memory.on_gone = lambda key, entry: vectors.drop(key)
        self.vectors.max_entries = max_entries

    def forget_flights(self) -> None:
        """Calls in flight are not joined any more, and what they bring is not kept."""
        for flight in list(self.flights.values()):
            flight.forget()

    def invalidate(self, *, key: str | None = None, model: str | None = None, principal: str | None = None) -> int:
        """Forget all, or what every one of the given names; how many went from the memory."""
        self.forget_flights()
        if key is not None:
            return int(self.memory.remove(bytes.fromhex(key)))
        return self.memory.remove_where(
            lambda _, entry: (
                (model is None or entry.model == model) and (principal is None or entry.principal == principal)
            )
        )


class Cache:
    """The filter that answers. One for a configuration; `state` outlives it. cap_bytes: of a request's body.

    standing(route) -> which targets rules let serve a call of it, as upstream.plans has it; None where none is led.
    """

    def __init__(
        self,
        settings: Settings,
        state: CacheState,
        clock: Clock,
        metrics: "Metrics",
        cap_bytes: int,
        semantic: "Semantic | None" = None,
        standing: Callable[[Route], Standing | None] = lambda route: None,
    ) -> None:
        self.settings, self.state, self.clock, self.semantic = settings, state, clock, semantic
        self.standing = standing
        self.canon = Canon(max_bytes=cap_bytes)
        self._metrics = metrics
        self._keeps_ns = int((settings.ttl_s + max(settings.stale_while_revalidate_s, settings.stale_if_error_s)) * _NS)

    def covers(self, route: Route) -> bool:
        return route.known and route.method == b"POST" and is_cacheable(route.operation, route.binding.provider.kind)

    def body(self, route: Route) -> LayerHook | None:
        return _Ask(self, route).hook if self.covers(route) else None

    def tally(self, route: Route, result: bytes) -> Tally:
        return self._metrics.cache.tally((route.provider, result.decode("ascii")))

    def count(self, route: Route, result: bytes) -> None:
        self.tally(route, result).n += 1

    def saved(self, route: Route, model: str | None, entry: Entry, times: int = 1) -> None:
        label = (route.provider, self._metrics.model(model))
        if entry.tokens:
            self._metrics.saved_tokens.add(label, entry.tokens * times)
        if entry.cost_nusd:
            self._metrics.saved_nusd.add(label, entry.cost_nusd * times)

    # -- what is old

    def age_ns(self, entry: Entry, x: "Exchange") -> int:
        return max(self.clock.wall(x.started_ns) - entry.at_ns, 0)

    def serve(self, x: "Exchange", call: Call, entry: Entry, state: bytes, similarity: float | None = None) -> None:
        """Answer with it, now."""
        self.mark(x, call, entry, state, similarity)
        hub = x.client.hub
        beats = entry.beats
        rate = self.settings.tokens_per_s
        if not beats or (self.settings.pace == "none") or hub.loop is None:
            Whole(hub, entry.wire).begin(x)
        else:
            if rate is not None:
                beats = tuple((end, at * 1000 / rate) for at, (end, _) in enumerate(beats))
            Paced(hub, entry.wire, beats, hub.loop).begin(x)

    def mark(self, x: "Exchange", call: Call, entry: Entry, state: bytes, similarity: float | None) -> None:
        """Say what it is answered with, and count it."""
        if call.translation is not None:  # of a target that failed: what is remembered is in the app's own dialect
            call.translation = call.translating = call.spoken_kind = None
            call.to = call.route
        call.cache = state
        call.answer_lines = b"x-outrider-cache: %b\r\nage: %d\r\n" % (state, self.age_ns(entry, x) // _NS)
        if similarity is not None:
            call.answer_lines += b"x-outrider-similarity: %.4f\r\n" % similarity
        self.count(call.route, state)
        self.saved(call.route, call.model, entry)


class _Ask:
    """The body hook of one route."""

    def __init__(self, cache: Cache, route: Route) -> None:
        self._cache, self._route = cache, route
        self._requests = requests = Requests(route.operation, route.binding.provider.kind, route.model)
        self._settings, self._state = cache.settings, cache.state
        to = route.binding.connect_to  # not the address that was dialled: a provider has many
        self._place = (
            b"outrider cache 1", route.provider.encode(), route.destination_host.encode(),
            b"%d" % route.destination_port, repr(to).encode(), route.operation.name.encode(),
        )  # fmt: skip
        self._likeness = Likeness(route)
        self._standing = cache.standing(route)
        self._least = _LEAST[cache.settings.serve]
        bypassed = cache.tally(route, BYPASS)
        self.hook = AskMemory(
            requests.question, cache.canon, self._least, bypassed, _BYPASS_LINES, self._parts_of, self.careful, self.ask
        )

    def careful(self, x: "Exchange", call: Call) -> Awaitable[Taken | None] | Taken | None:
        """Of a call about which a rule, a redaction or Cache-Control has something to say."""
        head, body = x.head, x.body
        wanted = wanted_of(head.get(_H_CONTROL)) if head.mask & _CONTROLLED else _ANY
        assert body is not None
        key = self.hook.key_of(x, call) if self._may_be_cached(body, call) else None
        if key is not None and (wanted.keeps or wanted.only_cached):
            return self._ask(x, call, key, wanted)
        self.hook.bypass(call)
        return None

    def ask(self, x: "Exchange", call: Call, key: bytes) -> Awaitable[Taken | None] | Taken | None:
        return self._ask(x, call, key, _ANY)

    def _ask(self, x: "Exchange", call: Call, key: bytes, wanted: Wanted) -> Awaitable[Taken | None] | Taken | None:
        among = self._standing(x, call) if self._standing is not None else b""
        if among:
            key = sha256(key + among).digest()
        if wanted.reads:
            entry = self._state.memory.get(key)
            if entry is not None:
                taken = self._judge(x, call, key, entry, wanted)
                if taken is not None:
                    return taken
            flight = self._state.flights.get(key) if self._settings.single_flight else None
            if flight is not None and flight.can_join:
                return flight.join(x, call)
        if wanted.only_cached:
            return self._only_cached(x, call, key, wanted)
        return self._lead(x, call, key, wanted, among)

    def _may_be_cached(self, body: bytes, call: Call) -> bool:
        tags = call.tags
        if tags and OFF in tags:
            return False
        redacting = call.redacting
        if redacting is not None and redacting.vault.by_token:
            return False  # pseudonyms are new for every exchange: nobody will ask this again
        least = OPEN if tags and ON in tags else self._least
        return self._requests.question.read(body) >= least

    # -- the key

    def _parts_of(self, x: "Exchange", call: Call) -> tuple[bytes, ...]:
        """All but the body."""
        return (
            *self._place, x.method, call.path or x.target[self._route.prefix_bytes :],
            (call.model or "").encode("utf-8", "surrogatepass"),
            self._tenant(call), self._coding(x, call), self._likeness.of(x.head),
            call.head_edits.canonical() if call.head_edits is not None else b"",
            repr(call.routed).encode("utf-8", "surrogatepass"),
        )  # fmt: skip

    def _tenant(self, call: Call) -> bytes:
        scope = self._settings.scope
        if scope == "global":
            return b""
        if scope == "team":
            return b"t" + tenant_of(call).encode("utf-8", "surrogatepass")
        return b"p" + (call.principal or ANONYMOUS).id.encode("utf-8", "surrogatepass")

    def _coding(self, x: "Exchange", call: Call) -> bytes:
        """In which codings the answer will be asked for (layers.HeadWriter)."""
        value = x.head.get(_H_ACCEPT_ENCODING) or b""
        if call.plain_answer:
            return b"identity"
        if not self._route.reads_answer:
            return value
        return b"gzip" if b"gzip" in value and not call.stream else b"identity"

    # -- what is there

    def _judge(self, x: "Exchange", call: Call, key: bytes, entry: Entry, wanted: Wanted) -> Taken | None:
        """Serve it if it is good enough; else remember it for the case that the provider fails."""
        cache, settings = self._cache, self._settings
        age_ns = cache.age_ns(entry, x)
        if wanted.max_age_s is not None and age_ns > wanted.max_age_s * _NS:
            return None
        ttl_ns = settings.ttl_s * _NS
        if age_ns <= ttl_ns:
            cache.serve(x, call, entry, HIT)
            return _TAKEN
        if age_ns <= ttl_ns + settings.stale_while_revalidate_s * _NS:
            refresh = self._refresh(x, call, key) if key not in self._state.flights else _TAKEN
            cache.serve(x, call, entry, STALE)
            return refresh
        if age_ns <= ttl_ns + settings.stale_if_error_s * _NS:
            call.stale = _Stale(cache, entry).answer
        return None

    def _refresh(self, x: "Exchange", call: Call, key: bytes) -> Taken:
        twin = x.twin()
        twin.state = again = call.twin(b"-refresh")
        self._lead(twin, again, key, _ANY, b"", is_refresh=True)
        return _Refresh(twin, again)

    # -- what is not

    def _lead(
        self, x: "Exchange", call: Call, key: bytes, wanted: Wanted, among: bytes, *, is_refresh: bool = False
    ) -> Awaitable[Taken | None] | None:
        call.cache, call.answer_lines = MISS, _MISS_LINES
        self._cache.count(self._route, MISS)
        flights = self._state.flights
        flight = Flight(x, call, key, self._settings.answer_bytes, self)
        flight.is_refresh = is_refresh
        if self._state.far is not None:
            flight.made = self._state.far.now
        if self._settings.pace == "recorded":
            flight.now_ns = monotonic_ns
        call.keeping = flight
        if self._settings.single_flight and key not in flights:
            flights[key] = flight
        if not wanted.reads or is_refresh:
            return None
        other = self._in_other_words(x, call, among) if self._cache.semantic is not None else None
        if self._state.far is None and other is None:
            return None
        return self._ask_elsewhere(x, call, key, flight, wanted, other)

    async def _ask_elsewhere(
        self, x: "Exchange", call: Call, key: bytes, flight: Flight, wanted: Wanted, other: "_InOtherWords | None"
    ) -> Taken | None:
        if self._state.far is not None:
            taken = await self._ask_far(x, call, key, flight, wanted)
            if taken is not None or x.ended:
                return taken
        return await self._ask_alike(x, call, flight, wanted, other) if other is not None else None

    async def _ask_far(self, x: "Exchange", call: Call, key: bytes, flight: Flight, wanted: Wanted) -> Taken | None:
        entry = await self._from_far(x, key)
        taken = self._judge(x, call, key, entry, wanted) if entry is not None else None
        if entry is not None and taken is not None:
            call.keeping = None
            flight.kept = entry
            flight.serve(entry.wire)
            self._cache.saved(self._route, call.model, entry, flight.joined_count)
        return taken

    async def _from_far(self, x: "Exchange", key: bytes) -> Entry | None:
        assert self._state.far is not None
        entry = await self._state.far.get(key)
        if entry is None or x.ended:
            return None
        self._state.memory.put(key, entry)
        return entry

    async def _only_cached(self, x: "Exchange", call: Call, key: bytes, wanted: Wanted) -> Taken | None:
        if wanted.reads and self._state.far is not None:
            entry = await self._from_far(x, key)
            taken = self._judge(x, call, key, entry, wanted) if entry is not None else None
            if taken is not None or x.ended:
                return taken
        raise NotCachedError("the request asks for a remembered answer only, and there is none")

    # -- in other words

    def _in_other_words(self, x: "Exchange", call: Call, among: bytes) -> "_InOtherWords | None":
        """None where an answer to other words may not be given for this call."""
        semantic, body = self._cache.semantic, x.body
        assert semantic is not None
        assert body is not None
        if self._requests.question.read(body) < FIXED and ON not in call.tags:
            return None
        split = split_last_text(self._route.operation.dialect, body)
        if split is None:
            return None
        rest, text = split
        if len(text.encode("utf-8", "surrogatepass")) > semantic.settings.text_bytes:
            return None
        said = (semantic.place, numbers(text).encode(), among, *self._parts_of(x, call))
        canon = self._cache.canon
        try:
            return _InOtherWords(canon.digest(rest, said), canon.digest(body, (semantic.place,)), text)
        except DigestError:
            return None

    async def _ask_alike(
        self, x: "Exchange", call: Call, flight: Flight, wanted: Wanted, asked: "_InOtherWords"
    ) -> Taken | None:
        """Whether the answer to a question of nearly the same meaning is there."""
        cache, semantic, state = self._cache, self._cache.semantic, self._state
        assert semantic is not None
        vector = semantic.known(asked.question) or await semantic.vector(x, call, asked.question, asked.text)
        vectors = state.vectors
        if vector is None or vectors is None or x.ended:
            return None
        flight.vector = (asked.bucket, vector)
        near = vectors.nearest(asked.bucket, vector)
        if near is None or near[1] < semantic.settings.threshold:
            return None
        entry, similarity = state.memory.get(near[0]), min(near[1], 1.0)
        if entry is None or not self._is_fresh(x, entry, wanted, semantic.settings.ttl_s):
            return None
        call.keeping = call.stale = None
        cache.serve(x, call, entry, SEMANTIC, similarity)
        flight.serve(entry.wire, lambda other: cache.mark(x, other, entry, SEMANTIC, similarity))
        return _TAKEN

    def _is_fresh(self, x: "Exchange", entry: Entry, wanted: Wanted, ttl_s: float | None) -> bool:
        bounds = (self._settings.ttl_s, ttl_s, wanted.max_age_s)
        return self._cache.age_ns(entry, x) <= min(bound for bound in bounds if bound is not None) * _NS

    # -- of flights

    def over(self, flight: Flight) -> None:
        if self._state.flights.get(flight.key) is flight:
            del self._state.flights[flight.key]

    def holds(self, more_bytes: int) -> bool:
        state = self._state
        state.copying_bytes += more_bytes
        return state.copying_bytes <= state.memory.max_bytes

    def scattered(self, call: Call) -> None:
        call.cache, call.answer_lines = MISS, _MISS_LINES
        self._cache.count(self._route, MISS)

    def joined(self, call: Call) -> None:
        call.cache, call.answer_lines = JOINED, b"x-outrider-cache: hit\r\nage: 0\r\n"
        self._cache.count(self._route, JOINED)

    # -- what came

    def done(self, flight: Flight, body: bytes) -> bytes | None:
        """The whole answer's wire form, if it is complete; then it is remembered too."""
        plain = unpacked(body, flight.coding, self._settings.answer_bytes)
        if plain is None or not is_complete(self._route.operation, flight.kind, plain):
            return None
        assert flight.leader is not None
        call = flight.leader[1]
        wire, beats = self._wire(flight, body)
        entry = Entry(
            wire, beats, self._cache.clock.wall(monotonic_ns()), self._route.provider, flight.model or "",
            (call.principal or ANONYMOUS).id, made=flight.made,
        )  # fmt: skip
        if not flight.is_forgotten:
            flight.kept = entry
            self._remember(flight, entry)
            self._cache.count(self._route, b"stored")
        return wire

    def _remember(self, flight: Flight, entry: Entry) -> None:
        memory, vectors = self._state.memory, self._state.vectors
        if vectors is None:
            memory.put(flight.key, entry)
            return
        vector = flight.vector or vectors.get(flight.key)  # an answer that is renewed keeps its question's
        memory.put(flight.key, entry)
        if vector is not None and flight.key in memory:
            vectors.put(vector[0], flight.key, vector[1])

    def _wire(self, flight: Flight, body: bytes) -> tuple[bytes, tuple[tuple[int, float], ...]]:
        """With a length, or in the pieces in which it will be given."""
        if not flight.is_stream:
            lead = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n" % (flight.lines, len(body))
            return lead + body, ()
        ends: list[tuple[int, float]] = [(len(body), 0.0)]
        if self._settings.tokens_per_s is not None:
            ends = [(end, 0.0) for _, end in event_spans(body)]
            ends[-1:] = [(len(body), 0.0)]
        elif flight.beats:
            first_ns = flight.beats[0][1]
            ends = [(end, (at_ns - first_ns) / 1e6) for end, at_ns in flight.beats]
        out, size, at, beats = [flight.head], len(flight.head), 0, []
        for end, at_ms in ends:
            out.append(chunk(body[at:end]))
            size, at = size + len(out[-1]), end
            beats.append((size, at_ms))
        return b"".join([*out, END]), tuple(beats) if len(beats) > 1 else ()


@dataclass(frozen=True, slots=True)
class _InOtherWords:
    """A question, and which others may be compared with it: those with the same `bucket`."""

    bucket: bytes
    question: bytes
    text: str


class _Refresh(Taken):
    """Served with what is old; its twin goes on to the provider."""

    def __init__(self, twin: "Exchange", call: Call) -> None:
        self._twin, self._call = twin, call

    def park(self, lane: "Lane", stage: int) -> None:
        lane.resume(self._twin, self._call, stage)


_TAKEN: Final = Taken()


class _Stale:
    """`call.stale`: what is answered where the provider fails."""

    def __init__(self, cache: Cache, entry: Entry) -> None:
        self._cache, self._entry = cache, entry

    def answer(self, x: "Exchange", call: Call) -> bool:
        flight: Flight | None = call.keeping
        call.keeping = None
        if flight is not None:
            flight.scatter()
        self._cache.serve(x, call, self._entry, STALE)
        return True


class Keep:
    """The innermost filter: copies good answers as they pass; what is served again is not counted as used."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def answer(self, route: Route) -> LayerHook | None:
        return KeepAnswer(self._answer) if self._cache.covers(route) else None

    def _answer(self, x: "Exchange", call: Call) -> None:
        head = x.answer_head
        if call.cache in _SERVED:
            call.reader = None  # what it used was counted when it was made
            if not call.strip_usage:
                x.tap_needle = None
            return
        if call.stale is not None and (x.status >= 500 or x.status == 429):
            raise UpstreamBrokenError(f"{call.to.provider} answered {x.status}")  # and the desk gives what is old
        flight: Flight | None = call.keeping
        if flight is None:
            return
        if call.translation is not None:  # it is copied behind the translation
            return
        speaks = call.to.operation.dialect == call.route.operation.dialect
        lines = kept_lines(head) if x.status == 200 and speaks else None
        if lines is None:
            call.keeping = None
            flight.scatter()
            return
        kind, coding = (head.get(_H_TYPE) or b"").lower(), head.get(_H_ENCODING)
        flight.begin(lines, kind, coding.lower() if coding else None, is_stream=bool(framing_of(kind)))
        x.sink = flight.take

    def translated(self, route: Route) -> LayerHook | None:
        return self._translated if self._cache.covers(route) else None

    def _translated(self, x: "Exchange", call: Call) -> None:
        """What is kept of it is what the app gets, with pseudonyms as they are."""
        if call.translation is None or call.spoken_kind is None:
            return
        from outrider.stack.translate import wants_array

        flight: Flight | None = call.keeping
        if flight is not None and (x.status != 200 or kept_lines(x.answer_head) is None or wants_array(x, call)):
            call.keeping = None
            flight.scatter()
            flight = None
        strips = call.dispatch is not None and call.dispatch.strip_usage
        if flight is None and not strips:
            return
        if flight is not None:
            kind = call.spoken_kind
            flight.begin(b"content-type: %b\r\n" % kind, kind.lower(), None, is_stream=bool(framing_of(kind)))
        Copying(flight.take if flight is not None else None, strips=strips).begin(x)

    def end(self, route: Route) -> LayerHook | None:
        return WhereKept(self._end) if self._cache.covers(route) else None

    def _end(self, x: "Exchange", call: Call) -> None:
        flight: Flight = call.keeping
        flight.ended(is_own=not isinstance(call.error, _FROM_PROVIDER))


class Books:
    """Behind what reads usage and prices it: what an answer took to make is kept with it, what was saved is counted."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def end(self, route: Route) -> LayerHook | None:
        cache = self._cache
        if not cache.covers(route):
            return None

        def hook(x: "Exchange", call: Call) -> None:
            flight: Flight = call.keeping
            entry: Entry | None = flight.kept
            if entry is None:
                return
            usage = call.usage
            if usage is not None:
                entry.tokens = usage.input_tokens + usage.output_tokens
                entry.cost_nusd = call.cost_nusd
            if flight.joined_count:
                cache.saved(route, call.model, entry, flight.joined_count)
            if cache.state.far is not None:
                cache.state.far.put(flight.key, entry, cache._keeps_ns / _NS)

        return WhereKept(hook)


def kept_lines(head: "Head") -> bytes | None:
    """The fields of an answer that are kept with it; None where it may not be kept."""
    if head.mask & _COOKIE:
        for name, value in head.items():
            if name == b"set-cookie" and not value.startswith(_BALANCERS):
                return None
    varies = head.get_name(b"vary")
    if varies is not None and b"*" in varies:
        return None
    found = [(name, head.get_name(name)) for name in _KEPT]
    lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in found if value is not None])
    return lines if len(lines) <= _KEPT_BYTES else None


def _nobody_told(key: bytes, entry: Entry) -> None:
    """No vectors are kept."""


def open_state(settings: Settings, make_far: Callable[[], FarStore | None]) -> CacheState:
    """The state of a configuration that remembers; imported only then."""
    from outrider.store.cache_memory import MemoryCache

    return CacheState(MemoryCache(settings.memory_bytes), make_far())


__all__ = [
    "BYPASS", "HIT", "JOINED", "MISS", "OFF", "ON", "SEMANTIC", "STALE", "Books", "Cache", "CacheState", "Entry",
    "Keep", "open_state", "wanted_of",
]  # fmt: skip
