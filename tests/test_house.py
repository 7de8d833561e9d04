"""The house itself: what its files may not say, and what its scripts do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Written in halves, so that this file passes its own test.
REGISTRY_HOSTS = tuple(
    a + b
    for a, b in (
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("registry.npm", "js.org"),
        ("crates", ".io"),
        ("proxy.golang", ".org"),
        ("deb.debian", ".org"),
        ("repo1.maven", ".org"),
        ("rubygems", ".org"),
    )
)
MACHINE_PATHS = tuple(a + b for a, b in (("/ro", "ot/"), ("/wo", "rk/"), ("/opt/py", "pi"), ("/opt/whe", "els")))


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("The files of the project are listed by git, and this is not a git checkout.")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    names = {name.decode() for name in listed.stdout.split(b"\0") if name}
    return [path for name in sorted(names) if (path := ROOT / name).is_file()]


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        raw = path.read_bytes()
        if b"\0" in raw:
            continue
        text = raw.decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*REGISTRY_HOSTS, *MACHINE_PATHS) if word in text]
    assert not found, "\n".join(found)


def run_find_python(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    base = {"HOME": str(tmp_path / "home"), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "find-python")], env=base | env, capture_output=True, text=True, check=False
    )


def fake_python(path: Path, code: int) -> Path:
    """A stand-in whose every run exits with `code`: 0 works, 3 too old, 4 without headers, 127 a dead shim."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_python_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    asked = fake_python(tmp_path / "asked", 0)
    fake_python(tmp_path / "bin" / "python3.14", 0)
    assert run_find_python(tmp_path, PYTHON=str(asked)).stdout.strip() == str(asked)


def test_a_dead_shim_is_passed_over_for_a_working_python(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin" / "python3.14", 127)
    works = fake_python(tmp_path / "bin" / "python3.13", 0)
    assert run_find_python(tmp_path).stdout.strip() == str(works)


def test_a_version_managers_folder_is_searched_newest_first(tmp_path: Path) -> None:
    path = f"{tmp_path / 'bin'}"  # nothing else: this machine's own Pythons must not be found
    (tmp_path / "bin").mkdir()
    for tool in ("ls", "sort"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "/bin/false")
    versions = tmp_path / "home" / ".pyenv" / "versions"
    fake_python(versions / "3.9.18" / "bin" / "python3", 3)
    fake_python(versions / "3.12.9" / "bin" / "python3", 0)
    newest = fake_python(versions / "3.12.10" / "bin" / "python3", 0)
    assert run_find_python(tmp_path, PATH=path).stdout.strip() == str(newest)


@pytest.mark.parametrize(("code", "word"), [(3, "install one"), (4, "Python.h"), (127, "install one")])
def test_without_a_working_python_one_sentence_says_what_to_install(tmp_path: Path, code: int, word: str) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("ls", "sort"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "/bin/false")
    fake_python(tmp_path / "bin" / "python3.12", code)
    if any(Path("/opt/python").glob("*/bin/python3")):
        pytest.skip("This machine keeps Pythons in /opt/python, which find-python always searches.")
    done = run_find_python(tmp_path, PATH=str(tmp_path / "bin"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr


@pytest.mark.parametrize("name", [".ci/run", "tools/find-python", "tools/debian-packages"])
def test_scripts_can_be_run_and_parse(name: str) -> None:
    path = ROOT / name
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0].removeprefix("#!").split()[-1]
    subprocess.run([shell, "-n", str(path)], check=True)
