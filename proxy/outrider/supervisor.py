"""`workers: N`: N processes that serve the same addresses, and the one that looks after them.

Rules
- The supervisor owns what there is once: the admin port, the CA's folder, the configuration's file and its reload, the
  shared memory, the signals. It accepts no app's connection, and holds the addresses (bound, not listening) so that no
  port is lost while a worker is away. Workers bind them too (SO_REUSEPORT); the kernel spreads connections over them.
- A reload is checked here, prepared by every worker, and put in force when all have prepared it: by all or by none.
  Policies' files are read here once and handed over, so that no two workers see two states of them.
- What is only heard of here (a refused reload, a foreign caller of the admin port) is told to one worker, whose audit
  log has it.
- A worker that dies is started again after a pause that grows while it keeps dying; its slots come back at once; what
  it had counted stays in the metrics.
- `state: memory` is one process's own: with several workers it becomes shm, and the log says so.
Does not know: exchanges.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outrider.admin.server import AdminServer
from outrider.config import Config, ConfigError, load_again
from outrider.config.reload import FileWatcher, diff
from outrider.door.ca import CertificateAuthority, utc_now
from outrider.door.listener import bind
from outrider.errors import StartError
from outrider.govern.packs import find, read_files
from outrider.process import until_told
from outrider.providers.registry import Registry, join_host_port
from outrider.secrets.placeholder import Placeholder
from outrider.store.shm import MAX_WORKERS, SharedMemory, ShmStore
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider.workers import Channel

START_S = 30.0
ANSWER_S = 5.0
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 60.0  # a worker that lived so long died by accident, and is started again at once
# Gauges that every worker reads from the same place: not to be added up.
SHARED_GAUGES = frozenset({"outrider_budget_spent", "outrider_breaker_state"})


class _Child:
    """One worker: its process, its channel, what it counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.is_ready = False
        self.started_s = 0.0
        self.deaths = 0
        self.families: list[Any] = []
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, message: dict[str, Any], answer: str, timeout_s: float = ANSWER_S) -> dict[str, Any] | None:
        """None when it is away, or does not answer in time."""
        if self.channel is None:
            return None
        future = self.answers.get(answer)
        if future is None:
            future = self.answers[answer] = asyncio.get_running_loop().create_future()
            self.channel.send(message)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        return None

    def heard(self, message: dict[str, Any]) -> None:
        future = self.answers.pop(message["is"], None)
        if future is not None and not future.done():
            future.set_result(message)

    def lost(self) -> None:
        for future in self.answers.values():
            if not future.done():
                future.set_result({"is": "lost", "why": f"worker {self.number} ended"})
        self.answers.clear()


