"""The command line itself: its commands, its help, and what wrong words get."""

import importlib
from typing import Any

import pytest

from outrider import __version__
from outrider.cli.main import COMMANDS, main


def leave(capsys: Any, *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as exc:
        code = int(str(exc.code or 0))
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example_that_begins_with_it(name: str, capsys: Any) -> None:
    module = importlib.import_module(f"outrider.cli.{COMMANDS[name][0]}")
    code, out, err = leave(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert f"outrider {name}" in module.EXAMPLE
    assert f"example: {module.EXAMPLE}" in out


ACTIONS = [("ca", "show"), ("ca", "bundle"), ("ca", "import"), ("ca", "env"), ("audit", "verify"), ("audit", "tail")]
ACTIONS += [
    ("cache", "invalidate"),
    ("policy", "test"),
    ("policy", "explain"),
    ("policy", "schema"),
    ("keys", "new"),
    ("keys", "revoke"),
]


@pytest.mark.parametrize("words", ACTIONS, ids=" ".join)
def test_every_actions_help_has_an_example_that_begins_with_it(words: tuple[str, str], capsys: Any) -> None:
    code, out, _ = leave(capsys, *words, "--help")
    assert code == 0
    assert f"example: outrider {' '.join(words)} " in " ".join(out.split()) + " "


@pytest.mark.parametrize("words", [*ACTIONS, *((name,) for name in COMMANDS if name != "exec")], ids=" ".join)
def test_an_option_is_written_in_full(words: tuple[str, ...], capsys: Any) -> None:
    assert leave(capsys, *words, "--hel")[0] == 2


def test_help_lists_every_command(capsys: Any) -> None:
    code, out, _ = leave(capsys, "--help")
    assert code == 0
    assert all(f"\n    {name} " in out for name in COMMANDS)


def test_without_a_command_the_help_is_an_error(capsys: Any) -> None:
    code, out, err = leave(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: outrider")


def test_the_version_is_one_line(capsys: Any) -> None:
    assert leave(capsys, "--version") == (0, f"outrider {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exce"], "there is no command 'exce'; did you mean `outrider exec`?"),
        (["zzz"], "there is no command 'zzz'; `outrider --help` lists them"),
        (["--quiet"], "the following arguments are required: COMMAND; see `outrider --help`"),
        (["run", "--quite"], "unrecognized arguments: --quite; see `outrider --help`"),
        (["mock", "--port", "x"], "'x' is not a whole number from 0 to 65535; see `outrider mock --help`"),
    ],
)
def test_wrong_words_get_one_sentence(words: list[str], says: str, capsys: Any) -> None:
    code, out, err = leave(capsys, *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("outrider: ")
    assert says in err


def test_what_no_command_foresaw_of_the_machine_is_a_sentence(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> int:
        raise OSError(28, "No space left on device", "/var/file")

    monkeypatch.setattr("outrider.cli.version.run", full)
    code, _, err = leave(capsys, "version")
    assert (code, err) == (1, "outrider: /var/file: no space left on device; correct that and run it again\n")
