"""Messages that two readers could cut differently, on either side, and answers that belong to nobody."""

import asyncio
from pathlib import Path

import orjson
import pytest

from attacks.attack_rig import CHUNKED, OK_2, SECRET, Recorder, ask, bearer, local
from outrider.runtime import Sidecar
from support.running import client_of, get, host_of, post, running, statuses, total, until
from support.wire import Peer, Provider

UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\n"
INNER = b"GET /local/v1/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 0\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        b"content-length: 6\r\ncontent-length: 6\r\n",
        b"content-length: 6, 6\r\n",
        b"content-length: +6\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x6\r\n",
        b"content-length: 99999999999999999999\r\n",
        b"content-length : 6\r\n",
        b"content-length:\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: chunked \x0b\r\n",
        b" transfer-encoding: chunked\r\n",
        b"x: y\r\n transfer-encoding: chunked\r\n",
        b"x: y\n transfer-encoding: chunked\r\n",
        b"x: y\rtransfer-encoding: chunked\r\n",
        b"connection: content-length\r\ncontent-length: 6\r\n",
        b"connection: host\r\n",
    ],
)
async def test_a_request_without_one_certain_end_is_refused(
    sidecar: Sidecar, provider: Provider, framing: bytes
) -> None:
    data = get(sidecar, b"/local/v1/chat/completions", bearer(sidecar) + framing, b"POST") + b"0\r\n\r\n" + INNER
    assert (await ask(sidecar, data))[9:12] in (b"400", b"501")
    assert not provider.has_caller()


@pytest.mark.parametrize(
    "chunk",
    [
        b"2;\r\nok\r\n",
        b"2\nok\r\n",
        b"+2\r\nok\r\n",
        b"0x2\r\nok\r\n",
        b"2\r\nokk\r\n",
        b"ffffffffffffffff1\r\n",
        b"-1\r\n",
        b" 2\r\nok\r\n",
        b"2 \r\nok\r\n",
    ],
)
async def test_a_chunk_that_is_not_plain_ends_both_connections(
    sidecar: Sidecar, provider: Provider, app: Peer, chunk: bytes
) -> None:
    await app.send(
        get(sidecar, b"/local/v1/files", bearer(sidecar) + b"transfer-encoding: chunked\r\n", b"POST")
        + b"1\r\na\r\n"
        + chunk
    )
    assert (await app.head())[9:12] == b"400"
    await until(lambda: sidecar.hub.exchanges == 0 and not sidecar.hub.upstreams, "nothing is left")
    assert statuses(sidecar) == {"400": 1}


