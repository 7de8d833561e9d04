"""Faults, pace and the journal, seen from a bare socket: nothing between the test and the wire."""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from outrider.mock import Behaviour, MockProvider
from outrider.mock.behaviour import from_headers, from_json

BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "a b c"}]}).encode()
STREAM = json.dumps(json.loads(BODY) | {"stream": True}).encode()


@pytest.fixture
async def mock() -> AsyncIterator[MockProvider]:
    async with MockProvider(tls=False, capture=True) as provider:
        yield provider


def post(body: bytes = BODY, headers: str = "", path: str = "/v1/chat/completions") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\n"
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def exchange(mock: MockProvider, request: bytes) -> bytes:
    """Everything that comes until the mock ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(request.replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1))
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    if fields.get("Transfer-Encoding") == "chunked":
        body = b"".join(chunks(body))
    return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body


def chunks(body: bytes) -> list[bytes]:
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return parts


# --- the journal ------------------------------------------------------------------------------------------------------


async def test_the_journal_keeps_case_order_and_encoding_of_what_came(mock: MockProvider) -> None:
    path = "/v1/models/a%2Fb%20c?x=%41&x=b"
    request = f"GET {path} HTTP/1.1\r\nHoSt: h\r\nX-B: 1\r\nx-a: \xe9\r\nX-B: 2\r\nAuthorization: Bearer k\r\n\r\n"
    await exchange(mock, request.replace("HoSt", "Connection: close\r\nHoSt").encode("latin-1"))
    (entry,) = mock.journal
    assert (entry.method, entry.target, entry.version) == ("GET", path, "HTTP/1.1")
    assert entry.headers[1:5] == [(b"HoSt", b"h"), (b"X-B", b"1"), (b"x-a", b"\xe9"), (b"X-B", b"2")]
    assert entry.all("x-b") == ["1", "2"]
    assert (entry.status, entry.completed, entry.disconnected) == (404, True, False)


async def test_a_kept_connection_keeps_its_id_and_a_new_one_gets_another(mock: MockProvider) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post() + post())  # pipelined
    await mock.until(lambda: sum(entry.completed for entry in mock.journal) == 2)
    writer.close()
    await writer.wait_closed()
    await exchange(mock, post())
    assert [entry.connection_id for entry in mock.journal] == [1, 1, 2]
    assert mock.connections_total == 2
    await mock.until(lambda: mock.connections == 0)


async def test_a_chunked_and_coded_request_body_is_journalled_without_its_framing_only(mock: MockProvider) -> None:
    packed = gzip.compress(BODY)
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    head = post(b"", "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n").replace(b"Content-Length: 0\r\n", b"")
    await exchange(mock, head + framed)
    assert mock.journal[0].body == packed
    assert mock.journal[0].body_complete


async def test_a_body_that_ends_early_is_told_as_far_as_it_came(mock: MockProvider) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post()[:-10])
    await mock.until(lambda: len(mock.journal) == 1)
    writer.close()
    await writer.wait_closed()
    await mock.until(lambda: mock.journal[0].disconnected)
    assert BODY.startswith(mock.journal[0].body)
    assert not mock.journal[0].body_complete


async def test_a_client_that_leaves_in_the_middle_is_noticed(mock: MockProvider) -> None:
    mock.next(stall="events", stall_after=2)
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post(STREAM))
    await reader.readuntil(b"Echo:")
    await mock.until(lambda: mock.stalled == 1)
    writer.close()
    await writer.wait_closed()
    await mock.until(lambda: mock.journal[0].disconnected)
    assert (mock.journal[0].completed, mock.journal[0].sent_events, mock.stalled) == (False, 2, 0)


async def test_malformed_heads_are_refused_and_their_bytes_captured(mock: MockProvider) -> None:
    answer = await exchange(mock, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert len(mock.journal) == 0
    assert mock.captured is not None
    assert b"Content-Length: 2" in mock.captured[1]


async def test_the_journal_is_served_and_cleared_over_http(mock: MockProvider) -> None:
    await exchange(mock, post())
    _, _, body = split(await exchange(mock, b"GET /__mock__/journal HTTP/1.1\r\nHost: x\r\n\r\n"))
    (row,) = json.loads(body)
    assert (row["target"], json.loads(row["body"])["model"]) == ("/v1/chat/completions", "gpt-4o")
    status, _, _ = split(await exchange(mock, b"DELETE /__mock__/journal HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert (status, len(mock.journal)) == (204, 0)


async def test_sni_is_journalled_and_the_certificate_stands_for_every_provider() -> None:
    async with MockProvider() as mock:
        context = ssl.create_default_context(cafile=str(mock.ca_file))
        hosts = ("api.openai.com", "bedrock-runtime.us-east-1.amazonaws.com", "me.openai.azure.com", "localhost")
        for host in hosts:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", mock.https_port, ssl=context, server_hostname=host
            )
            writer.write(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert [entry.tls_sni for entry in mock.journal] == list(hosts)


@pytest.mark.parametrize("kind", ["expired", "wrong-name"])
async def test_a_broken_certificate_is_one_that_clients_refuse(kind: str) -> None:
    async with MockProvider(certificate=kind) as mock:
        context = ssl.create_default_context(cafile=str(mock.ca_file))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", mock.https_port, ssl=context, server_hostname="localhost")


async def test_the_journal_file_gets_a_line_a_request(tmp_path: Any) -> None:
    path = tmp_path / "journal.jsonl"
    async with MockProvider(tls=False, journal_file=path) as mock:
        await exchange(mock, post())
        await exchange(mock, post())
    assert [json.loads(line)["status"] for line in path.read_text().splitlines()] == [200, 200]


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_status_on_demand_counts_down_and_can_name_a_path(mock: MockProvider) -> None:
    mock.fail(503, times=2, path="/chat/")
    models = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
    seen = [split(await exchange(mock, request))[0] for request in (models, post(), post(), post())]
    assert seen == [200, 503, 503, 200]


async def test_request_headers_ask_for_faults_too(mock: MockProvider) -> None:
    asked = "x-mock-status: 429\r\nx-mock-headers: retry-after=3; x-other=a b\r\n"
    status, headers, body = split(await exchange(mock, post(headers=asked)))
    assert (status, headers["retry-after"], headers["x-other"]) == (429, "3", "a b")
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


async def test_a_behaviour_can_be_queued_over_http(mock: MockProvider) -> None:
    fields = json.dumps({"status": 500, "times": 1}).encode()
    assert split(await exchange(mock, post(fields, path="/__mock__/next")))[0] == 204
    assert split(await exchange(mock, post()))[0] == 500
    assert split(await exchange(mock, post(b'{"nonsense": 1}', path="/__mock__/next")))[0] == 400


async def test_chunk_bytes_cuts_across_events_and_loses_nothing(mock: MockProvider) -> None:
    whole = split(await exchange(mock, post(STREAM, "x-mock-events: 20\r\n")))[2]
    cut = await exchange(mock, post(STREAM, "x-mock-events: 20\r\nx-mock-chunk-bytes: 7\r\n"))
    sizes = [len(part) for part in chunks(cut.partition(b"\r\n\r\n")[2])]
    assert set(sizes[:-1]) == {7}
    assert split(cut)[2].count(b"data: ") == whole.count(b"data: ") == 23


async def test_gzip_is_flushed_at_each_event(mock: MockProvider) -> None:
    request = post(STREAM, "Accept-Encoding: gzip\r\nx-mock-gzip: 1\r\n")
    answer = await exchange(mock, request)
    _, headers, body = split(answer)
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body).endswith(b"data: [DONE]\n\n")
    assert len(chunks(answer.partition(b"\r\n\r\n")[2])) == gzip.decompress(body).count(b"data: ") + 1
    assert "content-encoding" not in split(await exchange(mock, post(STREAM, "x-mock-gzip: 1\r\n")))[1]


async def test_a_cut_after_events_leaves_the_framing_open(mock: MockProvider) -> None:
    answer = await exchange(mock, post(STREAM, "x-mock-cut-after: 3\r\n"))
    assert answer.count(b"data: ") == 3
    assert not answer.endswith(b"0\r\n\r\n")
    assert (mock.journal[0].completed, mock.journal[0].disconnected) == (False, False)


async def test_a_cut_after_bytes_is_exact(mock: MockProvider) -> None:
    status, headers, body = split(await exchange(mock, post(headers="x-mock-cut-after-bytes: 10\r\n")))
    assert (status, len(body)) == (200, 10)
    assert int(headers["content-length"]) > 10


async def test_a_reset_is_a_reset(mock: MockProvider) -> None:
    with pytest.raises(ConnectionResetError):
        await exchange(mock, post(STREAM, "x-mock-cut-after: 1\r\nx-mock-cut: reset\r\n"))


async def test_a_close_delimited_answer_says_no_length(mock: MockProvider) -> None:
    _, headers, body = split(await exchange(mock, post(STREAM, "x-mock-framing: close\r\n")))
    assert not {"content-length", "transfer-encoding"} & set(headers)
    assert body.endswith(b"data: [DONE]\n\n")
    assert mock.journal[0].completed


async def test_interim_answers_and_trailers_are_sent_when_asked(mock: MockProvider) -> None:
    asked = "x-mock-informational: 103\r\nx-mock-trailers: x-sum=9\r\n"
    answer = await exchange(mock, post(STREAM, asked))
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"0\r\nx-sum: 9\r\n\r\n")


async def test_an_early_answer_does_not_wait_for_the_body(mock: MockProvider) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post(b"x" * 100_000, "x-mock-status: 413\r\nx-mock-early: 1\r\n")[:500])
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 413 " in head
    assert b"Connection: close" in head
    writer.close()
    await writer.wait_closed()


async def test_expect_continue_is_answered_before_the_body(mock: MockProvider) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    request = post(headers="Expect: 100-continue\r\n")
    writer.write(request[: -len(BODY)])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("stall", "seen"), [("head", b""), ("first", b"HTTP/1.1 200 OK"), ("events", b"data: ")])
async def test_a_stall_holds_until_it_is_released(mock: MockProvider, stall: str, seen: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post(STREAM, f"Connection: close\r\nx-mock-stall: {stall}\r\n"))
    await mock.until(lambda: mock.stalled == 1)
    if seen:
        assert seen in await reader.readuntil(seen)
    assert not mock.journal[0].completed
    mock.release()
    assert (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_closing_the_mock_ends_stalled_answers() -> None:
    mock = MockProvider(tls=False)
    await mock.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.http_port)
    writer.write(post(headers="x-mock-stall: head\r\n"))
    await mock.until(lambda: mock.stalled == 1)
    await mock.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_head_and_http_1_0_are_framed_as_they_must_be(mock: MockProvider) -> None:
    head = await exchange(mock, b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    answer = await exchange(mock, post(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def reject(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_unknown_and_unreadable_behaviours_are_refused_with_a_sentence() -> None:
    reject(lambda: from_headers({"x-mock-nonsense": "1"}), "x-mock-nonsense is no header of the mock")
    reject(lambda: from_headers({"x-mock-events": "many"}), "x-mock-events: 'many'")
    reject(lambda: from_json({"cutt": 1}), "unknown field 'cutt'")
    reject(lambda: Behaviour(stall="sometimes"), "stall is 'sometimes'")


def test_a_behaviour_over_another_wins_field_by_field() -> None:
    below = Behaviour(pace_ms=5.0, events=3)
    assert Behaviour(events=9).over(below) == Behaviour(pace_ms=5.0, events=9)
    assert struct.calcsize("ii") == 8  # what SO_LINGER takes here


@pytest.mark.parametrize(("cut", "end"), [("close", None), ("abort", ssl.SSLEOFError), ("reset", ConnectionResetError)])
async def test_over_tls_only_an_orderly_cut_says_goodbye(cut: str, end: type[OSError] | None) -> None:
    def read_all(mock: MockProvider) -> bytes:
        context = ssl.create_default_context(cafile=str(mock.ca_file))
        with (
            socket.create_connection(("127.0.0.1", mock.https_port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as secure,
        ):
            secure.sendall(post(STREAM, f"x-mock-framing: close\r\nx-mock-cut-after: 3\r\nx-mock-cut: {cut}\r\n"))
            parts = []
            while part := secure.recv(65536):
                parts.append(part)
            return b"".join(parts)

    async with MockProvider() as mock:
        if end is None:
            assert (await asyncio.to_thread(read_all, mock)).count(b"data: ") == 3
        else:
            with pytest.raises(end):
                await asyncio.to_thread(read_all, mock)
