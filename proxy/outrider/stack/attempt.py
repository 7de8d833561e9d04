"""One try at the provider: the head that goes out, with the credential put in last.

Rules (docs/threat-model.md): every auth slot of the provider is stripped before ours is set; ours is added only for
operations in the provider's table, only to hosts named exactly, and over plain HTTP only to an address that config
names; the credential is never in the exchange, only in the bytes that leave.
Does not know: how the connection is made, or what the answer is.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from outrider.errors import CredentialUnavailableError
from outrider.providers.betas import TAKEN
from outrider.providers.registry import Binding, join_host_port
from outrider.secrets.injection import Injector, strip_query, with_query_key
from outrider.secrets.sigv4 import Signer
from outrider.secrets.sources import AwsCredentials
from outrider.stack.call import Route
from outrider_ext import http1
from outrider_ext.layers import HeadWriter

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

H_PROTOCOL = http1.header_id(b"sec-websocket-protocol")
H_CONTENT_TYPE = http1.header_id(b"content-type")
_PROTOCOL = http1.mask_of(b"sec-websocket-protocol")
_EXTENSIONS = http1.mask_of(b"sec-websocket-extensions")

# Hop-by-hop (RFC 9110 section 7.6.1), what a proxy is told, and what would tell the provider about us.
REQUEST_DROP = http1.mask_of(
    b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authorization",
    b"proxy-authenticate", b"http2-settings", b"via", b"x-forwarded-for", b"forwarded",
)  # fmt: skip
# What an app tells its own provider about its account, and a browser about itself: nothing of another provider's.
FOR_ONE_PROVIDER = [
    b"cookie", b"origin", b"referer", b"openai-organization", b"openai-project", b"x-goog-user-project",
    b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256", b"x-should-retry",
]  # fmt: skip
_SAID_OF_BODY = http1.mask_of(b"content-type", b"content-encoding", b"accept")
_TYPE_OF_BODY = http1.mask_of(b"content-type")
SAID_OF_DIALECT = [
    b"anthropic-version", b"anthropic-beta", b"anthropic-dangerous-direct-browser-access", b"openai-beta",
    b"x-goog-api-client", b"x-amz-target", b"x-amzn-bedrock-accept", b"amz-sdk-invocation-id", b"amz-sdk-request",
]  # fmt: skip
# What the SDK of one kind of provider says, and no other provider is to hear. Of a call that was addressed to none of
# them (the API over all providers) each gets its own alone, by its kind, or by the dialect where the app's is spoken.
_OF_KIND: Final = {
    b"openai-organization": ("openai",), b"openai-project": ("openai",),
    b"openai-beta": ("openai.*",), b"anthropic-version": ("anthropic.*",), b"anthropic-beta": ("anthropic.*",),
    b"anthropic-dangerous-direct-browser-access": ("anthropic",),
    b"x-goog-user-project": ("gemini", "vertex"), b"x-goog-api-client": ("gemini", "vertex"),
    b"x-amz-date": (), b"x-amz-security-token": (), b"x-amz-content-sha256": (), b"x-amz-target": (),
    b"x-amzn-bedrock-accept": ("bedrock",), b"amz-sdk-invocation-id": ("bedrock",), b"amz-sdk-request": ("bedrock",),
    b"cookie": (), b"origin": (), b"referer": (),
}  # fmt: skip
_SIGV4_SLOTS = http1.mask_of(b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256")


class Attempt(HeadWriter):
    """For one route. injects: our credential is added. refusal: a sentence if the route may not be used at all.

    no_credential: the sentence for an app that shows the placeholder where ours is not added. asked: the binding that
    the app called, where this route leads to another one: what the app sent for that provider alone does not go there.
    is_front: the app called none, so whatever it said is for one provider or another.
    """

    def __init__(
        self,
        route: Route,
        source: Any,
        *,
        plain: bool,
        asked: Binding | None = None,
        translates: bool = False,
        is_front: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._source_of = source
        binding, auth = route.binding, route.binding.provider.auth
        injects, self.refusal, self.no_credential = _decide(route, source, plain=plain)
        slots = binding.provider.slots
        drop = REQUEST_DROP
        is_elsewhere = asked is not None and asked is not binding
        # Our own key is the only one; and no key of one provider is for another's eyes.
        names = [name.encode("ascii") for name in slots.headers] if injects or is_elsewhere else []
        if asked is not None and is_elsewhere:
            names += [name.encode("ascii") for name in asked.provider.slots.headers]
            names += FOR_ONE_PROVIDER
        if is_front:
            names += _of_others(binding.provider.kind, "" if translates else route.operation.dialect)
        if asked is not None and binding.provider.kind in TAKEN:
            names.append(b"anthropic-beta")  # whoever makes the call ready says which of them are known there
        drop |= _SIGV4_SLOTS if names and auth.kind == "sigv4" else 0
        if translates:  # the app's own dialect, as its SDK tells it, is not what is spoken there
            drop |= _SAID_OF_BODY
            names += SAID_OF_DIALECT
        drop |= http1.mask_of(*(name for name in names if http1.header_id(name)))
        self._query = frozenset(name.lower().encode("ascii") for name in slots.query)
        self._subprotocols = tuple(prefix.encode("ascii") for prefix in slots.subprotocols) if injects else ()
        self._host = _host_line(route)
        super().__init__(
            injects=injects,
            drop=drop,
            drop_names=frozenset(name for name in names if not http1.header_id(name)),
            query=self._query,
            host=self._host,
            prefix_bytes=route.prefix_bytes,
            source=source,
        )
        self.needs_body = injects and auth.kind == "sigv4"  # the body's hash is part of the signature
        self._provider, self._region = route.provider, binding.region
        self._injector = Injector(auth.name, auth.prefix) if auth.kind in ("bearer", "header") else None
        if auth.kind == "sigv4":  # a Bedrock API key is a bearer token; access keys sign
            self._injector = Injector("authorization", "Bearer ")
        self._signer: Signer | None = None  # keeps the day's key
        self._query_name = auth.name.encode("ascii") if auth.kind == "query" else None

    @property
    def credential_mark(self) -> tuple[int, int]:
        """Another one for every credential that is in force, and nothing of it."""
        return id(self._source_of), getattr(self._source_of, "generation", 0)

    # -- what is rare, for HeadWriter

    def upgrade_lines(self, x: "Exchange") -> tuple[int, bytes]:
        """(fields to drop, lines to add) of a WebSocket's handshake."""
        lines, drop = b"connection: Upgrade\r\nupgrade: websocket\r\n", 0
        if self._subprotocols:
            drop = _EXTENSIONS
            if x.head.mask & _PROTOCOL:
                drop |= _PROTOCOL
                lines += self._clean_protocols(x.head.get(H_PROTOCOL) or b"")
        return drop, lines

    def clean_target(self, target: bytes) -> bytes:
        return strip_query(target, self._query)

    def credential_line(self, credential: Any) -> tuple[bytes, bytes] | None:
        """(line, secret) where they are the same for every request, else None."""
        if isinstance(credential, AwsCredentials) or self._query_name is not None:
            return None
        return (self._injector.header_lines(credential) if self._injector is not None else b"", credential.expose())

    def finish(
        self, x: "Exchange", target: bytes, drop: int, extra: bytes, body: bytes | None, credential: Any
    ) -> tuple[bytes, bytes | None]:
        if isinstance(credential, AwsCredentials):
            return self._signed(x, target, drop, extra, body, credential)
        assert self._query_name is not None
        target = with_query_key(target, self._query_name, credential)
        return x.head.build_request(target, drop, extra), credential.expose()

    def _signed(
        self, x: "Exchange", target: bytes, drop: int, extra: bytes, body: bytes | None, credentials: AwsCredentials
    ) -> tuple[bytes, bytes | None]:
        if body is None:
            raise CredentialUnavailableError("the request's body is too large to be signed; raise caps.held_body_bytes")
        if self._region is None:
            raise CredentialUnavailableError(f"providers.{self._provider}.region is not set, and a signature needs it")
        content_type = b"application/json" if drop & _TYPE_OF_BODY else x.head.get(H_CONTENT_TYPE)
        if self._signer is None:
            self._signer = Signer(self._region, "bedrock")
        lines = self._signer.sign(
            x.method,
            self._host[6:-2],
            target,
            [(b"content-type", content_type)] if content_type is not None else [],
            sha256(body).hexdigest(),
            credentials=credentials,
            at=self._now(),
        )
        return x.head.build_request(target, drop, extra + lines), credentials.secret.expose()

    def _clean_protocols(self, value: bytes) -> bytes:
        """The subprotocols without the ones that carry a key; our credential goes in its header instead."""
        kept = [
            token
            for token in (part.strip() for part in value.split(b","))
            if token and not token.startswith(self._subprotocols)
        ]
        return b"sec-websocket-protocol: " + b", ".join(kept) + b"\r\n" if kept else b""


