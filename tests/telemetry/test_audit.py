"""The audit log's file: the chain, what a tampered copy betrays, rotation, crashes, and disks that are full."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.config.schema import Audit, Checkpoint
from outrider.errors import StartError
from outrider.telemetry.audit import AuditLog, AuditUnavailableError, open_key, worker_path
from outrider.telemetry.audit_check import Report, verify
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext.relay import Hub, Owner


class Loop:
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self.later.append((delay, callback))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        self.soon.append(lambda: callback(*args))

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def wait(self) -> None:
        """The timers' time has come."""
        later, self.later = self.later, []
        for _, callback in later:
            callback()


class World:
    """A folder with a log, its key elsewhere and its checkpoints in a third place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.metrics = Metrics()
        self.checkpoints = folder / "elsewhere.jsonl"
        self.logs: list[AuditLog] = []

    def open(self, **more: Any) -> AuditLog:
        more.setdefault("checkpoint", Checkpoint(path=self.checkpoints, every_n=1000))
        more.setdefault("path", self.folder / "log" / "audit.jsonl")
        hub = Hub(Owner(), None)  # type: ignore[arg-type]
        log = AuditLog(Audit(**more), self.key_file, self.metrics, JsonLog("off"), now=lambda: self.now)
        self.logs.append(log)
        log.start(self.loop, hub)
        self.loop.turn()
        return log

    @property
    def key_file(self) -> Path:
        return self.folder / "keys" / "audit.key"

    @property
    def path(self) -> Path:
        return self.folder / "log" / "audit-0.jsonl"

    def files(self) -> list[Path]:
        return sorted((self.folder / "log").glob("audit-0*.jsonl"))

    def verify(self, *, checkpoints: bool = True) -> Report:
        return verify(self.files(), open_key(self.key_file), [self.checkpoints] if checkpoints else [])

    def records(self) -> list[dict[str, Any]]:
        lines = b"".join(path.read_bytes() for path in self.files()).splitlines()
        return sorted((json.loads(line) for line in lines), key=lambda record: record["seq"])

    def events(self) -> list[str]:
        return [record["event"] for record in self.records()]

    def crash(self) -> None:
        """The process is gone: what was written is all there is."""
        for log in self.logs:
            log._close_fd()
            log._checkpoints.close()
        self.logs.clear()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    for log in one.logs:
        log.close()


def written(folder: Path, count: int = 12) -> World:
    """A log of some records, closed."""
    world = World(folder)
    log = world.open()
    for number in range(count):
        log.event("exchange", number=number, text="a b\n\x1b")
        world.loop.turn()
    log.close()
    return world


# -- the chain


def test_lines_are_chained_and_whole(tmp_path: Path) -> None:
    world = written(tmp_path)
    records = world.records()
    assert [record["seq"] for record in records] == list(range(1, 15))
    assert all(one["hash"] == after["prev"] for one, after in pairwise(records))
    assert world.verify().is_whole
    assert world.verify().notes == []


def test_the_key_is_made_private_and_outside_the_log(tmp_path: Path) -> None:
    world = written(tmp_path)
    assert world.key_file.stat().st_mode & 0o777 == 0o600
    assert world.path.stat().st_mode & 0o777 == 0o640
    assert open_key(world.key_file).hex().encode() not in world.path.read_bytes()


def test_another_key_fits_no_line(tmp_path: Path) -> None:
    world = written(tmp_path)
    report = verify(world.files(), b"x" * 32)
    assert len(report.problems) == report.lines


def test_the_chain_goes_on_over_restarts(world: World) -> None:
    for _ in range(3):
        world.open().event("exchange")
        world.logs.pop().close()
    assert world.verify().is_whole
    assert world.events() == ["segment", *["exchange", "stop"] * 3]


def test_two_processes_do_not_write_one_file(world: World) -> None:
    world.open()
    with pytest.raises(StartError, match="another outrider"):
        world.open()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> World:
    return written(tmp_path_factory.mktemp("original"))


TAMPERED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)


def judged(world: World, data: bytes) -> Report:
    """A tampered copy, in a folder of its own."""
    copy = world.folder / "copy.jsonl"
    copy.write_bytes(data)
    return verify([copy], open_key(world.key_file), [world.checkpoints])


@given(st.data())
@TAMPERED
def test_any_byte_that_is_changed_shows_and_its_line_is_named(original: World, data: st.DataObject) -> None:
    whole = original.path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255))
    report = judged(original, whole[:at] + bytes([whole[at] ^ byte]) + whole[at + 1 :])
    assert report.problems or report.torn
    line = whole[:at].count(b"\n") + 1
    assert line in {finding.line for finding in (*report.problems, *report.torn)}


@given(st.data())
@TAMPERED
def test_any_line_removed_repeated_or_moved_shows(original: World, data: st.DataObject) -> None:
    lines = original.path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    to = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["remove", "repeat", "swap"]))
    changed = list(lines)
    if how == "remove":
        del changed[at]
    elif how == "repeat":
        changed.insert(to, lines[at])
    else:
        changed[at], changed[to] = changed[to], changed[at]
    report = judged(original, b"".join(changed))
    assert bool(report.problems) == (changed != lines)


@pytest.mark.parametrize("fraction", range(0, 1000, 7))
def test_an_end_cut_off_anywhere_shows_by_the_checkpoint(original: World, fraction: int) -> None:
    whole = original.path.read_bytes()
    at = len(whole) * fraction // 1000
    report = judged(original, whole[:at])
    assert any("cut" in finding.sentence or "empty" in finding.sentence for finding in report.problems)


def test_without_checkpoints_only_an_end_between_lines_hides(original: World) -> None:
    lines = original.path.read_bytes().splitlines(keepends=True)
    copy = original.folder / "copy.jsonl"
    copy.write_bytes(b"".join(lines[:-2]))
    assert verify([copy], open_key(original.key_file)).is_whole
    copy.write_bytes(b"".join(lines)[:-2])
    assert [finding.line for finding in verify([copy], open_key(original.key_file)).torn] == [len(lines)]


def test_a_checkpoint_that_was_changed_shows(original: World) -> None:
    claims = original.folder / "claims.jsonl"
    claims.write_bytes(original.checkpoints.read_bytes().replace(b'"count":14', b'"count":13'))
    report = verify([original.path], open_key(original.key_file), [claims])
    assert [str(finding.path) for finding in report.problems] == [str(claims)]


def test_a_log_that_was_replaced_by_another_whole_one_shows_by_the_checkpoint(original: World, tmp_path: Path) -> None:
    other = World(tmp_path)
    other.key_file.parent.mkdir()
    other.key_file.write_bytes(original.key_file.read_bytes())
    other.open().close()
    assert verify(other.files(), open_key(other.key_file)).is_whole
    problems = verify(other.files(), open_key(other.key_file), [original.checkpoints]).problems
    assert ["removed" in finding.sentence for finding in problems] == [True]


# -- rotation


def test_a_full_file_is_put_aside_and_the_chain_carried_on(world: World) -> None:
    log = world.open(rotate_bytes=4096)
    for number in range(100):
        log.event("exchange", number=number)
        world.loop.turn()
    log.close()
    assert len(world.files()) > 4
    assert all(path.stat().st_size < 4096 + 1024 for path in world.files())
    assert world.verify().is_whole
    assert [record["number"] for record in world.records() if record["event"] == "exchange"] == list(range(100))


def test_a_day_ends_a_file(world: World) -> None:
    log = world.open()
    log.event("exchange")
    world.loop.turn()
    world.now += timedelta(days=1)
    log.tick()
    world.loop.turn()
    assert len(world.files()) == 2
    assert world.events() == ["segment", "exchange", "segment"]
    log.close()
    assert world.verify().is_whole


def test_a_file_missing_from_the_middle_shows(world: World) -> None:
    log = world.open(rotate_bytes=4096)
    for _ in range(60):
        log.event("exchange")
        world.loop.turn()
    log.close()
    first, second, *_ = world.files()
    second.unlink()
    problems = world.verify().problems
    assert len(problems) == 1
    assert "lines are missing" in problems[0].sentence
    first.unlink()
    report = world.verify()
    assert report.is_whole  # what is older than the first file cannot be known
    assert "begins with line" in report.notes[0].sentence


def test_a_file_that_was_taken_away_is_begun_anew(world: World) -> None:
    log = world.open()
    log.event("exchange")
    world.loop.turn()
    os.rename(world.path, world.folder / "log" / "audit-0.taken.jsonl")
    log.tick()
    log.event("exchange")
    log.close()
    assert world.events() == ["segment", "exchange", "segment", "exchange", "stop"]
    assert world.verify().is_whole


# -- crashes


@pytest.mark.parametrize("cut", [1, 2, 60, 200])
def test_a_torn_line_is_told_and_the_chain_goes_on(world: World, cut: int) -> None:
    log = world.open()
    for _ in range(3):
        log.event("exchange")
        world.loop.turn()
    world.crash()
    whole = world.path.read_bytes()
    world.path.write_bytes(whole[:-cut])
    assert [finding.line for finding in world.verify().torn] == [4]
    world.open().close()
    world.logs.clear()
    report = world.verify()
    assert report.is_whole
    assert any("torn" in finding.sentence for finding in report.notes)
    assert world.metrics.events.value("audit_torn", "") == 1
    torn = world.files()[0]
    torn.write_bytes(torn.read_bytes()[:-1])
    assert not world.verify().is_whole


def test_a_log_changed_while_nobody_ran_is_not_built_upon(world: World) -> None:
    world.open().close()
    world.logs.clear()
    data = world.path.read_bytes()
    world.path.write_bytes(data[:-5] + b"0" + data[-4:] if data[-5:-4] != b"0" else data[:-5] + b"1" + data[-4:])
    world.open().close()
    world.logs.clear()
    assert len(world.files()) == 2
    sentences = [finding.sentence for finding in world.verify().problems]
    assert any("was changed" in sentence for sentence in sentences)
    assert any("new chain" in sentence for sentence in sentences)


# -- a disk that is full


class Full:
    """The log's descriptor is /dev/full until it is mended."""

    def __init__(self, world: World, log: AuditLog) -> None:
        self._log, self._real = log, log._fd
        self._full = os.open("/dev/full", os.O_WRONLY)
        log._fd = self._full
        log._set_way()

    def mend(self) -> None:
        self._log._fd = self._real
        self._log._set_way()
        os.close(self._full)


