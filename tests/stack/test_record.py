"""What an exchange leaves in the log, as it is written: no body, no query, no key, nothing that a terminal obeys."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.running import KEY, client_of, local, post, running, statuses, total, until
from support.wire import Peer, Provider


class World:
    def __init__(self, log: Path, sidecar: Any, provider: Provider, app: Peer) -> None:
        self._log, self.sidecar, self.provider, self.app = log, sidecar, provider, app

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The exchanges and refusals that were logged, once there are `count`."""
        self.sidecar.json_log.flush()
        await until(lambda: self._log.read_text().count("\n") >= count, f"{count} lines are written")
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture
async def world(no_leaked_tasks: None, tmp_path: Path) -> AsyncIterator[World]:
    log = tmp_path / "log"
    async with Provider() as provider:
        providers = local(provider.url, credential={"env": "OPENAI_API_KEY"})
        async with running(tmp_path, providers, telemetry={"log": str(log)}) as sidecar:
            app = await client_of(sidecar)
            yield World(log, sidecar, provider, app)
            app.close()


async def ask(world: World, body: bytes, *, path: bytes = b"/local/v1/chat/completions") -> Peer:
    key = b"authorization: Bearer " + world.sidecar.placeholder.value.encode() + b"\r\n"
    await world.app.send(post(world.sidecar, body, path, key))
    behind = await world.provider.accept()
    await behind.head()
    return behind


async def test_an_exchange_is_one_line_and_counted_once(world: World) -> None:
    body = b'{"model":"gpt-5","messages":["a secret prompt"]}'
    behind = await ask(world, body, path=b"/local/v1/chat/completions?key=in-the-query")
    answer = b'{"text":"a secret answer","usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}'
    await behind.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer
    )
    assert (await world.app.answer())[1] == answer
    (line,) = await world.lines(1)
    wanted = {
        "event": "exchange", "level": "info", "via": "forward", "provider": "local", "operation": "chat",
        "model": "gpt-5",
        "method": "POST", "path": "/local/v1/chat/completions", "status": 200, "outcome": "ok", "stream": False,
        "request_bytes": len(body), "answer_bytes": len(answer),
    }  # fmt: skip
    assert wanted.items() <= line.items()
    assert (line["tokens"]["input"], line["tokens"]["output"], line["tokens"]["estimated"]) == (3, 5, False)
    text = json.dumps(line)
    for hidden in ("secret", "in-the-query", KEY, world.sidecar.placeholder.value):
        assert hidden not in text
    assert statuses(world.sidecar) == {"200": 1}
    assert total(world.sidecar, "outrider_tokens_total", type="input") == 3


async def test_a_model_name_that_a_terminal_would_obey_is_escaped(world: World) -> None:
    behind = await ask(world, b'{"model":"\\u001b[31mred\\n\\"}{"}')
    await behind.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await world.app.answer()
    (line,) = await world.lines(1)
    assert line["model"] == '\x1b[31mred\n"}{'
    assert statuses(world.sidecar) == {"200": 1}


async def test_a_failure_says_what_and_how_it_ended(world: World) -> None:
    behind = await ask(world, b'{"model":"m"}')
    behind.close()
    assert (await world.app.answer())[0].startswith(b"HTTP/1.1 502")
    behind = await ask(world, b'{"model":"m"}')
    await behind.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal")
    await world.app.until(b"hal")
    behind.close()
    assert await world.app.rest() == b""
    failed, cut = await world.lines(2)
    assert (failed["status"], failed["error"]) == (502, "upstream_broken")
    assert "llm.internal closed the connection" in failed["message"]
    assert (cut["status"], cut["outcome"]) == (200, "cut")
    assert statuses(world.sidecar) == {"502": 1, "200": 1}


async def test_the_rules_that_would_have_decided_stand_in_the_line(no_leaked_tasks: None, tmp_path: Path) -> None:
    """Those in force do not, and where there are none the line says nothing of them."""
    rules = tmp_path / "mine.yaml"
    rules.write_text(
        "rules:\n"
        " - {id: shy, description: d, match: {model: gpt-5}, then: deny, mode: shadow}\n"
        " - {id: shyer, description: d, mode: shadow, then: deny,\n"
        "    when: request.messages == 1 && request.model == 'gpt-5'}\n"
        " - {id: bold, description: d, then: {tag: x}}\n"
    )
    log = tmp_path / "log"
    async with (
        Provider() as provider,
        running(
            tmp_path, local(provider.url, credential={"env": "OPENAI_API_KEY"}),
            telemetry={"log": str(log)}, policies=[str(rules)],
        ) as sidecar,
    ):  # fmt: skip
        world = World(log, sidecar, provider, await client_of(sidecar))
        for body in (b'{"model":"gpt-5","messages":["a"]}', b'{"model":"gpt-4"}'):
            behind = await ask(world, body)
            await behind.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            await world.app.answer()
            behind.close()
        said, silent = await world.lines(2)
        world.app.close()
    assert said["shadow"] == ["mine/shy", "mine/shyer"]
    assert "shadow" not in silent


async def test_a_request_that_went_nowhere_is_told_too(world: World) -> None:
    await world.app.send(post(world.sidecar, b"{}", b"/nobody/v1"))
    await world.app.answer()
    (line,) = await world.lines(1)
    assert (line["event"], line["status"], line["error"]) == ("refused", 404, "not_found")
