"""One connection while it is at the door: it is refused, handed over or closed, exactly once.

Rules: the socket is closed by `close` or given away by `serve` and `tunnel`, whichever comes first; after that every
call is a no-op. A refusal is read by the client: what it sent is drained after our half is shut, since closing over
unread bytes makes the kernel send a reset that overtakes the answer.
Plan: `connect.py` and `transparent.py` write the flows in terms of this; nothing here decides policy.
Does not know: which flow it is in.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus

import orjson

from outrider.door.client_hello import ALERT_DECODE_ERROR, ClientHello, ClientHelloError, ClientHelloReader
from outrider.door.contract import CallLater, DoorHost, DoorLimits, ListenerKind, Origin, Peer
from outrider.door.first_bytes import FIRST_BYTES, Speech, recognise
from outrider.door.peek import Peek, PeekEndedError, PeekTimeoutError
from outrider.door.readers import Readers
from outrider.errors import PROXY_CHALLENGE
from outrider_ext.callers import Caller

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_MAX_REASON_CHARS = 160
_MAX_DRAINED_BYTES = 256 << 10
_DRAIN_BYTES = 64 << 10
_FIRST_HELLO_LOOK_BYTES = 4096  # twice the largest of today's; the look grows from there


class Arrival:
    """The socket (raw, non-blocking), what is known of it, and the few things that can be done with it."""

    __slots__ = (
        "_forget",
        "_is_done",
        "address",
        "caller",
        "host",
        "limits",
        "listener",
        "peek",
        "peer",
        "port",
        "sock",
        "task",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: Peer,
        listener: ListenerKind,
        host: DoorHost,
        limits: DoorLimits,
        loop: asyncio.AbstractEventLoop,
        readers: Readers,
        call_later: CallLater,
        forget: Callable[["Arrival"], None],
    ) -> None:
        self.sock = sock
        self.peer = peer
        self.listener = listener
        self.host = host
        self.limits = limits
        self.peek = Peek(loop, readers, sock, call_later)
        self.task: asyncio.Task[None] | None = None
        self.caller = Caller()  # replaced once the kernel was asked
        self.address = ""  # original destination, transparent only
        self.port = 0
        self._forget = forget
        self._is_done = False

    @property
    def destination(self) -> str:
        """The original destination as host:port, for records."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    # ── what the client says ──────────────────────────────────────────────────────────────────────────────────────────

    async def detect(self, seconds: float, upstream: socket.socket | None = None) -> Speech:
        """What the client speaks; OPAQUE as well when `upstream` spoke (or ended) first. Raises the Peek errors."""
        self.peek.set_deadline(seconds)
        while (speech := recognise(self.peek.look(FIRST_BYTES))) is Speech.MORE:
            if self.peek.other_ready:
                return Speech.OPAQUE
            await self.peek.more(upstream)
        return speech

    async def client_hello(self) -> ClientHello | None:
        """The whole ClientHello, left in the socket; None when it is none and was answered with an alert."""
        limits = self.limits
        self.peek.set_deadline(limits.client_hello_s)
        reader = ClientHelloReader(limits.client_hello_bytes)
        # a quarter more for record headers; much more would not fit the 128 KiB that a kernel holds for us unread
        cap, size, seen = limits.client_hello_bytes * 5 // 4, _FIRST_HELLO_LOOK_BYTES, 0
        try:
            while True:
                data = self.peek.look(size)
                hello = reader.receive_data(data[seen:])
                if hello is not None:
                    return hello
                seen = len(data)
                if seen < size:
                    await self.peek.more()
                elif size < cap:
                    size = min(2 * size, cap)
                else:
                    raise ClientHelloError(ALERT_DECODE_ERROR, f"the ClientHello takes more than {cap} bytes")
        except ClientHelloError as exc:
            self.record("client_hello_bad", self.destination if self.address else "", problem=str(exc))
            await self.refuse_tls(exc.alert)
            return None

    # ── what we answer ────────────────────────────────────────────────────────────────────────────────────────────────

    def confirm_connect(self) -> bool:
        """Writes the 200; False when the client is gone."""
        return self._send(_ESTABLISHED)

    async def refuse_http(self, status: int, code: str, message: str) -> None:
        """Says it both as reason phrase (all that most clients show of a failed CONNECT) and as JSON."""
        await self._refuse(http_refusal(status, code, message))

    async def refuse_tls(self, alert: int) -> None:
        """Answers with one fatal alert (RFC 8446 §6), in clear as nothing is encrypted yet."""
        await self._refuse(bytes((0x15, 3, 3, 0, 2, 2, alert)))

    def record(self, event: str, name: str, level: str = "warning", **fields: object) -> None:
        """Counts and logs one of contract.EVENTS."""
        self.host.count(event, name)
        self.host.log(level, event, destination=name, listener=self.listener, peer=self.peer[:2], **fields)

    # ── how it ends ───────────────────────────────────────────────────────────────────────────────────────────────────

    def serve(self, origin: Origin, context: ssl.SSLContext | None) -> None:
        """Hands the untouched socket to the HTTP lane."""
        sock = self._give_up()
        if sock is None:
            return
        try:
            self.host.serve_http(sock, origin, context)
        except BaseException:
            sock.close()
            raise

    def tunnel(self, upstream: socket.socket, name: str) -> None:
        """Hands both sockets to the tunnel. If it raises, the client's is closed and `upstream` is the caller's."""
        sock = self._give_up()
        if sock is None:
            raise PeekEndedError
        try:
            self.host.tunnel(sock, upstream, name, self.caller)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Closes the socket unless it was closed or given away before."""
        sock = self._give_up()
        if sock is not None:
            sock.close()

    def _give_up(self) -> socket.socket | None:
        if self._is_done:
            return None
        self._is_done = True
        self.peek.release()
        self._forget(self)
        return self.sock

    def _send(self, data: bytes) -> bool:
        """All of `data` or False: it is small, and the send buffer of a new connection is empty."""
        try:
            return self.sock.send(data) == len(data)
        except OSError:
            return False

    async def _refuse(self, answer: bytes) -> None:
        if self._send(answer):
            try:
                self.sock.shutdown(socket.SHUT_WR)
                await self._drain()
            except (OSError, PeekEndedError, PeekTimeoutError):
                pass  # gone, or it never closes its side: either way it had its time to read
        self.close()

    async def _drain(self) -> None:
        """Reads and drops until the client closes, the deadline passes or the cap is reached."""
        self.peek.set_deadline(self.limits.linger_s)
        drained = 0
        while drained < _MAX_DRAINED_BYTES:
            try:
                data = self.sock.recv(_DRAIN_BYTES)
            except BlockingIOError:
                self.peek.restart()
                await self.peek.more()
                continue
            if not data:
                return
            drained += len(data)


def http_refusal(status: int, code: str, message: str) -> bytes:
    """A complete HTTP/1.1 answer that closes the connection; control and non-ASCII characters never reach the head."""
    reason = "".join(c if " " <= c <= "~" else "?" for c in message[:_MAX_REASON_CHARS]) or HTTPStatus(status).phrase
    body = orjson.dumps({"error": {"code": code, "message": message}})
    challenge = f"{PROXY_CHALLENGE}\r\n" if status == 407 else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\n{challenge}content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\nx-outrider-error: {code}\r\n\r\n"
    )
    return head.encode("ascii") + body
