"""What a process does before it reads a secret: no core dump, and not readable through /proc by its own user's others.

Under one uid this is hygiene; a boundary needs another uid.
"""

import os
import resource
import sys
from collections.abc import Iterable

from outrider_ext.process import make_undumpable, overwrite_variable


def harden_process(*, keep_hard_limit: bool = False) -> list[str]:
    """PR_SET_DUMPABLE 0 and RLIMIT_CORE 0. Returns what could not be done, a sentence each; raises nothing.

    keep_hard_limit: a child of ours is to get its own core limit back (a hard limit only ever goes down).
    """
    failed: list[str] = []
    try:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1] if keep_hard_limit else 0
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    except (OSError, ValueError) as exc:
        failed.append(f"core dumps could not be turned off: {exc}")
    if sys.platform != "linux":
        failed.append("PR_SET_DUMPABLE is known on Linux only")
        return failed
    if number := make_undumpable():
        failed.append(f"PR_SET_DUMPABLE could not be set: errno {number}")
    return failed


def forget_variables(names: Iterable[str]) -> None:
    """Take variables out of this process's environment, and overwrite their values where the kernel put them."""
    for name in names:
        overwrite_variable(os.fsencode(name))
        os.environ.pop(name, None)
