"""Our SigV4 signer against AWS's own vectors and against botocore's signer."""

import gzip
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from outrider.secrets.secret import Secret
from outrider.secrets.sigv4 import EMPTY_SHA256, Signer, canonical_request, presented_access_key, string_to_sign
from outrider.secrets.sources import AwsCredentials

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
STATIC = AwsCredentials("AKIDEXAMPLE0000000AB", Secret(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
WITH_TOKEN = AwsCredentials("AKIDEXAMPLE0000000AB", Secret(b"another/secret"), Secret(b"a+session/token=="))
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
CHAT = b"/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"


def read_rows(folder: Path) -> list[dict]:
    with gzip.open(folder / "sigv4.jsonl.gz", "rt") as rows:
        return [json.loads(row) for row in rows]


def read_request(text: str) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """(method, target, headers with folded lines joined, body) of a vector's request."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    method, _, rest = first.partition(" ")
    target = rest.rpartition(" HTTP/")[0]
    headers: list[tuple[bytes, bytes]] = []
    for line in filter(None, lines):
        if line[0] in " \t":
            headers[-1] = (headers[-1][0], headers[-1][1] + b" " + line.encode())
        else:
            name, _, value = line.partition(":")
            headers.append((name.encode(), value.encode()))
    return method.encode(), target.encode(), headers, body.encode()


def take(headers: list[tuple[bytes, bytes]], *names: bytes) -> list[bytes]:
    """Remove headers; the values that were removed."""
    found = [value.strip() for name, value in headers if name.lower() in names]
    headers[:] = [pair for pair in headers if pair[0].lower() not in names]
    return found


def case_of(row: dict) -> SimpleNamespace:
    """One form for the two families: the credentials, scope, time and switches of a row."""
    if context := row.get("context"):
        keys = context["credentials"]
        return SimpleNamespace(
            credentials=AwsCredentials(
                keys["access_key_id"],
                Secret(keys["secret_access_key"].encode()),
                token_of(row),
            ),
            at=datetime.fromisoformat(context["timestamp"]),
            sha256_header=context["sign_body"],
            normalize=context["normalize"],
        )
    return SimpleNamespace(
        credentials=AwsCredentials("AKIDEXAMPLE", Secret(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), token_of(row)),
        at=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
        sha256_header=False,
        normalize=True,
    )


def token_of(row: dict) -> Secret | None:
    """The session token where it is part of what is signed (some rows add it afterwards, some keep it out)."""
    found = re.search(r"^x-amz-security-token:(.*)$", row["creq"], re.MULTILINE)
    return Secret(found[1].encode()) if found else None


def test_every_aws_vector_gives_its_canonical_request_string_to_sign_and_signature(vectors: Path) -> None:
    rows = read_rows(vectors)
    assert len(rows) >= 72
    for row in rows:
        case = case_of(row)
        method, target, headers, body = read_request(row["request"])
        digest = hashlib.sha256(body).hexdigest()
        host = take(headers, b"host")[0]
        take(headers, b"x-amz-date", b"x-amz-security-token")
        signed = [(b"host", host), *headers, (b"x-amz-date", b"20150830T123600Z")]
        if case.sha256_header:
            signed.append((b"x-amz-content-sha256", digest.encode()))
        if case.credentials.token:
            signed.append((b"x-amz-security-token", case.credentials.token.expose()))
        canonical, _ = canonical_request(method, target, signed, digest, normalize=case.normalize)
        assert canonical.decode() == row["creq"], row["id"]
        to_sign = string_to_sign("20150830T123600Z", "20150830/us-east-1/service/aws4_request", canonical)
        assert to_sign.decode() == row["sts"], row["id"]
        lines = Signer("us-east-1", "service").sign(
            method, host, target, headers, digest,
            credentials=case.credentials, at=case.at,
            sha256_header=case.sha256_header, normalize=case.normalize,
        ).decode()  # fmt: skip
        if "signature" in row:
            assert lines.rstrip().endswith(f"Signature={row['signature']}"), row["id"]
        else:
            assert f"authorization: {row['authz']}\r\n" in lines, row["id"]


def by_botocore(method: str, target: str, headers: dict[str, str], body: bytes, credentials: AwsCredentials) -> dict:
    """What botocore adds to the same request."""
    token = credentials.token.expose().decode() if credentials.token else None
    keys = Credentials(credentials.access_key, credentials.secret.expose().decode(), token)
    request = AWSRequest(method, f"https://{HOST}{target}", headers=dict(headers), data=body)
    stamp = AT.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    signer = SigV4Auth(keys, "bedrock", "us-east-1")
    request.headers["X-Amz-Date"] = stamp
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = signer.canonical_request(request)
    return {"canonical": canonical, "signature": signer.signature(signer.string_to_sign(request, canonical), request)}


SEGMENTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12).map(
    lambda s: quote(s, safe="~")
)
PATHS = st.lists(SEGMENTS | st.sampled_from([".", "..", "", "a%3A0", "arn%3Aaws%2Fx"]), max_size=6).map(
    lambda parts: "/" + "/".join(parts)
)
PAIRS = st.tuples(SEGMENTS.filter(bool), SEGMENTS).map("=".join)
QUERIES = st.lists(PAIRS, max_size=4).map("&".join)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "accept", "x-amzn-bedrock-trace", "x-extra"]), VALUES, max_size=4
)


@given(PATHS, QUERIES, HEADERS, st.binary(max_size=64), st.sampled_from([STATIC, WITH_TOKEN]))
def test_the_signature_is_botocores_for_any_path_query_headers_and_body(
    path, query, headers, body, credentials
) -> None:
    target = path + (f"?{query}" if query else "")
    theirs = by_botocore("POST", target, headers, body, credentials)
    ours = Signer("us-east-1", "bedrock").sign(
        b"POST", HOST.encode(), target.encode(), [(k.encode(), v.encode()) for k, v in headers.items()],
        hashlib.sha256(body).hexdigest(), credentials=credentials, at=AT,
    )  # fmt: skip
    assert ours.decode().endswith(f"Signature={theirs['signature']}\r\n"), theirs["canonical"]


def test_a_percent_encoded_model_id_is_encoded_once_more() -> None:
    canonical, _ = canonical_request(b"POST", CHAT, [(b"host", b"h")], EMPTY_SHA256)
    assert canonical.split(b"\n")[1] == b"/model/anthropic.claude-3-haiku-20240307-v1%253A0/converse"


def test_the_lines_are_ready_for_the_head_and_hold_no_secret() -> None:
    kind = [(b"content-type", b"application/json")]
    signer = Signer("eu-west-1", "bedrock")
    lines = signer.sign(b"POST", b"h", CHAT, kind, EMPTY_SHA256, credentials=WITH_TOKEN, at=AT)
    names = [line.partition(b":")[0] for line in lines.split(b"\r\n")]
    assert names == [b"x-amz-date", b"x-amz-security-token", b"authorization", b""]
    assert b"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in lines
    assert WITH_TOKEN.secret.expose() not in lines


def test_a_kept_signer_follows_a_new_day_and_a_rotated_secret() -> None:
    kept = Signer("us-east-1", "bedrock")
    rotated = AwsCredentials(STATIC.access_key, Secret(b"rotated"))
    for credentials, at in ((STATIC, AT), (STATIC, AT + timedelta(days=1)), (rotated, AT), (STATIC, AT)):
        arguments = (b"GET", b"h", b"/", [], EMPTY_SHA256)
        assert kept.sign(*arguments, credentials=credentials, at=at) == Signer("us-east-1", "bedrock").sign(
            *arguments, credentials=credentials, at=at
        )


def test_the_time_is_utc_whatever_zone_it_came_in() -> None:
    arguments = (b"GET", b"h", b"/", [], EMPTY_SHA256)
    elsewhere = AT.astimezone(timezone(timedelta(hours=9)))
    signer = Signer("us-east-1", "bedrock")
    assert signer.sign(*arguments, credentials=STATIC, at=AT) == signer.sign(
        *arguments, credentials=STATIC, at=elsewhere
    )


def test_a_clients_access_key_is_read_from_its_authorization() -> None:
    lines = Signer("r1", "bedrock").sign(b"GET", b"h", b"/", [], EMPTY_SHA256, credentials=STATIC, at=AT)
    value = lines.partition(b"authorization: ")[2].removesuffix(b"\r\n")
    assert presented_access_key(value) == STATIC.access_key.encode()
    assert presented_access_key(b"  " + value + b" ") == STATIC.access_key.encode()


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Bearer AKIDEXAMPLE0000000AB", b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA256 Credential=",
        b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE0000000AB/2026/r/s/aws4_request, Signature=0",
        b"AWS4-HMAC-SHA256 XCredential=AKIDEXAMPLE0000000AB/20260304/r/s/aws4_request, Signature=0",
        b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE0000000AB/20260304/r/s/aws4_requests",
    ],
)  # fmt: skip
def test_what_is_no_sigv4_authorization_names_no_access_key(value: bytes) -> None:
    assert presented_access_key(value) is None


@given(st.binary(max_size=200))
def test_garbage_names_an_access_key_or_none(value: bytes) -> None:
    assert presented_access_key(value) is None
