"""Both ends of the wire, by hand: a client that says any bytes, and a provider that plays any bytes, over loopback.

A `Peer` is one connected socket with full control of its end: half-close, close, reset, TLS with and without
close_notify. Every wait has a deadline, so that a hang is a failure with a name.
Does not know: HTTP beyond blank lines.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from types import TracebackType

DEADLINE_S = 60.0


class Peer:
    """One end. `until`, `exactly` and `rest` read; bytes read beyond what was asked for wait for the next call."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLObject | None = None, bios: "Bios | None" = None) -> None:
        self.sock = sock
        self._tls = tls
        self._bios = bios
        self._held = b""

    # -- TLS

    async def start_tls(self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> "Peer":
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._bios = (incoming, outgoing)
        self._tls = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=name)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._recv()
                if not data:
                    raise ConnectionResetError("closed in the handshake") from None
                incoming.write(data)
            else:
                await self._flush()
                return self

    async def _flush(self) -> None:
        assert self._bios is not None
        if data := self._bios[1].read():
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), DEADLINE_S)

    async def close_notify(self) -> None:
        """The orderly end of TLS; the socket stays open."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()

    # -- writing

    async def send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            await self._flush()
        else:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), DEADLINE_S)

    def try_send(self, data: bytes) -> int:
        """As much as the kernel takes now; 0 is full."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def end(self) -> None:
        """FIN; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- reading

    async def _recv(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 1 << 18), DEADLINE_S)

    async def more(self) -> bytes:
        """Some bytes, b"" at the end (over TLS: close_notify). Raises: ConnectionResetError; SSLEOFError at a FIN."""
        if self._held:
            data, self._held = self._held, b""
            return data
        if self._tls is None or self._bios is None:
            return await self._recv()
        while True:
            try:
                return self._tls.read(1 << 18)
            except ssl.SSLWantReadError:
                data = await self._recv()
                if data:
                    self._bios[0].write(data)
                else:
                    self._bios[0].write_eof()
            except ssl.SSLZeroReturnError:
                return b""

    async def until(self, mark: bytes) -> bytes:
        """Up to and with `mark`."""
        data = b""
        while mark not in data:
            more = await self.more()
            assert more, f"ended before {mark!r}: {data[-200:]!r}"
            data += more
        at = data.index(mark) + len(mark)
        data, self._held = data[:at], data[at:] + self._held
        return data

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.more()
            assert more, f"ended after {len(data)} of {count} bytes"
            data += more
        data, self._held = data[:count], data[count:] + self._held
        return data

    async def rest(self) -> bytes:
        """Everything up to the end. Raises ConnectionResetError when there is a reset instead; `read` has what came."""
        self.read = b""
        while more := await self.more():
            self.read += more
        return self.read

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def answer(self) -> tuple[bytes, bytes]:
        """(head, body) of an answer with a length or in chunks."""
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int((await self.until(b"\r\n"))[:-2], 16):
                body += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            assert await self.exactly(2) == b"\r\n"
            return head, body
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await self.exactly(length)


type Bios = tuple[ssl.MemoryBIO, ssl.MemoryBIO]


async def connect(address: tuple[str, int], *, receive_buffer: int | None = None) -> Peer:
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), DEADLINE_S)
    except BaseException:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Peer(sock)


class Provider:
    """A server that does nothing by itself: `accept` hands its connections to the test, which plays them.

    It keeps them all, and closes them at the end.
    """

    def __init__(self, context: ssl.SSLContext | None = None, *, receive_buffer: int | None = None) -> None:
        self._context = context
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(512)
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        self.peers: list[Peer] = []

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    async def accept(self) -> Peer:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self._sock), DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        self.peers.append(peer)
        return peer if self._context is None else await peer.start_tls(self._context, server_side=True)

    def has_caller(self) -> bool:
        """Whether a connection waits to be accepted."""
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return False
        sock.close()
        return True

    async def __aenter__(self) -> "Provider":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()
        for peer in self.peers:
            peer.close()
