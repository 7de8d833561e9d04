"""Recorded traffic of real providers through a whole sidecar: every byte arrives as it was, and usage is read right.

The app says what was recorded, by plain HTTP through the forward proxy; the provider is a server that replays the
recorded answer. Framing and encoding that the recorder kept beside decoded bodies are left out.
"""

import asyncio
import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from dialects import test_usage
from outrider.dialects.usage import READERS
from outrider.providers import BUILT_IN
from outrider_ext.eventstream import EventStreamReader
from support import vectors
from support.running import client_of, host_of, running
from support.wire import Peer

# Of the recorded heads: what describes bytes that are not replayed, and what concerns one connection alone.
NOT_REPLAYED = {
    "connection", "content-encoding", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "accept-encoding", "expect", "alt-svc", "x-forwarded-for", "via", "forwarded",
    "proxy-authorization", "x-should-retry",
}  # fmt: skip
# Which providers' addresses the recordings name, beside the built-in ones.
OURS = {"127.0.0.1:11434": "/ollama", "localhost:8000": "/vllm"}


class Replay(asyncio.Protocol):
    """Answers each whole request with what `answer` holds; keeps what it was asked."""

    def __init__(self, owner: "Provider") -> None:
        self._owner = owner
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        if found and len(rest) >= size:
            self._data = rest[size:]
            self._owner.head, self._owner.body = head, rest[:size]
            for piece in self._owner.answer:
                self._transport.write(piece)


class Provider:
    def __init__(self) -> None:
        self.answer: list[bytes] = []
        self.head = self.body = b""
        self.open: set[asyncio.Transport] = set()


@asynccontextmanager
async def replaying(folder: Path, **sections: Any) -> AsyncIterator[tuple[Any, Provider]]:
    owner = Provider()
    server = await asyncio.get_running_loop().create_server(lambda: Replay(owner), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    more = {"bedrock": {"region": "us-east-1"}, "vertex": {"region": "us-central1"}, "azure": {}}
    hosts = {"vllm": {"hosts": ["vllm.internal"]}}
    providers = {
        name: {"connect_to": url} | more.get(name, {}) | hosts.get(name, {}) for name in BUILT_IN if name != "other"
    }
    audit = {"log": "off", "audit": {"path": str(folder / "log" / "audit.jsonl")}}
    try:
        async with running(folder, providers, environ={}, telemetry=audit, **sections) as sidecar:
            yield sidecar, owner
    finally:
        server.close()
        for transport in list(owner.open):
            transport.abort()
        await server.wait_closed()


def fields_of(pairs: Any) -> list[tuple[str, str]]:
    found = pairs.items() if isinstance(pairs, dict) else pairs or ()
    return [(name, value) for name, value in ((str(one[0]), one[1]) for one in found)
            if isinstance(value, str) and name.lower() not in NOT_REPLAYED and not re.search(r"[\r\n\0]", value)
            and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)]  # fmt: skip


def lines_of(fields: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value.strip()}\r\n" for name, value in fields).encode("utf-8")


def asked_by(row: dict[str, Any]) -> bytes:
    if row.get("req_b64"):
        return b64decode(row["req_b64"])
    return (row.get("req") or "").encode()


def answered_with(row: dict[str, Any]) -> bytes:
    if row.get("resp_b64"):
        return b64decode(row["resp_b64"])
    return (row.get("resp") or "").encode()


def kind_of(body: bytes) -> str:
    if body.startswith((b"event:", b"data:", b":")):
        return "text/event-stream"
    return "application/json" if body.lstrip()[:1] in (b"{", b"[") else "application/vnd.amazon.eventstream"


def framed(row: dict[str, Any], body: bytes) -> list[bytes]:
    """A stream comes in chunks that care for no event; all else with its length."""
    fields = fields_of(row.get("resp_headers"))
    types = [value for name, value in fields if name.lower() == "content-type"]
    if not types or types[0].startswith("**"):  # the recorder kept no head, or hid what stood in it
        fields = [field for field in fields if field[0].lower() != "content-type"]
        fields.append(("content-type", kind_of(body)))
    head = b"HTTP/1.1 %d Recorded\r\n%b" % (row["status"], lines_of(fields))
    if not row["stream"]:
        return [head + b"content-length: %d\r\n\r\n%b" % (len(body), body)]
    step = max(len(body) // 5 + 1, 1)
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    return [head + b"transfer-encoding: chunked\r\n\r\n",
            *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks), b"0\r\n\r\n"]  # fmt: skip


def target_of(row: dict[str, Any], sidecar: Any) -> tuple[bytes, bytes] | None:
    """(target, Host line); None where no provider of ours is named."""
    url = row["url"].partition("#")[0]
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.netloc in OURS:
        return (OURS[parts.netloc] + path).encode(), host_of(sidecar)
    if sidecar.snapshot.registry.by_host(parts.hostname, 80) is None:
        return None
    return f"http://{parts.hostname}{path}".encode(), f"host: {parts.hostname}\r\n".encode()


def fields_in(head: bytes) -> Counter[tuple[bytes, bytes]]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:] if line]
    return Counter((name.lower(), value.strip()) for name, _, value in lines)


async def answer_of(peer: Peer, row: dict[str, Any]) -> tuple[bytes, bytes]:
    if row["status"] in (204, 304):
        return await peer.head(), b""
    return await peer.answer()


