"""What of a request's head could change its answer: two heads that are alike in it ask the same.

Rules: any field counts that is not known to change nothing; where our credential is added, the fields in which the app
shows its placeholder do not, and where the app's own key passes, they do.
Does not know: bodies, callers.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outrider.stack.call import Route
    from outrider_ext.http1 import Head

_HARMLESS: Final = frozenset(
    (
        b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect",
        b"transfer-encoding", b"content-length", b"accept-encoding", b"user-agent", b"via", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"forwarded", b"date", b"traceparent", b"tracestate",
        b"baggage", b"x-request-id", b"request-id", b"x-client-request-id", b"idempotency-key", b"cache-control",
        b"pragma", b"proxy-authorization", b"x-amzn-trace-id", b"amz-sdk-invocation-id", b"amz-sdk-request",
        b"sentry-trace", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"b3", b"age",
    )
)  # fmt: skip
_HARMLESS_PREFIXES: Final = (b"x-outrider-", b"x-stainless-")
_SIGNATURE: Final = frozenset((b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256"))


class Likeness:
    """Of one route. of(head) -> 32 bytes, the same for heads that are alike."""

    def __init__(self, route: "Route") -> None:
        slots = frozenset(name.encode("ascii") for name in route.binding.provider.slots.headers)
        self._harmless = _HARMLESS | slots | _SIGNATURE if route.attempt.injects else _HARMLESS

    def of(self, head: "Head") -> bytes:
        fields = sorted(
            name + b"\0" + value
            for name, value in head.items()
            if name not in self._harmless and not name.startswith(_HARMLESS_PREFIXES)
        )
        return sha256(b"\n".join(fields)).digest()
