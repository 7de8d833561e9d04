"""What a line of the audit log costs, and its keyed hash: python -m bench.bench_audit

What an exchange costs more with an audit log is a row of `bench_stack`.
"""

import hmac
import os

from bench.cases import Case, run_alone
from outrider_ext.audit import Chain
from outrider_ext.sha256 import Mac

KEY = b"k" * 32
LINE = b'"event":"exchange","provider":"openai","operation":"chat","model":"m","status":200,"us":1234' * 5
TEN = 10


def chained() -> Chain:
    return Chain(KEY, lambda: None)


def add(chain: Chain) -> None:
    chain.add(LINE)
    chain.drop()


class Written:
    """A chain whose lines go nowhere, ten at a time."""

    def __init__(self) -> None:
        self.chain = chained()
        self._fd = os.open(os.devnull, os.O_WRONLY)

    def write(self) -> int:
        for _ in range(TEN):
            self.chain.add(LINE)
        return self.chain.flush(self._fd)

    def close(self) -> None:
        os.close(self._fd)


CASES = (
    Case(
        "HMAC of a line",
        lambda: Mac(KEY),
        lambda mac: mac.of(LINE),
        lambda _, made: made == hmac.digest(KEY, LINE, "sha256"),
    ),
    Case("a line, chained", chained, add, lambda chain, _: chain.seq == 0 and chain.size == 0),
    Case(
        "a line of ten that one write takes",
        Written,
        Written.write,
        lambda written, problem: problem == 0 and written.chain.size == 0 and written.chain.seq % TEN == 0,
        TEN,
        Written.close,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
