"""AWS Signature Version 4 for requests in flight: our own, since it runs per request and botocore is an extra.

Rules: the wire's own bytes are signed as AWS's servers read them: the path is normalised (dot segments, empty segments)
and encoded once more than it came (every service but S3), the query is decoded, encoded and sorted, header values are
trimmed and their inner spaces collapsed; headers that a hop may change are the caller's to leave out.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
Does not know: which hosts, operations and regions may be signed for (the provider's table), or the clock.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes

from outrider.secrets.secret import Secret
from outrider.secrets.sources import AwsCredentials

EMPTY_SHA256 = hashlib.sha256().hexdigest()
Headers = Iterable[tuple[bytes, bytes]]

_PRESENTED = re.compile(
    rb"(?:^|[ ,\t])Credential=([A-Za-z0-9]{16,128})"
    rb"/[0-9]{8}/[A-Za-z0-9-]{1,64}/[A-Za-z0-9-]{1,64}/aws4_request[ \t]*(?:,|\Z)"
)
_SCHEME = b"AWS4-HMAC-SHA256"
_PRESENTED_MAX = 4096  # with a session token's signature it is under 600


class Signer:
    """Signs for one region and service. Keeps the day's signing key: four HMACs saved per request."""

    __slots__ = ("_key", "_key_of", "_scope_end")

    def __init__(self, region: str, service: str) -> None:
        self._scope_end = (region, service, "aws4_request")
        self._key_of: tuple[Secret, str] | None = None
        self._key = b""

    def sign(
        self,
        method: bytes,
        host: bytes,
        target: bytes,
        headers: Headers,
        body_sha256: str,
        *,
        credentials: AwsCredentials,
        at: datetime,
        sha256_header: bool = False,
        normalize: bool = True,
    ) -> bytes:
        """The header lines to add: x-amz-date, x-amz-security-token (if there is one), authorization.

        `host` is what the host line will say (no default port); `target` is origin-form as sent; every one of `headers`
        is signed and must be sent as given; `body_sha256` is 64 hex digits of the body as sent. `sha256_header` adds
        and signs x-amz-content-sha256. `normalize=False` leaves dot segments alone (S3 style). `at` is aware.
        """
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        added = [(b"x-amz-date", stamp.encode("ascii"))]
        if sha256_header:
            added.append((b"x-amz-content-sha256", body_sha256.encode("ascii")))
        if credentials.token is not None:
            added.append((b"x-amz-security-token", credentials.token.expose()))
        canonical, names = canonical_request(
            method, target, [(b"host", host), *headers, *added], body_sha256, normalize=normalize
        )
        scope = "/".join((stamp[:8], *self._scope_end))
        to_sign = string_to_sign(stamp, scope, canonical)
        signature = hmac.new(self._signing_key(credentials.secret, stamp[:8]), to_sign, "sha256").hexdigest()
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names.decode('ascii')}, Signature={signature}"
        )
        lines = [*added, (b"authorization", authorization.encode("ascii"))]
        return b"".join(b"%b: %b\r\n" % line for line in lines)

    def _signing_key(self, secret: Secret, day: str) -> bytes:
        if self._key_of is None or self._key_of[0] is not secret or self._key_of[1] != day:
            key = b"AWS4" + secret.expose()
            for part in (day, *self._scope_end):
                key = hmac.digest(key, part.encode("ascii"), "sha256")
            self._key, self._key_of = key, (secret, day)
        return self._key


def canonical_request(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], body_sha256: str, *, normalize: bool = True
) -> tuple[bytes, bytes]:
    """(canonical request, signed header names joined by ';')."""
    path, _, query = target.partition(b"?")
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name.strip().lower(), []).append(b" ".join(value.split()))
    ordered = sorted(values)
    names = b";".join(ordered)
    lines = b"".join(b"%b:%b\n" % (name, b",".join(values[name])) for name in ordered)
    parts = (
        method,
        _canonical_path(path, normalize),
        _canonical_query(query),
        lines,
        names,
        body_sha256.encode("ascii"),
    )
    return b"\n".join(parts), names


def string_to_sign(stamp: str, scope: str, canonical: bytes) -> bytes:
    digest = hashlib.sha256(canonical).hexdigest()
    return f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode("ascii")


def _canonical_path(path: bytes, normalize: bool) -> bytes:
    """The path as it came, encoded once more ("double encoding": every service but S3)."""
    if normalize and (b"//" in path or b"/." in path):
        kept: list[bytes] = []
        for segment in path.split(b"/"):
            if segment == b"..":
                del kept[-1:]
            elif segment not in (b"", b"."):
                kept.append(segment)
        # "/a/." is "/a" to AWS's signers, though RFC 3986 §5.2.4 keeps the slash.
        folder = path.endswith(b"/") and bool(kept)
        path = b"/" + b"/".join(kept) + (b"/" if folder else b"")
    return quote_from_bytes(path or b"/", safe="/-_.~").encode("ascii")


def _canonical_query(query: bytes) -> bytes:
    if not query:
        return b""
    pairs = []
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            pairs.append((_encoded(name), _encoded(value)))
    return b"&".join(b"%b=%b" % pair for pair in sorted(pairs))


def _encoded(part: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(part), safe="-_.~").encode("ascii")


def presented_access_key(authorization: bytes) -> bytes | None:
    """The access key id that a client's SigV4 Authorization value names; None when it is no such value."""
    value = authorization.strip(b" \t")
    rest = value[len(_SCHEME) :]
    if not value.startswith(_SCHEME) or rest[:1] not in (b" ", b"\t") or len(value) > _PRESENTED_MAX:
        return None
    found = _PRESENTED.search(rest)
    return found[1] if found else None
