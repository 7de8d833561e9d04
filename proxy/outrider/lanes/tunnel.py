"""Bytes both ways, unread: for hosts that no provider claims.

Rules: what one side sends is written to the other as it came; each side's reading stops while the other's buffer is
full; a half-close is passed on; an end of both, an error, or silence ends it.
Does not know: what the bytes are.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

BUFFER_BYTES = 262144


class Splice:
    """One tunnel. closed(splice) is called once, when both ends are gone; each end knows its `received_bytes`."""

    def __init__(self, closed: Callable[["Splice"], None], clock: Callable[[], float]) -> None:
        self._closed = closed
        self._clock = clock
        self.client = _End(self)
        self.upstream = _End(self)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.last_s = clock()
        self._open = 2

    async def start(self, client: socket.socket, upstream: socket.socket) -> None:
        """Takes both sockets, whatever happens."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.upstream, sock=upstream)
        except BaseException:
            client.close()
            upstream.close()
            raise
        try:
            await loop.connect_accepted_socket(lambda: self.client, sock=client)
        except BaseException:
            client.close()
            self.abort()
            raise

    def touch(self) -> None:
        self.last_s = self._clock()

    def abort(self) -> None:
        for end in (self.client, self.upstream):
            if end.transport is not None:
                end.transport.abort()

    def end_closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._closed(self)


class _End(asyncio.Protocol):
    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self.transport: asyncio.Transport | None = None
        self.other: _End = self
        self.received_bytes = 0
        self._early: list[bytes] = []
        self._at_eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        if self.other._early:
            self.transport.write(b"".join(self.other._early))
            self.other._early.clear()
        if self.other._at_eof and self.transport.can_write_eof():
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._splice.touch()
        if self.other.transport is None:
            self._early.append(data)  # a server that speaks first, for the moment until the client's side is up
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._at_eof = True
        if self.other._at_eof:
            return False
        if self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other.transport is not None:
            if exc is not None:
                self.other.transport.abort()
            else:
                self.other.transport.close()
        self._splice.end_closed()