async def test_recorded_exchanges_pass_unchanged_and_their_usage_is_read(
    no_leaked_tasks: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    usage: dict[str, tuple[dict[str, Any], Any]] = {}
    expected = {row["id"]: (name, operation) for row, name, operation in test_usage.recorded()}
    wrong: list[str] = []
    async with replaying(tmp_path, usage={"inject_stream_usage": False}) as (sidecar, provider):
        peer: Peer | None = None
        for row in vectors.rows("exchanges"):
            aimed = target_of(row, sidecar)
            if aimed is None:
                reasons[
                    f"{urlsplit(row['url']).netloc}: a host that no provider claims, so it is tunnelled unread"
                ] += 1
                continue
            body, answer = asked_by(row), answered_with(row)
            provider.answer = framed(row, answer)
            sent = fields_of(row.get("req_headers"))
            length = b"content-length: %d\r\n" % len(body) if body or row["method"] != "GET" else b""
            peer = peer or await client_of(sidecar)
            head = b"%b %b HTTP/1.1\r\n%b%b" % (row["method"].encode(), aimed[0], aimed[1], lines_of(sent))
            await peer.send(head + length + b"\r\n" + body)
            told, came = await answer_of(peer, row)
            where = f"{row['id']} {row['url']}"
            if provider.body != body:
                wrong.append(f"{where}: the request's body is not what it was")
            if came != answer or int(told.split(b" ", 2)[1]) != row["status"]:
                wrong.append(f"{where}: {told[:60]!r}, {len(came)} bytes of {len(answer)} came")
            lost = fields_in(lines_of(sent)) - fields_in(provider.head)
            if lost:
                wrong.append(f"{where}: {lost} did not reach the provider")
            hidden = fields_in(provider.answer[0].partition(b"\r\n\r\n")[0]) - fields_in(told)
            reframed = {b"transfer-encoding"} | ({b"content-length"} if row["status"] == 204 else set())  # it has none
            hidden = Counter({field: n for field, n in hidden.items() if field[0] not in reframed})
            if hidden:
                wrong.append(f"{where}: {hidden} did not reach the app")
            counted[row["provider"]] += 1
            if row["id"] in expected:
                found = re.search(rb"x-outrider-request-id: (\w+)", told)
                assert found is not None
                usage[found[1].decode()] = (row, expected[row["id"]])
            if b"connection: close" in told.lower():
                peer.close()
                peer = None
        if peer is not None:
            peer.close()
    read = judged_usage(tmp_path, usage, wrong)
    with capsys.disabled():
        print(f"\nrecorded exchanges through the sidecar, unchanged: {counted.total()} ({dict(counted.most_common())})")
        print(f"usage read as the recording says: {read.total()} ({dict(read.most_common())})")
        for reason, number in reasons.most_common():
            print(f"not judged: {number} of {reason}")
    assert not wrong, "\n".join(wrong[:30]) + f"\n{len(wrong)} in all"
    assert counted.total() + reasons.total() == len(vectors.rows("exchanges"))
    assert counted.total() >= 1090
    assert read.total() >= 750


def judged_usage(folder: Path, asked: dict[str, tuple[dict[str, Any], Any]], wrong: list[str]) -> Counter[str]:
    """What the audit log has of each exchange beside what an independent reading of the recording says."""
    counted: Counter[str] = Counter()
    lines = [json.loads(line) for path in sorted((folder / "log").glob("audit-0*.jsonl"))
             for line in path.read_text().splitlines()]  # fmt: skip
    told = {line["id"]: line.get("tokens") for line in lines if line["event"] == "exchange"}
    for request_id, (row, (name, operation)) in asked.items():
        want, tokens = wanted(row, name, operation), told[request_id]
        if tokens is None or tokens["estimated"]:
            if want is not None:
                wrong.append(f"{row['id']} {row['url']}: usage {want} was not read ({tokens})")
            continue
        got = (tokens["input"], tokens["output"], tokens["cache_read"], tokens["reasoning"])
        if want is None or any(one is not None and one != two for one, two in zip(want, got, strict=True)):
            wrong.append(f"{row['id']} {row['url']}: usage was read as {got}, and is {want}")
            continue
        counted[operation.usage] += 1
    return counted


def wanted(row: dict[str, Any], name: str, operation: Any) -> Any:
    """None where the recording has no usage."""
    body = answered_with(row)
    text = body.decode("utf-8", "replace")
    if operation.usage == "bedrock.invoke" or operation.stream == "eventstream":
        return from_frames(row, operation, body)
    if operation.stream == "ndjson" and "\n" in text.strip() and not text.startswith("["):
        return test_usage.expected_of(name, operation.usage, json.loads(text.strip().splitlines()[-1]))
    if test_usage.sse_data(text) and not text.lstrip().startswith(("{", "[")):
        return test_usage.expected_stream(name, operation.usage, test_usage.sse_data(text))
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return test_usage.expected_of(name, operation.usage, document[-1] if isinstance(document, list) else document)


def from_frames(row: dict[str, Any], operation: Any, body: bytes) -> Any:
    """Bedrock says it in its heads, or in the frames' last ones: read by the reader that test_usage judges."""
    reader = READERS[operation.usage]
    heads = {name.lower().encode(): value.encode() for name, value in fields_of(row.get("resp_headers"))}
    if not row.get("resp_b64"):
        said = reader.read_body(body)
        told = reader.read_headers({name: heads[name] for name in reader.header_names if name in heads})
        return test_usage.brief(told or said)
    payloads = [message.payload for message in EventStreamReader().receive_data(body)]
    return test_usage.brief(test_usage.read_stream(reader, payloads))
