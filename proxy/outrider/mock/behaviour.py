"""How the mock provider answers one request: pace, size, and everything that can go wrong.

Three sources, the later wins field by field: the mock's own defaults, the behaviour queued by a test, the request's
`x-mock-*` headers (for a user in another process). A field that is None says nothing.
Does not know: providers, sockets.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

STALLS = ("head", "first", "events")
CUTS = ("close", "abort", "reset")
FRAMINGS = ("chunked", "length", "close")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Every field has its header: `cut_after` is `x-mock-cut-after`. Events are the answer's stream events.

    status         answer with this status in the provider's error shape; no model is asked
    headers        more answer headers, name to value (header form: `x-mock-headers: name=value; name=value`)
    body           exactly this body instead of the provider's
    early          with `status`: answer before the request body was read, then close
    delay_ms       wait before the answer's head
    first_event_ms wait between the head and the first byte of the body
    pace_ms        wait before every event after the first
    chunk_bytes    write the body in pieces of this size, one TCP write each, across event borders
    stall          stop for ever (until released): "head" before the head, "first" before the first body byte,
                   "events" after `stall_after` events
    error_after    after n events, the provider's in-stream error, and nothing more
    cut_after      after n events, end the connection; cut_after_bytes: the same after n body bytes
    cut            how: "close" orderly (TLS: with close_notify), "abort" without close_notify, "reset" (TCP RST)
    framing        "chunked" (streams), "length" (plain answers), "close" (no length: ends with the connection)
    events         number of text events, which is the number of words in the answer
    gzip           gzip the body when the client accepts it; streams are flushed at each event
    informational  an interim 1xx answer of this status first
    trailers       with chunked framing: trailer fields, as `headers`
    cached_tokens, reasoning_tokens    reported in usage, by each provider's own counting rule
    """

    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    early: bool | None = None
    delay_ms: float | None = None
    first_event_ms: float | None = None
    pace_ms: float | None = None
    chunk_bytes: int | None = None
    stall: str | None = None
    stall_after: int | None = None
    error_after: int | None = None
    cut_after: int | None = None
    cut_after_bytes: int | None = None
    cut: str | None = None
    framing: str | None = None
    events: int | None = None
    gzip: bool | None = None
    informational: int | None = None
    trailers: Mapping[str, str] | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("stall", STALLS), ("cut", CUTS), ("framing", FRAMINGS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")

    def over(self, below: "Behaviour") -> "Behaviour":
        """This one's fields where they say something, else those of `below`."""
        said = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        return dataclasses.replace(below, **said) if said else below


FIELDS = tuple(field.name for field in dataclasses.fields(Behaviour))


def _pairs(text: str) -> dict[str, str]:
    rows = [row.partition("=") for row in text.split(";") if row.strip()]
    return {name.strip(): value.strip() for name, _, value in rows}


def _flag(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "no", "false")


def _readers() -> dict[str, Callable[[str], Any]]:
    by_type: dict[Any, Callable[[str], Any]] = {
        int: int,
        float: float,
        str: str,
        bool: _flag,
        bytes: lambda text: text.encode("utf-8"),
    }
    hints = get_type_hints(Behaviour)
    return {name: by_type.get(get_args(hints[name])[0], _pairs) for name in FIELDS}


_READERS = _readers()
_BY_HEADER = {f"x-mock-{name.replace('_', '-')}": name for name in FIELDS}


def from_headers(headers: Mapping[str, str]) -> Behaviour:
    """The behaviour that `x-mock-*` request headers ask for (names in lower case).

    Raises: ValueError, with a sentence, for an unknown `x-mock-` header or a value that does not parse.
    """
    said: dict[str, Any] = {}
    for header, text in headers.items():
        if not header.startswith("x-mock-"):
            continue
        name = _BY_HEADER.get(header)
        if name is None:
            raise ValueError(f"{header} is no header of the mock; it knows {', '.join(sorted(_BY_HEADER))}")
        try:
            said[name] = _READERS[name](text)
        except ValueError:
            raise ValueError(f"{header}: {text!r} is not a value of the right kind") from None
    return Behaviour(**said) if said else NOTHING


def from_json(fields: Mapping[str, Any]) -> Behaviour:
    """The behaviour that `POST /__mock__/next` queues. Raises: ValueError for an unknown field."""
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; a behaviour has {', '.join(FIELDS)}")
    said = dict(fields)
    if isinstance(said.get("body"), str):
        said["body"] = said["body"].encode()
    return Behaviour(**said)


NOTHING = Behaviour()