class Supervisor:
    """start() -> None (StartError), reload_from_file(), drain(), stop()."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.config = config
        self.environ = environ
        self.metrics = Metrics(config.telemetry.models_max)
        self.json_log = JsonLog(config.telemetry.log, config.telemetry.log_level)
        self.proxy_addresses: list[tuple[str, int]] = []
        self.transparent_addresses: list[tuple[str, int]] = []
        self.admin_addresses: list[tuple[str, int]] = []
        self.proxy_paths: list[str] = []  # none: SO_REUSEPORT is for addresses, and config.relations refuses paths
        self.admin_paths: list[str] = []
        self._children = [_Child(number) for number in range(config.workers)]
        self._held: list[socket.socket] = []
        self._gone: list[list[Any]] = []  # the last metrics of workers that ended
        self._admin: AdminServer | None = None
        self._watcher: FileWatcher | None = None
        self._memory: SharedMemory | None = None
        self._store: ShmStore | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_ending = False
        self._reloading = asyncio.Lock()
        self._files: dict[str, bytes] = {}  # of the policies in force

    # -- start

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.json_log.bind(self._loop)
        try:
            self._open_once()
            self._files = read_files(self.config.policies)
            admin = self._bind()
            if self.config.state.url.kind != "redis":
                self._share_memory()
            await self._start_all()
            await self._open_admin(admin)
        except BaseException:
            await self.stop()
            raise
        self._watch()

    def _watch(self) -> None:
        """The configuration's file and those of its policies, which may be others after a reload."""
        if self.config.path is not None:
            if self._watcher is not None:
                self._watcher.close()
            policies = [
                find(use.pack) for use in self.config.policies
            ]  # the workers read them, and refused what is none
            self._watcher = FileWatcher(
                [self.config.path, *policies],
                lambda path: self.reload_from_file(cause=str(path)),
                call_later=self._loop.call_later,
                on_refused=self._reload_refused,
            )
            self._watcher.start()

    def _open_once(self) -> None:
        """Made here, so that workers that start at once find it."""
        ca, registry = self.config.ca, Registry(self.config.providers)
        names = (*sorted(registry.exact_hosts()), *registry.patterns()) if ca.name_constraints else ()
        self.ca = CertificateAuthority.open(ca.dir, now=utc_now, name_constraints=names)
        Placeholder.open(ca.dir)

    def _bind(self) -> list[socket.socket]:
        listen = self.config.listen
        admin: list[socket.socket] = []
        for name, addresses in (("proxy", listen.proxy), ("transparent", listen.transparent)):
            sockets = bind(addresses, shared=True, listens=False) if addresses else []
            self._held += sockets
            setattr(self, f"{name}_addresses", [sock.getsockname()[:2] for sock in sockets])
        if listen.admin:
            admin = bind(listen.admin, unix_mode=listen.unix_mode, unix_group=listen.unix_group)
            self._held += admin
        self.admin_addresses = [sock.getsockname()[:2] for sock in admin if sock.family != socket.AF_UNIX]
        self.admin_paths = [str(sock.getsockname()) for sock in admin if sock.family == socket.AF_UNIX]
        return admin

    def _share_memory(self) -> None:
        if self.config.state.url.kind == "memory":
            self.json_log.event(
                "info", "state_shared",
                message=f"state: memory is one process's own; {self.config.workers} workers share shm instead",
            )  # fmt: skip
        self._memory = SharedMemory.create(self.config.caps.limit_keys)
        self._store = ShmStore(self._memory, MAX_WORKERS - 1, time.time_ns)

    async def _start_all(self) -> None:
        first = await asyncio.gather(*(self._launch(child) for child in self._children))
        for answer in first:
            if answer["is"] != "ready":
                raise StartError(
                    str(answer.get("why", "a worker ended as it started")), int(answer.get("exit_code", 1))
                )

    async def _open_admin(self, sockets: list[socket.socket]) -> None:
        if sockets:
            self._admin = AdminServer(
                sockets,
                metrics=self.exposition,
                ca_pem=self.ca.certificate_pem,
                is_ready=lambda: not self._is_ending and any(child.is_ready for child in self._children),
                on_refused=lambda **about: self._note("admin_refused", **about),
            )
            self._held = [sock for sock in self._held if sock not in sockets]
            await self._admin.start()

    # -- workers

    async def _launch(self, child: _Child) -> dict[str, Any]:
        """Its first message: ready, or failed and why."""
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno(), *([self._memory.fd] if self._memory is not None else [])]
        command = [sys.executable, "-m", "outrider.workers", str(theirs.fileno())]
        child.process = subprocess.Popen(command, pass_fds=passed, env=dict(self.environ))  # noqa: ASYNC220, S603
        theirs.close()
        ours.setblocking(False)
        child.channel = channel = await Channel.over(ours)
        child.started_s = self._loop.time()
        channel.send(self._hello(child))
        first = None
        with contextlib.suppress(TimeoutError):
            first = await asyncio.wait_for(channel.receive(), START_S)
        if first is not None and first["is"] == "ready":
            child.is_ready = True
            self.metrics.count("worker_started")
            self._spawn(self._attend(child, channel), name=f"worker {child.number}")
            return first
        await self._bury(child)
        return first if first is not None else {"is": "failed", "why": "a worker ended before it was ready"}

    def _hello(self, child: _Child) -> dict[str, Any]:
        return {
            "number": child.number,
            "proxy": [join_host_port(*address) for address in self.proxy_addresses],
            "transparent": [join_host_port(*address) for address in self.transparent_addresses],
            "admin": self.admin_addresses,
            "memory": self._memory.fd if self._memory is not None else None,
            **_told(self.config, self._files),
        }

    async def _attend(self, child: _Child, channel: Channel) -> None:
        """Hear one worker until it is gone; then start it again."""
        while (message := await channel.receive()) is not None:
            if message["is"] == "metrics":
                child.families = message["families"]
            child.heard(message)
        await self._bury(child)
        if self._is_ending:
            return
        self.metrics.count("worker_ended")
        lived_s = self._loop.time() - child.started_s
        child.deaths = 0 if lived_s > STEADY_S else child.deaths + 1
        code = child.process.returncode if child.process is not None else None
        self.json_log.event(
            "error", "worker_ended", worker=child.number, code=code,
            message=f"worker {child.number} ended by itself; it is started again",
        )  # fmt: skip
        while not self._is_ending:
            if child.deaths:
                await asyncio.sleep(PAUSES_S[min(child.deaths - 1, len(PAUSES_S) - 1)])
            async with self._reloading:
                if self._is_ending or (await self._launch(child))["is"] == "ready":
                    return
            child.deaths += 1

    async def _bury(self, child: _Child) -> None:
        """Its end: reaped, its slots given back, its counts kept."""
        child.is_ready = False
        channel, child.channel = child.channel, None
        child.lost()
        if channel is not None:
            await channel.close()
        if child.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.process.wait, ANSWER_S)
            if child.process.poll() is None:
                child.process.kill()
                await asyncio.to_thread(child.process.wait)
        if self._store is not None:
            self._store.forget_worker(child.number)
        if child.families:
            self._gone.append([family for family in child.families if family[2] != "gauge"])
            self._gone = [merged(self._gone)]
            child.families = []

    # -- reload

    def reload_from_file(self, cause: str = "signal") -> None:
        """cause: for the audit log, "signal" or the file that changed."""
        self._spawn(self._reload(cause), name="reload")

    async def _reload(self, cause: str) -> None:
        async with self._reloading:
            try:
                config = load_again(self.config, self.environ)
                await self._apply(config, cause)
            except (ConfigError, StartError) as exc:
                self.metrics.count("reload_failed")
                self.json_log.event("error", "reload_failed", message=f"the old configuration stays in force: {exc}")
                self._note("reload_refused", cause=cause, message=str(exc))

    def _reload_refused(self, sentence: str) -> None:
        self.json_log.event("warning", "reload_refused", message=sentence)
        self._note("reload_refused", message=sentence)

    def _note(self, event: str, **members: Any) -> None:
        """For the audit log of the first worker that is there."""
        for child in self._children:
            if child.is_ready and child.channel is not None:
                child.channel.send({"do": "note", "event": event, "members": members})
                return

    async def _apply(self, config: Config, cause: str) -> None:
        """Raises: StartError with the reason of the first worker that cannot."""
        live, restart = diff(self.config, config)
        ready = [child for child in self._children if child.is_ready]
        files = read_files(config.policies)
        told = {"do": "prepare", **_told(config, files)}
        answers = await asyncio.gather(*(child.ask(told, "prepared") for child in ready))
        why = next((_why(answer) for answer in answers if _why(answer)), None)
        if why is not None:
            for child in ready:
                if child.channel is not None:
                    child.channel.send({"do": "abort"})
            raise StartError(why)
        self.config, self._files = config, files  # whoever is started from here on begins with them
        await asyncio.gather(*(child.ask({"do": "commit", "cause": cause}, "committed") for child in ready))
        self.json_log.set_level(config.telemetry.log_level)
        self._watch()
        self.metrics.count("reloaded")
        self.json_log.event("info", "reloaded", applied=live, after_restart=restart)

    # -- metrics

    async def exposition(self) -> bytes:
        """What /metrics serves: the sum over all workers, those that are gone included."""
        from prometheus_client import CollectorRegistry, generate_latest

        await asyncio.gather(*(child.ask({"do": "metrics"}, "metrics") for child in self._children if child.is_ready))
        own = [
            [family.name, family.documentation, family.type, [[s.name, s.labels, s.value] for s in family.samples]]
            for family in self.metrics.collect()
        ]
        whole = merged([own, *self._gone, *(child.families for child in self._children)])
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Merged(whole, sum(child.is_ready for child in self._children)))
        return generate_latest(registry)

    # -- the end

    async def drain(self) -> None:
        """Cancel it to stop at once."""
        self._is_ending = True
        if self._watcher is not None:
            self._watcher.close()
        timeout_s = self.config.timeouts.drain_s + ANSWER_S
        try:
            await asyncio.gather(
                *(child.ask({"do": "drain"}, "drained", timeout_s) for child in self._children if child.is_ready)
            )
        finally:
            await self.stop()

    async def stop(self) -> None:
        self._is_ending = True
        if self._watcher is not None:
            self._watcher.close()
        for child in self._children:
            if child.channel is not None:
                child.channel.send({"do": "stop"})
        for child in self._children:
            await self._bury_later(child)
        if self._admin is not None:
            await self._admin.close()
            self._admin = None
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for sock in self._held:
            sock.close()
        self._held = []
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self.json_log.close()

    async def _bury_later(self, child: _Child) -> None:
        if child.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.process.wait, ANSWER_S)
        if child.channel is not None:
            await self._bury(child)

    def _spawn(self, coro: Any, *, name: str) -> None:
        task = self._loop.create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.metrics.count("internal_error")
            self.json_log.event("error", "internal_error", where=task.get_name(), type=type(exc).__name__)


