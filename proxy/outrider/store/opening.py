"""From configuration to a Redis store; imported only where `state:` names one, since redis-py is heavy."""

import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from outrider.config import Config
from outrider.errors import CredentialUnavailableError, StartError
from outrider.secrets.files import reason
from outrider.secrets.secret import Secret
from outrider.secrets.sources import EnvSource, FileSource
from outrider.store.cache_redis import RedisCache
from outrider.store.redis import FAILURES, RedisSettings, RedisStore


def redis_settings(config: Config, environ: Mapping[str, str]) -> RedisSettings:
    """Raises: StartError for a key, a password or a certificate that cannot be read."""
    state, url = config.state, config.state.url
    _check_files(config)
    return RedisSettings(
        addresses=url.addresses,
        unix_path=url.unix_path,
        tls=url.tls,
        ca=state.ca,
        cert=state.cert,
        cert_key=state.cert_key,
        cluster=url.cluster,
        sentinel=url.sentinel,
        sentinel_password=_read(config, "sentinel_password", environ),
        database=url.database,
        user=url.user,
        password=_read(config, "password", environ) or url.password,
        fleet_key=_read(config, "fleet_key", environ),
        on_error=state.on_store_error,
        deadline_s=state.deadline_ms / 1000,
        lease_s=state.lease_s,
    )


def redis_store(
    config: Config,
    environ: Mapping[str, str],
    clock: Callable[[], int],
    count: Callable[[str], None],
    spawn: Callable[..., Any],
) -> RedisStore:
    """Raises: StartError, as `redis_settings`."""
    settings = redis_settings(config, environ)
    return RedisStore(settings, clock, max_keys=config.caps.limit_keys, count=count, spawn=spawn)


def redis_cache(
    config: Config, environ: Mapping[str, str], count: Callable[[str], None], spawn: Callable[..., Any]
) -> RedisCache:
    """Where a fleet remembers answers. Raises: StartError, as `redis_settings`."""
    return RedisCache(redis_settings(config, environ), count=count, spawn=spawn)


async def revoke_in_fleet(config: Config, environ: Mapping[str, str], ids: Iterable[str]) -> None:
    """Tell every sidecar that shares this state. Raises: StartError, also where the store does not answer."""
    store = RedisStore(redis_settings(config, environ))
    try:
        await store.revoke_alone(*ids)
    except FAILURES as exc:
        raise StartError(
            f"{config.state.url} does not answer ({type(exc).__name__}: {exc}); nothing was revoked in the fleet, "
            "try again"
        ) from exc


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


def _check_files(config: Config) -> None:
    """What TLS needs is read once now: later it would be one more store that does not answer."""
    state = config.state
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key = "ca"
    try:
        if state.ca is not None:
            context.load_verify_locations(state.ca)
        key = "cert"
        if state.cert is not None:
            context.load_cert_chain(state.cert, state.cert_key, password="")  # an encrypted key would ask a person
    except OSError as exc:
        why = "holds no such PEM" if isinstance(exc, ssl.SSLError) else f"cannot be read: {reason(exc)}"
        named = state.ca if key == "ca" else f"{state.cert}{f' with {state.cert_key}' if state.cert_key else ''}"
        raise StartError(f"{config.where('state', key)}: state.{key}: {named} {why}", 2) from exc
