"""What an exchange leaves behind: metrics and one log line. Refusals too.

Rules: no bodies, no queries (keys travel there), no header values; the model's name is bounded before it is a label;
the parts of a line that do not change from one exchange of a route to the next are written once. Every value that comes
from outside is JSON-encoded, so a control character leaves escaped.
"""

from typing import TYPE_CHECKING, Any

import orjson

from outrider.govern.principal import ANONYMOUS
from outrider.govern.virtual_keys import masked
from outrider.stack.call import Call, LayerHook, Route
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import MAX_MODEL_CHARS, Metrics
from outrider_ext.layers import RecordExchange

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange
    from outrider_ext.series import Series

_SHOWN_CHARS = 200
_MEMO_MAX = 4096


class Record:
    """The filter."""

    def __init__(self, metrics: Metrics, log: JsonLog) -> None:
        self._metrics = metrics
        self._log = log
        self._known: dict[tuple[object, ...], Series] = {}  # of all routes, so that many routes take no more room
        self._constant: dict[tuple[object, ...], bytes] = {}

    def end(self, route: Route) -> LayerHook:
        metrics, provider = self._metrics, route.provider
        return RecordExchange(
            self._log.lines,
            lambda model, status, decision: self._series(route, model, status, decision),
            lambda x, call: self._opening(route, x, call),
            _unusual,
            lambda: metrics.count("usage_estimated", provider),
        )

    def _series(self, route: Route, model: str | None, status: int, decision: str) -> "Series":
        key = (route, model, status, decision)
        found = self._known.get(key)
        if found is None:
            found = _series(self._metrics, route, model, status, decision)
            _remember(self._known, key, found, model)
        return found

    def _opening(self, route: Route, x: "Exchange", call: Call) -> bytes:
        key = (route, x.client.origin.kind, x.method, call.model, call.stream, call.principal)
        found = self._constant.get(key)
        if found is None:
            found = _render(route, x, call)
            _remember(self._constant, key, found, call.model)
        return found


def _series(metrics: Metrics, route: Route, model: str | None, status: int, decision: str) -> "Series":
    otel = route.binding.provider.otel_name
    return metrics.series(route.provider, route.operation.name, otel, metrics.model(model), str(status), decision)


def _remember(table: dict[Any, Any], key: object, value: object, model: str | None) -> None:
    """The app chooses the model's name, so neither its length nor the number of names may decide what is kept."""
    if model is not None and len(model) > MAX_MODEL_CHARS:
        return
    if len(table) >= _MEMO_MAX:
        table.clear()
    table[key] = value


def _render(route: Route, x: "Exchange", call: Call) -> bytes:
    """The JSON members of a line that are the same for many exchanges; docs/telemetry.md has them all."""
    fields = {
        "level": "info",
        "event": "exchange",
        "via": x.client.origin.kind,
        "principal": (call.principal or ANONYMOUS).id,
        "provider": route.provider,
        "operation": route.operation.name,
        "model": call.model[:_SHOWN_CHARS] if call.model else None,
        "method": x.method.decode("latin-1"),
        "path": masked(x.target.partition(b"?")[0])[:_SHOWN_CHARS].decode("latin-1"),
        "stream": call.stream,
    }
    return orjson.dumps(fields)[1:-1]


def _unusual(x: "Exchange", call: Call) -> bytes:
    """What only refusals, failures, retries and shadow rules have to say."""
    fields: dict[str, object] = {}
    if call.error is not None:
        fields |= {"error": call.error.code, "message": str(call.error)}
    if x.detail is not None:
        fields["detail"] = x.detail
    if call.attempts > 1:
        fields["attempts"] = call.attempts
    if call.shadow_rules:
        fields["shadow"] = call.shadow_rules
    return b"," + orjson.dumps(fields)[1:-1]
