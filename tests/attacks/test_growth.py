"""Nothing that an app or a provider sends makes memory grow without bound, or stops the loop."""

import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.attack_rig import CHUNKED, OK_2, Recorder, ask, bearer, local
from outrider.runtime import Sidecar
from outrider.upstream import pool
from support.running import client_of, get, host_of, post, running, statuses, total, until
from support.wire import Peer, Provider

MIB = 1 << 20
USAGE = b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def taken() -> int:
    """Bytes of Python objects; the resident size would hide what earlier tests left to the allocator."""
    return tracemalloc.get_traced_memory()[0]


async def pour(provider_side: Peer, app: Peer, block: bytes, times: int) -> None:
    """Send `block` again and again while the app reads and drops."""

    async def write() -> None:
        for _ in range(times):
            await provider_side.send(block)

    writing = asyncio.create_task(write())
    seen = 0
    while seen < len(block) * times:
        seen += len(await app.more())
    await writing


# -- what the app sends


@pytest.mark.parametrize("field", [b"authorization: AWS4-HMAC-SHA256", b"x-api-key: AWS4-HMAC-SHA256"])
async def test_no_header_value_keeps_the_loop_busy(sidecar: Sidecar, field: bytes) -> None:
    for filler in (b" " * 60_000, b" Credential=" + b"A" * 50_000, b", " * 30_000):
        began = time.perf_counter()
        assert (await ask(sidecar, get(sidecar, more=field + filler + b"x\r\n"))).startswith(b"HTTP/1.1 401")
        assert time.perf_counter() - began < 3


async def test_a_held_body_in_tiny_chunks_takes_about_its_own_size(sidecar: Sidecar, app: Peer) -> None:
    await app.send(
        get(sidecar, b"/local/v1/chat/completions", b"transfer-encoding: chunked\r\n" + bearer(sidecar), b"POST")
    )
    before = taken()
    block = b"2\r\nxx\r\n" * 8192
    for _ in range(64):
        await app.send(block)
    await until(lambda: len(sidecar.hub.clients) == 1, "it is accepted")
    client = next(iter(sidecar.hub.clients))
    await until(lambda: client.current is not None and client.current.request_bytes == MIB, "1 MiB is held")
    assert taken() - before < 4 * MIB


async def test_names_of_models_are_not_remembered_at_any_length(tmp_path: Path) -> None:
    async with (
        Recorder() as provider,
        running(tmp_path, local(provider.url), telemetry={"log": str(tmp_path / "l")}) as sidecar,
    ):
        app = await client_of(sidecar)
        before = 0
        for number in range(50):
            model = b"%d" % number + b"m" * MIB
            await app.send(post(sidecar, b'{"model":"' + model + b'"}', more=bearer(sidecar)))
            await app.answer()
            if number == 10:
                before = taken()
        assert taken() - before < 8 * MIB
        app.close()


async def test_models_by_the_thousand_are_one_label_each_up_to_a_cap(tmp_path: Path) -> None:
    quiet = {"log": "off", "models_max": 5}
    async with Recorder() as provider, running(tmp_path, local(provider.url), telemetry=quiet) as sidecar:
        app = await client_of(sidecar)
        for number in range(300):
            await app.send(post(sidecar, b'{"model":"m\\u0000%d\\n"}' % number, more=bearer(sidecar)))
            await app.answer()
            await app.send(post(sidecar, b'{"model":"m%d"}' % number, more=bearer(sidecar)))
            await app.answer()
        assert len(sidecar.metrics.requests) <= 7
        assert b"\\x00" not in sidecar.metrics.exposition()
        app.close()


async def test_paths_without_number_take_bounded_room(tmp_path: Path) -> None:
    async with Recorder() as provider, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        for number in range(200):
            await app.send(get(sidecar, b"/local/v1/files/%d" % number + b"x" * 4000, bearer(sidecar)))
            await app.answer()
        remembered = sidecar.snapshot.router._own
        assert sum(len(path) for _, path in remembered) < 100_000
        app.close()


