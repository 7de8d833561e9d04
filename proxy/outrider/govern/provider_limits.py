"""What a provider says about its own limits, in all the ways in which they say it, and what follows for the next call.

Rules
- A header is a hint from outside: what is not a number in range is not there; a wait is at most an hour, a count at
  most 2**53. A limit of 0, a remainder below 0, and a remainder of 0 beside a reset of 0 (Azure) say nothing.
- Resets are Go durations ("6m0s", "12ms"), seconds (milliseconds at Azure, which is told by its renewal period), RFC
  3339 times, or epoch seconds; `retry-after` is seconds, a float or an HTTP date; `retry-after-ms` beats it.
- A call is held back while what remains is less than what it would take and the reset is still to come. What this
  sidecar sent since the last answer is taken off what remained.
Does not know: HTTP, configuration.
Source: the providers' pages, SDKs and recorded answers (x-ratelimit-*, anthropic-ratelimit-*, ratelimit-*, Google's
RetryInfo, AWS throttling).
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

MAX_WAIT_S = 3600.0
MAX_COUNT = 1 << 53
BLIND_WAIT_S = 1.0  # a throttled answer that says nothing: AWS, and whoever forgot
_NS = 1_000_000_000
_GO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|us|µs|ns|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

# (dimension, remaining, reset, limit): of a dimension the first that is there counts.
HEADERS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "openai": tuple(
        (dimension, f"x-ratelimit-remaining{name}", f"x-ratelimit-reset{name}", f"x-ratelimit-limit{name}")
        for dimension, names in (
            ("requests", ("-requests", "-project-requests", "")),
            ("tokens", ("-tokens", "-project-tokens", "-tokens_usage_based")),
        )
        for name in names
    ),
    "anthropic": tuple(
        (
            dimension,
            f"anthropic-ratelimit-{name}-remaining",
            f"anthropic-ratelimit-{name}-reset",
            f"anthropic-ratelimit-{name}-limit",
        )
        for dimension, name in (
            ("requests", "requests"),
            ("tokens", "tokens"),
            ("input", "input-tokens"),
            ("output", "output-tokens"),
        )
    ),
    "mistral": (
        ("requests", "x-ratelimit-remaining-req-minute", "ratelimit-reset", "x-ratelimit-limit-req-minute"),
        ("requests", "x-ratelimit-remaining-req-10-second", "ratelimit-reset", "x-ratelimit-limit-req-10-second"),
        ("tokens", "x-ratelimit-remaining-tokens-minute", "ratelimitbysize-reset", "x-ratelimit-limit-tokens-minute"),
        ("tokens", "ratelimitbysize-remaining", "ratelimitbysize-reset", "ratelimitbysize-limit"),
    ),
    "": (("requests", "ratelimit-remaining", "ratelimit-reset", "ratelimit-limit"),),
}
# Anthropic's subscriptions: a status and a share used, for windows of five hours and seven days.
UNIFIED = ("5h", "7d")

type Get = Callable[[bytes], bytes | None]  # a header's value by its lower-case name


@dataclass(frozen=True, slots=True)
class Told:
    """One dimension of an answer. reset_s: from now; None where it was not said."""

    dimension: str
    remaining: int
    reset_s: float | None
    limit: int | None


def duration_s(text: str) -> float | None:
    """A Go duration: "6m0s", "1h2m3.5s", "12ms"; None for anything else."""
    total, at = 0.0, 0
    for found in _GO.finditer(text):
        if found.start() != at:
            return None
        total += float(found[1]) * _UNIT_S[found[2]]
        at = found.end()
    return min(total, MAX_WAIT_S) if text and at == len(text) else None


def count_of(text: str | None) -> int | None:
    """A count; None for what is negative, fractional or absurd."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16:
        return None
    return min(int(text), MAX_COUNT)


def reset_s(text: str | None, now_s: float) -> float | None:
    """Seconds until a reset, 0 at least and an hour at most."""
    if text is None or len(text) > 64:
        return None
    found = duration_s(text)
    if found is not None:
        return found
    number = _number(text)
    if number is not None:
        return _clamped(number - now_s if number > 1e9 else number)  # epoch seconds, or seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _clamped(at.timestamp() - now_s)


