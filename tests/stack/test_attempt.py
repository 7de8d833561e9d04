"""The head that goes out: what is stripped, what is added, and when the credential is not."""

from pathlib import Path
from typing import Any

import pytest

from outrider.errors import CredentialUnavailableError
from support.exchanges import call, exchange, origin, snapshot

KEY = "sk-real"
ENVIRON = {"K": KEY, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret+key"}
CREDENTIAL = {"credential": {"env": "K"}}
SLOTS = (
    b"authorization: Bearer app\r\nx-api-key: app\r\napi-key: app\r\nx-goog-api-key: app\r\n"
    b"Proxy-Authorization: Basic app\r\n"
)


def built(
    folder: Path,
    providers: dict[str, Any],
    request: bytes,
    *,
    body: bytes | None = b"",
    upgrade: bool = False,
    came: Any = None,
    stream: bool = False,
) -> tuple[bytes, bytes | None]:
    """(head, canary) of an attempt."""
    x = exchange(request, came, body=body)
    x.allow_upgrade = upgrade
    route = snapshot(folder, providers, environ=ENVIRON).router.find(x)
    one = call(route)
    one.stream = stream
    head, canary = route.attempt.build(x, one, body)
    assert head.endswith(b"\r\n\r\n")
    return head, canary


def post(path: bytes, more: bytes = b"", length: bytes = b"2") -> bytes:
    return (
        b"POST " + path + b" HTTP/1.1\r\nhost: 127.0.0.1:8484\r\ncontent-length: " + length + b"\r\n" + more + b"\r\n"
    )


def test_every_slot_is_stripped_before_the_credential_is_set(tmp_path: Path) -> None:
    head, canary = built(tmp_path, {"openai": CREDENTIAL}, post(b"/openai/v1/chat/completions", SLOTS), body=b"{}")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"app" not in head
    assert head.count(b"authorization: Bearer sk-real\r\n") == 1
    assert canary == b"sk-real"
    assert b"host: api.openai.com\r\n" in head
    assert b"content-length: 2\r\n" in head


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("anthropic", b"/v1/messages", b"x-api-key: sk-real\r\n"),
        ("gemini", b"/v1beta/models/g:generateContent?key=app&a=b", b"x-goog-api-key: sk-real\r\n"),
    ],
)
def test_each_provider_has_its_own_slot(tmp_path: Path, name: str, path: bytes, line: bytes) -> None:
    head, _ = built(tmp_path, {name: CREDENTIAL}, post(b"/" + name.encode() + path, SLOTS), body=b"{}")
    assert line in head
    assert b"app" not in head


def test_without_a_credential_the_apps_own_key_goes_on(tmp_path: Path) -> None:
    head, canary = built(
        tmp_path, {}, post(b"/openai/v1/chat/completions", b"authorization: Bearer app\r\n"), body=b"{}"
    )
    assert b"authorization: Bearer app\r\n" in head
    assert b"content-length: 2\r\n" in head
    assert canary is None


@pytest.mark.parametrize(
    "path", [b"/openai/v1/nobody-knows-this", b"/openai/v1/chat/../completions", b"/openai/v1//models"]
)
def test_an_operation_outside_the_table_never_gets_the_credential(tmp_path: Path, path: bytes) -> None:
    head, canary = built(tmp_path, {"openai": CREDENTIAL}, post(path, b"authorization: Bearer app\r\n"), body=b"{}")
    assert canary is None
    assert b"sk-real" not in head


def test_plain_http_never_gets_the_credential_unless_config_names_the_address(tmp_path: Path) -> None:
    request = b"POST http://api.openai.com/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"
    assert built(tmp_path, {"openai": CREDENTIAL}, request, body=b"{}")[1] is None
    named = {"openai": {**CREDENTIAL, "connect_to": "http://127.0.0.1:9000"}}
    assert built(tmp_path, named, request, body=b"{}")[1] == b"sk-real"


def test_a_host_that_only_a_pattern_names_never_gets_the_credential(tmp_path: Path) -> None:
    providers = {"local": {"kind": "openai", "hosts": ["llm.internal", "*.models.internal"], **CREDENTIAL}}
    for host, canary in ((b"llm.internal", b"sk-real"), (b"a.models.internal", None)):
        request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 2\r\n\r\n"
        came = origin("connect", host=host.decode(), port=443, tls=True)
        assert built(tmp_path, providers, request, body=b"{}", came=came)[1] == canary


