"""Who is calling, on every way in, with real users, sockets and keys; what leaves is judged at the provider's journal.

Attacks: forged, expired and revoked keys; a key on its way to another host or in the wrong place; a token inside a
tunnel; keys that differ; keys that change from request to request of one connection.
"""

import base64
import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Start
from e2e.rig import REAL, Ride, riding, until
from e2e.test_refusals import BODY, answer_of, post, say
from outrider.config import load
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, new_key

OTHER_UID = 54321
NAMES = ("ann", "ben", "bound", "old", "stranger")


class Keys:
    """Virtual keys, and the principals that list them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hasher = KeyHasher.open(folder / "hmac", create=True)
        self.of = {name: new_key() for name in NAMES}

    def hash(self, name: str) -> str:
        return HASH_PREFIX + self.hasher.hash_of(self.of[name].encode()).hex()

    def principals(self) -> list[dict[str, Any]]:
        return [
            {"id": "ann", "team": "a-team", "from": {"keys": [{"hash": self.hash("ann")}]}},
            {
                "id": "ben",
                "from": {"keys": [{"hash": self.hash("ben")}, {"hash": self.hash("old"), "expires": "2020-01-01"}]},
            },
            {"id": "bound", "uids": [OTHER_UID], "from": {"keys": [{"hash": self.hash("bound")}]}},
        ]

    def sections(self, **more: Any) -> dict[str, Any]:
        return {
            "principals": self.principals(),
            "virtual_keys": {"hmac_key": str(self.folder / "hmac")},
            "telemetry": {"log": str(self.folder / "log")},
            **more,
        }

    def basic(self, name: str, user: str = "") -> str:
        return "Basic " + base64.b64encode(f"{user}:{self.of[name]}".encode()).decode()

    def assert_hidden(self, ride: Ride) -> None:
        """No key and no token reached the provider in any of the spellings in which they were shown."""
        for name in NAMES:
            for shape in (self.of[name], self.basic(name)[6:], self.basic(name, "ann")[6:]):
                assert shape.encode() not in ride.wire


@pytest.fixture(name="keys")
def fixture_keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def lines(keys: Keys, count: int) -> list[dict[str, Any]]:
    """The log's exchanges, once there are so many."""

    def read() -> list[dict[str, Any]]:
        text = (keys.folder / "log").read_text() if (keys.folder / "log").exists() else ""
        found = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [line for line in found if line["event"] == "exchange"]

    until(lambda: len(read()) >= count)
    assert len(read()) == count
    return read()


def principals(keys: Keys, count: int) -> list[str]:
    return [line["principal"] for line in lines(keys, count)]


def ask(
    ride: Ride, fields: str, path: str = "/openai/v1/chat/completions", host: str | None = None, body: bytes = BODY
) -> bytes:
    host = host or f"127.0.0.1:{ride.port}"
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\n{fields}content-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def tunnelled(ride: Ride, fields: str = "", host: str = "api.openai.com") -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cadata=ride.sidecar.ca.certificate_pem.decode())
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as raw:
        raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n{fields}\r\n".encode())
        assert answer_of(raw).startswith(b"HTTP/1.1 200 ")
        with context.wrap_socket(raw, server_hostname=host) as tls:
            yield tls


