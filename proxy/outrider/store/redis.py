"""Limits, budgets and revocations of a fleet, in Redis; the request path never waits for it (see `leases`).

Rules
- One connection for all steps, all that is due in one round trip, a deadline on each. What fails is sent again as it
  was until it is answered; after a failure the connection is made anew, to the next address where there are several,
  with growing pauses. A server that may not write (a replica, a full or loading one) is one that failed.
- Scripts are called by their hash, and sent whole to a server that does not know them (restarted, flushed).
- No name stands in a key: it is an HMAC under the fleet's key. What is more than a number (revocations) is sealed with
  AES-256-GCM under it. Numbers cannot be (scripts count with them): answers are clamped to what was asked.
- All keys of one step share a tag, so that a cluster has them in one place.
- Revocations are learned from a channel at once, and by counting them each second; what was learned is never unlearned,
  and is written again where it was lost.
- By Sentinel: who the master is, is asked anew for every connection.
Does not know: requests, principals, configuration files.
"""

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from outrider.secrets.secret import Secret
from outrider.store import redis_scripts
from outrider.store.base import Algorithm, Counter, Slots, Spend
from outrider.store.leases import BORROW_S, LeasedCounter, LeasedSlots, LeasedSpend, OnError, StoreAnswerError
from outrider.store.seals import Seals

OVERFLOW = "\0overflow"
TICK_S = 0.25
FLEET_S = 1.0
BATCH = 500
MAX_REVOKED = 10_000  # of a fleet: beyond it none is learned any more, and that is counted
WHY_CHARS = 200
PAUSES_S = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_SCRIPTS = {name: getattr(redis_scripts, name) for name in ("RATE", "SPEND", "SLOTS", "FLEET")}
_HASHES = {name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in _SCRIPTS.items()}
_NO_KEY = b"outrider without a fleet key"
# What a client raises where the store does not answer as it should; a cluster's error is no RedisError.
FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)

type Item = LeasedCounter | LeasedSlots | LeasedSpend


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where and how. addresses: (host, port), tried in turn; or a socket's path. fleet_key: None is no secrecy.

    sentinel: the master's name; addresses are then the sentinels'. cert, cert_key: what we show in TLS.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    unix_path: str | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    cluster: bool = False
    sentinel: str | None = None
    sentinel_password: Secret | None = None
    database: int = 0
    user: str | None = None
    password: Secret | None = None
    fleet_key: Secret | None = None
    on_error: OnError = "local"
    prefix: str = "outrider"
    deadline_s: float = 0.25
    lease_s: float = 10.0


async def connect(settings: RedisSettings, at: int = 0) -> Any:
    """A client. at: which of the addresses is tried. By Sentinel the master is asked for first.

    Raises: FAILURES where no sentinel knows one.
    """
    common: dict[str, Any] = {
        "socket_timeout": settings.deadline_s,
        "socket_connect_timeout": settings.deadline_s,
        "retry": Retry(NoBackoff(), 0),
        "username": settings.user,
        "password": settings.password.expose().decode() if settings.password is not None else None,
        "protocol": 2,
    }
    if settings.tls:
        common |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": str(settings.ca) if settings.ca is not None else None,
            "ssl_certfile": str(settings.cert) if settings.cert is not None else None,
            "ssl_keyfile": str(settings.cert_key) if settings.cert_key is not None else None,
        }
    if settings.cluster:
        nodes = [ClusterNode(host, port) for host, port in settings.addresses]
        return RedisCluster(startup_nodes=nodes, **common)
    common |= {"db": settings.database, "max_connections": 4}
    if settings.unix_path is not None:
        return Redis(unix_socket_path=settings.unix_path, **common)
    host, port = settings.addresses[at % len(settings.addresses)]
    if settings.sentinel is not None:
        host, port = await _ask_sentinels(settings, settings.sentinel, common)
    return Redis(host=host, port=port, **common)


