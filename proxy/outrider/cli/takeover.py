"""What `exec` takes over from a user's environment: keys become the sidecar's, and the app is left with placeholders.

Rules:
- A key is taken over only where the sidecar can then use it: in the slot that the provider reads, for an exactly known
  host, and not where the SDK's own base URL leads elsewhere. What is not taken over stays with the app and still works.
- What config says about a credential stands; `--keep VAR` leaves a variable, and the provider that it is for, alone.
- Whatever the sidecar holds is replaced in the app's environment wherever it stands, under any name.
- Taking over is said as OUTRIDER__ variables laid over the file, so that a reload of the file keeps it.

Plan: `overlay` says what the sidecar's configuration gets, `hide` what the app's environment gets.
Does not know: processes, files, the process's own environment (handed in).
"""

import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from outrider.config import Config
from outrider.config.values import proxy_url
from outrider.door.ca_files import read_certificates
from outrider.errors import CredentialUnavailableError, StartError
from outrider.providers.model import Provider
from outrider.providers.registry import Binding, Registry
from outrider.runtimes import BASE_URLS, VARIABLES, Takes
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.secret import Secret
from outrider.secrets.sources import AWS_VARIABLES, AwsCredentials, Source

AWS_BEARER: Final = "AWS_BEARER_TOKEN_BEDROCK"
PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")

# Not keys for the provider's slot: OAuth tokens, and AWS access keys, which all other AWS services need as well (config
# may name them, and then they are hidden).
_NOT_TAKEN: Final = frozenset(
    {
        ("anthropic", "ANTHROPIC_AUTH_TOKEN"),
        ("azure", "AZURE_OPENAI_AD_TOKEN"),
        ("vertex", "GOOGLE_API_KEY"),
        *(("bedrock", name) for name in AWS_VARIABLES),
    }
)
# Where SDKs look, if that is not the provider's whole list: Bedrock's bearer token outranks access keys, and leaves
# them to other services; Vertex's SDKs take a token from Google's own chain.
_LOOKED_AT: Final = {"bedrock": (AWS_BEARER,), "vertex": ()}

_NO_KEYS: Final = (AWS_VARIABLES[0], AWS_VARIABLES[2])  # beside a key, and none by themselves

# A short value ("test", "ollama") may stand in other variables and mean something else there.
_SAME_CHARS = 8
_INSIDE_CHARS = 16


