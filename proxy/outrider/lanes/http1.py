"""What is rare on the way of an exchange: a new route, a wait, a new connection, a refusal, a failure.

Rules: whatever a hook raises becomes one answer in the client's dialect; nothing is retried after a byte of the answer
went on; a stale pooled connection is replaced once, by a fresh one. The usual way is compiled (outrider_ext.lane), and
needs no task: a wait makes one.
Does not know: sockets, TLS, providers' tables.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from outrider.dialects.errors import stream_error
from outrider.dialects.streams import framing_in
from outrider.errors import (
    BodyTooLargeError,
    SidecarError,
    TargetsDownError,
    UpstreamBrokenError,
    UpstreamConnectError,
    UpstreamTimeoutError,
)
from outrider.lanes.answers import error_message, protocol_error_message
from outrider.lanes.dispatcher import Dispatcher
from outrider.lanes.peer import is_gone
from outrider.lanes.routing import Router
from outrider.stack.call import Call, Route, Taken
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext import http1
from outrider_ext.lane import Lane

if TYPE_CHECKING:
    from outrider.telemetry.audit import AuditLog
    from outrider_ext.relay import Downstream, Exchange, Upstream

H_CONTENT_TYPE = http1.header_id(b"content-type")
H_UPGRADE = http1.header_id(b"upgrade")
MAX_ATTEMPTS = 2
PROVIDER_FAILED = (UpstreamConnectError, UpstreamTimeoutError, UpstreamBrokenError, TargetsDownError)
_CUT_SENTENCES = {
    "timeout": "the provider stopped in the middle of its answer",
    "bad_answer": "the provider's answer broke the protocol in the middle",
    "secret_echoed": "the answer contained the sidecar's credential, so it was not passed on further",
    "withheld": "the rest of the answer was withheld by a rule of the sidecar",
}
_FAILED = "the sidecar failed on this request; its log says more"


class InternalError(SidecarError):
    code, status, should_retry = "internal_error", 500, False


class Desk:
    """One per sidecar; `lane` is the relay's owner. What the methods are asked for stands in outrider_ext.lane."""

    def __init__(
        self,
        router: Router,
        metrics: Metrics,
        log: JsonLog,
        spawn: Callable[..., Any],
        *,
        held_body_bytes: int,
        audit: "AuditLog | None" = None,
    ) -> None:
        self.lane = Lane(self, router, secrets.token_hex(6).encode("ascii"), held_body_bytes)
        self._metrics = metrics
        self._log = log
        self._spawn = spawn
        self._audit = audit
        self.dispatcher = Dispatcher(self.lane, metrics, log, spawn, self._refuse)

    # -- a request comes

    def find(self, x: "Exchange", request_id: bytes) -> Route | None:
        router: Router = self.lane.router
        try:
            return router.find(x)
        except SidecarError as error:
            self._refuse_unrouted(x, request_id, error)
        except Exception as exc:
            self.report(exc, "route")
            self._refuse_unrouted(x, request_id, InternalError(_FAILED))
        return None

    def resolve(self, x: "Exchange", call: Call) -> None:
        """Whom a call of the API over all providers is for."""
        try:
            route = call.route.resolver(x, call)
        except SidecarError as error:
            self._refuse(x, call, error)
        except Exception as exc:
            self.failed(x, call, exc, "resolve")
        else:
            if not x.ended:
                self.lane.reroute(x, call, route)

    def note_upgrade(self, x: "Exchange") -> None:
        upgrade = x.head.get(H_UPGRADE)
        # Any other protocol (Java's h2c) is not taken up: the request goes on without the field.
        x.allow_upgrade = x.method == b"GET" and upgrade is not None and upgrade.lower() == b"websocket"

    def wait(self, x: "Exchange", call: Call, stage: int, waiting: Awaitable[Taken | None] | Taken) -> None:
        if isinstance(waiting, Taken):
            waiting.park(self.lane, stage)
            return

        async def drive() -> None:
            try:
                taken = await waiting
            except Exception as exc:
                self.failed(x, call, exc, "request")
                return
            if taken is not None:
                taken.park(self.lane, stage)
            elif not x.ended:
                self.lane.resume(x, call, stage)

        x.waiter = self._spawn(drive(), name="exchange")

    def too_large(self, x: "Exchange", call: Call) -> None:
        why = "for the rules that have to read it" if call.needs_body else "to be signed"
        self._refuse(x, call, BodyTooLargeError(f"the request's body is too large {why}; raise caps.held_body_bytes"))

    def open(self, x: "Exchange", call: Call) -> None:
        """A new connection, and the exchange on it."""
        send = self.lane.send
        ticket = call.to.pool.open(
            lambda opened: send(x, call, opened), lambda error: self._failed_there(x, call, error), self._spawn
        )
        if ticket.is_open:  # else it was refused at once, and something else may be waited for by now
            x.waiter = ticket

    # -- a call with several attempts

    def begin(self, x: "Exchange", call: Call) -> None:
        self.dispatcher.begin(x, call)

    def discards(self, x: "Exchange", call: Call) -> bool:
        return self.dispatcher.discards(x, call)

    def finished(self, x: "Exchange", call: Call) -> None:
        self.dispatcher.finished(x, call)

    def races(self, x: "Exchange", call: Call, connection: "Upstream") -> bool:
        return self.dispatcher.hedging.races(x, call, connection)

    def race_lost(self, x: "Exchange", call: Call, connection: "Upstream", kind: str, detail: str) -> None:
        self.dispatcher.hedging.lost(x, call, connection, detail or kind)

    def _failed_there(self, x: "Exchange", call: Call, error: SidecarError) -> None:
        """Before a byte of an answer: another attempt, or a refusal."""
        if call.dispatch is None or x.ended:
            self._refuse(x, call, error)
        else:
            self.dispatcher.failed(x, call, error)

    # -- what fails

    def retry_or_refuse(self, x: "Exchange", call: Call, kind: str, detail: str) -> None:
        """The provider failed before any of its answer went on."""
        name, provider = call.to.destination_host, call.to.provider
        if kind == "stale" and x.replayable and self._may_replace(call):
            self._metrics.count("stale_retry", provider)
            call.fresh = True
            self.lane.dispatch(x, call)
            return
        error: SidecarError
        if kind == "timeout":
            error = UpstreamTimeoutError(f"{name} did not answer: {detail}")
        elif kind == "secret_echoed":
            self._metrics.count("secret_echoed", provider)
            error = UpstreamBrokenError(f"{name} sent the sidecar's credential back, so its answer was not passed on")
        elif kind == "withheld":
            failure = x.failure
            if failure is not None and not isinstance(failure, SidecarError):
                self.report(failure, "answer")
            error = failure if isinstance(failure, SidecarError) else UpstreamBrokenError(f"{detail} ({name})")
        elif kind == "bad_answer":
            error = UpstreamBrokenError(f"{name} sent an answer that is not valid HTTP/1.1: {detail}")
        else:
            error = UpstreamBrokenError(f"{name} closed the connection before it answered")
        if kind in ("secret_echoed", "withheld"):
            self._refuse(x, call, error)
        else:
            self._failed_there(x, call, error)

    @staticmethod
    def _may_replace(call: Call) -> bool:
        """Whether a connection that had grown stale is replaced by a fresh one: once, per attempt."""
        if call.dispatch is None:
            return bool(call.attempts < MAX_ATTEMPTS)
        first, call.dispatch.stale = not call.dispatch.stale, True
        return first

    def cut_short(self, x: "Exchange", call: Call, kind: str, detail: str) -> bytes | None:
        """The event that tells the app, in its own dialect, that the provider broke its stream off."""
        if x.status != 200:
            return None
        self._metrics.count("stream_cut", call.to.provider)
        if call.translating is not None:
            return call.translating.end() or None
        sentence = _CUT_SENTENCES.get(kind, "the provider closed the connection before its answer was complete")
        code = UpstreamTimeoutError.code if kind == "timeout" else UpstreamBrokenError.code
        framing = framing_in(x) or "sse"
        event = stream_error(call.route.operation.dialect or call.route.error_dialect, framing, code, sentence)
        if framing == "json-array" and not x.events:  # nothing went on that opened it
            return b"[" + event.lstrip(b",\r\n")
        return event

    def failed(self, x: "Exchange", call: Call, exc: Exception, where: str) -> None:
        """A hook or the sender raised."""
        if isinstance(exc, SidecarError):
            if where == "attempt":
                self._failed_there(x, call, exc)
            else:
                self._refuse(x, call, exc)
            return
        self.report(exc, where)
        self._refuse(x, call, InternalError(_FAILED))

    def bad_request(self, status: int, message: str) -> bytes:
        self._metrics.count("bad_request")
        if self._audit is not None:
            self._note_refusal("bad_request", status, message)
        return protocol_error_message(status, message)

    def is_gone(self, client: "Downstream") -> bool:
        sock = client.transport.get_extra_info("socket") if client.transport is not None else None
        return sock is None or is_gone(sock)

    def withhold(self, x: "Exchange", call: Call, exc: Exception) -> bool:
        """An answer's hook raised. A failure of ours lets the answer go on, unless it has to be redacted."""
        if not isinstance(exc, SidecarError):
            self.report(exc, "answer")
            if call.redacting is None:
                return False
            exc = InternalError(_FAILED)
        self._refuse(x, call, exc)
        return True

    # -- answers of our own

    def _refuse(self, x: "Exchange", call: Call, error: SidecarError) -> None:
        if x.ended or (isinstance(error, PROVIDER_FAILED) and self._is_rescued(x, call)):
            return
        call.error = error
        route = call.route
        if isinstance(error, UpstreamConnectError | UpstreamTimeoutError | UpstreamBrokenError):
            self._metrics.count(error.code, call.to.provider)
        message = error_message(
            error,
            route.operation.dialect or route.error_dialect,
            request_id=call.request_id,
            close=x.must_close,
            decision=call.decision if call.decision != "allow" else "",
            head_only=x.method == b"HEAD",
        )
        x.answer(message, error.status)

    def _is_rescued(self, x: "Exchange", call: Call) -> bool:
        """Whether something old was answered instead of the provider's failure; no attempt has a say in that answer."""
        stale, call.stale = call.stale, None
        if stale is None:
            return False
        plan, call.dispatch = call.dispatch, None
        if stale(x, call):
            if plan is not None:
                self.dispatcher.leave(plan)
            return True
        call.dispatch = plan
        return False

    def _refuse_unrouted(self, x: "Exchange", request_id: bytes, error: SidecarError) -> None:
        self._metrics.series("", "unrouted", "", "", str(error.status), error.code).exchange(0, -1, -1)
        self._log.event(
            "info", "refused", id=request_id.decode(), status=error.status, error=error.code, message=str(error)
        )
        message = error_message(
            error, "openai", request_id=request_id, close=x.must_close, head_only=x.method == b"HEAD"
        )
        if self._audit is not None:
            self._note_refusal(error.code, error.status, str(error), id=request_id.decode())
            x.holds_end = not self._audit.trouble
        x.answer(message, error.status)

    def _note_refusal(self, code: str, status: int, message: str, **members: Any) -> None:
        """Of what belongs to no route, in the audit log."""
        assert self._audit is not None
        about = {"error": code, "status": status}
        if not self._audit.fold((code, status), about):
            self._audit.event("refusal", **members, **about, message=message)

    def report(self, exc: Exception, where: str) -> None:
        """A failure of ours: the type and place, never the values at hand."""
        self._metrics.count("internal_error")
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""
        self._log.event("error", "internal_error", where=where, type=type(exc).__name__, at=place)
