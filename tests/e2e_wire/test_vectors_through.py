"""Messages collected by others, sent through a running sidecar: nothing arrives as something else than was decided.

What a vector says is read by tests/ext/http1_driver (which the vectors' own verdicts judge); what arrived at the other
side is read by h11, another parser. Requests go by base_url and, where the vector has one, by an absolute target.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import h11
import pytest

from ext.http1_driver import builds, read
from outrider.runtime import Sidecar
from outrider_ext.sse import SseReader
from support.running import client_of, get, local, running
from support.wire import Peer, Provider

type Message = tuple[bytes, bytes, bytes]  # method, path, body


def load(vectors: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(vectors / name) as lines:
        return [json.loads(line) for line in lines]


def http1_rows(vectors: Path, kind: str) -> list[dict[str, Any]]:
    """The strict rows of one kind."""
    rows = load(vectors, "http1.jsonl.gz")
    return [row for row in rows if row["type"].startswith(kind) and "lenient" not in row["type"]]


# -- requests


class Recorder(asyncio.Protocol):
    """The provider: reads with h11, answers each whole request with 200, keeps what it read and what it could not."""

    def __init__(self, messages: list[Message], faults: list[str]) -> None:
        self._messages, self._faults = messages, faults
        self._reader = h11.Connection(h11.SERVER)
        self._message: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.receive_data(data)
        try:
            self._read()
        except h11.RemoteProtocolError as exc:
            self._faults.append(f"{exc}: {data!r}")
            self._transport.abort()

    def _read(self) -> None:
        while True:
            event = self._reader.next_event()
            if isinstance(event, h11.Request):
                self._message = [event.method, event.target]
            elif isinstance(event, h11.Data):
                self._message.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
            else:
                return

    def _answer(self) -> None:
        method, target, *body = self._message
        self._messages.append((method, target, b"".join(body)))
        head_only = method == b"HEAD"
        for event in (
            h11.Response(status_code=200, headers=[("content-length", "2")]),
            *([] if head_only else [h11.Data(data=b"ok")]),
            h11.EndOfMessage(),
        ):
            self._transport.write(self._reader.send(event) or b"")
        if self._reader.our_state is h11.DONE and self._reader.their_state is h11.DONE:
            self._reader.start_next_cycle()


class Recorded:
    """A sidecar and the recorder behind it."""

    def __init__(self, sidecar: Sidecar, messages: list[Message], faults: list[str]) -> None:
        self.sidecar, self.messages, self.faults = sidecar, messages, faults

    async def play(self, data: bytes, step: int) -> tuple[list[Message], list[str], bytes]:
        """(whole messages that arrived, faults, what the client was told) of one connection that says `data`."""
        self.messages.clear()
        self.faults.clear()
        app = await client_of(self.sidecar)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for at in range(0, len(data), step):
                await app.send(data[at : at + step])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            app.end()
        with contextlib.suppress(OSError):
            await app.rest()
        app.close()
        return list(self.messages), list(self.faults), app.read


@pytest.fixture
async def recorded(no_leaked_tasks: None, tmp_path: Path) -> AsyncIterator[Recorded]:
    messages: list[Message] = []
    faults: list[str] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Recorder(messages, faults), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(tmp_path, local(f"http://127.0.0.1:{port}")) as sidecar:
        yield Recorded(sidecar, messages, faults)
    server.close()
    await server.wait_closed()


def aimed(data: bytes, own: bytes) -> bytes:
    """The message, addressed to the provider behind the sidecar, as little changed as that takes."""
    data = re.sub(rb"^([A-Z-]+ )/", rb"\1/local/", data, flags=re.MULTILINE)
    data = re.sub(rb"^([A-Z-]+ )http://[^/ \r\n?]+", rb"\1http://llm.internal", data, flags=re.MULTILINE)
    data = re.sub(rb"^origin:[^\r\n]*\r\n", b"", data, flags=re.IGNORECASE | re.MULTILINE)  # a web page's: refused
    host = re.compile(rb"^(host *:[ \t]*)[^\r\n]*", re.IGNORECASE | re.MULTILINE)
    if host.search(data):
        return host.sub(rb"\g<1>" + own, data)
    return re.sub(rb"^([A-Z-]+ [^ \r\n]+ HTTP/1\.[01]\r\n)", rb"\1Host: " + own + rb"\r\n", data, flags=re.MULTILINE)


def expected(data: bytes) -> tuple[list[Message], bool]:
    """(the messages that may arrive, whether there may be more). Targets without a provider are refused by routing."""
    reader = read(builds()[0], "request", data)
    wanted = []
    for method, target, _version, _fields, body in reader.messages:
        if (
            method == b"CONNECT"
            or target == b"*"
            or (b"://" in target and not target.startswith(b"http://llm.internal/"))
        ):
            continue
        wanted.append((method, target.removeprefix(b"http://llm.internal").removeprefix(b"/local"), body))
    return wanted, reader.opaque is not None


VARIANTS: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "whole": lambda data: (data, len(data) or 1),
    "drip": lambda data: (data, 1),
    "trailing": lambda data: (data + b"\0\r\n\r\nx", len(data) or 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_requests_arrive_as_they_were_read_or_not_at_all(vectors: Path, recorded: Recorded, variant: str) -> None:
    own = b"127.0.0.1:%d" % recorded.sidecar.proxy_addresses[0][1]
    wrong = []
    for row in http1_rows(vectors, "request"):
        message = aimed(base64.b64decode(row["b64"]), own)
        if message.startswith(b"CONNECT") or not message:
            continue  # the door's, with tests of its own
        data, step = VARIANTS[variant](message)
        wanted, open_ended = expected(data)
        arrived, faults, told = await recorded.play(data, step)
        if faults:
            wrong.append(f"{row['id']}: the provider could not read {faults}")
        if arrived != wanted and not (open_ended and arrived[: len(wanted)] == wanted):
            wrong.append(f"{row['id']}: {arrived} arrived, not {wanted}; told {told[:200]!r}")
    assert not wrong, "\n".join(wrong)


async def test_most_accepted_requests_do_arrive(vectors: Path, recorded: Recorded) -> None:
    """So that the test above is not one of refusals only."""
    own = b"127.0.0.1:%d" % recorded.sidecar.proxy_addresses[0][1]
    accepted = [row for row in http1_rows(vectors, "request") if row["expect"] == "accept"]
    arrived = 0
    for row in accepted:
        message = aimed(base64.b64decode(row["b64"]), own)
        if not message.startswith(b"CONNECT"):
            arrived += bool((await recorded.play(message, len(message)))[0])
    assert arrived >= 0.7 * len(accepted)


async def test_refused_requests_are_told_so(vectors: Path, recorded: Recorded) -> None:
    own = b"127.0.0.1:%d" % recorded.sidecar.proxy_addresses[0][1]
    for row in http1_rows(vectors, "request"):
        message = aimed(base64.b64decode(row["b64"]), own)
        reader = read(builds()[0], "request", message)
        if reader.verdict == "reject" and not reader.messages and not message.startswith(b"CONNECT"):
            _, _, told = await recorded.play(message, len(message))
            last = re.findall(rb"^HTTP/1\.1 (\d\d\d) ", told, re.MULTILINE)[-1]
            assert last[:1] == b"4" or last in (b"501", b"505"), (row["id"], told)


# -- answers


async def told_of(app: Peer, sidecar: Sidecar) -> tuple[str, int, bytes]:
    """("whole" | "cut" | "malformed: why", status, body) of one answer as h11 reads it."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    status, body, at_end = 0, b"", False
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError as exc:
            return "cut" if at_end else f"malformed: {exc}", status, body
        if event is h11.NEED_DATA:
            try:
                data = await app.more()
            except ConnectionResetError:
                return "cut", status, body
            at_end = not data
            reader.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return "whole", status, body
        else:
            return "cut", status, body


