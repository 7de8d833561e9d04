"""Times one call of a compiled module; the cost of the empty lambda around it is taken off."""

import timeit
from collections.abc import Callable
from functools import cache


def nanoseconds(call: Callable[[], object]) -> float:
    """The fastest of five runs of about 50 ms: what is slower is the machine's, not the code's."""
    timer = timeit.Timer(call)
    number = 1
    while (taken_s := timer.timeit(number)) < 0.05:
        number = max(number * 2, int(number * 0.05 / max(taken_s, 1e-6)))
    return min(timer.repeat(5, number)) / number * 1e9


@cache
def empty_ns() -> float:
    return nanoseconds(lambda: None)


def report(what: str, call: Callable[[], object], per_call: int = 1) -> None:
    """Print one line; `per_call` is how many of what is counted one call does."""
    print(f"{what:48} {max(0.0, nanoseconds(call) - empty_ns()) / per_call:10.1f} ns", flush=True)
