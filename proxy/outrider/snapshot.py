"""Everything that follows from one configuration: registry, router, layers, pools, credentials. A reload makes anew.

Rules: building it either succeeds whole or raises and changes nothing; requests in flight keep the snapshot they began
with; counters (buckets, metrics) live outside it.
Does not know: listeners, signals, files' changes.
"""

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider.config import Config, ConfigError
from outrider.config.problems import Problem
from outrider.config.schema import Provider as ProviderSettings
from outrider.door.contract import Deny, Intercept, Tunnel, Verdict
from outrider.errors import (
    CredentialUnavailableError,
    DestinationDeniedError,
    ForbiddenError,
    SidecarError,
    StartError,
    UriNotFoundError,
)
from outrider.govern.limits import Ledger, Rulebook
from outrider.govern.pod import PodIdentity
from outrider.govern.pricing import pricing_of
from outrider.govern.principals import Clocks, Directory
from outrider.govern.virtual_keys import KEY_FILE, KeyHasher, Revocations, RevokedFile, key_id
from outrider.lanes.routing import Router
from outrider.lanes.unified import Own, Unified
from outrider.providers.model import COMMON_SLOTS, Auth, Match, Operation, Provider
from outrider.providers.registry import Binding, Registry, join_host_port
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.sources import FileSource, Source, source_for
from outrider.stack.adaptive import Adaptive, Gates
from outrider.stack.attempt import Attempt
from outrider.stack.borrow import BorrowTokens
from outrider.stack.build import bind, bind_own, bind_target, filters
from outrider.stack.call import Route
from outrider.stack.identify import Identify
from outrider.stack.limits import Limits
from outrider.stack.meter import Meter
from outrider.stack.price import PriceUsage
from outrider.stack.record import Record
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider.upstream.aliases import Aliases
from outrider.upstream.dial import Dialer
from outrider.upstream.guard import AddressGuard
from outrider.upstream.health import Healths
from outrider.upstream.pool import Destination, Pool
from outrider.upstream.tls import client_context
from outrider_ext.callers import Epoch
from outrider_ext.relay import Hub

if TYPE_CHECKING:
    from outrider.govern.packs import Loaded
    from outrider.govern.redact.plan import Count, Plans
    from outrider.govern.redaction import Redaction
    from outrider.providers.places import Place
    from outrider.stack.audit import Audit
    from outrider.stack.cache import Standing
    from outrider.stack.cheap_rules import Rules
    from outrider.stack.digest import Digest
    from outrider.stack.onnx_model import OnnxModel
    from outrider.stack.semantic import Maker
    from outrider.telemetry.audit import AuditLog
    from outrider.upstream.fetch import Fetched, MediaFetcher
    from outrider.upstream.plans import Refusal

type Way = tuple[str, int, Pool | None]  # host, port, and the connections there
type Redactions = tuple[Plans, tuple[Redaction, ...], bool]  # plans, what is always redacted, whether rules may add

MAX_POOLS = 512

# Plain HTTP through the forward proxy to a host that no provider claims.
_NOBODY = Provider(
    name="other",
    title="other hosts",
    otel_name="other",
    hosts=(),
    origin="",
    auth=Auth("none"),
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=(),
    ratelimit="",
    env=(),
)
PASSTHROUGH = Binding("other", _NOBODY, (), None, None, None, frozenset(), None)
# What is asked of the API over all providers, until it is known for whom it is.
UNIFIED = Binding("unified", _NOBODY, (), None, None, None, frozenset(), ProviderSettings(require_placeholder=False))


@dataclass(slots=True)
class Shared:
    """What outlives a reload."""

    metrics: Metrics
    log: JsonLog
    placeholder: Placeholder
    ledger: Ledger
    environ: Mapping[str, str]
    context_for: Callable[[str], ssl.SSLContext]
    gates: Gates = field(default_factory=Gates)
    healths: Healths = field(default_factory=Healths)
    epoch: Epoch = field(default_factory=Epoch)
    revocations: Revocations = field(init=False)
    hub: Hub | None = None
    audit: "AuditLog | None" = None
    cache: Any = None  # stack.cache.CacheState, once a configuration remembers answers
    onnx: "OnnxModel | None" = None  # that is in force
    open_far: Callable[[], Any] = lambda: None  # where a fleet remembers
    listeners: tuple[tuple[str, int], ...] = ()
    has_unix: bool = False
    clocks: Clocks = field(default_factory=lambda: Clocks(time.time, time.monotonic_ns))

    def __post_init__(self) -> None:
        self.revocations = Revocations(self.epoch)


