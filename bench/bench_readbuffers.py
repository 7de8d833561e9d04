"""What the buffer of a TLS connection costs to get and to give back: python -m bench.bench_readbuffers

One page is written to, as a read does. The calls go through ctypes, which both rows pay for.
"""

import ctypes

from bench.cases import Case, run_alone
from outrider_ext import readbuffers

PAGE = b"x" * 4096
_malloc, _free = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
_malloc.restype, _malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_free.restype, _free.argtypes = None, (ctypes.c_void_p,)


def use(size: int) -> int:
    at: int = _malloc(size)
    ctypes.memmove(at, PAGE, len(PAGE))
    _free(at)
    return at


CASES = (
    Case(
        "a buffer", readbuffers.install, lambda _: use(readbuffers.BUFFER_BYTES), lambda is_there, at: is_there and at
    ),
    Case("malloc's", lambda: None, lambda _: use(readbuffers.BUFFER_BYTES + 1), lambda _, at: at),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
