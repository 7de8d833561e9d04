"""One family of errors, each with a public code; one place turns any failure into an answer.

Rules: `str(exc)` is safe for the app to see (no secret, no address the app did not name itself);
an error that is not ours stays private and becomes `internal`.
"""

from typing import ClassVar


class SidecarError(Exception):
    """Base. `code` is the public, stable name; `status` the HTTP status; str(exc) is one sentence for a person.

    `should_retry` answers the SDK's question: None leaves it to its own rules.
    """

    code: ClassVar[str] = "internal"
    status: int = 500  # an error whose status a rule chooses has its own
    should_retry: bool | None = None
    key_id: str | None = None  # of the virtual key that was refused, where configuration lists it
    by_code: ClassVar[dict[str, type["SidecarError"]]] = {}

    def __init_subclass__(cls) -> None:
        if cls.by_code.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"duplicate error code {cls.code}")


class BadRequestError(SidecarError):
    code, status, should_retry = "bad_request", 400, False


class BoundElsewhereError(SidecarError):
    """The call goes on with what only another provider keeps."""

    code, status, should_retry = "bound_elsewhere", 400, False


REPEATED_KEY = "the body has a key twice in one object, which two readers could read differently; send it once"


class UriNotFoundError(SidecarError):
    code, status, should_retry = "not_found", 404, False


class ModelNotFoundError(SidecarError):
    """A name that no provider here serves."""

    code, status, should_retry = "model_not_found", 404, False


class BodyTooLargeError(SidecarError):
    code, status, should_retry = "body_too_large", 413, False


class ForbiddenError(SidecarError):
    """A rule of this sidecar refused it; the app cannot help it by retrying."""

    code, status, should_retry = "denied", 403, False


class DestinationDeniedError(SidecarError):
    """The address asked for is one that the SSRF guard or the egress rule refuses."""

    code, status, should_retry = "destination_denied", 403, False


class PlaceholderRequiredError(SidecarError):
    code, status, should_retry = "placeholder_required", 401, False


class VirtualKeyRefusedError(SidecarError):
    """A virtual key that opens nothing here, or that stands where it must not."""

    code, status, should_retry = "virtual_key_refused", 401, False


class PrincipalRequiredError(SidecarError):
    """Nothing that config lists says who is calling, and config does not let anonymous callers in."""

    code, status, should_retry = "principal_required", 401, False


class ProxyTokenRefusedError(SidecarError):
    """The token of the proxy URL is missing or wrong; the answer asks for one (RFC 9110 section 11.7)."""

    code, status, should_retry = "proxy_token_refused", 407, False


PROXY_CHALLENGE = 'proxy-authenticate: Basic realm="outrider"'  # stands in every 407 (RFC 9110 section 15.5.8)


class MisdirectedError(SidecarError):
    code, status, should_retry = "misdirected", 421, False


class RateLimitedError(SidecarError):
    """`retry_after_ms` says when the next request would be admitted."""

    code, status = "rate_limited", 429

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class BudgetExceededError(RateLimitedError):
    """What may be spent in this period is spent; `retry_after_ms` is the period's end."""

    code, status, should_retry = "budget_exceeded", 429, False


class LimitTooSmallError(RateLimitedError):
    """One call asks for more than the limit ever admits at once: waiting does not help."""

    code, status, should_retry = "limit_too_small", 429, False


class UnpricedError(SidecarError):
    """A budget in dollars cannot be kept for a model whose price is not known."""

    code, status, should_retry = "unpriced", 403, False


class CredentialUnavailableError(SidecarError):
    code, status, should_retry = "credential_unavailable", 503, False


class UpstreamConnectError(SidecarError):
    """Name resolution, TCP or TLS to the provider failed; nothing was sent."""

    code, status = "upstream_unreachable", 502


class UpstreamTimeoutError(SidecarError):
    code, status = "upstream_timeout", 504


class UpstreamBrokenError(SidecarError):
    """The provider's answer broke the protocol or ended before its head was complete."""

    code, status = "upstream_broken", 502


class NotCachedError(SidecarError):
    """The request's Cache-Control says only-if-cached, and no answer is remembered."""

    code, status, should_retry = "not_cached", 504, False


class OverloadedError(SidecarError):
    """A cap of this sidecar (connections, waiting requests) is reached."""

    code, status = "overloaded", 503


class TargetsDownError(RateLimitedError):
    """Every target of a model is left alone for now; `retry_after_ms` says when the first is tried again."""

    code, status = "targets_down", 503


class StartError(Exception):
    """The command cannot go on: one sentence that names the key, file or address and what to do.

    `exit_code` is 2 for bad input and 1 for a failure of the machine around us.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
