"""What to tell a person whose app does not accept our certificate. OpenSSL's words for the alert are the key."""

_ADVICE = (
    "the app does not trust the sidecar's CA: start it with `outrider exec`, or set what `outrider env` prints "
    "(SSL_CERT_FILE for Python's httpx and Go, REQUESTS_CA_BUNDLE for requests, AWS_CA_BUNDLE for boto3, "
    "NODE_EXTRA_CA_CERTS for Node)"
)
_ALERTS = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED", "UNSUPPORTED_CERTIFICATE")


def advice_for(reason: str) -> str | None:
    """A sentence when `reason` (ssl.SSLError.reason) is an alert about our certificate, else None."""
    return _ADVICE if any(alert in reason for alert in _ALERTS) else None