def decided(data: bytes) -> tuple[int, bytes] | None:
    """(status, body) of the final answer that stands in the vector, if one does; the connection ends after it."""
    reader = read(builds()[0], "response", data)
    for status, _reason, _version, _fields, body in reader.messages:
        if status >= 200:
            return status, body
    if reader.verdict == "incomplete" and reader.head.end and reader.head.status >= 200 and reader.body.finish_eof():
        return reader.head.status, reader.payload
    return None


@pytest.mark.parametrize("step", [1 << 20, 1], ids=["whole", "drip"])
async def test_answers_are_passed_on_as_they_were_read_or_are_502_or_a_cut(
    no_leaked_tasks: None, vectors: Path, tmp_path: Path, step: int
) -> None:
    wrong, passed = [], 0
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        for row in http1_rows(vectors, "response"):
            data = base64.b64decode(row["b64"])
            app = await client_of(sidecar)
            await app.send(get(sidecar))
            behind = await provider.accept()
            await behind.head()
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for at in range(0, len(data), step):
                    await behind.send(data[at : at + step])
                    await asyncio.sleep(0)
            behind.close()
            outcome, status, body = await told_of(app, sidecar)
            app.close()
            wanted = decided(data)
            passed += outcome == "whole" and wanted is not None
            if outcome == "whole" and status == 502 and b"upstream_broken" in body:
                continue
            ended_as_wanted = (status, body) == wanted if outcome == "whole" else outcome == "cut" and wanted is None
            if not ended_as_wanted:
                wrong.append(f"{row['id']}: {outcome} {status} {body[:80]!r}, not {wanted}")
    assert not wrong, "\n".join(wrong)
    assert passed > 20


# -- streams


def events_of(chunks: list[bytes]) -> list[tuple[bytes, bytes, bytes | None]]:
    reader = SseReader()
    return [(event.name, event.data, event.id) for chunk in chunks for event in reader.receive_data(chunk)]


async def test_streams_arrive_with_the_same_bytes_and_their_events_whole(
    no_leaked_tasks: None, vectors: Path, tmp_path: Path
) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(get(sidecar))
        behind = await provider.accept()
        for row in load(vectors, "sse.jsonl.gz"):
            chunks = [base64.b64decode(chunk) for chunk in row["chunks"]]
            await behind.head()
            await behind.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for chunk in chunks:
                if chunk:
                    await behind.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    await asyncio.sleep(0)
            await behind.send(b"0\r\n\r\n")
            _, body = await app.answer()
            assert body == b"".join(chunks), row["id"]
            assert events_of([body]) == events_of(chunks), row["id"]
            await app.send(get(sidecar))
        app.close()
