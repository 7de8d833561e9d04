"""What is remembered of who began which conversation."""

from outrider.upstream.conversations import KEPT_S, Conversations


def test_what_was_remembered_is_known_until_its_time_is_over() -> None:
    now_s = [0.0]
    known = Conversations(clock=lambda: now_s[0])
    known.remember("resp_1", "one")
    assert known.provider_of("resp_1") == "one"
    assert known.provider_of("resp_2") is None
    now_s[0] = KEPT_S - 1
    assert known.provider_of("resp_1") == "one"
    now_s[0] = KEPT_S
    assert known.provider_of("resp_1") is None
    assert len(known) == 0


def test_the_least_used_is_forgotten_first_and_no_value_is_kept_as_it_was() -> None:
    known = Conversations(most=3)
    for number in range(3):
        known.remember(f"resp_{number}", "one")
    assert known.provider_of("resp_0") == "one"
    known.remember("resp_3", "two")
    assert len(known) == 3
    assert known.provider_of("resp_1") is None
    assert known.provider_of("resp_0") == "one"
    assert known.provider_of("resp_3") == "two"
    assert not any(b"resp" in key for key in known._known)
