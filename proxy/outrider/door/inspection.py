"""What is checked before bytes pass unread, and before TLS is terminated: the same for CONNECT and redirected clients.

Rules: a provider is never reached uninspected under another name: a tunnel whose first bytes name a provider (SNI, or
the first request's Host, absolute target or inner CONNECT) is refused. An intercepted connection speaks to the host
that it asked for and to no other. What could not be understood on the way to a provider is closed, never tunnelled.
Limits of this: a later request inside a plain-HTTP tunnel is not seen, nor is a name inside ECH.
Does not know: CONNECT, original destinations.
"""

import socket

from outrider.authority import Authority, AuthorityError, parse_authority
from outrider.door.arrival import Arrival
from outrider.door.client_hello import (
    ALERT_ACCESS_DENIED,
    ALERT_INTERNAL_ERROR,
    ALERT_NO_APPLICATION_PROTOCOL,
    ALERT_UNRECOGNIZED_NAME,
    ClientHello,
)
from outrider.door.contract import Deny, DoorHost, Intercept, Origin, Verdict
from outrider.door.first_bytes import Speech, has_request_line
from outrider.door.peek import PeekTimeoutError
from outrider.errors import SidecarError
from outrider_ext.http1 import Head, ProtocolError

WEB_PORTS = frozenset((80, 443))


def decide(host: DoorHost, name: str, port: int) -> Verdict:
    """The verdict on a destination asked for, the loop test before it and the name check of interception after it."""
    if host.is_own_address(name, port):
        return Deny("loop", 403, "This destination is the sidecar itself; remove it from the proxied hosts.")
    verdict = host.verdict(name, port)
    if isinstance(verdict, Intercept) and "_" in name:
        return Deny("bad_request", 400, "A host name with an underscore cannot be intercepted; correct the name.")
    return verdict


def is_provider(host: DoorHost, name: str, port: int) -> bool:
    """Whether a provider claims the name on this port or on a port where providers usually listen."""
    return any(isinstance(host.verdict(name, each), Intercept) for each in {port, *WEB_PORTS})


async def intercept_tls(arrival: Arrival, hello: ClientHello, origin: Origin, verdict: Intercept) -> None:
    """Hands a client whose hello is acceptable to the HTTP lane, with the context that terminates its TLS."""
    if hello.alpn and b"http/1.1" not in hello.alpn:
        await _meet_http2_only(arrival, hello, origin)
        return
    try:
        context = verdict.context()
    except Exception as exc:  # whatever it is, this client gets an answer and the others go on
        arrival.record("context_failed", origin.host or "", "error", problem=type(exc).__name__)
        await arrival.refuse_tls(ALERT_INTERNAL_ERROR)
        return
    arrival.serve(origin, context)


async def _meet_http2_only(arrival: Arrival, hello: ClientHello, origin: Origin) -> None:
    name, port = origin.host or "", origin.port or 0
    offered = [protocol.decode("ascii", "replace") for protocol in hello.alpn]
    if arrival.limits.http2 == "deny":
        arrival.record("http2_denied", name, alpn=offered)
        await arrival.refuse_tls(ALERT_NO_APPLICATION_PROTOCOL)
        return
    arrival.record("http2_tunnelled", name, alpn=offered)
    await tunnel_tls(arrival, origin.address or name, port, f"{name}:{port}", address=origin.address)


async def tunnel_tls(arrival: Arrival, host: str, port: int, name: str, *, address: str | None = None) -> None:
    """Dials for a client whose hello was read and found in order, and splices."""
    refusal = arrival.host.admit_tunnel(arrival.caller)
    if refusal is not None:
        arrival.record(
            "connect_denied" if arrival.listener == "proxy" else "transparent_denied", name, code=refusal.code
        )
        await arrival.refuse_tls(ALERT_ACCESS_DENIED)
        return
    try:
        upstream = await arrival.host.dial(host, port, address=address)
    except SidecarError as exc:
        arrival.record("dial_failed", name, "info", problem=str(exc))
        await arrival.refuse_tls(ALERT_INTERNAL_ERROR)
        return
    splice(arrival, upstream, name)


