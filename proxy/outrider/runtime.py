"""The composition root: a Config becomes a running sidecar; start, reload, drain.

Rules: everything that can be refused is refused in `start`, before a connection is accepted, with one StartError; a
reload applies whole or not at all and says why; draining lets answers in flight finish, then closes; tasks are made in
one place and are all gone at the end.
"""

import asyncio
import contextlib
import importlib
import socket
import ssl
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider.admin.server import AdminServer
from outrider.admin.token import AdminToken
from outrider.authority import AuthorityError, parse_authority
from outrider.config import Config, ConfigError, load_again, located
from outrider.config.reload import FileWatcher, diff
from outrider.door.ca import CertificateAuthority, utc_now
from outrider.door.contract import Deny, DoorLimits, Origin, Peer, Verdict
from outrider.door.door import Door
from outrider.door.listener import Listener, bind
from outrider.door.unix_socket import unix_credentials
from outrider.errors import SidecarError, StartError
from outrider.govern.limits import Ledger, memory_ledger
from outrider.govern.redaction import RedactError
from outrider.govern.virtual_keys import MIN_ID_CHARS, key_id
from outrider.lanes.http1 import Desk
from outrider.lanes.sock_diag import SockDiag, is_local
from outrider.lanes.tunnel import Splice
from outrider.providers.registry import RegistryError
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.slow import SlowSource
from outrider.secrets.sources import FileSource
from outrider.snapshot import Shared, Snapshot
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider.untrusting import advice_for
from outrider.upstream.breaker import STATES
from outrider_ext.callers import Caller
from outrider_ext.limits import Clock
from outrider_ext.readbuffers import trim_heap
from outrider_ext.relay import Downstream, Hub

if TYPE_CHECKING:
    from outrider.store.redis import RedisStore
    from outrider.store.shm import SharedMemory
    from outrider.telemetry.audit import AuditLog

SWEEP_S = 1.0
SLOW_REFRESH_S = 60.0
CROWD_CONNECTIONS = 200  # about 20 MB; below it trimming is not worth its millisecond
# What an operator should hear of the store that a fleet shares; all else is counted only.
STORE_SENTENCES = {
    "store_lost": ("warning", "the store of state.url does not answer; until it does, on_store_error: {rule} decides"),
    "store_joined": ("info", "the store of state.url answers again"),
    "store_state_lost": (
        "warning",
        "the store of state.url forgot counts or went back to older ones; it was flushed or failed over",
    ),
}
# What the door turns away before there is an exchange; it says so by log().
DOOR_REFUSALS = frozenset((
    "connect_bad", "connect_denied", "loop", "sni_mismatch", "host_mismatch", "http2_denied", "transparent_denied",
    "opaque_closed", "client_hello_bad",
))  # fmt: skip
FOLDED = frozenset(("admin_refused",))  # lines of the audit log of which only the first is whole
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """What one of several workers is given by its supervisor: the addresses that were found, and the shared memory."""

    number: int
    proxy: tuple[str, ...]
    transparent: tuple[str, ...]
    admin: tuple[tuple[str, int], ...]  # the supervisor's: nobody is tunnelled there
    memory: "SharedMemory | None"


