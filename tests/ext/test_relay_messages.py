"""The relay's framing: what one side said is what the other side is told, whatever the framing and however cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.relay_rig import Rig
from outrider_ext.relay import ANSWERED, OK, Exchange
from support.messages import chunked, cut_at, read_answers, read_chunked

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
GET_10 = b"GET /a HTTP/1.0\r\nhost: h\r\n\r\n"
OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def post(body: bytes, *more: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in more)
    return b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), lines, body)


def post_chunked(*pieces: bytes) -> bytes:
    return b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(*pieces)


# -- connections are kept


def test_both_connections_serve_the_next_exchange() -> None:
    rig = Rig()
    for _ in range(3):
        rig.client(GET)
        assert rig.sent() == GET
        rig.provider(OK_2)
        assert rig.answer().body == b"ok"
    assert len(rig.ups) == 1
    assert rig.downstream.served == 3
    rig.finish()
    assert [x.outcome for x in rig.owner.ends] == [OK] * 3


def test_a_client_that_asks_for_it_is_closed_after_its_answer_and_the_provider_is_kept() -> None:
    rig = Rig()
    rig.client(b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    rig.provider(OK_2)
    assert rig.answer().get(b"connection") == b"close"
    assert rig.down.is_closed
    assert not rig.up.is_closed
    rig.finish()


def test_a_provider_that_closes_after_its_answer_does_not_close_the_client() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    answer = rig.answer()
    assert answer.body == b"ok"
    assert answer.get(b"connection") is None
    assert rig.up.is_closed
    rig.client(GET)
    assert len(rig.ups) == 2
    rig.finish()


def test_a_client_of_http_1_0_is_kept_only_if_it_asks() -> None:
    rig = Rig()
    rig.client(b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    rig.provider(OK_2)
    assert rig.answer().get(b"connection") == b"keep-alive"
    assert not rig.down.is_closed
    rig.client(GET_10)
    rig.provider(OK_2)
    assert rig.answer().body == b"ok"
    assert rig.down.is_closed
    rig.finish()


def test_bytes_after_an_answer_are_nobodys_and_close_the_provider() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(OK_2 + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
    assert rig.answer().body == b"ok"
    assert rig.up.is_closed
    rig.finish()


def test_bytes_on_an_idle_connection_close_it() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(OK_2)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
    assert rig.up.is_closed
    assert rig.pool.idle == []
    assert rig.answer().body == b"ok"
    rig.finish()


def test_an_idle_connection_whose_provider_closed_is_not_used_again() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(OK_2)
    rig.up.give_eof()  # connection_lost comes in a later turn of the loop, the next request before it
    rig.down.give(GET)
    assert len(rig.ups) == 2
    rig.settle()
    rig.finish()


# -- pipelining


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    rig = Rig()
    rig.client(b"".join(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % k for k in range(5)))
    for k in range(5):
        assert rig.sent() == b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % k
        rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % k)
    assert [answer.body for answer in rig.answers(*[b"GET"] * 5)] == [b"0", b"1", b"2", b"3", b"4"]
    rig.finish()


def test_answers_of_our_own_keep_their_place_among_pipelined_ones() -> None:
    rig = Rig()

    def decide(x: Exchange) -> None:
        if x.target.startswith(b"/own"):
            rig.owner.say(x, 403, x.target)
        else:
            rig.owner.forward(x)

    rig.owner.decide = decide
    paths = [b"/own1", b"/a", b"/own2", b"/own3", b"/b", b"/own4"]
    rig.client(b"".join(b"GET " + path + b" HTTP/1.1\r\nhost: h\r\n\r\n" for path in paths))
    for body in (b"/a", b"/b"):
        assert body in rig.sent()
        rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + body)
    assert [answer.body for answer in rig.answers(*[b"GET"] * 6)] == paths
    rig.finish()


def test_thousands_of_pipelined_refusals_do_not_recurse() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 403, b"no")
    rig.client(GET * 5000)
    assert len(rig.answers(*[b"GET"] * 5000)) == 5000
    rig.finish()


def test_a_pipelined_upload_larger_than_the_buffer_is_read_to_its_end() -> None:
    rig = Rig()
    rig.hub.buffer_bytes = 1000
    rig.owner.decide = lambda x: rig.owner.forward(x) if x.body is not None else x.hold(10_000)
    rig.client(GET)
    body = b"x" * 5000
    for piece in cut_at(post(body), range(0, 5000, 900)):
        rig.client(piece)
    assert not rig.down.is_reading
    rig.provider(OK_2)
    assert rig.sent().endswith(body)
    rig.provider(OK_2)
    assert len(rig.answers(b"GET", b"POST")) == 2
    rig.finish()


# -- answers


@pytest.mark.parametrize("head", [b"content-length: 5\r\n", b"transfer-encoding: Chunked\r\n", b""])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_every_framing_of_an_answer_reaches_clients_of_both_versions(version: bytes, head: bytes) -> None:
    rig = Rig()
    rig.client(b"GET /a HTTP/" + version + b"\r\nhost: h\r\nconnection: keep-alive\r\n\r\n")
    body = chunked(b"he", b"llo") if b"Chunked" in head else b"hello"
    rig.provider(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
    if not head:
        assert rig.owner.ends == []
        rig.provider_ends()
    kept = not rig.down.is_closed
    answer = rig.answer()
    assert (answer.body, answer.whole) == (b"hello", True)
    assert kept == (version == b"1.1" or b"length" in head)
    if version == b"1.0":
        assert answer.get(b"transfer-encoding") is None
    rig.finish()


def test_an_answer_of_http_1_0_becomes_one_of_1_1() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.0 200 Fine\r\n\r\nhello")
    rig.provider_ends()
    answer = rig.answer()
    assert answer.get(b"transfer-encoding") == b"chunked"
    assert answer.body == b"hello"
    assert not rig.down.is_closed
    rig.finish()


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parametrize("framing", [b"content-length: 500\r\n", b"transfer-encoding: chunked\r\n", b""])
def test_answers_without_a_body_end_with_their_head(method: bytes, status: int, framing: bytes) -> None:
    rig = Rig()
    for _ in range(2):
        rig.client(method + b" /a HTTP/1.1\r\nhost: h\r\n\r\n")
        rig.provider(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, framing))
        answer = rig.answer(method)
        assert answer.status == status
        assert answer.get(b"transfer-encoding") is None
    assert len(rig.ups) == 1
    rig.finish()


def test_a_204_is_passed_on_without_the_length_that_it_must_not_have() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n")
    assert rig.answer().get(b"content-length") is None
    rig.finish()


def test_an_empty_answer_is_whole_at_once() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert rig.answer().body == b""
    assert len(rig.owner.ends) == 1
    rig.finish()


def test_a_head_leaves_before_its_body_came() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert rig.out().endswith(b"\r\n\r\n")
    rig.provider(b"he")
    assert rig.out() == b"he"
    rig.provider(b"llo")
    rig.finish()


def test_head_and_body_that_came_together_leave_in_one_write() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(OK_2)
    assert rig.down.writes == 1
    rig.finish()


def test_whole_chunks_leave_as_they_came() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    rig.out()
    rig.provider(b"5\r\nhello\r\n3\r\nyou\r\n")
    assert rig.out() == b"5\r\nhello\r\n3\r\nyou\r\n"
    rig.provider(b"0\r\n\r\n")
    assert rig.out() == b"0\r\n\r\n"
    rig.finish()


def test_trailers_and_chunk_extensions_are_dropped() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n"
        b'5;a=1\r\nhello\r\n3;b="q"\r\nyou\r\n0;c\r\nx: y\r\ncontent-length: 3\r\n\r\n'
    )
    answer = rig.answer()
    assert answer.body == b"helloyou"
    assert answer.get(b"trailer") is None
    rig.client(post_chunked(b"a").replace(b"0\r\n\r\n", b"0;x=y\r\nx-more: 1\r\n\r\n"))
    head, _, body = rig.sent().partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")
    assert read_chunked(body, 0) == (b"a", len(body), True)
    assert b"x-more" not in head + body
    rig.finish()


def test_hop_by_hop_fields_and_what_leads_around_us_stay_here() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nalt-svc: h3\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\n"
        b"connection: keep-alive, x-private\r\nx-private: 1\r\nx-outrider-error: forged\r\n"
        b"upgrade: h2c\r\nx-kept: 1\r\n\r\nok"
    )
    assert [name for name, _ in rig.answer().fields] == [b"content-length", b"x-kept"]
    rig.finish()


def test_what_the_owner_adds_stands_in_the_head() -> None:
    rig = Rig()
    rig.owner.answer = lambda x: b"x-added: %d\r\n" % x.status
    rig.client(GET)
    rig.provider(OK_2)
    assert rig.answer().get(b"x-added") == b"200"
    rig.finish()


# -- interim answers


def test_interim_answers_are_dropped() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n")
    rig.provider(b"HTTP/1.1 100 C\r\n\r\n" + OK_2)
    assert rig.answer().status == 200
    rig.finish()


def test_a_provider_that_sends_interim_answers_without_end_is_refused() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 102 P\r\n\r\n" * 20)
    assert rig.answer().status == 502
    assert rig.owner.failures == [("bad_answer", "too many interim answers")]
    rig.finish()


def test_100_continue_is_the_providers_when_the_body_is_passed_on() -> None:
    rig = Rig()
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
    assert rig.out() == b""
    assert b"expect: 100-continue" in rig.sent()
    rig.provider(b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n")
    assert rig.out() == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.provider(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert rig.out() == b""
    rig.client(b"hello")
    assert rig.sent() == b"hello"
    rig.provider(OK_2)
    assert rig.answer().body == b"ok"
    rig.finish()


def test_100_continue_is_ours_when_the_body_is_held_and_never_both() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: x.hold(10)
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 15\r\nexpect: 100-continue\r\n\r\n")
    assert rig.out() == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.client(b"hello, this...")
    assert b"expect" in rig.sent()
    rig.provider(b"HTTP/1.1 100 Continue\r\n\r\n")
    rig.client(b".")
    rig.provider(OK_2)
    assert [answer.status for answer in rig.answers(b"POST")] == [200]
    rig.finish()


def test_a_refusal_comes_instead_of_100_continue_and_closes() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 401, b"no")
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
    answer = rig.answer(b"POST")
    assert (answer.status, answer.get(b"connection")) == (401, b"close")
    assert rig.down.wrote_eof
    rig.finish()


# -- bodies of requests


def test_a_whole_body_that_came_with_its_head_is_known_at_once() -> None:
    rig = Rig()
    rig.client(post(b"hello"))
    x = rig.owner.requests[0]
    assert (x.body, x.body_complete, x.request_bytes) == (b"hello", True, 5)
    assert rig.up.writes == 1
    assert rig.sent().endswith(b"\r\n\r\nhello")
    rig.provider(OK_2)
    rig.finish()


def test_a_body_is_passed_on_as_it_comes() -> None:
    rig = Rig()
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    assert rig.sent().endswith(b"\r\n\r\nabc")
    rig.client(b"def")
    assert rig.sent() == b"def"
    rig.client(b"ghi" + GET)
    assert rig.sent() == b"ghi"
    rig.provider(OK_2)
    assert rig.sent() == GET
    rig.provider(OK_2)
    assert len(rig.answers(b"POST", b"GET")) == 2
    assert rig.owner.ends[0].request_bytes == 9
    rig.finish()


def test_what_comes_before_a_connection_is_there_waits_for_it() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: None
    rig.client(post_chunked(b"abc", b"def"))
    x = rig.owner.requests[0]
    assert (x.body, x.request_complete) == (None, True)
    rig.owner.forward(x)
    body = rig.sent().partition(b"\r\n\r\n")[2]
    assert read_chunked(body, 0) == (b"abcdef", len(body), True)
    rig.provider(OK_2)
    assert rig.answer(b"POST").status == 200
    rig.finish()


def test_a_held_body_is_handed_over_once_it_is_whole() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: x.hold(100)
    rig.client(post_chunked(b"abc", b"def")[:-5])
    assert rig.ups == []
    rig.client(b"0\r\n\r\n")
    assert rig.sent().endswith(b"content-length: 6\r\n\r\nabcdef")
    rig.provider(OK_2)
    rig.finish()


def test_a_held_body_beyond_the_cap_is_passed_on_as_it_comes() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: x.hold(4)
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    assert rig.ups == []
    rig.client(b"def")
    assert rig.sent().endswith(b"abcdef")
    rig.client(b"ghi")
    assert rig.sent() == b"ghi"
    rig.provider(OK_2)
    rig.finish()


def test_holding_after_reading_had_stopped_goes_on_reading() -> None:
    rig = Rig()
    rig.hub.buffer_bytes = 4
    rig.owner.decide = lambda x: None
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabcdef")
    assert not rig.down.is_reading
    rig.owner.requests[0].hold(100)
    rig.client(b"ghi")
    assert rig.sent().endswith(b"abcdefghi")
    rig.provider(OK_2)
    rig.finish()


# -- early answers


def test_an_answer_that_comes_before_the_body_ended_reaches_the_client() -> None:
    rig = Rig()
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    rig.provider(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
    assert rig.answer(b"POST").get(b"connection") is None
    assert rig.up.is_closed  # in the middle of a request: nobody can use it again
    rig.client(b"defghi" + GET)
    assert rig.sent().endswith(GET)
    rig.provider(OK_2)
    assert rig.answer().status == 200
    rig.finish()


def test_an_early_answer_to_a_body_without_a_known_end_closes() -> None:
    rig = Rig()
    rig.client(b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    rig.provider(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
    assert rig.answer(b"POST").get(b"connection") == b"close"
    assert rig.down.wrote_eof
    rig.client(b"3\r\ndef\r\n0\r\n\r\n" + GET)
    assert len(rig.owner.requests) == 1
    rig.finish()


def test_the_rest_of_a_refused_body_is_read_and_the_connection_kept() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 429, b"slow")
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    assert rig.answer(b"POST").status == 429
    rig.owner.decide = rig.owner.forward
    rig.client(b"def")
    rig.client(b"ghi" + GET)
    assert rig.sent() == GET
    rig.provider(OK_2)
    assert rig.answer().status == 200
    rig.finish()


def test_the_rest_of_a_refused_large_body_is_not_waited_for() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 429, b"slow")
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9000000\r\n\r\nabc")
    assert rig.answer(b"POST").get(b"connection") == b"close"
    rig.client(b"x" * 100_000)
    assert rig.out() == b""
    rig.finish()


# -- any cut

REQUESTS = [
    (b"GET", GET, b""),
    (b"POST", post(b"0123456789"), b"0123456789"),
    (b"POST", post_chunked(b"abc", b"d" * 20), b"abc" + b"d" * 20),
    (b"POST", post(b""), b""),
    (b"HEAD", b"HEAD /h HTTP/1.1\r\nhost: h\r\n\r\n", b""),
]
ANSWERS = [
    (b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world", b"hello world"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"he", b"llo"), b"hello"),
    (b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 201\r\ncontent-length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No\r\n\r\n", b""),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nt: 1\r\n\r\n", b"hello"),
]


def head_of(answer: bytes) -> bytes:
    """Up to the end of the final head; interim ones have no body, and no body here holds an empty line."""
    at = answer.find(b"\r\n\r\n", answer.rfind(b"HTTP/1.1")) + 4
    return answer[:at]


CUTS = st.lists(st.integers(0, 2000), max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from(REQUESTS), st.sampled_from(ANSWERS)), min_size=1, max_size=4),
    CUTS,
    CUTS,
    st.booleans(),
)
def test_any_cut_of_requests_and_answers_says_the_same_on_the_other_side(
    exchanges: list[tuple[tuple[bytes, bytes, bytes], tuple[bytes, bytes]]],
    cuts: list[int],
    back: list[int],
    hold: bool,
) -> None:
    rig = Rig()
    if hold:
        rig.owner.decide = lambda x: rig.owner.forward(x) if x.body is not None else x.hold(1000)
    for piece in cut_at(b"".join(wire for (_, wire, _), _ in exchanges), cuts):
        rig.client(piece)
    bodies = []
    for (method, _, _), (answer, _) in exchanges:
        got = rig.sent()
        head, _, body = got.partition(b"\r\n\r\n")
        bodies.append(read_chunked(body, 0)[0] if b"transfer-encoding" in head else body)
        for piece in cut_at(head_of(answer) if method == b"HEAD" else answer, back):
            rig.provider(piece)
    assert bodies == [body for (_, _, body), _ in exchanges]
    told = read_answers(rig.out(), [method for (method, _, _), _ in exchanges])
    wanted = [b"" if method == b"HEAD" else body for (method, _, _), (_, body) in exchanges]
    assert [answer.body for answer in told] == wanted
    assert all(answer.whole for answer in told)
    assert len(rig.ups) == 1
    rig.finish()


@given(st.binary(max_size=300), CUTS)
def test_garbage_from_a_client_gets_one_refusal_and_an_end(garbage: bytes, cuts: list[int]) -> None:
    rig = Rig()
    for piece in cut_at(b"\x01" + garbage, cuts):
        rig.client(piece)
    assert rig.answer().status == 400
    assert rig.owner.requests == []
    rig.finish()


@given(st.binary(max_size=300), CUTS)
def test_garbage_from_a_provider_gets_one_502_and_an_end(garbage: bytes, cuts: list[int]) -> None:
    rig = Rig()
    rig.client(GET)
    for piece in cut_at(b"\x01" + garbage, cuts):
        rig.provider(piece)
    assert rig.answer().status == 502
    assert rig.up.is_closed
    rig.finish()
    assert [x.outcome for x in rig.owner.ends] == [ANSWERED]
