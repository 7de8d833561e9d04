"""The compiled way of an exchange: what is asked of the desk, and what is remembered instead."""

from types import SimpleNamespace
from typing import Any

import pytest

from ext.relay_rig import FakeTransport
from outrider_ext.lane import Call, Lane, PlainHook, Route, Sender
from outrider_ext.relay import Downstream, Exchange, Hub, Idle, Upstream


class Pool(Idle):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, 8)
        self.wires: list[FakeTransport] = []
        self.slow_releases = 0

    def release(self, connection: Upstream) -> None:
        self.slow_releases += 1

    def discard(self, connection: Upstream) -> None:
        if connection in self.idle:
            self.idle.remove(connection)

    def make(self) -> Upstream:
        connection = Upstream(self.hub, self)
        self.wires.append(FakeTransport(connection))
        return connection


class Desk:
    """Routes everything to one place, and notes what it was asked."""

    def __init__(self) -> None:
        self.router = object()
        self.lane = Lane(self, self.router, b"id", 1 << 20)
        self.hub = Hub(self.lane, None)  # type: ignore[arg-type]
        self.pool = Pool(self.hub)
        self.found: list[bytes] = []
        self.opened = 0
        self.failures: list[tuple[str, str]] = []
        self.reports: list[str] = []
        self.ends: list[bytes] = []
        self.hooks: tuple[Any, ...] = ()

    def find(self, x: Exchange, request_id: bytes) -> Route:
        self.found.append(x.target)
        route = Route(
            binding=None, operation=None, known=True, model=None, destination_host="a", destination_port=80,
            prefix_bytes=0, error_dialect="openai", pool=self.pool,
        )  # fmt: skip
        route.attempt = Sent()
        route.request_hooks = self.hooks
        route.end_hooks = (PlainHook(lambda x, call: self.ends.append(call.request_id)),)
        return route

    def open(self, x: Exchange, call: Call) -> None:
        self.opened += 1
        self.lane.send(x, call, self.pool.make())

    def failed(self, x: Exchange, call: Call, error: Exception, where: str) -> None:
        self.failures.append((where, str(error)))
        x.answer(b"HTTP/1.1 500 Own\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 500)

    def report(self, error: Exception, where: str) -> None:
        self.reports.append(where)

    def is_gone(self, client: Downstream) -> bool:
        return True


class Sent(Sender):
    """A sender that is not one of ours: it does not know how to make heads."""


class Client:
    def __init__(self, desk: Desk, **origin: Any) -> None:
        self.desk = desk
        self.wire = FakeTransport(Downstream(desk.hub, SimpleNamespace(kind="forward", **origin)))

    def ask(self, target: bytes = b"/a", more: bytes = b"", host: bytes = b"h") -> None:
        self.wire.give(b"GET " + target + b" HTTP/1.1\r\nhost: " + host + b"\r\n" + more + b"\r\n")


@pytest.fixture
def desk() -> Desk:
    return Desk()


class StopHereError(Exception):
    pass


def answering(desk: Desk) -> None:
    """Every exchange is answered by a hook, so that nothing is sent."""

    def hook(x: Exchange, call: Call) -> Any:
        x.answer(b"HTTP/1.1 204 No\r\n\r\n", 204)
        raise StopHereError

    desk.hooks = (PlainHook(hook),)
    desk.failed = lambda *asked: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("second", "asked_again"),
    [
        ({}, False),
        ({"target": b"/b"}, True),
        ({"host": b"other"}, True),
        ({"target": b"/a?q"}, True),
        ({"more": b"origin: http://page\r\n"}, True),
        ({"more": b"sec-fetch-site: cross-site\r\n"}, True),
    ],
)
def test_a_route_is_remembered_for_the_same_question_only(
    desk: Desk, second: dict[str, bytes], asked_again: bool
) -> None:
    answering(desk)
    client = Client(desk)
    client.ask()
    client.ask(**second)
    assert len(desk.found) == (2 if asked_again else 1)
    assert len(desk.ends) == 2


def test_a_web_pages_request_is_never_remembered(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    for _ in range(3):
        client.ask(more=b"origin: http://page\r\n")
    assert len(desk.found) == 3


def test_another_method_is_another_question(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    client.ask()
    client.wire.give(b"DELETE /a HTTP/1.1\r\nhost: h\r\n\r\n")
    assert len(desk.found) == 2


def test_a_reload_forgets_what_was_remembered(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    client.ask()
    desk.lane.router = object()
    client.ask()
    client.ask()
    assert len(desk.found) == 2


def test_one_connection_does_not_know_anothers_route(desk: Desk) -> None:
    answering(desk)
    Client(desk).ask()
    Client(desk).ask()
    assert len(desk.found) == 2


def test_a_long_target_is_not_kept(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    for _ in range(2):
        client.ask(b"/" + b"x" * 600)
    assert len(desk.found) == 2


def test_request_ids_are_of_one_length_and_none_comes_twice(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    for _ in range(20):
        client.ask()
    assert len(set(desk.ends)) == 20
    assert {len(request_id) for request_id in desk.ends} == {10}
    assert desk.ends[0] == b"id00000001"


def test_what_a_hook_or_a_sender_raises_goes_to_the_desk_once(desk: Desk) -> None:
    client = Client(desk)
    client.ask()
    assert desk.opened == 1
    assert desk.failures == [("attempt", "a sender has to make heads")]
    assert client.wire.take().startswith(b"HTTP/1.1 500")
    assert desk.pool.slow_releases == 1
    assert len(desk.ends) == 1


def test_a_failing_end_hook_is_reported_and_ends_nothing_else(desk: Desk) -> None:
    answering(desk)
    client = Client(desk)
    client.ask()
    found = desk.find

    def failing(x: Exchange, request_id: bytes) -> Route:
        route = found(x, request_id)
        route.end_hooks = (PlainHook(lambda x, call: 1 // 0), *route.end_hooks)  # type: ignore[arg-type]
        return route

    desk.find = failing  # type: ignore[method-assign]
    client.ask(b"/b")
    assert desk.reports == ["end"]
    assert len(desk.ends) == 2


def test_a_wait_goes_to_the_desk_and_the_hooks_go_on_behind_it(desk: Desk) -> None:
    ran: list[str] = []
    waits: list[tuple[int, Any]] = []
    desk.wait = lambda x, call, stage, waiting: waits.append((stage, waiting))  # type: ignore[attr-defined]
    token: Any = object()

    def last(x: Exchange, call: Call) -> None:
        ran.append("last")
        x.answer(b"HTTP/1.1 204 No\r\n\r\n", 204)
        raise StopHereError

    desk.hooks = (PlainHook(lambda x, call: token), PlainHook(last))
    client = Client(desk)
    client.ask()
    assert waits == [(1, token)]
    assert ran == []
    protocol: Downstream = client.wire.protocol
    x = protocol.current
    assert x is not None
    desk.failed = lambda *asked: None  # type: ignore[method-assign]
    desk.lane.resume(x, x.state, 1)
    assert ran == ["last"]


def test_the_newest_idle_connection_is_used_and_closed_ones_are_passed_over(desk: Desk) -> None:
    pool = desk.pool
    old, new, gone = pool.make(), pool.make(), pool.make()
    pool.idle.extend((old, new, gone))
    gone.close()
    assert pool.take() is new
    assert pool.take() is old
    assert pool.take() is None
