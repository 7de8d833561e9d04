"""What decides whether the key is added, at the moments when that changes: rotation, reload, absence, own keys."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from attacks.attack_rig import SECRET, Recorder, ask, bearer, key_of, local
from outrider.config import load
from outrider.runtime import Sidecar
from support.running import ENVIRON, client_of, get, post, running, settings, total, until
from support.wire import Provider

OWN = b"authorization: Bearer sk-own\r\n"


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with Recorder() as one:
        yield one


def reload(sidecar: Sidecar, folder: Path, providers: dict[str, Any], **sections: Any) -> None:
    sidecar.reload(load(settings(folder, providers, **sections), ENVIRON))


async def test_a_key_that_is_not_there_is_a_503_and_nothing_is_sent(tmp_path: Path, provider: Recorder) -> None:
    async with running(tmp_path, local(provider.url), environ={}) as sidecar:
        app = await client_of(sidecar)
        for _ in range(3):
            await app.send(get(sidecar, more=bearer(sidecar)))
            head, body = await app.answer()
            assert head.startswith(b"HTTP/1.1 503")
            assert b"x-outrider-error: credential_unavailable" in head
            assert key_of(sidecar) not in body
        assert provider.seen == b""
        app.close()


async def test_a_rotated_key_is_used_at_once_and_a_broken_file_keeps_the_last_good_one(
    tmp_path: Path, provider: Recorder
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first\n")
    async with running(tmp_path, local(provider.url, credential={"file": str(file)})) as sidecar:
        for content, expected in (
            ("sk-second\n", b"sk-second"),
            ("sk-a\nsk-b\n", b"sk-second"),
            ("sk\r\nx-evil: 1", b"sk-second"),
            ("", b"sk-second"),
            ("sk-third", b"sk-third"),
        ):
            file.write_text(content)
            sidecar.snapshot.sources["local"].refresh()
            await ask(sidecar, get(sidecar, more=bearer(sidecar)))
            assert provider.seen.endswith(b"authorization: Bearer " + expected + b"\r\n\r\n")
        file.unlink()
        sidecar.snapshot.sources["local"].refresh()
        await ask(sidecar, get(sidecar, more=bearer(sidecar)))
        assert b"x-evil" not in provider.seen


async def test_a_key_that_is_taken_out_of_config_is_not_used_on_a_kept_connection(
    tmp_path: Path, provider: Recorder
) -> None:
    async with running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(get(sidecar, more=bearer(sidecar)))
        await app.answer()
        assert provider.seen.count(SECRET) == 1
        reload(sidecar, tmp_path, {"local": {"kind": "openai", "hosts": ["llm.internal"], "connect_to": provider.url}})
        await app.send(get(sidecar, more=bearer(sidecar)))
        assert (await app.answer())[0].startswith(b"HTTP/1.1 401")
        await app.send(get(sidecar, more=OWN))
        await app.answer()
        assert provider.seen.count(SECRET) == 1
        app.close()


async def test_a_reload_during_a_held_body_ends_the_request_as_it_began(tmp_path: Path, provider: Recorder) -> None:
    async with Recorder() as elsewhere, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        whole = post(sidecar, b'{"model":"m"}', more=bearer(sidecar))
        await app.send(whole[:-3])
        await until(lambda: sidecar.hub.exchanges == 1, "it has begun")
        reload(sidecar, tmp_path, local(elsewhere.url))
        await app.send(whole[-3:])
        assert (await app.answer())[0].startswith(b"HTTP/1.1 200")
        assert (provider.requests, elsewhere.requests) == (1, 0)
        await app.send(whole)
        assert (await app.answer())[0].startswith(b"HTTP/1.1 200")
        assert (provider.requests, elsewhere.requests) == (1, 1)
        app.close()


async def test_a_hundred_reloads_under_load_lose_no_request_and_leave_no_connection(
    tmp_path: Path, provider: Recorder
) -> None:
    async with running(tmp_path, local(provider.url)) as sidecar:
        done = asyncio.Event()
        seen: list[bytes] = []

        async def calls() -> None:
            app = await client_of(sidecar)
            while not done.is_set():
                await app.send(post(sidecar, b'{"model":"m"}', more=bearer(sidecar)))
                seen.append((await app.answer())[0][9:12])
            app.close()

        tasks = [asyncio.create_task(calls()) for _ in range(4)]
        for number in range(100):
            reload(sidecar, tmp_path, local(provider.url), limits=[{"name": "l", "requests": f"{number + 10**6}/s"}])
            await asyncio.sleep(0.002)
        done.set()
        await asyncio.gather(*tasks)
        assert set(seen) == {b"200"}
        assert total(sidecar, "outrider_events_total", event="internal_error") == 0
        await until(lambda: len(sidecar.hub.upstreams) <= 8, "connections of former configurations are closed")


async def test_a_reload_with_a_mistake_changes_nothing(tmp_path: Path, provider: Recorder) -> None:
    async with running(tmp_path, local(provider.url), egress={"default": "deny"}) as sidecar:
        path = tmp_path / "outrider.yaml"
        for text in ("egress: {default: tunnle}\n", "version: 1\nproviders: {local: {kind: nobody}}\n", "{", "\x00"):
            path.write_text(text)
            sidecar.reload_from_file()
            assert (await ask(sidecar, b"", connect=b"example.com:443")).startswith(b"HTTP/1.1 403")
            assert (await ask(sidecar, get(sidecar, more=bearer(sidecar)))).startswith(b"HTTP/1.1 200")
        assert total(sidecar, "outrider_events_total", event="reload_failed") == 4


@pytest.mark.parametrize(
    ("config", "field", "path", "status", "carried"),
    [
        ({}, OWN, b"/local/v1/models", b"401", b""),
        ({}, OWN, b"/local/v1/unheard-of", b"200", b"sk-own"),
        ({"unknown_operations": "deny"}, OWN, b"/local/v1/unheard-of", b"403", b""),
        ({"byok": "deny"}, OWN, b"/local/v1/unheard-of", b"403", b""),
        ({"require_placeholder": False}, b"", b"/local/v1/models", b"200", SECRET),
        ({"require_placeholder": False}, OWN, b"/local/v1/models", b"200", SECRET),
        ({"require_placeholder": False}, b"", b"/local/v1/unheard-of", b"200", b""),
        ({"credential": None}, OWN, b"/local/v1/models", b"200", b"sk-own"),
        ({"credential": None, "byok": "deny"}, OWN, b"/local/v1/models", b"403", b""),
    ],
)
async def test_whose_key_goes(
    tmp_path: Path, provider: Recorder, config: dict[str, Any], field: bytes, path: bytes, status: bytes, carried: bytes
) -> None:
    async with running(tmp_path, local(provider.url, **config)) as sidecar:
        assert (await ask(sidecar, get(sidecar, path, field)))[9:12] == status
        assert (SECRET in provider.seen) == (carried == SECRET)
        assert carried in provider.seen
        if carried != b"sk-own":
            assert b"sk-own" not in provider.seen
        if status != b"200":
            assert provider.seen == b""


async def test_a_signature_is_made_for_the_configured_region_only(tmp_path: Path, provider: Recorder) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIA" + "REAL" * 4, "AWS_SECRET_ACCESS_KEY": "a" * 40}
    bedrock = {"region": "us-east-1", "connect_to": provider.url, "credential": {"env": "AWS_ACCESS_KEY_ID"}}
    async with running(tmp_path, {"bedrock": bedrock}, environ=environ) as sidecar:
        shown = sidecar.placeholder.aws_access_key_id.encode()
        claim = b"authorization: AWS4-HMAC-SHA256 Credential=%b/20260101/%b/%b/aws4_request, SignedHeaders=host\r\n"

        async def call(host: bytes, path: bytes, region: bytes = b"us-east-1", service: bytes = b"bedrock") -> bytes:
            head = b"POST " + path + b" HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 2\r\n"
            return (await ask(sidecar, head + claim % (shown, region, service) + b"\r\n{}", connect=host + b":80"))[
                9:12
            ]

        runtime = b"bedrock-runtime.us-east-1.amazonaws.com"
        assert await call(runtime, b"/model/m/converse", b"eu-west-1", b"iam") == b"200"
        assert b"Credential=AKIAREALREALREALREAL/" in provider.seen
        assert b"/us-east-1/bedrock/aws4_request" in provider.seen
        assert b"iam" not in provider.seen
        assert shown not in provider.seen
        requests = provider.requests
        for host in (b"bedrock-runtime.eu-west-1.amazonaws.com", b"bedrock-runtime.x.amazonaws.com"):
            assert await call(host, b"/model/m/converse") == b"401"
        for path in (b"/foundation-models", b"/model/m/../../foundation-models", b"/model/m/converse/x"):
            assert await call(runtime, path) == b"401"
        assert provider.requests == requests


async def test_a_stale_connection_never_doubles_a_request_whose_body_is_on_its_way(tmp_path: Path) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url)) as sidecar:
        app = await client_of(sidecar)
        await app.send(get(sidecar, more=bearer(sidecar)))
        behind = await provider.accept()
        await behind.head()
        await behind.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await app.answer()
        streamed = get(sidecar, b"/local/v1/files", bearer(sidecar) + b"transfer-encoding: chunked\r\n", b"POST")
        await app.send(streamed + b"3\r\nabc\r\n")
        await behind.head()
        behind.reset()
        assert (await app.head()).startswith(b"HTTP/1.1 502")
        assert not provider.has_caller()
        app.close()
