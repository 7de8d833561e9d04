"""Two servers that keep every byte they get: the provider that config names, and one of the attacker's.

Does not know: what an attack is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from outrider.runtime import Sidecar
from support.running import KEY, client_of, running
from support.wire import Peer

OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SECRET = KEY.encode()
KEPT_BYTES = 4096  # of each body


class Recorder:
    """Answers every request with `answer` and keeps what it received in `seen`."""

    def __init__(self, answer: bytes = OK_2) -> None:
        self.answer = answer
        self.seen = b""
        self.requests = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen += head
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.seen += (await reader.readexactly(int(length or 0)))[:KEPT_BYTES]
                self.requests += 1
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def listen(self, address: str) -> None:
        """Anew, on another address."""
        if self._server is not None:
            self._server.close()
        self._server = await asyncio.start_server(self._serve, address, 0)

    async def __aenter__(self) -> "Recorder":
        await self.listen("127.0.0.1")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()


def openai(url: str, **more: Any) -> dict[str, Any]:
    return {"openai": {"connect_to": url, "credential": {"env": "OPENAI_API_KEY"}, **more}}


def local(url: str, **more: Any) -> dict[str, Any]:
    """The provider `local` with the credential."""
    settings = {"kind": "openai", "hosts": ["llm.internal"], "connect_to": url}
    return {"local": {**settings, "credential": {"env": "OPENAI_API_KEY"}, **more}}


@asynccontextmanager
async def guarded(folder: Path, provider: Recorder, **sections: Any) -> AsyncIterator[Sidecar]:
    """openai and an Azure resource lead to `provider`, with the credential."""
    azure = {"hosts": ["mine.openai.azure.com"], "connect_to": provider.url, "credential": {"env": "OPENAI_API_KEY"}}
    async with running(folder, openai(provider.url) | {"azure": azure}, **sections) as sidecar:
        yield sidecar


def key_of(sidecar: Sidecar) -> bytes:
    return sidecar.placeholder.value.encode()


def bearer(sidecar: Sidecar) -> bytes:
    return b"authorization: Bearer " + key_of(sidecar) + b"\r\n"


async def ask(sidecar: Sidecar, data: bytes, *, connect: bytes | None = None) -> bytes:
    """The head of the answer to `data`, inside a CONNECT tunnel to `connect` where one is named; b"" is a hang-up."""
    client: Peer = await client_of(sidecar)
    try:
        if connect is not None:
            await client.send(b"CONNECT " + connect + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await client.head()
            if not head.startswith(b"HTTP/1.1 200"):
                return head
        await client.send(data)
        head = b""
        while b"\r\n\r\n" not in head and (more := await client.more()):
            head += more
        return head
    except ConnectionError:
        return b""
    finally:
        client.close()
