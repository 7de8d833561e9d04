"""What the relay costs between two transports that do nothing: python -m bench.bench_relay

Its owner does nothing either: `bench_stack` has the same exchanges with the whole product's. A stream's figures are per
event, those of its head and end included.
"""

from typing import Any

from bench import samples
from bench.cases import Case, run_alone
from bench.rig import Relay

PIECE = 65536


def case(
    name: str, body: bytes, answer: tuple[bytes, ...], payload: bytes, *, cut: int = 0, per_call: int = 1, **how: Any
) -> Case:
    """One exchange. The request is read at once, or in pieces of `cut` bytes after its head."""
    message = samples.request(body)
    head = message[: len(message) - len(body)]
    reads = (head, *pieces(body, cut)) if cut else (message,)

    def claim(relay: Relay, result: object) -> bool:
        asked = relay.to_provider
        return (
            relay.is_kept
            and asked.startswith(b"POST /local/v1/chat/completions HTTP/1.1\r\n")
            and b"\r\nhost: llm.bench\r\n" in asked
            and samples.OWN_HOST not in asked
            and asked.endswith(b"\r\n\r\n" + body)
            and samples.payload_of(relay.to_client) == payload
        )

    return Case(name, lambda: Relay(reads, answer, **how), Relay.run, claim, per_call)


def pieces(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def halves(reads: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Each read as two, so that every event is cut."""
    return tuple(half for read in reads for half in (read[: len(read) // 2], read[len(read) // 2 :]))


def stream(name: str, reads: tuple[bytes, ...], **how: Any) -> Case:
    return case(name, samples.STREAMED, reads, b"".join(samples.STREAM), per_call=samples.EVENTS, **how)


PLAIN = (samples.answer(samples.ANSWER),)
LARGE = samples.prose(1_000_000).encode()
PROMPT = samples.chat(100_000)

CASES = (
    case("one exchange", samples.CHAT, PLAIN, samples.ANSWER),
    case("one exchange, its body held first", samples.CHAT, PLAIN, samples.ANSWER, hold=True),
    case(
        "one exchange, its answer searched for the key",
        samples.CHAT,
        PLAIN,
        samples.ANSWER,
        canary=samples.PROVIDER_KEY,
    ),
    case("one exchange, head and body read apart", samples.CHAT, PLAIN, samples.ANSWER, cut=PIECE),
    case("one exchange, a prompt of 100 kB", PROMPT, PLAIN, samples.ANSWER, cut=PIECE),
    case("one exchange, an answer of 1 MB", samples.CHAT, pieces(samples.answer(LARGE), PIECE), LARGE),
    stream("an event of 200, a read each", samples.streamed()),
    stream("an event of 200, 20 a read", samples.streamed(20)),
    stream("an event of 200, each cut in two", halves(samples.streamed())),
    stream("an event of 200, a read each, searched for the key", samples.streamed(), canary=samples.PROVIDER_KEY),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
