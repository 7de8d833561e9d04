"""The app tries to have the real key sent somewhere else, or for something else, than config says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attacks.attack_rig import SECRET, Recorder, ask, bearer, guarded, key_of
from outrider.runtime import Sidecar
from support.running import get, host_of


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with Recorder() as one:
        yield one


@pytest.fixture
async def evil() -> AsyncIterator[Recorder]:
    async with Recorder() as one:
        yield one


@pytest.fixture
async def sidecar(tmp_path: Path, provider: Recorder) -> AsyncIterator[Sidecar]:
    async with guarded(tmp_path, provider) as one:
        yield one


async def test_the_rig_shows_the_key_where_it_belongs(sidecar: Sidecar, provider: Recorder) -> None:
    """Otherwise the tests below would prove nothing."""
    assert (await ask(sidecar, get(sidecar, b"/openai/v1/models", bearer(sidecar)))).startswith(b"HTTP/1.1 200")
    assert provider.seen.count(SECRET) == 1
    assert key_of(sidecar) not in provider.seen


@pytest.mark.parametrize(
    "path",
    [
        b"/openai/../evil",
        b"/openai/v1/../../models",
        b"/openai/v1/%2e%2e/models",
        b"/openai/v1/./models",
        b"/openai//v1/models",
        b"/openai/v1//models",
        b"/openai/v1/models%2f..%2fx",
        b"/openai/v1/models%00",
        b"/openai/v1/models;x=1",
        b"/openai/v1\\models",
        b"/openai/v1/%6dodels%252e",
        b"/openai@evil.example/v1/models",
        b"//evil.example/v1/models",
        b"/%6fpenai/v1/models",
        b"/OPENAI/v1/models",
        b"/openai/@evil.example/v1/models",
        b"/openai/http://evil.example/v1/models",
        b"/openai/v1/unheard-of",
        b"/azure/../openai/v1/models",
    ],
)
async def test_a_path_that_could_be_read_in_two_ways_gets_no_key(
    sidecar: Sidecar, provider: Recorder, path: bytes
) -> None:
    head = await ask(sidecar, get(sidecar, path, bearer(sidecar)))
    assert head[9:10] == b"4"
    assert provider.seen == b""


@pytest.mark.parametrize(
    "authority",
    [
        b"api.openai.com.evil.example",
        b"evil.openai.azure.com",
        b"mine.openai.azure.com:8443",
        b"api.openai.com:8080",
        b"api.openai.com@evil.example",
        b"user:pass@api.openai.com",
        b"api.openai.com%2eevil.example",
        b"api.openai.com\\evil.example",
        b"[::ffff:127.0.0.1]",
        b"api.openai.com:080",
        b"api.openai.com:",
        b"",
    ],
)
async def test_another_name_in_an_absolute_target_gets_no_key(
    sidecar: Sidecar, provider: Recorder, authority: bytes
) -> None:
    head = await ask(sidecar, get(sidecar, b"http://" + authority + b"/v1/models", bearer(sidecar)))
    assert head[9:10] in (b"4", b"5")
    assert SECRET not in provider.seen


async def test_host_does_not_move_an_absolute_target(sidecar: Sidecar, provider: Recorder, evil: Recorder) -> None:
    request = b"GET http://api.openai.com/v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % evil.port
    await ask(sidecar, request + bearer(sidecar) + b"\r\n")
    assert evil.seen == b""
    assert b"\r\nhost: api.openai.com\r\n" in provider.seen
    request = b"GET http://127.0.0.1:%d/v1/models HTTP/1.1\r\nhost: api.openai.com\r\n\r\n" % evil.port
    await ask(sidecar, request)
    assert evil.requests == 1
    assert SECRET not in evil.seen
    assert b"\r\nhost: 127.0.0.1:%d\r\n" % evil.port in evil.seen


@pytest.mark.parametrize(
    "host", [b"evil.example", b"mine.openai.azure.com", b"api.openai.com:8443", b"API.openai.com.x"]
)
async def test_another_host_inside_a_tunnel_is_421(sidecar: Sidecar, provider: Recorder, host: bytes) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nhost: " + host + b"\r\n" + bearer(sidecar) + b"\r\n"
    assert (await ask(sidecar, request, connect=b"api.openai.com:80")).startswith(b"HTTP/1.1 421")
    assert provider.seen == b""


@pytest.mark.parametrize("target", [b"http://evil.example/v1/models", b"http://api.openai.com/v1/models", b"*"])
async def test_a_target_inside_a_tunnel_is_a_path(sidecar: Sidecar, provider: Recorder, target: bytes) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nhost: api.openai.com\r\n" + bearer(sidecar) + b"\r\n"
    assert (await ask(sidecar, request, connect=b"api.openai.com:80")).startswith(b"HTTP/1.1 400")
    assert provider.seen == b""


async def test_a_name_under_a_pattern_is_intercepted_and_gets_no_key(sidecar: Sidecar, provider: Recorder) -> None:
    path = b"/openai/deployments/d/chat/completions"
    body = b'{"model":"m"}'
    for host in (b"evil.openai.azure.com", b"a.mine.openai.azure.com"):
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n" % (path, host, len(body))
        answer = await ask(sidecar, head + b"api-key: " + key_of(sidecar) + b"\r\n\r\n" + body, connect=host + b":80")
        assert answer.startswith(b"HTTP/1.1 401")
        await ask(sidecar, head + b"api-key: my-own\r\n\r\n" + body, connect=host + b":80")
    assert SECRET not in provider.seen
    assert key_of(sidecar) not in provider.seen
    assert provider.seen.count(b"my-own") == 2


@pytest.mark.parametrize(
    "fields",
    [
        b"authorization: Bearer %b\r\nauthorization: Bearer sk-own-a\r\n",
        b"AUTHORIZATION: Bearer %b\r\nAuthorization: Basic sk-own-b\r\n",
        b"connection: authorization\r\nauthorization: Bearer %b\r\n",
        b"connection: close, X-Api-Key, host-x\r\nx-api-key: sk-own-c\r\nauthorization: Bearer %b\r\n",
        b"x-api-key: sk-own-d\r\napi-key: sk-own-e\r\nx-goog-api-key: sk-own-f\r\nauthorization: %b\r\n",
        b"proxy-authorization: Bearer sk-own-g\r\nauthorization: Bearer %b\r\n",
    ],
)
async def test_every_key_of_the_app_is_taken_out_and_ours_stands_once(
    sidecar: Sidecar, provider: Recorder, fields: bytes
) -> None:
    await ask(sidecar, get(sidecar, b"/openai/v1/models", fields % key_of(sidecar)))
    assert provider.requests == 1
    assert b"sk-own-" not in provider.seen
    assert key_of(sidecar) not in provider.seen
    assert provider.seen.lower().count(b"authorization:") == 1
    assert provider.seen.count(SECRET) == 1


@pytest.mark.parametrize(
    "query", [b"?api-key=own", b"?API-KEY=own", b"?api%2Dkey=own", b"?a=1;api-key=own", b"?subscription-key=own&b=2"]
)
async def test_a_key_in_the_query_is_taken_out(sidecar: Sidecar, provider: Recorder, query: bytes) -> None:
    path = b"/azure/openai/deployments" + query
    await ask(sidecar, get(sidecar, path, b"api-key: " + key_of(sidecar) + b"\r\n"))
    assert provider.requests == 1
    assert b"own" not in provider.seen
    assert provider.seen.count(b"api-key: " + SECRET) == 1


@pytest.mark.parametrize("name", [b"X-HTTP-Method-Override", b"x-http-method", b"X-Method-Override"])
async def test_a_method_override_does_not_turn_a_known_operation_into_another(
    sidecar: Sidecar, provider: Recorder, name: bytes
) -> None:
    head = await ask(sidecar, get(sidecar, b"/openai/v1/models", name + b": DELETE\r\n" + bearer(sidecar)))
    assert head.startswith(b"HTTP/1.1 403")
    assert provider.seen == b""


async def test_no_operation_that_mints_keys_is_in_reach_of_the_key(sidecar: Sidecar, provider: Recorder) -> None:
    for path in (b"/openai/v1/organization/admin_api_keys", b"/openai/v1/realtime/client_secrets"):
        request = get(sidecar, path, b"content-length: 2\r\n" + bearer(sidecar), b"POST") + b"{}"
        assert (await ask(sidecar, request)).startswith(b"HTTP/1.1 401")
    assert provider.seen == b""


async def test_a_redirect_is_passed_on_and_not_followed(tmp_path: Path, evil: Recorder) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/v1/models\r\ncontent-length: 0\r\n\r\n" % evil.port
    async with Recorder(moved) as provider, guarded(tmp_path, provider) as sidecar:
        head = await ask(sidecar, get(sidecar, b"/openai/v1/models", bearer(sidecar)))
        assert head.startswith(b"HTTP/1.1 302")
    assert evil.seen == b""


async def test_without_the_placeholder_there_is_no_key(sidecar: Sidecar, provider: Recorder) -> None:
    almost = key_of(sidecar)[:-1]
    for field in (
        b"",
        b"authorization: Bearer \r\n",
        b"authorization: Bearer " + almost + b"\r\n",
        b"cookie: " + key_of(sidecar) + b"\r\n",
    ):
        assert (await ask(sidecar, get(sidecar, b"/openai/v1/models", field))).startswith(b"HTTP/1.1 401")
    assert provider.seen == b""


async def test_a_provider_may_not_take_the_name_of_the_passthrough(tmp_path: Path, provider: Recorder) -> None:
    """`other` is what plain-HTTP hosts that nobody claims are called: its credential would be looked up for all."""
    from outrider.config import ConfigError
    from support.running import running

    named = {"kind": "openai", "hosts": ["llm.internal"], "connect_to": provider.url}
    with pytest.raises(ConfigError, match="other"):
        async with running(tmp_path, {"other": {**named, "credential": {"env": "OPENAI_API_KEY"}}}):
            pass


async def test_a_web_socket_key_does_not_travel_in_the_subprotocol(sidecar: Sidecar, provider: Recorder) -> None:
    fields = (
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.%b\r\n"
        b"sec-websocket-protocol: openai-insecure-api-key.sk-own\r\n"
    )
    await ask(sidecar, get(sidecar, b"/openai/v1/realtime?model=m", fields % key_of(sidecar)))
    assert provider.requests == 1
    assert b"sk-own" not in provider.seen
    assert key_of(sidecar) not in provider.seen
    assert provider.seen.count(SECRET) == 1


async def test_the_rig_listens_under_its_own_name_only(sidecar: Sidecar, provider: Recorder) -> None:
    port = sidecar.proxy_addresses[0][1]
    for host in (b"evil.example:%d" % port, b"127.0.0.1", b"127.0.0.1:1", b"127.0.0.1.:%d" % port, b""):
        request = b"GET /openai/v1/models HTTP/1.1\r\nhost: " + host + b"\r\n" + bearer(sidecar) + b"\r\n"
        assert (await ask(sidecar, request)).startswith(b"HTTP/1.1 421")
    for field in (b"origin: null\r\n", b"Origin: http://127.0.0.1:%d\r\n" % port, b"sec-fetch-site: same-site\r\n"):
        assert (await ask(sidecar, get(sidecar, b"/openai/v1/models", field + bearer(sidecar))))[9:12] == b"403"
    assert provider.seen == b""
    assert host_of(sidecar)
