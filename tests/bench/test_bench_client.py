"""The bench's client and upstream: every mode gets right answers, and a wrong one is always noticed."""

import contextlib
from collections.abc import Iterator

import pytest
from bench.build import BenchError
from bench.peers import CLIENT_KEY, PROVIDER_KEY
from bench.ports import free_ports

from bench import load
from support.benches import CORE, Answerer, Forwarder, one_run

Targets = tuple[load.Target, load.Target]
AUTH = f"Bearer {PROVIDER_KEY}"


@contextlib.contextmanager
def started(peer: Forwarder | Answerer) -> Iterator[load.Target]:
    peer.start()
    yield load.Target(peer.port)
    peer.join()


@pytest.mark.parametrize("mode", ["keep", "new", "stream"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_every_mode_gets_right_answers_from_the_upstream(upstream: Targets, mode: str, tls: bool) -> None:
    sample = one_run(upstream[tls], mode)
    assert sample.error == ""
    assert sample.requests > 0
    assert sample.events == (200 * sample.requests if mode == "stream" else 0)
    assert sample.connects == (0 if mode != "new" else sample.handshakes or sample.connects)
    assert sample.resumed == 0
    assert sample.latency is not None
    assert sample.latency.p50 <= sample.latency.p99 <= sample.latency.p999
    assert (sample.first_event is not None) == (mode == "stream")


def test_a_session_is_resumed_where_that_is_asked(upstream: Targets) -> None:
    sample = one_run(upstream[1], "resume")
    assert sample.error == ""
    assert sample.resumed == sample.handshakes > 0


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("sizes", [{"prompt_bytes": 100_000}, {"prompt_bytes": 1_000_000}, {"answer_bytes": 1_000_000}])
def test_large_prompts_and_answers_are_compared_whole(upstream: Targets, sizes: dict[str, int], tls: bool) -> None:
    sample = one_run(upstream[tls], **sizes)
    assert sample.error == ""
    assert sample.requests > 0


@pytest.mark.parametrize(
    ("old", "sizes", "word"),
    [(b"lazy dog", {"answer_bytes": 100_000}, "body differs"), (b"rests for", {"prompt_bytes": 100_000}, "400 Body")],
)
def test_one_changed_word_in_100_kb_is_found(upstream: Targets, old: bytes, sizes: dict[str, int], word: str) -> None:
    with started(Forwarder(upstream[0].port, old=old, new=old.upper(), back="prompt_bytes" in sizes)) as target:
        assert word in one_run(target, connections=1, **sizes).error


def test_streams_held_open_are_counted_by_their_events(upstream: Targets) -> None:
    sample = one_run(upstream[0], "stream", connections=20, hold=1, pace_us=5000)
    assert sample.error == ""
    assert sample.requests == 0  # 200 events take a second
    assert sample.events > 20
    assert sample.gap is not None
    assert sample.gap.p90 > 2500


def test_a_loop_ends_with_the_requests_that_were_asked(upstream: Targets) -> None:
    sample = one_run(upstream[0], seconds=30, requests=500)
    assert 500 <= sample.requests <= 510
    assert sample.seconds < 20


def test_a_schedule_is_kept_whatever_the_answers_take(upstream: Targets) -> None:
    sample = one_run(upstream[0], connections=8, seconds=0.2, rate=500)
    assert sample.error == ""
    assert sample.requests == sample.scheduled == 100
    assert sample.unfinished == 0
    assert sample.seconds > 0.19


def test_latency_on_a_schedule_counts_from_when_a_request_was_due(upstream: Targets) -> None:
    times = {}
    for rate in (0, 500):  # the closed loop shows a stall in one request, the schedule in all that it held up
        with started(Forwarder(upstream[0].port, stall_s=0.2)) as target:
            sample = one_run(target, connections=1, seconds=0.5, rate=rate)
        assert sample.error == ""
        assert sample.latency is not None
        times[rate] = sample.latency
    assert times[500].p999 > 150_000
    assert times[500].p90 > 50_000 > times[0].p90


def test_a_slow_answer_is_as_late_as_was_asked(upstream: Targets) -> None:
    sample = one_run(upstream[0], delay_us=30_000)
    assert sample.error == ""
    assert sample.latency is not None
    assert sample.latency.p50 >= 30_000


def test_calls_that_must_stay_open_are_known_not_to(upstream: Targets) -> None:
    with load.held(upstream[0], connections=5, auth=AUTH, core=CORE, mode="keep", delay_us=600_000_000):
        assert one_run(upstream[0]).error == ""
    with load.held(upstream[0], connections=5, auth=AUTH, core=CORE, mode="stream", pace_us=600_000_000):
        assert one_run(upstream[0]).error == ""
    with (
        pytest.raises(BenchError, match="should stay open did not: a call was answered"),
        load.held(upstream[0], connections=1, auth=AUTH, core=CORE, mode="keep", delay_us=1),
    ):
        assert one_run(upstream[0]).error == ""


def refusal(body: bytes, header: bytes = b"x-outrider-error: rate_limited\r\n") -> bytes:
    return b"HTTP/1.1 429 Too Many Requests\r\n%bcontent-length: %d\r\n\r\n%b" % (header, len(body), body)


RIGHT = b'{"error":{"code":"rate_limited"}}'


def test_refusals_are_counted_where_they_are_expected(programs: None) -> None:
    with started(Answerer(refusal(RIGHT))) as target:
        sample = one_run(target, connections=1, refusals=1)
    assert sample.error == ""
    assert sample.requests == 0
    assert sample.refused > 0


@pytest.mark.parametrize(
    ("answer", "refusals", "word"),
    [
        (refusal(RIGHT), 0, "429"),
        (refusal(RIGHT, b""), 1, "429"),
        (refusal(RIGHT, b"x-outrider-error: rate_limited_not\r\n"), 1, "429"),
        (refusal(b"{}"), 1, "does not say why"),
        (refusal(b""), 1, "does not say why"),
        (refusal(RIGHT).replace(b"429", b"503"), 1, "503"),
        (refusal(RIGHT) + b"x", 1, "came after the end"),
    ],
)
def test_a_refusal_that_is_not_ours_is_an_error(programs: None, answer: bytes, refusals: int, word: str) -> None:
    with started(Answerer(answer)) as target:
        assert word in one_run(target, connections=1, refusals=refusals).error


def test_many_keys_go_by_turns(programs: None) -> None:
    peer = Answerer(refusal(RIGHT))
    with started(peer) as target:
        sample = one_run(target, connections=1, key=CLIENT_KEY, seconds=30, refusals=1, keys=10, requests=30)
    sent = [line for head in peer.heads for line in head.split(b"\r\n") if line.startswith(b"authorization:")]
    assert sample.refused == 30
    assert len(set(sent)) == 10
    assert sent[0] == f"authorization: Bearer {CLIENT_KEY}-000000".encode()


def test_headers_that_a_gateway_needs_are_sent(programs: None) -> None:
    peer = Answerer(refusal(RIGHT))
    with started(peer) as target:
        one_run(load.Target(target.port, headers=("x-a: 1", "x-b: 2")), connections=1, refusals=1)
    assert b"\r\nx-a: 1\r\nx-b: 2\r\n" in peer.heads[0]


@pytest.mark.parametrize("mode", ["keep", "stream"])
def test_a_body_that_was_written_anew_is_compared_by_its_words(upstream: Targets, mode: str) -> None:
    path = "/rewritten/v1/chat/completions"
    words = {"old": b'"object"', "new": b'"OBJECT"'}  # what a gateway adds or renames is its own affair
    with started(Forwarder(upstream[0].port, **words)) as target:
        sample = one_run(load.Target(target.port, path=path, check="content", model="own"), mode, connections=1)
    assert sample.error == ""
    assert sample.events == (200 * sample.requests if mode == "stream" else 0)
    lost = {"keep": (b"lazy dog", "not whole"), "stream": (b'" w137"', "not whole")}[mode]
    with started(Forwarder(upstream[0].port, old=lost[0], new=lost[0].upper())) as target:
        assert lost[1] in one_run(load.Target(target.port, path=path, check="content"), mode, connections=1).error
    with started(Forwarder(upstream[0].port, old=b"lazy dog", new=b"lazy cat", back=True)) as target:
        assert "400" in one_run(load.Target(target.port, path=path, check="content"), mode, connections=1).error


def test_a_wrong_key_is_an_error_and_never_a_fast_row(upstream: Targets) -> None:
    sample = one_run(upstream[0], key=CLIENT_KEY)
    assert sample.requests == 0
    assert "401" in sample.error


def test_a_provider_that_is_not_trusted_is_an_error(upstream: Targets) -> None:
    plain, tls = upstream
    stranger = load.Target(tls.port, ca=tls.ca, host="other.bench")
    assert "TLS" in one_run(stranger).error
    assert "connect" in one_run(load.Target(free_ports(1)[0])).error
    assert "404" in one_run(load.Target(plain.port, path="/v1/models")).error


def test_a_connect_goes_before_the_handshake(upstream: Targets) -> None:
    tls = upstream[1]
    proxy = Forwarder(tls.port, tunnel=True)
    with started(proxy):
        sample = one_run(load.Target(proxy.port, ca=tls.ca, connect="llm.bench:443"), connections=1)
    assert sample.error == ""
    assert proxy.connect_head.startswith(b"CONNECT llm.bench:443 HTTP/1.1\r\nhost: llm.bench:443\r\n")


def test_one_changed_byte_in_a_stream_is_found(upstream: Targets) -> None:
    with started(Forwarder(upstream[0].port, old=b'" w137"', new=b'" W137"')) as target:
        assert "body differs at byte" in one_run(target, "stream", connections=1).error


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"content-length: 10\r\n\r\n" + b'{"id":"cha', "body ended after 10 of"),
        (b"content-length: 0\r\n\r\n", "body ended after 0 of"),
        (b"content-length: 5\r\n\r\nhello", "body differs at byte 0: hello"),
        (b"content-length: 0\r\n\r\nx", "body ended after 0 of"),
        (b"\r\n", "answer without length"),
        (b"transfer-encoding: chunked\r\n\r\nzz\r\n", "bad chunk size"),
    ],
)
def test_an_answer_that_is_cut_or_framed_wrongly_is_found(programs: None, answer: bytes, word: str) -> None:
    with started(Answerer(b"HTTP/1.1 200 OK\r\n" + answer)) as target:
        assert word in one_run(target, connections=1).error


def test_a_length_shorter_than_the_body_is_found(upstream: Targets) -> None:
    with started(Forwarder(upstream[0].port, old=b"content-length: 1", new=b"content-length: 0")) as target:
        assert "came after the end of an answer" in one_run(target, connections=1).error
