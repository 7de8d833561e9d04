"""The sieve before the scan: what it lets pass holds no match, and it lets pass what most texts are."""

import json
import random
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench import samples
from outrider.govern.redact import factors
from outrider.govern.redact.actions import PSEUDONYM
from outrider.govern.redact.detectors import ROWS, Detector
from outrider.govern.redact.factors import END, factors_of, sieve_masks
from outrider.govern.redact.scan import Scanner
from outrider_ext.sieve import BUCKETS, PLACES, Sieve
from support.vectors import rows

ALL = (*ROWS, PSEUDONYM)
SCANNER = Scanner(ALL)


def sieve_of(*patterns: str) -> Sieve:
    masks = sieve_masks(patterns)
    assert masks is not None
    return Sieve(masks, lambda text: [0])


BUILT_IN = sieve_of(*(row.parsed.source for row in ALL))
AROUND = st.sampled_from(["", " ", "a", "Z", "_", "9", "-", '"', "é", ".", "\n", ":", "the quick brown fox "])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_a_built_in_pattern_matches_is_held_back(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(ALL))
    text = data.draw(AROUND) + data.draw(st.from_regex(row.pattern)) + data.draw(AROUND)
    text = text if data.draw(st.booleans()) else data.draw(st.sampled_from(["some words " * 30, "x" * 61])) + text
    raw = text.encode("utf-8", "surrogatepass")
    if SCANNER.hits(raw):
        assert not BUILT_IN.passes(raw)


# Small patterns of every kind of part, and texts of the letters that they are made of.
ATOMS = st.sampled_from(
    [
        "a",
        "k",
        "S",
        "1",
        "-",
        "é",
        "‹",
        r"\d",
        r"\w",
        r"\S",
        ".",
        "[a-c]",
        "[^a]",
        "[k1]",
        "(?i:s)",
        r"\b",
        r"\B",
        "(?:ab|1-|k)",
    ]
)
PARTS = st.tuples(ATOMS, st.sampled_from(["", "", "?", "{2}", "{0,3}", "{3,12}", "+", "*"])).map(
    lambda part: part[0] + (part[1] if not part[0].startswith("\\b") and not part[0].startswith("\\B") else "")
)
TEXTS = st.text(alphabet="aAbckKsS1-é‹ſK_ \n", max_size=40)


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5).map("".join), st.lists(TEXTS, min_size=1, max_size=8), st.booleans())
@example(pattern="1.{2}1-1", texts=["1é‹1-1"], folds=False)
@example(pattern="-[^a]1-", texts=["-‹1-"], folds=True)
@example(pattern=r"1\W\S1", texts=["1ééé1", "1é‹1"], folds=False)
def test_no_pattern_lets_pass_what_it_matches(pattern: str, texts: list[str], folds: bool) -> None:
    source = ("(?i)" if folds else "") + pattern
    try:
        row = Detector("one", "patterns", source, tail="x", max_repeat=100)
        scanner = Scanner([row])
    except ValueError:
        return  # it matches the empty text
    with mock.patch.object(factors, "MAX_RATE", 9.0):  # also where a sieve is not worth it
        masks = sieve_masks.__wrapped__((source,))
    assert masks is not None
    sieve = Sieve(masks, scanner.hits)
    for text in (*texts, "".join(texts) * 8):
        raw = text.encode()
        assert not scanner.hits(raw) or not sieve.passes(raw)


def by_hand(masks: tuple[int, ...], text: bytes) -> bool:
    """Whether the text passes, a bucket at a time."""
    run = [*b"\n", *text, *[256] * (PLACES - 1)]
    for bucket in range(BUCKETS):
        for at in range(len(run) - PLACES + 1):
            if all(masks[run[at + place]] >> (BUCKETS * place + bucket) & 1 for place in range(PLACES)):
                return False
    return True


@pytest.mark.parametrize("seed", range(40))
def test_the_sieve_does_what_its_masks_say(seed: int) -> None:
    drawn = random.Random(seed)
    density = drawn.choice([0.3, 0.6, 0.8, 0.9])
    bits = range(BUCKETS * PLACES)
    masks = tuple(sum(1 << bit for bit in bits if drawn.random() < density) for _ in range(257))
    sieve = Sieve(masks, lambda text: [7])
    for size in (0, 1, 7, 8, 30, 300, 1033):
        text = drawn.randbytes(size)
        assert sieve.passes(text) == by_hand(masks, text)
        assert sieve.hits(text) == ([] if by_hand(masks, text) else [7])


@pytest.mark.parametrize("size", [0, 7, 8, 255, 256, 257, 263, 1023, 1024, 1031, 5000])
def test_a_match_is_held_back_wherever_it_stands(size: int) -> None:
    sieve = sieve_of("sk-live-0")
    assert sieve.passes(b"x" * size)
    for at in {0, 1, 8, size // 4 - 4, size // 4, size // 2 - 7, 3 * size // 4 - 1, size - 9, size}:
        if 0 <= at <= size:
            assert not sieve.passes(b"x" * at + b"sk-live-0" + b"x" * (size - at)), at


def test_most_recorded_requests_without_a_match_pass() -> None:
    bodies = [row["req"] for row in rows("exchanges") if row.get("req")]
    texts = [(body if isinstance(body, str) else json.dumps(body)).encode() for body in bodies]
    clean = [text for text in texts if not SCANNER.hits(text)]
    passed = sum(map(BUILT_IN.passes, texts))
    assert all(not BUILT_IN.passes(text) for text in texts if SCANNER.hits(text))
    assert passed > 0.6 * len(clean)
    assert BUILT_IN.passes(samples.CHAT)


def test_a_plan_scans_requests_with_a_sieve_and_finds_the_same() -> None:
    sifting = Scanner(ALL, sifts=True)
    for text in (b"nothing here", b"mail ada@example.com", b"card 4111 1111 1111 1111 and more"):
        assert sifting.hits(text) == SCANNER.hits(text)
        assert sifting.find(text, 0, True) == SCANNER.find(text, 0, True)


@pytest.mark.parametrize("patterns", [("[a-z]{3}",), (r"\w+ \w+", "x"), ("x" * 20_000,)])
def test_patterns_of_ordinary_text_have_no_sieve(patterns: tuple[str, ...]) -> None:
    assert sieve_masks(patterns) is None


def test_the_byte_before_and_behind_belongs_to_a_factor_where_it_is_bound_to_be() -> None:
    (factor,) = factors_of(r"\bab\b")
    before, first, second, behind, *rest = factor
    assert not before >> ord("x") & 1
    assert before >> ord("\n") & 1
    assert (first, second) == (1 << ord("a"), 1 << ord("b"))
    assert behind & END
    assert not behind >> ord("x") & 1
    assert all(place & END for place in rest)
