"""One JSON line per exchange and per event worth a person's eye, written off the loop.

Rules: lines are gathered and handed to a writer thread, so that a slow terminal or a full pipe never blocks the loop;
what waits has a cap, beyond it lines are dropped and counted, and the count is said; no bodies and no secrets are ever
given to this module; control characters leave escaped (JSON).
Does not know: exchanges.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import orjson

from outrider.errors import StartError
from outrider_ext.lines import LineBuffer

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FLUSH_S = 0.1
MAX_WAITING_BYTES = 8 << 20
_FLUSH_BYTES = 256 << 10  # the writer's turn takes the interpreter away from the loop: few large pieces


class _Loop(Protocol):
    def call_later(self, delay: float, callback: Callable[[], None]) -> Any: ...


class JsonLog:
    """`lines` for the line of an exchange, event(level, name, **fields) for all else; both are cheap.

    target: "stderr", "stdout", "off" or a path. Raises: StartError when the file cannot be opened.
    """

    def __init__(self, target: str | Path, level: str = "info", *, loop: _Loop | None = None) -> None:
        self.lines = LineBuffer(self._wake, _FLUSH_BYTES)
        self._loop = loop
        self._scheduled = False
        self._waiting = 0
        self._lock = threading.Lock()
        self.dropped = 0
        self._fd, self._owns_fd = _open(target)
        self.enabled = self._fd is not None
        self.set_level(level)
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        if self.enabled:
            self._thread = threading.Thread(target=self._write_all, name="outrider-log", daemon=True)
            self._thread.start()

    def set_level(self, level: str) -> None:
        self.level = LEVELS[level]
        self.lines.wants_info = self.enabled and self.level <= LEVELS["info"]

    def bind(self, loop: _Loop) -> None:
        self._loop = loop

    def event(self, level: str, event: str, **fields: object) -> None:
        """One line about something else, with a sentence in `message` where a person should act."""
        if self.enabled and self.level <= LEVELS[level]:
            record = {"time": datetime.now(UTC), "level": level, "event": event, **fields}
            self.lines.add(orjson.dumps(record, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))

    def _wake(self, is_full: bool) -> None:
        """Lines wait: hand them on when they are many, else in a moment."""
        if is_full or self._loop is None:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_later(FLUSH_S, self._flush_timer)

    def _flush_timer(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the writer."""
        count, block = self.lines.count, self.lines.take()
        if not block:
            return
        with self._lock:
            if self._waiting + len(block) > MAX_WAITING_BYTES:
                self.dropped += count
                return
            self._waiting += len(block)
        self._queue.put(block)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, for at most timeout_s."""
        self.flush()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)
            self._thread = None
        if self._owns_fd and self._fd is not None:
            os.close(self._fd)
        self._fd, self.enabled = None, False
        self.lines.wants_info = False

    def _write_all(self) -> None:
        said = 0
        while (block := self._queue.get()) is not None:
            if self.dropped > said:
                lost, said = self.dropped - said, self.dropped
                self._write(
                    orjson.dumps({"time": datetime.now(UTC), "level": "warning", "event": "log_dropped", "lines": lost})
                    + b"\n"
                )
            self._write(block)
            with self._lock:
                self._waiting -= len(block)

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        while view and self._fd is not None:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # someone made our stderr non-blocking
                time.sleep(0.01)
            except OSError:  # a full disk or a closed pipe: the sidecar's work goes on
                self.dropped += block.count(b"\n")
                return


def _open(target: str | Path) -> tuple[int | None, bool]:
    if target == "off":
        return None, False
    if target == "stderr":
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, False
    if target == "stdout":
        return sys.__stdout__.fileno() if sys.__stdout__ is not None else 1, False
    try:
        return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640), True
    except OSError as exc:
        raise StartError(
            f"the log file {target} cannot be opened: {os.strerror(exc.errno or 0).lower()}; set telemetry.log"
        ) from exc
