"""Several workers under one supervisor: one limit, one count, one configuration; whoever dies is replaced."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from outrider.config import load
from outrider.govern.packs import read_files
from outrider.snapshot import policies_of
from outrider.supervisor import merged
from outrider.workers import config_in
from support.running import local, settings
from support.wire import Provider, connect

OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DEADLINE_S = 30.0


class Group:
    """`outrider run` with workers, as users run it."""

    def __init__(self, path: Path, log: Path) -> None:
        self.path, self.log = path, log
        command = [sys.executable, "-m", "outrider", "run", "--config", str(path)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        assert self.process.stderr is not None
        lines = []
        while not any("workers" in line for line in lines):
            line = self.process.stderr.readline().decode()
            assert line, "".join(lines)
            lines.append(line)
        self.address = ("127.0.0.1", int(next(x for x in lines if "listening" in x).rsplit(":", 1)[1]))
        self.admin = next(x for x in lines if "admin" in x).split(" on ")[1].strip()

    def page(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.admin + path, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    async def total(self, name: str, **labels: str) -> float:
        text = await asyncio.to_thread(self.page, "/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def children(self) -> list[int]:
        return [
            int(word) for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    async def ask(self) -> bytes:
        """One request on a connection of its own: the kernel chooses the worker."""
        peer = await connect(self.address)
        await peer.send(b"GET /local/v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % self.address[1])
        head: bytes = (await peer.answer())[0]
        peer.close()
        return head.split(b" ")[1]

    def rewrite(self, **sections: Any) -> None:
        document = yaml.safe_load(self.path.read_text()) | sections
        self.path.write_text(yaml.safe_dump(document))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(OSError):
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
        assert time.monotonic() < deadline, f"it did not come about: {what}"
        await asyncio.sleep(0.02)


@pytest.fixture
async def group(tmp_path: Path, provider: Provider) -> AsyncIterator[Group]:
    log = tmp_path / "log"
    path = settings(
        tmp_path,
        local(provider.url),
        workers=3,
        listen={"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        telemetry={"log": str(log)},
        limits=[{"name": "whole", "requests": "40/h"}],
    )
    task = asyncio.get_running_loop().create_task(answer_all(provider))
    one = await asyncio.to_thread(Group, path, log)
    try:
        yield one
    finally:
        await asyncio.to_thread(one.close)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def answer_all(provider: Provider, held: asyncio.Event | None = None) -> None:
    """held: answers wait for it."""
    async with asyncio.TaskGroup() as tasks:
        while True:
            behind = await provider.accept()

            async def serve(behind: Any = behind) -> None:
                with contextlib.suppress(Exception):
                    while True:
                        await behind.head()
                        if held is not None:
                            await held.wait()
                        await behind.send(OK_2)

            tasks.create_task(serve())


async def test_all_workers_serve_share_one_limit_and_one_count(group: Group) -> None:
    assert len(group.children()) == 3
    statuses = [await group.ask() for _ in range(60)]
    assert statuses.count(b"200") == 40
    assert statuses.count(b"429") == 20
    assert await group.total("outrider_requests_total", status="200") == 40
    assert await group.total("outrider_limit_decisions_total", decision="reject") == 20
    assert await group.total("outrider_workers") == 3
    assert group.page("/readyz") == "ready\n"
    assert "state: memory" in group.log.read_text()


async def test_64_clients_and_a_worker_that_is_killed_leave_every_place_free(
    tmp_path: Path, provider: Provider
) -> None:
    """Some leave, some crash; one worker dies in the midst of it with places taken."""
    log, places = tmp_path / "log", 6
    path = settings(
        tmp_path,
        local(provider.url),
        workers=2,
        listen={"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        telemetry={"log": str(log)},
        limits=[{"name": "few", "concurrent": places, "on_exceed": {"queue": {"max_wait_s": 30, "max_waiting": 100}}}],
    )
    held = asyncio.Event()
    task = asyncio.get_running_loop().create_task(answer_all(provider, held))
    group = await asyncio.to_thread(Group, path, log)
    request = b"GET /local/v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % group.address[1]
    seen: list[bytes] = []

    async def client(number: int) -> None:
        for call in range(3):
            with contextlib.suppress(ConnectionError, AssertionError):  # of the one that is killed
                peer = await connect(group.address)
                try:
                    await peer.send(request)
                    if (number + call) % 4 == 0:
                        peer.reset()
                    elif (number + call) % 4 > 1:
                        seen.append((await peer.answer())[0].split(b" ")[1])
                finally:
                    peer.close()

    try:
        clients = asyncio.gather(*(client(number) for number in range(64)))
        await until(lambda: provider_waits(held) >= 2, "places are taken")
        os.kill(group.children()[0], signal.SIGKILL)
        held.set()
        await asyncio.wait_for(clients, DEADLINE_S)
        assert set(seen) == {b"200"}
        assert len(seen) > 20
        await until(lambda: _is(group.total("outrider_workers"), 2), "the dead one was replaced")
        held.clear()
        holding = [asyncio.ensure_future(group.ask()) for _ in range(places + 2)]
        await until(lambda: provider_waits(held) == places, "as many as there are places are let in, and no more")
        held.set()
        assert await asyncio.gather(*holding) == [b"200"] * (places + 2)
    finally:
        held.set()
        await asyncio.to_thread(group.close)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def provider_waits(held: asyncio.Event) -> int:
    """How many requests are at the provider and not yet answered."""
    return len(held._waiters)  # type: ignore[attr-defined]


async def test_a_worker_that_dies_is_replaced_and_nothing_that_was_counted_is_lost(group: Group) -> None:
    for _ in range(30):
        assert await group.ask() == b"200"
    assert await group.total("outrider_requests_total", status="200") == 30
    first = group.children()
    os.kill(first[0], signal.SIGKILL)
    await until(lambda: first[0] not in group.children() and len(group.children()) == 3, "a new worker has started")
    await until(lambda: _is(group.total("outrider_workers"), 3), "and is ready")
    assert await group.total("outrider_events_total", event="worker_ended") == 1
    statuses = [await group.ask() for _ in range(20)]
    assert statuses.count(b"200") == 10  # the limit goes on where it was
    assert await group.total("outrider_requests_total", status="200") == 40


async def _is(found: Any, wanted: float) -> bool:
    return bool(await found == wanted)


async def test_a_reload_is_in_force_in_all_workers_or_in_none(group: Group) -> None:
    group.rewrite(limits=[{"name": "whole", "requests": "many"}])
    group.process.send_signal(signal.SIGHUP)
    await until(lambda: "reload_failed" in group.log.read_text(), "the log says why")
    assert await group.ask() == b"200"
    group.rewrite(limits=[{"name": "less", "requests": "5/h"}])
    group.process.send_signal(signal.SIGHUP)
    await until(lambda: _is(group.total("outrider_limit_decisions_total", limit="less"), 0), "asked")
    await until(lambda: group.log.read_text().count('"reloaded"') >= 4, "three workers and the supervisor say so")
    statuses = [await group.ask() for _ in range(15)]
    assert statuses.count(b"200") == 5
    fresh = group.children()
    os.kill(fresh[1], signal.SIGKILL)  # who starts now begins with the configuration in force
    await until(lambda: fresh[1] not in group.children() and len(group.children()) == 3, "a new worker has started")
    await until(lambda: _is(group.total("outrider_workers"), 3), "and is ready")
    assert {await group.ask() for _ in range(15)} == {b"429"}


POLICY = """\
version: 1
description: says no to a model
rules:
  - id: no
    description: This path is closed
    match: {path: "%s"}
    then: deny
