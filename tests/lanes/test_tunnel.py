"""Bytes both ways, unread: order, half-closes, resets, back-pressure, and servers that speak first."""

import asyncio
import socket

from outrider.lanes.tunnel import BUFFER_BYTES, Splice
from support.running import until
from support.wire import Peer


class Tunnel:
    """A splice between two socket pairs; `app` and `server` are the far ends."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.closed: list[Splice] = []
        self.splice = Splice(self.closed.append, lambda: self.now_s)
        app, self._client = pair()
        server, self._upstream = pair()
        self.app, self.server = Peer(app), Peer(server)

    async def start(self) -> None:
        await self.splice.start(self._client, self._upstream)

    async def end(self) -> None:
        self.app.close()
        self.server.close()
        await until(lambda: len(self.closed) == 1, "the tunnel says once that it ended")
        assert self.closed == [self.splice]


def pair() -> tuple[socket.socket, socket.socket]:
    """TCP over loopback, so that resets and half-closes are real."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


async def test_bytes_go_both_ways_and_half_closes_are_passed_on(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    await tunnel.app.send(b"question")
    tunnel.app.end()
    assert await tunnel.server.rest() == b"question"
    await tunnel.server.send(b"answer")
    tunnel.server.end()
    assert await tunnel.app.rest() == b"answer"
    await tunnel.end()
    assert (tunnel.splice.client.received_bytes, tunnel.splice.upstream.received_bytes) == (8, 6)


async def test_what_a_server_says_before_the_app_is_there_is_kept(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.server.send(b"220 ready")
    tunnel.server.end()
    await tunnel.start()
    assert await tunnel.app.rest() == b"220 ready"
    await tunnel.end()


async def test_a_reset_of_one_side_ends_the_other(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    tunnel.server.reset()
    assert await _ended(tunnel.app)
    await tunnel.end()


async def _ended(peer: Peer) -> bool:
    try:
        return await peer.rest() == b""
    except ConnectionResetError:
        return True


async def test_a_side_that_does_not_read_stops_the_other_and_nothing_is_lost(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    sent = quiet = 0
    while quiet < 100:
        took = tunnel.app.try_send(b"x" * 262_144)
        sent += took
        quiet = 0 if took else quiet + 1
        await asyncio.sleep(0 if took else 0.001)
    assert tunnel.splice.client.received_bytes <= 8 * BUFFER_BYTES + (16 << 20)
    tunnel.app.end()
    assert len(await tunnel.server.rest()) == sent
    await tunnel.end()


async def test_what_was_said_before_a_close_arrives(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    await tunnel.app.send(b"y" * 100_000)
    tunnel.app.close()
    assert len(await tunnel.server.rest()) == 100_000
    await tunnel.end()


async def test_every_byte_is_a_sign_of_life(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    tunnel.now_s = 7.0
    await tunnel.server.send(b"x")
    await tunnel.app.exactly(1)
    assert tunnel.splice.last_s == 7.0
    await tunnel.end()


async def test_aborting_ends_both(no_leaked_tasks: None) -> None:
    tunnel = Tunnel()
    await tunnel.start()
    tunnel.splice.abort()
    assert await _ended(tunnel.app)
    assert await _ended(tunnel.server)
    await tunnel.end()
