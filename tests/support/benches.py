"""What the bench's tests share: one short run of its client, and peers that misbehave on purpose."""

import contextlib
import re
import socket
import threading

from bench.figures import Row
from bench.peers import PROVIDER_KEY

from bench import load, process

CORE = process.cores()[1]


def one_run(
    target: load.Target,
    mode: str = "keep",
    connections: int = 2,
    key: str = PROVIDER_KEY,
    seconds: float = 0.1,
    **numbers: float,
) -> load.Sample:
    auth = f"Bearer {key}"
    return load.run(target, None, mode=mode, connections=connections, seconds=seconds, auth=auth, core=CORE, **numbers)


def rows_of(cpu: dict[str, list[float]]) -> dict[str, Row]:
    return {name: Row(name, values={"cpu_us": values, "per_s": [1000.0]}, busy=[0.99]) for name, values in cpu.items()}


class Forwarder(threading.Thread):
    """A proxy of one connection: answers a CONNECT where asked, then copies bytes; answers go through `old` -> `new`.

    stall_s: it stops once for so long, after a few answers. back: `old` is changed on the way to the provider.
    """

    def __init__(
        self,
        port: int,
        *,
        tunnel: bool = False,
        old: bytes = b"",
        new: bytes = b"",
        back: bool = False,
        stall_s: float = 0,
    ) -> None:
        super().__init__(daemon=True)
        self._to, self._tunnel, self._stall_s = port, tunnel, stall_s
        self._answers, self._requests = ((b"", b""), (old, new)) if back else ((old, new), (b"", b""))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connect_head = b""

    def run(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                if self._tunnel:
                    while not self.connect_head.endswith(b"\r\n\r\n"):
                        self.connect_head += client.recv(1)
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                words = (server, client, *self._answers, self._stall_s)
                back = threading.Thread(target=self._copy, args=words, daemon=True)
                back.start()
                self._copy(client, server, *self._requests, 0)
                back.join()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, old: bytes, new: bytes, stall_s: float) -> None:
        pieces = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                pieces += 1
                if stall_s and pieces == 20:
                    threading.Event().wait(stall_s)
                sink.sendall(data.replace(old, new) if old else data)
        with contextlib.suppress(OSError):  # after a reset too: the other direction ends with this one
            sink.shutdown(socket.SHUT_RDWR)


class Answerer(threading.Thread):
    """A provider of one connection that gives every request the same answer, and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heads: list[bytes] = []

    def run(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, client.makefile("rb") as lines:
                while head := b"".join(iter(lines.readline, b"\r\n")) if lines.peek(1) else b"":
                    length = re.search(rb"content-length: (\d+)", head)
                    lines.read(int(length[1]) if length else 0)
                    self.heads.append(head)
                    client.sendall(self._answer)
