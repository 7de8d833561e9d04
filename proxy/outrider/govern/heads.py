"""Changes that rules make to the fields of a request's head, and which fields no rule may touch.

Rules: slots of keys, what frames the message or belongs to one hop, what the sidecar itself negotiates or signs, what
says which operation it is, and x-outrider-* are refused when the file is loaded. A field that is set replaces every
line of that name. Made once for a set of rules; nothing is done for a request.
Does not know: rules' matches, connections.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from outrider.govern.cel import SECRET_HEADERS
from outrider.providers import BUILT_IN
from outrider.providers.model import COMMON_HEADERS
from outrider_ext import http1
from outrider_ext.layers import HeadEdits

MAX_VALUE_CHARS: Final = 1024
_TOKEN: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # visible ASCII, blanks within

_KEYS: Final = frozenset(
    {*COMMON_HEADERS, *SECRET_HEADERS, "set-cookie"}.union(*(one.slots.headers for one in BUILT_IN.values()))
)
# field -> why no rule may change it
_WHYS: Final[Mapping[str, tuple[str, ...]]] = {
    "frames the message or belongs to one hop": (
        "host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
        "content-length", "expect", "http2-settings", "proxy-authenticate", "proxy-authorization",
    ),
    "says how the body is to be read": ("content-type", "content-encoding", "accept-encoding"),
    "decides which operation it is": (
        "x-http-method-override", "x-http-method", "x-method-override", "x-amz-target",
    ),
}  # fmt: skip
_TAKEN: Final[Mapping[str, str]] = {name: why for why, names in _WHYS.items() for name in names}


def name_problem(name: str, *, removes: bool = False) -> str | None:
    """Why a rule may not change this field, None where it may."""
    low = name.lower()
    if not _TOKEN.fullmatch(low):
        return f"{name!r} is no name of a header"
    if low in _KEYS and not (removes and low == "cookie"):
        return f"{name} is where keys stand, and rules may not touch those; set providers.NAME.credential"
    if low.startswith("x-outrider-"):
        return f"{name} is the sidecar's own"
    if low.startswith("sec-"):
        return f"{name} belongs to the connection"
    if (why := _TAKEN.get(low)) is not None:
        return f"{name} {why}, and rules may not change it"
    return None


def value_problem(name: str, value: str) -> str | None:
    if len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
        return f"{name} needs a value of 1 to {MAX_VALUE_CHARS} visible ASCII characters"
    return None


def combined(changes: Iterable[Mapping[str, str | None]]) -> HeadEdits | None:
    """One for all of them, each on what the one before left; None where there are none. A value of None removes."""
    last: dict[str, str | None] = {}
    for change in changes:
        for name, value in change.items():
            last.pop(name.lower(), None)
            last[name.lower()] = value
    if not last:
        return None
    names = [name.encode("ascii") for name in last]
    lines = [f"{name}: {value}\r\n" for name, value in last.items() if value is not None]
    return HeadEdits(
        drop=http1.mask_of(*(name for name in names if http1.header_id(name))),
        drop_names=frozenset(name for name in names if not http1.header_id(name)),
        lines="".join(lines).encode("ascii"),
    )
