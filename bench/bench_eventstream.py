"""What a frame of AWS's event stream costs to read and to write: python -m bench.bench_eventstream"""

from bench.cases import Case, run_alone
from bench.samples import compact
from outrider_ext.eventstream import EventStreamReader, encode

HEADERS = {
    ":event-type": "contentBlockDelta",
    ":content-type": "application/json",
    ":message-type": "event",
}
PAYLOAD = compact({"contentBlockIndex": 0, "delta": {"text": " word"}, "p": "abcdefghijklmnopqrstuvwxyz"})
FRAME = encode(HEADERS, PAYLOAD)
RUN = 100
LARGE = encode(HEADERS, b"x" * 100_000)


def is_read(reader: EventStreamReader, messages: list[object]) -> bool:
    return len(messages) == RUN and all(one.payload == PAYLOAD and one.headers == HEADERS for one in messages)  # type: ignore[attr-defined]


CASES = (
    Case(
        f"read, run of {RUN}, each ({len(FRAME)} B)",
        EventStreamReader,
        lambda reader: reader.receive_data(FRAME * RUN),
        is_read,
        RUN,
    ),
    Case(
        "read, one frame",
        EventStreamReader,
        lambda reader: reader.receive_data(FRAME),
        lambda reader, messages: len(messages) == 1 and messages[0].payload == PAYLOAD,
    ),
    Case(
        f"read, one frame ({len(LARGE):,} B)",
        EventStreamReader,
        lambda reader: reader.receive_data(LARGE),
        lambda reader, messages: len(messages) == 1 and len(messages[0].payload) == 100_000,
    ),
    Case(
        "encode",
        lambda: None,
        lambda _: encode(HEADERS, PAYLOAD),
        lambda _, frame: EventStreamReader().receive_data(frame)[0].payload == PAYLOAD,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