def as_user(uid: int, address: Any, data: bytes, family: int = socket.AF_INET) -> bytes:
    """The answer to `data`, asked by a process of this user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            sock = socket.socket(family)
            sock.settimeout(90)
            sock.connect(address)
            sock.sendall(data)
            os.write(writing, answer_of(sock))
        except BaseException as exc:
            os.write(writing, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def code_of(answer: bytes) -> tuple[int, str]:
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
    named = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("x-outrider-error:")]
    return int(head.split()[1]), named[0] if named else ""


# --- a virtual key in every slot --------------------------------------------------------------------------------------

SLOTS = ["authorization: Bearer {}", "authorization: bearer {}", "authorization: {}", "x-api-key: {}", "api-key: {}"]


@pytest.mark.parametrize("slot", [*SLOTS, "x-goog-api-key: {}"])
def test_a_virtual_key_stands_for_the_placeholder_in_any_slot(start: Start, keys: Keys, slot: str) -> None:
    ride = start(**keys.sections())
    answer = say(ride, ask(ride, slot.format(keys.of["ann"]) + "\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert ride.entry.all("authorization") == [f"Bearer {REAL['openai']}"]
    keys.assert_hidden(ride)
    assert principals(keys, 1) == ["ann"]


@pytest.mark.parametrize("spelling", ["key={}", "x=1&key={}", "%6Bey={}", "key=%6F{}"])
def test_a_virtual_key_in_the_query_is_taken_out(start: Start, keys: Keys, spelling: str) -> None:
    ride = start(**keys.sections())
    shown = keys.of["ann"][1:] if spelling.endswith("%6F{}") else keys.of["ann"]
    path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent?" + spelling.format(shown)
    answer = say(ride, ask(ride, "", path, body=b'{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}'))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert ride.entry.header("x-goog-api-key") == REAL["gemini"]
    assert shown.encode() not in ride.wire
    assert principals(keys, 1) == ["ann"]


def test_a_virtual_key_in_the_realtime_subprotocol_is_taken_out(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    fields = (
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"sec-websocket-protocol: realtime, openai-insecure-api-key.{keys.of['ben']}\r\n"
    )
    request = f"GET /openai/v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: 127.0.0.1:{ride.port}\r\n{fields}\r\n"
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(request.encode())
        assert answer_of(sock).startswith(b"HTTP/1.1 101 ")
    assert ride.entry.header("authorization") == f"Bearer {REAL['openai']}"
    keys.assert_hidden(ride)
    assert principals(keys, 1) == ["ben"]


@pytest.mark.parametrize(
    ("path", "slot"),
    [
        ("/anthropic/v1/messages", "authorization: Bearer {}"),
        ("/openai/v1/chat/completions", "x-goog-api-key: {}"),
        ("/bedrock/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", "x-api-key: {}"),
    ],
)
def test_another_providers_slot_is_a_slot_too_and_emptied(start: Start, keys: Keys, path: str, slot: str) -> None:
    ride = start(**keys.sections())
    say(ride, ask(ride, slot.format(keys.of["ann"]) + "\r\nanthropic-version: 2023-06-01\r\n", path))
    assert len(ride.mock.journal) == 1
    keys.assert_hidden(ride)
    assert principals(keys, 1) == ["ann"]


# --- where it must not stand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/openai/v1/chat/completions", "authorization: Bearer {ann}\r\nx-extra: {ann}\r\n"),
        ("/openai/v1/chat/completions", "authorization: Bearer {placeholder}\r\ncookie: k={ann}\r\n"),
        ("/openai/v1/chat/completions", "authorization: Bearer {placeholder}\r\nx-extra: {ann}X\r\n"),
        ("/openai/v1/chat/completions?key={ann}", "authorization: Bearer {placeholder}\r\n"),
        ("/openai/v1/chat/completions?key={ann}", "authorization: Bearer {ann}\r\n"),
        ("/openai/v1/chat/completions", "authorization: Negotiate {ann}\r\nx-api-key: {placeholder}\r\n"),
        ("/gemini/v1beta/models/gemini-2.5-flash:generateContent?key=%6F{ann:1}", "x-extra: {ann}\r\n"),
        ("/groq/openai/v1/chat/completions", "authorization: Bearer {ann}\r\n"),
        ("/groq/openai/v1/chat/completions", "authorization: Bearer sk-own\r\nx-extra: {stranger}\r\n"),
        ("http://example.com/", "authorization: Bearer {ann}\r\n"),
        ("http://127.0.0.1:9/?k={ann}", ""),
    ],
)
def test_a_virtual_key_where_it_would_be_passed_on_is_refused(start: Start, keys: Keys, path: str, fields: str) -> None:
    ride = start(**keys.sections())
    words = {"placeholder": ride.placeholder, **keys.of}

    def filled(text: str) -> str:
        text = text.replace("{ann:1}", words["ann"][1:])
        return text.format(**words)

    for _ in range(2):  # what the first one left remembered changes nothing for the second
        assert code_of(say(ride, ask(ride, filled(fields), filled(path)))) == (401, "virtual_key_refused")
    assert ride.wire == b""
    assert ride.events()["virtual_key_misplaced"] == 2


def test_remembered_keys_do_not_let_a_misplaced_one_by(start: Start, keys: Keys) -> None:
    """On one connection, after requests that are remembered."""
    ride = start(**keys.sections())
    ann, ben = f"authorization: Bearer {keys.of['ann']}\r\n", f"x-b: {keys.of['ben']}\r\n"
    own = f"authorization: Bearer {ride.placeholder}\r\n"
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        for fields, status in (
            (ann, 200),
            (ann + ben, 401),
            (own, 200),
            (own + ben, 401),
            (ann + ann, 200),
            (ann, 200),
        ):
            sock.sendall(ask(ride, fields))
            assert code_of(answer_of(sock))[0] == status
    keys.assert_hidden(ride)
    assert principals(keys, 6) == ["ann", "anonymous", "anonymous", "anonymous", "ann", "ann"]


# --- keys that open nothing -------------------------------------------------------------------------------------------


def forged(key: str) -> str:
    return key[:10] + ("a" if key[10] != "a" else "b") + key[11:]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ("authorization: Bearer {stranger}\r\n", b"none that this sidecar knows"),
        ("authorization: Bearer {forged}\r\n", b"none that this sidecar knows"),
        ("authorization: Bearer ork_\r\n", b"none that this sidecar knows"),
        ("authorization: Bearer ork_x\r\n", b"none that this sidecar knows"),
        ("authorization: Bearer {old}\r\n", b"expired on 2020-01-01"),
        ("authorization: Bearer {bound}\r\n", b"this user may not be"),
        ("authorization: Bearer {ann}\r\nx-api-key: {ben}\r\n", b"two virtual keys"),
        ("authorization: Bearer {ann}\r\nauthorization: Bearer {ben}\r\n", b"two virtual keys"),
        ("authorization: Bearer {placeholder}\r\nx-api-key: {stranger}\r\n", b"none that this sidecar knows"),
    ],
)
def test_a_key_that_opens_nothing_is_a_401_with_a_sentence(
    start: Start, keys: Keys, fields: str, sentence: bytes
) -> None:
    ride = start(**keys.sections())
    words = {"placeholder": ride.placeholder, "forged": forged(keys.of["ann"]), **keys.of}
    answer = say(ride, ask(ride, fields.format(**words)))
    assert code_of(answer) == (401, "virtual_key_refused")
    assert sentence in answer
    assert b"x-should-retry: false" in answer
    assert ride.wire == b""
    assert not [key for key in keys.of.values() if key.encode() in answer]


def test_a_revoked_key_opens_nothing_at_the_next_request_of_its_connection(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    request = ask(ride, f"authorization: Bearer {keys.of['ann']}\r\n")
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        for _ in range(3):
            sock.sendall(request)
            assert answer_of(sock).startswith(b"HTTP/1.1 200 ")

        async def revoke() -> None:
            shared = ride.sidecar.snapshot._shared
            shared.revocations.revoke(keys.hash("ann").removeprefix(HASH_PREFIX))

        ride.background.run(revoke())
        sock.sendall(request)
        answer = answer_of(sock)
    assert code_of(answer) == (401, "virtual_key_refused")
    assert b"revoked" in answer
    assert len(ride.mock.journal) == 3


def test_a_line_in_the_file_of_revocations_and_a_reload_do_the_same(start: Start, keys: Keys) -> None:
    revoked = keys.folder / "revoked"
    revoked.write_text("")
    revoked.chmod(0o600)
    sections = keys.sections()
    sections["virtual_keys"]["revoked_file"] = str(revoked)
    ride = start(**sections)
    ann, ben = (ask(ride, f"authorization: Bearer {keys.of[name]}\r\n") for name in ("ann", "ben"))
    with tunnelled(ride, f"proxy-authorization: {keys.basic('ben')}\r\n") as tls:
        within = post("api.openai.com", ride.placeholder)
        tls.sendall(within)
        assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
        revoked.write_text(keys.hash("ann") + "\n")
        until(lambda: code_of(say(ride, ann))[0] == 401)
        assert say(ride, ben).startswith(b"HTTP/1.1 200 ")
        text = ride.config_path.read_text()

        async def reload() -> None:
            ride.config_path.write_text(
                text.replace("virtual_keys:", f"virtual_keys:\n  revoked: ['{keys.hash('ben')}']")
            )
            ride.sidecar.reload(load(ride.config_path, ride.sidecar.environ))

        ride.background.run(reload())
        assert code_of(say(ride, ben)) == (401, "virtual_key_refused")
        tls.sendall(within)  # the token of an open tunnel, too
        assert code_of(answer_of(tls)) == (401, "virtual_key_refused")


def test_pipelined_requests_are_judged_each_by_its_own_key(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    order = ["ann", "ben", "stranger", "ann", "ann", "old", "ben"]
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(b"".join(ask(ride, f"authorization: Bearer {keys.of[name]}\r\n") for name in order))
        received = b""
        while received.count(b"HTTP/1.1 ") < len(order):
            received += sock.recv(65536)
    statuses = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [401 if name in ("stranger", "old") else 200 for name in order]
    keys.assert_hidden(ride)
    expected = [name if name not in ("stranger", "old") else "anonymous" for name in order]
    assert principals(keys, len(order)) == expected


# --- the proxy URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "user"), [("ann", ""), ("ann", "ann"), ("ann", "a-team"), ("ben", "ben")])
def test_the_token_of_the_proxy_url_names_the_caller_of_a_tunnel(
    start: Start, keys: Keys, name: str, user: str
) -> None:
    ride = start(**keys.sections())
    with tunnelled(ride, f"proxy-authorization: {keys.basic(name, user)}\r\n") as tls:
        for _ in range(2):
            tls.sendall(post("api.openai.com", ride.placeholder))
            assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    keys.assert_hidden(ride)
    assert principals(keys, 2) == [name, name]


def test_a_key_inside_has_to_agree_with_the_tunnels_token(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    with tunnelled(ride, f"proxy-authorization: {keys.basic('ann')}\r\n") as tls:
        tls.sendall(post("api.openai.com", keys.of["ann"]))
        assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
        tls.sendall(post("api.openai.com", keys.of["ben"]))
        assert code_of(answer_of(tls)) == (401, "virtual_key_refused")
    assert len(ride.mock.journal) == 1
    keys.assert_hidden(ride)


def test_a_token_inside_a_tunnel_claims_nothing_and_stays_here(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    for name in ("ben", "stranger"):
        with tunnelled(ride, f"proxy-authorization: {keys.basic('ann')}\r\n") as tls:
            field = f"proxy-authorization: {keys.basic(name)}\r\n"
            tls.sendall(post("api.openai.com", ride.placeholder, more=field))
            assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    assert not [entry for entry in ride.mock.journal if entry.header("proxy-authorization")]
    keys.assert_hidden(ride)
    assert principals(keys, 2) == ["ann", "ann"]


def test_absolute_form_is_judged_request_by_request(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())

    def absolute(name: str | None) -> bytes:
        field = f"proxy-authorization: {keys.basic(name)}\r\n" if name else ""
        url = "http://api.openai.com/v1/chat/completions"
        return ask(ride, f"authorization: Bearer {ride.placeholder}\r\n{field}", url, "api.openai.com")

    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        for name, status in (("ann", 200), ("ann", 200), ("ben", 200), (None, 200), ("stranger", 407), ("ann", 200)):
            sock.sendall(absolute(name))
            answer = answer_of(sock)
            assert code_of(answer)[0] == status
            assert (b"proxy-authenticate: Basic" in answer) == (status == 407)
    assert not [entry for entry in ride.mock.journal if entry.header("proxy-authorization")]
    keys.assert_hidden(ride)
    assert principals(keys, 6) == ["ann", "ann", "ben", "anonymous", "anonymous", "ann"]


@pytest.mark.parametrize("value", ["Basic !!!", "Bearer x", "{stranger}", "{old}", "{bound}", "{wrong_user}"])
@pytest.mark.parametrize("target", ["api.openai.com:443", "127.0.0.1:{mock}"])
def test_a_wrong_token_is_407_before_anything_is_dialled(start: Start, keys: Keys, value: str, target: str) -> None:
    ride = start(**keys.sections())
    words = {name: keys.basic(name) for name in NAMES} | {"wrong_user": keys.basic("ann", "ben")}
    target = target.format(mock=ride.mock.https_port)
    answer = say(
        ride, f"CONNECT {target} HTTP/1.1\r\nhost: x\r\nproxy-authorization: {value.format(**words)}\r\n\r\n".encode()
    )
    assert code_of(answer) == (407, "proxy_token_refused")
    assert b'proxy-authenticate: Basic realm="outrider"' in answer
    assert ride.mock.connections == 0


def test_two_tokens_are_one_too_many(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    fields = "".join(f"proxy-authorization: {keys.basic(name)}\r\n" for name in ("ann", "ben"))
    assert code_of(say(ride, f"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\n{fields}\r\n".encode()))[0] == 400
    own = f"authorization: Bearer {ride.placeholder}\r\n"
    assert code_of(say(ride, ask(ride, own + fields)))[0] == 400
    assert ride.wire == b""


def test_a_token_is_none_of_our_business_where_config_says_so(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections(proxy_token="ignore"))
    with tunnelled(ride, "proxy-authorization: Basic bm9uZTpvdXJz\r\n") as tls:
        tls.sendall(post("api.openai.com", ride.placeholder))
        assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    assert principals(keys, 1) == ["anonymous"]


def test_a_token_is_asked_for_where_config_needs_one(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections(proxy_token="require"))
    assert code_of(say(ride, b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\n\r\n")) == (407, "proxy_token_refused")
    own = f"authorization: Bearer {ride.placeholder}\r\n"
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(ask(ride, own))  # base_url has no proxy URL
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
        sock.sendall(ask(ride, own, "http://api.openai.com/v1/chat/completions", "api.openai.com"))
        assert code_of(answer_of(sock)) == (407, "proxy_token_refused")
    assert len(ride.mock.journal) == 1


# --- nobody unnamed ---------------------------------------------------------------------------------------------------


def test_where_anonymous_is_denied_no_way_in_is_open_without_a_claim(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections(anonymous="deny"))
    own = f"authorization: Bearer {ride.placeholder}\r\n"
    assert code_of(say(ride, ask(ride, own))) == (401, "principal_required")
    assert code_of(say(ride, ask(ride, "authorization: Bearer sk-x\r\n", "/groq/openai/v1/models"))) == (
        401,
        "principal_required",
    )
    absolute = ask(ride, "", f"http://127.0.0.1:{ride.mock.http_port}/v1/models", "x")
    assert code_of(say(ride, absolute)) == (401, "principal_required")
    tunnel = f"CONNECT 127.0.0.1:{ride.mock.https_port} HTTP/1.1\r\nhost: x\r\n"
    assert code_of(say(ride, f"{tunnel}\r\n".encode())) == (407, "proxy_token_refused")
    with tunnelled(ride) as tls:
        tls.sendall(post("api.openai.com", ride.placeholder))
        assert code_of(answer_of(tls)) == (401, "principal_required")
        assert ride.wire == b""
        tls.sendall(post("api.openai.com", keys.of["ann"]))
        assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    assert say(ride, f"{tunnel}proxy-authorization: {keys.basic('ann')}\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")


# --- the user of a connection -----------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="Needs root to be another user in a child process.")


@needs_root
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_user_of_a_loopback_connection_is_the_principal(start: Start, keys: Keys, family: int) -> None:
    who = [{"id": "me", "from": {"users": [os.geteuid()]}}, {"id": "other", "from": {"users": [OTHER_UID]}}]
    listen = {"proxy": "127.0.0.1:0"} if family == socket.AF_INET else {"proxy": "[::1]:0"}
    ride = start(**keys.sections(listen=listen, principals=who, anonymous="deny"))
    address = ride.sidecar.proxy_addresses[0]
    host = f"127.0.0.1:{ride.port}" if family == socket.AF_INET else f"[::1]:{ride.port}"
    request = ask(ride, f"authorization: Bearer {ride.placeholder}\r\n", host=host)
    assert say(ride, request).startswith(b"HTTP/1.1 200 ")
    assert as_user(OTHER_UID, address, request, family).startswith(b"HTTP/1.1 200 ")
    assert code_of(as_user(OTHER_UID + 1, address, request, family)) == (401, "principal_required")
    assert principals(keys, 3) == ["me", "other", "anonymous"]


@needs_root
def test_the_user_bounds_whose_key_may_be_shown(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections())
    address = ride.sidecar.proxy_addresses[0]
    request = ask(ride, f"x-api-key: {keys.of['bound']}\r\n")
    assert as_user(OTHER_UID, address, request).startswith(b"HTTP/1.1 200 ")
    assert code_of(as_user(OTHER_UID + 1, address, request)) == (401, "virtual_key_refused")
    assert code_of(say(ride, request)) == (401, "virtual_key_refused")
    connect = (
        f"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\nproxy-authorization: {keys.basic('bound')}\r\n\r\n".encode()
    )
    assert as_user(OTHER_UID, address, connect).startswith(b"HTTP/1.1 200 ")
    assert code_of(as_user(OTHER_UID + 1, address, connect)) == (407, "proxy_token_refused")
    assert ride.events()["uid_refused"] == 3
    assert len(ride.mock.journal) == 1


@needs_root
def test_a_unix_sockets_peer_has_a_user_and_a_group(start: Start, keys: Keys, tmp_path: Path) -> None:
    path = tmp_path.parent.parent / f"o{os.getpid()}.sock"  # that another user may reach
    who = [
        {"id": "me", "from": {"users": ["root"]}},
        {"id": "crew", "from": {"groups": [OTHER_UID]}},
        {"id": "bound", "uids": [OTHER_UID], "from": {"keys": [{"hash": keys.hash("bound")}]}},
    ]
    listen = {"proxy": ["127.0.0.1:0", f"unix:{path}"], "unix_mode": "0666"}
    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            path = Path(f"/tmp/outrider-test-{os.getpid()}.sock")
            listen["proxy"] = ["127.0.0.1:0", f"unix:{path}"]
            break
    ride = start(**keys.sections(listen=listen, principals=who, anonymous="deny"))
    request = ask(ride, f"authorization: Bearer {ride.placeholder}\r\n", host="localhost")
    for uid, status in ((0, 200), (OTHER_UID, 200), (OTHER_UID + 1, 401)):
        assert code_of(as_user(uid, str(path), request, socket.AF_UNIX))[0] == status
    bound = ask(ride, f"authorization: Bearer {keys.of['bound']}\r\n", host="localhost")
    assert code_of(as_user(OTHER_UID, str(path), bound, socket.AF_UNIX))[0] == 200
    assert code_of(as_user(0, str(path), bound, socket.AF_UNIX)) == (401, "virtual_key_refused")
    assert principals(keys, 5) == ["me", "crew", "anonymous", "bound", "anonymous"]


def test_a_unix_socket_carries_tunnels_and_interception(start: Start, keys: Keys, tmp_path: Path) -> None:
    ride = start(**keys.sections(listen={"proxy": ["127.0.0.1:0", f"unix:{tmp_path / 's'}"]}))

    def opened(target: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(90)
        sock.connect(str(tmp_path / "s"))
        fields = f"host: x\r\nproxy-authorization: {keys.basic('ann')}\r\n"
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\n{fields}\r\n".encode())
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
        return sock

    context = ssl.create_default_context(cadata=ride.sidecar.ca.certificate_pem.decode())
    with opened("api.openai.com:443") as raw, context.wrap_socket(raw, server_hostname="api.openai.com") as tls:
        for _ in range(2):
            tls.sendall(post("api.openai.com", ride.placeholder))
            assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    context = ssl.create_default_context(cafile=str(ride.mock.ca_file))
    with (
        opened(f"127.0.0.1:{ride.mock.https_port}") as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(post("127.0.0.1", REAL["openai"]))
        assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    assert len(ride.mock.journal) == 3
    keys.assert_hidden(ride)
    assert principals(keys, 2) == ["ann", "ann"]


def test_connections_from_before_a_reload_are_asked_about(start: Start, keys: Keys) -> None:
    ride = start(**keys.sections(principals=[]))
    request = ask(ride, f"authorization: Bearer {ride.placeholder}\r\n")
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(request)
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
        who = f"principals: [{{id: me, from: {{users: [{os.geteuid()}]}}}}]"

        async def reload() -> None:
            ride.config_path.write_text(ride.config_path.read_text().replace("principals: []", who))
            ride.sidecar.reload(load(ride.config_path, ride.sidecar.environ))

        ride.background.run(reload())
        sock.sendall(request)
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
    assert principals(keys, 2) == ["anonymous", "me"]


def test_without_principals_the_kernel_is_not_asked(ride: Ride) -> None:
    say(ride, ask(ride, f"authorization: Bearer {ride.placeholder}\r\n"))
    assert ride.sidecar._diag._socket is None
    assert not [event for event in ride.events() if event.startswith("uid_")]


def test_the_pod_is_who_calls_where_nothing_stronger_does(start: Start, keys: Keys) -> None:
    info = keys.folder / "podinfo"
    info.mkdir()
    (info / "namespace").write_text("shop")
    (info / "labels").write_text('app="checkout"\n')
    who = [*keys.principals(), {"id": "pod", "from": {"pod": {"namespace": "shop", "labels": {"app": "checkout"}}}}]
    ride = start(**keys.sections(principals=who, pod_info=str(info), anonymous="deny"))
    for name in (ride.placeholder, keys.of["ann"]):
        assert say(ride, ask(ride, f"authorization: Bearer {name}\r\n")).startswith(b"HTTP/1.1 200 ")
    assert principals(keys, 2) == ["pod", "ann"]


# --- nothing leaks ----------------------------------------------------------------------------------------------------


def test_no_key_and_no_token_reaches_a_provider_or_a_log(
    keys: Keys, certificates: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sections = keys.sections()
    sections["telemetry"]["log_level"] = "debug"
    with riding(keys.folder, certificates, sections) as ride:
        for name in (*NAMES, "forged"):
            key = keys.of.get(name) or forged(keys.of["ann"])
            token = "Basic " + base64.b64encode(f"ann:{key}".encode()).decode()
            for path in (
                "/openai/v1/chat/completions",
                "/groq/openai/v1/models",
                f"/openai/v1/models?k={key}",
                f"/{key}",
                f"/openai/v1/files/{key}/content",
            ):
                for fields in (
                    f"authorization: Bearer {key}\r\n",
                    f"x-b: {key}\r\n",
                    f"proxy-authorization: {token}\r\n",
                ):
                    say(ride, ask(ride, fields, path))
            say(
                ride, f"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\nproxy-authorization: {token}\r\n\r\n".encode()
            )
            say(ride, f"CONNECT {key}:443 HTTP/1.1\r\nhost: x\r\nproxy-authorization: {token}\r\n\r\n".encode())
        keys.assert_hidden(ride)
        metrics = ride.sidecar.metrics.exposition()
    said = "".join(capfd.readouterr()) + (keys.folder / "log").read_text() + metrics.decode()
    assert said.count('"event":"exchange"') > 40
    for key in keys.of.values():
        assert key not in said
        assert base64.b64encode(f"ann:{key}".encode()).decode() not in said
