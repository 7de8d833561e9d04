"""What an exchange leaves behind: metrics and one log line. Refusals too.

Rules: no bodies, no queries (keys travel there), no header values; the model's name is bounded before it is a label; the
parts of a line that do not change from one exchange of a route to the next are written once. Every value that comes
from outside is JSON-encoded, so a control character leaves escaped.
"""

import time
from typing import TYPE_CHECKING

import orjson
from outrider_ext.relay import CLIENT_GONE, CUT, TIMED_OUT

from outrider.stack.call import Call, EndHook, Route
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange
    from outrider_ext.series import Series

    from outrider.dialects.usage import Usage

_OUTCOMES = {CLIENT_GONE: "client_gone", CUT: "cut", TIMED_OUT: "timed_out"}
_SHOWN_CHARS = 200
_MEMO_MAX = 256


class Record:
    """The filter."""

    def __init__(self, metrics: Metrics, log: JsonLog) -> None:
        self._metrics = metrics
        self._log = log

    def end(self, route: Route) -> EndHook:
        metrics, log = self._metrics, self._log
        known: dict[tuple[object, ...], Series] = {}
        writer = _LineWriter(route)

        def hook(x: "Exchange", call: Call) -> None:
            key = (call.model, x.status, call.error.code if call.error is not None else "allow")
            series = known.get(key)
            if series is None:
                series = _series(metrics, route, *key)
                if len(known) < _MEMO_MAX:
                    known[key] = series
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


class _LineWriter:
    """The log line of one route's exchanges; the fields are documented in docs/telemetry.md."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._constant: dict[tuple[object, ...], str] = {}
        self._second = 0
        self._second_text = ""

    def line(self, x: "Exchange", call: Call) -> str:
        key = (x.client.origin.kind, x.method, call.model, call.stream)
        constant = self._constant.get(key)
        if constant is None:
            constant = self._render(x, call)
            if len(self._constant) < _MEMO_MAX:
                self._constant[key] = constant
        text = (
            f'{{"time":"{self._now()}","level":"info","event":"exchange","id":"{call.request_id.decode()}",{constant},'
            f'"status":{x.status},"outcome":"{_OUTCOMES.get(x.outcome, "ok")}","request_bytes":{x.request_bytes},'
            f'"answer_bytes":{x.answer_bytes},"us":{(x.ended_ns - x.started_ns) // 1000},"overhead_us":{x.inside_ns // 1000}'
        )
        if x.sse:
            text += f',"events":{x.events}'
            if x.first_event_ns:
                text += f',"first_event_us":{(x.first_event_ns - x.sent_ns) // 1000}'
        if call.usage is not None:
            text += _tokens(call.usage)
        if call.error is not None:
            text += f',"error":"{call.error.code}","message":{_json(str(call.error))}'
        if x.detail is not None:
            text += f',"detail":{_json(x.detail)}'
        if call.attempts > 1:
            text += f',"attempts":{call.attempts}'
        return text + "}\n"

    def _render(self, x: "Exchange", call: Call) -> str:
        route = self._route
        path = x.target.partition(b"?")[0][:_SHOWN_CHARS].decode("latin-1")
        fields = {
            "via": x.client.origin.kind,
            "provider": route.provider,
            "operation": route.operation.name,
            "model": call.model[:_SHOWN_CHARS] if call.model else None,
            "method": x.method.decode("latin-1"),
            "path": path,
            "stream": call.stream,
        }
        return orjson.dumps(fields).decode()[1:-1]

    def _now(self) -> str:
        """RFC 3339 in UTC, microseconds; the part down to the second is made once a second."""
        second, nanos = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{nanos // 1000:06d}Z"


def _tokens(usage: "Usage") -> str:
    return (
        f',"tokens":{{"input":{usage.input_tokens},"output":{usage.output_tokens},"cache_read":{usage.cache_read_tokens},'
        f'"cache_write":{usage.cache_write_tokens},"reasoning":{usage.reasoning_tokens},'
        f'"estimated":{"true" if usage.estimated else "false"}}}'
    )


def _json(text: str) -> str:
    return orjson.dumps(text).decode()
