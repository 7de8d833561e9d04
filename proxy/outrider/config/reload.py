"""Seeing that a file changed, and saying what a new configuration changes.

Rules: files are looked at by `stat`, about once a second, through every symlink (inotify misses Kubernetes' `..data`
swaps and network file systems; a stat costs 2 µs); a file edited in place is given one look to settle, a file renamed
into place is whole at once; a file that another user could have written is not read again.
Does not know: how to load a configuration or what to do with a new one.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, get_origin

from pydantic import BaseModel

from outrider.config.problems import KeyPath, spell
from outrider.config.schema import Config, models_in
from outrider.secrets.files import Signature, reason, signature, writable_by_others


class _Handle(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], _Handle]


class FileWatcher:
    """Calls `on_change(path)` after a file changed, or `on_refused(sentence)` when others could have written it.

    `call_later` is the loop's (or a test's); `owners_only=False` drops the ownership rule (credential files are read
    by their own source, which has no part in it). A file that vanishes is waited for.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        on_change: Callable[[Path], None],
        *,
        call_later: CallLater,
        on_refused: Callable[[str], None] = lambda sentence: None,
        interval_s: float = 1.0,
        owners_only: bool = True,
    ) -> None:
        self._on_change = on_change
        self._on_refused = on_refused
        self._call_later = call_later
        self._interval_s = interval_s
        self._owners_only = owners_only
        self._told = {path: signature(path) for path in paths}  # the state that was last acted on
        self._seen = dict(self._told)  # the state of the last look
        self._handle: _Handle | None = None
        self._closed = False

    def start(self) -> None:
        if self._handle is None and not self._closed:
            self._handle = self._call_later(self._interval_s, self._tick)

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = None
        try:
            self.look()
        finally:
            self.start()

    def look(self) -> None:
        """One look at every file; what a watcher's timer does."""
        for path, told in list(self._told.items()):
            now, seen = signature(path), self._seen[path]
            self._seen[path] = now
            if now is None or now == told or not _has_settled(seen, now):
                continue
            self._told[path] = now
            self._act(path)

    def _act(self, path: Path) -> None:
        try:
            why = writable_by_others(path) if self._owners_only else None
        except OSError as exc:
            self._on_refused(f"{path} changed and cannot be looked at: {reason(exc)}; the old configuration stays")
            return
        if why is not None:
            self._on_refused(f"{path} changed and is not read again, since {why}; correct its owner or mode")
            return
        self._on_change(path)


def _has_settled(seen: Signature | None, now: Signature) -> bool:
    """Whether a changed file can be read: another inode came whole, the same one must look the same twice."""
    return seen == now or seen is None or seen[:2] != now[:2]


def diff(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """The keys that differ: (those that a reload applies, those that wait for a restart), spelt as in messages."""
    live: list[str] = []
    restart: list[str] = []
    for path, mark in _differences(old, new, (), "restart"):
        (live if mark == "live" else restart).append(spell(path))
    return live, restart


def reload_marks() -> dict[str, str]:
    """Every key of the schema -> "live" or "restart"; an entry of a table is called `*`, one of a list `[]`."""
    return dict(_marks(Config, "", "restart"))


def waiting_for_restart(config: Config) -> list[str]:
    """Of the keys that were set, those whose change a reload does not apply, spelt as in messages."""
    marks = reload_marks()
    found: list[str] = []
    for path in config.set_keys:
        if marks.get(_kind(path)) == "restart":
            found.append(spell(path))
    return found


def _kind(path: KeyPath) -> str:
    """The key's name in `reload_marks`: `*` for a name that config chooses, `[]` for a place in a list."""
    named, annotation = "", None
    model: type[BaseModel] | None = Config
    for step in path:
        kind = get_origin(annotation)
        if kind is dict or isinstance(step, int):
            named += ".*" if kind is dict else "[]"
            annotation = None
            continue
        field = model.model_fields.get(str(step)) if model is not None else None
        if field is None:
            break
        named += f".{step}"
        annotation = field.annotation
        model = next(models_in(annotation), None)
    return named.removeprefix(".")


def _marks(model: type[BaseModel], prefix: str, inherited: str) -> Iterable[tuple[str, str]]:
    for name, field in model.model_fields.items():
        mark = _mark(field, inherited)
        inner = next(models_in(field.annotation), None)
        if inner is None:
            yield prefix + name, mark
            continue
        yield from _marks(inner, prefix + name + _step(field.annotation), mark)


def _step(annotation: Any) -> str:
    """What stands between a key and those below it."""
    return {dict: ".*.", tuple: "[]."}.get(get_origin(annotation), ".")


def _mark(field: Any, inherited: str) -> str:
    extra = field.json_schema_extra
    return str(extra["reload"]) if isinstance(extra, dict) and "reload" in extra else inherited


def _differences(old: Any, new: Any, path: KeyPath, mark: str) -> Iterable[tuple[KeyPath, str]]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name, field in type(old).model_fields.items():
            yield from _differences(getattr(old, name), getattr(new, name), (*path, name), _mark(field, mark))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), (*path, key), mark)
    else:
        yield path, mark
