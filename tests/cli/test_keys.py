"""`outrider keys new`: the key once, and a line that configuration takes as it is."""

import re
from pathlib import Path

import pytest
import yaml

from outrider.cli.main import main
from outrider.config import load
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, is_virtual_key


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
