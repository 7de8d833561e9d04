import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from door import hellos
from door.hellos import alpn_extension
from door.world import UnreachableError, World, read_all, read_exactly
from outrider.door.contract import EVENTS, Deny, DoorLimits, Intercept, Origin

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
CONNECT = b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n"
OTHER = b"CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n"
SSH = b"CONNECT other.example:22 HTTP/1.1\r\nHost: other.example:22\r\n\r\n"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    it = World()
    yield it
    await it.close()
    assert set(it.host.counts) <= set(EVENTS)


def mark_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


async def refusal_of(client: socket.socket) -> tuple[int, str, dict[str, str]]:
    head, _, body = (await read_all(client)).partition(b"\r\n\r\n")
    first, *fields = head.decode("ascii").split("\r\n")
    _, status, reason = first.split(" ", 2)
    assert "connection: close" in fields
    error = json.loads(body)["error"]
    assert f"x-outrider-error: {error['code']}" in fields
    assert f"content-length: {len(body)}" in fields
    return int(status), reason, error


async def alert_of(client: socket.socket) -> int:
    data = await read_all(client)
    assert data[:6] == b"\x15\x03\x03\x00\x02\x02", data
    assert len(data) == 7
    return data[6]


async def connected(world: World, head: bytes) -> socket.socket:
    client = world.arrive(data=head)
    assert await read_exactly(client, len(OK)) == OK
    return client


# ── the proxy port ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plain_request_is_handed_over_at_once_without_a_task(world: World) -> None:
    client = world.arrive(data=b"GET /openai/v1/models HTTP/1.1\r\n")
    [(sock, origin, context)] = world.host.served  # before the loop turned once
    assert origin == Origin("proxy", "forward", None, None, False, client.getsockname())
    assert context is None
    assert sock.recv(100) == b"GET /openai/v1/models HTTP/1.1\r\n"
    assert world.loop.wakeups == 0


async def test_a_request_that_drips_in_is_handed_over_when_its_method_is_known(world: World) -> None:
    client = world.arrive()
    await world.drip(client, b"GET ")
    [(sock, _, _)] = world.host.served
    assert world.loop.wakeups == 4
    assert mark_of(sock) == 1
    assert sock.recv(100) == b"GET "


async def test_bytes_that_are_no_http_are_for_the_lane_to_refuse(world: World) -> None:
    world.arrive(data=b"\0\1\2\3")
    assert world.host.served[0][1].kind == "forward"


async def test_tls_on_the_proxy_port_gets_an_alert(world: World) -> None:
    client = world.arrive(data=hellos.hello())
    assert await alert_of(client) == 40
    assert world.host.counts["tls_on_proxy_port"] == 1


async def test_an_intercepted_connect_leaves_the_hello_in_the_socket(world: World) -> None:
    client = await connected(world, CONNECT)
    hello = hellos.openssl_hello("api.openai.com", ["h2", "http/1.1"])
    client.sendall(hello)
    await world.settle()
    [(sock, origin, context)] = world.host.served
    assert origin == Origin("proxy", "connect", "api.openai.com", 443, True, client.getsockname())
    assert context is world.context
    assert sock.recv(65536) == hello
    assert mark_of(sock) == 1


async def test_a_connect_cut_at_any_byte_is_the_same_connect(world: World) -> None:
    hello = hellos.hello()
    for cut in range(1, len(CONNECT)):
        client = world.arrive(data=CONNECT[:cut])
        await world.settle(4)
        client.sendall(CONNECT[cut:] + hello)
        await world.settle()
        sock, origin, _ = world.host.served[-1]
        assert len(world.host.served) == cut
        assert origin.host == "api.openai.com"
        assert sock.recv(65536) == hello
        assert client.recv(100) == OK
        client.close()
        sock.close()


