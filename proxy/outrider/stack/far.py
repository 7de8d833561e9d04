"""Remembered answers of a fleet: entries as bytes, and what was to be forgotten here and elsewhere.

Rules: an entry says when it was made, and by whom it was asked for; one that was to be forgotten since is not there,
and goes from this process's memory as soon as that is known; bytes that do not read as an entry are not there either.
Does not know: Redis.
"""

from typing import TYPE_CHECKING, Any

import orjson

from outrider.stack.cache import CacheState, Entry

if TYPE_CHECKING:
    from outrider.store.cache_redis import RedisCache

_LINE = b"\n"


class Far:
    """stack.cache.FarStore over a RedisCache."""

    def __init__(self, store: "RedisCache") -> None:
        self._store = store
        self._state: CacheState | None = None

    @property
    def now(self) -> int:
        return self._store.now

    def attach(self, state: CacheState) -> None:
        self._state = state
        self._store.on_learned = self._learned

    async def get(self, key: bytes) -> Entry | None:
        data = await self._store.get(key)
        entry = decoded(data) if data is not None else None
        return entry if entry is not None and not self._is_forgotten(entry) else None

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        self._store.put(key, encoded(entry), ttl_s)

    async def forget(self, *, key: str | None = None, model: str | None = None, principal: str | None = None) -> None:
        if key is not None:
            await self._store.drop(bytes.fromhex(key))
            return
        await self._store.forget(_labels(model, principal))

    def _is_forgotten(self, entry: Entry) -> bool:
        pairs = ((entry.model, None), (None, entry.principal), (entry.model, entry.principal))
        return self._store.is_forgotten(entry.made, [self._store.field_of(_labels(*pair)) for pair in pairs])

    def _learned(self) -> None:
        state = self._state
        if state is not None:
            state.forget_flights()
            state.memory.remove_where(lambda _, entry: self._is_forgotten(entry))


def _labels(model: str | None, principal: str | None) -> tuple[str, ...]:
    named = (("model", model), ("principal", principal))
    return tuple(f"{name} {value}" for name, value in named if value is not None)


def encoded(entry: Entry) -> bytes:
    said = {
        "at": entry.at_ns, "made": entry.made, "provider": entry.provider, "model": entry.model,
        "principal": entry.principal, "tokens": entry.tokens, "cost": entry.cost_nusd, "beats": entry.beats,
    }  # fmt: skip
    return orjson.dumps(said) + _LINE + entry.wire


def decoded(data: bytes) -> Entry | None:
    line, _, wire = data.partition(_LINE)
    try:
        said: dict[str, Any] = orjson.loads(line)
        beats = tuple((int(end), float(at_ms)) for end, at_ms in said["beats"])
        return Entry(
            wire, beats, said["at"], said["provider"], said["model"], said["principal"], said["tokens"], said["cost"],
            said["made"],
        )  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
