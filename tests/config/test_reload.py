"""Seeing changes of files, and saying which keys changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.config import Config
from outrider.config.reload import FileWatcher, diff


class FakeTimer:
    """A loop's call_later that fires when told."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []
        self.delays: list[float] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "FakeTimer._Handle":
        self.pending.append(callback)
        self.delays.append(delay_s)
        return self._Handle(self, callback)

    class _Handle:
        def __init__(self, timer: "FakeTimer", callback: Callable[[], None]) -> None:
            self._timer, self._callback = timer, callback

        def cancel(self) -> None:
            self._timer.pending.remove(self._callback)

    def fire(self) -> None:
        due, self.pending = self.pending, []
        for callback in due:
            callback()


class Watched:
    def __init__(self, *paths: Path) -> None:
        self.changed: list[Path] = []
        self.refused: list[str] = []
        self.timer = FakeTimer()
        self.watcher = FileWatcher(
            paths, self.changed.append, call_later=self.timer.call_later, on_refused=self.refused.append
        )
        self.watcher.start()


def replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def test_a_file_renamed_into_place_is_seen_at_the_next_look_and_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a")
    seen = Watched(path)
    seen.timer.fire()
    assert seen.changed == []
    replace(path, "b")
    seen.timer.fire()
    seen.timer.fire()
    assert seen.changed == [path]
    assert set(seen.timer.delays) == {1.0}


def test_a_file_edited_in_place_is_given_a_look_to_settle(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a")
    seen = Watched(path)
    path.write_text("half")
    seen.timer.fire()
    assert seen.changed == []
    path.write_text("half and half")
    seen.timer.fire()
    assert seen.changed == []
    seen.timer.fire()
    assert seen.changed == [path]


def test_a_kubernetes_data_swap_is_one_change(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.yaml").write_text("same length " + name)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "c.yaml"
    path.symlink_to("..data/c.yaml")
    seen = Watched(path)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    seen.timer.fire()
    seen.timer.fire()
    assert seen.changed == [path]


def test_a_file_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a")
    seen = Watched(path)
    path.unlink()
    seen.timer.fire()
    seen.timer.fire()
    assert seen.changed == []
    path.write_text("b")
    seen.timer.fire()
    assert seen.changed == [path]


def test_a_file_that_others_may_write_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a")
    seen = Watched(path)
    replace(path, "b")
    path.chmod(0o666)
    seen.timer.fire()
    assert seen.changed == []
    assert seen.refused == [
        f"{path} changed and is not read again, since every user may write it; correct its owner or mode"
    ]


def test_a_file_of_another_user_is_not_read_again(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("Giving a file to another user needs root.")
    path = tmp_path / "c.yaml"
    path.write_text("a")
    seen = Watched(path)
    replace(path, "b")
    os.chown(path, 4711, -1)
    seen.timer.fire()
    assert seen.changed == []
    assert "it belongs to uid 4711" in seen.refused[0]
    replace(path, "b")
    os.chown(path, -1, 4712)
    path.chmod(0o664)
    seen.timer.fire()
    assert "group 4712 may write it" in seen.refused[1]


def test_a_closed_watcher_leaves_no_timer(tmp_path: Path) -> None:
    seen = Watched(tmp_path / "missing")
    assert len(seen.timer.pending) == 1
    seen.watcher.close()
    assert seen.timer.pending == []
    seen.watcher.start()
    assert seen.timer.pending == []


def test_a_callback_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a")
    timer = FakeTimer()

    def fails(path: Path) -> None:
        raise RuntimeError("boom")

    FileWatcher([path], fails, call_later=timer.call_later).start()
    replace(path, "b")
    with pytest.raises(RuntimeError):
        timer.fire()
    assert len(timer.pending) == 1


def config(**sections: object) -> Config:
    return Config.model_validate(sections)


def test_what_changed_is_split_into_live_and_restart() -> None:
    old = config(providers={"openai": {"byok": "deny"}, "groq": {}}, limits=[{"name": "a", "requests": "1/s"}])
    new = config(
        providers={"openai": {"byok": "pass"}, "mistral": {}},
        limits=[{"name": "a", "requests": "2/s"}],
        listen={"proxy": "127.0.0.1:1", "allowed_hosts": ["x"]},
        upstream={"pool_max_idle": 1},
        telemetry={"log_level": "debug", "log": "stdout"},
        timeouts={"drain_s": 1},
        ca={"name_constraints": True},
    )
    live, restart = diff(old, new)
    assert set(live) == {
        "providers.openai.byok", "providers.groq", "providers.mistral", "limits", "listen.allowed_hosts",
        "telemetry.log_level", "timeouts.drain_s",
    }  # fmt: skip
    assert set(restart) == {"listen.proxy", "upstream.pool_max_idle", "telemetry.log", "ca.name_constraints"}
    assert diff(new, new) == ([], [])
