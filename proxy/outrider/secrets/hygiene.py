"""What a process does before it reads a secret: no core dump, and not readable through /proc by its own user's others.

Under one uid this is hygiene; a boundary needs another uid.
"""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def harden_process() -> list[str]:
    """PR_SET_DUMPABLE 0 and RLIMIT_CORE 0. Returns what could not be done, a sentence each; raises nothing."""
    failed: list[str] = []
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as exc:
        failed.append(f"core dumps could not be turned off: {exc}")
    if sys.platform != "linux":
        failed.append("PR_SET_DUMPABLE is known on Linux only")
        return failed
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            failed.append(f"PR_SET_DUMPABLE could not be set: errno {ctypes.get_errno()}")
    except (OSError, AttributeError) as exc:
        failed.append(f"PR_SET_DUMPABLE could not be set: {exc}")
    return failed
