"""Who is calling, whether they may use our credential here, and what becomes of the app's own key.

Rules: where our credential would be added, the request has to carry the placeholder or a virtual key (a web page or a
stray process knows neither); neither ever leaves for anyone; where ours is not added, the app's own key passes or not
as `byok` says. All of it is read from the provider's auth slots. Sets `call.principal` on every route.
A virtual key stands in a slot or the call is refused: elsewhere in the head it would be passed on.
Does not know: the credential's value; what a principal is made of (govern.principals).
"""

import re
from collections import Counter
from collections.abc import Iterator
from hmac import compare_digest
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from outrider.errors import (
    BadRequestError,
    ForbiddenError,
    PlaceholderRequiredError,
    SidecarError,
    VirtualKeyRefusedError,
)
from outrider.govern.principals import Directory
from outrider.govern.virtual_keys import keys_in
from outrider.providers.model import Provider
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.sigv4 import presented_access_key
from outrider.stack.call import Call, LayerHook, Route
from outrider_ext import http1
from outrider_ext.callers import NameCaller, NameKeyOwner

if TYPE_CHECKING:
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.relay import Exchange

_PROTOCOL = http1.header_id(b"sec-websocket-protocol")
# Servers that heed one of these run another operation than the method and path say (Google's do).
_OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")
_PROXY_AUTHORIZATION_MASK = http1.mask_of(b"proxy-authorization")
_OVERRIDES_MASK = http1.mask_of(*_OVERRIDES)
_SCHEMES = (b"bearer ", b"token ", b"key ", b"api-key ")
_KEY_LIKE = b"ork_"


class Presented:
    """Reads what a client presents in one provider's auth slots."""

    def __init__(self, provider: Provider, placeholder: Placeholder) -> None:
        names = [name.encode("ascii") for name in provider.slots.headers]
        self.slots = tuple(http1.header_id(name) for name in names if http1.header_id(name))
        self._mask = http1.mask_of(*(name for name in names if http1.header_id(name)))
        self._names = tuple(name for name in names if not http1.header_id(name))
        self._all_names = frozenset(names)
        self._query = frozenset(name.lower().encode("ascii") for name in provider.slots.query)
        self._subprotocols = tuple(prefix.encode("ascii") for prefix in provider.slots.subprotocols)
        self._placeholder = placeholder
        self.placeholder = placeholder.value.encode("ascii")
        self._bearer = b"Bearer " + self.placeholder

    @property
    def has_query(self) -> bool:
        return bool(self._query)

    def has_placeholder(self, x: "Exchange") -> bool:
        """Exactly the placeholder, in any slot."""
        head = x.head
        if head.mask & self._mask:
            for number in self.slots:
                value = head.get(number)
                if value is not None and self._is_placeholder(value):
                    return True
        for name in self._names:
            value = head.get_name(name)
            if value is not None and self._is_placeholder(value):
                return True
        if self._query and b"?" in x.target and self.placeholder in x.target.partition(b"?")[2]:
            return True
        return self._in_subprotocol(x)

    def virtual_key(self, x: "Exchange") -> bytes | None:
        """The one virtual key in the slots, or None. Raises: VirtualKeyRefusedError for two, or one beside a slot."""
        head = x.head
        if _KEY_LIKE not in head.data[head.start : head.end] and b"%" not in x.target.partition(b"?")[2]:
            return None
        shown = [(key, clear) for key, clear in self._slot_values(x) if key.startswith(_KEY_LIKE)]
        keys = {key for key, _ in shown}
        if len(keys) > 1:
            raise VirtualKeyRefusedError("the call shows two virtual keys; put one in the place of the provider's key")
        in_slots = Counter(key for key, clear in shown if clear)
        data = head.data[head.start : head.end]
        # Where a key stands and no slot is, nothing would strip it.
        if data.count(_KEY_LIKE) != in_slots.total() and Counter(keys_in(data)) - in_slots:
            raise VirtualKeyRefusedError(
                "a virtual key stands where it would be passed on; put it in the place of the provider's key only"
            )
        return keys.pop() if keys else None

    def _slot_values(self, x: "Exchange") -> Iterator[tuple[bytes, bool]]:
        """(value without its scheme, whether the head has it in clear) of every slot, repeated fields too."""
        for name, value in x.head.items():
            if name in self._all_names:
                yield _bare(value), True
            elif name == b"sec-websocket-protocol":
                for token in (part.strip() for part in value.split(b",")):
                    yield from (
                        (token[len(prefix) :], True) for prefix in self._subprotocols if token.startswith(prefix)
                    )
        for part in re.split(rb"[&;]", x.target.partition(b"?")[2]) if self._query else ():
            name, _, raw = part.partition(b"=")
            if unquote_to_bytes(name.replace(b"+", b" ")).strip().lower() in self._query:
                value = unquote_to_bytes(raw)
                yield value, value == raw

    def _is_placeholder(self, value: bytes) -> bool:
        if compare_digest(value, self._bearer) or compare_digest(value, self.placeholder):
            return True
        if self._placeholder.is_in(value):
            return True
        access_key = presented_access_key(value)
        return access_key is not None and self._placeholder.is_access_key(access_key)

    def _in_subprotocol(self, x: "Exchange") -> bool:
        if not self._subprotocols:
            return False
        value = x.head.get(_PROTOCOL)
        return value is not None and any(prefix + self.placeholder in value for prefix in self._subprotocols)

    def leaks_placeholder(self, x: "Exchange") -> bool:
        """The placeholder anywhere in the head: a canary on its way out."""
        head = x.head
        return self._placeholder.occurs_in(head.data[head.start : head.end])


