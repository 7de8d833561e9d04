"""An app tries to call a model, a host or an operation that the rules forbid, by every way in and every spelling.

Judged at the mock provider's journal: what is forbidden never arrives. A control beside each table shows that the same
way lets through what is allowed, so that a closed door is not taken for a guarded one.
"""

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.door.contract import Origin
from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.running import KEY, client_of, host_of, running, total
from support.wire import Peer

FORBIDDEN, ALLOWED = "gpt-4o-forbidden", "gpt-5-allowed"
HOSTS = {
    "openai": b"api.openai.com",
    "azure": b"mine.openai.azure.com",
    "gemini": b"generativelanguage.googleapis.com",
    "bedrock": b"bedrock-runtime.us-east-1.amazonaws.com",
    "ollama": b"ollama.internal",
}
JSON = b"content-type: application/json\r\n"
FORM = b"content-type: multipart/form-data; boundary=b\r\n"

DENY = [{"id": "deny", "description": "Not this model", "match": {"model": "*forbidden*"}, "then": "deny"}]
LIST = {"pack": "model-allowlist", "with": {"models": ["*allowed*"]}}


@dataclass(frozen=True)
class Attack:
    name: str
    provider: str
    path: bytes
    body: bytes = b""
    head: bytes = JSON
    method: bytes = b"POST"
    chunked: bool = False
    own_key: bool = False  # the app's own: where our credential is not added, nothing but a rule is in the way


