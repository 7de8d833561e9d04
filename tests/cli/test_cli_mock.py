"""`outrider mock` as a process: its lines, its ports, its journal, its refusals."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.rig import until
from outrider.cli.main import main


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    command = [sys.executable, "-m", "outrider", "mock", "--port", "0", *arguments]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        try:
            while not lines or not lines[-1].startswith("keys checked"):
                line = process.stdout.readline()
                assert line, "the mock ended before it was ready"
                lines.append(line)
            yield process, lines
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0


def test_it_serves_both_ports_and_writes_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    arguments = (
        "--tls-port",
        "0",
        "--tls-dir",
        str(tmp_path / "tls"),
        "--journal",
        str(journal),
        "--key",
        "openai=sk-a",
    )
    with running(*arguments) as (_, lines):
        plain, secure = (re.search(r"https?://[^\s,]+", line)[0] for line in lines[:2])  # type: ignore[index]
        asked = urllib.request.Request(f"{plain}/v1/models", headers={"authorization": "Bearer sk-a"})
        with urllib.request.urlopen(asked) as answer:
            assert answer.status == 200
        context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem"))
        wrong = urllib.request.Request(f"{secure}/v1/models", headers={"authorization": "Bearer sk-b"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(wrong, context=context)
        refused.value.close()
        assert lines[-1] == "keys checked for: openai\n"
        until(lambda: journal.read_text().count("\n") == 2)  # a line is written once its answer has left
    # Each by the thread of its own answer: the order is not promised.
    assert sorted(json.loads(line)["status"] for line in journal.read_text().splitlines()) == [200, 401]
    assert (tmp_path / "tls" / "server.pem").stat().st_mode & 0o777 == 0o600


def test_a_port_in_use_is_one_sentence_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["mock", "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {port}: address already in use" in message
    assert message.count("\n") == 1


def test_a_journal_that_cannot_be_written_is_one_sentence_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mock", "--port", "0", "--journal", "/nonexistent/journal"]) == 1
    assert "cannot write /nonexistent/journal" in capsys.readouterr().err


def test_a_key_without_a_provider_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mock", "--key", "sk-test"]) == 2
    assert "PROVIDER=KEY" in capsys.readouterr().err