def retry_after_s(get: Get, now_s: float) -> float | None:
    """`retry-after-ms`, else `retry-after`: seconds, a float, or an HTTP date."""
    millis = _number(_text(get(b"retry-after-ms")))
    if millis is not None:
        return _clamped(millis / 1000)
    text = _text(get(b"retry-after"))
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return _clamped(seconds)
    from email.utils import parsedate_to_datetime  # seldom needed, and the package is large

    try:
        return _clamped(parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def read(family: str, get: Get, now_s: float) -> list[Told]:
    """What an answer's headers say. family: the provider's `ratelimit`."""
    told: list[Told] = []
    millis = get(b"x-ratelimit-renewalperiod-requests") is not None  # Azure: 1 of 120/min is "500"
    for dimension, remaining_name, reset_name, limit_name in HEADERS.get(family, HEADERS[""]):
        remaining = count_of(_text(get(remaining_name.encode())))
        if remaining is None or any(one.dimension == dimension for one in told):
            continue
        limit = count_of(_text(get(limit_name.encode())))
        reset = reset_s(_text(get(reset_name.encode())), now_s)
        reset = reset / 1000 if reset is not None and millis else reset
        if limit == 0 or (remaining == 0 and not reset and limit is None):
            continue
        told.append(Told(dimension, remaining, reset, limit))
    if family == "anthropic":
        told += _unified(get, now_s)
    return told


def _unified(get: Get, now_s: float) -> Iterable[Told]:
    for window in UNIFIED:
        status = _text(get(f"anthropic-ratelimit-unified-{window}-status".encode()))
        reset = reset_s(_text(get(f"anthropic-ratelimit-unified-{window}-reset".encode())), now_s)
        if status == "rejected" and reset is not None:
            yield Told("requests", 0, reset, None)


def body_wait_s(body: bytes) -> float | None:
    """Google's RetryInfo in an error's details: {"retryDelay": "34.07s"}."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for entry in details if isinstance(details, list) else ():
        delay = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(delay, str) and len(delay) <= 64 and (found := duration_s(delay)) is not None:
            return found
    return None


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1").strip() if value is not None and len(value) <= 128 else None


def _number(text: str | None) -> float | None:
    if text is None or len(text) > 32 or not text.isascii():
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S)


@dataclass(slots=True)
class Dimension:
    remaining: int
    until_ns: int


@dataclass(slots=True)
class Gate:
    """One credential's state for one model. wait_ns(now, tokens) -> 0 to go on; sent() for what goes on."""

    blocked_until_ns: int = 0
    dimensions: dict[str, Dimension] = field(default_factory=dict)

    def wait_ns(self, now_ns: int, tokens: dict[str, int]) -> int:
        wait_ns = self.blocked_until_ns - now_ns
        for name, dimension in self.dimensions.items():
            needed = 1 if name == "requests" else max(tokens.get(name, 0), 1)
            if dimension.until_ns > now_ns and dimension.remaining < needed:
                wait_ns = max(wait_ns, dimension.until_ns - now_ns)
        return max(wait_ns, 0)

    def sent(self, now_ns: int, tokens: dict[str, int]) -> None:
        for name, dimension in self.dimensions.items():
            if dimension.until_ns > now_ns:
                dimension.remaining -= 1 if name == "requests" else tokens.get(name, 0)

    def answered(self, now_ns: int, told: Iterable[Told]) -> None:
        """The newest word counts, but one without a reset changes nothing that is known to end."""
        for one in told:
            if one.reset_s is not None:
                self.dimensions[one.dimension] = Dimension(one.remaining, now_ns + int(one.reset_s * _NS))

    def throttled(self, now_ns: int, wait_s: float | None) -> None:
        wait_s = BLIND_WAIT_S if wait_s is None else wait_s
        self.blocked_until_ns = max(self.blocked_until_ns, now_ns + int(min(wait_s, MAX_WAIT_S) * _NS))
