"""The door: takes an accepted socket, finds out who is asked for in which protocol, and hands it on untouched.

Rules: nothing is read that the next owner needs; everything waits with a deadline and a cap (contract.DoorLimits); a
socket is closed or given away exactly once. A plain request costs one look and no task: only CONNECT, TLS and what must
be judged by address run in a task each.
Plan: look at the first bytes now and on each wake-up (`_look`), then `connect.py`, `transparent.py` or the HTTP lane.
Does not know: listening sockets (listener.py), what a verdict is made of, HTTP beyond its first word.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, cast

from outrider.door.arrival import Arrival
from outrider.door.client_hello import ALERT_HANDSHAKE_FAILURE
from outrider.door.connect import serve_connect
from outrider.door.contract import (
    EVENTS,
    CallLater,
    Deny,
    DoorHost,
    DoorLimits,
    Intercept,
    ListenerKind,
    Origin,
    Peer,
    Spawn,
    Timer,
    Tunnel,
    Verdict,
)
from outrider.door.first_bytes import FIRST_BYTES, Speech, recognise
from outrider.door.original_dst import original_destination
from outrider.door.peek import PeekEndedError, PeekTimeoutError
from outrider.door.readers import Readers
from outrider.door.transparent import serve_transparent_opaque, serve_transparent_tls
from outrider.door.unix_socket import unix_credentials

__all__ = [
    "EVENTS", "CallLater", "Deny", "Door", "DoorHost", "DoorLimits", "Intercept", "ListenerKind", "Origin", "Peer",
    "Spawn", "Timer", "Tunnel", "Verdict",
]  # fmt: skip

Flow = Callable[[Arrival], Awaitable[None]]


class Door:
    """One flavour of door: "proxy" for the proxy port, "transparent" for the port that iptables redirects to.

    handle(sock, peer=None) -> None   takes an accepted, connected socket (made non-blocking here); never raises
    close() -> None                   closes every connection still at the door; those handed over are not its business
    open_count: int                   connections now at the door
    `limits` may be replaced at any time; it applies to connections that come after. `destination_of` finds the original
    destination of a redirected socket (a test without iptables hands in its own).
    """

    def __init__(
        self,
        host: DoorHost,
        listener: ListenerKind,
        spawn: Spawn,
        limits: DoorLimits | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        call_later: CallLater | None = None,
        destination_of: Callable[[socket.socket], tuple[str, int] | None] = original_destination,
    ) -> None:
        self.limits = limits or DoorLimits()
        self._host = host
        self._listener = listener
        self._spawn = spawn
        self._loop = loop or asyncio.get_running_loop()
        self._call_later = call_later or cast(CallLater, self._loop.call_later)
        self._destination_of = destination_of
        self._readers = Readers(self._loop)
        self._arrivals: set[Arrival] = set()
        self._is_closed = False

    @property
    def open_count(self) -> int:
        return len(self._arrivals)

    def handle(self, sock: socket.socket, peer: object = None) -> None:
        if self._is_closed:
            sock.close()
            return
        sock.setblocking(False)
        if not isinstance(peer, tuple):  # a Unix socket's address is a text, mostly empty
            peer = _peer_of(sock)
        arrival = Arrival(
            sock,
            peer=peer,
            listener=self._listener,
            host=self._host,
            limits=self.limits,
            loop=self._loop,
            readers=self._readers,
            call_later=self._call_later,
            forget=self._arrivals.discard,
        )
        self._arrivals.add(arrival)
        try:
            if self._listener == "proxy" or self._find_destination(arrival):
                wanted = (arrival.address, arrival.port) if self._listener == "transparent" else None
                arrival.caller = self._host.caller(sock, peer, wanted)
                self._look(arrival)
        except Exception as exc:  # the accept loop above goes on whatever happens to one connection
            _record_failure(arrival, exc)
            arrival.close()

    def close(self) -> None:
        self._is_closed = True
        self._readers.close()
        for arrival in list(self._arrivals):
            if arrival.task is not None:
                arrival.task.cancel()  # its end closes the socket
            else:
                arrival.close()

    # ── the first bytes, without a task ───────────────────────────────────────────────────────────────────────────────

    def _look(self, arrival: Arrival) -> None:
        """Looks at once, and again on every wake-up, until the first bytes say what this is."""
        peek = arrival.peek
        try:
            speech = recognise(peek.look(FIRST_BYTES))
            if speech is not Speech.MORE:
                if not self._came_back(arrival):
                    self._dispatch(arrival, speech)
            elif peek.ended:
                arrival.close()  # a connection opened and closed without a word, as health checks do
            elif peek.expired:
                if not self._came_back(arrival):
                    self._meet_silence(arrival)
            else:
                self._wait(arrival)
        except Exception as exc:
            _record_failure(arrival, exc)
            arrival.close()

    def _wait(self, arrival: Arrival) -> None:
        peek = arrival.peek
        if not peek.has_deadline:
            limits = arrival.limits
            peek.set_deadline(limits.first_byte_s if self._listener == "proxy" else limits.detect_s)
        peek.wait(partial(self._look, arrival))

    def _dispatch(self, arrival: Arrival, speech: Speech) -> None:
        if self._listener == "proxy":
            if speech is Speech.CONNECT:
                self._start(arrival, serve_connect)
            elif speech is Speech.TLS:
                self._start(arrival, _refuse_tls_on_proxy_port)
            else:  # opaque bytes too: the lane says what is wrong with them, in HTTP
                arrival.serve(Origin("proxy", "forward", None, None, False, arrival.peer, caller=arrival.caller), None)
        elif speech is Speech.TLS:
            self._start(arrival, serve_transparent_tls)
        elif speech is Speech.HTTP:
            origin = Origin(
                "transparent", "transparent", None, arrival.port, False, arrival.peer, arrival.address, arrival.caller
            )
            arrival.serve(origin, None)
        else:
            self._start(arrival, serve_transparent_opaque)

    def _meet_silence(self, arrival: Arrival) -> None:
        if self._listener == "transparent":
            self._start(arrival, serve_transparent_opaque)
        else:
            arrival.record("silent_closed", "", "debug")
            arrival.close()

    def _find_destination(self, arrival: Arrival) -> bool:
        """The loop test: a connection made straight to this port has our own address for its original destination."""
        found = self._destination_of(arrival.sock)
        if found is not None:
            arrival.address, arrival.port = found
            if found != _name_of(arrival.sock) and not self._host.is_own_address(*found):
                return True
        arrival.record("loop", arrival.destination if found else "")
        arrival.close()
        return False

    def _came_back(self, arrival: Arrival) -> bool:
        """The other loop test: what we dialled was redirected to us, and would be for ever.

        Asked once bytes came (or silence did): by then the dial at the other end is done and known.
        """
        if self._listener == "proxy" or not arrival.peer:
            return False
        address, port = arrival.peer[:2]
        if not self._host.is_own_address(str(address).removeprefix("::ffff:"), int(port)):
            return False
        hint = "a connection of the sidecar's own was redirected to it; exempt its user (uid-owner RETURN) in the rules"
        arrival.record("loop", arrival.destination, problem=hint)
        arrival.close()
        return True

    # ── the rest, in a task ───────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, arrival: Arrival, flow: Flow) -> None:
        arrival.peek.pause()
        coro: Coroutine[Any, Any, None] = _run(arrival, flow)
        try:
            arrival.task = self._spawn(coro, name=f"door-{self._listener}")
        except BaseException:
            coro.close()
            raise
        # a task cancelled before its first step never reaches its own `finally`
        arrival.task.add_done_callback(lambda _: arrival.close())


async def _run(arrival: Arrival, flow: Flow) -> None:
    try:
        await flow(arrival)
    except PeekEndedError:
        arrival.host.count("client_left", "")
    except PeekTimeoutError:
        arrival.record("deadline", arrival.destination if arrival.address else "", "info")
    except Exception as exc:
        _record_failure(arrival, exc)
    finally:
        arrival.close()


async def _refuse_tls_on_proxy_port(arrival: Arrival) -> None:
    hint = "the proxy port speaks plain HTTP; write http:// in the proxy URL"
    arrival.record("tls_on_proxy_port", "", problem=hint)
    await arrival.refuse_tls(ALERT_HANDSHAKE_FAILURE)


def _record_failure(arrival: Arrival, exc: Exception) -> None:
    """A failure of ours ends one connection; only its kind is logged, as its text may hold anything."""
    arrival.record("door_failed", arrival.destination if arrival.address else "", "error", problem=type(exc).__name__)


def _peer_of(sock: socket.socket) -> Peer:
    try:
        if sock.family == socket.AF_UNIX:
            return ("unix", unix_credentials(sock)[0])
        return cast(Peer, sock.getpeername())
    except OSError:
        return ()


def _name_of(sock: socket.socket) -> tuple[str, int] | None:
    try:
        address, port = sock.getsockname()[:2]
    except OSError:
        return None
    return address.removeprefix("::ffff:"), port
