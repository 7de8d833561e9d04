"""What must hold for any installation. `make test` runs this file against the wheel, from another folder.

Knows nothing of the source tree and needs nothing but pytest.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import outrider
import outrider_ext

FROM_WHEEL = os.environ.get("OUTRIDER_INSTALLED") == "1"
EXTENSIONS = sorted(module.name for module in pkgutil.iter_modules(outrider_ext.__path__))


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False, cwd="/", timeout=120)


@pytest.mark.skipif(not FROM_WHEEL, reason="The source tree is on the path here, and is meant to be.")
def test_the_wheel_is_what_is_tested() -> None:
    for package in (outrider, outrider_ext):
        assert "site-packages" in str(package.__file__)


def test_the_top_level_names_are_ours_alone() -> None:
    # `proxy` and `ext` are source roots; as packages they would overwrite another distribution's files.
    for name in importlib.metadata.files("outrider") or ():
        assert name.parts[0] not in {"proxy", "ext", "tests", "bench"}


def test_extensions_exist() -> None:
    assert EXTENSIONS


@pytest.mark.parametrize("name", EXTENSIONS)
def test_every_extension_is_compiled(name: str) -> None:
    spec = importlib.util.find_spec(f"outrider_ext.{name}")
    assert spec is not None
    assert str(spec.origin).endswith(".so")


def test_nothing_needs_cython_at_run_time() -> None:
    names = [f"outrider_ext.{name}" for name in EXTENSIONS]
    code = (
        "import sys, importlib\n"
        "sys.modules['Cython'] = sys.modules['cython'] = None\n"  # an import of either now raises
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_version_command_names_the_installed_version() -> None:
    done = run("-m", "outrider", "version")
    assert done.returncode == 0, done.stderr
    assert importlib.metadata.version("outrider") in done.stdout


def test_the_command_is_installed_beside_the_interpreter() -> None:
    command = Path(sys.executable).parent / "outrider"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False, cwd="/", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


def test_data_files_are_installed() -> None:
    assert (Path(str(outrider.__file__)).parent / "py.typed").is_file()
    assert (Path(str(outrider_ext.__file__)).parent / "py.typed").is_file()


def test_the_policy_packs_are_installed() -> None:
    done = run("-m", "outrider", "policy", "test", "baseline")
    assert done.returncode == 0, done.stderr
    assert "baseline" in done.stdout
