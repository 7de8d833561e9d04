"""No core dump, no reading through /proc."""

import subprocess
import sys


def test_a_hardened_process_leaves_no_core_and_is_not_dumpable() -> None:
    script = (
        "import ctypes, resource; from outrider.secrets.hygiene import harden_process; print(harden_process());"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "(0, 0) 0"]
