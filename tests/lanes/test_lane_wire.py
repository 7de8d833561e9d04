"""The lane on real sockets: what an app and a provider see of each other when one of them is slow, rude or gone."""

import asyncio
import contextlib
import datetime
import ssl
from pathlib import Path

import pytest

from outrider.mock import tls as mock_tls
from outrider.runtime import Sidecar
from support.running import KEY, client_of, get, host_of, local, post, running, statuses, total, until
from support.wire import Peer, Provider

OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


# -- kept connections


async def test_both_connections_are_kept(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    for _ in range(3):
        assert b"GET /v1/models HTTP/1.1\r\nhost: llm.internal\r\n" in await behind.head()
        await behind.send(OK_2)
        assert (await app.answer())[1] == b"ok"
        await app.send(get(sidecar))
    assert not provider.has_caller()
    assert statuses(sidecar) == {"200": 3}


async def test_a_kept_connection_that_the_provider_closed_meanwhile_is_replaced_once(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    await app.send(get(sidecar))
    await behind.head()
    behind.reset()  # the request was on its way: nothing tells this from a close that crossed it
    second = await provider.accept()
    await second.head()
    second.reset()
    head, _ = await app.answer()
    assert head.startswith(b"HTTP/1.1 502")
    assert b"x-outrider-error: upstream_broken" in head
    assert total(sidecar, "outrider_events_total", event="stale_retry") == 1
    assert not provider.has_caller()
    assert statuses(sidecar) == {"200": 1, "502": 1}


async def test_a_provider_that_closes_an_idle_connection_is_called_anew(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    behind.close()
    await until(lambda: not sidecar.hub.upstreams, "the closed connection is forgotten")
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    assert (await app.answer())[1] == b"ok"
    assert total(sidecar, "outrider_events_total", event="stale_retry") == 0


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_provider_that_hangs_up_on_every_connection_is_a_502_and_not_a_hang(
    sidecar: Sidecar, provider: Provider, app: Peer, how: str
) -> None:
    async def hang_up() -> None:
        while True:
            peer = await provider.accept()
            getattr(peer, how)()

    task = asyncio.get_running_loop().create_task(hang_up())
    for _ in range(20):
        await app.send(get(sidecar))
        assert (await app.answer())[0].startswith(b"HTTP/1.1 502")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert statuses(sidecar) == {"502": 20}


async def test_a_provider_that_is_not_there_is_a_502(tmp_path: Path) -> None:
    async with Provider() as gone:
        url = gone.url
    async with running(tmp_path, local(url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(get(sidecar) * 2)
        for _ in range(2):
            assert b"x-outrider-error: upstream_unreachable" in (await app.answer())[0]
        app.close()


# -- answers that come early, and clients that leave


async def test_an_early_refusal_is_not_lost_to_a_reset(sidecar: Sidecar, app: Peer) -> None:
    await app.send(get(sidecar, b"/nobody/x", b"content-length: 50000000\r\n", b"POST"))
    sent = 0
    while sent < 3_000_000:
        took = app.try_send(b"x" * 65536)
        sent += took
        if not took:
            await asyncio.sleep(0)
    data = await app.rest()
    assert data.startswith(b"HTTP/1.1 404")
    assert data.endswith(b"}")


async def test_a_half_closed_app_gets_its_answer(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    await app.send(get(sidecar) * 2)
    app.end()
    behind = await provider.accept()
    for _ in range(2):
        await behind.head()
        await behind.send(OK_2)
    assert (await app.rest()).count(b"\r\n\r\nok") == 2
    assert statuses(sidecar) == {"200": 2}


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_app_that_leaves_cancels_the_call(sidecar: Sidecar, provider: Provider, app: Peer, how: str) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(CHUNKED + b"3\r\nabc\r\n")
    await app.until(b"abc")
    getattr(app, how)()
    with contextlib.suppress(ConnectionResetError):
        assert await behind.rest() == b""
    await until(lambda: sidecar.hub.exchanges == 0, "the exchange ended")
    assert statuses(sidecar) == {"200": 1}


async def test_an_app_that_leaves_before_a_connection_was_there_leaves_nothing(tmp_path: Path) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(get(sidecar))
        await until(lambda: sidecar.hub.exchanges == 1, "the request was seen")
        app.reset()
        await until(lambda: sidecar.hub.exchanges == 0, "the exchange ended")


# -- cuts


@pytest.mark.parametrize("head", [b"content-length: 50\r\n", b"transfer-encoding: chunked\r\n"])
async def test_a_provider_cut_in_the_middle_is_no_end_for_the_app(
    sidecar: Sidecar, provider: Provider, app: Peer, head: bytes
) -> None:
    await app.send(get(sidecar))
    behind = await provider.accept()
    await behind.head()
    await behind.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n5\r\nhello\r\n")
    await app.until(b"hello\r\n")
    behind.close()
    assert await app.rest() == b""
    await until(lambda: not sidecar.hub.clients, "the client was let go")


async def test_a_close_delimited_answer_to_http_1_0_ends_with_an_end_or_a_reset(
    sidecar: Sidecar, provider: Provider
) -> None:
    for cut in (False, True):
        app = await client_of(sidecar)
        await app.send(get(sidecar).replace(b"HTTP/1.1", b"HTTP/1.0"))
        behind = await provider.accept()
        await behind.head()
        await behind.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await app.until(b"hello")
        if cut:
            behind.reset()
            with pytest.raises(ConnectionResetError):
                await app.rest()
        else:
            behind.close()
            assert await app.rest() == b""
        app.close()


@pytest.fixture(name="tls", scope="module")
def fixture_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    folder = tmp_path_factory.mktemp("tls")
    mock_tls.ensure(folder, ["llm.internal"], datetime.datetime.now(datetime.UTC))
    return mock_tls.server_context(folder), folder / "ca.pem"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "bare-fin"])
async def test_over_tls_only_close_notify_ends_a_close_delimited_answer(
    tmp_path: Path, tls: tuple[ssl.SSLContext, Path], orderly: bool, version: bytes
) -> None:
    async with (
        Provider(tls[0]) as provider,
        running(tmp_path, local(provider.url, upstream_ca=str(tls[1]))) as sidecar,
    ):
        app = await client_of(sidecar)
        await app.send(get(sidecar).replace(b"HTTP/1.1", b"HTTP/" + version))
        behind = await provider.accept()
        await behind.head()
        await behind.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await app.until(b"hello")
        if orderly:
            await behind.close_notify()
        behind.close()
        if version == b"1.1":
            if orderly:
                assert await app.until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"
            else:
                assert await app.rest() == b"\r\n"  # no last chunk
        elif orderly:
            assert await app.rest() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await app.rest()
        app.close()


async def test_an_early_refusal_over_tls_is_not_lost_to_a_reset(tmp_path: Path) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(b"CONNECT llm.internal:443 HTTP/1.1\r\nhost: llm.internal:443\r\n\r\n")
        assert (await app.head()).startswith(b"HTTP/1.1 200")
        context = ssl.create_default_context(cadata=sidecar.ca.certificate_pem.decode())
        await app.start_tls(context, server_side=False, name="llm.internal")
        await app.send(b"POST /x HTTP/1.1\r\nhost: other.internal\r\ncontent-length: 50000000\r\n\r\n")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(30):
                await app.send(b"x" * 65536)
        with contextlib.suppress(ssl.SSLError):
            await app.rest()
        assert app.read.startswith(b"HTTP/1.1 421")
        assert app.read.endswith(b"}")
        app.close()


# -- websockets


async def test_a_websocket_is_a_pipe_with_early_bytes_both_ways(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    upgrade = b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n"
    await app.send(get(sidecar, b"/local/v1/realtime", upgrade) + b"early")
    behind = await provider.accept()
    head = await behind.head()
    assert b"upgrade: websocket" in head
    await behind.send(b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
    assert b"upgrade: websocket\r\n" in await app.head()
    assert await app.exactly(5) == b"hello"
    assert await behind.exactly(5) == b"early"
    await app.send(b"last words")
    app.end()
    assert await behind.rest() == b"last words"
    behind.close()
    assert await app.rest() == b""
    await until(lambda: sidecar.hub.exchanges == 0, "the exchange ended")
    assert statuses(sidecar) == {"101": 1}


# -- back-pressure


async def test_a_slow_app_stops_the_provider(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        running(tmp_path, local(provider.url), caps={"write_buffer_bytes": 65536}) as sidecar,
    ):
        app = await client_of(sidecar, receive_buffer=16384)
        await app.send(get(sidecar))
        behind = await provider.accept()
        await behind.head()
        size = 64 << 20
        await behind.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        sent = await fill(behind, size)
        assert sent < 20 << 20  # what the kernels hold, and little more
        await app.head()
        got = 0
        while got < size:
            piece = await app.more()
            assert piece
            got += len(piece)
            sent += behind.try_send(b"x" * min(1 << 18, size - sent)) if sent < size else 0
        assert got == size
        app.close()


async def test_a_slow_provider_stops_the_app(tmp_path: Path) -> None:
    async with (
        Provider(receive_buffer=16384) as provider,
        running(tmp_path, local(provider.url), caps={"write_buffer_bytes": 65536, "held_body_bytes": 65536}) as sidecar,
    ):
        app = await client_of(sidecar)
        size = 64 << 20
        await app.send(get(sidecar, b"/local/v1/files", b"content-length: %d\r\n" % size, b"POST"))
        behind = await provider.accept()
        await behind.head()
        sent = await fill(app, size)
        assert sent < 20 << 20
        got = 0
        while got < size:
            piece = await behind.more()
            assert piece
            got += len(piece)
            sent += app.try_send(b"x" * min(1 << 18, size - sent)) if sent < size else 0
        await behind.send(OK_2)
        assert (await app.answer())[1] == b"ok"
        app.close()


async def fill(peer: Peer, total: int) -> int:
    """Write until nothing was taken for a while of the loop's turns; returns the bytes taken."""
    sent = quiet = 0
    while sent < total and quiet < 200:
        took = peer.try_send(b"x" * min(1 << 18, total - sent))
        sent += took
        quiet = 0 if took else quiet + 1
        await asyncio.sleep(0 if took else 0.001)
    return sent


async def test_an_app_that_pipelines_and_does_not_read_is_stopped(sidecar: Sidecar) -> None:
    app = await client_of(sidecar, receive_buffer=4096)
    requests = get(sidecar, b"/nobody/x") * 1000
    sent = quiet = 0
    while quiet < 200 and sent < 50 << 20:
        took = app.try_send(requests[sent % len(requests) :])
        sent += took
        quiet = 0 if took else quiet + 1
        await asyncio.sleep(0 if took else 0.001)
    assert sent < 40 << 20
    app.close()


# -- many at once


async def test_waiting_for_a_place_in_the_pool_and_leaving_it(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        running(tmp_path, local(provider.url), upstream={"max_connections_per_host": 1}) as sidecar,
    ):
        apps = [await client_of(sidecar) for _ in range(4)]
        await apps[0].send(get(sidecar))
        behind = await provider.accept()
        for app in apps[1:]:
            await app.send(get(sidecar))
        await until(lambda: sidecar.hub.exchanges == 4, "all four are there")
        apps[1].close()
        await until(lambda: sidecar.hub.exchanges == 3, "one left")
        for app in (apps[0], apps[2], apps[3]):
            await behind.head()
            await behind.send(OK_2)
            assert (await app.answer())[1] == b"ok"
        assert not provider.has_caller()
        for app in apps:
            app.close()


async def test_the_credential_goes_to_the_provider_and_never_comes_back(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        running(tmp_path, local(provider.url, credential={"env": "OPENAI_API_KEY"})) as sidecar,
    ):
        app = await client_of(sidecar)
        key = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
        await app.send(post(sidecar, b'{"model":"m"}', more=key))
        behind = await provider.accept()
        head = await behind.head()
        assert b"authorization: Bearer " + KEY.encode() + b"\r\n" in head
        assert sidecar.placeholder.value.encode() not in head
        await behind.exactly(13)
        await behind.send(b"HTTP/1.1 401 No\r\ncontent-length: 500\r\n\r\nwrong key: ")
        await app.until(b"wrong key: ")
        half = KEY.encode()
        await behind.send(half[:7])
        await app.until(half[:7])
        await behind.send(half[7:] + b"!")
        assert b"only-secret" not in await app.rest()
        assert host_of(sidecar)
        app.close()
