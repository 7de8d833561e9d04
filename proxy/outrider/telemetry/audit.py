"""The audit log's file: one chain of lines, written before the answers that they are about have left whole.

Rules
- A line for an exchange is made when it ends, and the last bytes of its answer wait until the line was written
  (`durability: os`) or has reached the disk (`fsync`). One write for all that end in one pass of the loop.
- One chain and one file per worker. A file's first line is a `segment`: which chain, what was before it. A last line
  that a crash cut stays as it is in its file; the next segment says how many bytes it had and what their hash is.
- The key lies outside the log's folder. Checkpoints (how many lines, the last one's hash) go to a second place, so that
  an end that was cut off shows.
- What cannot be written is loud: a line in the ordinary log, a metric, `/readyz`. `deny` refuses new exchanges and
  cuts those whose line was not written; `drop` lets them go and counts. Both end by themselves.
Does not know: exchanges, layers, HTTP.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from outrider.errors import SidecarError, StartError
from outrider.secrets.files import read_capped, reason, write_private
from outrider_ext.audit import Chain, Commit
from outrider_ext.relay import Exchange, Hub

if TYPE_CHECKING:
    from outrider.config.schema import Audit
    from outrider.telemetry.log import JsonLog
    from outrider.telemetry.metrics import Metrics

KEY_FILE = "audit.key"
KEY_BYTES = 32
GENESIS = "0" * 64
RETRY_S = 1.0
FOLD_S = 10.0
FOLDED_KINDS = 1024
MAX_LINE_BYTES = 64 << 20
LINE = re.compile(rb'(\{"seq":([0-9]{1,18}),"prev":"([0-9a-f]{64})","time":"[^"]{27}",.*),"hash":"([0-9a-f]{64})"\}')
_KEY_SHAPE = re.compile(rb"[0-9a-f]{64}\n?")


class AuditUnavailableError(SidecarError):
    """The audit log cannot be written, and config says that then nothing may happen."""

    code, status, should_retry = "audit_unavailable", 503, False


class _Loop(Protocol):
    def call_soon(self, callback: Callable[[], object]) -> Any: ...
    def call_later(self, delay: float, callback: Callable[[], object]) -> Any: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> Any: ...


def worker_path(path: Path, worker: int) -> Path:
    """audit.jsonl of worker 0 is audit-0.jsonl."""
    return path.with_name(f"{path.stem}-{worker}{path.suffix}")


def open_key(path: Path, *, make: bool = True) -> bytes:
    """The chain's key, made (mode 0600) if there is none yet. Raises: StartError."""
    try:
        if make and not path.exists():
            write_private(path, secrets.token_hex(KEY_BYTES).encode("ascii") + b"\n", replace=False)
        raw = read_capped(path, 4096)
    except OSError as exc:
        raise StartError(
            f"the audit key {path} cannot be read or written: {reason(exc)}; set telemetry.audit.key_file"
        ) from exc
    if not _KEY_SHAPE.fullmatch(raw):
        raise StartError(f"{path} is no audit key (64 hexadecimal digits); name another file or restore this one")
    return bytes.fromhex(raw.strip().decode("ascii"))


