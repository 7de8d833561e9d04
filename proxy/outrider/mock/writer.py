"""Puts a reply on the socket byte for byte: framing, pace, cuts and stalls. The only module that writes answers.

aiohttp reads the requests; it is kept out of the answers, since it would mend what we mean to break.
Each piece of a body is one write to the socket, with a turn of the event loop before it, so that it leaves by itself.
`chunk_bytes` cuts the body before framing; what is left over waits for the next event, and is flushed before a stall
or a cut. Does not know: providers.
"""

import asyncio
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from .behaviour import Behaviour
from .journal import Journalled
from .reply import Stream, Whole

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded", 424: "Failed Dependency"}
_BODILESS = (204, 304)


class Written(web.StreamResponse):
    """What aiohttp gets when the answer is already on the wire: nothing left to do but keep or close."""

    def __init__(self, status: int, keep: bool) -> None:
        super().__init__(status=status)
        self._keep = keep

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None

    @property
    def keep_alive(self) -> bool:
        return self._keep


class Stalls:
    """Answers that stopped until somebody lets them go. Belongs to one event loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._changed = changed

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        event = asyncio.Event()
        self._waiting.add(event)
        self._changed()
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)
            self._changed()

    def release(self) -> None:
        for event in self._waiting:
            event.set()


class _CutError(Exception):
    """The connection was ended on purpose in the middle of an answer."""


class Writer:
    """One answer on one connection. `send` returns when all of it was written, or when it was cut on purpose.

    Raises: ConnectionError when the client is gone (aiohttp cancels the handler as well).
    """

    def __init__(self, request: web.BaseRequest, entry: Journalled, how: Behaviour, stalls: Stalls) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left before the answer")
        self._request = request
        self._transport = transport
        self._entry = entry
        self._how = how
        self._stalls = stalls
        self._chunked = False
        self._tail = bytearray()
        self._zip: zlib._Compress | None = None
        self.keep = bool(request.keep_alive)

    async def send(self, reply: Whole | Stream) -> Written:
        how = self._how
        try:
            if how.informational is not None:
                self._transport.write(_head(how.informational, {}))
            await self._wait(how.delay_ms, "head")
            self._write_head(reply)
            await self._wait(how.first_event_ms, "first")
            if self._request.method != "HEAD" and reply.status not in _BODILESS:
                await self._write_body(reply)
        except _CutError:
            self.keep = False
            return Written(reply.status, False)
        # Nothing was awaited since the last write: a client that leaves after it has the whole answer.
        self._entry.completed = True
        return Written(reply.status, self.keep)

    # --- head -------------------------------------------------------------------------------------------------------

    def _write_head(self, reply: Whole | Stream) -> None:
        how, body = self._how, reply.body if isinstance(reply, Whole) else None
        fields = {"Date": formatdate(usegmt=True), "Content-Type": reply.content_type, **reply.headers}
        if how.gzip and body != b"" and "gzip" in self._request.headers.get("Accept-Encoding", ""):
            self._zip = zlib.compressobj(wbits=31)
            fields["Content-Encoding"] = "gzip"
        framing = how.framing or ("length" if body is not None and self._zip is None else "chunked")
        if framing == "chunked" and self._request.version < (1, 1):
            framing = "close"
        if framing == "length" and (body is None or self._zip is not None):
            framing = "chunked"
        if framing == "chunked":
            self._chunked = True
            fields["Transfer-Encoding"] = "chunked"
            if how.trailers:
                fields["Trailer"] = ", ".join(how.trailers)
        elif framing == "length" and body is not None and reply.status not in _BODILESS:
            fields["Content-Length"] = str(len(body))
        else:
            self.keep = self.keep and framing != "close"
        if how.early:
            self.keep = False
        fields["Connection"] = "keep-alive" if self.keep else "close"
        self._entry.status = reply.status
        self._transport.write(_head(reply.status, fields | dict(how.headers or {})))

    # --- body -------------------------------------------------------------------------------------------------------

    async def _write_body(self, reply: Whole | Stream) -> None:
        how, n = self._how, 0
        for event in _events(reply):  # n is read below as well, hence no enumerate
            if how.error_after is not None and n >= how.error_after and isinstance(reply, Stream):
                await self._emit(reply.error_event(n))
                break
            await self._fault_at(n)
            if n and how.pace_ms:
                await asyncio.sleep(how.pace_ms / 1000)
            await self._emit(event)
            n += 1  # noqa: SIM113
            self._entry.sent_events = n
        else:
            await self._fault_at(n)
        await self._finish()

    async def _fault_at(self, n: int) -> None:
        how = self._how
        if how.stall == "events" and n == (how.stall_after or 1):
            await self._flush()
            await self._stalls.wait()
        if how.cut_after is not None and n >= how.cut_after:
            await self._end_connection()

    async def _emit(self, data: bytes) -> None:
        """Pass a piece of the body on, in cuts of `chunk_bytes`, and stop at `cut_after_bytes`."""
        if self._zip is not None:
            data = self._zip.compress(data) + self._zip.flush(zlib.Z_SYNC_FLUSH)
        limit = self._how.cut_after_bytes
        room = None if limit is None else limit - self._entry.sent_bytes - len(self._tail)
        over = room is not None and len(data) >= room
        data = data[:room] if over else data
        size = self._how.chunk_bytes
        if size is None:
            await self._put(data)
        else:
            self._tail += data
            while len(self._tail) >= size:
                piece = bytes(self._tail[:size])
                del self._tail[:size]
                await self._put(piece)
        if over:
            await self._end_connection()

    async def _finish(self) -> None:
        if self._zip is not None:
            self._tail += self._zip.flush()
        await self._flush()
        if self._chunked:
            trailers = "".join(f"{name}: {value}\r\n" for name, value in (self._how.trailers or {}).items())
            self._transport.write(f"0\r\n{trailers}\r\n".encode("latin-1"))

    async def _flush(self) -> None:
        piece = bytes(self._tail)
        self._tail.clear()
        await self._put(piece)

    async def _put(self, data: bytes) -> None:
        if not data:
            return
        await self._turn()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._entry.sent_bytes += len(data)

    # --- time and ends ----------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """One turn of the loop, and no more than a high-water mark of bytes in memory."""
        await self._request.writer.drain()
        await asyncio.sleep(0)
        if self._transport.is_closing():
            raise ConnectionResetError("the client left in the middle of the answer")

    async def _wait(self, ms: float | None, where: str) -> None:
        if ms:
            await asyncio.sleep(ms / 1000)
        if self._how.stall == where:
            await self._stalls.wait()

    async def _end_connection(self) -> None:
        await self._flush()
        kind = self._how.cut or "close"
        if kind == "close":
            self._transport.close()
            raise _CutError
        while self._transport.get_write_buffer_size():  # noqa: ASYNC110 an abort would drop what was already said
            await asyncio.sleep(0.001)
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        if kind == "reset" and raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        raise _CutError


def _events(reply: Whole | Stream) -> Iterable[bytes]:
    return (reply.body,) if isinstance(reply, Whole) else reply.events


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
