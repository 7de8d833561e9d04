"""`outrider keys`: new, the key once and a line that configuration takes as it is; revoke, at once and everywhere."""

import re
from pathlib import Path

import pytest
import yaml

from outrider.cli.main import main
from outrider.config import load
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, Revocations, RevokedFile, is_virtual_key
from outrider_ext.callers import Epoch
from store.servers import running


def made(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    config = tmp_path / "outrider.yaml"
    config.write_text(
        yaml.safe_dump({"version": 1, "ca": {"dir": str(tmp_path / "ca")}, "principals": [{"id": "ann"}]})
    )
    try:
        code = main(["keys", "new", "--config", str(config), *words])
    except SystemExit as exc:
        code = int(exc.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_key_is_on_standard_output_and_its_line_opens_the_door_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = made(tmp_path, capsys, "--principal", "ann", "--expires", "90d")
    assert code == 0
    key = out.strip()
    assert out == key + "\n"
    assert is_virtual_key(key.encode())
    assert key not in err
    line = re.search(r"- (\{hash: .*\})", err)
    assert line is not None
    path = tmp_path / "with.yaml"
    path.write_text(f"version: 1\nprincipals:\n  - id: ann\n    from:\n      keys:\n        - {line[1]}\n")
    [listed] = load(path, {}).principals[0].claims.keys
    hasher = KeyHasher.open(tmp_path / "ca" / "virtual-keys.hmac", create=False)
    assert listed.hash == HASH_PREFIX + hasher.hash_of(key.encode()).hex()
    assert listed.expires is not None
    assert "the principal ann in" in err


def test_without_an_end_it_has_none_and_a_new_principal_is_said_to_be_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = made(tmp_path, capsys, "--principal", "ben")
    assert code == 0
    assert "expires" not in err
    assert "a new principal with id: ben" in err


@pytest.mark.parametrize("when", ["soon", "2001-01-01", "0d", "", "99999999d", "-1d"])
def test_an_end_that_is_none_or_has_passed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    code, out, err = made(tmp_path, capsys, "--principal", "ann", f"--expires={when}")
    assert code == 2
    assert out == ""
    assert "--expires" in err


def test_every_key_is_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len({made(tmp_path, capsys, "--principal", "ann")[1] for _ in range(20)}) == 20


# -- revoke


WHOLE = ["aa" * 32, "ab" * 32, "cc" * 32]


def revoking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, **sections: object
) -> tuple[int, str, str]:
    config = tmp_path / "outrider.yaml"
    keys = [{"hash": HASH_PREFIX + whole} for whole in WHOLE]
    document = {
        "version": 1,
        "principals": [{"id": "ann", "from": {"keys": keys[:2]}}, {"id": "ben", "from": {"keys": keys[2:]}}],
        **sections,
    }
    config.write_text(yaml.safe_dump(document))
    try:
        code = main(["keys", "revoke", "--config", str(config), *words])
    except SystemExit as exc:
        code = int(exc.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def revoked(tmp_path: Path) -> Path:
    path = tmp_path / "revoked"
    path.write_text("dd" * 32)  # without an end of line
    path.chmod(0o600)
    return path


def read_back(path: Path) -> set[str]:
    revocations = Revocations(Epoch())
    file = RevokedFile(path, revocations)
    file.check()
    file.apply()
    return {whole for whole in (*WHOLE, "dd" * 32) if revocations.is_revoked(bytes.fromhex(whole))}


def test_a_hash_its_beginning_and_all_of_a_principal_are_revoked_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], revoked: Path
) -> None:
    named = {"virtual_keys": {"revoked_file": str(revoked)}}
    code, out, err = revoking(tmp_path, capsys, WHOLE[2][:12], **named)
    assert (code, err) == (0, "")
    assert out == f"revoked cccccccccccc in {revoked}\n"
    assert read_back(revoked) == {WHOLE[2], "dd" * 32}
    code, _, _ = revoking(tmp_path, capsys, "--principal", "ann", **named)
    assert code == 0
    assert read_back(revoked) == {*WHOLE, "dd" * 32}


def test_a_hash_that_no_key_has_is_revoked_all_the_same_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], revoked: Path
) -> None:
    code, _, err = revoking(tmp_path, capsys, "0" * 64, virtual_keys={"revoked_file": str(revoked)})
    assert code == 0
    assert "no key that" in err
    assert "0" * 64 in revoked.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name what is to be revoked"),
        (("ork_" + "a" * 49,), "what names a key must be"),
        (("--principal", "nobody"), "no key of a principal 'nobody'"),
        (("aa" * 6,), "add aaaaaaaaaaaa to virtual_keys.revoked there"),
    ],
)
def test_what_cannot_be_revoked_is_said_and_a_key_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, out, err = revoking(tmp_path, capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "ork_a" not in err


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = revoking(tmp_path, capsys, "aa" * 6, virtual_keys={"revoked_file": str(tmp_path / "no" / "file")})
    assert code == 1
    assert "cannot be written" in err


def test_a_fleet_is_told_and_a_store_that_does_not_answer_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path / "redis") as server:
        code, out, err = revoking(tmp_path, capsys, "aa" * 32, state=f"redis://127.0.0.1:{server.port}")
        assert (code, err) == (0, "")
        assert f"the fleet (redis://127.0.0.1:{server.port})" in out
        (key,) = server.call("KEYS", "*")
        assert server.call("HLEN", key) == 1
    code, _, err = revoking(tmp_path, capsys, "aa" * 32, state="redis://127.0.0.1:1")
    assert code == 1
    assert "nothing was revoked" in err
