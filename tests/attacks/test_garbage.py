"""Both sides say garbage: whatever it is, each exchange ends once, and no failure of ours shows."""

import asyncio
import contextlib
import gzip
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from attacks.attack_rig import OK_2, SECRET, bearer, local
from outrider.runtime import Sidecar
from outrider_ext.relay import Owner
from support.running import client_of, get, post, running, total, until

EVENTS = b"".join(b'data: {"choices":[{"delta":{"content":"w%d"}}],"usage":null}\n\n' % n for n in range(4))
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\ndata: [DONE]\n\n'
PLAIN = b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'


def chunks(data: bytes, size: int) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWERS = [
    OK_2,
    STREAM_HEAD + chunks(EVENTS + LAST, 50),
    STREAM_HEAD + chunks(EVENTS + LAST, 7),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + EVENTS + LAST,
    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(PLAIN) + PLAIN,
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunks(gzip.compress(PLAIN), 9),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK_2,
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi",
]
SPICE = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b":",
    b"\xff",
    b"0",
    b"data: ",
    b"{",
    b'"',
    SECRET[:9],
    b"chunked",
    b"\x1f\x8b",
]


class Watched(Owner):
    """The lane, and how often each exchange began and ended."""

    def __init__(self, lane: Owner) -> None:
        self._lane = lane
        self.begun: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()
        self._kept: list[Any] = []  # so that no identity is used twice

    def on_request(self, x: Any) -> None:
        self._kept.append(x)
        self.begun[id(x)] += 1
        self._lane.on_request(x)

    def on_end(self, x: Any) -> None:
        self.ended[id(x)] += 1
        self._lane.on_end(x)

    def on_body(self, x: Any) -> None:
        self._lane.on_body(x)

    def on_answer(self, x: Any) -> bytes:
        return self._lane.on_answer(x)

    def on_failed(self, x: Any, kind: str, detail: str) -> None:
        self._lane.on_failed(x, kind, detail)

    def on_bad_request(self, client: Any, status: int, message: str) -> bytes:
        return self._lane.on_bad_request(client, status, message)

    def is_gone(self, client: Any) -> bool:
        return self._lane.is_gone(client)


def spoilt(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data = data[:at] + chance.choice(SPICE) + data[at:]
            case 1:
                data = data[:at] + data[at + chance.randrange(1, 9) :]
            case 2:
                data = data[:at]
            case _:
                data = data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]
    return data


def requests_of(sidecar: Sidecar, chance: random.Random) -> bytes:
    key = bearer(sidecar)
    body = chance.choice(
        (b'{"model":"m","stream":true}', b'{"model":"m"}', b"[", b'{"stream":true,"stream_options":null,"model":"a"}')
    )
    chunked = get(sidecar, b"/local/v1/chat/completions", key + b"transfer-encoding: chunked\r\n", b"POST") + chunks(
        body, 5
    )
    return chance.choice(
        (
            post(sidecar, body, more=key),
            chunked,
            post(sidecar, body, more=key) + get(sidecar, more=key) + chunked,
            get(sidecar, b"/local/v1/realtime?model=m", key + b"connection: upgrade\r\nupgrade: websocket\r\n")
            + b"\x81\x02hi",
            post(sidecar, body, more=key + b"expect: 100-continue\r\naccept-encoding: gzip\r\n"),
        )
    )


@pytest.mark.parametrize("seed", range(6))
async def test_garbage_on_both_sides_ends_each_exchange_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                answer = spoilt(chance.choice(ANSWERS), chance)
                at = chance.randrange(len(answer) + 1)
                writer.write(answer[:at])
                await asyncio.sleep(0)
                writer.write(answer[at:])
                if chance.random() < 0.2:
                    break
        except ConnectionError:
            pass
        finally:
            writer.transport.abort() if chance.random() < 0.5 else writer.close()

    server = await asyncio.start_server(provide, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with running(tmp_path, local(url), telemetry={"log": str(tmp_path / "log")}) as sidecar:
        watched = sidecar.hub.owner = Watched(sidecar.lane)
        for _ in range(60):
            app = await client_of(sidecar)
            data = spoilt(requests_of(sidecar, chance), chance)
            at = chance.randrange(len(data) + 1)
            for piece in (data[:at], data[at:]):
                app.try_send(piece)
                await asyncio.sleep(0.001)
            if chance.random() < 0.5:
                with contextlib.suppress(OSError):  # reset meanwhile
                    app.end()
            await asyncio.sleep(0.003)
            app.reset() if chance.random() < 0.5 else app.close()
        await until(lambda: sidecar.hub.exchanges == 0 and not sidecar.hub.clients, "all is over")
        assert watched.begun == watched.ended
        assert set(watched.ended.values()) == {1}
        failed = total(sidecar, "outrider_events_total", event="internal_error")
    server.close()  # before anything can fail: a loop with a listener left in it never closes
    assert failed == 0
    assert told == []
    assert SECRET not in (tmp_path / "log").read_bytes()