async def test_what_a_client_pipelines_after_an_upgrade_that_failed_is_a_request_of_its_own(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar, b"/local/v1/realtime", bearer(sidecar) + UPGRADE) + INNER)
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    assert (await app.answer())[1] == b"ok"
    assert (await app.answer())[0].startswith(b"HTTP/1.1 421")


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        (b"", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"),
        (b"upgrade: h2c\r\nconnection: upgrade\r\n", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"),
        (b"", b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"),
        (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
        (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"", b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok"),
        (b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok"),
        (b"", b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 2\r\n\r\nok"),
        (b"", b"HTTP/1.1 200 OK\nx: y\ncontent-length: 2\n\nok"),
        (b"", b"HTTP/1.1 200 O\rK\r\ncontent-length: 2\r\n\r\nok"),
        (b"", b"HTTP/1.1 200 OK\r\nx\x00y: z\r\ncontent-length: 2\r\n\r\nok"),
        (b"", b"HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (b"", b"HTTP/1.1 099 OK\r\n\r\n"),
        (b"", b"HTTP/1.1 1000 OK\r\n\r\n"),
        (b"", b"SSH-2.0-OpenSSH\r\n"),
        (b"", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000),
        (b"", b"HTTP/1.1 200 OK\r\nset-cookie: " + b"a" * 100_000),
    ],
)
async def test_an_answer_that_is_not_to_be_believed_is_a_502(
    sidecar: Sidecar, provider: Provider, app: Peer, more: bytes, answer: bytes
) -> None:
    await app.send(get(sidecar, more=bearer(sidecar) + more))
    behind = await provider.accept()
    await behind.head()
    await behind.send(answer)
    assert (await app.answer())[0].startswith(b"HTTP/1.1 502")
    await until(lambda: not sidecar.hub.upstreams, "the connection is not kept")
    assert statuses(sidecar) == {"502": 1}


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"),
        (b"GET", b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nno"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nno"),
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nno"),
        (b"GET", CHUNKED + b"0\r\n\r\nno"),
        (b"GET", OK_2 + OK_2),
    ],
)
async def test_bytes_after_an_answer_are_in_no_other_answer(
    sidecar: Sidecar, provider: Provider, app: Peer, method: bytes, answer: bytes
) -> None:
    own = b"authorization: Bearer own\r\n" if method == b"HEAD" else bearer(sidecar)  # not in the table: no key of ours
    await app.send(get(sidecar, method=method, more=own) + get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    await behind.head()
    await behind.send(answer)
    second = await provider.accept()
    await second.head()
    await second.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nright")
    said = await app.until(b"right")
    assert b"no" not in said.replace(b"No Content", b"").replace(b"Not Modified", b"")


async def test_what_would_lead_the_app_elsewhere_is_taken_out_of_an_answer(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    await behind.head()
    await behind.send(
        b'HTTP/1.1 200 OK\r\nalt-svc: h3=":443"\r\nx-outrider-error: denied\r\nX-Outrider-Decision: a\r\n'
        b"keep-alive: timeout=1\r\n"
        b"proxy-authenticate: Basic\r\nconnection: x-hop\r\nx-hop: 1\r\ntrailer: x\r\nupgrade: h2c\r\n"
        b"content-length: 2\r\n\r\nok"
    )
    head, _ = await app.answer()
    for name in (
        b"alt-svc",
        b"x-outrider-error",
        b"x-outrider-decision",
        b"keep-alive",
        b"proxy-auth",
        b"x-hop",
        b"trailer",
        b"upgrade",
    ):
        assert name not in head.lower()


async def test_what_the_app_says_about_hops_and_about_us_does_not_go_on(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    fields = (
        b"x-outrider-request-id: fake\r\nX-OUTRIDER-anything: 1\r\nproxy-authorization: Basic eDp5\r\nvia: 1.1 me\r\n"
        b"x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nte: trailers\r\n"
        b"connection: x-secret-hop\r\nx-secret-hop: 1\r\n"
    )
    await app.send(get(sidecar, more=bearer(sidecar) + fields))
    behind = await provider.accept()
    head = (await behind.head()).lower()
    for name in (b"x-outrider", b"proxy-auth", b"via", b"forwarded", b"te:", b"x-secret-hop", b"connection"):
        assert b"\r\n" + name not in head
    assert SECRET in head
    await behind.send(OK_2)
    await app.answer()


@pytest.mark.parametrize("status", range(200, 600, 7))
async def test_no_status_is_too_strange_to_be_recorded_once(tmp_path: Path, status: int) -> None:
    answer = b"HTTP/1.1 %d \xff\xfe\r\ncontent-length: 0\r\n\r\n" % status
    async with Recorder(answer) as provider, running(tmp_path, local(provider.url)) as sidecar:
        assert (await ask(sidecar, get(sidecar, more=bearer(sidecar))))[9:12] == b"%d" % status
        await until(lambda: sum(statuses(sidecar).values()) == 1, "it is recorded")
        assert total(sidecar, "outrider_events_total", event="internal_error") == 0


async def test_log_lines_and_labels_hold_nothing_that_breaks_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Recorder() as provider, running(tmp_path, local(provider.url), telemetry={"log": str(log)}) as sidecar:
        for model in (
            b'a\\"},{\\"x\\":\\"',
            b"\\u0000\\n\\u001b[31m",
            b"\\u2028\\ud83d\\ude00",
            b'\\"} 1\\noutrider_up{',
        ):
            await ask(sidecar, post(sidecar, b'{"model":"' + model + b'"}', more=bearer(sidecar)))
        for path in (b'/local/v1/"},{"x":"', b"/local/%0a%1b[31m", b"/nowhere/'\"<script>", b"/local/v1/{}%s%d%n"):
            await ask(sidecar, get(sidecar, path, b"authorization: Bearer own\r\nuser-agent: \xff\x80\r\n"))
        await ask(sidecar, b"GET / HTTP/1.1\r\nhost: a%0a'\"<\r\n\r\n")
        await ask(sidecar, b"GET / HTTP/1.1\r\nhost: a'%0a\r\n\r\n")
        exposition = sidecar.metrics.exposition().decode()
        assert total(sidecar, "outrider_events_total", event="internal_error") == 0
    lines = log.read_bytes().splitlines()
    assert len([line for line in map(orjson.loads, lines) if line["event"] == "exchange"]) == 7
    assert all(byte >= 0x20 for line in lines for byte in line)
    assert "\x1b" not in exposition
    assert not [line for line in exposition.splitlines() if line.startswith("outrider_up{")]


async def test_a_client_that_leaves_at_any_moment_is_recorded_once(sidecar: Sidecar, provider: Provider) -> None:
    whole = post(sidecar, b'{"model":"m"}', more=bearer(sidecar))
    for cut in range(len(whole) - 13, len(whole) + 1, 3):
        before = sum(statuses(sidecar).values())
        app = await client_of(sidecar)
        await app.send(whole[:cut])
        await until(lambda: sidecar.hub.exchanges == 1, "it has begun")
        app.reset()
        await until(lambda: sidecar.hub.exchanges == 0, "it has ended")
        assert sum(statuses(sidecar).values()) == before + 1
    assert total(sidecar, "outrider_events_total", event="internal_error") == 0
    assert host_of(sidecar)
    await asyncio.sleep(0)
