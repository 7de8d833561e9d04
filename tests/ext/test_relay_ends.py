"""How exchanges end: cuts, silence, peers that leave, full buffers, deadlines. Each ends exactly once (Rig.finish)."""

import pytest

from ext.relay_rig import Rig
from outrider_ext.relay import ANSWERED, CLIENT_GONE, CUT, OK, TIMED_OUT, Exchange
from support.messages import read_answers

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
GET_10 = b"GET /a HTTP/1.0\r\nhost: h\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n"
OK_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SECOND = 1_000_000_000


def outcomes(rig: Rig) -> list[int]:
    return [x.outcome for x in rig.owner.ends]


def now(rig: Rig, seconds: float) -> int:
    """That many seconds after the last thing that happened on either side."""
    return max([up.protocol.last_ns for up in rig.ups] or [0]) + int(seconds * SECOND) or int(seconds * SECOND)


# -- the provider fails


def test_a_provider_that_closes_before_its_answer_is_a_failure_that_the_owner_answers() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider_ends()
    assert rig.owner.failures == [("closed", "closed before an answer")]
    assert rig.answer().status == 502
    assert not rig.down.is_closed
    rig.finish()


def test_a_kept_connection_that_was_closed_is_told_apart_and_may_be_replaced() -> None:
    rig = Rig()
    rig.owner.failed = lambda x, kind, detail: rig.owner.send(x, rig.open_upstream())
    rig.client(GET)
    rig.provider(OK_2)
    rig.out()
    rig.client(GET)
    rig.provider_ends(ConnectionResetError())
    assert [kind for kind, _ in rig.owner.failures] == ["stale"]
    assert rig.owner.requests[1].replayable
    rig.provider(OK_2)
    assert rig.answer().body == b"ok"
    rig.finish()
    assert outcomes(rig) == [OK, OK]


def test_a_connection_that_is_gone_when_the_request_is_sent_is_a_failure_not_a_hang() -> None:
    rig = Rig()
    connection = rig.open_upstream()
    rig.up.lose()
    rig.owner.decide = lambda x: rig.owner.send(x, connection)
    rig.client(GET)
    assert [kind for kind, _ in rig.owner.failures] == ["stale"]
    assert rig.answer().status == 502
    rig.finish()


