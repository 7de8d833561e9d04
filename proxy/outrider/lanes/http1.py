"""The owner of the compiled relay: runs the layers over each exchange, picks its connection, answers what fails.

Rules: an exchange that need not wait makes no task; whatever a hook raises becomes one answer in the client's dialect;
nothing is retried after a byte of the answer went on; a stale pooled connection is replaced once, by a fresh one.
Does not know: sockets, TLS, providers' tables.
"""

import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from outrider.errors import (
    BodyTooLargeError,
    SidecarError,
    UpstreamBrokenError,
    UpstreamConnectError,
    UpstreamTimeoutError,
)
from outrider.lanes.answers import error_message, protocol_error_message
from outrider.lanes.peer import is_gone
from outrider.lanes.routing import Router
from outrider.stack.call import Call
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext import http1

if TYPE_CHECKING:
    from outrider_ext.relay import Downstream, Exchange, Upstream

H_UPGRADE = http1.header_id(b"upgrade")
MAX_ATTEMPTS = 2
_FAILED = "the sidecar failed on this request; its log says more"


class InternalError(SidecarError):
    code, status, should_retry = "internal_error", 500, False


class Http1Lane:
    """One per sidecar. `router` and `held_body_bytes` are replaced by a reload; exchanges in flight keep theirs."""

    def __init__(
        self, router: Router, metrics: Metrics, log: JsonLog, spawn: Callable[..., Any], *, held_body_bytes: int
    ) -> None:
        self.router = router
        self.held_body_bytes = held_body_bytes
        self._metrics = metrics
        self._log = log
        self._spawn = spawn
        self._id_prefix = secrets.token_hex(6).encode("ascii")
        self._ids = itertools.count(1)

    # -- the relay's calls

    def on_request(self, x: "Exchange") -> None:
        request_id = b"%b%08x" % (self._id_prefix, next(self._ids))
        try:
            route = self.router.find(x)
        except SidecarError as error:
            self._refuse_unrouted(x, request_id, error)
            return
        except Exception as exc:
            self._report(exc, "route")
            self._refuse_unrouted(x, request_id, InternalError(_FAILED))
            return
        x.state = call = Call(route, request_id)
        if x.head.upgrade:
            self._note_upgrade(x)
        self._run(x, call, 0)

    def on_body(self, x: "Exchange") -> None:
        """The held body is whole, or larger than the cap."""
        call: Call = x.state
        if x.body is None and call.route.attempt.needs_body:
            self._refuse(
                x, call, BodyTooLargeError("the request's body is too large to be signed; raise caps.held_body_bytes")
            )
            return
        self._run(x, call, len(call.route.request_hooks))

    def on_answer(self, x: "Exchange") -> bytes:
        call: Call = x.state
        try:
            for hook in call.route.answer_hooks:
                hook(x, call)
        except Exception as exc:
            self._report(exc, "answer")
        return b"x-outrider-request-id: " + call.request_id + b"\r\n"

    def on_failed(self, x: "Exchange", kind: str, detail: str) -> None:
        """The provider failed before any of its answer went on."""
        call: Call = x.state
        name = call.route.destination_host
        if kind == "stale" and x.replayable and call.attempts < MAX_ATTEMPTS:
            self._metrics.count("stale_retry", call.route.provider)
            call.fresh = True
            self._dispatch(x, call)
            return
        error: SidecarError
        if kind == "timeout":
            error = UpstreamTimeoutError(f"{name} did not answer: {detail}")
        elif kind == "secret_echoed":
            self._metrics.count("secret_echoed", call.route.provider)
            error = UpstreamBrokenError(f"{name} sent the sidecar's credential back, so its answer was not passed on")
        elif kind == "bad_answer":
            error = UpstreamBrokenError(f"{name} sent an answer that is not valid HTTP/1.1: {detail}")
        else:
            error = UpstreamBrokenError(f"{name} closed the connection before it answered")
        self._refuse(x, call, error)

    def on_end(self, x: "Exchange") -> None:
        call: Call | None = x.state
        if call is not None:
            for hook in call.route.end_hooks:
                try:
                    hook(x, call)
                except Exception as exc:
                    self._report(exc, "end")

    def on_bad_request(self, client: "Downstream", status: int, message: str) -> bytes:
        self._metrics.count("bad_request")
        return protocol_error_message(status, message)

    def on_client_closed(self, client: "Downstream") -> None:
        """Nothing is kept here for a connection."""

    def is_gone(self, client: "Downstream") -> bool:
        sock = client.transport.get_extra_info("socket") if client.transport is not None else None
        return sock is None or is_gone(sock)

    # -- the layers

    def _run(self, x: "Exchange", call: Call, stage: int) -> None:
        """Hooks from `stage` on, counted over request_hooks and then body_hooks; then the dispatcher."""
        route = call.route
        try:
            hooks = route.request_hooks
            count = len(hooks)
            while stage < count:
                waiting = hooks[stage](x, call)
                stage += 1
                if waiting is not None:
                    self._wait(x, call, stage, waiting)
                    return
            if route.wants_body:
                if x.body is None and not x.request_complete and not x.holding and not call.body_asked:
                    call.body_asked = True
                    x.hold(self.held_body_bytes)
                    return
                if x.body is not None:
                    for hook in route.body_hooks[stage - count :]:
                        waiting = hook(x, call)
                        stage += 1
                        if waiting is not None:
                            self._wait(x, call, stage, waiting)
                            return
            self._dispatch(x, call)
        except SidecarError as error:
            self._refuse(x, call, error)
        except Exception as exc:
            self._report(exc, "request")
            self._refuse(x, call, InternalError(_FAILED))

    def _wait(self, x: "Exchange", call: Call, stage: int, waiting: Awaitable[None]) -> None:
        async def drive() -> None:
            try:
                await waiting
            except SidecarError as error:
                self._refuse(x, call, error)
                return
            except Exception as exc:
                self._report(exc, "request")
                self._refuse(x, call, InternalError(_FAILED))
                return
            if not x.ended:
                self._run(x, call, stage)

        x.waiter = self._spawn(drive(), name="exchange")

    def _dispatch(self, x: "Exchange", call: Call) -> None:
        """Find a connection: one that is idle, else a new one when it is there."""
        pool = call.route.pool
        connection = None if call.fresh else pool.take()
        if connection is not None:
            self._send(x, call, connection)
            return
        x.waiter = pool.open(
            lambda opened: self._send(x, call, opened), lambda error: self._refuse(x, call, error), self._spawn
        )

    def _send(self, x: "Exchange", call: Call, connection: "Upstream") -> None:
        if x.ended:
            connection.release()
            return
        call.attempts += 1
        try:
            head, canary = call.route.attempt.build(x, call, x.body)
        except SidecarError as error:
            connection.release()
            self._refuse(x, call, error)
            return
        except Exception as exc:
            connection.release()
            self._report(exc, "attempt")
            self._refuse(x, call, InternalError(_FAILED))
            return
        x.forward(connection, head, x.body, canary)

    def _note_upgrade(self, x: "Exchange") -> None:
        upgrade = x.head.get(H_UPGRADE)
        # Any other protocol (Java's h2c) is not taken up: the request goes on without the field.
        x.allow_upgrade = x.method == b"GET" and upgrade is not None and upgrade.lower() == b"websocket"

    # -- answers of our own

    def _refuse(self, x: "Exchange", call: Call, error: SidecarError) -> None:
        if x.ended:
            return
        call.error = error
        route = call.route
        if isinstance(error, UpstreamConnectError | UpstreamTimeoutError | UpstreamBrokenError):
            self._metrics.count(error.code, route.provider)
        message = error_message(
            error,
            route.operation.dialect or route.error_dialect,
            request_id=call.request_id,
            close=x.must_close,
            decision=call.decision if call.decision != "allow" else "",
            head_only=x.method == b"HEAD",
        )
        x.answer(message, error.status)

    def _refuse_unrouted(self, x: "Exchange", request_id: bytes, error: SidecarError) -> None:
        self._metrics.series("", "unrouted", "", "", str(error.status), error.code).exchange(0, -1, -1)
        self._log.event(
            "info", "refused", id=request_id.decode(), status=error.status, error=error.code, message=str(error)
        )
        message = error_message(
            error, "openai", request_id=request_id, close=x.must_close, head_only=x.method == b"HEAD"
        )
        x.answer(message, error.status)

    def _report(self, exc: Exception, where: str) -> None:
        """A failure of ours: the type and place, never the values at hand."""
        self._metrics.count("internal_error")
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""
        self._log.event("error", "internal_error", where=where, type=type(exc).__name__, at=place)
