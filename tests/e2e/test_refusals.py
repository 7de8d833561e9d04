"""What is refused, and what a provider's failure becomes: each SDK raises its normal exception, and nothing leaks out.

Every refusal here is made by the sidecar, so the provider's journal stays empty unless the test says otherwise.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from e2e.conftest import Start
from e2e.rig import REAL, Ride, fetch, until

ASK: Any = [{"role": "user", "content": "hello big world"}]
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'


# --- one call of each dialect, by base_url ----------------------------------------------------------------------------


def chat(ride: Ride, key: str) -> Any:
    with openai.OpenAI(base_url=ride.base("openai") + "/v1", api_key=key, max_retries=0) as client:
        return client.chat.completions.create(model="gpt-4o", messages=ASK)


def messages(ride: Ride, key: str) -> Any:
    with anthropic.Anthropic(base_url=ride.base("anthropic"), api_key=key, max_retries=0) as client:
        return client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=ASK)


def generate(ride: Ride, key: str) -> Any:
    with genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=ride.base("gemini"))) as client:
        return client.models.generate_content(model="gemini-2.5-flash", contents="hello")


def converse(ride: Ride, key: str) -> Any:
    """A signature by the placeholder pair where `key` is the placeholder, and by another pair else."""
    ours = ride.sidecar.placeholder
    pair = (ours.aws_access_key_id, ours.aws_secret_access_key) if key == ours.value else ("AKIA" + "X" * 16, "s" * 40)
    client = boto3.session.Session().client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=ride.base("bedrock"), aws_access_key_id=pair[0],
        aws_secret_access_key=pair[1], config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    try:
        asked = [{"role": "user", "content": [{"text": "hello"}]}]
        return client.converse(modelId="anthropic.claude-3-haiku-20240307-v1:0", messages=asked)
    finally:
        client.close()


CALLS: dict[str, Callable[[Ride, str], Any]] = {
    "openai": chat, "anthropic": messages, "gemini": generate, "bedrock": converse,
}  # fmt: skip
DIALECTS = pytest.mark.parametrize("dialect", CALLS)


def raised(dialect: str, ride: Ride, key: str) -> tuple[str, int, dict[str, str], str]:
    """(what the SDK calls it, status, the answer's fields, the sentence)."""
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, genai_errors.APIError, ClientError)) as caught:
        CALLS[dialect](ride, key)
    error: Any = caught.value
    if dialect == "bedrock":
        answer = error.response["ResponseMetadata"]
        return error.response["Error"]["Code"], answer["HTTPStatusCode"], answer["HTTPHeaders"], str(error)
    if dialect == "gemini":
        return error.status, error.code, dict(error.response.headers), str(error)
    return type(error).__name__, error.status_code, dict(error.response.headers), str(error)


@DIALECTS
def test_a_call_without_the_placeholder_is_an_authentication_error(ride: Ride, dialect: str) -> None:
    name, status, headers, sentence = raised(dialect, ride, "sk-some-other-key-0123456789")
    names = {"gemini": "UNAUTHENTICATED", "bedrock": "UnrecognizedClientException"}
    assert (name, status) == (names.get(dialect, "AuthenticationError"), 401)
    assert headers["x-outrider-error"] == "placeholder_required"
    assert headers["x-should-retry"] == "false"
    assert "placeholder" in sentence
    assert "sk-some-other-key" not in sentence
    assert ride.mock.connections_total == 0
    assert [row[3:] for row in ride.requests()] == [("401", "placeholder_required")]


@DIALECTS
def test_a_limit_is_a_rate_limit_error_that_says_when_to_come_back(start: Start, dialect: str) -> None:
    ride = start(limits=[{"name": "team-rpm", "requests": "2/h"}])
    for _ in range(2):
        CALLS[dialect](ride, ride.placeholder)
    name, status, headers, sentence = raised(dialect, ride, ride.placeholder)
    names = {"gemini": "RESOURCE_EXHAUSTED", "bedrock": "ThrottlingException"}
    assert (name, status) == (names.get(dialect, "RateLimitError"), 429)
    assert headers["x-outrider-error"] == "rate_limited"
    assert headers["x-outrider-decision"] == "team-rpm"
    assert 0 < int(headers["retry-after"]) <= 1800
    assert abs(int(headers["retry-after-ms"]) / 1000 - int(headers["retry-after"])) <= 1
    assert "team-rpm" in sentence
    assert len(ride.mock.journal) == 2
    assert {at["decision"]: n for at, n in ride.metric("outrider_limit_decisions_total")} == {
        "allow": 2,
        "reject": 1,
    }
    other = "anthropic" if dialect != "anthropic" else "openai"
    CALLS[other](ride, ride.placeholder)  # a bucket for each provider


