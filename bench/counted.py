"""python -m bench.counted MODULE perf|callgrind N: the loop that bench.instructions counts; prints JSON.

Rules: for each case a mark, N calls, a mark, 2 N calls, a mark, with N calls before so that memo tables and the
interpreter's specialised code are warm. A mark is a reading of the processor's counter, or, under callgrind, a call of
a C function that nothing else here calls and before which it was told to write down its counts.
Does not know: which case is worth what.

Source of the counter's interface: perf_event_open(2), <linux/perf_event.h>.
"""

import ctypes
import errno
import gc
import json
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bench.build import BenchError
from bench.cases import EMPTY, Case, cases_of, empty, prepared

MARK = "getppid"
_SYSCALL = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _INSTRUCTIONS = 0, 1
_INHERIT = 1 << 1  # threads that are started later count too
_EXCLUDE_KERNEL, _EXCLUDE_HV = 1 << 5, 1 << 6


class Counter:
    """An event of this process, from now on. Raises: OSError where kernel, container or processor has none."""

    def __init__(self, kind: int = _HARDWARE, event: int = _INSTRUCTIONS) -> None:
        number = _SYSCALL.get(platform.machine())
        if number is None:
            raise OSError(errno.ENOSYS, "the number of perf_event_open is not known for this processor")
        # type, size, config, sample_period, sample_type, read_format, flags, and zeros up to the first version's size
        fields = struct.pack("=IIQQQQQ24x", kind, 72, event, 0, 0, 0, _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HV)
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(number, fields, 0, -1, -1, 0)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "this machine offers no such counter")

    def read(self) -> int:
        return int.from_bytes(os.read(self._fd, 8), sys.byteorder)

    def close(self) -> None:
        os.close(self._fd)


def has_counter() -> bool:
    """Whether instructions are counted here: the event exists, and counts."""
    try:
        counter = Counter()
    except OSError:
        return False
    try:
        return counter.read() > 0
    finally:
        counter.close()


def repeat(call: Callable[[Any], object], subject: Any, times: int) -> None:
    for _ in range(times):
        call(subject)


def count(case: Case, times: int, mark: Callable[[], int]) -> dict[str, Any]:
    try:
        with prepared(case) as subject:
            repeat(case.call, subject, times)
            start = mark()
            repeat(case.call, subject, times)
            middle = mark()
            repeat(case.call, subject, 2 * times)
            end = mark()
    except BenchError as exc:
        return {"case": case.name, "error": str(exc)}
    return {"case": case.name, "error": "", "once": middle - start, "twice": end - middle, "per_call": case.per_call}


def main(argv: Sequence[str]) -> int:
    module, by, times = argv[0], argv[1], int(argv[2])
    try:
        counter = Counter() if by == "perf" else None
        cases = (Case(EMPTY, object, empty, lambda subject, result: True), *cases_of(module))
    except (OSError, BenchError) as exc:
        print(exc, file=sys.stderr)
        return 1
    mark = counter.read if counter is not None else getattr(os, MARK)
    gc.disable()
    print(json.dumps([count(case, times, mark) for case in cases]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
