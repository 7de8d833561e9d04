"""The placeholder: one per installation, shaped like a key, known again in any auth slot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.errors import StartError
from outrider.secrets.placeholder import Placeholder


@pytest.fixture
def placeholder(tmp_path: Path) -> Placeholder:
    return Placeholder.open(tmp_path / "ca")


def test_it_is_key_shaped_random_and_private(tmp_path: Path, placeholder: Placeholder) -> None:
    assert placeholder.value.startswith("sk-outrider-")
    assert len(placeholder.value) == 52
    assert placeholder.value.isascii()
    assert (tmp_path / "ca" / "placeholder").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "ca") == ["placeholder"]
    assert Placeholder.open(tmp_path / "other").value != placeholder.value


def test_a_restart_finds_the_same_one(tmp_path: Path, placeholder: Placeholder) -> None:
    again = Placeholder.open(tmp_path / "ca")
    assert again.value == placeholder.value
    assert again.aws_access_key_id == placeholder.aws_access_key_id
    assert again.aws_secret_access_key == placeholder.aws_secret_access_key


def test_the_aws_pair_has_the_lengths_that_sdks_expect(placeholder: Placeholder) -> None:
    assert len(placeholder.aws_access_key_id) == 20
    assert placeholder.aws_access_key_id.startswith("AKIA")
    assert placeholder.aws_access_key_id.isalnum()
    assert len(placeholder.aws_secret_access_key) == 40
    assert placeholder.is_access_key(placeholder.aws_access_key_id.encode())
    assert not placeholder.is_access_key(b"AKIDEXAMPLE0000000AB")


def test_it_is_known_bare_and_after_a_schemes_word(placeholder: Placeholder) -> None:
    value = placeholder.value.encode()
    for form in (
        value,
        b"Bearer " + value,
        b"bearer  " + value,
        b"Token " + value,
        b"Key " + value,
        b" " + value + b"\t",
    ):
        assert placeholder.is_in(form)
    for form in (
        b"",
        b"Bearer",
        b"Bearer ",
        value[:-1],
        value + b"x",
        b"Basic " + value,
        b"sk-other",
        b"Bearer x" + value,
    ):
        assert not placeholder.is_in(form)


def test_it_is_seen_anywhere_as_a_canary(placeholder: Placeholder) -> None:
    assert placeholder.occurs_in(b'{"key": "' + placeholder.value.encode() + b'"}')
    assert placeholder.occurs_in(b"Credential=" + placeholder.aws_access_key_id.encode() + b"/2026")
    assert not placeholder.occurs_in(b"sk-outrider-")


def test_its_repr_does_not_show_it(placeholder: Placeholder) -> None:
    assert repr(placeholder) == str(placeholder) == "Placeholder('****')"


def test_processes_that_start_at_once_end_with_one(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from outrider.secrets.placeholder import Placeholder;"
        "sys.stdin.read(1); print(Placeholder.open(Path(sys.argv[1])).value)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "ca")]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    values = {process.communicate("x")[0].strip() for process in running}
    assert len(values) == 1
    assert os.listdir(tmp_path / "ca") == ["placeholder"]


@pytest.mark.parametrize("content", [b"", b"sk-outrider-short", b"x" * 5000, b"sk-outrider-" + b"\xff" * 40])
def test_a_file_that_is_no_placeholder_gets_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "placeholder").write_bytes(content)
    with pytest.raises(StartError, match="placeholder") as failed:
        Placeholder.open(tmp_path)
    assert "\n" not in str(failed.value)
    assert failed.value.exit_code == 1


def test_a_folder_that_cannot_be_made_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot be read or written: not a directory; give this user the folder"):
        Placeholder.open(tmp_path / "file" / "ca")