def merged(parts: list[Any]) -> list[Any]:
    """The same metrics of several processes as one: counters, histograms and levels add up, what is shared does not."""
    families: dict[str, list[Any]] = {}
    values: dict[str, dict[tuple[Any, ...], float]] = {}
    for part in parts:
        for name, text, kind, samples in part:
            families.setdefault(name, [name, text, kind])
            rows = values.setdefault(name, {})
            for sample, labels, value in samples:
                key = (sample, tuple(labels.items()))
                before = rows.get(key, 0.0)
                rows[key] = max(before, value) if name in SHARED_GAUGES else before + value
    return [
        [*family, [[sample, dict(labels), value] for (sample, labels), value in values[name].items()]]
        for name, family in families.items()
    ]


class _Merged:
    """prometheus_client's Collector."""

    def __init__(self, families: list[Any], ready: int) -> None:
        self._families = families
        self._ready = ready

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily, Metric

        for name, text, kind, samples in self._families:
            family = Metric(name, text, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, labels, value)
            yield family
        yield GaugeMetricFamily("outrider_workers", "Workers that serve.", value=self._ready)


def _told(config: Config, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What a worker needs to have the same configuration."""
    return {
        "path": str(config.path) if config.path is not None else None,
        "content": config.content.decode("utf-8", "surrogateescape"),
        "only_found": config.only_found,
        "files": {name: content.decode("utf-8", "surrogateescape") for name, content in files.items()},
    }


def _why(answer: dict[str, Any] | None) -> str | None:
    if answer is None:
        return "a worker did not answer in time; try again"
    why: str | None = answer["why"]
    return why


async def supervise(config: Config, environ: Mapping[str, str], announce: Callable[["Supervisor"], None]) -> int:
    """`outrider run` with several workers, until a signal. Raises: StartError."""
    supervisor = Supervisor(config, environ)
    await supervisor.start()
    await until_told(supervisor, lambda: announce(supervisor))
    return os.EX_OK
