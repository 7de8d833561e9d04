"""CONNECT: from the first bytes of its head to a lane, a tunnel or a refusal.

Rules: everything that can be refused with an HTTP status is decided, and a tunnel's destination is dialled, before the
200 is written. The head is consumed to its last byte and not one further: what follows belongs to the lane. The
destination is the CONNECT target, whatever Host, SNI or an inner request say. An intercepted connection that turns out
to be neither TLS nor HTTP is closed: a provider is never tunnelled uninspected.
Plan: head → authority → verdict → 200 → first bytes inside. Source: RFC 9110 §9.3.6; Host is ignored, as §7.2 of the
same allows for an authority-form target. Proxy-Authorization is a claim of
who is calling, which the host judges; it goes no further.
Does not know: how a verdict is found, how TLS is terminated.
"""

from outrider.authority import Authority, AuthorityError, parse_authority
from outrider.door.arrival import Arrival
from outrider.door.client_hello import ALERT_UNRECOGNIZED_NAME
from outrider.door.contract import Deny, Intercept, Origin
from outrider.door.first_bytes import Speech
from outrider.door.inspection import decide, inspect_and_splice, intercept_tls
from outrider.door.peek import PeekTimeoutError
from outrider.errors import SidecarError
from outrider_ext.http1 import Head, ProtocolError


async def serve_connect(arrival: Arrival) -> None:
    """Serves one CONNECT whose first bytes were recognised. Raises the Peek errors for a client that left or stalls."""
    target = await _read_target(arrival)
    if target is None:
        return
    verdict = decide(arrival.host, target.host, target.port)
    if isinstance(verdict, Deny):
        event = "loop" if verdict.code == "loop" else "connect_denied"
        arrival.record(event, str(target), code=verdict.code)
        await arrival.refuse_http(verdict.status, verdict.code, verdict.message)
    elif isinstance(verdict, Intercept):
        await _intercept(arrival, target, verdict)
    elif (refusal := arrival.host.admit_tunnel(arrival.caller)) is not None:
        arrival.record("connect_denied", str(target), code=refusal.code)
        await arrival.refuse_http(refusal.status, refusal.code, refusal.message)
    else:
        await _tunnel(arrival, target)


async def _read_target(arrival: Arrival) -> Authority | None:
    """Consumes the head; None when it was refused."""
    peek, cap, head = arrival.peek, arrival.limits.connect_head_bytes, Head()
    peek.set_deadline(arrival.limits.connect_head_s)
    while True:
        data = peek.look(cap)
        try:
            end = head.scan_request(data, 0, cap)
        except ProtocolError as exc:
            await _refuse(arrival, exc.status, str(exc))
            return None
        if end:
            break
        if len(data) >= cap:
            await _refuse(arrival, 431, f"The CONNECT head is larger than {cap} bytes.")
            return None
        try:
            await peek.more()
        except PeekTimeoutError:
            await _refuse(arrival, 408, "The CONNECT head did not arrive in time.")
            return None
    peek.take(end)
    return await _judge_target(arrival, head)


async def _judge_target(arrival: Arrival, head: Head) -> Authority | None:
    if head.chunked or head.content_length > 0:
        await _refuse(arrival, 400, "A CONNECT has no body; remove its content-length or transfer-encoding.")
        return None
    try:
        target = parse_authority(head.target)
    except AuthorityError as exc:
        await _refuse(arrival, 400, f"Bad CONNECT target: {exc}.")
        return None
    values = [value for name, value in head.items() if name == b"proxy-authorization"]
    if len(values) > 1:
        await _refuse(arrival, 400, "A CONNECT names its caller once; send one Proxy-Authorization.")
        return None
    refusal = arrival.host.note_token(arrival.caller, values[0] if values else None)
    if refusal is None:
        return target
    arrival.record("connect_denied", str(target), code=refusal.code)
    await arrival.refuse_http(refusal.status, refusal.code, refusal.message)
    return None


async def _refuse(arrival: Arrival, status: int, message: str) -> None:
    arrival.record("connect_bad", "", "info", status=status, problem=message)
    await arrival.refuse_http(status, "bad_request", message)


async def _tunnel(arrival: Arrival, target: Authority) -> None:
    try:
        upstream = await arrival.host.dial(target.host, target.port)
    except SidecarError as exc:
        arrival.record("dial_failed", str(target), "info", code=exc.code)
        await arrival.refuse_http(exc.status, exc.code, str(exc))
        return
    if not arrival.confirm_connect():
        upstream.close()
        return
    await inspect_and_splice(arrival, upstream, target)


async def _intercept(arrival: Arrival, target: Authority, verdict: Intercept) -> None:
    if not arrival.confirm_connect():
        return
    try:
        speech = await arrival.detect(arrival.limits.detect_s)
    except PeekTimeoutError:
        arrival.record("silent_closed", str(target))
        return
    if speech is Speech.TLS:
        await _intercept_tls(arrival, target, verdict)
    elif speech is Speech.OPAQUE:
        arrival.record("opaque_closed", str(target))
    else:  # Node's fetch sends a CONNECT for http:// URLs too
        arrival.serve(_origin(arrival, target, tls=False), None)


async def _intercept_tls(arrival: Arrival, target: Authority, verdict: Intercept) -> None:
    hello = await arrival.client_hello()
    if hello is None:
        return
    if hello.sni is not None and hello.sni != target.host and not target.is_ip:
        arrival.record("sni_mismatch", str(target), sni=hello.sni)
        await arrival.refuse_tls(ALERT_UNRECOGNIZED_NAME)
        return
    await intercept_tls(arrival, hello, _origin(arrival, target, tls=True), verdict)


def _origin(arrival: Arrival, target: Authority, *, tls: bool) -> Origin:
    return Origin("proxy", "connect", target.host, target.port, tls, arrival.peer, caller=arrival.caller)
