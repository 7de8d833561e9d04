"""One side of an HTTP/1.1 connection driven the way a lane drives it: heads, bodies, and what follows them.

A `Reader` is given bytes in any cut and keeps what it finished reading; `Reader.verdict` says what became of them.
"""

from types import SimpleNamespace
from typing import Any

from ext.builds import both

MAX_HEAD_BYTES = 64 << 10


def builds() -> list[SimpleNamespace]:
    """The compiled scanner and framer, then the interpreted ones; the error class is the same."""
    return [
        SimpleNamespace(Head=http1.Head, Body=body.Body, ProtocolError=http1.ProtocolError)
        for http1, body in zip(both("http1"), both("http1_body"), strict=True)
    ]


class Reader:
    """Reads messages of one direction until an error, an upgrade, or the end of what it was given.

    messages: the finished ones as (start line, fields, body); opaque: bytes after CONNECT or an upgrade.
    """

    def __init__(self, build: SimpleNamespace, kind: str, *, no_bodies: bool = False, max_head: int = MAX_HEAD_BYTES):
        self.build = build
        self.is_request = kind == "request"
        self.no_bodies = no_bodies
        self.max_head = max_head
        self.head: Any = build.Head()
        self.body: Any = build.Body()
        self.error: tuple[int, str] | None = None
        self.messages: list[tuple[Any, ...]] = []
        self.payload = b""
        self.opaque: bytes | None = None
        self._held = b""
        self._in_body = False
        self._closing = False

    @property
    def verdict(self) -> str:
        if self.error is not None:
            return "reject"
        return "accept" if self.messages or self.opaque is not None else "incomplete"

    def result(self) -> tuple[Any, ...]:
        return self.verdict, self.messages, self.opaque, self.payload, self.error

    def give(self, chunk: bytes) -> None:
        if self.error is not None:
            return
        if self.opaque is not None:
            self.opaque += chunk
            return
        data = self._held + chunk
        try:
            self._held = data[self._read(data) :]
        except self.build.ProtocolError as exc:
            self.error = (exc.status, str(exc))

    def give_all(self, data: bytes) -> None:
        """Byte by byte."""
        for k in range(len(data)):
            self.give(data[k : k + 1])

    def _read(self, data: bytes) -> int:
        pos = 0
        while pos < len(data):
            if self._closing:
                raise self.build.ProtocolError(400, "data after the last message")
            if not self._in_body:
                scan = self.head.scan_request if self.is_request else self.head.scan_response
                end = scan(data, pos, self.max_head)
                if end == 0:
                    return pos
                pos = end
                self._begin_body()
            pos = self._read_body(data, pos)
            if self.opaque is not None:
                self.opaque = data[pos:]
                return len(data)
        return pos

    def _begin_body(self) -> None:
        head, body = self.head, self.body
        self._in_body = True
        self.payload = b""
        if self.no_bodies or (head.status in range(100, 200)) or head.status in {204, 304} or head.method == b"CONNECT":
            body.begin_none()
        elif head.chunked:
            body.begin_chunked()
        elif head.content_length >= 0:
            body.begin_length(head.content_length)
        elif self.is_request:
            body.begin_none()
        else:
            body.begin_until_close()

    def _read_body(self, data: bytes, pos: int) -> int:
        head, body = self.head, self.body
        while pos < len(data) and not body.done:
            pos = body.feed(data, pos, len(data))
            self.payload += data[body.lo : body.hi]
        if body.done:
            self._in_body = False
            start = (head.method, head.target) if self.is_request else (head.status, head.reason)
            self.messages.append((*start, head.version, head.items(), self.payload))
            self.payload = b""
            switches = head.method == b"CONNECT" or (head.upgrade and self.is_request) or head.status == 101
            if switches:
                self.opaque = b""
            self._closing = not head.keep_alive and not switches
        return pos


def read(build: SimpleNamespace, kind: str, data: bytes, **options: Any) -> Reader:
    reader = Reader(build, kind, **options)
    reader.give(data)
    return reader
