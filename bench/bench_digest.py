"""What it costs to hash a request canonically: python -m bench.bench_digest

The row of SHA-256 alone is what the canonical hash is measured against; each is per request of the size named.
"""

import hashlib
import json
from collections.abc import Callable

from bench.cases import Case, run_alone
from bench.samples import CHAT, MODEL, compact, prose
from outrider_ext.digest import Canon

PARTS = (b"openai", b"chat", MODEL.encode() if isinstance(MODEL, str) else MODEL, b"", b"POST", b"/v1/chat/completions")
LONG = compact({"model": "m", "messages": [{"role": "user", "content": prose(1000)} for _ in range(64)]})
# Quotes, line feeds and letters that are not ASCII, as code and other languages have them.
DENSE = compact({"model": "m", "messages": [{"role": "user", "content": 'if x == "é":\n\treturn "ü"\n' * 300}]})
CANON = Canon()


def same(body: bytes) -> Callable[[object, object], bool]:
    """The hash is that of the same JSON written in another order, with other white space."""
    turned = json.dumps(dict(reversed(json.loads(body).items())), indent=1).encode()
    return lambda _, made: made == CANON.digest(turned, PARTS)


def hashed(name: str, body: bytes) -> tuple[Case, Case]:
    canonical = CANON.canonical(body)
    return (
        Case(f"{name}, {len(body)} B", lambda: body, lambda data: CANON.digest(data, PARTS), same(body)),
        Case(
            f"{name}: SHA-256 alone",
            lambda: canonical,
            lambda data: hashlib.sha256(data).digest(),
            lambda data, made: made == hashlib.sha256(data).digest(),
        ),
    )


CASES = (
    *hashed("a chat", CHAT),
    *hashed("a long chat", LONG),
    *hashed("code and accents", DENSE),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