def test_hop_by_hop_fields_and_what_tells_about_us_stay_here(tmp_path: Path) -> None:
    more = (
        b"Connection: keep-alive, x-private\r\nx-private: 1\r\nkeep-alive: 5\r\nte: trailers\r\nvia: 1.1 us\r\n"
        b"upgrade: h2c\r\nhttp2-settings: x\r\nx-forwarded-for: 10.0.0.1\r\n"
        b"forwarded: for=x\r\nx-outrider-x: 1\r\nx-kept: 1\r\n"
    )
    head, _ = built(tmp_path, {}, post(b"/openai/v1/chat/completions", more), body=b"{}")
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]}
    assert names == {b"host", b"x-kept", b"content-length"}


@pytest.mark.parametrize(
    ("asked", "stream", "sent"),
    [
        (b"gzip, deflate, br", False, b"accept-encoding: gzip\r\n"),
        (b"br", False, b"accept-encoding: identity\r\n"),
        (b"gzip", True, b"accept-encoding: identity\r\n"),
    ],
)
def test_only_encodings_that_can_be_read_are_asked_for(tmp_path: Path, asked: bytes, stream: bool, sent: bytes) -> None:
    more = b"accept-encoding: " + asked + b"\r\n"
    head, _ = built(tmp_path, {}, post(b"/openai/v1/chat/completions", more), body=b"{}", stream=stream)
    assert head.count(b"accept-encoding") == 1
    assert sent in head


def test_what_nobody_reads_keeps_its_encodings(tmp_path: Path) -> None:
    head, _ = built(tmp_path, {}, post(b"/openai/v1/nobody-knows-this", b"accept-encoding: br\r\n"), body=b"{}")
    assert b"accept-encoding: br\r\n" in head


def test_a_held_body_gets_its_length_and_no_expectation(tmp_path: Path) -> None:
    request = (
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n"
        b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
    )
    head, _ = built(tmp_path, {}, request, body=b"12345")
    assert b"content-length: 5\r\n" in head
    assert b"transfer-encoding" not in head
    assert b"expect" not in head
    head, _ = built(tmp_path, {}, request, body=None)
    assert b"transfer-encoding: chunked\r\n" in head
    assert b"expect: 100-continue\r\n" in head


def test_a_get_gets_no_length(tmp_path: Path) -> None:
    request = b"GET /openai/v1/models HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n\r\n"
    assert b"content-length" not in built(tmp_path, {}, request)[0]


def test_a_websocket_loses_the_key_in_its_subprotocols(tmp_path: Path) -> None:
    request = (
        b"GET /openai/v1/realtime?model=m HTTP/1.1\r\nhost: 127.0.0.1:8484\r\nconnection: Upgrade\r\n"
        b"upgrade: websocket\r\n"
        b"sec-websocket-protocol: realtime, openai-insecure-api-key.app, openai-beta.realtime-v1\r\n"
        b"sec-websocket-extensions: permessage-deflate\r\n\r\n"
    )
    head, canary = built(tmp_path, {"openai": CREDENTIAL}, request, upgrade=True)
    assert b"sec-websocket-protocol: realtime, openai-beta.realtime-v1\r\n" in head
    assert b"app" not in head
    assert b"connection: Upgrade\r\nupgrade: websocket\r\n" in head
    assert canary == b"sk-real"


def test_bedrock_is_signed_over_the_body_that_is_sent(tmp_path: Path) -> None:
    providers = {"bedrock": {"region": "us-east-1", "credential": {"env": "AWS_ACCESS_KEY_ID"}}}
    x = exchange(
        post(b"/bedrock/model/m/converse", b"authorization: AWS4-HMAC-SHA256 app\r\nx-amz-date: app\r\n"), body=b"{}"
    )
    route = snapshot(tmp_path, providers, environ=ENVIRON).router.find(x)
    assert route.attempt.needs_body
    assert route.wants_body
    one = call(route)
    head, canary = route.attempt.build(x, one, b"{}")
    assert b"app" not in head
    assert b"authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" in head
    assert b"secret+key" not in head
    assert canary == b"secret+key"
    with pytest.raises(CredentialUnavailableError, match="too large to be signed"):
        route.attempt.build(x, one, None)


def test_a_credential_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    x = exchange(post(b"/openai/v1/chat/completions"), body=b"{}")
    route = snapshot(tmp_path, {"openai": {"credential": {"env": "NOT_SET"}}}, environ={}).router.find(x)
    with pytest.raises(CredentialUnavailableError):
        route.attempt.build(x, call(route), b"{}")
