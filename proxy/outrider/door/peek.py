"""Bytes at the head of a socket's queue, looked at and left there (MSG_PEEK).

Rules: (1) a look that found too little raises SO_RCVLOWAT to one more than it saw, so that epoll stays quiet until
there is news; left at 1 the loop would spin, since the peeked bytes stay readable. (2) A wake-up without new bytes
means that nothing more will come: after a FIN or an error below the mark epoll reports the socket for ever. It is
decided at once. (3) The mark is 1 again before anyone else gets the socket; left raised it swallows the next owner's
small messages. (4) One deadline at a time, set per phase; bytes that drip in do not move it. (5) A Unix socket heeds no
mark (epoll reports it while a byte is unread), so there a look that found too little is followed by another one a
moment later instead: rare, as heads come in one piece there.
Does not know: what the bytes mean. Never closes the socket.
"""

import asyncio
import select
import socket
from collections.abc import Callable

from outrider.door.contract import CallLater, Timer
from outrider.door.readers import Readers

_LOOK_AGAIN_S = 0.005
_MAX_IDLE_WAKEUPS = 8  # wake-ups that neither bring bytes nor say why: seen when the receive buffer is full


class PeekEndedError(Exception):
    """The client closed or reset before the bytes that were waited for came."""


class PeekTimeoutError(Exception):
    """The deadline of this phase passed."""


class Peek:
    """One socket under observation, either by callback (`wait`) or in a task (`await more()`); never both at once."""

    __slots__ = (
        "_again", "_call_later", "_callback", "_has_mark", "_idle", "_loop", "_mark", "_other", "_readers", "_reading",
        "_seen", "_sock", "_timer", "_woken", "ended", "expired", "other_ready",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, readers: Readers, sock: socket.socket, call_later: CallLater
    ) -> None:
        self._loop = loop
        self._readers = readers
        self._sock = sock
        self._call_later = call_later
        self._callback: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self._other: socket.socket | None = None
        self._again: Timer | None = None
        self._has_mark = sock.family != socket.AF_UNIX
        self._seen = 0
        self._mark = 1
        self._idle = 0
        self._woken = False
        self._reading = False
        self.ended = False  # no byte beyond those seen will come
        self.expired = False  # the deadline passed
        self.other_ready = False  # the socket given to more(other=) has bytes, or ended

    def look(self, size: int) -> bytes:
        """The first `size` bytes at most, without taking them; b"" when there are none. Sets `ended`."""
        woken, self._woken = self._woken, False
        data = self._peek(size)
        if woken and len(data) <= self._seen and not self.ended and self._is_idle_wakeup():
            data = self._peek(size)  # what came with the FIN, or while we asked, still counts
            self.ended = len(data) <= self._seen
        if len(data) > self._seen:
            self._seen, self._idle = len(data), 0
        return data

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes that a look has seen, consumed; the mark is 1 again."""
        parts = bytearray()
        while len(parts) < size:
            part = self._sock.recv(size - len(parts))
            if not part:
                raise PeekEndedError
            parts += part
        self._seen = 0
        self._set_mark(1)
        return bytes(parts)

    def restart(self) -> None:
        """The bytes seen so far were consumed by someone else (a refusal that drains them)."""
        self._seen = 0
        self._set_mark(1)

    @property
    def has_deadline(self) -> bool:
        return self._timer is not None

    def pause(self) -> None:
        """No more calls back until the next wait; what was seen and the deadline stay."""
        self._stop_watching()

    def set_deadline(self, seconds: float) -> None:
        """Starts a phase: `seconds` from now the waiter is told, unless the next phase began before."""
        self._cancel_timer()
        self.expired = False
        self._timer = self._call_later(seconds, self._on_deadline)

    def wait(self, callback: Callable[[], None]) -> None:
        """Calls back, once, when there are more bytes than seen, or an end, or the deadline (`expired`)."""
        self._callback = callback
        if not self._has_mark and self._seen:
            self._look_again_later()
            return
        self._set_mark(self._seen + 1)
        if not self._reading:
            self._reading = True
            self._readers.add_reader(self._sock, self._on_readable)

    async def more(self, other: socket.socket | None = None) -> None:
        """Returns when there is something new to look at. Raises PeekEndedError, PeekTimeoutError.

        With `other` it also returns when that socket becomes readable, and says so in `other_ready`.
        """
        if self.ended:
            raise PeekEndedError
        if self.expired:
            raise PeekTimeoutError
        waiter = self._loop.create_future()
        self.wait(lambda: None if waiter.done() else waiter.set_result(None))
        if other is not None:
            self._other = other
            self._readers.add_reader(other, self._on_other)
        try:
            await waiter
        finally:
            self._stop_watching()
        if self.expired:
            raise PeekTimeoutError

    def release(self) -> None:
        """Leaves the socket as it was found: unwatched, the mark at 1. May be called again."""
        self._cancel_timer()
        self._stop_watching()
        try:
            self._set_mark(1)
        except OSError:  # a reset socket may refuse; its next owner will read the reset
            self._mark = 1

    def _on_readable(self) -> None:
        self._woken = True
        self._fire()

    def _look_again_later(self) -> None:
        """Rule 5."""
        if self._reading:
            self._reading = False
            self._readers.remove_reader(self._sock)
        if self._again is None:
            self._again = self._call_later(_LOOK_AGAIN_S, self._on_again)

    def _on_again(self) -> None:
        self._again = None
        if len(self._peek(self._seen + 1)) > self._seen or self.ended or self._has_hung_up():
            self._woken = True
            self._fire()
        elif self._callback is not None:
            self._look_again_later()

    def _has_hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self._sock, select.POLLRDHUP)
        return bool(poller.poll(0))

    def _on_other(self) -> None:
        self.other_ready = True
        self._fire()

    def _on_deadline(self) -> None:
        self._timer = None
        self.expired = True
        self._fire()

    def _fire(self) -> None:
        callback = self._callback
        if callback is not None:
            callback()

    def _peek(self, size: int) -> bytes:
        try:
            data = self._sock.recv(size, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            data = b""
        if not data:
            self.ended = True
        return data

    def _is_idle_wakeup(self) -> bool:
        """Rule 2. A poller is asked why, since a loop may also report an event that was overtaken."""
        self._idle += 1
        return self._has_hung_up() or self._idle >= _MAX_IDLE_WAKEUPS

    def _set_mark(self, mark: int) -> None:
        if mark != self._mark and self._has_mark:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
            self._mark = mark

    def _stop_watching(self) -> None:
        self._callback = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._reading:
            self._reading = False
            self._readers.remove_reader(self._sock)
        if self._other is not None:
            other, self._other = self._other, None
            self._readers.remove_reader(other)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