"""


async def test_policies_are_read_once_for_all_workers_and_those_in_force_are_what_a_new_one_begins_with(
    tmp_path: Path, provider: Provider
) -> None:
    rules, log, audit = tmp_path / "rules.yaml", tmp_path / "log", tmp_path / "audit" / "audit.jsonl"
    rules.write_text(POLICY % "/v1/other")
    path = settings(
        tmp_path,
        local(provider.url),
        workers=2,
        listen={"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        telemetry={"log": str(log), "audit": {"path": str(audit)}},
        policies=[str(rules)],
    )
    task = asyncio.get_running_loop().create_task(answer_all(provider))
    group = await asyncio.to_thread(Group, path, log)
    try:
        assert await group.ask() == b"200"
        group.rewrite(http2="maybe")  # so that nothing of what follows is put in force
        rules.write_text(POLICY % "/v1/models")
        await until(lambda: log.read_text().count('"reload_failed"') >= 1, "the reload was refused")
        for pid in group.children():
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: pid not in group.children() and len(group.children()) == 2, "another one")  # type: ignore[misc]
        await until(lambda: _is(group.total("outrider_workers"), 2), "both are ready")
        assert {await group.ask() for _ in range(8)} == {b"200"}
        group.rewrite(http2="deny")
        group.process.send_signal(signal.SIGHUP)
        await until(lambda: log.read_text().count('"reloaded"') >= 3, "in force in both")
        assert {await group.ask() for _ in range(8)} == {b"403"}
        opener = urllib.request.Request(group.admin + "/metrics", headers={"origin": "http://evil.example"})
        with contextlib.suppress(OSError):
            await asyncio.to_thread(urllib.request.urlopen, opener)
        await until(lambda: "admin_origin" in lines_of(audit), "the refused page is in the audit log")
    finally:
        await asyncio.to_thread(group.close)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    text = lines_of(audit)
    assert text.count('"event":"reload_refused"') >= 1  # by the supervisor, in the chain of a worker
    assert '"cause":"signal"' in text
    assert text.count('"event":"drain"') == 2


def lines_of(audit: Path) -> str:
    return "".join(path.read_text() for path in audit.parent.glob("audit-*.jsonl"))


def test_what_was_handed_over_is_judged_by_whatever_the_file_says_since(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(POLICY % "/first")
    path = settings(tmp_path, {}, policies=[str(rules)])
    files = read_files(load(path, {}).policies)
    message = {
        "path": str(path), "content": path.read_text(), "only_found": False,
        "files": {name: content.decode() for name, content in files.items()},
    }  # fmt: skip
    rules.write_text("no policy at all")
    (pack,) = policies_of(config_in(message, {})).packs
    assert pack.rules[0].rule.match.path == ("/first",)


async def test_sigterm_drains_all_and_leaves_no_process(group: Group) -> None:
    children = group.children()
    group.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(asyncio.to_thread(group.process.wait), DEADLINE_S) == 0
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_workers_end_when_their_supervisor_is_killed(group: Group) -> None:
    children = group.children()
    group.process.kill()
    await asyncio.to_thread(group.process.wait)
    await until(lambda: not any(_lives(pid) for pid in children), "none of them is left")


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_metrics_of_several_processes_add_up_and_shared_ones_do_not() -> None:
    def part(value: float) -> list[Any]:
        return [
            ["c", "help", "counter", [["c_total", {"a": "x"}, value]]],
            ["outrider_budget_spent", "help", "gauge", [["outrider_budget_spent", {}, value]]],
        ]

    other = [["c", "help", "counter", [["c_total", {"a": "y"}, 5.0]]]]
    whole = {family[0]: family[3] for family in merged([part(1.0), part(2.0), other])}
    assert whole["c"] == [["c_total", {"a": "x"}, 3.0], ["c_total", {"a": "y"}, 5.0]]
    assert whole["outrider_budget_spent"] == [["outrider_budget_spent", {}, 2.0]]


async def test_a_start_that_cannot_be_says_so_once_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = settings(tmp_path, {}, workers=2, listen={"proxy": f"127.0.0.1:{port}", "admin": None})
        command = [sys.executable, "-m", "outrider", "run", "--config", str(path)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"127.0.0.1:{port}" in done.stderr
