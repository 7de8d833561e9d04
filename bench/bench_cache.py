"""A remembered answer through the whole product, without the kernel: python -m bench.bench_cache

Everything on, as in `bench_stack`. The question is asked once when a case is set up, and the provider never again. What
a cache costs a call that it cannot answer is the difference to `bench_stack`'s first case: it asks and keeps (a miss),
or sees that it need not ask (a bypass).
"""

import random
from typing import Any

from bench import samples
from bench.bench_stack import EVERYTHING, OURS, went
from bench.cases import Case, run_alone
from bench.rig import Stack
from outrider_ext.nearest import nearest, unit

_QUESTION = samples.CHAT.replace(b'"temperature":0.2', b'"temperature":0')
_STREAMED = samples.STREAMED.replace(b'"temperature":0.2', b'"temperature":0')
_CACHE = {"cache": {"mode": "exact"}}
_AUDIT = {"telemetry": {"log": "/dev/null", "audit": {"path": "/nowhere/audit.jsonl"}}}
_END = samples.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
_EVENTS = (*samples.STREAM[:-2], _END, *samples.STREAM[-2:])
_WIRE = samples.STREAM_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in _EVENTS) + b"0\r\n\r\n"


def hit(name: str, body: bytes, reads: tuple[bytes, ...], payload: bytes, **more: Any) -> Case:
    def setup() -> Stack:
        stack = Stack({**EVERYTHING, **_CACHE, **more}, (samples.request(body),), reads)
        stack.run()
        return stack

    def claim(stack: Stack, result: object) -> bool:
        told = stack.to_client
        return (
            stack.is_kept
            and not stack.to_provider
            and told.startswith(b"HTTP/1.1 200 OK\r\n")
            and b"\r\nx-outrider-cache: hit\r\n" in told
            and samples.payload_of(told) == payload
        )

    return Case(name, setup, Stack.run, claim, 1, Stack.close)


def asked(name: str, body: bytes, lines: bytes = b"") -> Case:
    reads = (samples.request(body, auth=samples.ALLOWED + lines),)
    sections = {**EVERYTHING, **_CACHE}
    claim = went(OURS, samples.ANSWER, body)
    return Case(
        name, lambda: Stack(sections, reads, (samples.answer(samples.ANSWER),)), Stack.run, claim, 1, Stack.close
    )


def compared(entries: int) -> Case:
    """One question with so many others, by vectors of 1,536 numbers."""
    chance = random.Random(1)
    rows = [unit([chance.gauss(0, 1) for _ in range(1536)]) for _ in range(16)]
    query = rows[3]
    assert query is not None
    held = [rows[at % 16] if at % 16 != 3 else rows[0] for at in range(entries - 1)] + [query]
    # Each row has bytes of its own, as in a process that remembers so many.
    held = [bytes(bytearray(row)) for row in held if row is not None]

    def claim(subject: object, result: object) -> bool:
        return isinstance(result, tuple) and result[0] == entries - 1 and abs(result[1] - 1) < 1e-5

    return Case(f"the nearest of {entries} vectors", lambda: held, lambda rows: nearest(query, rows), claim, 1)


CASES = (
    compared(1000),
    hit("a hit", _QUESTION, (samples.answer(samples.ANSWER),), samples.ANSWER),
    hit("a hit, with an audit log", _QUESTION, (samples.answer(samples.ANSWER),), samples.ANSWER, **_AUDIT),
    hit("a hit, a stream of 201 events", _STREAMED, (_WIRE,), b"".join(_EVENTS)),
    asked("a miss", _QUESTION, b"cache-control: no-cache\r\n"),
    asked("a bypass", samples.CHAT),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