def test_the_sdk_waits_as_long_as_a_limit_says_and_then_succeeds(start: Start) -> None:
    ride = start(limits=[{"name": "burst", "requests": "10/s", "burst": 1}])
    with openai.OpenAI(base_url=ride.base("openai") + "/v1", api_key=ride.placeholder, max_retries=2) as client:
        for _ in range(2):
            assert client.chat.completions.create(model="gpt-4o", messages=ASK).choices
    assert sorted(row[3] for row in ride.requests()) == ["200", "200", "429"]


def test_a_credential_that_is_not_there_is_named_and_no_call_leaves(start: Start) -> None:
    ride = start(providers={"openai": {"credential": {"env": "NOT_SET_ANYWHERE"}}})
    name, status, headers, sentence = raised("openai", ride, ride.placeholder)
    assert (name, status) == ("InternalServerError", 503)
    assert headers["x-outrider-error"] == "credential_unavailable"
    assert "NOT_SET_ANYWHERE" in sentence
    assert len(ride.mock.journal) == 0


# --- a provider in trouble --------------------------------------------------------------------------------------------


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A provider that does with each connection what `serve` does, and closes it. Yields its URL (plain HTTP)."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept, name="provider")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(120)
        listener.close()


def all_at(url: str) -> dict[str, Any]:
    return {name: {"connect_to": url} for name in REAL}


