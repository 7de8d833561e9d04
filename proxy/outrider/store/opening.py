"""From configuration to a Redis store; imported only where `state:` names one, since redis-py is heavy."""

from collections.abc import Callable, Mapping
from typing import Any

from outrider.config import Config
from outrider.errors import CredentialUnavailableError, StartError
from outrider.secrets.secret import Secret
from outrider.secrets.sources import EnvSource, FileSource
from outrider.store.cache_redis import RedisCache
from outrider.store.redis import RedisSettings, RedisStore


def redis_store(
    config: Config,
    environ: Mapping[str, str],
    clock: Callable[[], int],
    count: Callable[[str], None],
    spawn: Callable[..., Any],
) -> RedisStore:
    """Raises: StartError for a key or a password that cannot be read."""
    return RedisStore(_settings(config, environ), clock, max_keys=config.caps.limit_keys, count=count, spawn=spawn)


def redis_cache(
    config: Config, environ: Mapping[str, str], count: Callable[[str], None], spawn: Callable[..., Any]
) -> RedisCache:
    """Where a fleet remembers answers. Raises: StartError for a key or a password that cannot be read."""
    return RedisCache(_settings(config, environ), count=count, spawn=spawn)


def _settings(config: Config, environ: Mapping[str, str]) -> RedisSettings:
    state, url = config.state, config.state.url
    return RedisSettings(
        addresses=url.addresses,
        unix_path=url.unix_path,
        tls=url.tls,
        ca=state.ca,
        cluster=url.cluster,
        database=url.database,
        user=url.user,
        password=_read(config, "password", environ) or url.password,
        fleet_key=_read(config, "fleet_key", environ),
        on_error=state.on_store_error,
        deadline_s=state.deadline_ms / 1000,
        lease_s=state.lease_s,
    )


def _read(config: Config, key: str, environ: Mapping[str, str]) -> Secret | None:
    named = getattr(config.state, key)
    if named is None:
        return None
    try:
        if named.file is not None:
            return FileSource(named.file).current()
        return EnvSource(named.env or "", environ).current()
    except CredentialUnavailableError as exc:
        raise StartError(f"{config.where('state', key)}: state.{key}: {exc}", 2) from exc