async def test_each_dripping_byte_wakes_once_and_silence_never(world: World) -> None:
    client = world.arrive()
    await world.drip(client, CONNECT[:-1])
    assert world.loop.wakeups == len(CONNECT) - 1
    await world.settle(300)
    assert world.loop.wakeups == len(CONNECT) - 1
    client.sendall(CONNECT[-1:])
    hello = hellos.hello()
    assert await read_exactly(client, len(OK)) == OK
    await world.drip(client, hello)
    assert world.loop.wakeups == len(CONNECT) + len(hello)
    [(sock, _, _)] = world.host.served
    assert mark_of(sock) == 1
    assert sock.recv(65536) == hello
    arrived = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(sock, 10))
    await world.settle()
    client.send(b"!")  # one byte must be enough to wake the next owner
    assert await asyncio.wait_for(arrived, 60) == b"!"


async def test_what_follows_the_head_in_its_segment_stays_readable(world: World) -> None:
    hello = hellos.hello()
    client = world.arrive(data=CONNECT + hello + b"more")
    assert await read_exactly(client, len(OK)) == OK
    await world.settle()
    assert world.host.served[0][0].recv(65536) == hello + b"more"


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT api.openai.com:443 HTTP/1.0\r\n\r\n",
        b"\r\nCONNECT API.OpenAI.com.:443 HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic eDp5\r\n\r\n",
        b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_real_clients_send_as_connect_is_accepted(world: World, head: bytes) -> None:
    client = await connected(world, head)
    client.sendall(b"GET /v1/models HTTP/1.1\r\n")
    await world.settle()
    [(_, origin, context)] = world.host.served
    assert (origin.host, origin.port, origin.tls, context) == ("api.openai.com", 443, False, None)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT api.openai.com HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT user@api.openai.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT https://api.openai.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT api.openai.com:443 HTTP/1.1\nHost: x\n\n", 400),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"CONNECT api.openai.com:443 HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n" + b"x-pad: " + b"a" * 17000 + b"\r\n\r\n", 431),
    ],
)
async def test_a_bad_connect_gets_its_status(world: World, head: bytes, status: int) -> None:
    client = world.arrive(data=head)
    found, reason, error = await refusal_of(client)
    assert found == status
    assert error["code"] == "bad_request"
    assert error["message"].startswith(reason[:60])
    await world.settle()
    assert world.host.counts["connect_bad"] == 1


async def test_a_denied_connect_says_why_in_reason_and_body(world: World) -> None:
    # a hello sent without waiting for the answer must not turn that answer into a reset
    client = world.arrive(data=b"CONNECT denied.example:443 HTTP/1.1\r\nHost: x\r\n\r\n" + hellos.hello())
    assert await refusal_of(client) == (
        403,
        "The host denied.example is denied.",
        {"code": "destination_denied", "message": "The host denied.example is denied."},
    )
    assert world.host.dialled == []


async def test_control_characters_of_a_message_never_reach_the_head(world: World) -> None:
    world.host.verdicts["other.example", 443] = Deny("denied", 403, "no\r\nx-evil: é")
    assert (await refusal_of(world.arrive(data=OTHER)))[1] == "no??x-evil: ?"


async def test_a_connect_to_ourselves_is_a_loop(world: World) -> None:
    world.host.own.add(("127.0.0.1", 8484))
    client = world.arrive(data=b"CONNECT 127.0.0.1:8484 HTTP/1.1\r\nHost: x\r\n\r\n")
    status, _, error = await refusal_of(client)
    assert (status, error["code"]) == (403, "loop")
    assert world.host.counts["loop"] == 1


async def test_a_provider_name_with_an_underscore_is_refused(world: World) -> None:
    world.host.verdicts["my_team.openai.azure.com", 443] = Intercept("azure", lambda: world.context)
    client = world.arrive(data=b"CONNECT my_team.openai.azure.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await refusal_of(client))[0] == 400


# ── inside an intercepted CONNECT ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hello", "alert", "event"),
    [
        (hellos.hello(b"other.example"), 112, "sni_mismatch"),
        (hellos.hello(b"api.openai.com", alpn_extension(b"h2")), 120, "http2_denied"),
        (b"\x16\x03\x01\x00\x00", 10, "client_hello_bad"),
        (hellos.records(b"\x01\0\0\x02\x03\x03"), 50, "client_hello_bad"),
    ],
)
async def test_a_hello_that_cannot_be_served_gets_its_alert(world: World, hello: bytes, alert: int, event: str) -> None:
    client = await connected(world, CONNECT)
    client.sendall(hello)
    assert await alert_of(client) == alert
    assert world.host.counts[event] == 1
    assert world.host.served == []


