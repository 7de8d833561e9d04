"""Verifies AWS Signature Version 4 by signing the received request again with the key that the mock was given.

The signer is botocore's, imported when the first signature arrives; without it every signed request is refused, with a
sentence that says what to install. Checked besides the signature: key id, scope, age. Source: AWS IAM, "Create a
signed AWS API request"; the refusals are AWS's own.
"""

import datetime
import hmac
import importlib
import re

from .reply import Call, Refusal

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request,\s*"
    r"SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})$"
)
_REGION = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com")
_MAX_SKEW_S = 300


def verify(call: Call, secrets: dict[str, str]) -> None:
    """Raises: Refusal unless the request is signed for `bedrock` by a key in `secrets` (key id -> secret)."""
    found = _HEADER.match(call.headers.get("authorization", ""))
    if found is None:
        raise Refusal(
            403, "Authorization header is not a valid AWS4-HMAC-SHA256 one.", kind="IncompleteSignatureException"
        )
    key_id, day, region, service, signed, signature = found.groups()
    if key_id not in secrets:
        text = "The security token included in the request is invalid."
        raise Refusal(403, text, kind="UnrecognizedClientException")
    stamp = call.headers.get("x-amz-date", "")
    _check_scope(call, day, region, service, stamp)
    names = signed.split(";")
    if "host" not in names or any(name not in call.headers and name != "host" for name in names):
        raise Refusal(403, "'Host' must be a 'SignedHeader', and every signed header must be there.", kind=_MISMATCH)
    if not hmac.compare_digest(signature, _expected(call, names, (key_id, secrets[key_id]), region, stamp)):
        text = (
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )
        raise Refusal(403, text, kind=_MISMATCH)


_MISMATCH = "InvalidSignatureException"


def _check_scope(call: Call, day: str, region: str, service: str, stamp: str) -> None:
    host = _REGION.match(call.host)
    wanted = host[1] if host else region
    if service != "bedrock" or region != wanted:
        text = f"Credential should be scoped to a valid region and correct service: '{wanted}', 'bedrock'."
        raise Refusal(403, text, kind=_MISMATCH)
    try:
        at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Refusal(403, "X-Amz-Date is missing or malformed.", kind="IncompleteSignatureException") from None
    if not stamp.startswith(day):
        raise Refusal(403, "Date in Credential scope does not match X-Amz-Date.", kind=_MISMATCH)
    if abs(at.timestamp() - call.now_s) > _MAX_SKEW_S:
        raise Refusal(403, f"Signature expired: {stamp} is not within 5 min of now.", kind=_MISMATCH)


def _expected(call: Call, names: list[str], pair: tuple[str, str], region: str, stamp: str) -> str:
    try:
        auth_module = importlib.import_module("botocore.auth")
        request_module = importlib.import_module("botocore.awsrequest")
        credentials_module = importlib.import_module("botocore.credentials")
    except ImportError:
        text = "The mock cannot verify AWS signatures without botocore; install outrider[aws]."
        raise Refusal(403, text, kind="AccessDeniedException") from None
    headers = {name: ", ".join(_values(call, name)) for name in names}
    request = request_module.AWSRequest(
        call.method, f"https://{call.host}{call.target}", headers=headers, data=call.body
    )
    request.context["timestamp"] = stamp
    auth = auth_module.SigV4Auth(credentials_module.Credentials(*pair), "bedrock", region)
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def _values(call: Call, name: str) -> list[str]:
    wanted = name.encode()
    return [value.decode("latin-1") for key, value in call.raw_headers if key.lower() == wanted]