def test_deny_refuses_new_exchanges_until_lines_are_written_again(world: World) -> None:
    log = world.open(on_audit_error="deny")
    full = Full(world, log)
    log.event("exchange", number=1)
    world.loop.turn()
    assert log.chain.denies
    assert "no space left" in log.trouble
    with pytest.raises(AuditUnavailableError, match="free space"):
        log.refuse_new()
    world.loop.wait()
    assert log.chain.denies
    full.mend()
    world.loop.wait()
    assert not log.chain.denies
    assert log.trouble == ""
    log.event("exchange", number=2)
    world.loop.turn()
    log.close()
    assert world.verify().is_whole
    assert world.events() == ["segment", "exchange", "resumed", "exchange", "stop"]
    assert world.records()[2]["exchanges_denied"] == 1
    assert world.metrics.events.value("audit_failed", "") == 1


def test_drop_goes_on_counts_and_says_so(world: World) -> None:
    log = world.open(on_audit_error="drop")
    full = Full(world, log)
    for number in range(5):
        log.event("exchange", number=number)
        world.loop.turn()
    assert not log.chain.denies
    assert log.chain.size == 0
    assert log.dropped == 5
    world.loop.wait()
    full.mend()
    world.loop.wait()
    log.event("exchange", number=9)
    world.loop.turn()
    log.close()
    assert world.verify().is_whole
    assert world.events() == ["segment", "resumed", "exchange", "stop"]
    assert world.records()[1]["lines_dropped"] == 5


