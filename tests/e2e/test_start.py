"""What stops `outrider run` before it serves, and what does not: one sentence, an exit code, never a traceback."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.commands import OUTRIDER, clean_environ, outrider, running
from e2e.rig import fetch, until

KEY = "sk-proj-PLANTEDstart0123456789"


def write(folder: Path, text: str) -> Path:
    path = folder / "outrider.yaml"
    path.write_text(text)
    return path


def small(folder: Path, **sections: object) -> Path:
    whole: dict[str, object] = {
        "version": 1,
        "listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "ca": {"dir": str(folder / "ca")},
        "providers": {"openai": {"credential": {"env": "OPENAI_API_KEY"}}},
    }
    return write(folder, yaml.safe_dump(whole | sections))


def refused(path: Path, *, code: int = 1) -> str:
    """The one sentence with which `outrider run` ended."""
    ran = outrider("run", "--config", str(path), env={"OPENAI_API_KEY": KEY})
    assert ran.returncode == code
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("outrider: ")
    assert KEY not in line
    return line


def test_three_mistakes_are_three_lines_with_file_line_and_key(tmp_path: Path) -> None:
    text = "version: 1\nlisten:\n  proxy: 127.0.0.1:99999\nprovider: {}\nlimits:\n  - {name: x, requests: fast}\n"
    path = write(tmp_path, text)
    for command in ("run", "check"):
        ran = outrider(command, "--config", str(path))
        assert ran.returncode == 2
        said = ran.stderr
        assert f"{path}:3: listen.proxy" in said
        assert f"{path}:4: provider: " in said
        assert f"{path}:6: limits[0].requests" in said
        assert "Traceback" not in said


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(small(tmp_path, listen={"proxy": f"127.0.0.1:{port}", "admin": None}))
    assert f"127.0.0.1:{port}" in line
    assert "another program uses this port" in line


@pytest.mark.parametrize("kind", ["missing", "a folder", "empty", "two lines"])
def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    key = tmp_path / "key"
    if kind == "a folder":
        key.mkdir()
    elif kind != "missing":
        key.write_text("" if kind == "empty" else f"{KEY}\n{KEY}\n")
    line = refused(small(tmp_path, providers={"openai": {"credential": {"file": str(key)}}}))
    assert str(key) in line
    assert "outrider.yaml:" in line
    assert "providers.openai.credential" in line


def test_a_ca_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(small(tmp_path, ca={"dir": str(tmp_path / "file" / "ca")}))
    assert "/proc/nowhere" in refused(small(tmp_path, ca={"dir": "/proc/nowhere"}))


def test_a_damaged_ca_is_named_and_not_replaced(tmp_path: Path) -> None:
    path = small(tmp_path)
    assert outrider("ca", "show", "--config", str(path)).returncode == 0
    (key,) = [file for file in (tmp_path / "ca").iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    key.write_text("not a key\n")
    assert str(tmp_path / "ca") in refused(path)
    assert key.read_text() == "not a key\n"


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    line = refused(small(tmp_path, telemetry={"log": str(tmp_path / "no" / "log")}))
    assert str(tmp_path / "no" / "log") in line


@pytest.mark.parametrize("what", ["upstream_ca", "config"])
def test_another_file_that_is_not_there_is_named(tmp_path: Path, what: str) -> None:
    if what == "config":
        assert str(tmp_path / "none.yaml") in refused(tmp_path / "none.yaml", code=2)
        return
    path = small(tmp_path, providers={"openai": {"upstream_ca": str(tmp_path / "none.pem")}})
    assert str(tmp_path / "none.pem") in refused(path)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """A file system of one page, full, where the CA would be made."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("Needs root and unshare to mount a file system of one page.")
    disk = tmp_path / "disk"
    disk.mkdir()
    path = small(tmp_path, ca={"dir": str(disk / "ca")})
    fill = f'mount -t tmpfs -o size=4k tmpfs {disk} && head -c 4096 /dev/zero > {disk}/full && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", fill, "sh", *OUTRIDER, "run", "--config", str(path)]
    ran = subprocess.run(command, env=clean_environ({}), capture_output=True, text=True, timeout=120, check=False)
    if "mount:" in ran.stderr:
        pytest.skip(f"This machine does not mount a file system here: {ran.stderr.strip()[-200:]}")
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert str(disk / "ca") in line
    assert "no space left" in line.lower()


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    path = small(tmp_path, telemetry={"log": "/dev/full", "log_level": "debug"})
    with running(path, {"OPENAI_API_KEY": KEY}, tmp_path) as sidecar:
        for _ in range(3):
            assert fetch(f"{sidecar.admin_url}/readyz").strip()
            with socket.create_connection(("127.0.0.1", int(sidecar.proxy_url.rpartition(":")[2])), 10) as sock:
                sock.sendall(b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 4")
        code, said = sidecar.end()
    assert code == 0
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_without_a_word(tmp_path: Path, number: int) -> None:
    with running(small(tmp_path), {"OPENAI_API_KEY": KEY}, tmp_path) as sidecar:
        before = sidecar.stderr.read_text()
        code, said = sidecar.end(number)
    assert (code, said) == (0, before)


def test_a_bad_reload_keeps_the_old_configuration_and_says_why(tmp_path: Path) -> None:
    path = small(tmp_path)
    with running(path, {"OPENAI_API_KEY": KEY}, tmp_path) as sidecar:
        good = path.read_text()
        for bad in ("version: 7\n", good.replace("env: OPENAI_API_KEY", f"file: {tmp_path}/none")):
            before = sidecar.stderr.read_text().count("reload_failed")
            path.write_text(bad)
            sidecar.process.send_signal(signal.SIGHUP)
            until(lambda seen=before: sidecar.stderr.read_text().count("reload_failed") > seen)  # type: ignore[misc]
        path.write_text(good)
        assert fetch(f"{sidecar.admin_url}/readyz").strip()
        code, said = sidecar.end()
    assert code == 0
    assert "the old configuration stays in force" in said
    assert f"{tmp_path}/none" in said
    assert "Traceback" not in said
    assert KEY not in said