async def test_hosts_without_number_leave_a_bounded_number_of_connections(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, {}) as sidecar, Recorder() as anywhere:
        sidecar.hub.max_open = 20
        app = await client_of(sidecar)
        await anywhere.listen("0.0.0.0")
        for number in range(2, 102):
            host = b"127.0.1.%d:%d" % (number, anywhere.port)
            await app.send(b"GET http://%b/ HTTP/1.1\r\nhost: x\r\n\r\n" % host)
            assert (await app.answer())[1] == b"ok"
        assert len(sidecar.hub.upstreams) <= 21
        app.close()


async def test_a_failed_handshake_is_counted_under_the_provider_and_not_the_host(tmp_path: Path) -> None:
    import ssl

    async with running(tmp_path, {}) as sidecar:
        for number in range(5):
            name = f"tenant-{number}.openai.azure.com"
            app = await client_of(sidecar)
            await app.send(f"CONNECT {name}:443 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await app.head()
            with pytest.raises(ssl.SSLError):
                await app.start_tls(ssl.create_default_context(), server_side=False, name=name)
            await app._flush()
            app.close()
        await until(lambda: total(sidecar, "outrider_events_total", event="client_untrusting") == 5, "all are counted")
        assert {labels[1] for labels in sidecar.metrics.events.values} <= {"", "azure"}


async def test_a_client_that_gives_up_waiting_leaves_no_place_taken(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_WAITING", 3)
    async with running(tmp_path, local(provider.url), upstream={"max_connections_per_host": 1}) as sidecar:
        first = await client_of(sidecar)
        await first.send(get(sidecar, more=bearer(sidecar)))
        behind = await provider.accept()
        await behind.head()
        for _ in range(10):
            waiting = await client_of(sidecar)
            await waiting.send(get(sidecar, more=bearer(sidecar)))
            await until(lambda: sidecar.hub.exchanges == 2, "it waits")
            waiting.close()
            await until(lambda: sidecar.hub.exchanges == 1, "it has left")
        last = await client_of(sidecar)
        await last.send(get(sidecar, more=bearer(sidecar)))
        await until(lambda: sidecar.hub.exchanges == 2, "it waits")
        for app in (first, last):
            await behind.send(OK_2)
            assert (await app.answer())[1] == b"ok"
            app.close()


async def test_an_endless_head_ends_at_the_cap(sidecar: Sidecar) -> None:
    for start in (
        b"GET /" + b"a" * 100_000,
        host_of(sidecar),
        b"\r\n" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    ):
        assert (await ask(sidecar, start))[9:10] in (b"4", b"5", b"")


@pytest.mark.parametrize("tail", [b"1;" + b"x" * 9000, b"0\r\n" + b"a: b\r\n" * 3000, b"f" * 17])
async def test_chunk_extensions_and_trailers_end_at_the_cap(sidecar: Sidecar, tail: bytes) -> None:
    head = get(sidecar, b"/local/v1/chat/completions", b"transfer-encoding: chunked\r\n" + bearer(sidecar), b"POST")
    assert (await ask(sidecar, head + tail)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "body", [b"[" * MIB, b'{"a":' * 200_000, b'{"model":' + b"[" * MIB, b'{"model":"' + b"\\u0041" * 100_000]
)
async def test_deep_json_is_the_providers_business_and_costs_nothing(tmp_path: Path, body: bytes) -> None:
    async with Recorder() as provider, running(tmp_path, local(provider.url)) as sidecar:
        began = time.perf_counter()
        assert (await ask(sidecar, post(sidecar, body, more=bearer(sidecar))))[9:10] in (b"2", b"4")
        assert time.perf_counter() - began < 3
        assert total(sidecar, "outrider_events_total", event="internal_error") == 0


# -- what the provider sends


async def answered(sidecar: Sidecar, provider: Provider, app: Peer, head: bytes) -> Peer:
    await app.send(post(sidecar, b'{"model":"m"}', more=bearer(sidecar) + b"accept-encoding: gzip\r\n"))
    behind = await provider.accept()
    await behind.head()
    await behind.send(head)
    await app.head()
    return behind


async def test_bytes_after_the_end_of_gzip_are_not_kept(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    first = gzip.compress(USAGE)
    size = len(first) + 64 * MIB
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % size
    behind = await answered(sidecar, provider, app, head + first)
    await app.exactly(len(first))
    before = taken()
    await pour(behind, app, b"x" * MIB, 48)
    assert taken() - before < 24 * MIB
    await pour(behind, app, b"x" * MIB, 16)
    await until(lambda: statuses(sidecar) == {"200": 1}, "it is recorded")
    assert total(sidecar, "outrider_tokens_total", type="input") == 3


async def test_a_gzip_bomb_is_passed_on_and_not_blown_up(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    packer = zlib.compressobj(9, wbits=31)
    zeros = b"0" * MIB
    bomb = b"".join(packer.compress(zeros) for _ in range(1024)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    behind = await answered(sidecar, provider, app, head)
    before, began = taken(), time.process_time()
    await behind.send(bomb)
    assert await app.exactly(len(bomb)) == bomb
    assert taken() - before < 24 * MIB
    assert time.process_time() - began < 3
    await until(lambda: statuses(sidecar) == {"200": 1}, "it is recorded")
    assert total(sidecar, "outrider_events_total", event="internal_error") == 0


async def test_an_answer_in_tiny_chunks_takes_no_room_of_its_own(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    behind = await answered(sidecar, provider, app, CHUNKED)
    before = taken()
    await pour_chunks(behind, app, b"2\r\nxx\r\n" * 8192, 50)
    assert taken() - before < 16 * MIB


async def pour_chunks(behind: Peer, app: Peer, block: bytes, times: int) -> None:
    """Framing may change on the way: read until nothing more comes for as long as the provider wrote."""
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            await app.more()

    reading = asyncio.create_task(read())
    for _ in range(times):
        await behind.send(block)
    await asyncio.sleep(0.1)
    done.set()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000, b"x" * 1000, b": comment\n"])
async def test_an_event_without_end_is_not_collected(
    sidecar: Sidecar, provider: Provider, app: Peer, line: bytes
) -> None:
    behind = await answered(
        sidecar,
        provider,
        app,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999999\r\n\r\n: hi\n\n",
    )
    before = taken()
    block = line * (MIB // len(line))
    await pour_chunks(behind, app, block, 40)
    assert taken() - before < 16 * MIB


async def test_interim_answers_end_at_eight(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    await app.send(get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    await behind.head()
    await behind.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 9)
    assert (await app.answer())[0].startswith(b"HTTP/1.1 502")


HOSTILE_USAGE = [
    b'{"prompt_tokens":-5,"completion_tokens":-1,"total_tokens":-6}',
    b'{"prompt_tokens":1e308,"completion_tokens":1e400,"total_tokens":0}',
    b'{"prompt_tokens":99999999999999999999999999,"completion_tokens":9223372036854775807,"total_tokens":1}',
    b'{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775807}',
    b'{"prompt_tokens":"12","completion_tokens":[1],"total_tokens":{}}',
    b'{"prompt_tokens":true,"completion_tokens":null,"prompt_tokens_details":[],"completion_tokens_details":"x"}',
    b'{"prompt_tokens":1.5,"completion_tokens":2.5,"prompt_tokens_details":{"cached_tokens":-9}}',
    b"[]",
    b'"x"',
    b"[" * 2000 + b"]" * 2000,
]


@pytest.mark.parametrize("usage", HOSTILE_USAGE)
@pytest.mark.parametrize("streamed", [False, True])
async def test_usage_that_cannot_be_is_never_negative_and_never_an_error(
    tmp_path: Path, usage: bytes, streamed: bool
) -> None:
    body = b'{"model":"m","choices":[],"usage":' + usage + b"}"
    kind = b"application/json"
    if streamed:
        body, kind = b"data: " + body + b"\n\ndata: [DONE]\n\n", b"text/event-stream"
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body
    logged = {"log": str(tmp_path / "log")}
    async with Recorder(answer) as provider, running(tmp_path, local(provider.url), telemetry=logged) as sidecar:
        for _ in range(2):
            request = b'{"model":"m","stream":%b}' % (b"true" if streamed else b"false")
            assert (await ask(sidecar, post(sidecar, request, more=bearer(sidecar))))[9:12] == b"200"
        await until(lambda: statuses(sidecar) == {"200": 2}, "both are recorded")
        assert all(count >= 0 for count in sidecar.metrics.tokens.values())
        assert total(sidecar, "outrider_events_total", event="internal_error") == 0
        sidecar.json_log.flush()
    assert (tmp_path / "log").read_bytes().count(b'"event":"exchange"') == 2
