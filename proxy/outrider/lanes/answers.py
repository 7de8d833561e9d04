"""Whole HTTP/1.1 messages of our own: errors in the shape of the dialect that the client speaks.

Does not know: connections.
"""

from http import HTTPStatus

from outrider.dialects.errors import error_answer
from outrider.errors import PROXY_CHALLENGE, RateLimitedError, SidecarError

_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def error_message(
    error: SidecarError,
    dialect: str,
    *,
    request_id: bytes = b"",
    close: bool,
    decision: str = "",
    head_only: bool = False,
) -> bytes:
    """The answer to one refused or failed request."""
    retry_after_ms = error.retry_after_ms if isinstance(error, RateLimitedError) else None
    lines, body = error_answer(dialect, error.status, error.code, str(error), retry_after_ms, error.should_retry)
    parts = [b"HTTP/1.1 %d %b\r\n" % (error.status, _PHRASES.get(error.status, b"")), lines]
    if error.status == 407:
        parts.append(PROXY_CHALLENGE.encode("ascii") + b"\r\n")
    if request_id:
        parts.append(b"x-outrider-request-id: " + request_id + b"\r\n")
    if decision:
        parts.append(b"x-outrider-decision: " + decision.encode("ascii", "replace") + b"\r\n")
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if not head_only:
        parts.append(body)
    return b"".join(parts)


def protocol_error_message(status: int, message: str) -> bytes:
    """The answer to bytes that are not HTTP/1.1; nobody's dialect is known here, so it is the plainest, OpenAI's."""
    lines, body = error_answer("openai", status, "bad_request", message, None, False)
    phrase = _PHRASES.get(status, b"Bad Request")
    return b"HTTP/1.1 %d %b\r\n%bconnection: close\r\n\r\n%b" % (status, phrase, lines, body)
