"""Google's tokens, from a token endpoint of our own that speaks real TLS and checks the assertion's signature."""

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from outrider.config.schema import Credential
from outrider.errors import CredentialUnavailableError
from outrider.mock.tls import ensure, server_context
from outrider.secrets.google import SCOPE, GoogleSource
from outrider.secrets.sources import source_for

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class TokenEndpoint(HTTPServer):
    """Answers every good assertion with the next token; keeps the claims that it saw."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.claims: list[dict[str, Any]] = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        head, claims, signature = (part.encode() for part in form["assertion"][0].split("."))
        KEY.public_key().verify(_decoded(signature), head + b"." + claims, padding.PKCS1v15(), hashes.SHA256())
        self.server.claims.append(json.loads(_decoded(claims)))
        token = {"access_token": f"ya29.token-{len(self.server.claims)}", "expires_in": 3600, "token_type": "Bearer"}
        body = json.dumps(token if self.server.status == 200 else {"error": "invalid_grant"}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def _decoded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


@contextlib.contextmanager
def endpoint(folder: Path) -> Iterator[tuple[TokenEndpoint, ssl.SSLContext]]:
    ensure(folder, ["localhost"], datetime.now(UTC))
    server = TokenEndpoint(server_context(folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="token endpoint")
    thread.start()
    try:
        yield server, ssl.create_default_context(cafile=str(folder / "ca.pem"))
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def account(folder: Path, port: int) -> Path:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "p",
                "private_key_id": "k1",
                "private_key": pem,
                "client_email": "outrider@p.iam.gserviceaccount.com",
                "token_uri": f"https://localhost:{port}/token",
            }
        )
    )
    return path


def test_a_service_account_gets_a_token_renews_it_early_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with endpoint(tmp_path) as (server, context):
        source = GoogleSource(str(account(tmp_path, server.server_port)), context=lambda: context, now=lambda: now)
        with pytest.raises(CredentialUnavailableError, match="has not been read yet"):
            source.current()
        assert source.refresh() is None
        assert source.current().expose() == b"ya29.token-1"
        assert server.claims[0]["scope"] == SCOPE
        assert server.claims[0]["iss"] == "outrider@p.iam.gserviceaccount.com"
        now += timedelta(minutes=49)
        assert source.refresh() is None
        assert len(server.claims) == 1, "it was good for eleven minutes more"
        now += timedelta(minutes=2)
        assert source.refresh() is None
        assert (source.current().expose(), source.generation) == (b"ya29.token-2", 2)
        now += timedelta(minutes=5)  # the library counts by the real clock
        server.status = 400
        warning = source.refresh()
        assert warning is not None
        assert "gave no token (RefreshError)" in warning
        assert source.refresh() is None, "the same trouble is said once"
        assert source.current().expose() == b"ya29.token-2", "the last good one is used to its end"
        now += timedelta(minutes=10)
        with pytest.raises(CredentialUnavailableError, match="has expired"):
            source.current()


def test_a_file_that_is_no_credential_is_said_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"type": "service_account", "private_key": "PLANTED"}')
    source = source_for(Credential(google=str(path)), {})
    warning = source.refresh()
    assert warning is not None
    assert str(path) in warning
    assert "PLANTED" not in warning
    assert source.describe() == f"google {path}"
    with pytest.raises(CredentialUnavailableError, match="gave no token"):
        source.current()


def test_the_token_endpoints_certificate_is_verified(tmp_path: Path) -> None:
    with endpoint(tmp_path) as (server, _):
        source = GoogleSource(str(account(tmp_path, server.server_port)))
        assert "gave no token" in (source.refresh() or "")
        assert server.claims == []
