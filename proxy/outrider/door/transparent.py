"""Redirected connections: the original destination and the client's first bytes decide.

Rules: a name in a redirected connection is a *claim* by the client. For a provider the name is what counts: the host
resolves and dials it anew, and verifies it. For a tunnel the original address is dialled, never the claimed name.
Without a name that can be believed (no SNI, an encrypted one, no TLS) the address is judged. An address that a
provider claims is never tunnelled, whatever name came with it.
Plan: TLS by SNI; plain HTTP is the lane's, request by request; the rest (silence included) by address.
Does not know: CONNECT as a way in: one that was redirected is on its way to another proxy, and is judged by address.
"""

from ipaddress import ip_address

from outrider.authority import Authority
from outrider.door.arrival import Arrival
from outrider.door.client_hello import ALERT_ACCESS_DENIED, ALERT_UNRECOGNIZED_NAME, ClientHello
from outrider.door.contract import Deny, Intercept, Origin
from outrider.door.inspection import decide, inspect_and_splice, intercept_tls, tunnel_tls
from outrider.errors import SidecarError


async def serve_transparent_tls(arrival: Arrival) -> None:
    """Serves a redirected connection that began with a TLS record. Raises the Peek errors."""
    hello = await arrival.client_hello()
    if hello is None:
        return
    if hello.ech:
        arrival.host.count("ech", arrival.destination)
    if hello.sni is None:
        await _serve_tls_by_address(arrival, hello)
        return
    verdict = decide(arrival.host, hello.sni, arrival.port)
    if isinstance(verdict, Deny):
        await _deny_tls(arrival, verdict, hello.sni)
    elif isinstance(verdict, Intercept):
        await intercept_tls(arrival, hello, _origin(arrival, hello.sni), verdict)
    elif hello.ech:  # the outer name says nothing about where this goes
        await _serve_tls_by_address(arrival, hello)
    elif isinstance(arrival.host.verdict(arrival.address, arrival.port), Intercept):
        arrival.record("sni_mismatch", arrival.destination, sni=hello.sni)
        await arrival.refuse_tls(ALERT_UNRECOGNIZED_NAME)
    else:
        name = f"{hello.sni}:{arrival.port}"
        await tunnel_tls(arrival, arrival.address, arrival.port, name, address=arrival.address)


async def serve_transparent_opaque(arrival: Arrival) -> None:
    """Serves a redirected connection that speaks neither TLS nor HTTP, or says nothing. Raises the Peek errors."""
    address, port = arrival.address, arrival.port
    verdict = decide(arrival.host, address, port)
    if isinstance(verdict, Deny):
        arrival.record("transparent_denied", arrival.destination, code=verdict.code)
        return
    if isinstance(verdict, Intercept):
        arrival.record("opaque_closed", arrival.destination)
        return
    refusal = arrival.host.admit_tunnel(arrival.caller)
    if refusal is not None:
        arrival.record("transparent_denied", arrival.destination, code=refusal.code)
        return
    try:
        upstream = await arrival.host.dial(address, port, address=address)
    except SidecarError as exc:
        arrival.record("dial_failed", arrival.destination, "info", code=exc.code)
        return
    await inspect_and_splice(arrival, upstream, Authority(address, port, True, ip_address(address)))


async def _serve_tls_by_address(arrival: Arrival, hello: ClientHello) -> None:
    verdict = decide(arrival.host, arrival.address, arrival.port)
    if isinstance(verdict, Deny):
        await _deny_tls(arrival, verdict, hello.sni)
    elif isinstance(verdict, Intercept):
        await intercept_tls(arrival, hello, _origin(arrival, arrival.address), verdict)
    else:
        await tunnel_tls(arrival, arrival.address, arrival.port, arrival.destination, address=arrival.address)


async def _deny_tls(arrival: Arrival, verdict: Deny, sni: str | None) -> None:
    arrival.record("transparent_denied", arrival.destination, code=verdict.code, sni=sni)
    await arrival.refuse_tls(ALERT_ACCESS_DENIED)


def _origin(arrival: Arrival, host: str) -> Origin:
    return Origin("transparent", "transparent", host, arrival.port, True, arrival.peer, arrival.address, arrival.caller)