@pytest.mark.parametrize(
    "hello",
    [
        hellos.records(hellos.message()),
        hellos.records(hellos.padded_message(1 << 16)),
        hellos.records(hellos.padded_message(10_000), 1),
        hellos.hello(b"API.openai.com.", hellos.ECH, hellos.GREASE, hellos.POST_QUANTUM),
    ],
    ids=["no-sni", "64-kib", "records-of-one-byte", "ech-and-grease"],
)
async def test_an_odd_but_honest_hello_is_served(world: World, hello: bytes) -> None:
    client = await connected(world, CONNECT)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, hello)
    await world.settle(40)
    [(sock, _, _)] = world.host.served
    assert await read_exactly(sock, len(hello)) == hello


async def test_a_hello_without_end_is_cut_off_at_the_cap(world: World) -> None:
    client = await connected(world, CONNECT)
    endless = hellos.records(hellos.padded_message(30_000), 1)  # 180 kB on the wire
    sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(client, endless))
    assert await alert_of(client) == 50
    await asyncio.gather(sending, return_exceptions=True)
    assert world.host.counts["client_hello_bad"] == 1


async def test_a_client_of_http2_alone_is_tunnelled_if_config_says_so() -> None:
    world = World(DoorLimits(http2="tunnel"))
    client = await connected(world, CONNECT)
    hello = hellos.hello(b"api.openai.com", alpn_extension(b"h2"))
    client.sendall(hello)
    await world.settle()
    assert world.host.dialled == [("api.openai.com", 443, None)]
    [(sock, _, name)] = world.host.tunnels
    assert name == "api.openai.com:443"
    assert sock.recv(65536) == hello
    assert world.host.counts["http2_tunnelled"] == 1
    await world.close()