class Snapshot:
    """Raises: RegistryError, ConfigError (policy files), RedactError, StartError (a CA or key file not to be used)."""

    def __init__(self, config: Config, shared: Shared, before: "Snapshot | None" = None) -> None:
        self.config = config
        self._shared = shared
        self.registry = Registry(config.providers)
        self.sources = _sources(config, shared.environ, before)
        self.guard = AddressGuard(config.egress.allow_private, shared.listeners)
        self.dialer = Dialer(self.guard, connect_s=config.timeouts.connect_s, proxy=config.upstream.proxy)
        self._contexts = _contexts(config)
        self.revoked_file = _revoked_file(config, shared)
        self.directory = _directory(config, shared)
        self._pools: dict[tuple[Any, ...], Pool] = {}
        self.policies = policies_of(config) if config.policies else None
        self._rules: Rules | None = None
        cheap_rules, body_rules = self._rule_layers()
        ledger, pricing = (
            shared.ledger,
            pricing_of(
                config.budgets,
                config.prices,
                compares=any(alias.strategy == "cost" for alias in config.models.values()),
            ),
        )
        self.rules = Rulebook(
            config.limits,
            config.budgets,
            ledger,
            lambda provider, kind, model: pricing.tariff(provider, kind, None, model, None) if pricing else None,
        )
        if self.policies is not None:
            self.policies.rules.usage = self.rules.usage
        redact = _redact(config, shared, self.policies)
        audit, digest = _audit_layers(config, shared.audit, redacts=redact is not None)
        self._onnx: OnnxModel | None = None
        if config.cache.semantic is not None and config.cache.mode != "off":
            if config.cache.semantic.onnx is None:
                embedding_place(config, self.registry)
            else:
                from outrider.stack.onnx_model import opened

                self._onnx = opened(config, shared.onnx)
        self.aliases = Aliases(
            config,
            self.registry,
            shared.healths,
            self._target_route,
            pricing=pricing,
            rules_route=self._rules_route(),
            refusal=self._target_refusal(),
            fetch=self._fetch,
        )
        self._fetcher: MediaFetcher | None = None
        self._layers = filters(
            record=Record(shared.metrics, shared.log),
            identify=Identify(shared.placeholder, self.directory, shared.metrics),
            limits=Limits(self.rules, self.aliases.is_planned),
            price=PriceUsage(pricing, ledger.clock, shared.metrics, shared.log),
            cheap_rules=cheap_rules,
            meter=Meter(inject=config.usage.inject_stream_usage),
            body_rules=body_rules,
            redact=redact,
            borrow=BorrowTokens(self.rules, pricing, self.aliases.is_planned),
            plans=self.aliases.layer,
            adaptive=Adaptive(shared.gates, ledger.clock, shared.metrics, self._adapts),
            audit=audit,
            digest=digest,
            **_cache(config, shared, self._maker, self.aliases.layer.standing),
            batch=_batch(config, shared),
        )
        self.router = Router(
            self.registry,
            self._make_route,
            passthrough=PASSTHROUGH,
            egress=self._check_egress,
            unified=self._unified().route,
            own_names=_own_names(shared.listeners, config.listen.allowed_hosts, has_unix=shared.has_unix),
            allowed_origins=frozenset(origin.encode("ascii") for origin in config.listen.allowed_origins),
        )

    def _rule_layers(self) -> tuple[Any, Any]:
        """What rules take to be imported is nothing that a configuration without any pays for."""
        if self.policies is None:
            return None, None
        from outrider.stack.body_rules import BodyRules
        from outrider.stack.cheap_rules import CheapRules, Rules

        cap_bytes = self.config.caps.held_body_bytes
        self._rules = rules = Rules(self.policies.rules, self._shared.metrics, cap_bytes=cap_bytes)
        return CheapRules(rules), BodyRules(rules)

    @property
    def policy_files(self) -> tuple[Path, ...]:
        return self.policies.files if self.policies is not None else ()

    # -- the door's questions

    def verdict(self, host: str, port: int) -> Verdict:
        """deny, then intercept, then tunnel."""
        if self.is_own_address(host, port):
            return Deny("destination_denied", 403, f"{join_host_port(host, port)} is this sidecar itself")
        binding = self.registry.by_host(host, port)
        if binding is not None:
            name = self.registry.pattern_of(host)
            return Intercept(binding.name, lambda: self._shared.context_for(name))
        try:
            self._check_egress(host, port)
        except (ForbiddenError, DestinationDeniedError) as error:
            return Deny(error.code, error.status, str(error))
        refusal = self._tunnel_refusal(host)
        return Tunnel() if refusal is None else Deny(refusal.code, refusal.status, str(refusal))

    def _tunnel_refusal(self, host: str) -> SidecarError | None:
        if self.policies is None:
            return None
        from outrider.govern.gate import decide_tunnel

        found = decide_tunnel(self.policies.rules, host)
        if found is None:
            return None
        for rule in found.rules:
            self._shared.metrics.rules.add((rule, "enforce"))
        return found.refusal

    def is_own_address(self, host: str, port: int) -> bool:
        if host == "localhost":
            return self.guard.is_own(ip_address("127.0.0.1"), port) or self.guard.is_own(ip_address("::1"), port)
        literal = _literal(host)
        return literal is not None and self.guard.is_own(literal, port)

    @property
    def private_ok(self) -> bool:
        """Whether tunnels may lead to private addresses."""
        return self.config.egress.private == "tunnel"

    def _check_egress(self, host: str, port: int) -> None:
        """Raises: ForbiddenError, DestinationDeniedError (a literal address; names are checked once resolved)."""
        if self.config.egress.default == "deny":
            raise ForbiddenError(
                f"{join_host_port(host, port)} is not a provider that this sidecar knows, and egress.default is deny"
            )
        literal = _literal(host)
        if literal is not None:
            self.guard.check(host, literal, port, private_ok=self.private_ok)

    # -- routes

    def _make_route(
        self,
        binding: Binding,
        host: str,
        port: int,
        tls: bool,
        method: bytes,
        path: bytes,
        prefix: int,
        address: str | None,
    ) -> Route:
        pool = self._pool(binding, host, port, tls, address)
        route = _route(binding, binding.match(method, path), (host, port, pool), method, path, prefix=prefix)
        self._attempted(route)
        bind(route, self._layers)
        return route

    def _attempted(self, route: Route, **more: Any) -> None:
        source, plain = self.sources.get(route.binding.name), route.pool.destination.is_plain
        route.attempt = Attempt(route, source, plain=plain, **more)

    def _home(self, binding: Binding) -> Way:
        assert binding.origin is not None
        scheme, host, port = binding.origin
        return host, port, self._pool(binding, host, port, scheme == "https", None)

    def _adapts(self, route: Route) -> bool:
        """Whether calls of it may be served by a target whose provider's own limits are heeded."""
        settings = [binding.settings for binding in self.registry.bindings.values()]
        heeded = any(one is not None and one.adaptive for one in settings)
        return heeded and self.aliases.is_planned(route)

    def _rules_route(self) -> bool:
        """Whether some rule routes to another provider, or lifts a call to another form."""
        if self.policies is None:
            return False
        actions = [rule.rule.then for rule in self.policies.rules.rules]
        return any(
            (then.route is not None and then.route.provider is not None)
            or (then.lift is not None and then.lift.changes_form)
            for then in actions
        )

    def _target_route(self, route: Route, binding: Binding, path: bytes, *, lifts: bool = False) -> Route:
        """The way to another provider, or to another form of its API, for calls of a route that apps call."""
        if binding is route.binding and not route.is_front:
            way = route.destination_host, route.destination_port, route.pool
        else:
            way = self._home(binding)
        to = _route(binding, binding.match(b"POST", path), way, b"POST", path)
        translates = to.operation.dialect != route.operation.dialect
        self._attempted(to, asked=route.binding, translates=translates, is_front=route.is_front)
        cap_bytes = self.config.caps.held_body_bytes
        bind_target(to, route, self._layers, translates=translates or lifts, cap_bytes=cap_bytes)
        return to

    def _maker(self) -> "Maker":
        """Who makes vectors for cache.semantic."""
        if self._onnx is not None:
            return self._onnx
        from outrider.stack.semantic import ProviderModel

        assert self.config.cache.semantic is not None
        return ProviderModel(self.config.cache.semantic, self._embedding_route)

    def _embedding_route(self) -> tuple[Route, bytes]:
        """The way to the model of cache.semantic, for calls of our own, and the lines that they need besides."""
        binding, place = embedding_place(self.config, self.registry)
        assert binding.origin is not None
        scheme, host, port = binding.origin
        path = place.path.encode("ascii")
        route = self._make_route(binding, host, port, scheme == "https", b"POST", path, 0, None)
        bind_own(route, self._layers)
        return route, b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in place.headers.items())

    def _unified(self) -> Unified:
        cap_bytes = self.config.caps.held_body_bytes
        return Unified(self.registry, self.config.models, self._front_route, self._own_route, cap_bytes=cap_bytes)

    def _own_route(self, operation: Operation, method: bytes, path: bytes, resolver: Any) -> Route:
        """Of the API over all providers, while nobody knows yet whom it is for, or where we answer ourselves."""
        match = Match(operation, None, True)
        route = _route(UNIFIED, match, ("", 0, None), method, path, is_front=True, resolver=resolver)
        route.attempt = Own()
        bind(route, self._layers)
        return route

    def _front_route(
        self, binding: Binding, operation: Operation, path: bytes, others: tuple[Binding, ...] | None
    ) -> Route:
        """For calls of the API over all providers that are for this one; all of them are dispatched.

        others: of a name of `models:`, who may serve it besides.
        """
        if binding.origin is None:
            raise UriNotFoundError(
                f"the address of {binding.name} is not known without config; "
                f"set providers.{binding.name}.hosts, region or connect_to"
            )
        match = Match(operation, None, True)
        route = _route(binding, match, self._home(binding), b"POST", path, is_front=True)
        self._attempted(route)
        if self._rules is not None and others is not None:
            from outrider.stack.cheap_rules import facts_of_target

            found = tuple(
                facts_of_target(route, other, other.origin[1]) for other in others if other.origin is not None
            )
            self._rules.others[route] = found
        bind(route, self._layers)
        return route

    def _target_refusal(self) -> "Refusal | None":
        """What the rules say of a target that the app did not address."""
        if self._rules is None:
            return None
        from outrider.stack.target_rules import TargetRules

        return TargetRules(self._rules).refusal

    async def _fetch(self, url: str) -> "Fetched":
        """A file that an app named by URL, for a target that takes bytes."""
        if self._fetcher is None:
            from outrider.upstream.fetch import MediaFetcher

            self._fetcher = MediaFetcher(
                self.dialer,
                egress=self._check_egress,
                context=lambda: self._context(None),
                cap_bytes=self.config.caps.held_body_bytes,
                proxy=self.config.upstream.proxy,
            )
        return await self._fetcher.fetch(url)

    def _pool(self, binding: Binding, host: str, port: int, tls: bool, address: str | None) -> Pool:
        key = (binding.name, host, port, tls, address)
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                self._forget_idle_pools()
            pool = self._pools[key] = self._new_pool(binding, host, port, tls, address)
        return pool

    def _new_pool(self, binding: Binding, host: str, port: int, tls: bool, address: str | None) -> Pool:
        dial_host, dial_port, named = address or host, port, False
        if binding.connect_to is not None:
            scheme, dial_host, dial_port = binding.connect_to
            tls, named = scheme == "https", True
        ca = binding.settings.upstream_ca if binding.settings is not None else None
        destination = Destination(
            host=host,
            port=port,
            dial_host=dial_host,
            dial_port=dial_port,
            named=named,
            private_ok=binding is PASSTHROUGH and self.private_ok,
            context=self._context(ca) if tls else None,
        )
        upstream = self.config.upstream
        assert self._shared.hub is not None
        return Pool(
            self._shared.hub,
            self.dialer,
            destination,
            max_idle=upstream.pool_max_idle,
            max_connections=upstream.max_connections_per_host,
            tls_s=self.config.timeouts.tls_s,
        )

    def _context(self, ca: Path | None) -> ssl.SSLContext:
        """The system's roots take 2 MB: nobody pays for them who never meets a provider that needs them."""
        context = self._contexts.get(ca)
        if context is None:
            context = self._contexts[ca] = client_context(self.config.upstream.ca, ca)
        return context

    def _forget_idle_pools(self) -> None:
        """Only passthrough hosts are without bound; a pool in use stays until it is not."""
        for key, pool in list(self._pools.items()):
            if pool.count == 0:
                del self._pools[key]

    # -- state

    def pools(self) -> Iterable[tuple[str, Pool]]:
        return ((key[0], pool) for key, pool in self._pools.items())

    def take_over(self) -> None:
        """This configuration is in force now: what it revokes holds, and what the one before revoked is as it says."""
        self._shared.onnx = self._onnx
        if self._shared.cache is not None:
            semantic = self.config.cache.semantic
            if self.config.cache.mode == "off":
                self._shared.cache.invalidate()
            self._shared.cache.find_by_vectors(semantic.max_entries if semantic is not None else None)
        revocations = self._shared.revocations
        revocations.replace("config", map(key_id, self.config.virtual_keys.revoked))
        if self.revoked_file is not None:
            self.revoked_file.apply()
        else:
            revocations.replace("file", ())

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def _route(
    binding: Binding, match: Match, way: Way, method: bytes, path: bytes, *, prefix: int = 0, **more: Any
) -> Route:
    host, port, pool = way
    return Route(
        binding=binding,
        operation=match.operation,
        known=match.known,
        model=match.model,
        destination_host=host,
        destination_port=port,
        prefix_bytes=prefix,
        error_dialect=binding.provider.error_dialect,
        pool=pool,
        method=method,
        path=path,
        **more,
    )


