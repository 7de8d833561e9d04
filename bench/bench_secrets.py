"""What secrets cost per request: taken from their source, put on the wire, compared: python -m bench.bench_secrets"""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from bench.cases import Case, run_alone
from bench.rig import ENVIRON
from bench.samples import CHAT, PLACEHOLDER, PROVIDER_KEY
from outrider.secrets.injection import Injector, strip_query, with_query_key
from outrider.secrets.secret import Secret, looks_like_secret
from outrider.secrets.sigv4 import Signer, presented_access_key
from outrider.secrets.sources import AwsCredentials, EnvSource

SECRET = Secret(PROVIDER_KEY)
TARGET = b"/v1beta/models/gemini-2.5-flash:generateContent?alt=json"
WITH_KEY = TARGET + b"&key=" + PLACEHOLDER.value.encode()
NAMES = frozenset((b"key", b"access_token"))
AUTHORIZATION = b"Bearer " + PLACEHOLDER.value.encode()
AT = datetime(2026, 1, 1, tzinfo=UTC)
AWS = AwsCredentials(ENVIRON["AWS_ACCESS_KEY_ID"], Secret(ENVIRON["AWS_SECRET_ACCESS_KEY"].encode()))
SIGNED = (
    b"AWS4-HMAC-SHA256 Credential=AKIABENCH00000000000/20260101/us-east-1/bedrock/aws4_request, "
    b"SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64
)


@dataclass(slots=True)
class Signing:
    signer: Signer
    body_sha256: str


def sign(signing: Signing) -> bytes:
    return signing.signer.sign(
        b"POST",
        b"bedrock-runtime.us-east-1.amazonaws.com",
        b"/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        [(b"content-type", b"application/json")],
        signing.body_sha256,
        credentials=AWS,
        at=AT,
    )


CASES = (
    Case(
        "a source's current secret",
        lambda: EnvSource("BENCH_KEY", ENVIRON),
        lambda source: source.current(),
        lambda _, secret: secret == SECRET,
    ),
    Case(
        "a header's line",
        lambda: Injector("authorization", "Bearer "),
        lambda injector: injector.header_lines(SECRET),
        lambda _, line: line == b"authorization: Bearer " + PROVIDER_KEY + b"\r\n",
    ),
    Case(
        "a query without a key, looked through",
        lambda: TARGET,
        lambda target: strip_query(target, NAMES),
        lambda _, target: target == TARGET,
    ),
    Case(
        "a query's key, taken out",
        lambda: WITH_KEY,
        lambda target: strip_query(target, NAMES),
        lambda _, target: target == TARGET,
    ),
    Case(
        "a query's key, replaced",
        lambda: WITH_KEY,
        lambda target: with_query_key(target, b"key", SECRET),
        lambda _, target: target == TARGET + b"&key=" + PROVIDER_KEY,
    ),
    Case(
        "a signature (SigV4), the body's hash known",
        lambda: Signing(Signer("us-east-1", "bedrock"), sha256(CHAT).hexdigest()),
        sign,
        lambda _, lines: b"x-amz-date: 20260101T000000Z\r\n" in lines and b"Signature=" in lines,
    ),
    Case(
        f"a body's hash, {len(CHAT):,} bytes",
        lambda: CHAT,
        lambda body: sha256(body).hexdigest(),
        lambda _, digest: len(digest) == 64,
    ),
    Case("two secrets compared", lambda: Secret(PROVIDER_KEY), lambda one: one == SECRET, lambda _, same: same is True),
    Case(
        "the placeholder, presented", lambda: PLACEHOLDER, lambda one: one.is_in(AUTHORIZATION), lambda _, is_in: is_in
    ),
    Case(
        "the placeholder, looked for",
        lambda: PLACEHOLDER,
        lambda one: one.occurs_in(WITH_KEY),
        lambda _, occurs: occurs,
    ),
    Case(
        "an access key, presented in a signature",
        lambda: SIGNED,
        presented_access_key,
        lambda _, key: key == b"AKIABENCH00000000000",
    ),
    Case("a text of a key's shape", PROVIDER_KEY.decode, looks_like_secret, lambda _, looks: looks is True),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