async def test_an_address_that_a_provider_claims_is_intercepted_under_any_name(world: World) -> None:
    world.host.verdicts["10.0.0.5", 443] = Intercept("local", lambda: world.context)
    client = await connected(world, b"CONNECT 10.0.0.5:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    client.sendall(hellos.hello(b"llm.internal"))
    await world.settle()
    assert world.host.served[0][1].host == "10.0.0.5"


async def test_opaque_bytes_for_a_provider_are_closed(world: World) -> None:
    client = await connected(world, CONNECT)
    client.sendall(b"SSH-2.0-x\r\n")
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    assert world.host.counts["opaque_closed"] == 1


async def test_silence_towards_a_provider_is_closed(world: World) -> None:
    client = await connected(world, CONNECT)
    world.clock.advance(4.9)
    await world.settle()
    assert world.proxy.open_count == 1
    world.clock.advance(0.2)
    assert await read_all(client) == b""
    assert world.host.counts["silent_closed"] == 1


async def test_a_certificate_that_cannot_be_made_ends_one_connection_only(world: World) -> None:
    def fails() -> None:
        raise OSError("no space left")

    world.host.verdicts["api.openai.com", 443] = Intercept("openai", fails)  # type: ignore[arg-type]
    client = await connected(world, CONNECT)
    client.sendall(hellos.hello())
    assert await alert_of(client) == 80
    assert world.host.counts["context_failed"] == 1


# ── tunnels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tunnel_is_dialled_before_the_200_and_spliced_after_the_hello(world: World) -> None:
    world.host.dial_gate = asyncio.Event()
    hello = hellos.hello(b"other.example")
    client = world.arrive(data=OTHER + hello)
    await world.settle()
    with pytest.raises(BlockingIOError):
        client.recv(1)
    world.host.dial_gate.set()
    assert await read_exactly(client, len(OK)) == OK
    await world.settle()
    [(sock, upstream, name)] = world.host.tunnels
    assert name == "other.example:443"
    assert sock.recv(65536) == hello
    assert mark_of(sock) == mark_of(upstream) == 1


async def test_a_tunnel_that_cannot_be_dialled_gets_the_status_instead_of_the_200(world: World) -> None:
    world.host.dial_error = UnreachableError("The host other.example refused the connection.")
    status, reason, error = await refusal_of(world.arrive(data=OTHER))
    assert (status, error["code"]) == (502, "test_unreachable")
    assert reason == "The host other.example refused the connection."


async def test_a_tunnel_may_not_carry_a_provider_under_another_name(world: World) -> None:
    for name in (b"api.openai.com", b"API.OPENAI.COM."):
        client = await connected(world, OTHER)
        client.sendall(hellos.hello(name))
        assert await alert_of(client) == 112
    assert world.host.counts["sni_mismatch"] == 2
    assert world.host.tunnels == []


async def test_a_provider_name_on_an_odd_port_is_still_a_provider(world: World) -> None:
    client = await connected(world, b"CONNECT other.example:8443 HTTP/1.1\r\nHost: x\r\n\r\n")
    client.sendall(hellos.hello())
    assert await alert_of(client) == 112


async def test_another_name_in_a_tunnel_is_allowed_and_counted(world: World) -> None:
    client = await connected(world, OTHER)
    client.sendall(hellos.hello(b"third.example"))
    await world.settle()
    assert len(world.host.tunnels) == 1
    assert world.host.counts["sni_differs"] == 1


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 421),
        (b"POST /v1 HTTP/1.1\r\nA: b\r\nhOsT:  API.openai.COM:80\r\n\r\n", 421),
        (b"GET http://api.openai.com/ HTTP/1.1\r\nHost: other.example\r\n\r\n", 421),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: other.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: api.openai.com:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: api.openai.com\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : api.openai.com\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 17000 + b"\r\nHost: api.openai.com\r\n\r\n", 431),
    ],
)
async def test_plain_http_in_a_tunnel_may_not_name_a_provider(world: World, request_head: bytes, status: int) -> None:
    client = await connected(world, OTHER)
    await asyncio.get_running_loop().sock_sendall(client, request_head)
    assert (await refusal_of(client))[0] == status
    assert world.host.tunnels == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"NICK outrider\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x99",
    ],
)
async def test_what_names_no_provider_is_spliced_as_soon_as_it_is_known(world: World, data: bytes) -> None:
    client = await connected(world, OTHER)
    client.sendall(data)
    await world.settle()
    [(sock, _, _)] = world.host.tunnels
    assert sock.recv(65536) == data
    assert mark_of(sock) == 1


async def test_a_server_that_speaks_first_is_spliced_at_once(world: World) -> None:
    await connected(world, SSH)
    world.host.upstreams["other.example", 22].send(b"SSH-2.0-x\r\n")
    await world.settle()
    [(_, upstream, _)] = world.host.tunnels
    assert upstream.recv(100) == b"SSH-2.0-x\r\n"


async def test_silence_in_a_tunnel_is_taken_for_a_server_first_protocol(world: World) -> None:
    await connected(world, SSH)
    world.clock.advance(4.9)
    await world.settle()
    assert world.host.tunnels == []
    world.clock.advance(0.2)
    await world.settle()
    assert len(world.host.tunnels) == 1


async def test_silence_on_a_web_port_is_never_a_way_around_inspection(world: World) -> None:
    client = await connected(world, OTHER)
    world.clock.advance(29)
    await world.settle()
    assert world.host.tunnels == []
    world.clock.advance(2)
    assert await read_all(client) == b""
    assert world.host.counts["silent_closed"] == 1


# ── transparent ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_redirected_client_of_a_provider_is_served_under_its_name(world: World) -> None:
    client = world.arrive(world.transparent, hellos.hello())
    await world.settle()
    [(_, origin, context)] = world.host.served
    peer = client.getsockname()
    assert origin == Origin("transparent", "transparent", "api.openai.com", 443, True, peer, "203.0.113.7")
    assert context is world.context
    assert world.host.dialled == []


