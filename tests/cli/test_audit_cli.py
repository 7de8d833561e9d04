"""`outrider audit`, as a person runs it."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.cli.audit import Follower, shown
from outrider.cli.main import main
from telemetry.test_audit import World, written

PLAIN = lambda text, colour: text  # noqa: E731


@pytest.fixture
def world(tmp_path: Path) -> World:
    return written(tmp_path)


def verify(world: World, *words: str) -> int:
    return main(["audit", "verify", *map(str, world.files()), "--key-file", str(world.key_file), *words])


def test_a_whole_log_is_ok(world: World, capsys: Any) -> None:
    assert verify(world, "--checkpoints", str(world.checkpoints)) == 0
    assert capsys.readouterr().out == "OK: 14 lines in 1 file\n"
    assert verify(world) == 0
    assert "a cut end does not show" in capsys.readouterr().out


def test_a_changed_line_is_named_and_the_exit_code_is_1(world: World, capsys: Any) -> None:
    lines = world.path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"number":2', b'"number":7')
    world.path.write_bytes(b"".join(lines))
    assert verify(world) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{world.path}:4: was changed")
    assert said[1] == "outrider: 1 fault in 14 lines in 1 file"


def test_the_configured_log_is_the_default(world: World, capsys: Any, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    audit = {"path": str(tmp_path / "log" / "audit.jsonl"), "key_file": str(world.key_file)}
    config.write_text(json.dumps({"version": 1, "telemetry": {"audit": audit}}))
    assert main(["audit", "verify", "--config", str(config)]) == 0
    assert main(["audit", "tail", "--config", str(config), "-n", "2"]) == 0
    assert "stop" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("words", [["verify"], ["tail"], ["verify", "/nowhere"], ["tail", "/nowhere"]])
def test_what_is_not_there_is_one_sentence(words: list[str], capsys: Any, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("version: 1\n")
    key = tmp_path / "key"
    key.write_text("0" * 64)
    more = ["--key-file", str(key)] if words[0] == "verify" else []
    assert main(["audit", *words, *more, "--config", str(config)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


RECORD = {
    "seq": 7, "prev": "0" * 64, "time": "2026-01-01T10:11:12.000000Z", "event": "exchange",
    "principal": {"id": "alice"},
    "provider": "openai", "operation": "chat", "model": "gpt\x1b[2J", "decision": "allow", "status": 200,
    "outcome": "ok", "us": 12345, "tokens": {"input": 3, "output": 4}, "cost_nusd": 1500, "hash": "0" * 64,
}  # fmt: skip


def test_an_exchange_is_one_line_and_nothing_in_it_is_obeyed() -> None:
    line = shown(json.dumps(RECORD).encode(), {}, PLAIN)
    assert line == (r"2026-01-01 10:11:12  200  alice  openai/chat  gpt\x1b[2J  allow  3+4 tokens  $0.000002  12.3 ms")


@pytest.mark.parametrize(
    ("wanted", "is_shown"),
    [
        ({"principal": "al*"}, True), ({"principal": "bob"}, False), ({"status": "2*"}, True),
        ({"status": "429"}, False),
        ({"provider": "openai", "decision": "deny"}, False), ({"model": "gpt*"}, True), ({"model": ""}, False),
    ],
)  # fmt: skip
def test_filters(wanted: dict[str, str], is_shown: bool) -> None:
    assert (shown(json.dumps(RECORD).encode(), wanted, PLAIN) is not None) == is_shown


@pytest.mark.parametrize("raw", [b"\x1b]0;x\x07", b"[1]", b'{"a":', b"\xff"])
def test_what_is_no_record_is_shown_escaped(raw: bytes) -> None:
    line = shown(raw, {}, PLAIN)
    assert line is not None
    assert line.isprintable()


def test_following_goes_on_in_the_next_file_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    follower = Follower(path)
    assert list(follower.read()) == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    path.rename(tmp_path / "aside")
    with (tmp_path / "aside").open("ab") as file:
        file.write(b"four\n")
    assert list(follower.read()) == [b"two", b"three", b"four"]
    path.write_bytes(b"five\n")
    assert list(follower.read()) == [b"five"]
    follower.close()
