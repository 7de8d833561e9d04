"""A sidecar killed again and again while it serves: what an app received whole is in the log, and the log is whole."""

import asyncio
import random
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from outrider.telemetry.audit import open_key
from outrider.telemetry.audit_check import verify
from support.wire import DEADLINE_S

BODY = b'{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
EVENT = b'data: {"choices":[{"a":1}]}\n\n'
EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
)
CLIENTS = 16


async def provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider that answers everything; every third time with a stream in two pieces."""
    count = 0
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(found[1]) if found else 0)
            count += 1
            if count % 3:
                writer.write(PLAIN)
            else:
                writer.write(EVENTS[:-5])
                await asyncio.sleep(0)
                writer.write(EVENTS[-5:])
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


class App:
    """Clients that ask without a pause; `whole` are the ids of the answers that came to their end."""

    def __init__(self) -> None:
        self.whole: set[str] = set()

    async def ask(self, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        request = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
        wire = (
            b"POST /local/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (port, len(request), request)
        )
        try:
            while True:
                writer.write(wire)
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head)
                if found:
                    await reader.readexactly(int(found[1]))
                else:
                    await reader.readuntil(b"0\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                name = re.search(rb"x-outrider-request-id: (\w+)", head)
                assert name is not None
                self.whole.add(name[1].decode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def round_of(config: Path, app: App, until: int) -> None:
    """Start the sidecar, ask until there are so many answers, kill it in the midst of them."""
    sidecar = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "outrider", "run", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    assert sidecar.stderr is not None
    try:
        line = await asyncio.wait_for(sidecar.stderr.readline(), DEADLINE_S)
        found = re.search(rb"127\.0\.0\.1:(\d+)", line)
        assert found is not None, line + await sidecar.stderr.read()
        clients = [asyncio.ensure_future(app.ask(int(found[1]))) for _ in range(CLIENTS)]
        while len(app.whole) < until and not all(client.done() for client in clients):
            await asyncio.sleep(0)
    finally:
        sidecar.send_signal(signal.SIGKILL)
        await sidecar.wait()
        await sidecar.stderr.read()
    await asyncio.wait_for(asyncio.gather(*clients), DEADLINE_S)


async def killed(folder: Path, exchanges: int, rounds: int) -> None:
    rng = random.Random(exchanges)
    config = folder / "outrider.yaml"
    server = await asyncio.start_server(provide, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sections = {
        "version": 1,
        "listen": {"proxy": "127.0.0.1:0", "admin": None},
        "ca": {"dir": str(folder / "ca")},
        "providers": {"local": {"kind": "openai", "hosts": ["llm.test"], "connect_to": f"http://127.0.0.1:{port}"}},
        "telemetry": {
            "log": "off",
            "audit": {
                "path": str(folder / "log" / "audit.jsonl"),
                "rotate_bytes": 200_000,
                "checkpoint": {"path": str(folder / "checkpoints.jsonl"), "every_n": 50},
            },
        },
    }
    config.write_text(yaml.safe_dump(sections))
    app = App()
    marks = sorted({rng.randrange(1, exchanges) for _ in range(rounds - 1)} | {exchanges})
    try:
        for mark in marks:
            await round_of(config, app, mark)
    finally:
        server.close()
        await server.wait_closed()
    assert len(app.whole) >= exchanges
    files = sorted((folder / "log").glob("audit-0*.jsonl"))
    ids = set(re.findall(r'"event":"exchange","id":"(\w+)"', "".join(path.read_text() for path in files)))
    key, checkpoints = open_key(folder / "ca" / "audit.key"), folder / "checkpoints.jsonl"
    report = verify(files, key, [checkpoints])
    print(
        f"\n{len(app.whole)} answers received whole over {len(marks)} kills, {len(app.whole - ids)} of them not in the "
        f"log; {len(ids)} lines in {len(files)} files, {len(report.problems)} faults, torn ends: {len(report.torn)}"
    )
    assert app.whole <= ids
    assert report.problems == []
    assert len(report.torn) <= 1
    victim = rng.choice(files)  # and a copy with one byte changed is not whole
    data = bytearray(victim.read_bytes())
    data[rng.randrange(len(data))] ^= 1
    victim.write_bytes(data)
    assert not verify(files, key, [checkpoints]).is_whole


async def test_what_was_received_whole_before_a_kill_is_in_the_log(tmp_path: Path) -> None:
    await killed(tmp_path, 1500, 4)


@pytest.mark.long
async def test_a_hundred_thousand_exchanges_and_twenty_five_kills(tmp_path: Path) -> None:
    await killed(tmp_path, 100_000, 25)
