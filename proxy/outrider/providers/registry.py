"""Which provider a host or a base_url prefix belongs to, as configured here.

Rules:
- An exact name beats a pattern; a longer pattern beats a shorter one.
- Patterns intercept; only exact names (built in, in config, or made from the configured region) may receive a
  credential, because anyone can own a name under `*.openai.azure.com`.
- A name that two configured providers claim is a problem, never a guess. A built-in provider that config does not
  mention yields its name to one that does.
- A built-in name keeps its own hosts and adds those of config; any other name states its kind and has config's
  hosts only; with neither hosts nor connect_to it is a second account, reached by base_url.

Does not know: credentials, DNS, certificates, whether a host answers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from outrider.providers import BUILT_IN
from outrider.providers.model import NO_MATCH, Match, Provider

type Address = tuple[str, str, int]  # scheme, host (IPv6 without brackets), port

DEFAULT_PORTS: Final = (443, 80)
_REMEMBERED_MAX: Final = 4096
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_REGION: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z")
_RESERVED: Final = frozenset(
    {"v1", "v1beta", "api", "metrics", "healthz", "readyz", "other"}
)  # paths of our own; and nobody


class ProviderSettings(Protocol):
    """What the registry reads of one provider's config; the rest stays opaque."""

    @property
    def kind(self) -> str | None: ...
    @property
    def hosts(self) -> tuple[str, ...]: ...
    @property
    def connect_to(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def credential(self) -> Any: ...
    @property
    def intercept(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Binding:
    """A provider as configured here.

    hosts: names and patterns claimed at the door, () with `intercept: false`. origin: where a base_url call goes, None
    when only config could say (Azure without a resource, Bedrock without a region). connect_to: dial there instead.
    base_path: where the kind's paths begin at that host, b"" for its root.
    credential_hosts: the exact "host" (default ports) or "host:port" that may receive the credential. settings: the
    config object, None for a built-in provider that config does not mention.
    """

    name: str
    provider: Provider
    hosts: tuple[str, ...]
    origin: Address | None
    connect_to: Address | None
    region: str | None
    credential_hosts: frozenset[str]
    settings: Any
    base_path: bytes = b""

    def match(self, method: bytes, path: bytes) -> Match:
        """As the provider's; below a base path nothing of its table is known elsewhere on that host."""
        base = self.base_path
        if not base:
            return self.provider.match(method, path)
        return self.provider.match(method, path[len(base) :]) if path.startswith(base + b"/") else NO_MATCH

    def with_model(self, method: bytes, path: bytes, model: str) -> bytes | None:
        """This path with the name of another model in it; None where it has no place for one."""
        base = self.base_path
        if not path.startswith(base + b"/"):
            return None
        other = self.provider.with_model(method, path[len(base) :], model)
        return None if other is None else base + other

    def may_receive_credential(self, host: str, port: int) -> bool:
        """host: lower-case. True for an exact name of this binding on a default or named port."""
        if port in DEFAULT_PORTS and host in self.credential_hosts:
            return True
        return join_host_port(host, port) in self.credential_hosts


class RegistryError(ValueError):
    """`problems`: one sentence each, starting with the config key; str(exc) joins them by newlines."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    port: int | None
    regex: re.Pattern[str]
    binding: Binding

    def is_for(self, port: int) -> bool:
        return port in DEFAULT_PORTS if self.port is None else port == self.port


class Registry:
    """All providers of this sidecar.

    Raises: RegistryError with every problem at once. `warnings`: sentences on what is allowed and probably not meant.
    """

    def __init__(self, settings: Mapping[str, ProviderSettings]) -> None:
        self._problems: list[str] = []
        self._by_name: dict[str, Binding] = {}
        self._exact: dict[tuple[str, int], Binding] = {}
        self._patterns: list[_Pattern] = []
        self._remembered: dict[tuple[str, int], Binding | None] = {}
        self._leaf_names: dict[str, str] = {}
        warnings: list[str] = []
        for name, chosen in settings.items():
            binding = self._bind(name, chosen)
            if binding is not None:
                self._by_name[name] = binding
                self._claim(binding, configured=True)
                warnings.extend(_doubts(binding))
        for name, provider in BUILT_IN.items():
            if name not in settings and not provider.needs_config:
                self._by_name[name] = binding = _unconfigured(name, provider)
                self._claim(binding, configured=False)
        self._patterns.sort(key=lambda pattern: (pattern.port is None, -len(pattern.text)))
        self.warnings = tuple(warnings)
        if self._problems:
            raise RegistryError(tuple(self._problems))

    # -- questions

    def by_host(self, host: str, port: int) -> Binding | None:
        """Who claims host:port; None is nobody. ~0.2 µs when asked before; bounded memory whatever is asked."""
        key = (host, port)
        try:
            return self._remembered[key]
        except KeyError:
            pass
        found = self._find(host.lower().removesuffix("."), port)
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[key] = found
        return found

    def by_name(self, name: str) -> Binding | None:
        """The provider of a base_url prefix."""
        return self._by_name.get(name)

    def pattern_of(self, host: str) -> str:
        """The name under which a leaf is minted: "*.suffix" when a left wildcard claims host, else host itself.

        Below a multi-label wildcard it is the wildcard one level above host, which is as far as X.509 lets `*` reach.
        Remembered like by_host.
        """
        found = self._leaf_names.get(host)
        if found is None:
            found = self._leaf_name(host.lower().removesuffix("."))
            if len(self._leaf_names) >= _REMEMBERED_MAX:
                self._leaf_names.clear()
            self._leaf_names[host] = found
        return found

    def exact_hosts(self) -> frozenset[str]:
        """Every exactly claimed name, without ports (to mint leaves ahead, for NO_PROXY, for name constraints)."""
        return frozenset(name for name, _ in self._exact)

    def patterns(self) -> tuple[str, ...]:
        """Every claimed pattern, the most specific first."""
        return tuple(pattern.text for pattern in self._patterns)

    @property
    def bindings(self) -> Mapping[str, Binding]:
        return self._by_name

    # -- building

    def _find(self, host: str, port: int) -> Binding | None:
        exact = self._exact.get((host, port))
        if exact is not None:
            return exact
        for pattern in self._patterns:
            if pattern.is_for(port) and pattern.regex.match(host):
                return pattern.binding
        return None

    def _leaf_name(self, host: str) -> str:
        if any(name == host for name, _ in self._exact):
            return host
        for pattern in self._patterns:
            if pattern.regex.match(host):
                return "*." + host.partition(".")[2] if pattern.text.startswith("*.") else host
        return host

    def _bind(self, name: str, settings: ProviderSettings) -> Binding | None:
        key = f"providers.{name}"
        before = len(self._problems)
        provider = self._provider_of(name, settings)
        hosts = tuple(host.lower() for host in settings.hosts)
        for host in hosts:
            self._check(f"{key}.hosts", host, _host_problem(host))
        region = settings.region
        if region is not None and not _REGION.match(region):
            self._problems.append(f"{key}.region: {region!r} is not a region name; write it as in us-east-1.")
        connect_to = self._connect_to(key, settings.connect_to)
        if provider is None or len(self._problems) > before:
            return None
        return _bound(name, provider, hosts, connect_to, settings)

    def _provider_of(self, name: str, settings: ProviderSettings) -> Provider | None:
        key = f"providers.{name}"
        if not _NAME.match(name) or name in _RESERVED:
            self._problems.append(
                f"{key}: {name!r} cannot be a provider's name; use lower-case letters, digits, '.', '_' and '-', "
                f"and none of {', '.join(sorted(_RESERVED))}."
            )
        kind = settings.kind
        if name in BUILT_IN:
            if kind is not None and kind != name:
                self._problems.append(
                    f"{key}.kind: {name} is built in and has its own kind; remove it or use another name."
                )
            return BUILT_IN[name]
        if kind is None:
            self._problems.append(
                f"{key}.kind: {name} is not a built-in provider; add kind, one of {', '.join(BUILT_IN)}."
            )
            return None
        if kind not in BUILT_IN:
            self._problems.append(f"{key}.kind: there is no kind {kind!r}; use one of {', '.join(BUILT_IN)}.")
        return BUILT_IN.get(kind)

    def _connect_to(self, key: str, url: str | None) -> Address | None:
        if url is None:
            return None
        try:
            return parse_origin(url)
        except ValueError as problem:
            self._problems.append(f"{key}.connect_to: {problem}")
            return None

    def _check(self, key: str, host: str, problem: str | None) -> None:
        if problem is not None:
            self._problems.append(f"{key}: {host!r} {problem}")

    def _claim(self, binding: Binding, *, configured: bool) -> None:
        for entry in binding.hosts:
            host, port = split_host_port(entry)
            if "*" in host:
                self._claim_pattern(binding, host, port, configured=configured)
                continue
            for one in DEFAULT_PORTS if port is None else (port,):
                self._claim_exact(binding, host, one, entry, configured=configured)

    def _claim_exact(self, binding: Binding, host: str, port: int, entry: str, *, configured: bool) -> None:
        owner = self._exact.setdefault((host, port), binding)
        if owner is not binding and configured:
            self._report_twice(binding, owner, entry)

    def _claim_pattern(self, binding: Binding, host: str, port: int | None, *, configured: bool) -> None:
        for other in self._patterns:
            if other.text == host and other.port == port and other.binding is not binding:
                if configured:
                    self._report_twice(binding, other.binding, host)
                return
        self._patterns.append(_Pattern(host, port, _host_regex(host), binding))

    def _report_twice(self, binding: Binding, owner: Binding, entry: str) -> None:
        key = f"providers.{binding.name}.hosts"
        problem = f"{key}: {entry} is claimed by providers.{owner.name} too; name it under one of them."
        if problem not in self._problems:
            self._problems.append(problem)


def _unconfigured(name: str, provider: Provider) -> Binding:
    origin = parse_origin(provider.origin) if provider.origin and "{" not in provider.origin else None
    exact = frozenset(host for host in provider.hosts if "*" not in host)
    return Binding(name, provider, provider.hosts, origin, None, None, exact, None)


def _bound(
    name: str, provider: Provider, own: tuple[str, ...], connect_to: Address | None, settings: ProviderSettings
) -> Binding:
    built_in = name == provider.name
    regional = _regional_origin(provider, settings.region)
    exact = [host for host in own if "*" not in host]
    if regional is not None and (built_in or not own):
        exact.append(regional[1])
    if built_in or not (own or connect_to):
        exact += [host for host in provider.hosts if "*" not in host]
    if connect_to is None and provider.needs_config and not exact:
        connect_to = parse_origin(provider.origin)
    origin = _origin(own, regional, connect_to, provider, built_in=built_in)
    if not exact and origin is not None and origin == connect_to:
        exact.append(join_host_port(origin[1], origin[2]))
    claimed = (own + provider.hosts if built_in else own) if settings.intercept else ()
    return Binding(
        name,
        provider,
        tuple(dict.fromkeys(claimed)),
        origin,
        connect_to,
        settings.region,
        frozenset(_credential_name(host) for host in exact),
        settings,
        (getattr(settings, "base_path", None) or "").encode("ascii"),
    )


def _origin(
    own: tuple[str, ...], regional: Address | None, connect_to: Address | None, provider: Provider, *, built_in: bool
) -> Address | None:
    """Config's first exact host, else the region's, else the built-in provider's own, else what we dial."""
    for entry in own:
        host, port = split_host_port(entry)
        if "*" not in host:
            return ("http" if port == 80 else "https", host, port or 443)
    if regional is not None:
        return regional
    fixed = bool(provider.origin) and "{" not in provider.origin
    if connect_to is not None and not (built_in and fixed and not provider.needs_config):
        return connect_to
    return parse_origin(provider.origin) if fixed else None


def _regional_origin(provider: Provider, region: str | None) -> Address | None:
    if region is None or "{region}" not in provider.origin:
        return None
    return parse_origin(provider.regional_origins.get(region) or provider.origin.format(region=region))


def _doubts(binding: Binding) -> list[str]:
    """What config allows and will not do what was meant."""
    key = f"providers.{binding.name}"
    doubts = []
    if binding.settings.credential is not None and not binding.credential_hosts:
        doubts.append(
            f"{key}: the credential goes to exactly named hosts only and none is named; "
            "add the host of your resource to hosts, or set region."
        )
    if binding.settings.region is not None and "{region}" not in binding.provider.origin:
        doubts.append(f"{key}.region: {binding.provider.title} has no regions in its host name; the key has no effect.")
    return doubts


# -- names and addresses


def parse_origin(url: str) -> Address:
    """ "https://host[:port]" as (scheme, host, port). Raises: ValueError with a sentence that follows "key: "."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL; write it as http://127.0.0.1:8000.") from error
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(f"{url!r} is not an http or https URL; write it as http://127.0.0.1:8000.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL may not hold a user or a password here; use credential.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} may not have a path or a query; paths go to the provider as the app sends them.")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)


def split_host_port(entry: str) -> tuple[str, int | None]:
    """ "name", "name:port", "[::1]:port" or a bare IPv6 address as (host without brackets, port or None)."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, int(rest[1:]) if rest[:1] == ":" and rest[1:].isdecimal() else None
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and port.isdecimal():
        return host, int(port)
    return entry, None


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credential_name(entry: str) -> str:
    host, port = split_host_port(entry)
    return host if port is None else join_host_port(host, port)


def _host_problem(entry: str) -> str | None:
    host, port = split_host_port(entry)
    if port is not None and not 1 <= port <= 65535:
        return "has a port outside 1 to 65535."
    if _is_ip(host):
        return None
    labels = host.removeprefix("*.").split(".")
    if "*" in host and (not host.startswith("*.") or "*" in host[1:] or len(labels) < 2):
        return 'is not a pattern; only a leading "*." is allowed, with at least two labels behind it.'
    if len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        return 'is not a host name; write "name", "*.suffix" or "name:port", without a scheme or a path.'
    return None


def _is_ip(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (isinstance(address, IPv6Address) and address.scope_id)


def _host_regex(pattern: str) -> re.Pattern[str]:
    """A leading "*." is one or more labels; any other `*` is a part of one label, never empty."""
    head, rest = (r"(?:[a-z0-9_-]{1,63}\.){1,8}", pattern[2:]) if pattern.startswith("*.") else ("", pattern)
    return re.compile(head + "[a-z0-9-]{1,63}".join(map(re.escape, rest.split("*"))) + r"\Z")
