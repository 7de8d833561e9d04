"""Who may use our credential here, and what becomes of the app's own key: decided per route, checked per request.

Rules: where our credential would be added, the request has to carry the placeholder (a web page or a stray process does
not know it); the placeholder never leaves for anyone; where ours is not added, the app's own key passes or not as
`byok` says. All of it is read from the provider's auth slots.
Does not know: the credential's value.
"""

from hmac import compare_digest
from typing import TYPE_CHECKING

from outrider.errors import ForbiddenError, PlaceholderRequiredError
from outrider.providers.model import Provider
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.sigv4 import presented_access_key
from outrider.stack.call import Call, LayerHook, Route
from outrider_ext import http1
from outrider_ext.layers import CheckMethod, ShowPlaceholder

if TYPE_CHECKING:
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.relay import Exchange

_PROTOCOL = http1.header_id(b"sec-websocket-protocol")
# Servers that heed one of these run another operation than the method and path say (Google's do).
_OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")
_OVERRIDES_MASK = http1.mask_of(*_OVERRIDES)


class Presented:
    """Reads what a client presents in one provider's auth slots."""

    def __init__(self, provider: Provider, placeholder: Placeholder) -> None:
        names = [name.encode("ascii") for name in provider.slots.headers]
        self.slots = tuple(http1.header_id(name) for name in names if http1.header_id(name))
        self._mask = http1.mask_of(*(name for name in names if http1.header_id(name)))
        self._names = tuple(name for name in names if not http1.header_id(name))
        self._has_query = bool(provider.slots.query)
        self._subprotocols = tuple(prefix.encode("ascii") for prefix in provider.slots.subprotocols)
        self._placeholder = placeholder
        self.placeholder = placeholder.value.encode("ascii")
        self._bearer = b"Bearer " + self.placeholder

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
        if self._has_query and b"?" in x.target and self.placeholder in x.target.partition(b"?")[2]:
            return True
        return self._in_subprotocol(x)

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


class Identify:
    """The filter. `request(route)` returns the hook for one route."""

    def __init__(self, placeholder: Placeholder, metrics: "Metrics") -> None:
        self._placeholder = placeholder
        self._metrics = metrics

    def request(self, route: Route) -> LayerHook:
        presented = Presented(route.binding.provider, self._placeholder)
        settings = route.binding.settings
        if route.attempt.injects:
            if settings is not None and not settings.require_placeholder:
                return CheckMethod(check_method)
            return _require(presented, route)
        if route.attempt.refusal is not None:
            return _refuse(route.attempt.refusal)
        return self._pass_own_key(presented, route)

    def _pass_own_key(self, presented: Presented, route: Route) -> LayerHook:
        name, metrics = route.provider, self._metrics
        sentence = route.attempt.no_credential

        def hook(x: "Exchange", call: Call) -> None:
            if presented.leaks_placeholder(x):
                metrics.count("placeholder_refused", name)
                raise PlaceholderRequiredError(sentence)

        return hook


def check_method(x: "Exchange") -> None:
    """The credential is added, and rules apply, for the operation that was matched: nothing may name another one."""
    if x.head.mask & _OVERRIDES_MASK:
        name = next(name for name in _OVERRIDES if x.head.get_name(name) is not None)
        raise ForbiddenError(f"{name.decode('ascii')} would change the operation; send the method itself")


def _require(presented: Presented, route: Route) -> LayerHook:
    name = route.provider

    def otherwise(x: "Exchange") -> None:
        check_method(x)
        if not presented.has_placeholder(x):
            raise PlaceholderRequiredError(
                f"the sidecar holds the key of {name}, and a call has to carry its placeholder instead of a key; "
                "start the app with `outrider exec`, or put the placeholder where its key would be"
            )

    return ShowPlaceholder(presented.slots, presented.placeholder, otherwise)


def _refuse(sentence: str) -> LayerHook:
    def hook(x: "Exchange", call: Call) -> None:
        raise ForbiddenError(sentence)

    return hook
