"""The provider sends the injected key back: the app must not get it, however the answer was cut."""

import pytest

from attacks.attack_rig import CHUNKED, OK_2, SECRET, bearer
from outrider.runtime import Sidecar
from support.running import get, post, total, until
from support.wire import Peer, Provider

SHOWN = 8  # a shorter beginning of a key is its provider's well-known prefix
CUTS = (1, SHOWN - 1, SHOWN, len(SECRET) // 2, len(SECRET) - 1)
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


async def rest_of(app: Peer) -> bytes:
    try:
        return await app.rest()
    except ConnectionResetError:
        return app.read


async def arrives(sidecar: Sidecar, behind: Peer, data: bytes) -> None:
    """Send, and see it taken in; what is passed on at once has been passed on then."""
    upstream = next(iter(sidecar.hub.upstreams))
    before = upstream.last_ns
    await behind.send(data)
    await until(lambda: upstream.last_ns != before, "the bytes are there")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 %b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\nx-your-key: Bearer %b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://x/?key=%b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\ncontent-length: 80\r\n\r\n{Incorrect key: %b",
        b"HTTP/1.1 401 No\r\nconnection: close\r\n\r\n{Incorrect key: %b",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{Incorrect key: %b",
    ],
)
async def test_an_answer_with_the_key_becomes_a_502(
    sidecar: Sidecar, provider: Provider, app: Peer, answer: bytes
) -> None:
    await app.send(get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    assert SECRET in await behind.head()
    await behind.send(answer % SECRET)
    head, body = await app.answer()
    assert head.startswith(b"HTTP/1.1 502")
    assert SECRET not in head + body
    assert total(sidecar, "outrider_events_total", event="secret_echoed") == 1


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 103 Early Hints\r\nlink: %b\r\n\r\n", b"HTTP/1.1 100 %b\r\nx: %b\r\n\r\n"]
)
async def test_an_interim_answer_and_a_trailer_do_not_carry_the_key(
    sidecar: Sidecar, provider: Provider, app: Peer, interim: bytes
) -> None:
    await app.send(get(sidecar, more=bearer(sidecar) + b"expect: 100-continue\r\nconnection: close\r\n"))
    behind = await provider.accept()
    await behind.head()
    await behind.send(interim.replace(b"%b", SECRET) + CHUNKED + chunk(b"ok") + b"0\r\nx-key: " + SECRET + b"\r\n\r\n")
    said = await rest_of(app)
    assert b"ok" in said
    assert SECRET not in said


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("framing", ["length", "chunked", "until close", "events", "tunnel", "one byte each"])
async def test_a_key_in_two_pieces_does_not_come_back_in_part_either(
    sidecar: Sidecar, provider: Provider, app: Peer, framing: str, cut: int
) -> None:
    """What could be the key's beginning waits for what follows it."""
    head = {"length": LENGTH, "until close": UNTIL_CLOSE, "events": EVENTS, "tunnel": SWITCHED}.get(framing, CHUNKED)
    framed = chunk if framing in ("chunked", "events", "one byte each") else bytes
    await app.send(get(sidecar, more=bearer(sidecar) + (UPGRADE if framing == "tunnel" else b"")))
    behind = await provider.accept()
    await behind.head()
    opening = b"data: a\n\n" + b"data: b" * (framing == "events")
    await behind.send(head + framed(opening))
    said = await app.until(b"data: a\n\n")
    if framing == "one byte each":
        await arrives(sidecar, behind, b"".join(chunk(SECRET[i : i + 1]) for i in range(cut)))
    else:
        await arrives(sidecar, behind, framed(SECRET[:cut]))
    await behind.send(framed(SECRET[cut:]))
    said += await rest_of(app)
    assert SECRET[:SHOWN] not in said
    assert total(sidecar, "outrider_events_total", event="secret_echoed") in (0, 1)


@pytest.mark.parametrize("ending", [b"x", b"-and-more", SECRET[:9], b""])
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
async def test_what_only_begins_like_the_key_arrives_whole(
    sidecar: Sidecar, provider: Provider, app: Peer, framing: str, ending: bytes
) -> None:
    text = b"see " + SECRET[:-1]
    head = {"length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text + ending), "chunked": CHUNKED}
    framed = chunk if framing == "chunked" else bytes
    await app.send(get(sidecar, more=bearer(sidecar) + b"connection: close\r\n"))
    behind = await provider.accept()
    await behind.head()
    await arrives(sidecar, behind, head.get(framing, UNTIL_CLOSE) + framed(text))
    if ending:
        await behind.send(framed(ending))
    if framing == "chunked":
        await behind.send(b"0\r\n\r\n")
    elif framing == "until close":
        behind.end()
    if framing == "length":
        assert (await app.answer())[1] == text + ending
    else:
        said = await rest_of(app)
        body = said.partition(b"\r\n\r\n")[2]
        payload = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            payload += body[: int(size, 16)]
            body = body[int(size, 16) + 2 :]
        assert payload == text + ending


async def test_a_retry_is_watched_like_the_first_try(sidecar: Sidecar, provider: Provider, app: Peer) -> None:
    await app.send(get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    await app.send(post(sidecar, b"{}", more=bearer(sidecar)))
    await behind.head()
    behind.reset()
    second = await provider.accept()
    await second.head()
    await second.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + SECRET)
    head, body = await app.answer()
    assert head.startswith(b"HTTP/1.1 502")
    assert SECRET not in head + body


async def test_a_request_is_not_sent_twice_once_anything_came_back(
    sidecar: Sidecar, provider: Provider, app: Peer
) -> None:
    await app.send(get(sidecar, more=bearer(sidecar)))
    behind = await provider.accept()
    await behind.head()
    await behind.send(OK_2)
    await app.answer()
    await app.send(post(sidecar, b"{}", more=bearer(sidecar)))
    await behind.head()
    await arrives(sidecar, behind, b"HTTP/1.1 103 Early Hints\r\n\r\n")
    behind.reset()
    assert (await app.answer())[0].startswith(b"HTTP/1.1 502")
    assert not provider.has_caller()
