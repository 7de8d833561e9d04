"""Where a request is going: from how its connection came in, its target and its Host, to a remembered Route.

Rules (architecture: what keeps it safe, 4 and 12): the destination is what was asked at the door; an inner Host that
differs is 421; origin-form on the proxy port is for our own names only, and not for foreign web pages; absolute-form is
http only, and its authority counts, not its Host (RFC 9112 section 3.2.2).
What is remembered is bounded, and nothing in it depends on a request's headers beyond those keys.
Does not know: bodies, credentials' values.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from outrider.authority import AuthorityError, parse_authority
from outrider.errors import BadRequestError, ForbiddenError, MisdirectedError, UriNotFoundError
from outrider.providers.registry import Binding, Registry
from outrider.stack.call import Route
from outrider_ext import http1

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

H_HOST = http1.header_id(b"host")
H_ORIGIN = http1.header_id(b"origin")
H_FETCH_SITE = http1.header_id(b"sec-fetch-site")
_WEB = http1.mask_of(b"origin", b"sec-fetch-site")
MAX_REMEMBERED = 4096
MAX_REMEMBERED_PATH_BYTES = 512  # a longer one is decided anew each time: 4096 of the longest would take 64 MiB


class OriginLike(Protocol):
    """What routing reads of door.Origin."""

    @property
    def kind(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def tls(self) -> bool: ...
    @property
    def address(self) -> str | None: ...


# (binding, host, port, tls, method, path, prefix_bytes, address) -> Route
type MakeRoute = Callable[[Binding, str, int, bool, bytes, bytes, int, str | None], Route]


class Router:
    """find(exchange) -> Route. One per configuration; memo tables live and die with it.

    passthrough: the stand-in binding for plain-HTTP destinations that no provider claims. egress(host, port) raises
    ForbiddenError where config denies them. unified(method, path): a route of the API over all providers, or None.
    """

    def __init__(
        self,
        registry: Registry,
        make: MakeRoute,
        *,
        passthrough: Binding,
        egress: Callable[[str, int], None],
        unified: Callable[[bytes, bytes], Route | None],
        own_names: frozenset[bytes],
        allowed_origins: frozenset[bytes],
    ) -> None:
        self._registry = registry
        self._make = make
        self._passthrough = passthrough
        self._egress = egress
        self._unified = unified
        self._own_names = own_names
        self._allowed_origins = allowed_origins
        self._own: dict[tuple[bytes, bytes], Route] = {}
        self._others: dict[tuple[Any, ...], Route] = {}

    def find(self, x: "Exchange") -> Route:
        """Raises: SidecarError (400, 403, 404, 421) with a sentence."""
        origin: OriginLike = x.client.origin
        target = x.target
        if origin.kind != "forward":
            return self._pinned(x, origin, target)
        if target[:1] == b"/":
            head = x.head
            host = head.get(H_HOST)
            if host not in self._own_names:
                self._check_own_name(host)
            if head.mask & _WEB:
                self._check_web(x)
            path = target.partition(b"?")[0]
            key = (x.method, path)
            route = self._own.get(key)
            return route if route is not None else self._remember(self._own, key, self._base_url(x.method, path))
        if x.method == b"CONNECT":
            raise BadRequestError("CONNECT has to be the first request on its connection; open a new one")
        if target == b"*":
            raise BadRequestError("OPTIONS * asks nothing of a provider; name a path")
        return self._absolute(x, target)

    def _remember(self, table: dict[Any, Route], key: Any, route: Route) -> Route:
        if len(key[-1]) > MAX_REMEMBERED_PATH_BYTES:
            return route
        if len(table) >= MAX_REMEMBERED:
            table.clear()
        table[key] = route
        return route

    # -- base_url

    def _check_own_name(self, host: bytes | None) -> None:
        if host is None or host.lower() not in self._own_names:
            shown = (host or b"").decode("latin-1")[:80]
            raise MisdirectedError(
                f"this port answers to its own name only, and Host was {shown!r}; "
                "use http://127.0.0.1 or add it to listen.allowed_hosts"
            )

    def _check_web(self, x: "Exchange") -> None:
        origin, site = x.head.get(H_ORIGIN), x.head.get(H_FETCH_SITE)
        if origin is not None and origin not in self._allowed_origins:
            raise ForbiddenError(
                "a web page of another origin may not call the sidecar; list it in listen.allowed_origins if it may"
            )
        if origin is None and site in (b"cross-site", b"same-site"):
            raise ForbiddenError("a web page of another site may not call the sidecar")

    def _base_url(self, method: bytes, path: bytes) -> Route:
        name, slash, _ = path[1:].partition(b"/")
        if name == b"v1":
            found = self._unified(method, path)
            if found is not None:
                return found
        binding = self._registry.by_name(name.decode("latin-1")) if slash else None
        if binding is None:
            raise UriNotFoundError(
                "no provider has this path; a base URL is http://HOST:PORT/PROVIDER, as in /openai/v1/chat/completions"
            )
        if binding.origin is None:
            raise UriNotFoundError(
                f"the address of {binding.name} is not known without config; "
                f"set providers.{binding.name}.hosts, region or connect_to"
            )
        scheme, host, port = binding.origin
        prefix = len(name) + 1
        return self._make(binding, host, port, scheme == "https", method, path[prefix:], prefix, None)

    # -- a destination pinned at the door

    def _pinned(self, x: "Exchange", origin: OriginLike, target: bytes) -> Route:
        if target[:1] != b"/":
            raise BadRequestError("inside a tunnel the target has to be a path")
        raw_host = x.head.get(H_HOST) or b""
        path = target.partition(b"?")[0]
        key = (origin.host, origin.port, origin.tls, origin.address, raw_host, x.method, path)
        route = self._others.get(key)
        if route is not None:
            return route
        host, port = self._pinned_destination(origin, raw_host)
        binding = self._registry.by_host(host, port)
        if binding is None:
            self._egress(host, port)
            binding = self._passthrough
        # A redirected plain connection was not asked for by name: the address it went to is where it goes.
        address = origin.address if origin.host is None and binding is self._passthrough else None
        route = self._make(binding, host, port, origin.tls, x.method, path, 0, address)
        return self._remember(self._others, key, route)

    def _pinned_destination(self, origin: OriginLike, raw_host: bytes) -> tuple[str, int]:
        default = 443 if origin.tls else 80
        port = origin.port if origin.port is not None else default
        try:
            named = parse_authority(raw_host, default)
        except AuthorityError as exc:
            raise BadRequestError(f"the Host field is not a host: {exc}") from exc
        if origin.host is None:
            return named.host, port
        if named.host != origin.host or named.port not in (port, default):
            raise MisdirectedError(f"this connection was opened to {origin.host}:{port}, and Host names another server")
        return origin.host, port

    # -- absolute-form

    def _absolute(self, x: "Exchange", target: bytes) -> Route:
        path_at = self._path_at(target)
        authority = target[7:path_at]
        path = target[path_at:].partition(b"?")[0]
        key = ("absolute", authority, x.method, path)
        route = self._others.get(key)
        if route is not None:
            return route
        try:
            named = parse_authority(authority, 80)
        except AuthorityError as exc:
            raise BadRequestError(f"the target's host cannot be used: {exc}") from exc
        binding = self._registry.by_host(named.host, named.port)
        if binding is None:
            self._egress(named.host, named.port)
            binding = self._passthrough
        route = self._make(binding, named.host, named.port, False, x.method, path or b"/", path_at, None)
        return self._remember(self._others, key, route)

    def _path_at(self, target: bytes) -> int:
        if target[:7].lower() != b"http://":
            if target[:8].lower() == b"https://":
                raise BadRequestError(
                    "https goes through a proxy by CONNECT; an absolute https target would take its TLS off"
                )
            raise BadRequestError("the target is neither a path nor an http:// URL")
        if b"#" in target:
            raise BadRequestError("a target has no fragment")
        ends = [at for at in (target.find(b"/", 7), target.find(b"?", 7)) if at >= 0]
        if not ends or target[min(ends) : min(ends) + 1] == b"?":
            raise BadRequestError("an absolute target needs a path; write http://host/")
        return min(ends)