def _decide(route: Route, source: Any, *, plain: bool) -> tuple[bool, str | None, str]:
    """(injects, refusal, no_credential); the table of rules 3, 9 and 10."""
    binding: Binding = route.binding
    settings, name = binding.settings, binding.name
    nothing = (
        f"no credential of {name} is configured, and the placeholder of the sidecar is no key; "
        f"set providers.{name}.credential"
    )
    if source is None:
        if settings is not None and settings.byok == "deny":
            return False, f"providers.{name} has no credential, and byok: deny refuses the app's own", nothing
        return False, None, nothing
    host = join_host_port(route.destination_host, route.destination_port)
    if not binding.may_receive_credential(route.destination_host, route.destination_port):
        sentence = (
            f"{host} is not named exactly in providers.{name}.hosts, so the sidecar's credential is not sent there"
        )
        return False, sentence if settings.byok == "deny" else None, sentence
    if plain:
        sentence = f"the credential of {name} is not sent over plain HTTP to {host}; call it over https"
        return False, sentence, sentence
    if route.operation.mints_secrets:  # what it answers would be a key that is not ours to take back
        sentence = f"{route.operation.name} of {name} mints keys or tokens, so the sidecar's credential is not added"
        refused = settings.unknown_operations == "deny" or settings.byok == "deny"
        return False, sentence if refused else None, sentence
    if not route.known:
        sentence = f"this path is not in the table of {name}'s operations, so the sidecar's credential is not added"
        refused = settings.unknown_operations == "deny" or settings.byok == "deny"
        return False, sentence if refused else None, sentence
    return True, None, nothing


def _of_others(kind: str, dialect: str) -> list[bytes]:
    """Fields that this provider is not to see. dialect: the app's own, where this provider speaks it too."""
    family = dialect.partition(".")[0] + ".*"
    return [name for name, whose in _OF_KIND.items() if kind not in whose and family not in whose]


def _host_line(route: Route) -> bytes:
    host, port = route.destination_host, route.destination_port
    scheme_port = 443 if route.pool.destination.context is not None else 80
    shown = f"[{host}]" if ":" in host else host
    return f"host: {shown}\r\n".encode() if port in (scheme_port, 443) else f"host: {shown}:{port}\r\n".encode()