def check_failure(ride: Ride, dialect: str, status: int, code: str, words: str) -> None:
    name, seen, headers, sentence = raised(dialect, ride, ride.placeholder)
    names = {
        "gemini": {502: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"},
        "bedrock": {502: "InternalServerException", 504: "ServiceUnavailableException"},
        "anthropic": {502: "InternalServerError", 504: "GatewayTimeoutError"},
    }
    assert (name, seen) == (names.get(dialect, {}).get(status, "InternalServerError"), status)
    assert headers["x-outrider-error"] == code
    assert words in sentence
    assert not any(key in sentence for key in REAL.values())
    assert [row[3:] for row in ride.requests()] == [(str(status), code)]


@DIALECTS
def test_a_provider_that_refuses_the_connection_is_a_502(start: Start, dialect: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ride = start(providers=all_at(f"http://127.0.0.1:{port}"))
    check_failure(ride, dialect, 502, "upstream_unreachable", "connection refused")


@DIALECTS
def test_a_provider_that_vanishes_before_it_answers_is_a_502(start: Start, dialect: str) -> None:
    with server(lambda connection: connection.recv(1 << 16) and None) as url:
        ride = start(providers=all_at(url))
        check_failure(ride, dialect, 502, "upstream_broken", "closed the connection before it answered")


@DIALECTS
def test_a_provider_that_does_not_speak_http_is_a_502(start: Start, dialect: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"220 smtp.example ESMTP ready\r\n\r\n")

    with server(serve) as url:
        ride = start(providers=all_at(url))
        check_failure(ride, dialect, 502, "upstream_broken", "not valid HTTP/1.1")


@DIALECTS
def test_a_provider_that_stalls_is_a_504(start: Start, dialect: str) -> None:
    ride = start(timeouts={"connect_s": 0.5, "tls_s": 0.5, "first_byte_s": 0.5})
    ride.mock.next(stall="head")
    check_failure(ride, dialect, 504, "upstream_timeout", "did not answer")


@pytest.mark.parametrize(("kind", "reason"), [("expired", "expired"), ("wrong-name", "ostname mismatch")])
def test_a_providers_bad_certificate_is_a_502_and_no_key_leaves(
    start: Start, tmp_path: Any, kind: str, reason: str
) -> None:
    ride = start(mock={"tls_dir": tmp_path / "bad", "certificate": kind})
    check_failure(ride, "openai", 502, "upstream_unreachable", reason)
    assert ride.wire == b""


def test_a_provider_whose_ca_nobody_knows_is_a_502_and_no_key_leaves(start: Start) -> None:
    ride = start(providers={"openai": {"upstream_ca": None}})
    check_failure(ride, "openai", 502, "upstream_unreachable", "upstream_ca")
    assert ride.wire == b""


def test_a_provider_that_breaks_its_tls_is_a_502(start: Start) -> None:
    with server(lambda connection: connection.recv(1 << 16) and connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")) as url:
        ride = start(providers={"openai": {"connect_to": url.replace("http", "https")}})
        check_failure(ride, "openai", 502, "upstream_unreachable", "TLS handshake")


def test_a_providers_own_error_is_passed_on_as_it_is(ride: Ride) -> None:
    ride.mock.fail(429, headers={"retry-after": "7"})
    name, status, headers, sentence = raised("openai", ride, ride.placeholder)
    assert (name, status, headers["retry-after"]) == ("RateLimitError", 429, "7")
    assert "x-outrider-error" not in headers
    assert "Rate limit reached for requests" in sentence


@pytest.mark.parametrize("cut", ["close", "abort", "reset"])
def test_a_stream_cut_in_the_middle_is_an_error_and_its_tokens_are_counted_once(ride: Ride, cut: str) -> None:
    ride.mock.next(cut_after=3, cut=cut)
    got = []
    with openai.OpenAI(base_url=ride.base("openai") + "/v1", api_key=ride.placeholder, max_retries=0) as client:
        stream = client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="before its answer was complete"):  # noqa: PT012
            for chunk in stream:
                got.append(chunk.choices[0].delta.content)
    assert got == ["", "Echo:", " hello"]
    assert ride.events()["usage_estimated"] == 1
    assert all(count > 0 for count in ride.tokens().values())
    assert len(ride.requests()) == 1


def test_a_stream_that_falls_silent_is_ended(start: Start) -> None:
    ride = start(timeouts={"stream_idle_s": 0.2})
    ride.mock.next(stall="events", stall_after=2)
    with openai.OpenAI(base_url=ride.base("openai") + "/v1", api_key=ride.placeholder, max_retries=0) as client:
        stream = client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            list(stream)
    until(lambda: ride.mock.connections == 0)
    assert len(ride.requests()) == 1


# --- the door, on the wire --------------------------------------------------------------------------------------------


def say(ride: Ride, data: bytes) -> bytes:
    """What the sidecar answers to these bytes, read until it closes or the answer's body is whole."""
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(data)
        return answer_of(sock)


def answer_of(sock: Any) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        more = sock.recv(65536)
        if not more:
            return received
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length and (more := sock.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body


@contextmanager
def intercepted(ride: Ride, host: str = "api.openai.com") -> Iterator[ssl.SSLSocket]:
    """A TLS connection through CONNECT, as a client makes it that trusts our CA."""
    context = ssl.create_default_context(cadata=ride.sidecar.ca.certificate_pem.decode())
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as raw:
        raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n".encode())
        assert answer_of(raw).startswith(b"HTTP/1.1 200 ")
        with context.wrap_socket(raw, server_hostname=host) as tls:
            yield tls


def post(host: str, key: str, path: str = "/v1/chat/completions", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n{more}"
    return f"{head}content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY


def test_another_host_inside_an_intercepted_tunnel_is_421(ride: Ride) -> None:
    with intercepted(ride) as tls:
        tls.sendall(post("api.anthropic.com", ride.placeholder))
        answer = answer_of(tls)
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"x-outrider-error: misdirected" in answer
    assert len(ride.mock.journal) == 0


def test_plain_http_inside_a_connect_gets_the_same_treatment(ride: Ride) -> None:
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as sock:
        sock.sendall(b"CONNECT api.openai.com:80 HTTP/1.1\r\nhost: api.openai.com:80\r\n\r\n")
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
        sock.sendall(post("api.openai.com", "sk-not-the-placeholder"))
        assert answer_of(sock).startswith(b"HTTP/1.1 401 ")
        sock.sendall(post("api.openai.com", ride.placeholder))
        assert answer_of(sock).startswith(b"HTTP/1.1 200 ")
    assert [entry.header("authorization") for entry in ride.mock.journal] == [f"Bearer {REAL['openai']}"]


def test_a_key_is_not_sent_over_plain_http_to_an_address_that_config_does_not_name(start: Start) -> None:
    ride = start(providers={"openai": {"connect_to": None}})
    answer = say(ride, post("api.openai.com", ride.placeholder, "http://api.openai.com/v1/chat/completions"))
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 403 "))
    assert b"plain HTTP" in answer


@pytest.mark.parametrize(
    "field", ["origin: https://evil.example", "origin: null", "sec-fetch-site: cross-site", "sec-fetch-site: same-site"]
)
def test_a_web_page_may_not_call_even_with_the_placeholder(ride: Ride, field: str) -> None:
    answer = say(ride, post(f"127.0.0.1:{ride.port}", ride.placeholder, "/openai/v1/chat/completions", f"{field}\r\n"))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"x-outrider-error: denied" in answer
    assert len(ride.mock.journal) == 0


def test_a_name_that_was_rebound_to_loopback_is_421(ride: Ride) -> None:
    answer = say(ride, post(f"evil.example:{ride.port}", ride.placeholder, "/openai/v1/chat/completions"))
    assert answer.startswith(b"HTTP/1.1 421 ")


def test_the_placeholder_on_its_way_to_another_host_is_refused_and_counted(ride: Ride) -> None:
    """Plain HTTP to the mock's own address, which no provider claims."""
    host = f"127.0.0.1:{ride.mock.http_port}"
    answer = say(ride, post(host, ride.placeholder, f"http://{host}/v1/chat/completions"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert ride.events()["placeholder_refused"] == 1
    assert ride.wire == b""
    answer = say(ride, post("api.groq.com", ride.placeholder, "http://api.groq.com/openai/v1/chat/completions"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"providers.groq.credential" in answer


def test_a_host_that_nobody_claims_is_tunnelled_untouched(ride: Ride) -> None:
    """TLS from end to end: the certificate is the far end's own."""
    context = ssl.create_default_context(cafile=str(ride.mock.ca_file))
    with socket.create_connection(ride.sidecar.proxy_addresses[0], 10) as raw:
        raw.sendall(f"CONNECT 127.0.0.1:{ride.mock.https_port} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert answer_of(raw).startswith(b"HTTP/1.1 200 ")
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            tls.sendall(post("127.0.0.1", REAL["openai"]))
            assert answer_of(tls).startswith(b"HTTP/1.1 200 ")
    assert ride.entry.header("authorization") == f"Bearer {REAL['openai']}"
    assert ride.requests() == []


@pytest.mark.parametrize(
    ("egress", "target", "code"),
    [
        ({"default": "deny"}, "example.com:443", "denied"),
        ({"private": "deny"}, "127.0.0.1:9", "destination_denied"),
        ({"private": "deny"}, "[::ffff:10.0.0.1]:443", "destination_denied"),
        ({}, "169.254.169.254:80", "destination_denied"),
        ({}, "[fd00:ec2::254]:80", "destination_denied"),
    ],
)
def test_a_destination_that_is_not_allowed_is_refused_before_the_200(
    start: Start, egress: dict[str, str], target: str, code: str
) -> None:
    ride = start(egress=egress)
    answer = say(ride, f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert f"x-outrider-error: {code}".encode() in answer.lower()
    answer = say(ride, f"GET http://{target}/ HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_the_sidecar_does_not_call_itself(ride: Ride) -> None:
    for host, port in (*ride.sidecar.proxy_addresses, *ride.sidecar.admin_addresses):
        answer = say(ride, f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403 ")
        answer = say(ride, f"GET http://{host}:{port}/metrics HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/3.7\r\nhost: a\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"CONNECT api.openai.com HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"CONNECT user@api.openai.com:443 HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"CONNECT 0x7f.1:443 HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"GET https://api.openai.com/v1/models HTTP/1.1\r\nhost: api.openai.com\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\x05hello", b""),
    ],
)
def test_a_bad_head_is_refused_and_its_connection_alone_is_closed(ride: Ride, data: bytes, status: bytes) -> None:
    with intercepted(ride) as other:
        answer = say(ride, data)
        assert answer[9:12] == status or (not status and not answer.startswith(b"HTTP/1.1 2"))
        other.sendall(post("api.openai.com", ride.placeholder))
        assert answer_of(other).startswith(b"HTTP/1.1 200 ")
    assert len(ride.mock.journal) == 1


def test_the_admin_port_says_what_happened(ride: Ride) -> None:
    chat(ride, ride.placeholder)
    ride.settled()
    assert fetch(f"{ride.admin_url}/healthz").strip()
    assert fetch(f"{ride.admin_url}/readyz").strip()
    assert fetch(f"{ride.admin_url}/ca.pem") == ride.sidecar.ca.certificate_pem
    assert ride.metric("outrider_requests_total") == [
        ({"provider": "openai", "operation": "chat", "model": "gpt-4o", "status": "200", "decision": "allow"}, 1)
    ]