async def test_redirected_plain_http_is_handed_over_at_once(world: World) -> None:
    world.destination = ("203.0.113.7", 80)
    client = world.arrive(world.transparent, b"GET / HTTP/1.1\r\n")
    [(_, origin, _)] = world.host.served
    assert origin == Origin("transparent", "transparent", None, 80, False, client.getsockname(), "203.0.113.7")


async def test_a_redirected_tunnel_goes_to_the_original_address(world: World) -> None:
    world.arrive(world.transparent, hellos.hello(b"other.example"))
    await world.settle()
    assert world.host.dialled == [("203.0.113.7", 443, "203.0.113.7")]
    assert world.host.tunnels[0][2] == "other.example:443"


@pytest.mark.parametrize("hello", [hellos.records(hellos.message()), hellos.hello(b"cover.example", hellos.ECH)])
async def test_without_a_name_to_believe_the_address_is_judged(world: World, hello: bytes) -> None:
    world.arrive(world.transparent, hello)
    await world.settle()
    assert world.host.tunnels[0][2] == "203.0.113.7:443"
    world.host.verdicts["203.0.113.7", 443] = Deny("destination_denied", 403, "No.")
    assert await alert_of(world.arrive(world.transparent, hello)) == 49
    world.host.verdicts["203.0.113.7", 443] = Intercept("local", lambda: world.context)
    world.arrive(world.transparent, hello)
    await world.settle()
    assert world.host.served[0][1].host == "203.0.113.7"


async def test_a_redirected_name_that_is_denied_gets_an_alert(world: World) -> None:
    assert await alert_of(world.arrive(world.transparent, hellos.hello(b"denied.example"))) == 49
    assert world.host.counts["transparent_denied"] == 1


async def test_an_address_that_a_provider_claims_is_never_tunnelled(world: World) -> None:
    world.host.verdicts["203.0.113.7", 443] = Intercept("local", lambda: world.context)
    assert await alert_of(world.arrive(world.transparent, hellos.hello(b"other.example"))) == 112
    client = world.arrive(world.transparent, b"SSH-2.0-x\r\n")
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    assert world.host.tunnels == []


async def test_redirected_opaque_bytes_are_tunnelled_to_the_address(world: World) -> None:
    world.arrive(world.transparent, b"SSH-2.0-x\r\n")
    await world.settle()
    assert world.host.dialled == [("203.0.113.7", 443, "203.0.113.7")]
    assert world.host.tunnels[0][2] == "203.0.113.7:443"


async def test_a_redirected_connect_may_not_name_a_provider(world: World) -> None:
    world.destination = ("203.0.113.7", 3128)
    status, _, error = await refusal_of(world.arrive(world.transparent, CONNECT))
    assert (status, error["code"]) == (421, "misdirected")


async def test_a_silent_redirected_client_is_judged_by_address_and_still_inspected(world: World) -> None:
    client = world.arrive(world.transparent)
    world.clock.advance(5.1)
    await world.settle()
    assert world.host.dialled == [("203.0.113.7", 443, "203.0.113.7")]
    client.sendall(hellos.hello())
    assert await alert_of(client) == 112
    assert world.host.tunnels == []


@pytest.mark.parametrize("destination", [None, "own", "listener"])
async def test_a_connection_that_was_not_redirected_is_a_loop(world: World, destination: str | None) -> None:
    world.host.own.add(("127.0.0.1", 8484))
    world.destination = ("127.0.0.1", 8484) if destination == "own" else None
    if destination == "listener":
        world.transparent._destination_of = lambda sock: sock.getsockname()[:2]
    client = world.arrive(world.transparent)
    assert await read_all(client) == b""
    assert world.host.counts["loop"] == 1


# ── deadlines, ends and failures ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_that_says_nothing_is_closed_at_its_deadline(world: World) -> None:
    client = world.arrive()
    world.clock.advance(29.9)
    await world.settle()
    assert world.proxy.open_count == 1
    world.clock.advance(0.2)
    assert await read_all(client) == b""
    assert world.host.counts["silent_closed"] == 1


