"""What redaction costs: a scan, a body, an event of a stream: python -m bench.bench_redact

All built-in detectors are on. "Nothing hits" is what most texts are; the figures of streams are per event.
"""

from typing import Any

import orjson

from bench import samples
from bench.cases import Case, run_alone
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.detectors import ROWS
from outrider.govern.redact.events import Events
from outrider.govern.redact.plan import Catalogue, Plans
from outrider.govern.redact.scan import Scanner
from outrider.govern.redaction import Redaction
from outrider.stack.redact import Redacting, SseRedactor, ways_of
from outrider_ext.bodytext import body_text
from outrider_ext.sse import event_data, event_spans

PROSE = (
    b"The quick brown fox jumps over the lazy dog, and asks how often it has to do so before lunch is served. " * 16
)[:1600]
HIT = PROSE[:800] + b" mail ada@example.com " + PROSE[822:]
PLANS = Plans(Catalogue(), b"k" * 16, lambda *labels: None)
MASKS = PLANS.of((Redaction(detectors=("pii", "secrets")),))
EVENT = samples.STREAM[len(samples.STREAM) // 2]
OTHER = b'data: {"choices":[{"index":0,"delta":{"content":" %b"},"n":%d}]}\n\n'


class OneCall:
    strip_usage = False
    error = None


def redactor(first: bytes) -> SseRedactor:
    redacting = Redacting(MASKS, Vault())
    made = SseRedactor(Events(ways_of(redacting)), OneCall(), redacting)  # type: ignore[arg-type]
    made.run(None, first)  # type: ignore[arg-type]
    return made


def is_event_like(event: bytes, out: bytes) -> bool:
    """The same but for the text, of which the last word waits."""
    [(start, end)] = event_spans(out)
    return orjson.loads(event_data(out[start:end])).keys() == orjson.loads(event_data(event)).keys()


def spans_of(subject: Any, text: bytes) -> list[Any]:
    spans: list[Any] = subject.find(text, 0, True)[0]
    return spans


def body_untouched(subject: Any) -> list[int]:
    text = body_text(samples.CHAT)
    assert text is not None
    hits: list[int] = subject.hits(text)
    return hits


CASES = (
    Case("a scan of 1.6 kB, nothing hits", lambda: Scanner(ROWS), lambda s: s.hits(PROSE), lambda s, r: r == []),
    Case("1.6 kB with one address", lambda: Scanner(ROWS), lambda s: spans_of(s, HIT), lambda s, r: len(r) == 1),
    Case("a request's body, nothing hits", lambda: Scanner(ROWS), body_untouched, lambda s, r: r == []),
    Case(
        "a piece of text in a stream",
        lambda: MASKS.answer_stream(Vault())("text"),
        lambda s: s.feed(b" word"),
        lambda s, r: r in (b" ", b"word "),
    ),
    Case(
        "an event like the last",
        lambda: redactor(EVENT),
        lambda s: s.run(None, EVENT),
        lambda s, r: is_event_like(EVENT, r),
    ),
    Case(
        "an event that has to be parsed",
        lambda: redactor(OTHER % (b"one", 1)),
        lambda s: (setattr(s, "_known", []), s.run(None, OTHER % (b"two", 2)))[1],
        lambda s, r: is_event_like(OTHER % (b"two", 2), r),
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
