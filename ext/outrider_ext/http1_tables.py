"""What the HTTP/1.1 modules share: field names and their ids, methods, byte classes, the error.

Rules: data and its builders only. A field name's id is its place in NAMES, counted from 1, so 63 names fit a mask.
"""

NAMES = (
    b"host",  # the first six decide framing or routing and are looked at while the head is scanned
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"expect",
    b"upgrade",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"x-goog-api-key",
    b"cookie",
    b"accept-encoding",
    b"content-encoding",
    b"content-type",
    b"accept",
    b"user-agent",
    b"alt-svc",
    b"via",
    b"x-forwarded-for",
    b"forwarded",
    b"date",
    b"server",
    b"retry-after",
    b"retry-after-ms",
    b"x-should-retry",
    b"origin",
    b"sec-fetch-site",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
    b"http2-settings",
    b"x-amz-date",
    b"x-amz-security-token",
    b"x-amz-content-sha256",
    b"x-amz-target",
    b"anthropic-version",
    b"anthropic-beta",
    b"idempotency-key",
    b"location",
    b"set-cookie",
    b"cache-control",
    b"request-id",
    b"x-request-id",
    b"x-goog-user-project",
    b"openai-organization",
    b"openai-project",
    b"x-ratelimit-remaining-requests",
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
)
# fmt: off
(
    H_HOST, H_CONTENT_LENGTH, H_TRANSFER_ENCODING, H_CONNECTION, H_EXPECT, H_UPGRADE, H_KEEP_ALIVE, H_PROXY_CONNECTION,
    H_TE, H_TRAILER, H_PROXY_AUTHORIZATION, H_PROXY_AUTHENTICATE, H_AUTHORIZATION, H_X_API_KEY, H_API_KEY,
    H_X_GOOG_API_KEY, H_COOKIE, H_ACCEPT_ENCODING, H_CONTENT_ENCODING, H_CONTENT_TYPE, H_ACCEPT, H_USER_AGENT,
    H_ALT_SVC, H_VIA, H_X_FORWARDED_FOR, H_FORWARDED, H_DATE, H_SERVER, H_RETRY_AFTER, H_RETRY_AFTER_MS,
    H_X_SHOULD_RETRY, H_ORIGIN, H_SEC_FETCH_SITE, H_SEC_WEBSOCKET_PROTOCOL, H_SEC_WEBSOCKET_EXTENSIONS,
    H_HTTP2_SETTINGS, H_X_AMZ_DATE, H_X_AMZ_SECURITY_TOKEN, H_X_AMZ_CONTENT_SHA256, H_X_AMZ_TARGET,
    H_ANTHROPIC_VERSION, H_ANTHROPIC_BETA, H_IDEMPOTENCY_KEY, H_LOCATION, H_SET_COOKIE, H_CACHE_CONTROL, H_REQUEST_ID,
    H_X_REQUEST_ID, H_X_GOOG_USER_PROJECT, H_OPENAI_ORGANIZATION, H_OPENAI_PROJECT, H_X_RATELIMIT_REMAINING_REQUESTS,
    H_X_HTTP_METHOD_OVERRIDE, H_X_HTTP_METHOD, H_X_METHOD_OVERRIDE,
) = range(1, len(NAMES) + 1)
# fmt: on

# RFC 9110 section 16.1 and its registry, less PRI (reserved, RFC 9113 section 11.6), and two that are in wide use.
# A method outside it is 501 (RFC 9112 section 3): a rule that names methods must know each one that can pass.
METHODS = frozenset(
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY "
    b"MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY "
    b"REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL "
    b"PURGE M-SEARCH".split()
)

# What a byte may be part of.
IN_VALUE = 1
IN_TARGET = 2
IN_HOST = 4


def token_table() -> bytes:
    """RFC 9110 section 5.6.2: a token character maps to its lower case, everything else to 0."""
    marks = b"!#$%&'*+-.^_`|~"
    return bytes(ord(chr(c).lower()) if c < 128 and (chr(c).isalnum() or c in marks) else 0 for c in range(256))


def kind_table() -> bytes:
    """Values (RFC 9110 section 5.5, obs-text too), targets (RFC 9112 section 3.2), hosts (RFC 3986 section 3.2.2)."""
    table = bytearray(256)
    for c in range(256):
        visible = 0x21 <= c <= 0x7E
        if visible or c in b" \t" or c >= 0x80:
            table[c] |= IN_VALUE
        if visible and c not in b"#":  # a fragment is no part of a request target
            table[c] |= IN_TARGET
        if c < 128 and (chr(c).isalnum() or c in b"-._~!$&'()*+,;=%:[]"):
            table[c] |= IN_HOST
    return bytes(table)


class ProtocolError(Exception):
    """The peer broke HTTP/1.1. str(exc) is one sentence that is safe to show: it quotes nothing of the input.

    status: what a server answers to a bad request (400, 414, 431, 501, 505); 502 for a bad response head.
    A body does not know its side and always says 400.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def header_id(name: bytes) -> int:
    """The id (1..63) of a known lower-case field name, 0 for any other. Slow: meant for building masks."""
    return NAMES.index(name) + 1 if name in NAMES else 0


def mask_of(*names: bytes) -> int:
    """The unsigned 64-bit mask of known lower-case field names. Raises ValueError for a name that is not known."""
    mask = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"{name!r} is not a known field name: drop it by name instead")
        mask |= 1 << header_id(name)
    return mask
