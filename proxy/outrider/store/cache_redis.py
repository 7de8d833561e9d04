"""What a fleet remembers, in Redis: sealed values under keys that say nothing, and what was to be forgotten.

Rules
- A value is sealed with AES-256-GCM under the fleet's key, together with its place: one that was written by nobody of
  the fleet, or was moved to another key, is not there (and counted). A key is an HMAC of what it stands for.
- What is forgotten is a number: each demand takes the next one and writes it down by what was to go; a value that was
  made before the number of any of its labels is not there. All numbers are read in the same round trip as a value.
- Every step has a deadline; after one that failed nothing is asked for a while. Writes are not waited for, and bounded.
- Nothing here raises towards a request: what fails is a value that is not there.
Does not know: what a value says, requests, configuration files.
"""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from outrider.store.redis import FAILURES, RedisSettings, close_client, connect
from outrider.store.seals import Seals

PAUSE_S = 1.0  # after a failure
LEARN_S = 1.0  # between two looks at what was to be forgotten
WRITES_MAX = 64  # at once
LABELS_MAX = 1000  # beyond, a demand is for all
_COUNT, _ALL = b"n", b"a"


class RedisCache:
    """settings: with the fleet's key. count(event). spawn(coro, name=...) -> task. on_learned(): numbers have changed.

    numbers: label's field -> number, as last read; `now` is the newest of them.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        count: Callable[[str], None],
        spawn: Callable[..., Any],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        assert settings.fleet_key is not None
        self._settings = settings
        self._key = settings.fleet_key.expose()
        self._seals = Seals(self._key, b"outrider cache")
        self._count, self._spawn, self._clock_s = count, spawn, clock_s
        self.on_learned: Callable[[], None] = lambda: None
        self.numbers: Mapping[bytes, int] = {}
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._again_s = 0.0
        self._writing = 0

    @property
    def now(self) -> int:
        return self.numbers.get(_COUNT, 0)

    # -- values

    async def get(self, key: bytes) -> bytes | None:
        name = self._name(key)
        found = await self._try(lambda client: self._read(client, name))
        if found is None:
            return None
        sealed, numbers = found
        self._learn(numbers)
        if sealed is None:
            return None
        data = self._seals.open(name.encode(), sealed)
        if data is None:
            self._count("cache_store_forged")
        return data

    def put(self, key: bytes, data: bytes, ttl_s: float) -> None:
        """Some time soon, if at all."""
        if self._writing >= WRITES_MAX:
            self._count("cache_store_dropped")
            return
        self._writing += 1
        self._spawn(self._write(self._name(key), data, ttl_s), name="cache write")

    async def drop(self, key: bytes) -> None:
        await self._try(lambda client: client.delete(self._name(key)))

    async def _write(self, name: str, data: bytes, ttl_s: float) -> None:
        try:
            sealed = self._seals.seal(name.encode(), data)
            await self._try(lambda client: client.set(name, sealed, px=max(int(ttl_s * 1000), 1)))
        finally:
            self._writing -= 1

    async def _read(self, client: Any, name: str) -> tuple[bytes | None, Mapping[bytes, bytes]]:
        if self._settings.cluster:
            sealed, numbers = await asyncio.gather(client.get(name), client.hgetall(self._numbers_name))
            return sealed, numbers
        async with client.pipeline(transaction=False) as pipe:
            pipe.get(name)
            pipe.hgetall(self._numbers_name)
            sealed, numbers = await pipe.execute()
            return sealed, numbers

    # -- what was to be forgotten

    async def forget(self, labels: Iterable[str]) -> None:
        """Everything that has all of the labels; without one, everything. Told to the others within LEARN_S."""
        field = self.field_of(labels)

        async def write(client: Any) -> Mapping[bytes, bytes]:
            number = await client.hincrby(self._numbers_name, _COUNT, 1)
            if field != _ALL and await client.hlen(self._numbers_name) > LABELS_MAX:
                await client.hset(self._numbers_name, _ALL, number)
            else:
                await client.hset(self._numbers_name, field, number)
            found: Mapping[bytes, bytes] = await client.hgetall(self._numbers_name)
            return found

        numbers = await self._try(write)
        if numbers is not None:
            self._learn(numbers)

    def field_of(self, labels: Iterable[str]) -> bytes:
        named = sorted(labels)
        if not named:
            return _ALL
        text = "\0".join(("cache label", *named)).encode("utf-8", "surrogatepass")
        return self._mark(text)

    def is_forgotten(self, made: int, fields: Iterable[bytes]) -> bool:
        """Whether a value that was made when `made` was the newest number was to go. fields: of all its labels."""
        numbers = self.numbers
        return numbers.get(_ALL, 0) > made or any(numbers.get(field, 0) > made for field in fields)

    async def learn(self) -> None:
        """For ever: what other sidecars were told to forget."""
        while True:
            numbers = await self._try(lambda client: client.hgetall(self._numbers_name))
            if numbers is not None:
                self._learn(numbers)
            await asyncio.sleep(LEARN_S)

    def _learn(self, numbers: Mapping[bytes, bytes]) -> None:
        try:
            found = {field: int(number) for field, number in numbers.items()}
        except ValueError:
            self._count("cache_store_forged")
            return
        if found != self.numbers:
            self.numbers = found
            self.on_learned()

    # -- the connection

    async def _try(self, step: Callable[[Any], Any]) -> Any:
        """None when it failed."""
        if self._clock_s() < self._again_s:
            return None
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await step(await self._connected())
        except FAILURES:
            self._count("cache_store_failed")
            self._again_s = self._clock_s() + PAUSE_S
            return None

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        self._again_s = float("inf")
        if client is not None:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(self._settings.deadline_s):
                    await close_client(client)

    # -- names

    def _name(self, key: bytes) -> str:
        return self._named(b"cache key" + key)

    @property
    def _numbers_name(self) -> str:
        return self._named(b"cache numbers")

    def _named(self, text: bytes) -> str:
        return f"{self._settings.prefix}:c:{self._mark(text).hex()}"

    def _mark(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")[:16]
