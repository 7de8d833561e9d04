"""Virtual keys: their shape, their hashes, and how they end."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import StartError
from outrider.govern.virtual_keys import (
    KeyHasher,
    Revocations,
    RevokedFile,
    is_virtual_key,
    key_id,
    keys_in,
    new_key,
)
from outrider_ext.callers import Epoch

LETTERS = (string.ascii_letters + string.digits).encode()
KEY = new_key().encode()


@pytest.fixture(name="hasher")
def fixture_hasher(tmp_path: Path) -> KeyHasher:
    return KeyHasher.open(tmp_path / "hmac", create=True)


def test_a_key_has_the_documented_shape_and_is_like_no_other() -> None:
    made = {new_key() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch("ork_[0-9A-Za-z]{49}", key) and is_virtual_key(key.encode()) for key in made)


@given(at=st.integers(4, len(KEY) - 1), other=st.sampled_from(list(LETTERS)))
def test_one_letter_changed_is_no_key(at: int, other: int) -> None:
    changed = KEY[:at] + bytes((other,)) + KEY[at + 1 :]
    assert is_virtual_key(changed) == (changed == KEY)


@given(before=st.binary(max_size=60), after=st.binary(max_size=60))
def test_a_key_is_found_in_any_text_around_it(before: bytes, after: bytes) -> None:
    assert KEY in keys_in(before + KEY + after)


@given(st.binary(max_size=200))
def test_other_text_holds_none(text: bytes) -> None:
    assert keys_in(text) == []
    assert keys_in(b"ork_" + text) == []


def test_a_piece_of_a_key_is_none() -> None:
    for end in range(len(KEY)):
        assert keys_in(KEY[:end]) == []


def test_the_hash_hangs_on_the_installations_key(tmp_path: Path, hasher: KeyHasher) -> None:
    other = KeyHasher.open(tmp_path / "other", create=True)
    again = KeyHasher.open(tmp_path / "hmac", create=False)
    assert hasher.hash_of(KEY) == again.hash_of(KEY) != other.hash_of(KEY)
    assert len(hasher.hash_of(KEY)) == 32
    assert (tmp_path / "hmac").stat().st_mode & 0o777 == 0o600


def test_a_hashing_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hmac"
    with pytest.raises(StartError, match="no such file"):
        KeyHasher.open(path, create=False)
    path.write_text("a" * 63 + "\n")
    path.chmod(0o600)
    with pytest.raises(StartError, match="64 hex digits"):
        KeyHasher.open(path, create=True)
    path.write_text("a" * 64)
    path.chmod(0o640)
    with pytest.raises(StartError, match="other users") as caught:
        KeyHasher.open(path, create=True)
    assert "aaaa" not in str(caught.value)


def test_a_revocation_names_a_key_by_its_hash_or_the_beginning_of_it(hasher: KeyHasher) -> None:
    epoch = Epoch()
    revocations = Revocations(epoch)
    mac = hasher.hash_of(KEY)
    for name in (mac.hex(), f"hmac-sha256:{mac.hex()}", mac.hex()[:12]):
        assert not revocations.is_revoked(mac)
        before = epoch.n
        revocations.replace("config", [key_id(name)])
        assert revocations.is_revoked(mac)
        assert epoch.n > before
        revocations.replace("config", [])


def test_what_one_source_no_longer_revokes_another_still_does(hasher: KeyHasher) -> None:
    revocations, mac = Revocations(Epoch()), hasher.hash_of(KEY)
    revocations.replace("file", [mac.hex()])
    revocations.revoke(mac.hex())
    revocations.replace("file", [])
    assert revocations.is_revoked(mac)
    revocations.replace("fleet", [])
    assert not revocations.is_revoked(mac)


def test_the_same_revocations_again_move_nothing() -> None:
    epoch = Epoch()
    revocations = Revocations(epoch)
    revocations.replace("file", ["0" * 12])
    before = epoch.n
    revocations.replace("file", ["0" * 12])
    assert epoch.n == before


@pytest.mark.parametrize("text", [KEY.decode(), "0" * 11, "g" * 64, "0" * 65, "", "sha256:" + "0" * 64])
def test_what_names_no_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="must be a key's hash") as caught:
        key_id(text)
    assert not text or text not in str(caught.value)


def test_the_file_of_revocations_is_read_when_it_changes(tmp_path: Path, hasher: KeyHasher) -> None:
    revocations, mac = Revocations(Epoch()), hasher.hash_of(KEY)
    path = tmp_path / "revoked"
    path.write_text("# none yet\n")
    path.chmod(0o600)
    revoked = RevokedFile(path, revocations)
    revoked.check()
    revoked.apply()
    assert revoked.refresh() is None
    assert not revocations.is_revoked(mac)
    path.write_text(f"# none yet\n\n{mac.hex()[:16]}   # left on a train\n")
    assert revoked.refresh() is None
    assert revocations.is_revoked(mac)


@pytest.mark.parametrize("broken", ["not a hash\n", None])
def test_a_broken_file_of_revocations_undoes_none(tmp_path: Path, hasher: KeyHasher, broken: str | None) -> None:
    revocations, mac = Revocations(Epoch()), hasher.hash_of(KEY)
    path = tmp_path / "revoked"
    path.write_text(mac.hex())
    path.chmod(0o600)
    revoked = RevokedFile(path, revocations)
    revoked.check()
    revoked.apply()
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    warning = revoked.refresh()
    assert warning is not None
    assert str(path) in warning
    assert revocations.is_revoked(mac)


def test_a_file_of_revocations_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises(StartError, match="every user may write it"):
        RevokedFile(path, Revocations(Epoch())).check()