def chat(model: str = FORBIDDEN, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()


def form(*fields: tuple[str, str]) -> bytes:
    parts = [f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    return "".join([*parts, "--b--\r\n"]).encode()


CHAT = b"/v1/chat/completions"
GZIP = JSON + b"content-encoding: gzip\r\n"
UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
BATCH_FILE = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="b.jsonl"\r\n\r\n'
    b'{"custom_id":"1","url":"/v1/chat/completions","body":' + chat() + b"}\r\n--b--\r\n"
)
ARN = b"arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.gpt-4o-forbidden"

ATTACKS = (
    Attack("the plain name", "openai", CHAT, chat()),
    Attack("in another case", "openai", CHAT, chat(FORBIDDEN.upper())),
    Attack("escaped", "openai", CHAT, b'{"model":"gpt-4o-\\u0066orbidden","messages":[]}'),
    Attack("under an escaped key", "openai", CHAT, b'{"m\\u006fdel":"gpt-4o-forbidden","messages":[]}'),
    Attack("twice, the allowed first", "openai", CHAT,
           b'{"model":"gpt-5-allowed","model":"gpt-4o-forbidden","messages":[]}'),
    Attack("twice, the allowed last", "openai", CHAT,
           b'{"model":"gpt-4o-forbidden","model":"gpt-5-allowed","messages":[]}'),
    Attack("twice, one key escaped", "openai", CHAT, b'{"model":"gpt-5-allowed","\\u006dodel":"gpt-4o-forbidden"}'),
    Attack("twice, one key in another case", "openai", CHAT, b'{"model":"gpt-5-allowed","Model":"gpt-4o-forbidden"}'),
    Attack("with a byte order mark", "openai", CHAT, b"\xef\xbb\xbf" + chat()),
    Attack("in UTF-16", "openai", CHAT, chat().decode().encode("utf-16-le")),
    Attack("with NaN behind it", "openai", CHAT, b'{"model":"gpt-4o-forbidden","x":NaN}'),
    Attack("with invisible characters", "openai", CHAT, chat("gpt-4o-\u200bforbidden")),
    Attack("with a percent escape", "openai", CHAT, chat("gpt-4o-%66orbidden")),
    Attack("gzipped", "openai", CHAT, gzip.compress(chat()), GZIP),
    Attack("gzipped twice", "openai", CHAT, gzip.compress(gzip.compress(chat())),
           JSON + b"content-encoding: gzip, gzip\r\n"),
    Attack("in two gzip members", "openai", CHAT, gzip.compress(b"{}") + gzip.compress(chat()), GZIP),
    Attack("in a coding that is not read", "openai", CHAT, chat(), JSON + b"content-encoding: br\r\n"),
    Attack("in chunks", "openai", CHAT, chat(), chunked=True),
    Attack("in gzip in chunks", "openai", CHAT, gzip.compress(chat()), GZIP, chunked=True),
    Attack("as a fallback", "openai", CHAT, chat(ALLOWED, models=[ALLOWED, FORBIDDEN])),
    Attack("as a fallback of its own", "openai", CHAT, chat(ALLOWED, fallbacks=[{"model": FORBIDDEN}])),
    Attack("in a tool", "openai", b"/v1/responses", json.dumps(
        {"model": ALLOWED, "input": "x", "tools": [{"type": "image_generation", "model": FORBIDDEN}]}).encode()),
    Attack("of a fine-tune", "openai", CHAT, chat(f"ft:{FORBIDDEN}:acme::1")),
    Attack("as another content type", "openai", CHAT, chat(), b"content-type: text/plain\r\n"),
    Attack("at another endpoint", "openai", b"/v1/embeddings", json.dumps({"model": FORBIDDEN, "input": "x"}).encode()),
    Attack("at an endpoint that no table has", "openai", b"/v1/brand/new", chat(), own_key=True),
    Attack("at a path with an empty segment", "openai", b"/v1//chat/completions", chat(), own_key=True),
    Attack("at a path with dots", "openai", b"/v1/x/../chat/completions", chat(), own_key=True),
    Attack("at an escaped path", "openai", b"/v1/chat%2Fcompletions", chat(), own_key=True),
    Attack("in a batch's file", "openai", b"/v1/files",
           BATCH_FILE, FORM),
    Attack("in a form", "openai", b"/v1/audio/transcriptions", form(("model", FORBIDDEN)), FORM),
    Attack("in a form, twice", "openai", b"/v1/audio/transcriptions",
           form(("model", ALLOWED), ("model", FORBIDDEN)), FORM),
    Attack("in a form, in another case", "openai", b"/v1/images/edits", form(("Model", FORBIDDEN)), FORM),
    Attack("in a form with two boundaries", "openai", b"/v1/images/edits", form(("model", FORBIDDEN)),
           b"content-type: multipart/form-data; boundary=b; boundary=c\r\n"),
    Attack("in a form with a quoted name", "openai", b"/v1/images/edits",
           form(("model", FORBIDDEN)).replace(b'name="model"', b'name="mo\\del"'), FORM),
    Attack("in a live session's query", "openai", b"/v1/realtime?model=" + FORBIDDEN.encode(), b"", UPGRADE, b"GET"),
    Attack("in an escaped query", "openai", b"/v1/realtime?mod%65l=gpt-4o-%66orbidden", b"", UPGRADE, b"GET"),
    Attack("in a query, twice", "openai", b"/v1/realtime?model=gpt-5-allowed&model=gpt-4o-forbidden", b"", UPGRADE,
           b"GET"),
    Attack("inside a WebSocket", "openai", b"/v1/responses", b"", UPGRADE, b"GET"),
    Attack("as Azure's deployment", "azure", b"/openai/deployments/gpt-4o-forbidden/chat/completions?api-version=1",
           b"{}"),
    Attack("as an escaped deployment", "azure",
           b"/openai/deployments/gpt-4o-%66orbidden/chat/completions?api-version=1", b"{}"),
    Attack("as a deployment at an unknown path", "azure", b"/openai/deployments/gpt-4o-forbidden/brand/new", b"{}",
           own_key=True),
    Attack("as a live deployment", "azure", b"/openai/realtime?api-version=1&deployment=gpt-4o-forbidden", b"",
           UPGRADE, b"GET"),
    Attack("in Gemini's path", "gemini", b"/v1beta/models/gpt-4o-forbidden:generateContent", b'{"contents":[]}'),
    Attack("in Gemini's path, streamed", "gemini", b"/v1beta/models/gpt-4o-forbidden:streamGenerateContent?alt=sse",
           b'{"contents":[]}'),
    Attack("in Gemini's escaped path", "gemini", b"/v1beta/models/gpt-4o-%66orbidden%3AgenerateContent",
           b'{"contents":[]}'),
    Attack("in Bedrock's path", "bedrock", b"/model/gpt-4o-forbidden/converse", b"{}"),
    Attack("as an ARN", "bedrock", b"/model/" + ARN + b"/converse", b"{}"),
    Attack("as an ARN with its own slash", "bedrock",
           b"/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.gpt-4o-forbidden/converse", b"{}"),
    Attack("as an ARN of a provisioned model of that name", "bedrock",
           b"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fgpt-4o-forbidden/invoke", b"{}"),
    Attack("as an ARN, streamed", "bedrock", b"/model/" + ARN + b"/invoke-with-response-stream", b"{}"),
    Attack("at a path of Bedrock's that no table has", "bedrock", b"/model/gpt-4o-forbidden/brand-new", b"{}",
           own_key=True),
    Attack("in UTF-16 that says so", "openai", CHAT, chat().decode().encode("utf-16"),
           b"content-type: application/json; charset=utf-16\r\n"),
    Attack("by another method", "openai", CHAT, chat(), method=b"PUT", own_key=True),
    Attack("with a second content type", "openai", CHAT, chat(), FORM + JSON),
    Attack("in the session of a live call", "openai", b"/v1/realtime/client_secrets",
           json.dumps({"session": {"type": "realtime", "model": FORBIDDEN}}).encode(), own_key=True),
    Attack("under a key in another case", "ollama", b"/api/chat", b'{"MODEL":"gpt-4o-forbidden","messages":[]}'),
)  # fmt: skip

CONTROLS = (
    Attack("a chat", "openai", CHAT, chat(ALLOWED)),
    Attack("gzipped", "openai", CHAT, gzip.compress(chat(ALLOWED)), GZIP),
    Attack("in chunks", "openai", CHAT, chat(ALLOWED), chunked=True),
    Attack("a form", "openai", b"/v1/audio/transcriptions", form(("model", ALLOWED)), FORM),
    Attack("a deployment", "azure", b"/openai/deployments/gpt-5-allowed/chat/completions?api-version=1", chat(ALLOWED)),
    Attack("Gemini", "gemini", b"/v1beta/models/gpt-5-allowed:generateContent", b'{"contents":[]}'),
    Attack("an ARN", "bedrock", b"/model/" + ARN.replace(b"4o-forbidden", b"5-allowed") + b"/converse", b"{}"),
    Attack("a list", "openai", b"/v1/models", b"", b"", b"GET"),
)


# -- the ways in


def message(attack: Attack, target: bytes, host: bytes, key: bytes) -> bytes:
    head = (
        attack.method
        + b" "
        + target
        + b" HTTP/1.1\r\nhost: "
        + host
        + b"\r\nauthorization: Bearer "
        + key
        + b"\r\n"
        + attack.head
    )
    if attack.method == b"GET":
        return head + b"\r\n"
    if attack.chunked:
        half = len(attack.body) // 2
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (attack.body[:half], attack.body[half:]))
        return head + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(attack.body) + attack.body


