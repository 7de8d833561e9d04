"""`outrider audit`: is the log whole, and what happens now.

Rules: verify names every fault by file and line and exits 1; tail shows a line per record, control characters escaped
(what is shown came from outside), and goes on in the next file when the log is rotated.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from outrider.cli.arguments import actions_of, add_config
from outrider.config import Config, load
from outrider.errors import StartError
from outrider.secrets.files import reason
from outrider.telemetry.audit import KEY_FILE, open_key, worker_path
from outrider.telemetry.audit_check import verify

HELP = "Verify the audit log, or follow it."
EXAMPLE = "outrider audit verify audit-0*.jsonl --checkpoints checkpoints.jsonl"

POLL_S = 0.25
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = actions_of(parser)
    check = add("verify", _verify, "find any line that was changed, removed, moved or cut", EXAMPLE)
    check.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: all files of the configured log")
    check.add_argument("--key-file", type=Path, metavar="FILE", help="default: the configured one")
    check.add_argument(
        "--checkpoints", type=Path, action="append", default=[], metavar="FILE", help="shows that the end was cut off"
    )
    tail = add(
        "tail",
        _tail,
        "the last records, and with -f those to come",
        "outrider audit tail -f --principal 'check*' --decision 'policy*'",
    )
    tail.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: the configured log of worker 0")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    tail.add_argument("-n", "--lines", type=int, default=10, metavar="N", help="how many to begin with (10)")
    tail.add_argument("--json", action="store_true", help="the lines as they are")
    for name in _FILTERS:
        tail.add_argument(f"--{name}", metavar="PATTERN", help=f"only of this {name}; * and ? stand for others")
    for action in (check, tail):
        add_config(action)


def _configured(args: argparse.Namespace) -> Config:
    return load(args.config, os.environ)


def _path(config: Config) -> Path:
    path = config.telemetry.audit.path
    if path is None:
        raise StartError("no audit log is configured; name its files, or set telemetry.audit.path", exit_code=2)
    return path


# -- verify


def _verify(args: argparse.Namespace) -> int:
    config = _configured(args)
    files = args.files
    if not files:
        path = _path(config)
        files = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
        if not files:
            raise StartError(f"there is no audit log {worker_path(path, 0)} yet", exit_code=2)
    key_file = args.key_file or config.telemetry.audit.key_file or config.ca.dir / KEY_FILE
    try:
        report = verify(files, open_key(key_file, make=False), args.checkpoints)
    except OSError as exc:
        raise StartError(f"{exc.filename} cannot be read: {reason(exc)}", exit_code=2) from exc
    for title, findings in (("", report.problems), ("torn: ", report.torn), ("note: ", report.notes)):
        for finding in findings:
            print(f"{title}{finding}", file=sys.stderr if title != "note: " else sys.stdout)
    counted = f"{report.lines} lines in {report.files} file{'s' if report.files != 1 else ''}"
    if report.is_whole:
        print(f"OK: {counted}" + ("" if args.checkpoints else "; without --checkpoints a cut end does not show"))
        return 0
    found = len(report.problems) + len(report.torn)
    print(f"outrider: {found} fault{'s' if found != 1 else ''} in {counted}", file=sys.stderr)
    return 1


# -- tail


def _named(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if name == "principal" and isinstance(value, dict):
        value = value.get("id")
    return "" if value is None else str(value)


_FILTERS = ("principal", "provider", "decision", "model", "status")


def _tail(args: argparse.Namespace) -> int:
    paths = args.files or [worker_path(_path(_configured(args)), 0)]
    wanted = {name: value for name in _FILTERS if (value := getattr(args, name)) is not None}
    paint = _painter(sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    followers = [Follower(path) for path in paths]
    try:
        for follower in followers:
            found = [
                line for raw in follower.read() if (line := shown(raw, wanted, paint, as_is=args.json)) is not None
            ]
            for line in found[-args.lines :] if args.lines > 0 else ():
                print(line)
        sys.stdout.flush()
        while args.follow:
            time.sleep(POLL_S)
            for follower in followers:
                for raw in follower.read():
                    if (line := shown(raw, wanted, paint, as_is=args.json)) is not None:
                        print(line, flush=True)
    finally:
        for follower in followers:
            follower.close()
    return 0


class Follower:
    """read() -> the whole lines that are new. When the file is put aside, its rest comes first, then the next file.

    Raises: StartError when the file cannot be opened at the first read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = b""
        try:
            self._file: BinaryIO | None = path.open("rb")
        except OSError as exc:
            raise StartError(f"{path} cannot be read: {reason(exc)}", exit_code=2) from exc

    def read(self) -> Iterator[bytes]:
        moved = self._was_moved()  # asked before reading: what is written later is read at the next call
        if self._file is not None:
            *lines, self._held = (self._held + self._file.read()).split(b"\n")
            yield from lines
        if moved:
            self.close()
            self._held = b""
            try:
                self._file = self._path.open("rb")
            except OSError:
                return
            yield from self.read()

    def _was_moved(self) -> bool:
        if self._file is None:
            return True
        try:
            there = os.stat(self._path)
        except OSError:
            return False  # put aside, and the next is not there yet
        ours = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _painter(is_on: bool) -> Callable[[str, str], str]:
    return lambda text, colour: f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if is_on and text else text


