"""The log: one JSON line each, written off the loop; a full pipe or a full disk stops nothing but the log."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.errors import StartError
from outrider.telemetry import log as log_module
from outrider.telemetry.log import JsonLog


class Loop:
    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def fire(self) -> None:
        callbacks, self.later = self.later, []
        for callback in callbacks:
            callback()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_and_lines_are_written_in_order_as_json(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(path)
    log.event("info", "started", port=8484, path=tmp_path)
    log.lines.add(b'{"event":"exchange"}\n')
    log.close()
    first, second = lines(path)
    assert (first["event"], first["level"], first["port"], first["path"]) == ("started", "info", 8484, str(tmp_path))
    assert str(first["time"]).endswith("Z")
    assert second == {"event": "exchange"}
    assert path.stat().st_mode & 0o777 == 0o640


def test_control_characters_leave_escaped(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log")
    log.event("info", "x", message="a\nb\x1b[31m")
    log.close()
    assert b"\x1b" not in (tmp_path / "log").read_bytes()
    assert len(lines(tmp_path / "log")) == 1


def test_levels_below_the_set_one_are_not_written(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log", "warning")
    log.event("info", "no")
    log.event("error", "yes")
    log.set_level("debug")
    log.event("debug", "now")
    log.close()
    assert [line["event"] for line in lines(tmp_path / "log")] == ["yes", "now"]


def test_lines_wait_for_one_timer_and_leave_together(tmp_path: Path) -> None:
    loop = Loop()
    log = JsonLog(tmp_path / "log", loop=loop)
    for _ in range(3):
        log.lines.add(b"{}\n")
    assert len(loop.later) == 1
    loop.fire()
    log.lines.add(b"{}\n")
    assert len(loop.later) == 1
    log.close()
    assert len(lines(tmp_path / "log")) == 4


def test_off_writes_nothing_and_needs_no_thread() -> None:
    log = JsonLog("off")
    log.event("error", "x")
    assert not log.enabled
    log.close()


def test_a_full_pipe_never_blocks_who_logs_and_the_loss_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING_BYTES", 100_000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLog(fifo)
    line = b'{"x":"%b"}\n' % (b"y" * 1000)
    began = time.monotonic()
    for _ in range(2000):
        log.lines.add(line)
    assert time.monotonic() - began < 1.0
    assert log.dropped > 1500
    read = b""
    os.set_blocking(reader, True)
    while read.count(b"\n") < 2000 - log.dropped:
        read += os.read(reader, 1 << 16)
    log.event("info", "after")
    while b'"after"' not in read:
        read += os.read(reader, 1 << 16)
    log.close()
    os.close(reader)
    events = [json.loads(text) for text in read.splitlines()]
    assert sum(event["lines"] for event in events if event.get("event") == "log_dropped") == log.dropped


def test_a_closed_pipe_stops_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLog(fifo)
    os.close(reader)
    log.lines.add(b"{}\n")
    log.close()
    assert log.dropped == 1


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"the log file .*/no/log cannot be opened: no such file or directory"):
        JsonLog(tmp_path / "no" / "log")