class Sidecar:
    """One sidecar in this process's running loop.

    start() -> None          raises StartError, ConfigError; afterwards the `…_addresses` are the real ones
    reload(config) -> None   raises ConfigError / StartError and changes nothing
    drain() -> None          stop accepting, finish what is in flight (at most timeouts.drain_s), stop
    stop() -> None           at once
    """

    def __init__(self, config: Config, environ: Mapping[str, str], part: Part | None = None) -> None:
        self.part = part
        self.config = config
        self.environ = environ
        self.metrics = Metrics(config.telemetry.models_max)
        self.json_log = JsonLog(config.telemetry.log, config.telemetry.log_level)
        self.audit: AuditLog | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tunnels: set[Splice] = set()
        self._doors: list[Door] = []
        self._listeners: list[Listener] = []
        self._admin: AdminServer | None = None
        self._watcher: FileWatcher | None = None
        self._watched: tuple[Path, ...] = ()
        self._probe_at_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._accepting = False
        self._memory: SharedMemory | None = None
        self._slow_at_s = 0.0
        self._fleet: RedisStore | None = None
        self._far_store: Any = None
        self._peak_connections = 0
        self.proxy_addresses: list[tuple[str, int]] = []
        self.transparent_addresses: list[tuple[str, int]] = []
        self.admin_addresses: list[tuple[str, int]] = []
        self.proxy_paths: list[str] = []  # of Unix sockets
        self.admin_paths: list[str] = []
        self._diag = SockDiag()

    # -- start

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.json_log.bind(self._loop)
        try:
            self._open_ca()
            self._open_audit()
            sockets = self._bind()
            try:
                self._compose()
                await self._shared.ledger.store.start()
                await self._open_admin(sockets["admin"])
            except BaseException:
                for group in sockets.values():
                    for sock in group:
                        sock.close()
                raise
            self._open_doors(sockets)
        except BaseException:
            if self.audit is not None:
                self.audit.close(reason="the start failed")
            self.json_log.close()
            raise
        if self.audit is not None:
            ca = sha256(self.ca.certificate_pem).hexdigest()  # another one: it was renewed, or made anew
            self.audit.event("start", **self._about(), ca_sha256=ca)
            self.audit.start(self._loop, self.hub)
        self._watch()
        self._sweep()
        if self.config.models:
            self.spawn(self._foresee(), name="adapters of dialects")

    async def _foresee(self) -> None:
        """What the first translated call would otherwise wait for, and every stream with it: 0.15 s of imports."""
        await asyncio.to_thread(importlib.import_module, "outrider.stack.translate")

    def _open_ca(self) -> None:
        ca = self.config.ca
        constraints = self._constrained_names() if ca.name_constraints else ()
        self.ca = CertificateAuthority.open(ca.dir, now=utc_now, name_constraints=constraints)
        self.placeholder = Placeholder.open(ca.dir)

    def _open_audit(self) -> None:
        settings = self.config.telemetry.audit
        if settings.path is None:
            return
        from outrider.telemetry.audit import KEY_FILE, AuditLog  # for those who write one

        key_file = settings.key_file or self.config.ca.dir / KEY_FILE
        if key_file.resolve().parent == settings.path.resolve().parent:
            where = self.config.where("telemetry", "audit", "path")
            raise StartError(
                f"{where}: telemetry.audit: the key {key_file} lies in the log's own folder, where whoever changes the "
                "log finds it; move one of the two",
                exit_code=2,
            )
        worker = self.part.number if self.part is not None else 0
        self.audit = AuditLog(settings, key_file, self.metrics, self.json_log, worker=worker)

    def _about(self) -> dict[str, object]:
        """What the audit log says of the configuration in force: where it came from and its content's hash."""
        from outrider import __version__  # looked up in the installation: not for every start

        path = self.config.path
        content = b""
        if path is not None:
            with contextlib.suppress(OSError):
                content = path.read_bytes()
        return {"version": __version__, "config": self.config.source, "config_sha256": sha256(content).hexdigest()}

    def _constrained_names(self) -> tuple[str, ...]:
        from outrider.providers.registry import Registry

        registry = Registry(self.config.providers)
        return (*sorted(registry.exact_hosts()), *registry.patterns())

    def _bind(self) -> dict[str, list[socket.socket]]:
        listen, part = self.config.listen, self.part
        groups: dict[str, list[socket.socket]] = {}
        try:
            for name, addresses in (
                ("proxy", listen.proxy if part is None else part.proxy),
                ("transparent", listen.transparent if part is None else part.transparent),
                ("admin", listen.admin if part is None else ()),
            ):
                groups[name] = (
                    bind(
                        addresses,
                        shared=part is not None,
                        unix_mode=listen.unix_mode,
                        unix_group=listen.unix_group,
                    )
                    if addresses
                    else []
                )
        except BaseException:
            for group in groups.values():
                for sock in group:
                    sock.close()
            raise
        self.proxy_addresses, self.transparent_addresses, self.admin_addresses = (
            [sock.getsockname()[:2] for sock in groups[name] if sock.family != socket.AF_UNIX]
            for name in ("proxy", "transparent", "admin")
        )
        self.proxy_paths, self.admin_paths = (
            [str(sock.getsockname()) for sock in groups[name] if sock.family == socket.AF_UNIX]
            for name in ("proxy", "admin")
        )
        if part is not None:
            self.admin_addresses = list(part.admin)
        return groups

    def _ledger(self) -> Ledger:
        """The state that limits and budgets count in. Raises: StartError."""
        state, clock = self.config.state, Clock()
        kind = state.url.kind
        if kind == "memory" and self.part is not None:
            kind = "shm"  # a worker of several: each for itself would be a limit for each
        if kind == "memory":
            return memory_ledger(self.metrics, self.json_log, clock)

        def now_ns() -> int:
            return clock.steady(time.monotonic_ns())

        if kind == "shm":
            from outrider.store.shm import SharedMemory, ShmStore

            if self.part is None or self.part.memory is None:
                self._memory = SharedMemory.create(self.config.caps.limit_keys)
            memory = self._memory if self._memory is not None else self.part.memory if self.part is not None else None
            assert memory is not None
            number = self.part.number if self.part is not None else 0
            shm = ShmStore(
                memory, number, now_ns, self.config.caps.limit_keys, lambda: self.metrics.count("limit_keys_full")
            )
            return Ledger(shm, clock, self.metrics, self.json_log)
        from outrider.store.opening import redis_store  # redis-py takes 0.1 s and some MB

        self._fleet = redis_store(self.config, self.environ, now_ns, self._store_event, self.spawn)
        self._fleet.on_revoked = self._revoked_in_fleet
        return Ledger(self._fleet, clock, self.metrics, self.json_log)

    def _open_far(self) -> Any:
        """Where the fleet remembers answers, None where none does. Raises: StartError."""
        if self.config.cache.store == "memory":
            return None
        from outrider.stack.far import Far
        from outrider.store.opening import redis_cache

        self._far_store = store = redis_cache(self.config, self.environ, self.metrics.count, self.spawn)
        self.spawn(store.learn(), name="cache learning")
        return Far(store)

    def _store_event(self, event: str) -> None:
        self.metrics.count(event)
        if event in STORE_SENTENCES:
            level, sentence = STORE_SENTENCES[event]
            rule = self.config.state.on_store_error
            why = {"why": self._fleet.why} if event == "store_lost" and self._fleet is not None else {}
            self.json_log.event(level, event, message=sentence.format(rule=rule), **why)

    # -- revocations

    def _revoked_in_fleet(self, name: str) -> None:
        try:
            self._shared.revocations.revoke(key_id(name))
        except ValueError:
            self.metrics.count("store_forged")  # sealed with the fleet's key, and yet none of ours

    def _revocations_changed(self, source: str, added: list[str], removed: list[str]) -> None:
        """Told to the audit log, and what this sidecar was told by its own configuration to the fleet."""
        fresh = [one for one in added if self._shared.revocations.sources_of(one) == [source]]
        for event, ids in (("key_revoked", fresh), ("key_unrevoked", removed)):
            if ids and self.audit is not None:
                self.audit.event(event, source=source, count=len(ids), keys=[one[:MIN_ID_CHARS] for one in ids[:100]])
        if added and source != "fleet" and self._fleet is not None:
            self.spawn(self._fleet.revoke(*added), name="revocations")

    @property
    def _is_shared(self) -> bool:
        """Whether others count by the same clock."""
        return self.part is not None or self.config.state.url.kind != "memory"

    def _compose(self) -> None:
        self.hub = Hub(None, self._loop)
        self._shared = Shared(
            metrics=self.metrics,
            log=self.json_log,
            placeholder=self.placeholder,
            ledger=self._ledger(),
            environ=self.environ,
            context_for=self.ca.context_for,
            hub=self.hub,
            audit=self.audit,
            listeners=tuple(self.proxy_addresses + self.transparent_addresses + self.admin_addresses),
            has_unix=bool(self.proxy_paths),
            open_far=self._open_far,
        )
        self._shared.revocations.on_change = self._revocations_changed
        if self.audit is not None:
            audit = self.audit
            self._shared.ledger.listeners.append(lambda about: audit.event("budget_threshold", **about))
        self.snapshot = self._snapshot(self.config, None)
        self._shared.ledger.use(self.snapshot.rules, self.config.caps.limit_keys)
        self.snapshot.take_over()
        desk = Desk(
            self.snapshot.router,
            self.metrics,
            self.json_log,
            self.spawn,
            held_body_bytes=self.config.caps.held_body_bytes,
            audit=self.audit,
        )
        self.lane = self.hub.owner = desk.lane
        self._apply_numbers(self.config)
        self.metrics.gauges.append(self._gauges)

    def _snapshot(self, config: Config, before: Snapshot | None) -> Snapshot:
        try:
            snapshot = Snapshot(config, self._shared, before)
        except (RegistryError, RedactError) as exc:
            raise located(config, exc.problems) from exc
        self.ca.expect({snapshot.registry.pattern_of(host) for host in snapshot.registry.exact_hosts()})
        return snapshot

    def _apply_numbers(self, config: Config) -> None:
        hub, caps, timeouts = self.hub, config.caps, config.timeouts
        hub.head_bytes = caps.head_bytes
        hub.event_bytes = caps.event_bytes
        hub.usage_bytes = caps.usage_bytes
        hub.buffer_bytes = caps.write_buffer_bytes
        hub.client_head_ns = int(timeouts.client_head_s * _NS)
        hub.client_idle_ns = int(timeouts.client_idle_s * _NS)
        hub.body_idle_ns = int(timeouts.body_idle_s * _NS)
        hub.first_byte_ns = int(timeouts.first_byte_s * _NS)
        hub.stream_idle_ns = int(timeouts.stream_idle_s * _NS)
        hub.pool_idle_ns = int(config.upstream.idle_timeout_s * _NS)
        limits = DoorLimits(
            first_byte_s=timeouts.client_idle_s,
            connect_head_s=timeouts.client_head_s,
            detect_s=timeouts.detect_s,
            client_hello_s=timeouts.client_head_s,
            http2=config.http2,
        )
        for door in self._doors:
            door.limits = limits
        self._door_limits = limits

    async def _open_admin(self, sockets: list[socket.socket]) -> None:
        if sockets:
            self._admin = AdminServer(
                sockets,
                metrics=self.metrics.exposition,
                ca_pem=self.ca.certificate_pem,
                is_ready=lambda: self._accepting and not (self.audit is not None and self.audit.chain.denies),
                trouble=lambda: self.audit.trouble if self.audit is not None else "",
                on_refused=lambda **about: self.note("admin_refused", **about),
                token=self._admin_token(),
                forget=self.forget,
            )
            await self._admin.start()

    def _admin_token(self) -> AdminToken:
        token = AdminToken(self.config.ca.dir)
        if self.config.cache.mode != "off":
            token.ensure()
        return token

    def forget(self, asked: dict[str, Any]) -> int:
        """Remembered answers: all, or those of the given key, model and principal; how many went."""
        state = self._shared.cache
        self.metrics.count("cache_invalidated")
        if self.audit is not None:
            self.audit.event("cache_invalidated", **asked)
        if state is None:
            return 0
        gone: int = state.invalidate(**asked)
        if state.far is not None:
            self.spawn(state.far.forget(**asked), name="cache forget")
        return gone

    def _open_doors(self, sockets: dict[str, list[socket.socket]]) -> None:
        for kind in ("proxy", "transparent"):
            if not sockets[kind]:
                continue
            door = Door(self, kind, self.begin, self._door_limits)
            listener = Listener(
                sockets[kind],
                door.handle,
                max_connections=self.config.listen.max_connections,
                connections=self._connection_count,
                count=self.count,
            )
            listener.start()
            self._doors.append(door)
            self._listeners.append(listener)
        self._accepting = True

    def _connection_count(self) -> int:
        return len(self.hub.clients) + len(self._tunnels) + sum(door.open_count for door in self._doors)

    # -- tasks and time

    def spawn(self, coro: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """Tasks are made here and in `begin`; what they raise is logged by type."""
        return self._keep(self._loop.create_task(coro, name=name))

    def begin(self, coro: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """As `spawn`, but it runs up to its first wait at once and not a turn of the loop later."""
        return self._keep(asyncio.Task(coro, loop=self._loop, name=name, eager_start=True))

    def _keep(self, task: "asyncio.Task[None]") -> "asyncio.Task[None]":
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.metrics.count("internal_error")
            self.json_log.event("error", "internal_error", where=task.get_name(), type=type(exc).__name__)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        self.hub.sweep(time.monotonic_ns())
        self._return_memory()
        self._shared.ledger.clock.refresh(self._is_shared)
        if self.audit is not None:
            self.audit.tick()
        now = self._loop.time()
        idle_s = self.config.timeouts.stream_idle_s
        for tunnel in [tunnel for tunnel in self._tunnels if now - tunnel.last_s > idle_s]:
            tunnel.abort()
        for source in self.snapshot.sources.values():
            if isinstance(source, FileSource):
                self._refreshed(source)
        if self.snapshot.revoked_file is not None and (warning := self.snapshot.revoked_file.refresh()) is not None:
            self.json_log.event("warning", "revocations", message=warning)
        probe_s = self.config.resilience.probe.every_s
        if probe_s is not None and now >= self._probe_at_s:
            self._probe_at_s = now + probe_s
            self.snapshot.aliases.probe(time.monotonic_ns(), self.spawn)
        sources = self.snapshot.sources.values()
        if now >= self._slow_at_s and any(isinstance(source, SlowSource) for source in sources):
            self._slow_at_s = now + SLOW_REFRESH_S
            self.spawn(self._refresh_slow(), name="credentials")

    def _return_memory(self) -> None:
        """After a crowd has left, what it needed: malloc keeps freed pages, and the next crowd may never come."""
        count = len(self.hub.clients)
        self._peak_connections = max(count, self._peak_connections)
        if self._peak_connections >= CROWD_CONNECTIONS and count <= self._peak_connections // 2:
            self._peak_connections = count
            trim_heap()

    def _refreshed(self, source: Any) -> None:
        before = source.generation
        warning = source.refresh()
        if warning is not None:
            self.json_log.event("warning", "credential", message=warning)
        elif source.generation != before and before:
            self.json_log.event("info", "credential_rotated", source=source.describe())
            if self.audit is not None:
                self._loop.call_soon_threadsafe(self._note_rotation, source.describe())

    def _note_rotation(self, source: str) -> None:
        if self.audit is not None:
            self.audit.event("credential_rotated", source=source)

    async def _refresh_slow(self) -> None:
        for source in list(self.snapshot.sources.values()):
            if isinstance(source, SlowSource):
                await asyncio.to_thread(self._refreshed, source)

    # -- reload

    def _watch(self) -> None:
        """The configuration's file and those of its policies, which may be others after a reload."""
        if self.config.path is not None and self.part is None:
            if self._watcher is not None:
                self._watcher.close()
            self._watched = (self.config.path, *self.snapshot.policy_files)
            self._watcher = FileWatcher(
                self._watched,
                lambda path: self.reload_from_file(cause=str(path)),
                call_later=self._loop.call_later,
                on_refused=self._reload_refused,
            )
            self._watcher.start()

    def _reload_refused(self, sentence: str) -> None:
        self.json_log.event("warning", "reload_refused", message=sentence)
        self.note("reload_refused", message=sentence)

    def note(self, event: str, **members: Any) -> None:
        """For the audit log; what comes again and again is counted there."""
        if self.audit is not None and not (event in FOLDED and self.audit.fold((event, *members.values()), members)):
            self.audit.event(event, **members)

    def reload_from_file(self, cause: str = "signal") -> None:
        """Load the same file again; on any problem the old configuration stays and the log says why.

        cause: for the audit log, "signal" or the file that changed.
        """
        try:
            config = load_again(self.config, self.environ)
            self.reload(config, cause=cause)
        except (ConfigError, StartError) as exc:
            self.metrics.count("reload_failed")
            self.json_log.event("error", "reload_failed", message=f"the old configuration stays in force: {exc}")
            self.note("reload_refused", cause=cause, message=str(exc))

    def reload(self, config: Config, *, cause: str = "call") -> None:
        self.apply(config, self.prepare(config), cause=cause)

    def prepare(self, config: Config) -> Snapshot:
        """What a reload to this configuration would make; nothing is changed. Raises: ConfigError, StartError."""
        return self._snapshot(config, self.snapshot)

    def apply(self, config: Config, snapshot: Snapshot, *, cause: str = "call") -> None:
        """Put what was prepared in force."""
        live, restart = diff(self.config, config)
        old = self.snapshot
        self.snapshot, self.config = snapshot, config
        snapshot.take_over()
        self._slow_at_s = 0.0  # what is new among the slow credentials is fetched at the next sweep
        self._ask_again(snapshot)
        self.lane.router = snapshot.router
        self.lane.held_body_bytes = config.caps.held_body_bytes
        self._apply_numbers(config)
        self._shared.ledger.use(snapshot.rules, config.caps.limit_keys)
        self.json_log.set_level(config.telemetry.log_level)
        old.close()
        if self._watched and self._watched[1:] != snapshot.policy_files:
            self._watch()
        self.metrics.count("reloaded")
        self.json_log.event("info", "reloaded", applied=live, after_restart=restart)
        if self.audit is not None:
            self.audit.apply(config.telemetry.audit)
            self.audit.event("reloaded", cause=cause, applied=live, after_restart=restart, **self._about())

    # -- what the door asks

    def verdict(self, host: str, port: int) -> Verdict:
        return self.snapshot.verdict(host, port)

    def is_own_address(self, host: str, port: int) -> bool:
        return self.snapshot.is_own_address(host, port) or self.snapshot.dialer.is_own_end(host, port)

    def caller(self, sock: socket.socket, peer: Peer, destination: tuple[str, int] | None) -> Caller:
        if sock.family == socket.AF_UNIX:
            try:
                pid, uid, gid = unix_credentials(sock)
            except OSError:
                self.metrics.count("uid_unknown")
                return Caller(is_unix=True)
            return Caller(uid=uid, gid=gid, pid=pid, is_unix=True)
        caller = Caller()
        if self.snapshot.directory.needs_uid:
            self._ask_uid(caller, sock, peer, destination)
        return caller

    def _ask_uid(self, caller: Caller, sock: Any, peer: Peer, destination: tuple[str, int] | None) -> None:
        """A client of another machine has no owner here, and is not asked for."""
        caller.asked = True
        try:
            wanted = destination or sock.getsockname()
        except OSError:
            wanted = ()
        if not peer or not wanted:
            self.metrics.count("uid_unknown")
        elif destination is not None or is_local(peer[0], wanted[0]):
            caller.uid = self._diag.uid_of(peer, wanted)
            if caller.uid is None:
                self.metrics.count("uid_unknown")

    def _ask_again(self, snapshot: Snapshot) -> None:
        """Connections that came before a configuration with users was in force."""
        if not snapshot.directory.needs_uid:
            return
        for client in self.hub.clients:
            origin = client.origin
            if not origin.caller.asked and client.transport is not None:
                sock = client.transport.get_extra_info("socket")
                redirected = (origin.address, origin.port) if origin.address else None
                self._ask_uid(origin.caller, sock, origin.peer, redirected)

    def note_token(self, caller: Caller, value: bytes | None) -> Deny | None:
        try:
            self.snapshot.directory.note_token(caller, value)
        except SidecarError as error:
            return Deny(error.code, error.status, str(error))
        return None

    def admit_tunnel(self, caller: Caller) -> Deny | None:
        try:
            self.snapshot.directory.admit_tunnel(caller)
        except SidecarError as error:
            return Deny(error.code, error.status, str(error))
        return None

    def serve_http(self, sock: socket.socket, origin: Origin, context: ssl.SSLContext | None) -> None:
        self.begin(self._serve(sock, origin, context), name="accept")

    async def _serve(self, sock: socket.socket, origin: Origin, context: ssl.SSLContext | None) -> None:
        try:
            if context is None:
                await self._loop.connect_accepted_socket(lambda: Downstream(self.hub, origin), sock)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: Downstream(self.hub, origin), sock, ssl=context,
                    ssl_handshake_timeout=self.config.timeouts.tls_s, ssl_shutdown_timeout=2.0,
                )  # fmt: skip
        except (OSError, TimeoutError) as exc:
            sock.close()
            self._note_handshake(origin, exc)

    def _note_handshake(self, origin: Origin, exc: Exception) -> None:
        """A client that turns our certificate away is the most common trouble there is: say what to set."""
        reason = exc.reason or "" if isinstance(exc, ssl.SSLError) else ""
        name = origin.host or ""
        advice = advice_for(reason)
        self.count("client_untrusting" if advice else "client_handshake_failed", name)
        if advice:
            self.json_log.event("warning", "client_untrusting", host=name, reason=reason, message=advice)
        else:
            self.json_log.event("debug", "client_handshake_failed", host=name, reason=reason or type(exc).__name__)

    async def dial(self, host: str, port: int, *, address: str | None = None) -> socket.socket:
        snapshot = self.snapshot
        return await snapshot.dialer.connect(host, port, private_ok=snapshot.private_ok, address=address)

    def tunnel(self, client: socket.socket, upstream: socket.socket, name: str, caller: Caller) -> None:
        if self.audit is not None:
            self._note_tunnel(name, caller)
        splice = Splice(self._tunnel_closed, self._loop.time)
        self._tunnels.add(splice)
        self.spawn(self._start_tunnel(splice, client, upstream), name="tunnel")

    def _note_tunnel(self, name: str, caller: Caller) -> None:
        """Nobody looks into it; that it was opened, for whom and by which key, is to be known all the same."""
        try:
            found = self.snapshot.directory.admitted(caller)
        except SidecarError:  # revoked since it was admitted, a moment ago
            return
        members = {"principal": {"id": found.principal.id}, "destination": name}
        self.note("tunnel", **members, **({"key_id": found.key_id} if found.key_id is not None else {}))

    async def _start_tunnel(self, splice: Splice, client: socket.socket, upstream: socket.socket) -> None:
        try:
            await splice.start(client, upstream)
        except OSError:
            self._tunnels.discard(splice)

    def _tunnel_closed(self, splice: Splice) -> None:
        self._tunnels.discard(splice)
        self.metrics.count("tunnel_closed")

    def count(self, event: str, name: str) -> None:
        """name: a destination, host or host:port. The label is its provider, as hosts under a pattern have no bound."""
        try:
            named = parse_authority(name.encode("ascii", "replace"), 443)
        except AuthorityError:
            binding = None
        else:
            binding = self.snapshot.registry.by_host(named.host, named.port)
        self.metrics.count(event, binding.name if binding is not None else "")

    def log(self, level: str, event: str, **fields: object) -> None:
        self.json_log.event(level, event, **fields)
        if self.audit is not None and event in DOOR_REFUSALS:
            about = {"error": event, "destination": str(fields.get("destination", ""))}
            if not self.audit.fold((event, about["destination"]), about):
                self.audit.event("refusal", **{**fields, **about})

    # -- gauges

    def _gauges(self) -> Any:
        hub = self.hub
        idle = sum(pool.idle_count for _, pool in self.snapshot.pools())
        values = {
            ("client", "open"): float(len(hub.clients)),
            ("client", "active"): float(hub.exchanges),
            ("client", "door"): float(sum(door.open_count for door in self._doors)),
            ("client", "tunnel"): float(len(self._tunnels)),
            ("provider", "open"): float(len(hub.upstreams)),
            ("provider", "idle"): float(idle),
        }
        yield "outrider_connections", "Connections now.", ("side", "state"), values
        spent = self.snapshot.rules.spent(self._shared.ledger.clock.wall(time.monotonic_ns()))
        yield "outrider_budget_spent", "Spent in the current period.", ("budget", "key", "unit"), spent
        held: dict[tuple[str, ...], float] = {}
        if self._shared.cache is not None:
            memory = self._shared.cache.memory
            held = {("bytes",): float(memory.held_bytes), ("entries",): float(len(memory))}
        yield "outrider_cache_held", "Remembered answers.", ("unit",), held
        opened: dict[tuple[str, ...], float] = {}
        for name, pool in self.snapshot.pools():
            opened[(name,)] = opened.get((name,), 0.0) + pool.opened
        yield "outrider_upstream_connections_opened", "Connections made to providers.", ("provider",), opened
        now_ns = time.monotonic_ns()
        states: dict[tuple[str, ...], float] = {
            (health.name,): float(STATES[health.breaker.state(now_ns)]) for health in self._shared.healths.all()
        }
        text = "Whether a target is used: 0 closed, 1 half open, 2 open, 3 cooling down."
        yield "outrider_breaker_state", text, ("target",), states

    # -- the end

    async def drain(self) -> None:
        """Finish what is in flight, then stop. Cancel it (a second signal) to stop at once."""
        if self._accepting:
            self.note("drain", connections=len(self.hub.clients), timeout_s=self.config.timeouts.drain_s)
        self._accepting = False
        for listener in self._listeners:
            listener.close()
        for door in self._doors:
            door.close()
        self.hub.drain()
        deadline = self._loop.time() + self.config.timeouts.drain_s
        try:
            # Clients too: the end of an answer may still be on its way out.
            while (self.hub.clients or self._tunnels) and self._loop.time() < deadline:
                self.hub.drain()
                await asyncio.sleep(0.05)
        finally:
            await self.stop()

    async def stop(self) -> None:
        self._accepting = False
        for listener in self._listeners:
            listener.close()
        for door in self._doors:
            door.close()
        if self._watcher is not None:
            self._watcher.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.hub.draining = True
        self.hub.abort_all()
        for tunnel in list(self._tunnels):
            tunnel.abort()
        self.snapshot.close()
        if self._admin is not None:
            await self._admin.close()
        await self._shared.ledger.store.close()
        if self._far_store is not None:
            await self._far_store.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        await self._end_tasks()
        if self._shared.onnx is not None:
            self._shared.onnx.close()
        self._diag.close()
        if self.audit is not None:
            self.audit.close()
        self.json_log.close()

    async def _end_tasks(self) -> None:
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        for _ in range(100):  # callbacks of closed transports come in the next passes of the loop
            if not self._tasks and not self.hub.clients and not self.hub.upstreams and not self._tunnels:
                return
            await asyncio.sleep(0.005)