def escaped(text: str) -> str:
    """What a terminal would obey is shown instead."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(
    raw: bytes, wanted: Mapping[str, str], paint: Callable[[str, str], str], *, as_is: bool = False
) -> str | None:
    """A record in a line for people; None where a filter is against it."""
    try:
        record = orjson.loads(raw)
        if not isinstance(record, dict):
            raise ValueError
    except ValueError:
        return paint(f"not a record: {escaped(raw[:200].decode('utf-8', 'replace'))}", "red")
    if not all(fnmatchcase(_named(record, name), pattern) for name, pattern in wanted.items()):
        return None
    if as_is:
        return escaped(raw.decode("utf-8", "replace"))
    stamp = paint(escaped(str(record.get("time", "")))[:19].replace("T", " "), "dim")
    event = str(record.get("event", ""))
    return f"{stamp}  {_exchange(record, paint) if event == 'exchange' else _other(record, event, paint)}"


def _exchange(record: Mapping[str, Any], paint: Callable[[str, str], str]) -> str:
    status = _named(record, "status")
    colour = "green" if status.startswith("2") else "yellow" if status.startswith(("3", "4")) else "red"
    tokens = record.get("tokens")
    used = f"{tokens.get('input')}+{tokens.get('output')} tokens" if isinstance(tokens, dict) else ""
    cost = record.get("cost_nusd")
    decision = _named(record, "decision")
    parts = (
        paint(escaped(status), colour),
        paint(escaped(_named(record, "principal")), "bold"),
        escaped(f"{_named(record, 'provider')}/{_named(record, 'operation')}"),
        escaped(_named(record, "model")),
        paint(escaped(decision), "dim" if decision == "allow" else "red"),
        escaped(" ".join(map(str, record.get("rules") or ()))),
        paint(escaped(_named(record, "error")), "red"),
        escaped(used),
        f"${cost / 1e9:.6f}" if isinstance(cost, int) else "",
        f"{record['us'] / 1000:.1f} ms" if isinstance(record.get("us"), int) else "",
        "" if record.get("outcome") in ("ok", None) else paint(escaped(_named(record, "outcome")), "yellow"),
    )
    return "  ".join(part for part in parts if part)


_FRAME = frozenset(("seq", "prev", "time", "event", "hash"))


def _other(record: Mapping[str, Any], event: str, paint: Callable[[str, str], str]) -> str:
    rest = {name: value for name, value in record.items() if name not in _FRAME}
    colour = "red" if event.startswith("refus") or event == "resumed" else "blue"
    return f"{paint(escaped(event), colour)}  {escaped(orjson.dumps(rest).decode())}"