async def close_client(client: Any) -> None:
    """All its connections. Raises: as the client does.

    A cluster's client by itself does nothing where it is just connecting, or where closing it was cut short before.
    """
    await client.aclose()
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        await nodes.aclose()
        await nodes.aclose("startup_nodes")


async def _ask_sentinels(settings: RedisSettings, master: str, common: dict[str, Any]) -> tuple[str, int]:
    """Where the master is, by the first of them that knows."""
    password = settings.sentinel_password
    own = {name: value for name, value in common.items() if name not in ("db", "username", "password")}
    own["password"] = password.expose().decode() if password is not None else None
    sentinels: Any = Sentinel(list(settings.addresses), sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(settings.deadline_s * len(settings.addresses)):
            host, port = await sentinels.discover_master(master)
    finally:
        for client in sentinels.sentinels:
            with contextlib.suppress(*FAILURES):
                await client.aclose()
    return str(host), int(port)


class RedisStore:
    """The Store. clock() -> wall-clock ns. count(event): where something is counted. spawn(coro, name=...) -> task.

    Further: fleet (sidecars, last known), is_down, why (it is down, for people), revoke(names), revoked,
    on_revoked(name).
    """

    def __init__(
        self,
        settings: RedisSettings,
        clock: Callable[[], int] = time.time_ns,
        *,
        max_keys: int = 100_000,
        count: Callable[[str], None] = lambda event: None,
        spawn: Callable[..., "asyncio.Task[None]"] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.count = count
        self.max_keys = max_keys
        self.id = secrets.token_hex(8)
        self.fleet = 1
        self.is_down = True  # until it answered once
        self.why = ""
        self._is_lost = False  # it was said that it does not answer
        self.on_error: OnError = settings.on_error
        self.ttl_ms = int(settings.lease_s * 1000)
        self.round_trip_ns = 1_000_000
        self.borrow_s = BORROW_S
        self.revoked: set[str] = set()
        self.on_revoked: Callable[[str], None] = lambda name: None
        self._key = settings.fleet_key.expose() if settings.fleet_key is not None else _NO_KEY
        self._seals = Seals(self._key, b"outrider revocations")
        self._spawn = spawn or _task
        self._kept: OrderedDict[tuple[Any, ...], Item] = OrderedDict()
        self._alive: WeakValueDictionary[tuple[Any, ...], Item] = WeakValueDictionary()
        self._queue: dict[Item, None] = {}
        self._wake = asyncio.Event()
        self._joined = asyncio.Event()  # it has answered once, and what is revoked is known
        self._tasks: list[asyncio.Task[None]] = []
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._dropping: list[Any] = []
        self._at = 0  # which address
        self._failures = 0
        self._fleet_at_s = 0.0
        self._seen_revocations = -1
        self._sealed: dict[bytes, tuple[bytes, str]] = {}  # revocations as they were read: field -> (value, name)
        self._is_closing = False

    # -- the interface

    def counter(self, name: str, key: str, *, algorithm: Algorithm, count: int, period_ns: int, burst: int) -> Counter:
        place = ("rate", name, key, algorithm, count, period_ns, burst)
        found: Counter = self._find(place, lambda tag: LeasedCounter(self, tag, algorithm, count, period_ns, burst))
        return found

    def slots(self, name: str, key: str, *, limit: int) -> Slots:
        found: Slots = self._find(("slots", name, key, limit), lambda tag: LeasedSlots(self, tag, limit))
        return found

    def spend(self, name: str, key: str) -> Spend:
        def make(tag: str) -> LeasedSpend:
            return LeasedSpend(self, lambda period: self._tag("sum", name, key, period))

        found: Spend = self._find(("spend", name, key), make)
        return found

    def keep_only(self, names: frozenset[str]) -> None:
        for place in [place for place in self._kept if place[1] not in names]:
            gone = self._kept.pop(place)
            gone.retired = True
            self.kick(gone)

    async def start(self) -> None:
        """Does not wait for Redis: without it `on_error` holds from the first request."""
        self._tasks = [self._spawn(self._run(), name="store"), self._spawn(self._tick(), name="store clock")]
        if not self.settings.cluster:
            self._tasks.append(self._spawn(self._listen(), name="store revocations"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.deadline_s):
                await self._joined.wait()

    async def close(self) -> None:
        """What is held is given back, if the store answers within its deadline."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.is_down:
            with contextlib.suppress(*FAILURES, StoreAnswerError):
                for item in list(self._alive.values()):
                    item.retired = True
                await self._exchange([item for item in self._alive.values() if not item.is_idle])
                await self._exchange([item for item in self._alive.values() if not item.is_idle])
                async with asyncio.timeout(self.settings.deadline_s):
                    await self._call("FLEET", self._fleet_keys, (self.id, 0))
        await self._disconnect()
        for client in list(self._dropping):
            await self._drop(client)

    # -- what leases need

    def kick(self, item: Any) -> None:
        self._queue[item] = None
        self._wake.set()

    def new_epoch(self) -> str:
        return secrets.token_hex(8)

    def claim(self, key: str, mark: str, then: Callable[[], None]) -> None:
        """then() is called if this sidecar is the first of the fleet to come with that mark, or nobody can say."""
        self._spawn(self._claim(key, mark, then), name="store mark")

    async def _claim(self, key: str, mark: str, then: Callable[[], None]) -> None:
        is_first = True
        with contextlib.suppress(*FAILURES):
            async with self._beside(self.settings.deadline_s):
                if self._client is not None and not self.is_down:
                    is_first = bool(await self._client.execute_command("HSETNX", key, f"m:{mark}", 1))
        if is_first:
            then()

    def _find(self, place: tuple[Any, ...], make: Callable[[str], Any]) -> Any:
        found = self._kept.get(place) or self._alive.get(place)
        if found is None and len(self._kept) >= self.max_keys and place[2] != OVERFLOW and not self._make_room():
            self.count("limit_keys_full")
            return self._find((place[0], place[1], OVERFLOW, *place[3:]), make)
        if found is None:
            found = make(self._tag(*place))
        found.retired = False
        self._kept[place] = self._alive[place] = found
        self._kept.move_to_end(place)
        return found

    def _make_room(self) -> bool:
        idle = [place for place, item in self._kept.items() if item.is_idle][: max(self.max_keys // 16, 8)]
        for place in idle:
            del self._kept[place]
        return bool(idle)

    def _tag(self, *place: Any) -> str:
        """`prefix:{…}`: nobody reads a name from it, and a cluster keeps what has it in one place."""
        text = json.dumps(place).encode()
        return f"{self.settings.prefix}:{{{hmac.digest(self._key, text, 'sha256')[:16].hex()}}}"

    @property
    def _fleet_keys(self) -> tuple[str, str]:
        tag = self._tag("fleet")
        return f"{tag}:f", f"{tag}:r"

    # -- the connection

    async def _ensure(self) -> None:
        """There is a client. Raises: FAILURES."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()

    async def _connect(self) -> Any:
        return await connect(self.settings, self._at)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await self._drop(client)

    async def _drop(self, client: Any) -> None:
        """A task that is cancelled in the midst of it leaves the rest to `close`."""
        self._dropping.append(client)
        with contextlib.suppress(*FAILURES):
            # The client's own deadline comes first: cut short by ours it would leave a socket behind.
            async with asyncio.timeout(self.settings.deadline_s * 3):
                await close_client(client)
        self._dropping.remove(client)

    @property
    def _open(self) -> Any:
        """The client. Raises: OSError."""
        if self._client is None:
            raise ConnectionError("the connection to the store was closed meanwhile")
        return self._client

    @contextlib.asynccontextmanager
    async def _beside(self, deadline_s: float) -> AsyncIterator[None]:
        """What is asked beside the task that connects and disconnects.

        A client of a cluster that was still connecting for us when it was dropped went on with it: it is closed again.
        """
        client = self._client
        try:
            async with asyncio.timeout(deadline_s):
                yield
        finally:
            if client is not None and client is not self._client:
                await self._drop(client)

    async def _call(self, script: str, keys: tuple[str, ...], arguments: Iterable[Any]) -> Any:
        words = (len(keys), *keys, *arguments)
        try:
            return await self._open.execute_command("EVALSHA", _HASHES[script], *words)
        except NoScriptError:
            return await self._open.execute_command("EVAL", _SCRIPTS[script], *words)

    async def _call_all(self, questions: list[tuple[str, tuple[str, ...], tuple[Any, ...]]]) -> list[Any]:
        """All answers, in order; an answer may be an exception. One round trip (a cluster: one for each node)."""
        if self.settings.cluster:
            calls = [self._call(*question) for question in questions]
            return list(await asyncio.gather(*calls, return_exceptions=True))
        async with self._open.pipeline(transaction=False) as pipe:
            for script, keys, arguments in questions:
                pipe.execute_command("EVALSHA", _HASHES[script], len(keys), *keys, *arguments)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        for at, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                self.count("store_scripts_loaded")
                script, keys, arguments = questions[at]
                answers[at] = await self._open.execute_command("EVAL", _SCRIPTS[script], len(keys), *keys, *arguments)
        return answers

    # -- the steps

    async def _run(self) -> None:
        """Ask what is to be asked, one round trip after the other."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = list(self._queue)[:BATCH]
            for item in batch:
                del self._queue[item]
            if self._queue:
                self._wake.set()
            try:
                await self._exchange(batch)
            except Exception as exc:  # whatever it was: without this task nothing would ever be asked again
                for item in batch:
                    self._queue[item] = None
                await self._fail(exc)

    async def _exchange(self, batch: list[Item]) -> None:
        """Raises: FAILURES, StoreAnswerError."""
        await self._ensure()
        began_ns = time.monotonic_ns()
        async with asyncio.timeout(self.settings.deadline_s):
            if batch:
                answers = await self._call_all([item.question() for item in batch])
            else:
                answers = []
                await self._ask_fleet()
        failed: Exception | None = None
        for item, answer in zip(batch, answers, strict=True):
            try:
                if isinstance(answer, Exception):
                    raise answer
                item.answered(answer)
            except (*FAILURES, StoreAnswerError) as exc:
                failed = exc
        if failed is not None:
            raise failed
        passed = time.monotonic_ns() - began_ns
        self.round_trip_ns += (passed - self.round_trip_ns) // 8
        self._answered()

    def _answered(self) -> None:
        self._failures = 0
        if self.is_down:
            self.is_down = self._is_lost = False
            self.count("store_joined")
            for item in list(self._alive.values()):
                if not (isinstance(item, LeasedSpend) and item.is_idle):
                    self.kick(item)

    async def _fail(self, exc: Exception) -> None:
        self.count("store_failed")
        self.why = f"{type(exc).__name__}: {exc}"[:WHY_CHARS]
        # One late answer is none: a second is, and so is any other failure.
        if not self._is_lost and (self._failures >= 1 or not isinstance(exc, TimeoutError)):
            self.is_down = self._is_lost = True
            self.count("store_lost")
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        self._at += 1
        await self._disconnect()
        await asyncio.sleep(pause_s)
        self._wake.set()

    async def _tick(self) -> None:
        """What is due although nobody asks, and a sign of life."""
        while True:
            now_ns = self.clock()
            for item in list(self._alive.values()):
                if item.is_due(now_ns):
                    self.kick(item)
            try:
                await self._beat()
            except Exception as exc:  # as in `_run`
                self.count("store_failed")
                self.why = f"{type(exc).__name__}: {exc}"[:WHY_CHARS]
            await asyncio.sleep(TICK_S)

    async def _beat(self) -> None:
        now_s = time.monotonic()
        if now_s < self._fleet_at_s and not self.is_down:
            return
        self._fleet_at_s = now_s + FLEET_S
        try:
            if self._client is None:
                self._wake.set()  # the other task connects
                if not self.is_down or self._failures:
                    return
                await self._ensure()
            async with self._beside(self.settings.deadline_s):
                await self._ask_fleet()
        except (*FAILURES, StoreAnswerError):
            self._wake.set()  # the other task asks, and says what it finds
        else:
            self._answered()

    async def _ask_fleet(self) -> None:
        answer = await self._call("FLEET", self._fleet_keys, (self.id, max(self.ttl_ms, 2000)))
        try:
            sidecars, revocations = (int(word) for word in answer.split())
        except (AttributeError, ValueError) as exc:
            raise StoreAnswerError("the store's script answered something else") from exc
        self.fleet = max(1, min(sidecars, 1_000_000))
        if revocations != self._seen_revocations:
            await self._read_revocations()
        self._joined.set()

    # -- revocations

    async def revoke(self, *names: str) -> None:
        """Known here at once; told to the others now, or when the store answers again."""
        for name in names:
            self._learn_revoked(name)
        self._seen_revocations = -1
        if self._client is not None:
            with contextlib.suppress(*FAILURES):
                async with self._beside(self.settings.deadline_s):
                    await self._tell_revocations(names)
        self._seen_revocations = -1  # what was read meanwhile knew nothing of them

    async def revoke_alone(self, *names: str) -> None:
        """As `revoke`, without being one of the fleet; of a store that was not started. Closes it.

        Raises: FAILURES where no address answers.
        """
        tries = max(1, len(self.settings.addresses)) if self.settings.sentinel is None else 1
        try:
            for left in reversed(range(tries)):
                try:
                    await self._ensure()
                    async with asyncio.timeout(self.settings.deadline_s * 4):  # somebody waits at a terminal
                        await self._tell_revocations(names)
                    return
                except FAILURES:
                    self._at += 1
                    await self._disconnect()
                    if not left:
                        raise
        finally:
            await self._disconnect()

    @property
    def _channel(self) -> str:
        return f"{self._tag('fleet')}:c"

    def _learn_revoked(self, name: str) -> None:
        if name in self.revoked:
            return
        if len(self.revoked) >= MAX_REVOKED:
            self.count("store_revocations_full")
            return
        self.revoked.add(name)
        self.on_revoked(name)

    async def _tell_revocations(self, names: Iterable[str]) -> None:
        await self._write_revocations(names)
        await self._open.execute_command("PUBLISH", self._channel, "1")

    async def _write_revocations(self, names: Iterable[str]) -> None:
        for some in _batches(names):
            words: list[Any] = []
            for name in some:
                field = hmac.digest(self._key, f"revoked\0{name}".encode(), "sha256").hex()
                words += (field, self._seals.seal(field.encode(), name.encode()))
            await self._open.execute_command("HSET", self._fleet_keys[1], *words)

    async def _read_revocations(self) -> None:
        rows = await self._open.hgetall(self._fleet_keys[1])
        known, self._sealed = self._sealed, {}
        for field, sealed in rows.items():
            before = known.get(field)
            if before is not None and before[0] == sealed:
                name = before[1]
            elif (opened := self._seals.open(field, sealed)) is not None:
                name = opened.decode("utf-8", "replace")
            else:
                self.count("store_forged")  # whoever wrote it does not have the fleet's key
                continue
            self._sealed[field] = (sealed, name)
            self._learn_revoked(name)
        missing = self.revoked - {name for _, name in self._sealed.values()}
        await self._write_revocations(missing)
        self._seen_revocations = len(rows) + len(missing)

    async def _listen(self) -> None:
        """The channel says that there is something new; what it is, is read and unsealed."""
        while True:
            client: Any = None
            try:
                client = await self._connect()
                async with client.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        if await channel.get_message(ignore_subscribe_messages=True, timeout=5.0) is not None:
                            self._seen_revocations = -1
                            self._fleet_at_s = 0.0
                            await self._beat()
            except FAILURES:
                await asyncio.sleep(PAUSES_S[-1])
            finally:
                if client is not None:
                    await self._drop(client)


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    every = list(names)
    yield from (every[at : at + BATCH] for at in range(0, len(every), BATCH))


def _task(coro: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(coro, name=name)
