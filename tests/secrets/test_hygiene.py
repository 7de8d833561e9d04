"""No core dump, no reading through /proc."""

import os
import subprocess
import sys


def test_a_hardened_process_leaves_no_core_and_is_not_dumpable() -> None:
    script = (
        "import ctypes, resource; from outrider.secrets.hygiene import harden_process; print(harden_process());"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "(0, 0) 0"]


def test_a_forgotten_variable_is_in_no_environment_block() -> None:
    script = (
        "import os, pathlib; from outrider.secrets.hygiene import forget_variables; forget_variables(['K', 'NOT_SET']);"
        "block = pathlib.Path('/proc/self/environ').read_bytes();"
        "print('K' in os.environ, b'planted' in block, b'L=left' in block);"
        "import subprocess, sys; print(subprocess.run(['env'], capture_output=True, text=True).stdout)"
    )
    environ = os.environ | {"K": "planted", "L": "left"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    first, _, inherited = done.stdout.partition("\n")
    assert first == "False False True"
    assert "planted" not in inherited
    assert "L=left" in inherited


def test_a_hard_core_limit_can_be_kept_for_a_child() -> None:
    script = (
        "import resource; from outrider.secrets.hygiene import harden_process;"
        "before = resource.getrlimit(resource.RLIMIT_CORE)[1]; harden_process(keep_hard_limit=True);"
        "print(resource.getrlimit(resource.RLIMIT_CORE) == (0, before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