@pytest.mark.parametrize("mode", ["deny", "drop"])
@pytest.mark.parametrize("room", [1, 150, 390, 391, 800])
def test_a_line_that_was_written_in_part_is_completed(world: World, mode: Any, room: int) -> None:
    log = world.open(on_audit_error=mode)
    size = world.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        for number in range(8):
            log.event("exchange", number=number, text="x" * 100)
        world.loop.turn()
        assert log.trouble
        assert world.path.stat().st_size == size + room
        world.loop.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    world.loop.wait()
    assert log.trouble == ""
    log.event("exchange", number=99)
    world.loop.turn()
    log.close()
    assert world.verify().is_whole
    numbers = [record["number"] for record in world.records() if "number" in record]
    assert numbers[-1] == 99
    dropped = next(record for record in world.records() if record["event"] == "resumed")["lines_dropped"]
    assert len(numbers) - 1 + dropped == 8
    assert (mode == "drop") == bool(dropped)


def test_a_checkpoint_that_cannot_be_written_stops_nothing(world: World) -> None:
    log = world.open(checkpoint=Checkpoint(path=Path("/dev/full"), every_n=1))
    log.event("exchange")
    world.loop.turn()
    assert log.trouble == ""
    assert world.metrics.events.value("audit_failed", "") >= 1


@pytest.mark.parametrize("path", ["/proc/nowhere/audit.jsonl", "/dev/null/audit.jsonl"])
def test_a_place_that_cannot_be_written_is_said_at_the_start(world: World, path: str) -> None:
    with pytest.raises(StartError, match=r"telemetry\.audit\.path"):
        world.open(path=Path(path))


# -- refusals, folded


def test_repeated_refusals_become_one_counted_line(world: World) -> None:
    log = world.open()
    about = {"error": "denied"}
    assert not log.fold(("a",), about)
    assert all(log.fold(("a",), about) for _ in range(41))
    assert not log.fold(("b",), about)
    world.now += timedelta(seconds=11)
    log.tick()
    log.tick()
    world.loop.turn()
    counted = [record for record in world.records() if record["event"] == "refusals"]
    assert [record["count"] for record in counted] == [41]
    assert not log.fold(("a",), about)  # a new kind of its own time


def test_the_kinds_of_refusals_are_bounded(world: World) -> None:
    log = world.open()
    for number in range(5000):
        log.fold((number,), {})
        log.fold((number,), {})
    assert len(log._folded) <= 1024
    log.close()
    assert sum(record["count"] for record in world.records() if record["event"] == "refusals") == 5000


# -- fsync


def test_fsync_lets_nothing_go_before_the_disk_has_answered(world: World) -> None:
    log = world.open(durability="fsync")
    assert log._pool is not None
    log._pool.submit(lambda: None).result()
    world.loop.turn()
    log.event("exchange")
    world.loop.turn()
    assert log._syncing is not None
    log.event("exchange", second=True)  # meanwhile
    world.loop.turn()
    assert "second" not in world.path.read_text()
    log._pool.submit(lambda: None).result()
    world.loop.turn()
    log._pool.submit(lambda: None).result()
    world.loop.turn()
    assert "second" in world.path.read_text()
    log.close()
    assert world.verify().is_whole


def test_a_worker_has_a_file_of_its_own() -> None:
    assert worker_path(Path("/x/audit.jsonl"), 3) == Path("/x/audit-3.jsonl")
