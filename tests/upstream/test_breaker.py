"""The breaker by a clock that stands still until it is moved."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import BreakerKeys
from outrider.upstream.breaker import MAX_COOLING_S, MAX_OPEN_S, Breaker

S = 1_000_000_000
SETTINGS = BreakerKeys(failures=3, rate_percent=50, window_s=10, min_calls=8, open_s=5, probes=1, credential_out_s=60)


def opened(at: int = 0) -> Breaker:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.failed(at)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_a_success_between_them_counts() -> None:
    breaker = Breaker(SETTINGS)
    for fails in (True, True, False, True, True):
        breaker.failed(0) if fails else breaker.succeeded(0)
    assert breaker.admits(0)
    breaker.failed(0)
    assert not breaker.admits(0)
    assert breaker.state(0) == "open"


def test_a_target_that_says_that_it_is_overloaded_counts_double() -> None:
    breaker = Breaker(SETTINGS)
    breaker.failed(0, weight=2)
    breaker.failed(0, weight=2)
    assert breaker.state(0) == "open"


def test_it_opens_by_rate_once_there_are_enough_calls() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.succeeded(0)
        breaker.failed(0)
    assert breaker.admits(0)
    breaker.succeeded(0)
    breaker.failed(0)
    assert breaker.state(0) == "open"


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.succeeded(0)
        breaker.failed(0)
    breaker.succeeded(11 * S)
    breaker.failed(11 * S)
    assert breaker.state(11 * S) == "closed"
    assert breaker.failure_rate(11 * S) == 0.5


def test_it_is_half_open_after_a_while_lets_one_probe_through_and_closes_on_its_success() -> None:
    breaker = opened()
    assert not breaker.admits(5 * S - 1)
    assert breaker.state(5 * S) == "half_open"
    assert breaker.began(5 * S)
    assert not breaker.admits(5 * S)
    breaker.succeeded(5 * S, probe=True)
    assert breaker.state(5 * S) == "closed"
    assert breaker.failure_rate(5 * S) == 0


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    breaker = opened()
    breaker.began(5 * S)
    breaker.failed(5 * S, probe=True)
    assert breaker.ready_in_s(5 * S) == 10
    breaker.began(15 * S)
    breaker.failed(15 * S, probe=True)
    assert breaker.ready_in_s(15 * S) == 20


def test_a_probe_that_comes_to_no_end_gives_its_place_back() -> None:
    breaker = opened()
    assert breaker.began(5 * S)
    breaker.left(probe=True)
    assert breaker.admits(5 * S)


def test_a_probe_may_come_early_one_at_a_time() -> None:
    breaker = opened()
    assert breaker.may_probe_early(S)
    assert breaker.began(S)
    assert not breaker.may_probe_early(S)
    breaker.succeeded(S, probe=True)
    assert breaker.state(S) == "closed"


def test_a_throttled_target_cools_down_as_long_as_it_said_and_no_longer_than_a_cap() -> None:
    breaker = Breaker(SETTINGS)
    breaker.throttled(0, 2)
    assert breaker.state(2 * S - 1) == "cooling"
    assert not breaker.may_probe_early(S)
    assert breaker.state(2 * S) == "closed"
    breaker.throttled(0, 1e9)
    assert breaker.ready_in_s(0) == MAX_COOLING_S


def test_a_refused_credential_takes_the_target_out() -> None:
    breaker = Breaker(SETTINGS)
    breaker.credential_refused(0)
    assert not breaker.admits(60 * S - 1)
    assert breaker.admits(60 * S)
    assert breaker.reason == "credential refused"


def test_another_credential_brings_the_target_back_at_once() -> None:
    breaker = Breaker(SETTINGS)
    breaker.credential_refused(0, mark=(7, 1))
    breaker.credential_is((7, 1))
    assert not breaker.admits(S)
    breaker.credential_is((7, 2))
    assert breaker.admits(S)
    assert breaker.reason == ""
    breaker.throttled(S, 5)
    breaker.credential_is((7, 3))  # that says nothing of a limit
    assert not breaker.admits(2 * S)


@given(st.lists(st.tuples(st.sampled_from("sfdtcl"), st.integers(0, 20 * S)), max_size=60))
def test_whatever_happens_it_lets_calls_through_again(steps: list[tuple[str, int]]) -> None:
    breaker, now = Breaker(SETTINGS), 0
    for what, later in steps:
        now += later
        probe = breaker.admits(now) and breaker.began(now)
        match what:
            case "s":
                breaker.succeeded(now, probe=probe)
            case "f":
                breaker.failed(now, probe=probe)
            case "d":
                breaker.failed(now, weight=2, probe=probe)
            case "t":
                breaker.throttled(now, 3, probe=probe)
            case "c":
                breaker.credential_refused(now, probe=probe)
            case _:
                breaker.left(probe=probe)
        assert not breaker.is_probing
        assert breaker.ready_in_s(now) <= max(MAX_OPEN_S, MAX_COOLING_S)
        assert 0 <= breaker.failure_rate(now) <= 1
    later_ns = now + int(max(MAX_OPEN_S, MAX_COOLING_S) * S) + 1
    assert breaker.admits(later_ns)
    breaker.succeeded(later_ns, probe=breaker.began(later_ns))
    assert breaker.state(later_ns) == "closed"
