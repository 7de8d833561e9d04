"""The audit log of a whole sidecar: what its lines say and never hold, and that no answer is whole before its line."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.telemetry.audit import open_key
from outrider.telemetry.audit_check import verify
from support.running import KEY, client_of, get, local, post, running, until
from support.wire import Peer, Provider, connect

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
BODY = b'{"model":"m","messages":[{"role":"user","content":"the words"}]}'


def json_answer(body: bytes = ANSWER) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class World:
    def __init__(self, folder: Path, provider: Provider) -> None:
        self.folder, self.provider = folder, provider
        self.audit: dict[str, Any] = {"path": str(folder / "log" / "audit.jsonl")}
        self.sections: dict[str, Any] = {}
        self.credential: dict[str, Any] = {}
        self.behind: Peer | None = None

    def run(self) -> Any:
        providers = local(self.provider.url, **self.credential)
        telemetry = {"log": "off", "audit": self.audit}
        return running(self.folder, providers, telemetry=telemetry, **self.sections)

    @property
    def path(self) -> Path:
        return self.folder / "log" / "audit-0.jsonl"

    def records(self, event: str = "exchange") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def ask(self, sidecar: Any, app: Peer, body: bytes = BODY, answer: bytes = b"", more: bytes = b"") -> Any:
        await app.send(post(sidecar, body, more=more))
        if self.behind is None:
            self.behind = await self.provider.accept()
        await self.behind.until(body[-20:])
        await self.behind.send(answer or json_answer())
        return await app.answer()

    def is_whole(self) -> bool:
        return verify([self.path], open_key(self.folder / "ca" / "audit.key")).is_whole


@pytest.fixture
async def world(no_leaked_tasks: None, tmp_path: Path) -> AsyncIterator[World]:
    async with Provider() as provider:
        one = World(tmp_path, provider)
        yield one
        if one.behind is not None:
            one.behind.close()


async def test_when_an_answer_is_whole_its_line_is_in_the_file(world: World) -> None:
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        for count in range(1, 6):
            head, _ = await world.ask(sidecar, app)
            assert head.startswith(b"HTTP/1.1 200")
            assert len(world.records()) == count
        app.close()
    assert world.is_whole()
    record = world.records()[0]
    assert record["tokens"]["input"] == 3
    assert record["principal"] == {"id": "anonymous"}
    assert (record["provider"], record["operation"], record["model"]) == ("local", "chat", "m")
    assert (record["status"], record["decision"], record["outcome"]) == (200, "allow", "ok")
    assert len(record["digest"]) == 64
    assert record["us"] >= record["upstream_us"] > 0
    assert world.records("start")[0]["config_sha256"]
    assert len(world.records("start")[0]["ca_sha256"]) == 64
    assert len(world.records("stop")) == 1


async def test_no_content_no_key_and_no_query_by_default(world: World) -> None:
    world.credential = {"credential": {"env": "OPENAI_API_KEY"}}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        key = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
        await world.ask(sidecar, app, more=key + b"x-secret: own\r\n")
        app.close()
        placeholder = sidecar.placeholder.value.encode()
    data = world.path.read_bytes()
    assert world.records()[0]["key"] == "sidecar"
    for never in (KEY.encode(), placeholder, b"the words", b"own", b"choices"):
        assert never not in data


@pytest.mark.parametrize("content", ["redacted", "full"])
async def test_content_where_config_asks_cut_at_its_cap(world: World, content: str) -> None:
    world.audit |= {"content": content, "content_bytes": 256}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await world.ask(sidecar, app)
        await world.ask(sidecar, app, b'{"model":"m","long":"%b"}' % (b"x" * 300))
        app.close()
    first, second = world.records()
    assert json.loads(first["request"]) == json.loads(BODY)
    assert first["answer"].encode() == ANSWER
    assert len(second["request"]) == 256
    assert second["request_cut_from_bytes"] == 323


async def test_the_content_of_a_stream(world: World) -> None:
    world.audit |= {"content": "redacted"}
    events = b"".join(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % word for word in (b"one", b"two"))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events)
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await world.ask(sidecar, app, answer=head + events)
        app.close()
    kept = [
        json.loads(line[6:])["choices"][0]["delta"]["content"]
        for line in world.records()[0]["answer"].splitlines()[::2]
    ]
    assert "".join(kept) == "onetwo"


async def test_two_spellings_of_one_request_have_one_digest_and_a_repeated_key_is_refused(world: World) -> None:
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await world.ask(sidecar, app)
        other = BODY.replace(b":", b" : ").replace(b"the", b"\\u0074he")
        await world.ask(sidecar, app, other)
        await world.ask(sidecar, app, BODY.replace(b"words", b"other"))
        await app.send(post(sidecar, BODY.replace(b'"role"', b'"content":"x","role"')))
        head, answer = await app.answer()
        assert head.startswith(b"HTTP/1.1 400")
        assert b"twice" in answer
        app.close()
    digests = [record.get("digest") for record in world.records()]
    assert digests[0] == digests[1] != digests[2]


async def test_refusals_have_lines_and_repeated_ones_fold(world: World) -> None:
    world.sections = {"limits": [{"name": "one", "requests": "1/h"}]}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await world.ask(sidecar, app)
        for _ in range(7):
            await app.send(post(sidecar, BODY))
            assert (await app.answer())[0].startswith(b"HTTP/1.1 429")
        for _ in range(5):
            await app.send(get(sidecar, b"/nobody/v1"))
            await app.answer()
        app.close()
    refused = world.records()[1]
    assert (refused["status"], refused["decision"], refused["error"]) == (429, "one", "rate_limited")
    assert len(world.records()) == 2
    assert sorted(record["count"] for record in world.records("refusals")) == [4, 6]
    assert world.records("refusal")[0]["error"] == "not_found"
    assert world.is_whole()


async def test_a_client_that_left_and_a_provider_that_broke_off_have_lines(world: World) -> None:
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await app.send(post(sidecar, BODY))
        world.behind = await world.provider.accept()
        await world.behind.until(b"words")
        app.close()
        await until(lambda: len(world.records()) == 1, "the line of who left")
        world.behind.close()
        app = await client_of(sidecar)
        await app.send(post(sidecar, BODY))
        world.behind = await world.provider.accept()
        await world.behind.until(b"words")
        await world.behind.send(json_answer()[:-5])
        world.behind.close()
        await until(lambda: len(world.records()) == 2, "the line of what was cut")
        app.close()
    assert [record["outcome"] for record in world.records()] == ["client_gone", "cut"]


async def test_a_full_disk_denies_is_told_and_ends_by_itself(world: World) -> None:
    world.sections = {"listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}}
    async with world.run() as sidecar:
        audit = sidecar.audit
        await until(lambda: bool(world.records("start")), "the first lines are written")
        real, full = audit._fd, os.open("/dev/full", os.O_WRONLY)
        audit._fd = full
        audit._set_way()
        app = await client_of(sidecar)
        await app.send(post(sidecar, BODY))
        world.behind = await world.provider.accept()
        await world.behind.until(b"words")
        await world.behind.send(json_answer())
        with pytest.raises(ConnectionResetError):
            await app.rest()  # its line was not written: it never gets its end
        assert ANSWER not in app.read
        app.close()
        app = await client_of(sidecar)
        await app.send(post(sidecar, BODY))
        head, answer = await app.answer()
        assert head.startswith(b"HTTP/1.1 503")
        assert b"audit_unavailable" in head
        assert b"no space left" in answer
        assert await readiness(sidecar) == (503, True)
        audit._fd = real
        audit._set_way()
        os.close(full)
        audit._retry()
        assert (await world.ask(sidecar, app))[0].startswith(b"HTTP/1.1 200")
        assert await readiness(sidecar) == (200, False)
        app.close()
    assert world.is_whole()
    assert world.records("resumed")[0]["exchanges_denied"] == 1


async def readiness(sidecar: Any) -> tuple[int, bool]:
    """(status, whether the audit log is spoken of)."""
    from support.wire import connect

    port = sidecar.admin_addresses[0][1]
    peer = await connect(("127.0.0.1", port))
    await peer.send(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % port)
    head, body = await peer.answer()
    peer.close()
    return int(head.split()[1]), b"audit log" in body


async def test_a_full_disk_with_drop_lets_answers_go(world: World) -> None:
    world.audit |= {"on_audit_error": "drop"}
    async with world.run() as sidecar:
        audit = sidecar.audit
        await until(lambda: bool(world.records("start")), "the first lines are written")
        real, full = audit._fd, os.open("/dev/full", os.O_WRONLY)
        audit._fd = full
        audit._set_way()
        app = await client_of(sidecar)
        for _ in range(3):
            assert (await world.ask(sidecar, app))[0].startswith(b"HTTP/1.1 200")
        audit._fd = real
        audit._set_way()
        os.close(full)
        audit._retry()
        app.close()
    assert world.records("resumed")[0]["lines_dropped"] == 3
    assert world.is_whole()


async def test_fsync(world: World) -> None:
    world.audit |= {"durability": "fsync"}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        for count in range(1, 4):
            await world.ask(sidecar, app)
            assert len(world.records()) == count
        app.close()
    assert world.is_whole()


async def test_a_reload_and_a_refused_one_have_lines(world: World) -> None:
    async with world.run() as sidecar:
        config = sidecar.config.path
        text = config.read_text()
        config.write_text(text + "http2: tunnel\n")
        sidecar.reload_from_file()
        config.write_text(text + "nonsense: 1\n")
        sidecar.reload_from_file()
    assert world.records("reloaded")[0]["applied"] == ["http2"]
    assert world.records("reloaded")[0]["cause"] == "signal"
    assert "nonsense" in world.records("reload_refused")[0]["message"]
    assert world.is_whole()


async def test_what_is_done_to_the_sidecar_has_lines(world: World) -> None:
    """A key file that changes, a foreign page at the admin port, the end."""
    secret = world.folder / "secret"
    secret.write_text("sk-one")
    secret.chmod(0o600)
    world.credential = {"credential": {"file": str(secret)}}
    world.sections = {"listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}, "timeouts": {"drain_s": 1}}
    async with world.run() as sidecar:
        secret.write_text("sk-another")
        for source in sidecar.snapshot.sources.values():
            sidecar._refreshed(source)
        admin = await connect(sidecar.admin_addresses[0])
        for _ in range(3):
            await admin.send(b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n")
            assert (await admin.answer())[0].startswith(b"HTTP/1.1 421")
        admin.close()
        await until(lambda: len(world.records("credential_rotated")) == 1, "the rotation is written")
        await sidecar.drain()
    (refused,) = world.records("admin_refused")
    assert (refused["status"], refused["error"]) == (421, "admin_host")
    assert world.records("refusals")[0]["count"] == 2
    assert len(world.records("drain")) == 1
    assert b"sk-" not in world.path.read_bytes()
    assert b"evil" not in world.path.read_bytes()
    assert world.is_whole()


async def test_the_key_may_not_lie_beside_the_log(world: World) -> None:
    from outrider.errors import StartError

    world.audit |= {"key_file": str(world.folder / "log" / "key")}
    with pytest.raises(StartError, match="own folder"):
        async with world.run():
            pass


async def test_without_an_audit_log_nothing_is_hashed_and_nothing_waits(world: World) -> None:
    world.audit = {}
    async with world.run() as sidecar:
        assert sidecar.audit is None
        app = await client_of(sidecar)
        await world.ask(sidecar, app)
        (route,) = sidecar.snapshot.router._own.values()
        app.close()
    hooks = (*route.request_hooks, *route.body_hooks, *route.end_hooks)
    assert hooks
    assert not {"AuditBegin", "AuditEnd", "DigestRequest"} & {type(hook).__name__ for hook in hooks}
    assert not world.path.exists()
