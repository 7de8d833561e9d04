"""The exchange in the audit log: who asked what, what was decided by which rules, what it used, how it ended.

Rules: one line per exchange and per refusal; refusals of one kind that repeat within some seconds fold into a count;
content is written only where config asks, cut at `content_bytes`: `redacted` is the request as it left and the answer
as it came, as stack.kept_text masks them; `full` is the request as the app sent it and the answer as it came. No query
(keys travel there) and no field of a head is written.
Does not know: files, chains, hashes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from outrider.errors import UpstreamBrokenError, UpstreamConnectError, UpstreamTimeoutError
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.providers.registry import Binding
from outrider.stack.call import Call, LayerHook, Route
from outrider.telemetry.audit import AuditLog
from outrider.telemetry.metrics import MAX_MODEL_CHARS
from outrider_ext import http1
from outrider_ext.audit import AuditBegin, AuditEnd
from outrider_ext.relay import Exchange

if TYPE_CHECKING:
    from outrider.stack.kept_text import KeptText

_ENCODED = http1.mask_of(b"content-encoding")
_SHOWN_CHARS = 200
_MEMO_MAX = 4096
_FROM_PROVIDER = (UpstreamConnectError, UpstreamTimeoutError, UpstreamBrokenError)


class Audit:
    """The filter. content: none, redacted (`kept` masks it) or full. redacts: a layer below counts what it does."""

    def __init__(
        self,
        log: AuditLog,
        *,
        content: str = "none",
        content_bytes: int = 65_536,
        kept: "KeptText | None" = None,
        redacts: bool = False,
    ) -> None:
        self._log = log
        self._kept = kept
        self._redacts = redacts
        self._content = content
        self._content_bytes = content_bytes
        self._openings: dict[tuple[object, ...], bytes] = {}  # of all routes, so that many take no more room

    def request(self, route: Route) -> LayerHook:
        return AuditBegin(self._log.chain, self._log.refuse_new)

    def body(self, route: Route) -> LayerHook | None:
        """Asked for so that the body is held; of `full`, before any layer could change it."""
        if self._content == "none":
            return None
        return _keep_request if self._content == "full" else _go_on

    def answer(self, route: Route) -> LayerHook | None:
        return None if self._content == "none" else _tap

    def end(self, route: Route) -> LayerHook:
        def opening(x: Exchange, call: Call) -> bytes:
            key = (route, call.principal, call.key_id, x.client.origin.kind, x.method, call.model, call.stream)
            found = self._openings.get(key)
            if found is None:
                found = _render(route, x, call)
                if call.model is None or len(call.model) <= MAX_MODEL_CHARS:
                    if len(self._openings) >= _MEMO_MAX:
                        self._openings.clear()
                    self._openings[key] = found
            return found

        counts = self._redacts and hasattr(Call, "redacted")
        return AuditEnd(self._log.chain, opening, _decided, self._rest, self._refused, self._content != "none", counts)

    def _refused(self, x: Exchange, call: Call) -> bool:
        """Whether it is folded. What the provider failed at is no refusal."""
        if isinstance(call.error, _FROM_PROVIDER) or call.attempts:
            return False
        who = call.principal or ANONYMOUS
        route = call.route
        key = (who, call.key_id, route.provider, route.operation.name, call.error.code, call.decision, call.rules)
        return self._log.fold(
            key,
            {
                "principal": _principal(who),
                **({"key_id": call.key_id} if call.key_id is not None else {}),
                "provider": route.provider,
                "operation": route.operation.name,
                "decision": call.decision if call.decision != "allow" else call.error.code,
                "rules": call.rules,
                "status": call.error.status,
                "error": call.error.code,
            },
        )

    def _rest(self, x: Exchange, call: Call) -> bytes:
        """What only some exchanges have to say."""
        members: dict[str, object] = {}
        if call.error is not None:
            members |= {"error": call.error.code, "message": str(call.error)}
        if x.detail is not None:
            members["detail"] = x.detail
        if call.attempts > 1:
            members["attempts"] = call.attempts
        redacted = getattr(call, "redacted", None)
        if redacted:
            members["redactions"] = dict(redacted)
        if self._content != "none":
            members |= self._contents(x, call)
        return b"," + orjson.dumps(members, default=str)[1:-1] if members else b""

    def _contents(self, x: Exchange, call: Call) -> dict[str, object]:
        if self._content == "full":
            return self._text("request", call.content or b"") | self._text("answer", x.take_tapped()[0])
        kept = self._kept
        assert kept is not None
        return self._masked("request", lambda: kept.request(x, call)) | self._masked(
            "answer", lambda: kept.answer(x, call)
        )

    def _masked(self, name: str, read: Callable[[], bytes]) -> dict[str, object]:
        from outrider.stack.kept_text import NotKeptError  # it is there: `kept` is one of its

        try:
            return self._text(name, read())
        except NotKeptError as exc:
            return {f"{name}_withheld": str(exc)}

    def _text(self, name: str, data: bytes) -> dict[str, object]:
        cut = data[: self._content_bytes]
        members: dict[str, object] = {name: cut.decode("utf-8", "replace")}
        if len(cut) < len(data):
            members[f"{name}_cut_from_bytes"] = len(data)
        return members


def _go_on(x: Exchange, call: Call) -> None:
    """The body is held; it is read when the exchange ends."""


def _keep_request(x: Exchange, call: Call) -> None:
    call.content = x.body


def _tap(x: Exchange, call: Call) -> None:
    if not x.answer_head.mask & _ENCODED:  # what is encoded the meter unpacks, where it reads it at all
        x.tap_body = True


def _principal(who: Principal) -> dict[str, str]:
    fields = {"id": who.id, "team": who.team, "project": who.project, "environment": who.environment}
    return {name: value for name, value in fields.items() if value}


def _render(route: Route, x: Exchange, call: Call) -> bytes:
    """The members of a line that are the same for many exchanges; docs/audit.md has them all."""
    binding: Binding = route.binding
    members = {
        "via": x.client.origin.kind,
        "principal": _principal(call.principal or ANONYMOUS),
        "provider": binding.name,
        "host": route.destination_host,
        "operation": route.operation.name,
        "model": call.model[:_SHOWN_CHARS] if call.model else None,
        "method": x.method.decode("latin-1"),
        "path": x.target.partition(b"?")[0][:_SHOWN_CHARS].decode("latin-1"),
        "stream": call.stream,
        "key": "sidecar" if getattr(route.attempt, "injects", False) else "app",
    }
    if call.key_id is not None:
        members["key_id"] = call.key_id
    return orjson.dumps(members)[1:-1]


def _decided(call: Call) -> bytes:
    members: dict[str, Any] = {"decision": call.decision}
    if call.rules:
        members["rules"] = call.rules
    if call.shadow_rules:
        members["shadow_rules"] = call.shadow_rules
    if call.tags:
        members["tags"] = call.tags
    return orjson.dumps(members, default=str)[1:-1]