@lru_cache(maxsize=1024)
def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` is, None for a name; remembered, since every new connection asks."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def policies_of(config: Config) -> "Loaded":
    """The rules of a configuration. Raises: ConfigError with every problem of all files."""
    from outrider.govern.packs import load_policies

    return load_policies(config.policies, where=config.where, contents=config.files, aliases=config.models)


def _audit_layers(config: Config, log: "AuditLog | None", *, redacts: bool) -> "tuple[Audit | None, Digest | None]":
    """The log's lines, and the hash of the request that stands in them. Raises: RedactError."""
    if log is None:
        return None, None
    from outrider.stack.audit import Audit
    from outrider.stack.digest import Digest

    settings = config.telemetry.audit
    kept = None
    if settings.content == "redacted":
        from outrider.stack.kept_text import KeptText  # RE2 and its detectors: 5 MB

        kept = KeptText(config.redact, config.caps.held_body_bytes)
    audit = Audit(log, content=settings.content, content_bytes=settings.content_bytes, kept=kept, redacts=redacts)
    return audit, Digest(config.caps.held_body_bytes)


def embedding_place(config: Config, registry: Registry) -> "tuple[Binding, Place]":
    """Where cache.semantic asks. Raises: StartError where its provider has no embeddings in OpenAI's shape."""
    from outrider.providers.places import place_of

    semantic = config.cache.semantic
    assert semantic is not None
    assert semantic.provider is not None
    assert semantic.model is not None
    binding = registry.by_name(semantic.provider)
    place = place_of(binding, "openai.embeddings", semantic.model, stream=False) if binding is not None else None
    if binding is None or place is None or binding.origin is None:
        raise StartError(
            f"{config.where('cache', 'semantic', 'provider')}: cache.semantic.provider {semantic.provider!r} has no "
            "embeddings in OpenAI's shape; name another provider",
            exit_code=2,
        )
    return binding, place


def _cache(
    config: Config,
    shared: Shared,
    maker: "Callable[[], Maker]",
    standing: "Callable[[Route], Standing | None]",
) -> dict[str, Any]:
    """The layers that remember answers, none where none is remembered. maker: of vectors."""
    if config.cache.mode == "off":
        return {}
    from outrider.stack.cache import Books, Cache, Keep, open_state

    if shared.cache is None:
        shared.cache = open_state(config.cache, shared.open_far)
    semantic = None
    if config.cache.semantic is not None:
        from outrider.stack.semantic import Semantic

        semantic = Semantic(config.cache.semantic, maker(), shared.metrics)
    clock, cap_bytes = shared.ledger.clock, config.caps.held_body_bytes
    cache = Cache(config.cache, shared.cache, clock, shared.metrics, cap_bytes, semantic, standing)
    return {"cache": cache, "books": Books(cache), "keep": Keep(cache)}


def _batch(config: Config, shared: Shared) -> Any:
    if not config.batch.wait_ms:
        return None
    from outrider.stack.batch import Batch

    return Batch(config.batch, shared.metrics)


def _sources(config: Config, environ: Mapping[str, str], before: Snapshot | None) -> dict[str, Source]:
    """A source whose setting did not change is kept, and with it the last good credential."""
    sources: dict[str, Source] = {}
    for name, provider in config.providers.items():
        if provider.credential is None:
            continue
        old = before.config.providers.get(name) if before is not None else None
        if before is not None and old is not None and old.credential == provider.credential and name in before.sources:
            sources[name] = before.sources[name]
        else:
            sources[name] = source_for(
                provider.credential,
                environ,
                context=lambda: client_context(config.upstream.ca),
                proxy=config.upstream.proxy,
            )
            where = config.where("providers", name, "credential")
            _check_readable(sources[name], f"{where}: providers.{name}.credential")
    return sources


def redactions_of(config: Config, policies: "Loaded | None", count: "Count") -> "Redactions | None":
    """What `redact:` and rules ask for, compiled, so that no call waits for it; None where nothing can ask.

    RE2 is imported only for those who use it. Raises: RedactError (`redact:`), ConfigError (rules).
    """
    own = config.redact
    rules = policies.rules.rules if policies is not None else ()
    asking = [(rule, asked) for rule in rules if (asked := rule.rule.then.redact) is not None]
    if not (asking or own.always or own.patterns or own.words or own.key):
        return None
    from outrider.govern.redact.configured import configured
    from outrider.govern.redact.plan import UnknownDetectorError

    plans, always = configured(own, count)
    problems = []
    for rule, asked in asking:
        try:
            plans.of((*always, asked))
        except UnknownDetectorError as exc:
            problems.append(Problem(rule.where, f"{rule.id}: then.redact.detectors", str(exc)))
    if problems:
        raise ConfigError(problems)
    return plans, always, bool(asking)


def _redact(config: Config, shared: Shared, policies: "Loaded | None") -> Any:
    """The redacting layer, None where nothing can ask for it. Raises: as `redactions_of`."""
    found = redactions_of(config, policies, lambda *labels: shared.metrics.redactions.add(labels))
    if found is None:
        return None
    from outrider.stack.redact import Redact

    plans, always, asked = found
    return Redact(plans, always, asked=asked, cap_bytes=config.caps.held_body_bytes)


def _check_readable(source: Source, where: str) -> None:
    """A key file that cannot be read is said at the start (or refuses the reload), not by the app's first call."""
    if isinstance(source, FileSource):
        try:
            source.current()
        except CredentialUnavailableError as exc:
            raise StartError(f"{where}: {exc}") from exc


def _contexts(config: Config) -> dict[Path | None, ssl.SSLContext]:
    """TLS contexts of the CA files that config names: one that cannot be used is said now."""
    paths: set[Path | None] = {provider.upstream_ca for provider in config.providers.values()} - {None}
    if config.upstream.ca is not None:
        paths.add(None)
    return {path: client_context(config.upstream.ca, path) for path in paths}


def _revoked_file(config: Config, shared: Shared) -> RevokedFile | None:
    keys = config.virtual_keys
    if keys.revoked_file is None:
        return None
    revoked = RevokedFile(keys.revoked_file, shared.revocations)
    revoked.check()
    return revoked


def _directory(config: Config, shared: Shared) -> Directory:
    """Raises: StartError."""
    has_keys = any(entry.claims.keys for entry in config.principals)
    hasher = KeyHasher.open(hmac_key_file(config), create=False) if has_keys else None
    pod = PodIdentity.read(config.pod_info, shared.environ) if config.principals else None
    try:
        return Directory(
            config.principals,
            epoch=shared.epoch,
            revocations=shared.revocations,
            clocks=shared.clocks,
            count=shared.metrics.count,
            hasher=hasher,
            pod=pod,
            anonymous=config.anonymous,
            proxy_token=config.proxy_token,
        )
    except StartError as exc:
        raise StartError(f"{config.where('principals')}: {exc}", exc.exit_code) from exc


def hmac_key_file(config: Config) -> Path:
    return config.virtual_keys.hmac_key or config.ca.dir / KEY_FILE


def _own_names(
    listeners: Iterable[tuple[str, int]], extra: Iterable[str], *, has_unix: bool = False
) -> frozenset[bytes]:
    """What Host may say in an origin-form request, with the port and, for port 80 and Unix sockets, without."""
    names: set[str] = {"localhost"} if has_unix else set()  # no web page reaches a Unix socket, nor rebinds this name
    for host, port in listeners:
        for name in (host, "localhost", "127.0.0.1", "::1"):
            names.add(join_host_port(name, port))
            if port == 80:
                names.add(f"[{name}]" if ":" in name else name)
        names.update(entry if ":" in entry else f"{entry}:{port}" for entry in extra)
    names.update(extra)
    return frozenset(name.lower().encode("ascii") for name in names)
