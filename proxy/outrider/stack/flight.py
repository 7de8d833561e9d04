"""One call that several identical ones wait for: its leader is sent, its followers are given the same answer.

Rules
- What is shared is the provider's answer as it came; each follower's own layers see it. A stream is given on as it
  comes; any other answer only once it is complete and known to be good.
- A follower that was sent nothing yet goes its own way when the leader's call fails, is answered with an error, or
  grows beyond what is kept for followers; one that was sent something is cut off as the leader's app is.
- Whoever leaves, leaves alone: while a follower is there the call goes on without its leader. Where the leader goes
  before it was sent, the next in line leads. When nobody is left, the call is cancelled.
- What is kept for those who read slowly is bounded; one that falls behind by more is cut off.
Does not know: what makes two calls identical, what becomes of the answer later.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from outrider.stack.call import Call, Parked
from outrider.stack.replay import END, Told, Whole, chunk

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange


class Follower(Parked):
    """A call that is answered with what the flight brings."""

    def __init__(self, flight: "Flight", x: "Exchange", call: Call) -> None:
        super().__init__(x, call)
        self.flight = flight
        self.index = 0  # of the piece that comes next
        self.source: Told | None = None

    def arrived(self) -> None:
        self.flight.arrived(self)

    def cancel(self) -> None:
        self.flight.left(self)


class Host(Protocol):
    """Who makes flights.

    done(flight, body) -> the whole answer's wire form where it is good, else None; asked once, when it is complete.
    over(flight): it can be joined no more. scattered(call), joined(call): told of each follower, as it happens.
    """

    def done(self, flight: "Flight", body: bytes) -> bytes | None: ...

    def over(self, flight: "Flight") -> None: ...

    def scattered(self, call: Call) -> None: ...

    def joined(self, call: Call) -> None: ...

    def holds(self, more_bytes: int) -> bool:
        """Told of all that flights hold, and of what they let go (negative). False: it is too much in all."""
        ...


class Flight:
    """key: under which what it brings is kept. cap_bytes: of what is kept of the answer meanwhile."""

    __slots__ = (
        "_bytes", "_cap_bytes", "_held_bytes", "_host", "_is_ended", "_is_gone", "_is_over", "_is_overflown",
        "_offset", "_pieces", "beats", "coding", "followers", "head", "is_forgotten", "is_refresh", "is_stream",
        "joined_count", "kept", "key", "kind", "leader", "lines", "made", "model", "now_ns", "vector",
    )  # fmt: skip

    def __init__(self, x: "Exchange", call: Call, key: bytes, cap_bytes: int, host: Host) -> None:
        self.key = key
        self.model = call.model  # as it was asked for
        self.leader: tuple[Exchange, Call] | None = (x, call)
        self.followers: dict[Follower, None] = {}
        self.head: bytes = b""  # of the answer, in its wire form, as chunks follow it
        self.lines: bytes = b""  # the head's fields, without a length
        self.kind: bytes = b""
        self.coding: bytes | None = None
        self.is_stream = False
        self.beats: list[tuple[int, int]] = []  # (bytes of the body so far, ns)
        self.is_refresh = False  # made for nobody, so that it goes on when nobody is there
        self.joined_count = 0
        self.kept: Any = None  # what was made of it
        self.made = 0  # the fleet's newest number when it began
        self.vector: tuple[bytes, bytes] | None = None  # by which it is found in other words: (bucket, vector)
        self.is_forgotten = False  # what it brings is not to be kept
        self.now_ns: Callable[[], int] | None = None  # where the times of pieces are wanted
        self._cap_bytes = cap_bytes
        self._host = host
        self._pieces: list[bytes] = []
        self._offset = 0  # of the first piece that is kept
        self._bytes = self._held_bytes = 0
        self._is_over = self._is_gone = self._is_ended = self._is_overflown = False

    @property
    def can_join(self) -> bool:
        return not self._is_over and not self._is_gone

    def join(self, x: "Exchange", call: Call) -> Follower:
        return Follower(self, x, call)

    def forget(self) -> None:
        """Nobody joins any more, and what it brings is not kept; who follows already gets it."""
        self.is_forgotten = True
        self._close_table()

    # -- followers come and go

    def arrived(self, follower: Follower) -> None:
        if self._is_over:
            self._scatter(follower)
            return
        self.followers[follower] = None
        self._hold_leader()
        if self.is_stream and self._pieces:
            self._start(follower)

    def left(self, follower: Follower) -> None:
        self.followers.pop(follower, None)
        self._hold_leader()
        self._let_go()

    def _hold_leader(self) -> None:
        """The leader's call goes on without its app as long as somebody waits for it."""
        if self.leader is None or self._is_ended:
            return
        x = self.leader[0]
        x.goes_on = bool(self.followers)
        if x.orphaned and not x.ended and not self.followers and not self.is_refresh:
            x.abort("client left")

    # -- the leader's answer

    def begin(self, lines: bytes, kind: bytes, coding: bytes | None, *, is_stream: bool) -> None:
        """A good answer's head came."""
        self.lines, self.kind, self.coding, self.is_stream = lines, kind, coding, is_stream
        self.head = b"HTTP/1.1 200 OK\r\n" + lines + b"transfer-encoding: chunked\r\n\r\n"

    def take(self, x: "Exchange", piece: bytes) -> None:
        """The relay's sink: a piece of the answer, b"" at its end."""
        if not piece:
            self._finish()
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._held_bytes += len(piece)
        has_room = self._host.holds(len(piece))
        if self.now_ns is not None:
            self.beats.append((self._bytes, self.now_ns()))
        if not self._is_overflown and (self._bytes > self._cap_bytes or not has_room):
            self._overflow()
        if self.is_stream and self.followers:
            for follower in list(self.followers):
                if follower.source is None:
                    self._start(follower)
                else:
                    self._feed(follower)
        if self._is_overflown:
            self._trim()

    def _overflow(self) -> None:
        """Too long to be kept: nobody joins any more, and who was sent nothing goes its own way."""
        self._is_overflown = True
        self._close()
        for follower in [follower for follower in self.followers if follower.source is None]:
            self._scatter(follower)

    def _trim(self) -> None:
        """Keep only what somebody has yet to read, and not more than the cap of it."""
        while self._pieces and self._held_bytes > self._cap_bytes:
            for follower in [one for one in self.followers if one.index <= self._offset]:
                self._cut(follower)
            self._drop_first()
        lowest = min((one.index for one in self.followers), default=self._offset + len(self._pieces))
        while self._pieces and self._offset < lowest:
            self._drop_first()

    def _drop_first(self) -> None:
        size = len(self._pieces.pop(0))
        self._held_bytes -= size
        self._host.holds(-size)
        self._offset += 1

    def _let_go(self) -> None:
        """Once it has ended, and nobody reads any more."""
        if self._is_ended and not self.followers and self._held_bytes:
            self._pieces.clear()
            size, self._held_bytes = self._held_bytes, 0
            self._host.holds(-size)

    def _finish(self) -> None:
        self._is_ended = True
        wire = None if self._is_overflown else self._host.done(self, b"".join(self._pieces))
        self._close()
        for follower in list(self.followers):
            if self.is_stream:
                self._feed(follower) if follower.source is not None else self._scatter(follower)
            elif wire is not None:
                self._give_whole(follower, wire)
            else:
                self._scatter(follower)
        self._let_go()

    def ended(self, *, is_own: bool) -> None:
        """The leader's exchange is over. is_own: for a reason that is not the others'."""
        if self._is_ended:
            return
        if is_own and not self.head and self.followers:
            self.leader = None
            loop = self._any_loop()
            if loop is None:
                self._promote()
            else:
                loop.call_soon(self._promote)
            return
        self.scatter()

    def scatter(self) -> None:
        """The answer is not to be shared: each goes its own way, or is cut off where it was sent something."""
        self._is_ended = True
        self._close()
        for follower in list(self.followers):
            if follower.source is None:
                self._scatter(follower)
            else:
                self._cut(follower)
        self._let_go()

    def serve(self, wire: bytes, tell: Callable[[Call], None] | None = None) -> None:
        """What is asked for was found elsewhere. tell(call): told of each follower, instead of the host."""
        self._is_ended = True
        self._close()
        for follower in list(self.followers):
            self._give_whole(follower, wire, tell)

    # -- one follower

    def _any_loop(self) -> Any:
        return next(iter(self.followers)).x.client.hub.loop

    def _promote(self) -> None:
        if self._is_over:
            return
        for follower in list(self.followers):
            del self.followers[follower]
            if not follower.x.ended:
                self.leader = (follower.x, follower.call)
                follower.call.keeping = self
                self._host.scattered(follower.call)
                self._hold_leader()
                follower.go_on()
                return
        self._close()

    def _start(self, follower: Follower) -> None:
        x = follower.x
        self._host.joined(follower.call)
        self.joined_count += 1
        follower.source = source = Told(x.client.hub, lambda: self._feed(follower), lambda: self.left(follower))
        source.begin(x)
        source.give(self.head)
        self._feed(follower)

    def _feed(self, follower: Follower) -> None:
        source = follower.source
        assert source is not None
        while follower.index - self._offset < len(self._pieces):
            if source.is_paused or source.is_over:
                return
            piece = self._pieces[follower.index - self._offset]
            follower.index += 1
            source.give(chunk(piece))
        if self._is_ended and follower in self.followers and not source.is_over and not source.is_paused:
            del self.followers[follower]
            source.give(END)
            self._let_go()

    def _give_whole(self, follower: Follower, wire: bytes, tell: Callable[[Call], None] | None = None) -> None:
        self.followers.pop(follower, None)
        (tell or self._host.joined)(follower.call)
        self.joined_count += 1
        Whole(follower.x.client.hub, wire).begin(follower.x)

    def _scatter(self, follower: Follower) -> None:
        self.followers.pop(follower, None)
        self._host.scattered(follower.call)
        follower.go_on()

    def _cut(self, follower: Follower) -> None:
        self.followers.pop(follower, None)
        assert follower.source is not None
        follower.source.end_cut()

    def _close(self) -> None:
        self._is_over = True
        self._close_table()

    def _close_table(self) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._host.over(self)
