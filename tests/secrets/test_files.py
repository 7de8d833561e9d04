"""Small files written whole and private."""

import os
from pathlib import Path

import pytest

from outrider.secrets.files import FileTooLargeError, read_capped, readable_by_others, writable_by_others, write_private


def test_a_private_file_is_written_whole_with_mode_0600_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert write_private(path, b"one", replace=True)
    assert write_private(path, b"two", replace=True)
    assert not write_private(path, b"three", replace=False)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file"]
    assert not readable_by_others(path)


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").write_text("")
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "folder", b"x", replace=True)
    assert sorted(os.listdir(tmp_path)) == ["folder"]


def test_a_read_has_a_cap(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_capped(path, 5) == b"12345"
    with pytest.raises(FileTooLargeError):
        read_capped(path, 4)


def test_a_file_of_ours_that_only_we_may_write_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("")
    for mode, why in ((0o600, None), (0o644, None), (0o666, "every user may write it")):
        path.chmod(mode)
        assert writable_by_others(path) == why
    assert writable_by_others(path, uid=os.geteuid() + 1) == (
        "every user may write it" if os.geteuid() == 0 else f"it belongs to uid {os.geteuid()}"
    )
