"""Limits and budgets under 64 clients at once, some of which cancel and some crash, through the whole sidecar."""

import asyncio
import contextlib
import json
import struct
import time
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from e2e.rig import Ride, riding, until

CLIENTS, CALLS = 64, 6
CAP = 6_000
BUDGETS = [{"name": "day", "key": ["provider"], "usd": "1000/day"}, {"name": "t", "key": [], "tokens": "90000000/day"}]


def limits(cap: int) -> list[dict[str, Any]]:
    return [
        {"name": "tpm", "key": ["provider"], "tokens": f"{cap}/h", "reserve": "max"},
        {"name": "slots", "key": ["provider"], "concurrent": 40, "on_exceed": {"queue": {"max_wait_s": 20}}},
    ]


def request(ride: Ride, body: dict[str, Any], path: str = "/openai/v1/chat/completions", *, extra: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{ride.port}\r\nauthorization: Bearer {ride.placeholder}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n{extra}\r\n"
    )
    return head.encode() + data


def chat(stream: bool, max_tokens: int = 100) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say something about riders, and do not hurry."}]
    return {"model": "gpt-4o-mini", "max_tokens": max_tokens, "stream": stream, "messages": messages}


async def client(ride: Ride, number: int, calls: int, seen: dict[str, int]) -> None:
    """Some wait for the answer, some leave in the middle (a reset, or a close), some before it begins."""
    for call in range(calls):
        ending = ("whole", "whole", "leave", "reset")[(number + call) % 4]
        reader, writer = await asyncio.open_connection("127.0.0.1", ride.port)
        writer.write(request(ride, chat(stream=(number + call) % 2 == 0)))
        await writer.drain()
        if ending == "whole":
            answer = await asyncio.wait_for(reader.read(), 60)
            seen[answer[9:12].decode()] = seen.get(answer[9:12].decode(), 0) + 1
        elif ending == "reset":
            if call % 2:
                await asyncio.wait_for(reader.read(1), 60)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def ride(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with riding(tmp_path, tmp_path_factory.getbasetemp(), {"limits": limits(CAP), "budgets": BUDGETS}) as found:
        yield found


def rows(ride: Ride) -> dict[tuple[str, str], Any]:
    return {(row.name, row.what): row for row in ride.sidecar.snapshot.rules._rows.values()}


def crowd(ride: Ride, calls: int, cap: int) -> None:
    seen: dict[str, int] = {}
    most = 0

    async def watched(done: asyncio.Event) -> None:
        nonlocal most
        while not done.is_set():
            most = max([most, *(row.slots.in_use for (_, what), row in rows(ride).items() if what == "concurrent")])
            await asyncio.sleep(0.001)

    async def all_of_them() -> None:
        done = asyncio.Event()
        watch = asyncio.ensure_future(watched(done))
        await asyncio.gather(*(client(ride, number, calls, seen) for number in range(CLIENTS)))
        done.set()
        await watch

    began = time.monotonic()
    asyncio.run(all_of_them())
    until(lambda: ride.sidecar.hub.exchanges == 0)
    found = rows(ride)
    now_ns = ride.sidecar._shared.ledger.clock.steady(time.monotonic_ns())
    left = found["tpm", "tokens"].counter.remaining(now_ns)
    used = found["t", "tokens"].spent
    refilled = cap * (time.monotonic() - began) / 3600 + 1
    overrun = max(0, used - cap - refilled)
    print(
        f"\n64 clients, {CLIENTS * calls} calls: {seen}; at most {most} of 40 at once; {used} tokens settled of {cap}, "
        f"over by {overrun:.0f}; left: {left} tokens, {found['slots', 'concurrent'].slots.in_use} slots taken"
    )
    assert set(seen) == {"200", "429"}
    assert used - cap - refilled <= 40 * 60  # the open calls' errors of their inputs' estimates
    assert abs(cap - used - left) <= refilled + 1 or left == 0  # every token that was not used came back
    assert seen["200"] > 20
    assert 30 < most <= 40  # of fewer the limit would not have been tried
    assert found["slots", "concurrent"].slots.in_use == 0
    assert found["slots", "concurrent"].room.waiting == 0
    assert found["day", "usd"].open == found["t", "tokens"].open == 0
    assert found["day", "usd"].spent > 0


def test_64_clients_with_cancels_and_crashes(ride: Ride) -> None:
    crowd(ride, CALLS, CAP)


@pytest.mark.long
def test_100_000_calls_of_64_clients_leak_no_slot(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half of them are admitted, and each ends in its own way."""
    cap = 1_500_000
    with riding(tmp_path, tmp_path_factory.getbasetemp(), {"limits": limits(cap), "budgets": BUDGETS}) as ride:
        crowd(ride, 100_000 // CLIENTS + 1, cap)


def test_what_a_refusal_says(ride: Ride) -> None:
    async def ask(body: dict[str, Any], path: str = "/openai/v1/chat/completions") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", ride.port)
        writer.write(request(ride, body, path))
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await writer.wait_closed()
        return answer

    answer = asyncio.run(ask(chat(False, max_tokens=CAP + 1)))
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"x-outrider-error: limit_too_small\r\n" in answer
    assert b"x-outrider-decision: tpm\r\n" in answer
    assert b"retry-after-ms: 3600000\r\n" in answer
    assert b"x-should-retry: false\r\n" in answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "limit_too_small"
    assert "ask for a lower max_tokens" in error["message"]
    answer = asyncio.run(ask({**chat(False), "model": "nobody-knows-it"}))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"x-outrider-error: unpriced\r\n" in answer


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_longer_than_what_is_held_goes_around_no_limit(
    tmp_path: Path, tmp_path_factory: Any, chunked: bool
) -> None:
    sections = {
        "limits": [{"name": "tpm", "key": [], "tokens": "1000/h"}],
        "caps": {"held_body_bytes": 65536},
    }
    with riding(tmp_path, tmp_path_factory.getbasetemp(), sections) as ride:
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 40_000}]}).encode()

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", ride.port)
            length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
            head = (
                f"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{ride.port}\r\n"
                f"authorization: Bearer {ride.placeholder}\r\ncontent-type: application/json\r\n"
                f"{length}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body))
            answer = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            return answer

        first, second = asyncio.run(ask()), asyncio.run(ask())
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 429 ")


def test_a_call_that_waits_is_let_in_with_its_body_read_by_every_layer(tmp_path: Path, tmp_path_factory: Any) -> None:
    """The body arrives while the call waits for a slot; the tokens are still borrowed by it."""
    tokens = {"name": "tpm", "key": ["model"], "tokens": "900000/h"}
    sections = {"limits": [{**limits(CAP)[1], "concurrent": 1}, tokens]}
    with riding(tmp_path, tmp_path_factory.getbasetemp(), sections) as ride:

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", ride.port)
            data = request(ride, chat(True))
            writer.write(data[:-40])
            await asyncio.sleep(0)
            writer.write(data[-40:])
            answer = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            await writer.wait_closed()
            return answer

        async def several() -> list[bytes]:
            return await asyncio.gather(*(ask() for _ in range(12)))

        answers = asyncio.run(several())
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 12
        until(lambda: ride.sidecar.hub.exchanges == 0)
        found = rows(ride)
        assert found["slots", "concurrent"].slots.in_use == 0
        assert {model for _, model, _ in ride.tokens()} == {"gpt-4o-mini"}
        assert {row.key for row in ride.sidecar.snapshot.rules._rows.values() if row.what == "tokens"} == {
            "gpt-4o-mini"
        }
        assert ("slots", "queue") in {
            (at["limit"], at["decision"]) for at, _ in ride.metric("outrider_limit_decisions_total")
        }