def _bare(value: bytes) -> bytes:
    """A slot's value without a scheme's word."""
    value = value.strip(b" \t")
    for scheme in _SCHEMES:
        if value[: len(scheme)].lower() == scheme:
            return value[len(scheme) :].lstrip(b" \t")
    return value


class Identify:
    """The filter. `request(route)` returns the hook for one route."""

    def __init__(self, placeholder: Placeholder, directory: Directory, metrics: "Metrics") -> None:
        self._placeholder = placeholder
        self._directory = directory
        self._metrics = metrics

    def request(self, route: Route) -> LayerHook:
        presented = Presented(route.binding.provider, self._placeholder)
        settings = route.binding.settings
        if route.attempt.injects:
            required = settings is None or settings.require_placeholder
            return self._open_by_key(presented, route, required=required)
        if route.attempt.refusal is not None:
            return self._refuse(route.attempt.refusal)
        return self._pass_own_key(presented, route)

    def _open_by_key(self, presented: Presented, route: Route, *, required: bool) -> LayerHook:
        """Where our credential is added."""
        name, metrics = route.provider, self._metrics

        def otherwise(x: "Exchange", call: Call) -> None:
            check_method(x)
            try:
                key = presented.virtual_key(x)
            except VirtualKeyRefusedError:
                metrics.count("virtual_key_misplaced", name)
                raise
            if key is None and required and not presented.has_placeholder(x):
                raise PlaceholderRequiredError(
                    f"the sidecar holds the key of {name}, and a call has to carry its placeholder or a virtual key "
                    "instead of a key; start the app with `outrider exec`, or put one of them where its key would be"
                )
            self._name(x, call, key)

        return NameCaller(
            self._directory, presented.slots, presented.placeholder, presented.has_query, required, otherwise
        )

    def _pass_own_key(self, presented: Presented, route: Route) -> LayerHook:
        name, metrics = route.provider, self._metrics
        sentence = route.attempt.no_credential

        def otherwise(x: "Exchange", call: Call) -> None:
            if presented.leaks_placeholder(x):
                metrics.count("placeholder_refused", name)
                raise PlaceholderRequiredError(sentence)
            if keys_in(x.head.data[x.head.start : x.head.end]):
                metrics.count("virtual_key_misplaced", name)
                raise VirtualKeyRefusedError(f"a virtual key is no key of {name}, and is not passed on: {sentence}")
            self._name(x, call, None)

        return NameKeyOwner(self._directory, self._placeholder.canaries, otherwise)

    def _refuse(self, sentence: str) -> LayerHook:
        def hook(x: "Exchange", call: Call) -> None:
            self._name(x, call, None)
            raise ForbiddenError(sentence)

        return hook

    def _name(self, x: "Exchange", call: Call, key: bytes | None) -> None:
        """Sets the call's principal, and remembers it for the next call that claims the same."""
        directory, origin = self._directory, x.client.origin
        shown = _proxy_fields(x) if x.head.mask & _PROXY_AUTHORIZATION_MASK else []
        if len(shown) > 1:
            raise BadRequestError("a call names its caller once; send one Proxy-Authorization")
        proxy = shown[0] if shown else None
        # Inside a tunnel the field is none of a proxy's: its CONNECT was judged. It is stripped all the same.
        claim = proxy if origin.kind == "forward" else None
        if origin.kind == "forward" and claim is None and x.target[:1] != b"/":
            directory.want_token()
        try:
            call.principal, until_ns, call.key_id = directory.found(origin.caller, key, claim)
        except SidecarError as error:
            call.key_id = error.key_id
            raise
        origin.caller.remember(directory, _as_shown(x, key), proxy, until_ns, call.principal, call.key_id)


def _proxy_fields(x: "Exchange") -> list[bytes]:
    return [value for name, value in x.head.items() if name == b"proxy-authorization"]


def _as_shown(x: "Exchange", key: bytes | None) -> bytes | None:
    """The value of the slot, as the compiled hook will compare it. Other spellings are judged each time."""
    if key is None:
        return None
    for name, value in x.head.items():
        if value in (key, b"Bearer " + key) and name != b"proxy-authorization":
            return value
    return key


def check_method(x: "Exchange") -> None:
    """The credential is added, and rules apply, for the operation that was matched: nothing may name another one."""
    if x.head.mask & _OVERRIDES_MASK:
        name = next(name for name in _OVERRIDES if x.head.get_name(name) is not None)
        raise ForbiddenError(f"{name.decode('ascii')} would change the operation; send the method itself")