class AuditLog:
    """One worker's chain.

    start(loop, hub) before the first exchange, tick() about once a second, close() at the end. event(name, **members)
    writes a line about something else than an exchange. `trouble` is a sentence while lines cannot be written, else "".
    now() is the wall clock. Raises: StartError when the file, its key or the checkpoints' file cannot be used.
    """

    def __init__(
        self,
        settings: "Audit",
        key_file: Path,
        metrics: "Metrics",
        log: "JsonLog",
        *,
        worker: int = 0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        assert settings.path is not None
        self.settings = settings
        self.worker = worker
        self.path = worker_path(settings.path, worker)
        self.key_file = key_file
        self.trouble = ""
        self.dropped = self.denied = 0
        self._metrics, self._log, self._now = metrics, log, now
        self._loop: _Loop | None = None
        self._hub: Hub | None = None
        self._retrying = self._resuming = False
        self._commit: Commit | None = None
        self._fd = -1
        self._syncing: list[Exchange] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._folded: dict[tuple[Any, ...], _Folded] = {}
        self._key = open_key(key_file)
        self._checkpoints = _Checkpoints(settings.checkpoint.path)
        try:
            self._open()
        except OSError as exc:
            self._checkpoints.close()
            self._close_fd()
            raise StartError(
                f"the audit log {self.path} cannot be opened: {reason(exc)}; set telemetry.audit.path"
            ) from exc
        except BaseException:
            self._checkpoints.close()
            self._close_fd()
            raise

    # -- the file

    def _open(self) -> None:
        """Go on with the chain that the file holds, or begin one. Raises: OSError, StartError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = _open_locked(self.path)
        found = _Tail.of(self.path)
        self.chain_id, why, more = found.chain_id, "", {}
        if found.size == 0:
            why, self.chain_id = "new", secrets.token_hex(8)
        elif not found.is_whole(self._key):
            why = "unverified"  # another key, or changed behind our back: nothing is built on it
            self.chain_id = secrets.token_hex(8)
        elif found.torn:
            why = "torn"
            more = {"torn_bytes": len(found.torn), "torn_sha256": hashlib.sha256(found.torn).hexdigest()}
        self.chain = Chain(self._key, lambda: None, found.seq, found.head)
        self._checkpointed, self._checkpointed_at = self.chain.seq, self._now()
        self._day = self._now().date()
        self._file_from = found.size
        if why in ("torn", "unverified"):
            more["previous_file"] = self._put_aside(found.first_seq).name
            self._report(f"the end of {more['previous_file']} is {why}; the log goes on in a new file", "audit_torn")
        if why:
            self._segment(why, **more)
            self._raise_first(self.chain.flush(self._fd))

    def _raise_first(self, problem: int) -> None:
        if problem:
            raise OSError(problem, os.strerror(problem))

    def _segment(self, why: str, **more: Any) -> None:
        self.event("segment", chain=self.chain_id, worker=self.worker, reason=why, **more)

    def _put_aside(self, first_seq: int) -> Path:
        """The file gets the number of its first line as part of its name; a new one is begun."""
        aside = self.path.with_name(f"{self.path.stem}.{first_seq:012d}{self.path.suffix}")
        while aside.exists():
            aside = aside.with_name(f"{aside.stem}+{aside.suffix}")
        os.rename(self.path, aside)
        fresh = _open_locked(self.path)
        self._close_fd()
        self._fd = fresh
        self._file_from = -self.chain.written
        return aside

    def _file_bytes(self) -> int:
        return self._file_from + self.chain.written

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- what is written

    def start(self, loop: _Loop, hub: Hub) -> None:
        self._loop, self._hub = loop, hub
        self._commit = Commit(self.chain, hub, loop.call_soon, self._write, self._failed, self._due)
        hub.on_waiting = self._commit.schedule
        self.chain.on_wake(self._commit.schedule)
        self._set_way()
        self._commit.schedule()

    def apply(self, settings: "Audit") -> None:
        """A reload: what is live of the settings."""
        self.settings = settings
        self.chain.denies = bool(self.trouble) and settings.on_audit_error == "deny"
        self._set_way()

    def _set_way(self) -> None:
        """What the compiled way of a write has to know: after everything that changes it."""
        if self._commit is None:
            return
        self._commit.fd = self._fd
        self._commit.is_plain = not self.trouble and self.settings.durability == "os" and self._syncing is None
        self._commit.rotate_at = max(0, self.settings.rotate_bytes - self._file_from)
        self._commit.checkpoint_at = self._checkpointed + self.settings.checkpoint.every_n

    def event(self, name: str, **members: Any) -> None:
        """One line. What is no JSON is written as its str()."""
        self.chain.add(orjson.dumps({"event": name, **members}, default=str, option=orjson.OPT_UTC_Z)[1:-1])

    def _write(self) -> None:
        """As the compiled way does it, while lines cannot be written, or where they have to reach the disk."""
        if self._syncing is not None or self._hub is None:
            return  # when the disk has answered, all that came meanwhile is next
        waiting = self._hub.take_waiting()
        if self.trouble:
            self._refuse(waiting)
        elif problem := self.chain.flush(self._fd) if self.chain.size else 0:
            self._failed(problem, waiting)
        elif self.settings.durability == "fsync":
            self._sync(waiting)
        else:
            self._hub.let_go(waiting)
            self._due()

    def _failed(self, problem: int, waiting: list[Exchange]) -> None:
        self._fail(os.strerror(problem).lower())
        self._refuse(waiting)

    def _due(self) -> None:
        """Between two lines: is the file full, or a checkpoint due?"""
        if self.chain.seq - self._checkpointed >= self.settings.checkpoint.every_n:
            self.checkpoint()
        if self._file_bytes() >= self.settings.rotate_bytes:
            self.rotate("size")

    # -- the disk

    def _sync(self, waiting: list[Exchange]) -> None:
        self._syncing = waiting
        self._set_way()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "outrider-audit")
        loop = self._loop
        assert loop is not None

        def done(future: "Future[None]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._synced, future.exception())

        self._pool.submit(os.fsync, self._fd).add_done_callback(done)

    def _synced(self, exc: BaseException | None) -> None:
        waiting, self._syncing = self._syncing, None
        if self._hub is None or waiting is None:
            return
        if isinstance(exc, OSError):
            self._fail(reason(exc))
            self._refuse(waiting)
            return
        self._hub.let_go(waiting)
        self._due()
        self._set_way()
        if self.chain.size or self._hub.waiting:
            self._write()  # what came meanwhile

    # -- when it cannot be written

    def _fail(self, why: str) -> None:
        denies = self.settings.on_audit_error == "deny"
        then = "new requests are refused" if denies else "exchanges go on unrecorded"
        self.trouble = f"the audit log {self.path} cannot be written ({why}); {then} until it can"
        self.chain.denies = denies
        self._set_way()
        self._report(self.trouble, "audit_failed")
        self._retry_later()

    def _report(self, sentence: str, event: str) -> None:
        self._log.event("error", event, message=sentence)
        if event == "audit_torn":
            self._metrics.count("audit_torn")
        else:
            self._metrics.count("audit_failed")

    def _refuse(self, waiting: list[Exchange]) -> None:
        """Of exchanges whose lines were not written."""
        assert self._hub is not None
        if self.chain.denies:
            self._hub.let_go(waiting, True)
        else:
            self._drop()
            self._hub.let_go(waiting)

    def _drop(self) -> None:
        self.dropped += self.chain.drop() - self._resuming
        self._resuming = False

    def _retry_later(self) -> None:
        if not self._retrying and self._loop is not None:
            self._retrying = True
            self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self._fd < 0 or not self.trouble:
            return
        if not self._resuming:
            self._resuming = True
            self.event("resumed", lines_dropped=self.dropped, exchanges_denied=self.denied)
        problem = self.chain.flush(self._fd)
        if problem:
            if not self.chain.denies:
                self._drop()
            self._retry_later()
            return
        self._resuming = False
        self._log.event("warning", "audit_resumed", lines_dropped=self.dropped, exchanges_denied=self.denied)
        self.dropped = self.denied = 0
        self.trouble, self.chain.denies = "", False
        self._set_way()

    def refuse_new(self) -> None:
        """For an exchange that begins while lines cannot be written. Raises: AuditUnavailableError."""
        self.denied += 1
        raise AuditUnavailableError(f"{self.trouble}; free space or correct telemetry.audit.path")

    # -- refusals, folded

    def fold(self, key: tuple[Any, ...], members: dict[str, Any]) -> bool:
        """Whether this refusal is one more of a kind that has its line: then it is counted, and the count written."""
        found = self._folded.get(key)
        if found is not None:
            found.count += 1
            found.last = self._now()
            return True
        if len(self._folded) >= FOLDED_KINDS:
            self._write_folded(None)
        self._folded[key] = _Folded(members, self._now())
        return False

    def _write_folded(self, older_than: datetime | None) -> None:
        for key, found in list(self._folded.items()):
            if older_than is not None and found.since > older_than:
                continue
            if found.count:
                self.event("refusals", count=found.count, first=found.since, last=found.last, **found.members)
            del self._folded[key]

    # -- time

    def tick(self) -> None:
        """About once a second."""
        now = self._now()
        self._write_folded(datetime.fromtimestamp(now.timestamp() - FOLD_S, UTC))
        if self.trouble or self._syncing is not None:
            return
        if self._was_moved():
            self._reopen()
        if self.settings.rotate_daily and now.date() != self._day:
            self.rotate("day")
        if (now - self._checkpointed_at).total_seconds() >= self.settings.checkpoint.every_s:
            self.checkpoint()

    def _was_moved(self) -> bool:
        try:
            there, ours = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _reopen(self) -> None:
        """Somebody took the file away: the chain goes on in a new one."""
        try:
            fresh = _open_locked(self.path)
        except (OSError, StartError) as exc:
            self._fail(str(exc))
            return
        self._close_fd()
        self._fd = fresh
        self._file_from = -self.chain.written
        self._report(f"{self.path} was taken away; the log goes on in a new file", "audit_moved")
        self._set_way()
        self._segment("moved")

    def rotate(self, why: str) -> None:
        """The file is full, or its day is over: the chain is carried on to the next."""
        if self.trouble or self._syncing is not None:
            return
        if self.chain.size and (problem := self.chain.flush(self._fd)):
            self._fail(os.strerror(problem).lower())
            return
        self._day = self._now().date()
        try:
            aside = self._put_aside(_first_seq(self.path))
        except (OSError, StartError) as exc:
            self._fail(reason(exc) if isinstance(exc, OSError) else str(exc))
            return
        self._set_way()
        self._segment(why, previous_file=aside.name)

    def checkpoint(self) -> None:
        """How many lines there are and what the last one's hash is, for whoever keeps that elsewhere."""
        if self.chain.size or self.chain.seq == self._checkpointed:
            return
        self._checkpointed, self._checkpointed_at = self.chain.seq, self._now()
        self._set_way()
        if not self._checkpoints.is_on:
            return
        text = checkpoint_text(self.chain_id, self.chain.seq, self.chain.head)
        line = {
            "time": self._now(), "event": "audit_checkpoint", "chain": self.chain_id, "worker": self.worker,
            "count": self.chain.seq, "head": self.chain.head, "mac": self.chain.sign(text),
        }  # fmt: skip
        try:
            self._checkpoints.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        except OSError as exc:
            self._report(f"a checkpoint of the audit log cannot be written: {reason(exc)}", "audit_checkpoint_failed")

    def close(self, **members: Any) -> None:
        """The last line, the last checkpoint; what still waits is let go. More calls do nothing."""
        if self._fd < 0:
            return
        self._write_folded(None)
        self.event("stop", **members)
        if self._commit is not None:
            self._commit.is_plain = False  # one that is scheduled finds nothing to do
        if self._pool is not None:
            self._pool.shutdown()
        problem = self.chain.flush(self._fd)
        if not problem and self.settings.durability == "fsync":
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
        if self._hub is not None:
            waiting = (self._syncing or []) + self._hub.take_waiting()
            self._syncing = None
            self._hub.let_go(waiting, bool(problem) and self.chain.denies)
            self._hub.on_waiting = None
            self.chain.on_wake(lambda: None)
        if problem:
            self._report(f"the end of the audit log {self.path} was not written", "audit_failed")
        else:
            self.checkpoint()
        self._checkpoints.close()
        self._close_fd()
        self._loop = self._hub = self._commit = None


class _Folded:
    __slots__ = ("count", "last", "members", "since")

    def __init__(self, members: dict[str, Any], since: datetime) -> None:
        self.members, self.since, self.last, self.count = members, since, since, 0


def checkpoint_text(chain_id: str, count: int, head: str) -> bytes:
    """What a checkpoint's keyed hash is over."""
    return f"outrider audit checkpoint 1 {chain_id} {count} {head}".encode("ascii")


class _Checkpoints:
    """The second place: a file, standard error, or none."""

    def __init__(self, target: str | Path | None) -> None:
        self._fd, self._owns = -1, False
        self.is_on = target is not None
        if target == "stderr":
            self._fd = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        elif target is not None:
            self._owns = True
            try:
                self._fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            except OSError as exc:
                raise StartError(
                    f"the file of checkpoints {target} cannot be opened: {reason(exc)}; "
                    "set telemetry.audit.checkpoint.path"
                ) from exc

    def write(self, line: bytes) -> None:
        os.write(self._fd, line)

    def close(self) -> None:
        if self._owns and self._fd >= 0:
            os.close(self._fd)
        self._fd, self.is_on = -1, False


class _Tail:
    """What a file says of its chain: its first line and its last whole one, and what stands behind that."""

    def __init__(self, size: int = 0, chain_id: str = "") -> None:
        self.size = size
        self.chain_id = chain_id
        self.first_seq, self.seq, self.head = 0, 0, GENESIS
        self.torn = b""
        self._last: bytes | None = None

    @classmethod
    def of(cls, path: Path) -> "_Tail":
        found = cls(path.stat().st_size)
        if found.size == 0:
            return found
        with path.open("rb") as file:
            first = LINE.match(file.readline(MAX_LINE_BYTES))
            if first is not None:
                found.first_seq = int(first[2])
                with contextlib.suppress(ValueError):
                    found.chain_id = str(orjson.loads(first[0]).get("chain", ""))
            found._last, found.torn = _last_lines(file, found.size)
        return found

    def is_whole(self, key: bytes) -> bool:
        """Whether the last whole line is one of this key's; sets seq and head."""
        found = LINE.fullmatch(self._last or b"")
        if found is None or not self.chain_id:
            return False
        if Chain(key, lambda: None).sign(found[1]) != found[4].decode("ascii"):
            return False
        self.seq, self.head = int(found[2]), found[4].decode("ascii")
        return True


def _last_lines(file: Any, size: int) -> tuple[bytes | None, bytes]:
    """(the last whole line without its end, what stands behind it)."""
    span = 1 << 16
    while True:
        file.seek(max(0, size - span))
        data = file.read(span)
        *before, torn = data.split(b"\n")
        if len(before) > 1 or span >= size:
            return (before[-1] if before else None), torn
        span *= 4


def _first_seq(path: Path) -> int:
    return _Tail.of(path).first_seq


def _open_locked(path: Path) -> int:
    """Open for appending, for this process alone. Raises: OSError, StartError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StartError(f"another outrider writes the audit log {path}; stop it or set telemetry.audit.path") from None
    return fd