async def test_dripping_does_not_move_the_deadline_of_a_head(world: World) -> None:
    client = world.arrive(data=b"CONNECT ")
    for byte in b"api.opena":
        await world.settle()
        world.clock.advance(1)
        client.send(bytes([byte]))
    await world.settle()
    world.clock.advance(2)
    assert (await refusal_of(client))[0] == 408


async def test_a_hello_that_stalls_is_closed_at_its_deadline(world: World) -> None:
    client = await connected(world, CONNECT)
    client.sendall(hellos.hello()[:50])
    await world.settle()
    world.clock.advance(10.1)
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    assert world.host.counts["deadline"] == 1


@pytest.mark.parametrize("sent", [b"", b"CON", CONNECT[:30], CONNECT, CONNECT + hellos.hello()[:50]])
async def test_an_end_in_the_middle_is_decided_at_once(world: World, sent: bytes) -> None:
    client = world.arrive(data=sent)
    await world.settle()
    wakeups = world.loop.wakeups
    client.shutdown(socket.SHUT_WR)
    await world.settle(100)
    assert world.loop.wakeups - wakeups <= 2
    assert world.proxy.open_count == 0


async def test_a_reset_in_the_middle_is_decided_at_once(world: World) -> None:
    client = world.arrive(data=CONNECT[:30])
    await world.settle()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await world.settle(100)
    assert world.loop.wakeups <= 2
    assert world.proxy.open_count == 0


async def test_a_client_that_shut_its_side_after_a_whole_request_is_still_served(world: World) -> None:
    client = world.arrive()
    client.sendall(CONNECT + hellos.hello())
    client.shutdown(socket.SHUT_WR)
    await world.settle()
    assert len(world.host.served) == 1


async def test_a_refused_client_that_never_closes_is_closed_at_the_linger_deadline(world: World) -> None:
    client = world.arrive(data=b"CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.settle()
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    client.sendall(b"what now?")
    await world.settle()
    assert world.proxy.open_count == 1
    world.clock.advance(1.1)
    await world.settle()
    assert world.proxy.open_count == 0


async def test_a_refused_client_that_never_stops_sending_is_closed_at_the_cap(world: World) -> None:
    client = world.arrive(data=b"CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client, bytes(64 << 20)), 60)
    await world.settle()
    assert world.proxy.open_count == 0


@pytest.mark.parametrize("data", [b"GET / ", CONNECT + hellos.hello(), OTHER + hellos.hello(b"other.example")])
async def test_a_lane_that_fails_leaves_no_socket_open(world: World, data: bytes) -> None:
    world.host.raises = RuntimeError("secret")
    client = world.arrive(data=data)
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    await world.settle()
    assert world.host.counts["door_failed"] == 1
    assert "secret" not in repr(world.host.logs)


async def test_a_host_that_fails_in_the_loop_test_leaves_no_socket_open(world: World) -> None:
    world.host.own = None  # type: ignore[assignment]
    assert await read_all(world.arrive(world.transparent)) == b""
    assert world.host.counts["door_failed"] == 1


async def test_closing_the_door_closes_everyone_still_at_it(world: World) -> None:
    clients = [world.arrive(), world.arrive(data=CONNECT[:20]), await connected(world, SSH)]
    clients += [await connected(world, CONNECT), world.arrive(world.transparent)]
    clients.append(world.arrive(data=OTHER))  # its task has not had its first step
    world.proxy.close()
    world.transparent.close()
    await world.settle()
    assert world.proxy.open_count == world.transparent.open_count == 0
    late = world.arrive()
    assert await read_all(late) == b""


async def test_a_dial_in_progress_is_cancelled_when_the_door_closes(world: World) -> None:
    world.host.dial_gate = asyncio.Event()
    world.arrive(data=OTHER)
    await world.settle()
    world.proxy.close()
    await world.settle()
    assert not world.tasks


async def test_new_limits_apply_to_those_who_come_after(world: World) -> None:
    world.arrive()
    world.proxy.limits = replace(world.proxy.limits, first_byte_s=1.0)
    world.arrive()
    world.clock.advance(2)
    assert world.proxy.open_count == 1
