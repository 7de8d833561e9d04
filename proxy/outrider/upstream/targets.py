"""Where a call can be served, and in which order: the targets of one alias, or of one rule's route.

Rules
- A target leads to a provider's exact origin, by a route of its own; what a credential may be added for is decided
  there by the same table as everywhere (stack.attempt). It is made once for each route that apps call, and remembered.
- A target that cannot have what a call needs is no candidate. One whose breaker or cap holds it back is one for later.
- Where the dialects differ a translator is needed; without one the target is none for that route.

Does not know: sockets, timers, how an attempt ends (lanes.dispatcher).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from outrider.config.schema import AttemptTimeouts, Hedge, Retry
from outrider.govern.queues import Room
from outrider.providers.registry import Binding
from outrider.stack.call import Call, Route, Taken
from outrider.upstream.health import Health
from outrider.upstream.needs import Needs
from outrider.upstream.retries import RetryBudget
from outrider.upstream.strategies import (
    Turn,
    cheapest,
    latency,
    least_busy,
    rotated,
    sticky_draw,
    usable_first,
    weighted,
)
from outrider_ext.relay import Exchange

if TYPE_CHECKING:
    from outrider.dialects.canonical import Media

EVERYTHING = frozenset({"vision", "tools", "json", "reasoning"})


# (exchange, call, body) -> the answer
type Answer = Callable[[Exchange, Call, bytes], Taken]


class Translator(Protocol):
    """From the dialect that an app speaks to a target's, and back (stack.translate). It keeps nothing of a call."""

    def remote_media(self, call: Call, body: bytes, model: str | None = None) -> "list[Media]": ...
    def request(
        self, call: Call, target: "Target", body: bytes, fetched: "Mapping[str, Media] | None" = None
    ) -> tuple[bytes, bytes, bytes]: ...
    def answer(self, x: Exchange, call: Call) -> None: ...


# (call, status, body) -> the whole HTTP/1.1 answer that says the same by its status. Raises: SidecarError.
type Restate = Callable[[Call, int, bytes], bytes]


@dataclass(eq=False, slots=True)
class Target:
    """One place for calls of one route.

    name: provider/model. model: the name that is sent; None is as asked. to: the route that leads there, with the pool,
    the sender, and the hooks of its answers. path: what is asked there, None as the app asked. in_path: the model
    stands in the path and not in the body. answer: nobody is asked, we answer it. has: of what `Needs.has` holds.
    """

    name: str
    binding: Binding
    model: str | None
    to: Route
    health: Health
    path: bytes | None = None
    in_path: bool = False
    translator: Translator | None = None
    weight: float = 1.0
    has: frozenset[str] = EVERYTHING
    context_tokens: int | None = None
    max_concurrent: int | None = None
    answer: Answer | None = None

    def can(self, needs: Needs) -> bool:
        if not needs.has <= self.has:
            return False
        return self.context_tokens is None or needs.tokens + max(needs.max_tokens, 0) <= self.context_tokens

    @property
    def restate(self) -> Restate | None:
        """For a provider whose answers say only in their body what became of a call: stack.predictions."""
        return getattr(self.translator, "restate", None)

    @property
    def credential_mark(self) -> object:
        return getattr(self.to.attempt, "credential_mark", None)

    @property
    def is_full(self) -> bool:
        return self.max_concurrent is not None and self.health.in_flight >= self.max_concurrent

    def is_usable(self, now_ns: int) -> bool:
        breaker = self.health.breaker
        if breaker.out_mark is not None:
            breaker.credential_is(self.credential_mark)
        return not self.is_full and breaker.admits(now_ns)


@dataclass(eq=False, slots=True)
class Group:
    """What is the same for all calls of one alias. smart(needs, call) -> the name of the target to try first, or None.

    cost_of(target, needs) -> estimated cost, None where the price is not known; input_cost_of
    (target, tokens) -> the same in nano-dollars for the input alone. reads_body: choosing needs the parsed
    body. hedged: hedges among the last calls, as a budget.
    """

    name: str
    strategy: str
    retry: Retry
    timeouts: AttemptTimeouts
    budget: RetryBudget
    sticky: str = "none"
    hedge: Hedge | None = None
    hedges: RetryBudget | None = None
    smart: Callable[[Needs, Call], str | None] | None = None
    cost_of: Callable[[Target, Needs], float | None] | None = None
    input_cost_of: Callable[[Target, int], int | None] | None = None
    reads_body: bool = False
    max_wait_s: float = 30.0
    priority_of: Callable[[Any], int] = lambda principal: 0
    static_answer: str | None = None
    room: Room = field(default_factory=lambda: Room(1000))
    turn: Turn = field(default_factory=Turn)

    def ordered(
        self,
        targets: Sequence[Target],
        needs: Needs,
        call: Call,
        key: bytes | None,
        now_ns: int,
        random: Callable[[], float],
    ) -> list[Target]:
        """The candidates, the one to try first first; [] when none can serve it. key: what it is sticky by."""
        able = [target for target in targets if target.can(needs)] if self.reads_body else list(targets)
        if len(able) < 2:
            return able
        if self.strategy == "round-robin":
            chosen = rotated(able, self.turn.next(len(able)))
        elif self.strategy == "weighted":
            chosen = weighted(able, random() if key is None else sticky_draw(key))
        elif self.strategy == "least-busy":
            chosen = least_busy(able)
        elif self.strategy == "latency":
            chosen = latency(able, now_ns, random)
        elif self.strategy == "cost" and self.cost_of is not None:
            cost_of = self.cost_of
            chosen = cheapest(able, lambda target: cost_of(target, needs))
        elif self.strategy == "smart" and self.smart is not None:
            wanted = self.smart(needs, call)
            chosen = sorted(able, key=lambda target: target.name != wanted) if wanted is not None else able
        else:
            chosen = able
        if key is not None and self.strategy != "weighted":  # the same one first for the same key, the rest as they are
            first = weighted(able, sticky_draw(key))[0]
            chosen = [first, *(target for target in chosen if target is not first)]
        chosen = usable_first(chosen, lambda target: target.is_usable(now_ns))
        for target in chosen[1:]:
            target.health.passed_over += 1
        chosen[0].health.passed_over = 0
        return chosen
