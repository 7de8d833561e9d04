"""Whatever apps and providers do and in whatever order, each app gets one whole answer or a break, and nothing else."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ext.relay_rig import FakePool, FakeTransport
from outrider.stack.flight import Flight
from outrider_ext.relay import Downstream, Exchange, Hub, Owner, Upstream
from support.messages import read_answers

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FAILED = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"
PIECES = [b"data: %d %s\n\n" % (number, b"x" * (number * 7)) for number in range(8)]
BODY = b"".join(PIECES)
CAP_BYTES = 400  # of 264: a little more makes a flight overflow


class Provider:
    """One call at the provider."""

    def __init__(self, sky: "Sky") -> None:
        self.connection = Upstream(sky.hub, FakePool(SimpleNamespace()))  # type: ignore[arg-type]
        self.wire = FakeTransport(self.connection)
        self.said = -1  # pieces after the head

    @property
    def is_over(self) -> bool:
        return self.said > len(PIECES) or self.wire.is_closed

    def go_on(self) -> None:
        if self.is_over:
            return
        if self.said < 0:
            self.wire.give(HEAD)
        elif self.said < len(PIECES):
            self.wire.give(b"%x\r\n%b\r\n" % (len(PIECES[self.said]), PIECES[self.said]))
        else:
            self.wire.give(b"0\r\n\r\n")
        self.said += 1

    def fail(self, how: int) -> None:
        if not self.is_over:
            if how and self.said < 0:
                self.wire.give(FAILED)
            else:
                self.wire.lose(ConnectionResetError())
            self.said = len(PIECES) + 1


class Sky(Owner):
    """An owner that makes flights of all that is asked. cap_bytes: of one."""

    def __init__(self, cap_bytes: int, *, streams: bool) -> None:
        self.hub = Hub(self, None)  # type: ignore[arg-type]
        self.cap_bytes, self.streams = cap_bytes, streams
        self.flight: Flight | None = None
        self.providers: list[Provider] = []
        self.clients: list[FakeTransport] = []
        self.asked: list[Exchange] = []
        self.ends: list[Exchange] = []
        self.paused: set[int] = set()
        self.held_bytes = 0

    # -- the relay's calls

    def on_request(self, x: Exchange) -> None:
        self.asked.append(x)
        call = x.state = SimpleNamespace(model="m", keeping=None)
        if self.flight is not None and self.flight.can_join:
            self.flight.join(x, call).park(self, 0)  # type: ignore[arg-type]
        else:
            self.flight = call.keeping = Flight(x, call, b"key", self.cap_bytes, self)  # type: ignore[arg-type]
            self.resume(x, call, 0)

    def resume(self, x: Exchange, call: Any, stage: int) -> None:
        provider = Provider(self)
        self.providers.append(provider)
        x.forward(provider.connection, b"GET / HTTP/1.1\r\n\r\n", b"", None)

    def on_answer(self, x: Exchange) -> bytes:
        flight: Flight | None = x.state.keeping
        x.sse = self.streams
        if flight is not None and x.upstream in [provider.connection for provider in self.providers]:
            if x.status == 200:
                flight.begin(b"content-type: text/event-stream\r\n", b"", None, is_stream=self.streams)
                x.sink = flight.take
            else:
                x.state.keeping = None
                flight.scatter()
        return b""

    def on_failed(self, x: Exchange, kind: str, detail: str) -> None:
        x.answer(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n", 502)

    def on_end(self, x: Exchange) -> None:
        self.ends.append(x)
        if x.state.keeping is not None:
            x.state.keeping.ended(is_own=x.outcome == 2)

    # -- the flight's calls

    def done(self, flight: Flight, body: bytes) -> bytes | None:
        assert body == BODY
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    def over(self, flight: Flight) -> None:
        if self.flight is flight:
            self.flight = None

    def scattered(self, call: Any) -> None:
        """It asks for itself."""

    def joined(self, call: Any) -> None:
        """It is given what another one asked for."""

    def holds(self, more_bytes: int) -> bool:
        self.held_bytes += more_bytes
        assert self.held_bytes >= 0
        return self.held_bytes < 2 * len(BODY)

    # -- what happens

    def step(self, what: int, which: int) -> None:
        if what == 0 and len(self.clients) < 12:
            client = FakeTransport(Downstream(self.hub, None))
            self.clients.append(client)
            client.give(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        elif what == 1 and self.clients:
            self.clients[which % len(self.clients)].lose()
        elif what == 2 and self.clients:
            self.pause(which % len(self.clients))
        elif what >= 4 and self.providers:
            self.providers[which % len(self.providers)].go_on()
        elif what == 3 and self.providers:
            self.providers[which % len(self.providers)].fail(which % 2)
        self.settle()

    def pause(self, at: int) -> None:
        client = self.clients[at]
        if client.is_closed:
            return
        if at in self.paused:
            self.paused.discard(at)
            client.protocol.resume_writing()
        else:
            self.paused.add(at)
            client.protocol.pause_writing()

    def settle(self) -> None:
        for _ in range(4):
            for transport in (*self.clients, *(provider.wire for provider in self.providers)):
                transport.deliver()
                if transport.is_closed:
                    transport.lose()

    def finish(self) -> None:
        """Everybody reads, and every provider says all that it has to."""
        for at in list(self.paused):
            self.pause(at)
        self.settle()
        for _ in range(200):
            open_calls = [provider for provider in self.providers if not provider.is_over]
            if not open_calls:
                break
            for provider in open_calls:
                provider.go_on()
            self.settle()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4)), st.integers(0, 11)), max_size=60),
    st.sampled_from((CAP_BYTES, 100, 10_000)),
    st.booleans(),
)
def test_whatever_happens_each_gets_one_whole_answer_or_a_break(
    steps: list[tuple[int, int]], cap_bytes: int, streams: bool
) -> None:
    sky = Sky(cap_bytes, streams=streams)
    for what, which in steps:
        sky.step(what, which)
    sky.finish()
    assert len(sky.ends) == len(sky.asked)
    assert len({id(x) for x in sky.ends}) == len(sky.ends), "an exchange ended twice"
    assert (sky.hub.exchanges, sky.flight, sky.held_bytes) == (0, None, 0)
    for client in sky.clients:
        said = client.take()
        if client.is_closed:
            continue
        (answer,) = read_answers(said, (b"GET",), closed=False)
        assert answer.status in (200, 500, 502)
        assert answer.status != 200 or answer.body == BODY
