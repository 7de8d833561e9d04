"""What an exchange leaves behind: metrics and one log line. Refusals too.

Rules: no bodies, no queries (keys travel there), no header values; the model's name is bounded before it is a label.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from outrider_ext.relay import CLIENT_GONE, CUT, TIMED_OUT

from outrider.stack.call import Call, EndHook, Route
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_OUTCOMES = {CLIENT_GONE: "client_gone", CUT: "cut", TIMED_OUT: "timed_out"}
_SHOWN_CHARS = 200


class Record:
    """The filter."""

    def __init__(self, metrics: Metrics, log: JsonLog) -> None:
        self._metrics = metrics
        self._log = log

    def end(self, route: Route) -> EndHook:
        metrics, log = self._metrics, self._log
        provider, operation = route.provider, route.operation.name
        otel = route.binding.provider.otel_name
        overhead = metrics.overhead.of((provider,))
        upstream = metrics.upstream.of((provider, operation))
        first_event = metrics.first_event.of((provider, operation))
        requests = metrics.requests

        def hook(x: "Exchange", call: Call) -> None:
            model = metrics.model(call.model)
            decision = call.error.code if call.error is not None else "allow"
            requests.add((provider, operation, model, _status(x), decision))
            overhead.observe(x.inside_ns * 1e-9)
            if x.sent_ns:
                elapsed = (x.ended_ns - x.sent_ns) * 1e-9
                upstream.observe(elapsed)
                metrics.gen_ai_duration.of((operation, otel, model)).observe(elapsed)
                if x.sse and x.first_event_ns:
                    first_event.observe((x.first_event_ns - x.sent_ns) * 1e-9)
            if call.usage is not None:
                _count_tokens(metrics, call.usage, provider, model, (operation, otel, model))
            if log.enabled and log.level <= 20:
                log.exchange(_line(x, call, route))

        return hook


def _status(x: "Exchange") -> str:
    status = x.status
    return _STATUS_TEXT.get(status) or str(status)


_STATUS_TEXT = {status: str(status) for status in (0, 200, 201, 204, 400, 401, 403, 404, 429, 500, 502, 503, 504)}


def _count_tokens(metrics: Metrics, usage: Any, provider: str, model: str, otel: tuple[str, str, str]) -> None:
    """`input` and `output` are the wholes; cache and reasoning are parts of them."""
    tokens = metrics.tokens
    tokens.add((provider, model, "input"), usage.input_tokens)
    tokens.add((provider, model, "output"), usage.output_tokens)
    if usage.cache_read_tokens:
        tokens.add((provider, model, "cache_read"), usage.cache_read_tokens)
    if usage.cache_write_tokens:
        tokens.add((provider, model, "cache_write"), usage.cache_write_tokens)
    if usage.reasoning_tokens:
        tokens.add((provider, model, "reasoning"), usage.reasoning_tokens)
    if usage.estimated:
        metrics.count("usage_estimated", provider)
    metrics.gen_ai_tokens.of((*otel, "input")).observe(usage.input_tokens)
    metrics.gen_ai_tokens.of((*otel, "output")).observe(usage.output_tokens)


def _line(x: "Exchange", call: Call, route: Route) -> dict[str, Any]:
    """The log's fields, documented in docs/telemetry.md."""
    origin = x.client.origin
    record: dict[str, Any] = {
        "time": datetime.now(UTC),
        "level": "info",
        "event": "exchange",
        "id": call.request_id.decode("ascii"),
        "via": origin.kind,
        "provider": route.provider,
        "operation": route.operation.name,
        "model": call.model[:_SHOWN_CHARS] if call.model else None,
        "method": x.method.decode("latin-1"),
        "path": x.target.partition(b"?")[0][:_SHOWN_CHARS].decode("latin-1"),
        "status": x.status,
        "outcome": _OUTCOMES.get(x.outcome, "ok"),
        "stream": x.sse or call.stream,
        "request_bytes": x.request_bytes,
        "answer_bytes": x.answer_bytes,
        "ms": round((x.ended_ns - x.started_ns) / 1e6, 3),
        "overhead_us": round(x.inside_ns / 1e3, 1),
    }
    if x.sse:
        record["events"] = x.events
        if x.first_event_ns and x.sent_ns:
            record["first_event_ms"] = round((x.first_event_ns - x.sent_ns) / 1e6, 3)
    if call.usage is not None:
        usage = call.usage
        record["tokens"] = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_tokens,
            "cache_write": usage.cache_write_tokens,
            "reasoning": usage.reasoning_tokens,
            "estimated": usage.estimated,
        }
    if call.error is not None:
        record["error"] = call.error.code
        record["message"] = str(call.error)
    if x.detail is not None:
        record["detail"] = x.detail
    if call.attempts > 1:
        record["attempts"] = call.attempts
    return record