@pytest.mark.parametrize("early", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n\r\n"])
def test_a_provider_that_closes_inside_its_head_gets_no_second_try(early: bytes) -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(OK_2)
    rig.out()
    rig.client(GET)
    rig.provider(early)
    rig.provider_ends()
    assert [kind for kind, _ in rig.owner.failures] == ["closed"]
    rig.finish()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("request_", [GET, GET_10], ids=["1.1", "1.0"])
def test_a_cut_answer_is_a_cut_to_the_client_too(request_: bytes, answer: bytes) -> None:
    rig = Rig()
    rig.client(request_)
    rig.provider(answer)
    rig.provider_ends()
    close_delimited = b"chunked" in answer and request_ is GET_10
    told = read_answers(rig.out(), [b"GET"])[0]
    assert not told.whole
    assert rig.down.is_closed
    assert rig.down.was_aborted == close_delimited  # else the framing says that something is missing
    assert outcomes(rig) == [CUT]
    rig.finish()


def test_a_close_delimited_answer_cut_by_a_reset_has_no_end() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\n\r\nhello")
    rig.provider_ends(ConnectionResetError())
    assert not rig.answer().whole
    assert outcomes(rig) == [CUT]
    rig.finish()


def test_a_chunk_that_lies_is_a_cut() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    rig.provider(b"5\r\nhelloXX")
    assert not rig.answer().whole
    assert outcomes(rig) == [CUT]
    assert rig.up.is_closed
    rig.finish()


def test_a_407_and_an_unasked_101_are_bad_answers() -> None:
    for answer in (b"HTTP/1.1 407 Proxy\r\ncontent-length: 0\r\n\r\n", SWITCH):
        rig = Rig()
        rig.client(GET)
        rig.provider(answer)
        assert rig.answer().status == 502
        assert [kind for kind, _ in rig.owner.failures] == ["bad_answer"]
        rig.finish()


def test_a_provider_that_closes_while_the_body_is_still_coming_is_answered_once() -> None:
    rig = Rig()
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    rig.provider_ends(ConnectionResetError())
    assert rig.answer(b"POST").status == 502
    rig.client(b"defghi" + GET)
    rig.provider(OK_2)
    assert rig.answer().status == 200
    rig.finish()


# -- the client fails


def test_a_client_that_leaves_ends_its_exchange_and_the_providers_connection() -> None:
    rig = Rig()
    rig.client(GET)
    rig.down.lose(ConnectionResetError())
    rig.settle()
    assert rig.up.is_closed
    assert outcomes(rig) == [CLIENT_GONE]
    rig.finish()


def test_a_client_that_leaves_cancels_what_its_exchange_waits_for() -> None:
    class Waiter:
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    rig, waiter = Rig(), Waiter()
    rig.owner.decide = lambda x: setattr(x, "waiter", waiter)
    rig.client(GET)
    rig.down.lose()
    assert waiter.cancelled == 1
    x = rig.owner.requests[0]
    rig.owner.forward(x)  # a connection that comes too late goes back
    assert len(rig.pool.idle) == 1
    rig.owner.say(x, 200, b"late")
    rig.finish()


def test_a_client_that_breaks_its_body_is_refused_and_the_providers_connection_closed() -> None:
    rig = Rig()
    rig.client(b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    rig.client(b"zz\r\n")
    assert rig.answer(b"POST").status == 400
    assert rig.up.is_closed
    rig.finish()
    assert outcomes(rig) == [ANSWERED]


def test_a_client_that_breaks_its_body_in_the_middle_of_the_answer_is_cut() -> None:
    rig = Rig()
    rig.client(b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf")
    rig.client(b"zz\r\n")
    told = read_answers(rig.out(), [b"POST"])
    assert [answer.whole for answer in told] == [False]
    assert outcomes(rig) == [CUT]
    rig.finish()


def test_a_client_that_half_closed_gets_its_answer_and_an_end() -> None:
    rig = Rig()
    rig.client(GET)
    rig.down.give_eof()
    assert not rig.down.is_closed
    rig.provider(OK_2)
    assert rig.answer().body == b"ok"
    assert rig.down.is_closed
    rig.finish()
    assert outcomes(rig) == [OK]


def test_a_client_that_half_closed_after_pipelining_gets_every_answer() -> None:
    rig = Rig()
    rig.client(GET * 3 + b"GET /half HTTP/1.1\r\nho")
    rig.down.give_eof()
    for _ in range(3):
        assert not rig.down.is_closed
        rig.provider(OK_2)
    assert len(rig.answers(b"GET", b"GET", b"GET")) == 3
    assert rig.down.is_closed
    rig.finish()


def test_a_client_that_half_closed_with_half_a_body_in_the_queue_is_let_go() -> None:
    rig = Rig()
    rig.client(GET + b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    rig.down.give_eof()
    rig.provider(OK_2)
    rig.settle()
    assert rig.down.is_closed
    rig.finish()


def test_a_client_that_is_gone_and_not_half_closed_is_let_go_at_once() -> None:
    rig = Rig()
    rig.owner.gone = True
    rig.client(GET)
    rig.down.give_eof()
    rig.settle()
    assert rig.up.is_closed
    assert outcomes(rig) == [CLIENT_GONE]
    rig.finish()


def test_a_client_whose_going_is_found_later_is_let_go_by_the_sweep() -> None:
    rig = Rig()
    rig.client(GET)
    rig.down.give_eof()
    rig.hub.sweep(now(rig, 1))
    assert not rig.down.is_closed
    rig.owner.gone = True
    rig.hub.sweep(now(rig, 2))
    rig.settle()
    assert rig.down.was_aborted
    assert outcomes(rig) == [CLIENT_GONE]
    rig.finish()


def test_over_tls_an_end_of_the_client_is_an_end() -> None:
    """A TLS transport cannot be kept half open; to ask for it is a warning of the loop's on stderr."""
    rig = Rig(tls=True)
    rig.client(GET)
    rig.down.give_eof()
    assert rig.down.is_closed
    rig.settle()
    assert outcomes(rig) == [CLIENT_GONE]
    rig.finish()


def test_a_client_that_leaves_between_requests_or_inside_a_head_ends_nothing() -> None:
    for data in (b"", b"GET / HT", b"\r\n"):
        rig = Rig()
        rig.client(data)
        rig.down.give_eof()
        rig.settle()
        rig.finish()
        assert rig.owner.requests == []


def test_aborting_an_exchange_resets_its_client() -> None:
    rig = Rig()
    rig.client(GET)
    rig.owner.requests[0].abort("a rule said so")
    rig.settle()
    assert rig.down.was_aborted
    assert rig.up.is_closed
    assert rig.owner.ends[0].detail == "a rule said so"
    rig.finish()


# -- a switched connection


def switched() -> Rig:
    rig = Rig()

    def decide(x: Exchange) -> None:
        x.allow_upgrade = True
        rig.owner.forward(x)

    rig.owner.decide = decide
    return rig


def test_after_101_both_sides_are_a_pipe_and_early_bytes_come_through() -> None:
    rig = switched()
    rig.client(UPGRADE + b"early client")
    assert rig.sent().endswith(b"upgrade: websocket\r\n\r\n")
    rig.provider(SWITCH + b"early server")
    assert rig.sent() == b"early client"
    head, _, rest = rig.out().partition(b"\r\n\r\n")
    assert rest == b"early server"
    assert b"sec-websocket-accept: x" in head
    assert b"upgrade: websocket" in head
    rig.client(b"GET / HTTP/1.1\r\n\r\n")
    assert rig.sent() == b"GET / HTTP/1.1\r\n\r\n"
    rig.provider(b"HTTP/1.1 200 OK\r\n\r\n")
    assert rig.out() == b"HTTP/1.1 200 OK\r\n\r\n"
    x = rig.owner.requests[0]
    assert (x.request_bytes, x.answer_bytes) == (12 + 18, 12 + 19)
    rig.finish()
    assert outcomes(rig) == [OK]


@pytest.mark.parametrize("discards", [False, True])
def test_a_101_that_is_answered_instead_switches_nothing(discards: bool) -> None:
    rig = switched()

    def answer(x: Exchange) -> bytes:
        if discards:
            x.discard()
        rig.owner.say(x, 503, b"no")
        return b""

    rig.owner.answer = answer
    rig.client(UPGRADE)
    rig.provider(SWITCH)
    assert rig.answer().body == b"no"
    assert rig.up.is_closed
    rig.client(b"GET /next HTTP/1.1\r\nhost: h\r\n\r\n")
    assert len(rig.owner.requests) == 2
    rig.finish()


def test_the_end_of_either_side_ends_the_pipe_without_losing_what_was_said() -> None:
    rig = switched()
    rig.client(UPGRADE)
    rig.provider(SWITCH)
    rig.sent()
    rig.down.give(b"last words")
    rig.down.give_eof()
    rig.settle()
    assert rig.sent() == b"last words"
    assert rig.up.is_closed
    assert not rig.up.was_aborted
    rig.finish()
    rig = switched()
    rig.client(UPGRADE)
    rig.provider(SWITCH)
    rig.out()
    rig.up.give(b"bye")
    rig.up.give_eof()
    rig.settle()
    assert rig.out() == b"bye"
    assert rig.down.is_closed
    assert not rig.down.was_aborted
    rig.finish()
    assert outcomes(rig) == [OK]


def test_early_bytes_beyond_the_buffer_do_not_stop_a_pipe_for_good() -> None:
    rig = switched()
    rig.hub.buffer_bytes = 10
    rig.client(UPGRADE + b"x" * 50)
    assert not rig.down.is_reading
    rig.provider(SWITCH)
    assert rig.down.is_reading
    rig.finish()


def test_a_101_before_the_request_ended_is_a_bad_answer() -> None:
    rig = switched()
    rig.client(UPGRADE.replace(b"host: h", b"host: h\r\ncontent-length: 9") + b"abc")
    rig.provider(SWITCH)
    assert rig.answer().status == 502
    rig.finish()


# -- back-pressure


def test_a_slow_client_stops_the_provider_and_lets_it_go_on() -> None:
    rig = Rig()
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    rig.downstream.pause_writing()  # type: ignore[attr-defined]
    assert not rig.up.is_reading
    rig.downstream.resume_writing()  # type: ignore[attr-defined]
    assert rig.up.is_reading
    rig.provider(b"defghi")
    rig.finish()


def test_a_slow_provider_stops_the_client_and_lets_it_go_on() -> None:
    rig = Rig()
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    rig.up.protocol.pause_writing()
    assert not rig.down.is_reading
    rig.up.protocol.resume_writing()
    assert rig.down.is_reading
    rig.client(b"defghi")
    rig.provider(OK_2)
    rig.finish()


def test_a_provider_that_is_full_at_once_keeps_the_client_stopped() -> None:
    rig = Rig()
    rig.hub.buffer_bytes = 4
    rig.owner.decide = lambda x: None
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 12\r\n\r\nabcdef")
    assert not rig.down.is_reading
    connection = rig.open_upstream()
    write = rig.up.write

    def full(data: bytes) -> None:
        write(data)
        if data == b"abcdef":
            connection.pause_writing()  # type: ignore[attr-defined]

    rig.up.write = full  # type: ignore[method-assign]
    rig.owner.send(rig.owner.requests[0], connection)
    assert not rig.down.is_reading
    connection.resume_writing()  # type: ignore[attr-defined]
    rig.client(b"ghijkl")
    rig.provider(OK_2)
    assert rig.answer(b"POST").status == 200
    rig.finish()


def test_a_client_that_pipelines_and_does_not_read_is_not_answered_without_end() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 403, b"x" * 100)
    write, asked = rig.down.write, 0

    def fills_up(data: bytes) -> None:
        write(data)
        if len(rig.down.written) > 1000 and not full:
            full.append(True)
            rig.downstream.pause_writing()  # type: ignore[attr-defined]

    full: list[bool] = []
    rig.down.write = fills_up  # type: ignore[method-assign]
    while rig.down.is_reading and asked < 1000:
        rig.client(GET * 10)
        asked += 10
    assert asked < 1000
    assert len(rig.owner.requests) < 20
    rig.downstream.resume_writing()  # type: ignore[attr-defined]
    rig.settle()
    assert len(rig.answers(*[b"GET"] * asked)) == asked
    rig.finish()


def test_an_answer_to_a_client_that_was_full_before_it_waits_too() -> None:
    rig = Rig()
    rig.downstream.pause_writing()  # type: ignore[attr-defined]
    rig.client(GET)
    rig.owner.decide = rig.owner.forward
    assert rig.ups == [] or not rig.up.is_reading
    rig.downstream.resume_writing()  # type: ignore[attr-defined]
    rig.settle()
    rig.provider(OK_2)
    assert rig.answer().body == b"ok"
    rig.finish()


def test_what_a_client_pipelines_is_bounded_by_not_reading() -> None:
    rig = Rig()
    rig.hub.buffer_bytes = 1000
    rig.client(GET)
    for _ in range(200):
        rig.client(GET * 5)
    assert not rig.down.is_reading
    assert sum(map(len, rig.down.waiting)) > 20_000
    while rig.owner.ends != rig.owner.requests or rig.down.waiting:
        rig.provider(OK_2)
    assert len(rig.answers(*[b"GET"] * 1001)) == 1001
    rig.finish()


def test_a_body_that_waits_for_a_connection_is_bounded_by_not_reading() -> None:
    rig = Rig()
    rig.hub.buffer_bytes = 1000
    rig.owner.decide = lambda x: None
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(100):
        rig.client(b"x" * 1000)
    assert sum(map(len, rig.down.waiting)) > 90_000
    rig.owner.forward(rig.owner.requests[0])
    rig.settle()
    assert rig.sent().count(b"x") == 100_000
    rig.provider(OK_2)
    assert rig.answer(b"POST").status == 200
    rig.finish()


# -- deadlines


def test_a_head_that_does_not_arrive_in_time_is_408() -> None:
    rig = Rig()
    rig.hub.client_head_ns = 10 * SECOND
    rig.client(b"GET / HT")
    start = _clock()
    rig.client(b"TP")  # more bytes do not buy more time
    rig.hub.sweep(start + 9 * SECOND)
    assert rig.out() == b""
    rig.hub.sweep(start + 11 * SECOND)
    assert rig.answer().status == 408
    rig.finish()


def test_an_idle_client_is_closed_without_a_word() -> None:
    rig = Rig()
    rig.hub.client_idle_ns = 75 * SECOND
    start = _clock()
    rig.hub.sweep(start + 74 * SECOND)
    assert not rig.down.is_closed
    rig.hub.sweep(start + 76 * SECOND)
    assert rig.down.is_closed
    assert rig.out() == b""
    rig.finish()


def test_a_body_that_stops_arriving_is_408() -> None:
    rig = Rig()
    rig.hub.body_idle_ns = 60 * SECOND
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    start = _clock()
    rig.hub.sweep(start + 59 * SECOND)
    assert rig.out() == b""
    rig.hub.sweep(start + 61 * SECOND)
    assert rig.answer(b"POST").status == 408
    assert rig.up.is_closed
    rig.finish()


def test_a_refused_body_that_stops_arriving_gets_no_second_answer() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 429, b"slow")
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    rig.hub.sweep(_clock() + 100 * SECOND)
    assert rig.answer(b"POST").status == 429
    assert rig.down.is_closed
    rig.finish()


def test_a_provider_that_does_not_answer_in_time_is_a_timeout_that_the_owner_answers() -> None:
    rig = Rig()
    rig.hub.first_byte_ns = 300 * SECOND
    rig.client(GET)
    start = _clock()
    rig.hub.sweep(start + 299 * SECOND)
    assert rig.owner.failures == []
    rig.hub.sweep(start + 301 * SECOND)
    assert rig.owner.failures == [("timeout", "no answer within 300 s")]
    assert rig.answer().status == 502
    assert rig.up.is_closed
    rig.finish()


def test_a_stream_that_falls_silent_is_cut_and_one_that_drips_is_not() -> None:
    rig = Rig()
    rig.hub.stream_idle_ns = 300 * SECOND
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    for _ in range(3):
        rig.hub.sweep(_clock() + 299 * SECOND)
        rig.provider(b"1\r\nx\r\n")
    assert rig.owner.ends == []
    rig.hub.sweep(_clock() + 301 * SECOND)
    assert outcomes(rig) == [TIMED_OUT]
    assert not rig.answer().whole
    rig.finish()


def test_a_client_that_does_not_read_is_not_the_providers_silence_but_has_a_deadline() -> None:
    rig = Rig()
    rig.hub.stream_idle_ns = 300 * SECOND
    rig.client(GET)
    rig.provider(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    rig.downstream.pause_writing()  # type: ignore[attr-defined]
    start = _clock()
    rig.hub.sweep(start + 299 * SECOND)
    assert not rig.down.is_closed
    rig.hub.sweep(start + 301 * SECOND)
    rig.settle()
    assert rig.down.was_aborted
    assert outcomes(rig) == [CLIENT_GONE]
    rig.finish()


def test_a_client_that_never_reads_its_last_answer_does_not_stay_for_ever() -> None:
    rig = Rig()
    rig.hub.stream_idle_ns = 300 * SECOND
    rig.client(b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    rig.up.give(OK_2)  # closing now; the transport waits for the client to take what was written
    assert rig.down.is_closed
    assert not rig.down.was_aborted
    rig.hub.sweep(_clock() + 301 * SECOND)
    assert rig.down.was_aborted
    rig.finish()


def test_a_refused_client_is_listened_to_for_a_moment_only() -> None:
    rig = Rig()
    rig.client(b"\x01\r\n")
    assert rig.down.wrote_eof
    assert not rig.down.is_closed
    rig.hub.sweep(_clock() + SECOND)
    assert not rig.down.is_closed
    rig.hub.sweep(_clock() + 3 * SECOND)
    assert rig.down.is_closed
    rig.finish()


def test_an_idle_providers_connection_is_closed_in_time() -> None:
    rig = Rig()
    rig.hub.pool_idle_ns = 55 * SECOND
    rig.client(GET)
    rig.provider(OK_2)
    start = _clock()
    rig.hub.sweep(start + 54 * SECOND)
    assert not rig.up.is_closed
    rig.hub.sweep(start + 56 * SECOND)
    assert rig.up.is_closed
    rig.finish()


# -- the end of everything


def test_draining_closes_what_is_idle_and_lets_answers_finish() -> None:
    rig = Rig()
    rig.client(GET)
    rig.hub.drain()
    assert not rig.down.is_closed
    rig.provider(OK_2)
    answer = rig.answer()
    assert (answer.body, answer.get(b"connection")) == (b"ok", b"close")
    assert rig.down.is_closed
    rig.finish()
    rig = Rig()
    rig.hub.drain()
    assert rig.down.is_closed
    rig.finish()


def test_draining_does_not_take_a_refusal_from_its_reader() -> None:
    rig = Rig()
    rig.owner.decide = lambda x: rig.owner.say(x, 429, b"slow")
    rig.client(b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc")
    for _ in range(3):
        rig.hub.drain()
    assert rig.down.wrote_eof
    assert not rig.down.is_closed
    rig.client(b"defghi")
    assert rig.answer(b"POST").status == 429
    rig.finish()


def test_aborting_everything_ends_every_exchange_once() -> None:
    rig = Rig()
    rig.client(GET)
    rig.hub.abort_all()
    rig.settle()
    assert rig.down.was_aborted
    rig.finish()
    assert outcomes(rig) == [CLIENT_GONE]


def _clock() -> int:
    import time

    return time.monotonic_ns()
