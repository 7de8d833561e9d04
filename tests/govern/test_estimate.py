"""Tokens guessed without a tokenizer: how far off, per family, on what providers billed; and what is learned."""

import json
import re
import statistics
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.govern.estimate import Estimates, family_of
from outrider_ext.limits import Family, Outputs, estimate_tokens
from support.vectors import rows


def test_the_error_is_measured_and_shrinks_by_what_was_seen() -> None:
    """Billed prompts of recorded plain requests, by their bytes where those were recorded, else by their characters."""
    bodies = {row["id"]: row["req"] for row in rows("exchanges") if row.get("req")}
    raw_errors: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    estimates = Estimates()
    for row in rows("token_counts"):
        body = bodies.get(row["id"])
        raw = estimate_tokens(body.encode() if body is not None else b"wor " * max(row["chars4"], 1))
        family = estimates.family("openai", row["model"])
        actual = row["prompt"]
        if actual < 16 or not row["simple"]:  # of the others neither tools nor pictures are in the count of characters
            continue
        raw_errors[family.name].append(abs(raw - actual) / actual)
        errors[family.name].append(abs(family.corrected(raw) - actual) / actual)
        family.learn(raw, actual)
    print("\nfamily                     calls  as guessed  corrected (median error)")
    for name, found in sorted(errors.items(), key=lambda item: -len(item[1])):
        before, after = statistics.median(raw_errors[name]), statistics.median(found)
        print(f"{name:<26} {len(found):5}  {before:9.0%}  {after:9.0%}")
    every = [error for found in errors.values() for error in found]
    assert statistics.median(every) < 0.35
    assert statistics.median(every) < statistics.median([error for found in raw_errors.values() for error in found])


def test_recorded_bodies_alone_are_within_a_quarter() -> None:
    bodies = {row["id"]: row["req"] for row in rows("exchanges") if row.get("req")}
    off = [
        abs(estimate_tokens(bodies[row["id"]].encode()) - row["prompt"]) / row["prompt"]
        for row in rows("token_counts")
        if row["id"] in bodies and row["prompt"] >= 16
    ]
    print(f"\n{len(off)} recorded bodies: median error {statistics.median(off):.0%}")
    assert statistics.median(off) < 0.25


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4"), ("gpt-5", "gpt-5"), ("o4-mini", "o4"),
        ("claude-sonnet-4-5", "claude-sonnet-4"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4"), ("models/gemini-2.5-pro", "gemini-2"),
        ("meta-llama/Llama-3.3-70B", "llama-3"), ("Qwen3-max", "qwen3"), ("", ""), (None, ""), ("???", "other"),
        ("42", "other"),
    ],
)  # fmt: skip
def test_families_are_told_by_the_name(model: str | None, family: str) -> None:
    assert family_of(model) == family


@given(st.binary(max_size=5000))
def test_any_body_has_an_estimate_and_no_more_than_its_bytes(body: bytes) -> None:
    assert 1 <= estimate_tokens(body) <= len(body) + 1 + 1000 * (len(body) // 256)


def test_a_picture_is_not_counted_by_its_letters() -> None:
    picture = json.dumps({"url": "data:image/png;base64," + "iVBORw0KGgo" * 50_000}).encode()
    assert 500 < estimate_tokens(picture) < 4000


@pytest.mark.parametrize("text", ["the quick brown fox " * 50_000, "敏捷的棕色狐狸 " * 30_000])
def test_a_long_body_is_read_in_part_and_comes_out_the_same(text: str) -> None:
    whole = text.encode()
    small = estimate_tokens(whole[: 60_000 - 60_000 % len(text[:1].encode())])
    assert estimate_tokens(whole) == pytest.approx(small * len(whole) / 60_000, rel=0.02)


def test_what_was_seen_corrects_within_some_calls() -> None:
    family = Family("x")
    for _ in range(60):
        family.learn(100, 150)
    assert family.corrected(100) == pytest.approx(150, abs=8)
    for _ in range(200):
        family.learn(100, 80)
    assert family.corrected(100) == pytest.approx(80, abs=8)
    assert family.error < 0.2


@given(st.lists(st.tuples(st.integers(-5, 2**53), st.integers(-5, 2**53)), max_size=200))
def test_no_answer_can_spoil_the_correction(seen: list[tuple[int, int]]) -> None:
    family = Family("x")
    for raw, actual in seen:
        family.learn(raw, actual)
    assert 0.05 <= family.ratio <= 20


@given(st.lists(st.integers(0, 20_000), min_size=30, max_size=120))
def test_the_p90_lies_near_the_real_one(made: list[int]) -> None:
    outputs = Outputs()
    for count in made:
        outputs.learn(count)
    newest = sorted(made)
    assert outputs.p90 >= newest[0]
    assert outputs.p90 <= 1.5 * newest[-1] + 1


def test_the_p90_follows_a_change() -> None:
    outputs = Outputs()
    assert outputs.p90 == -1
    for _ in range(200):
        outputs.learn(50)
    assert outputs.p90 == 64
    for _ in range(30):
        outputs.learn(3000)
    assert 3000 <= outputs.p90 <= 4096
    for _ in range(5000):  # its weights are brought back before they overflow
        outputs.learn(10)
    assert outputs.p90 == 12


def test_what_is_remembered_is_bounded() -> None:
    estimates = Estimates(families_max=10, callers_max=10)
    known: Any = estimates.family("openai", "gpt-5")
    for number in range(1000):
        estimates.family("openai", f"{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}x")
        estimates.outputs("openai", f"caller-{number}", "gpt-5")
    assert len(estimates.families) == 10
    assert estimates.family("openai", "gpt-5-mini") is known
    assert len(estimates._outputs) == 10


def weighed(body: bytes) -> int:
    """estimate_tokens by its own description, a byte at a time."""
    total = blobs = 0
    in_blob = False
    for at in range(0, len(body), 256):
        block = body[at : at + 256]
        if len(block) == 256 and re.fullmatch(rb"[A-Za-z0-9+/=_-]*", block):
            blobs += not in_blob
            in_blob = True
        else:
            total += sum(weight_of(byte) for byte in block)
            in_blob = False
    return (total >> 8) + 1000 * blobs + 1


def weight_of(byte: int) -> int:
    char = chr(byte)
    if byte >= 128:
        return 102
    return 51 if char.isalpha() else 77 if char.isdigit() else 23 if char.isspace() else 15


@given(st.lists(st.binary(max_size=80) | st.sampled_from([b"QUJD" * 64, b"_-" * 128, b"some words " * 9]), max_size=12))
def test_blocks_weigh_what_their_bytes_do(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert estimate_tokens(body) == weighed(body)


def test_every_byte_has_its_weight_in_a_block() -> None:
    for byte in range(256):
        body = b" " + bytes((byte,)) * 255
        assert estimate_tokens(body) == weighed(body)