async def answered(peer: Peer) -> bytes:
    """The head of the first answer, b"" for a hang-up."""
    data = b""
    try:
        while b"\r\n\r\n" not in data and (more := await peer.more()):
            data += more
    except (ConnectionError, ssl.SSLError):
        pass
    return data.partition(b"\r\n\r\n")[0]


async def by_base_url(sidecar: Sidecar, attack: Attack, key: bytes) -> bytes:
    peer = await client_of(sidecar)
    own = host_of(sidecar)[6:-2]
    try:
        await peer.send(message(attack, b"/" + attack.provider.encode() + attack.path, own, key))
        return await answered(peer)
    finally:
        peer.close()


async def by_absolute_form(sidecar: Sidecar, attack: Attack, key: bytes) -> bytes:
    peer = await client_of(sidecar)
    host = HOSTS[attack.provider]
    try:
        await peer.send(message(attack, b"http://" + host + attack.path, host, key))
        return await answered(peer)
    finally:
        peer.close()


async def by_connect(sidecar: Sidecar, attack: Attack, key: bytes, *, tls: bool) -> bytes:
    peer = await client_of(sidecar)
    host = HOSTS[attack.provider]
    try:
        await peer.send(b"CONNECT " + host + (b":443" if tls else b":80") + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await peer.head()).startswith(b"HTTP/1.1 200")
        if tls:
            context = ssl.create_default_context(cadata=sidecar.ca.certificate_pem.decode())
            await peer.start_tls(context, server_side=False, name=host.decode())
        await peer.send(message(attack, attack.path, host, key))
        return await answered(peer)
    finally:
        peer.close()