def splice(arrival: Arrival, upstream: socket.socket, name: str) -> None:
    """Gives both sockets to the tunnel; closes `upstream` if that fails."""
    try:
        arrival.tunnel(upstream, name)
    except BaseException:
        upstream.close()
        raise


async def inspect_and_splice(arrival: Arrival, upstream: socket.socket, target: Authority) -> None:
    """Looks at what the client says first in a tunnel to `target`, and splices or refuses. Owns `upstream`.

    A server that speaks first ends the wait at once. Silence of both is taken for such a protocol after `detect_s`,
    but on the web's own ports, where the client always begins, only for a client that is in no hurry.
    """
    try:
        if await _may_pass(arrival, upstream, target):
            arrival.tunnel(upstream, str(target))
            return
    except BaseException:
        upstream.close()
        raise
    upstream.close()


async def _may_pass(arrival: Arrival, upstream: socket.socket, target: Authority) -> bool:
    limits, is_web = arrival.limits, target.port in WEB_PORTS
    try:
        speech = await arrival.detect(limits.first_byte_s if is_web else limits.detect_s, upstream)
    except PeekTimeoutError:
        if is_web:
            arrival.record("silent_closed", str(target), "info")
        return not is_web
    if speech is Speech.TLS:
        hello = await arrival.client_hello()
        return hello is not None and await _may_pass_tls(arrival, hello, target)
    if speech in (Speech.HTTP, Speech.CONNECT):
        return await _may_pass_http(arrival, target)
    return True


async def _may_pass_tls(arrival: Arrival, hello: ClientHello, target: Authority) -> bool:
    name = str(target)
    if hello.ech:
        arrival.host.count("ech", name)
    if hello.sni is None or hello.sni == target.host:
        return True
    if is_provider(arrival.host, hello.sni, target.port):
        arrival.record("sni_mismatch", name, sni=hello.sni)
        await arrival.refuse_tls(ALERT_UNRECOGNIZED_NAME)
        return False
    if not target.is_ip:  # a client that resolved for itself sends a name with an address: nothing unusual
        arrival.host.count("sni_differs", name)
    return True


async def _may_pass_http(arrival: Arrival, target: Authority) -> bool:
    """Best effort, on the first request only; what is ambiguous could hide a name and is refused."""
    peek, cap, head = arrival.peek, arrival.limits.connect_head_bytes, Head()
    peek.set_deadline(arrival.limits.connect_head_s)
    while True:
        data = peek.look(cap)
        if has_request_line(data) is False:
            return True  # some other protocol that begins with a word in capitals
        try:
            if head.scan_request(data, 0, cap):
                break
        except ProtocolError as exc:
            await arrival.refuse_http(exc.status, "bad_request", str(exc))
            return False
        if len(data) >= cap:
            await arrival.refuse_http(431, "bad_request", f"The request head is larger than {cap} bytes.")
            return False
        await peek.more()
    return await _may_pass_names(arrival, head, target)


async def _may_pass_names(arrival: Arrival, head: Head, target: Authority) -> bool:
    try:
        named = [parse_authority(raw, target.port) for raw in _named_authorities(head)]
    except AuthorityError as exc:
        await arrival.refuse_http(400, "bad_request", f"In the request: {exc}.")
        return False
    if not any(is_provider(arrival.host, each.host, each.port) for each in named):
        return True
    arrival.record("host_mismatch", str(target))
    message = "This tunnel was opened to another host than its request names; connect to that host itself."
    await arrival.refuse_http(421, "misdirected", message)
    return False


def _named_authorities(head: Head) -> list[bytes]:
    """Every authority that a request states: its Host, an absolute target, the target of a CONNECT."""
    named = [value for value in (head.get_name(b"host"),) if value]
    scheme, separator, rest = head.target.partition(b"://")
    if head.method == b"CONNECT":
        named.append(head.target)
    elif separator and scheme.lower() in (b"http", b"https"):
        named.append(rest.partition(b"/")[0].partition(b"?")[0].partition(b"#")[0])
    return named
