"""What a waiting log line costs: python -m bench.bench_lines

How an exchange's line is written in place is part of `bench_stack` (everything on, against no log line).
"""

from bench.cases import Case, run_alone
from outrider_ext.lines import LineBuffer

LINE = b"x" * 449 + b"\n"


class Gatherer:
    """Takes everything whenever enough waits, as the log does."""

    def __init__(self) -> None:
        self.taken = 0
        self.buffer = LineBuffer(self._wake, 64 << 10)

    def _wake(self, is_full: bool) -> None:
        if is_full:
            self.taken += len(self.buffer.take())

    def add(self) -> None:
        self.buffer.add(LINE)


CASES = (
    Case(
        "add, and its share of a take",
        Gatherer,
        Gatherer.add,
        lambda gatherer, result: (gatherer.taken + gatherer.buffer.size) % len(LINE) == 0,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