async def by_http_in_connect(sidecar: Sidecar, attack: Attack, key: bytes) -> bytes:
    return await by_connect(sidecar, attack, key, tls=False)


async def by_tls_in_connect(sidecar: Sidecar, attack: Attack, key: bytes) -> bytes:
    return await by_connect(sidecar, attack, key, tls=True)


async def by_redirection(sidecar: Sidecar, attack: Attack, key: bytes) -> bytes:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    sidecar.serve_http(ours, Origin("transparent", "transparent", None, 80, False, ("127.0.0.1", 1), "192.0.2.1"), None)
    peer = Peer(theirs)
    try:
        await peer.send(message(attack, attack.path, HOSTS[attack.provider], key))
        return await answered(peer)
    finally:
        peer.close()


type Way = Callable[[Sidecar, Attack, bytes], Coroutine[Any, Any, bytes]]
WAYS: tuple[Way, ...] = (by_base_url, by_absolute_form, by_http_in_connect, by_tls_in_connect, by_redirection)


@asynccontextmanager
async def governed(folder: Path, policies: list[Any], **sections: Any) -> AsyncIterator[tuple[Sidecar, MockProvider]]:
    async with MockProvider(keys=dict.fromkeys(HOSTS, KEY)) as mock:
        reach = {"connect_to": mock.http_url, "credential": {"env": "OPENAI_API_KEY"}}
        providers: dict[str, Any] = {name: {**reach, "hosts": [host.decode()]} for name, host in HOSTS.items()}
        providers["openai"].pop("hosts")
        providers["gemini"].pop("hosts")
        providers["bedrock"] = {**reach, "region": "us-east-1"}
        async with running(folder, providers, policies=policies, **sections) as sidecar:
            yield sidecar, mock


def rules_file(folder: Path, rules: list[dict[str, Any]], name: str = "mine") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"rules": rules}))
    return str(path)


async def tried(
    way: Way, attacks: tuple[Attack, ...], folder: Path, policies: list[Any]
) -> dict[str, tuple[bytes, int]]:
    """name -> (the answer's head, how many requests arrived at the provider), for plain and streamed."""
    found = {}
    async with governed(folder, policies) as (sidecar, mock):
        key = sidecar.placeholder.value.encode()
        for attack in attacks:
            before = len(mock.journal)
            head = await way(sidecar, attack, KEY.encode() if attack.own_key else key)
            found[attack.name] = (head, len(mock.journal) - before)
    return found