@dataclass(slots=True)
class Overlay:
    """variables: OUTRIDER__… to lay over the user's environment. notes: what stays with the app, a sentence each."""

    variables: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set(self, *path: str, to: object) -> None:
        self.variables["OUTRIDER__" + "__".join(path).upper().replace("-", "_")] = orjson.dumps(to).decode()

    def over(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment for the sidecar: a key that is set here is not set again, in part, by a variable below it."""
        below = tuple(f"{name}__" for name in self.variables)
        return {name: value for name, value in environ.items() if not name.startswith(below)} | self.variables


@dataclass(frozen=True, slots=True)
class Hidden:
    """variables: name -> what the app gets, None to take it away. keys: how many keys the app would have seen."""

    variables: dict[str, str | None]
    keys: int


def overlay(config: Config, registry: Registry, environ: Mapping[str, str], keep: Collection[str] = ()) -> Overlay:
    """The credentials that the environment holds, and the user's own proxy, as configuration.

    keep: variables that stay with the app. Raises: StartError for a proxy that cannot be gone through.
    """
    found = Overlay()
    for name in keep:
        if not environ.get(name):
            found.notes.append(f"--keep {name} keeps nothing, for no such variable is set")
    for binding in registry.bindings.values():
        if binding.name != binding.provider.name:  # a second account: its key is not in the usual variable
            continue
        settings = config.providers.get(binding.name)
        kept = _kept(binding, config, keep)
        if settings is not None and settings.credential is not None:
            if kept:
                found.set("providers", binding.name, "credential", to=None)
        elif not kept and (settings is None or settings.intercept):
            _take(binding, registry, environ, found)
    if config.upstream.proxy is None:
        _take_proxy(environ, found)
    return found


def _kept(binding: Binding, config: Config, keep: Collection[str]) -> bool:
    settings = config.providers.get(binding.name)
    read = settings.credential.env if settings is not None and settings.credential is not None else None
    return any(name in keep for name in (*binding.provider.env, read))


def _take(binding: Binding, registry: Registry, environ: Mapping[str, str], found: Overlay) -> None:
    """The first usable variable of one provider becomes its credential."""
    provider = binding.provider
    usual = (name for name in provider.env if environ.get(name) and (provider.name, name) not in _NOT_TAKEN)
    variable = next(usual, None)
    if variable is None:
        return
    try:
        Secret.from_text(environ[variable].encode("utf-8", "surrogateescape"))
    except ValueError as exc:
        found.notes.append(f"{variable} {exc}; it stays with the app")
        return
    elsewhere = _elsewhere(binding, registry, environ)
    if elsewhere is not None:
        found.notes.append(f"{variable} stays with the app, for {elsewhere} leads past {provider.title}")
        return
    if _place(binding, environ, found):
        found.set("providers", binding.name, "credential", to={"env": variable})
    else:
        needs = {"bedrock": "region", "azure": "hosts"}.get(provider.name, "hosts")
        found.notes.append(f"{variable} stays with the app; set providers.{binding.name}.{needs} to hide it")


def _elsewhere(binding: Binding, registry: Registry, environ: Mapping[str, str]) -> str | None:
    """The SDK's base URL variable that sends this provider's key to another host."""
    for row in BASE_URLS:
        value = environ.get(row.name)
        if row.provider != binding.name or not value:
            continue
        try:
            parts = urlsplit(value)
            host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        except ValueError:
            return row.name
        if registry.by_host(host, port) is not binding:
            return row.name
    return None


def _place(binding: Binding, environ: Mapping[str, str], found: Overlay) -> bool:
    """Whether a host may receive the credential; Azure's and Bedrock's follow from the SDK's own variables."""
    if binding.credential_hosts:
        return True
    if binding.name == "bedrock" and (region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")):
        found.set("providers", "bedrock", "region", to=region)
        return True
    if binding.name == "azure" and (endpoint := environ.get("AZURE_OPENAI_ENDPOINT")):
        given = binding.settings.hosts if binding.settings is not None else ()
        found.set("providers", "azure", "hosts", to=[*given, urlsplit(endpoint).hostname])
        return True
    return False


def _take_proxy(environ: Mapping[str, str], found: Overlay) -> None:
    """The user's proxy is the one that the sidecar goes through."""
    direct = {entry.strip() for name in ("NO_PROXY", "no_proxy") for entry in environ.get(name, "").split(",")}
    variable = next((name for name in PROXY_VARIABLES if environ.get(name)), None)
    if variable is None or "*" in direct:
        return
    url = environ[variable]
    url = url if "://" in url else f"http://{url}"  # as curl reads it
    try:
        proxy_url(url)
    except ValueError as exc:
        raise StartError(f"{variable} {exc}; set upstream.proxy, or unset {variable}", exit_code=2) from exc
    found.set("upstream", "proxy", to=url)


def user_roots(environ: Mapping[str, str]) -> bytes:
    """The certificates that the user's own trust variables name, as PEM: what stands between us and a provider may be
    a corporate proxy that only they vouch for. SSL_CERT_FILE is left out, for OpenSSL reads it by itself.
    """
    found: dict[bytes, None] = {}
    for row in VARIABLES:
        named = environ.get(row.name)
        if named and row.takes in (Takes.BUNDLE, Takes.CA) and row.name != "SSL_CERT_FILE":
            found.update(dict.fromkeys(read_certificates(Path(named))))
    return b"".join(certificate for certificate in found if _is_loadable(certificate))


def _is_loadable(certificate: bytes) -> bool:
    """One block that OpenSSL cannot read would spoil the whole file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def hide(
    config: Config,
    registry: Registry,
    environ: Mapping[str, str],
    *,
    sources: Mapping[str, Source],
    placeholder: Placeholder,
    keep: Collection[str] = (),
) -> Hidden:
    """What stands in the app's environment instead of keys. sources: the credentials held, by provider."""
    variables: dict[str, str | None] = {}
    for name, settings in config.providers.items():
        if settings.credential is None:
            continue
        provider = registry.bindings[name].provider
        if settings.credential.env == AWS_VARIABLES[0]:
            pair = (placeholder.aws_access_key_id, placeholder.aws_secret_access_key, None)
            variables.update(zip(AWS_VARIABLES, pair, strict=True))
        elif settings.credential.env is not None:
            variables[settings.credential.env] = placeholder.value
        if name == provider.name:
            variables.update(dict.fromkeys(_looked_at(provider, environ, variables), placeholder.value))
    keys = {environ[name].strip() for name in variables if environ.get(name) and name not in (*keep, *_NO_KEYS)}
    held = dict(_held(sources, placeholder))
    for name, value in environ.items():
        if name not in variables and name not in keep and (without := _without(value, held)) != value:
            variables[name] = without
            keys.update(secret for secret in held if secret in value)
    variables = {name: value for name, value in variables.items() if name not in keep}
    return Hidden(variables, len(keys - {placeholder.value, placeholder.aws_secret_access_key}))


def _looked_at(provider: Provider, environ: Mapping[str, str], replaced: Collection[str]) -> Iterator[str]:
    """The variables where this provider's SDKs find a key; where none is set, the first, for SDKs refuse to start
    without one."""
    names = _LOOKED_AT.get(provider.name, provider.env)
    present = [name for name in names if environ.get(name)]
    if present:
        yield from present
    elif not any(name in replaced for name in provider.env):
        yield from names[:1]


def _held(sources: Mapping[str, Source], placeholder: Placeholder) -> Iterator[tuple[str, str]]:
    """(secret, what the app sees instead) of every credential that can be had now."""
    for source in sources.values():
        try:
            credential = source.current()
        except CredentialUnavailableError:
            continue
        if isinstance(credential, AwsCredentials):
            yield credential.secret.expose().decode("ascii"), placeholder.aws_secret_access_key
        else:
            secret = credential.expose().decode("ascii")
            if secret != placeholder.value:  # beside another sidecar of this installation: nothing to hide
                yield secret, placeholder.value


def _without(value: str, held: Mapping[str, str]) -> str:
    for secret in sorted(held, key=len, reverse=True):
        if (len(secret) >= _SAME_CHARS and value.strip() == secret) or len(secret) >= _INSIDE_CHARS:
            value = value.replace(secret, held[secret])
    return value
