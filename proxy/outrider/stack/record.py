"""What an exchange leaves behind: metrics and one log line. Refusals too.

Rules: no bodies, no queries (keys travel there), no header values; the model's name is bounded before it is a label;
the parts of a line that do not change from one exchange of a route to the next are written once. Every value that comes
from outside is JSON-encoded, so a control character leaves escaped.
"""

from typing import TYPE_CHECKING, Any

import orjson

from outrider.stack.call import Call, EndHook, Route
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import MAX_MODEL_CHARS, Metrics
from outrider_ext.relay import ANSWERED

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

    def end(self, route: Route) -> EndHook:
        metrics, log, known = self._metrics, self._log, self._known
        writer = _LineWriter(route, self._constant)

        def hook(x: "Exchange", call: Call) -> None:
            model, decision = call.model, "allow"
            if call.error is not None:
                decision = call.error.code
            elif x.outcome == ANSWERED:  # by the relay itself: the request's framing broke on the way
                decision = "bad_request"
            key = (route, model, x.status, decision)
            series = known.get(key)
            if series is None:
                series = _series(metrics, route, model, x.status, decision)
                _remember(known, key, series, model)
            sent_ns, ended_ns = x.sent_ns, x.ended_ns
            first_ns = x.first_event_ns - sent_ns if x.sse and x.first_event_ns else -1
            series.exchange(x.inside_ns, ended_ns - sent_ns if sent_ns else -1, first_ns)
            usage = call.usage
            if usage is not None:
                series.count_tokens(
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens,
                    usage.reasoning_tokens,
                )
                if usage.estimated:
                    series.estimated += 1
                    metrics.count("usage_estimated", route.provider)
            if log.enabled and log.level <= 20:
                log.line(writer.line(x, call))

        return hook


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


class _LineWriter:
    """The log line of one route's exchanges; the fields are documented in docs/telemetry.md."""

    def __init__(self, route: Route, constant: dict[tuple[object, ...], bytes]) -> None:
        self._route = route
        self._constant = constant

    def line(self, x: "Exchange", call: Call) -> bytes:
        key = (self._route, x.client.origin.kind, x.method, call.model, call.stream)
        constant = self._constant.get(key)
        if constant is None:
            constant = self._render(x, call)
            _remember(self._constant, key, constant, call.model)
        rest = b"" if call.error is None and x.detail is None and call.attempts <= 1 else _unusual(x, call)
        return x.log_line(b'"id":"' + call.request_id + constant, rest, call.usage)

    def _render(self, x: "Exchange", call: Call) -> bytes:
        route = self._route
        fields = {
            "level": "info",
            "event": "exchange",
            "via": x.client.origin.kind,
            "provider": route.provider,
            "operation": route.operation.name,
            "model": call.model[:_SHOWN_CHARS] if call.model else None,
            "method": x.method.decode("latin-1"),
            "path": x.target.partition(b"?")[0][:_SHOWN_CHARS].decode("latin-1"),
            "stream": call.stream,
        }
        return b'",' + orjson.dumps(fields)[1:-1]


def _unusual(x: "Exchange", call: Call) -> bytes:
    """What only refusals, failures and retries have to say."""
    fields: dict[str, object] = {}
    if call.error is not None:
        fields |= {"error": call.error.code, "message": str(call.error)}
    if x.detail is not None:
        fields["detail"] = x.detail
    if call.attempts > 1:
        fields["attempts"] = call.attempts
    return b"," + orjson.dumps(fields)[1:-1]