def streamed(attack: Attack) -> Attack | None:
    """The same, asking for a stream; None where its body has no place for that."""
    body = attack.body
    packed = body[:2] == b"\x1f\x8b" and body.count(b"\x1f\x8b\x08") == 1 and attack.head == GZIP
    plain = gzip.decompress(body) if packed else body
    if plain[:1] == b"{":
        plain = b'{"stream":true' + (b"" if plain[1:2] == b"}" else b",") + plain[1:]
    elif plain[:3] == b"--b":
        plain = form(("stream", "true")).removesuffix(b"--b--\r\n") + plain
    else:
        return None
    return replace(attack, name=f"{attack.name}, streamed", body=gzip.compress(plain) if packed else plain)


ALL = ATTACKS + tuple(one for attack in ATTACKS if (one := streamed(attack)) is not None)


@pytest.mark.parametrize("kind", ["deny", "list"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_no_way_and_no_spelling_leads_to_a_forbidden_model(tmp_path: Path, way: Way, kind: str) -> None:
    policies = [rules_file(tmp_path, DENY)] if kind == "deny" else [LIST]
    found = await tried(way, ALL, tmp_path, policies)
    arrived = [name for name, (_, count) in found.items() if count]
    assert not arrived
    assert not [name for name, (head, _) in found.items() if not head.startswith(b"HTTP/1.1 4")]


@pytest.mark.parametrize("kind", ["deny", "list"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_what_is_allowed_arrives_by_the_same_ways(tmp_path: Path, way: Way, kind: str) -> None:
    policies = [rules_file(tmp_path, DENY)] if kind == "deny" else [LIST]
    found = await tried(way, CONTROLS, tmp_path, policies)
    assert [name for name, (_, count) in found.items() if count != 1] == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_without_rules_the_unknown_paths_lead_to_the_provider(tmp_path: Path, way: Way) -> None:
    """So that it is the rules that refused them above."""
    unknown = tuple(attack for attack in ATTACKS if attack.own_key)
    found = await tried(way, unknown, tmp_path, [])
    assert {name for name, (_, count) in found.items() if count} == {attack.name for attack in unknown}


# -- hosts and operations

KNOWN = [{"pack": "baseline"}]


async def raw(sidecar: Sidecar, *pieces: bytes) -> bytes:
    """The head of the answer to the last piece; each is sent when the one before was answered."""
    peer = await client_of(sidecar)
    head = b""
    try:
        for piece in pieces:
            await peer.send(piece)
            head = await answered(peer)
        return head
    finally:
        peer.close()


async def test_a_host_that_is_no_provider_is_reached_by_no_way(tmp_path: Path) -> None:
    async with MockProvider() as evil, governed(tmp_path, KNOWN) as (sidecar, _):
        port = evil.http_port
        name = b"127.0.0.1:%d" % port
        for pieces in (
            (b"GET http://" + name + b"/ HTTP/1.1\r\nhost: api.openai.com\r\n\r\n",),
            (b"CONNECT " + name + b" HTTP/1.1\r\nhost: api.openai.com\r\n\r\n",),
            (b"CONNECT api.openai.com:80 HTTP/1.1\r\nhost: x\r\n\r\n",
             b"GET / HTTP/1.1\r\nhost: " + name + b"\r\n\r\n"),
            (b"CONNECT api.openai.com:80 HTTP/1.1\r\nhost: x\r\n\r\n",
             b"GET http://" + name + b"/ HTTP/1.1\r\nhost: api.openai.com\r\n\r\n"),
            (b"GET /openai/v1/models HTTP/1.1\r\nhost: " + name + b"\r\n\r\n",),
        ):  # fmt: skip
            head = await raw(sidecar, *pieces)
            assert head.startswith(b"HTTP/1.1 4"), pieces
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        origin = Origin("transparent", "transparent", None, port, False, ("127.0.0.1", 1), "127.0.0.1")
        sidecar.serve_http(ours, origin, None)
        await asyncio.get_running_loop().sock_sendall(theirs, b"GET / HTTP/1.1\r\nhost: innocent.example\r\n\r\n")
        assert (await answered(Peer(theirs))).startswith(b"HTTP/1.1 403")
        theirs.close()
        assert len(evil.journal) == 0
        assert total(sidecar, "outrider_rule_decisions_total", rule="baseline/known-providers") >= 2


NO_OPENAI = [{"id": "deny", "description": "Not this host", "match": {"host": "api.openai.com"}, "then": "deny"}]
ANOTHER = b"generativelanguage.googleapis.com"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_host_that_is_spelled_or_swapped_is_still_that_host(tmp_path: Path, stream: bool) -> None:
    """Refused, or led to whom the connection was for: never to the host that the rule denies."""
    body = chat(ALLOWED, stream=stream)
    rest = b"\r\nauthorization: Bearer " + KEY.encode() + b"\r\n" + JSON
    rest += b"content-length: %d\r\n\r\n" % len(body) + body
    post = b"POST " + CHAT + b" HTTP/1.1\r\nhost: "
    spellings = (b"api.openai.com", b"API.OpenAI.com", b"api.openai.com.", b"api.openai.com:80", b"api.openai.com:443")
    async with governed(tmp_path, [rules_file(tmp_path, NO_OPENAI)]) as (sidecar, mock):
        for name in spellings:
            absolute = b"POST http://" + name + CHAT + b" HTTP/1.1\r\nhost: "
            connect = b"CONNECT " + name.partition(b":")[0] + b":80 HTTP/1.1\r\nhost: x\r\n\r\n"
            to_another = b"CONNECT " + ANOTHER + b":80 HTTP/1.1\r\nhost: x\r\n\r\n"
            for pieces in (
                (absolute + name + rest,),
                (absolute + ANOTHER + rest,),  # whom the target names counts, and Host is not asked
                (connect, post + name + rest),
                (connect, post + ANOTHER + rest),
                (to_another, post + name + rest),
                (to_another, absolute + ANOTHER + rest),
                (b"POST /openai" + CHAT + b" HTTP/1.1\r\nhost: " + name + rest,),
                (b"POST /gemini" + CHAT + b" HTTP/1.1\r\nx-forwarded-host: " + name + b"\r\n" + host_of(sidecar)[:-2]
                 + rest,),
            ):  # fmt: skip
                head = await raw(sidecar, *pieces)
                assert head == b"" or head.startswith(b"HTTP/1.1 4"), pieces
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        origin = Origin("transparent", "transparent", None, 80, False, ("127.0.0.1", 1), "192.0.2.1")
        sidecar.serve_http(ours, origin, None)
        await asyncio.get_running_loop().sock_sendall(theirs, post + b"API.openai.com" + rest)
        assert (await answered(Peer(theirs))).startswith(b"HTTP/1.1 4")
        theirs.close()
        assert not [entry for entry in mock.journal if "openai" in (entry.header("host") or "")]
        await raw(sidecar, b"POST /azure/openai/v1/chat/completions HTTP/1.1\r\n" + host_of(sidecar)[:-2] + rest)
        assert len(mock.journal) >= 1, "others are still reached"


async def test_without_the_rule_that_host_is_reached(tmp_path: Path) -> None:
    async with MockProvider() as other, governed(tmp_path, []) as (sidecar, _):
        name = b"127.0.0.1:%d" % other.http_port
        assert (await raw(sidecar, b"CONNECT " + name + b" HTTP/1.1\r\nhost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("override", [b"x-http-method-override", b"X-HTTP-Method", b"x-method-override"])
async def test_a_method_that_a_field_would_change_is_refused(tmp_path: Path, override: bytes) -> None:
    attack = Attack("", "openai", b"/v1/models", b"", override + b": POST\r\n", b"GET", own_key=True)
    async with governed(tmp_path, KNOWN) as (sidecar, mock):
        assert (await by_base_url(sidecar, attack, KEY.encode())).startswith(b"HTTP/1.1 403")
        assert (await by_absolute_form(sidecar, attack, KEY.encode())).startswith(b"HTTP/1.1 403")
        assert len(mock.journal) == 0


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_operations_that_mint_keys_are_refused_with_any_key(tmp_path: Path, way: Way) -> None:
    async with governed(tmp_path, KNOWN) as (sidecar, mock):
        for path in (
            b"/v1/organization/admin_api_keys",
            b"/v1/realtime/client_secrets",
            b"/v1/organization%2Fadmin_api_keys",
        ):
            head = await way(sidecar, Attack("", "openai", path, b"{}"), KEY.encode())
            if b"%" not in path:
                assert b"x-outrider-decision: baseline/no-minting" in head
        minted = [entry for entry in mock.journal if b"%" not in entry.target.encode()]
        assert not minted


READS = [
    {
        "id": "reads",
        "description": "No spells",
        "match": {},
        "when": "request.text.contains('abracadabra')",
        "then": "deny",
    }
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_words_in_a_body_are_found_however_it_is_sent(tmp_path: Path, way: Way) -> None:
    spell = json.dumps({"model": "m", "messages": [{"role": "user", "content": "abracadabra"}]}).encode()
    escaped = spell.replace(b"abra", b"\\u0061bra")
    twice = b'{"messages":[{"role":"user","content":"abracadabra"}],"messages":[]}'
    parts = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"abracadabra"}]}]}'
    table = (
        Attack("plain", "openai", CHAT, spell),
        Attack("escaped", "openai", CHAT, escaped),
        Attack("gzip", "openai", CHAT, gzip.compress(spell), GZIP),
        Attack("chunks", "openai", CHAT, spell, chunked=True),
        Attack("twice", "openai", CHAT, twice),
        Attack("parts", "openai", CHAT, parts),
        Attack("form", "openai", b"/v1/audio/transcriptions", form(("model", "m"), ("prompt", "abracadabra")), FORM),
        Attack("passthrough", "openai", b"/v1/vector_stores", b'{"name":"abracadabra"}'),
        Attack("unknown path", "openai", b"/v1/brand/new", spell, own_key=True),
        Attack("no JSON", "openai", CHAT, b"\xff\xfeabracadabra"),
        Attack("too large", "openai", CHAT, chat("m") + b" " * 600_000),
        Attack("too large in chunks", "openai", CHAT, chat("m") + b" " * 600_000, chunked=True),
        Attack("unpacks to too much", "openai", CHAT, gzip.compress(spell + b" " * 70_000), GZIP),
        Attack("WebSocket", "openai", b"/v1/realtime?model=m", b"", UPGRADE, b"GET"),
    )
    async with governed(tmp_path, [rules_file(tmp_path, READS)], caps={"held_body_bytes": 65_536}) as (sidecar, mock):
        key = sidecar.placeholder.value.encode()
        heads = {attack.name: await way(sidecar, attack, KEY.encode() if attack.own_key else key) for attack in table}
        assert not [name for name, head in heads.items() if not head.startswith(b"HTTP/1.1 4")]
        assert len(mock.journal) == 0
        assert heads["too large"].startswith(b"HTTP/1.1 413")
        assert heads["too large in chunks"].startswith(b"HTTP/1.1 413")
        await way(sidecar, Attack("", "openai", CHAT, chat("m")), key)
        assert len(mock.journal) == 1


async def test_a_websocket_passes_a_rule_that_says_so(tmp_path: Path) -> None:
    upgrade = Attack("", "openai", b"/v1/realtime?model=gpt-realtime", b"", UPGRADE, b"GET")
    allowed = [{**READS[0], "websocket": "allow-uninspected"}]
    async with governed(tmp_path, [rules_file(tmp_path, allowed)]) as (sidecar, mock):
        assert (await by_base_url(sidecar, upgrade, sidecar.placeholder.value.encode())).startswith(b"HTTP/1.1 101")
        assert len(mock.journal) == 1
