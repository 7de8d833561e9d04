"""What the audit log says of keys, budgets and texts that were redacted: whole sidecars, judged by the file."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.govern.virtual_keys import HASH_PREFIX, MIN_ID_CHARS, KeyHasher, new_key
from stack.test_audit import World, json_answer
from support.running import client_of, post, total
from support.wire import Provider

PRICE = {"local/m": {"input": 1_000, "output": 1_000}}


@pytest.fixture
async def world(no_leaked_tasks: None, tmp_path: Path) -> AsyncIterator[World]:
    async with Provider() as provider:
        one = World(tmp_path, provider)
        yield one
        if one.behind is not None:
            one.behind.close()


# -- keys


class Keys:
    """Two keys of ann, one of which has expired, and the sections that list them."""

    def __init__(self, world: World) -> None:
        hasher = KeyHasher.open(world.folder / "hmac", create=True)
        self.first, self.second, self.old = (new_key() for _ in range(3))
        self.hashes = {key: hasher.hash_of(key.encode()).hex() for key in (self.first, self.second, self.old)}
        listed = [{"hash": HASH_PREFIX + whole} for whole in self.hashes.values()]
        listed[2]["expires"] = "2020-01-01"
        self.file = world.folder / "revoked"
        self.file.write_text("")
        self.file.chmod(0o600)
        world.credential = {"credential": {"env": "OPENAI_API_KEY"}}
        world.sections |= {
            "principals": [{"id": "ann", "from": {"keys": listed}}],
            "virtual_keys": {"hmac_key": str(world.folder / "hmac"), "revoked_file": str(self.file)},
        }

    def id(self, key: str) -> str:
        return self.hashes[key][:MIN_ID_CHARS]

    @staticmethod
    def shown(key: str) -> bytes:
        return b"authorization: Bearer " + key.encode() + b"\r\n"


async def test_each_line_names_the_key_by_which_the_caller_was_known_and_no_key(world: World) -> None:
    keys = Keys(world)
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        for key in (keys.first, keys.second, keys.second, keys.first):
            await world.ask(sidecar, app, more=keys.shown(key))
        placeholder = sidecar.placeholder.value
        await world.ask(sidecar, app, more=keys.shown(placeholder))
        for more in (keys.shown(keys.old), keys.shown(keys.old), keys.shown(new_key())):
            await app.send(post(sidecar, b"{}", more=more))
            head, _ = await app.answer()
            assert head.startswith(b"HTTP/1.1 401")
        app.close()
    used = [(record["principal"]["id"], record.get("key_id")) for record in world.records()]
    first, second = ("ann", keys.id(keys.first)), ("ann", keys.id(keys.second))
    nobody = ("anonymous", None)
    assert used == [first, second, second, first, nobody, ("anonymous", keys.id(keys.old)), nobody]
    (folded,) = world.records("refusals")
    assert folded["key_id"] == keys.id(keys.old)
    assert b"ork_" not in world.path.read_bytes()
    assert world.is_whole()


async def test_a_revocation_has_a_line_and_so_has_one_that_is_taken_back(world: World) -> None:
    keys = Keys(world)
    async with world.run() as sidecar:
        keys.file.write_text(keys.hashes[keys.first] + "\n")
        sidecar.snapshot.revoked_file.refresh()
        keys.file.write_text("# none\n")
        sidecar.snapshot.revoked_file.refresh()
        sidecar._shared.revocations.replace("config", [keys.hashes[keys.second]])
    lines = [
        (record["event"], record["source"], record["keys"], record["count"])
        for event in ("key_revoked", "key_unrevoked")
        for record in world.records(event)
    ]
    first, second = [keys.id(keys.first)], [keys.id(keys.second)]
    assert lines == [
        ("key_revoked", "file", first, 1),
        ("key_revoked", "config", second, 1),
        ("key_unrevoked", "file", first, 1),
    ]
    assert world.is_whole()


# -- budgets


async def test_each_mark_of_a_budget_has_one_line_in_the_log_the_metrics_and_the_audit(world: World) -> None:
    world.sections = {
        "budgets": [{"name": "day", "usd": "0.02/day", "soft": [50, 80], "on_exceed": "alert"}],
        "prices": PRICE,
    }
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        for _ in range(4):  # 7 tokens of 0.001 dollars each
            await world.ask(sidecar, app)
        app.close()
        counted = {
            percent: total(sidecar, "outrider_budget_threshold_total", percent=percent)
            for percent in ("50", "80", "100")
        }
    assert counted == {"50": 1, "80": 1, "100": 1}
    marks = [(record["budget"], record["percent"], record["unit"]) for record in world.records("budget_threshold")]
    assert marks == [("day", 50, "nusd"), ("day", 80, "nusd"), ("day", 100, "nusd")]
    assert world.is_whole()


# -- texts

ADA, EVE = "ada@example.com", "eve@example.org"
ASKED = b'{"model":"m","messages":[{"role":"user","content":"write to ada@example.com"}]}'


def redacting(world: World, action: str = "pseudonymise") -> None:
    world.audit |= {"content": "redacted"}
    rows = [{"detectors": ["email"], "action": action}, {"detectors": ["email"], "action": "mask", "where": ["answer"]}]
    world.sections = {"redact": {"always": rows if action != "block" else rows[:1]}}


async def pseudonym_sent(world: World, sidecar: Any, app: Any) -> str:
    """What the provider saw in place of the address."""
    await app.send(post(sidecar, ASKED))
    world.behind = world.behind or await world.provider.accept()
    head = await world.behind.head()
    body = await world.behind.exactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    token: str = json.loads(body)["messages"][0]["content"].removeprefix("write to ")
    assert token != ADA
    return token


async def test_a_plain_answer_is_kept_masked_and_with_its_pseudonyms_unresolved(world: World) -> None:
    redacting(world)
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        token = await pseudonym_sent(world, sidecar, app)
        said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": f"{token} and {EVE}"}}]}
        assert world.behind is not None
        await world.behind.send(json_answer(json.dumps(said).encode()))
        _, got = await app.answer()
        assert json.loads(got)["choices"][0]["message"]["content"].startswith(ADA)
        assert EVE.encode() not in got
        metrics = total(sidecar, "outrider_redactions_total", where="answer")
        app.close()
    (record,) = world.records()
    assert record["request"].count(token) == 1 or token in json.loads(record["request"])["messages"][0]["content"]
    kept = json.loads(record["answer"])["choices"][0]["message"]["content"]
    assert kept.startswith(token)
    assert kept.endswith("[EMAIL]")
    for never in (ADA, EVE):
        assert never.encode() not in world.path.read_bytes()
    assert metrics == 2  # one restored, one masked: what is kept counts nothing again


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_so_is_a_stream_wherever_its_events_are_cut(world: World, size: int) -> None:
    redacting(world)
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        token = await pseudonym_sent(world, sidecar, app)
        said = f"to {token} and {EVE} it goes"
        events = b"".join(
            b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": said[at : at + size]}}]}).encode()
            + b"\n\n"
            for at in range(0, len(said), size)
        )  # fmt: skip
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events)
        assert world.behind is not None
        await world.behind.send(head + events)
        await app.answer()
        app.close()
    (record,) = world.records()
    deltas = [json.loads(line[6:]) for line in record["answer"].split("\n\n") if line]
    kept = "".join(delta["choices"][0]["delta"]["content"] for delta in deltas)
    assert kept == f"to {token} and [EMAIL] it goes"
    for never in (ADA, EVE):
        assert never.encode() not in world.path.read_bytes()


@pytest.mark.parametrize("action", ["block", "none"])
async def test_what_was_refused_or_is_redacted_nowhere_else_is_masked_in_the_log(world: World, action: str) -> None:
    redacting(world, "block")
    if action == "none":
        world.sections = {"redact": {"words": {"names": ["Ludovica"]}}}
    asked = ASKED.replace(b'"m"', b'"m-ludovica"').replace(b"write to", b"key AKIAIOSFODNN7EXAMPLE, Ludovica, write to")
    said = json.dumps({"choices": [{"message": {"content": f"{EVE} and Ludovica"}}]}).encode()
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        if action == "block":
            await app.send(post(sidecar, asked))
            head, _ = await app.answer()
            assert head.startswith(b"HTTP/1.1 403")
        else:
            _, got = await world.ask(sidecar, app, asked, json_answer(said))
            assert got == said  # nothing is redacted in flight
        app.close()
    (record,) = world.records()
    content = json.loads(record["request"])["messages"][0]["content"]
    if action == "none":
        assert content == "key [AWS_ACCESS_KEY], [NAMES], write to [EMAIL]"
        assert json.loads(record["answer"])["choices"][0]["message"]["content"] == "[EMAIL] and [NAMES]"
    else:
        assert content == "key [AWS_ACCESS_KEY], Ludovica, write to [EMAIL]"
    for never in (ADA, EVE, "AKIAIOSFODNN7EXAMPLE"):
        assert never.encode() not in world.path.read_bytes()
    assert total(sidecar, "outrider_redactions_total", action="mask") == 0


async def test_a_request_that_came_compressed_is_read_before_it_is_kept(world: World) -> None:
    world.audit |= {"content": "redacted"}
    packed = gzip.compress(ASKED)
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await world.ask(sidecar, app, packed, more=b"content-encoding: gzip\r\n")
        app.close()
    (record,) = world.records()
    assert json.loads(record["request"])["messages"][0]["content"] == "write to [EMAIL]"


async def test_an_answer_that_is_too_long_to_be_read_again_is_not_kept_in_part(world: World) -> None:
    redacting(world)
    world.sections["caps"] = {"usage_bytes": 4096}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        await pseudonym_sent(world, sidecar, app)
        assert world.behind is not None
        long = json.dumps({"choices": [{"message": {"content": "x " * 100_000 + EVE}}]}).encode()
        await world.behind.send(json_answer(long))
        await app.answer()
        app.close()
    (record,) = world.records()
    assert "answer" not in record
    assert record["answer_withheld"] == "longer than caps.usage_bytes"
    assert EVE.encode() not in world.path.read_bytes()


HIDDEN = b"eve\\u0040example.org"  # found only by who reads the JSON


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        (b"application/json", b'{"choices":[{"message":{"content":"' + HIDDEN + b" and", None),
        (b"text/event-stream", b'data: {"a":"one"}\n\ndata: {"b":"' + HIDDEN + b" and", "one"),
        (b"application/x-ndjson", b'{"a":"one"}\n{"b":"' + HIDDEN + b" and", "one"),
    ],
)
async def test_what_broke_off_inside_of_json_is_not_kept(
    world: World, kind: bytes, sent: bytes, kept: str | None
) -> None:
    world.audit |= {"content": "redacted"}
    async with world.run() as sidecar:
        app = await client_of(sidecar)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: 5000\r\n\r\n" % kind
        await app.send(post(sidecar, ASKED))
        world.behind = await world.provider.accept()
        await world.behind.until(ASKED[-20:])
        await world.behind.send(head + sent)
        await app.until(b"one" if kept else b"choices")
        world.behind.close()
        world.behind = None
        await app.rest()
        app.close()
    (record,) = world.records()
    assert record["outcome"] != "ok"
    if kept is None:
        assert record["answer_withheld"] == "it broke off"
    else:
        assert kept in record["answer"]
    assert b"example.org" not in world.path.read_bytes()


async def test_a_tunnel_has_a_line_that_names_the_key_of_its_proxy_token(world: World) -> None:
    keys = Keys(world)
    async with world.run() as sidecar:
        target = b"127.0.0.1:%d" % int(world.provider.url.rpartition(":")[2])
        for token in (keys.first, None):
            app = await client_of(sidecar)
            basic = base64.b64encode(f"ann:{token}".encode())
            shown = b"proxy-authorization: Basic " + basic + b"\r\n" if token else b""
            await app.send(b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n" + shown + b"\r\n")
            assert (await app.head()).startswith(b"HTTP/1.1 200")
            behind = await world.provider.accept()
            await behind.send(b"220 ready\r\n")  # it speaks first: nobody looks into it
            assert await app.until(b"ready\r\n") == b"220 ready\r\n"
            app.close()
            behind.close()
    first, second = world.records("tunnel")
    assert (first["principal"], first["key_id"]) == ({"id": "ann"}, keys.id(keys.first))
    assert (second["principal"], second.get("key_id")) == ({"id": "anonymous"}, None)
    assert first["destination"].encode() == target
    assert b"ork_" not in world.path.read_bytes()
    assert world.is_whole()
