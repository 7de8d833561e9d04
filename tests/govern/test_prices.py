"""Prices: exact to the nano-dollar on every usage that was recorded, against the list's own arithmetic."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Usage as ListUsage
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from outrider.config.schema import Price
from outrider.dialects.usage import READERS
from outrider.govern.prices import LISTED, PriceBook
from outrider.govern.pricing import pricing_of
from outrider_ext.tariff import PARTS, Tariff
from outrider_ext.tokens import Usage
from support.vectors import rows as vectors

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
# The recordings' provider -> (ours, the reader of a usage object that stands alone, where it stands)
READ = {
    "openai": ("openai", "openai.chat", "usage"),
    "azure": ("azure", "openai.chat", "usage"),
    "groq": ("groq", "openai.chat", "usage"),
    "mistral": ("mistral", "openai.chat", "usage"),
    "deepseek": ("deepseek", "openai.chat", "usage"),
    "together": ("together", "openai.chat", "usage"),
    "xai": ("xai", "openai.chat", "usage"),
    "perplexity": ("perplexity", "openai.chat", "usage"),
    "fireworks": ("fireworks", "openai.chat", "usage"),
    "moonshotai": ("moonshot", "openai.chat", "usage"),
    "anthropic": ("anthropic", "anthropic.messages", "usage"),
    "gemini": ("gemini", "gemini.generate", "usageMetadata"),
    "google": ("gemini", "gemini.generate", "usageMetadata"),
    "vertex": ("vertex", "gemini.generate", "usageMetadata"),
    "cohere": ("cohere", "cohere.chat", "usage"),
    "bedrock": ("bedrock", "bedrock.converse", "usage"),
    "amazon-bedrock": ("bedrock", "bedrock.converse", "usage"),
}


def book(**overrides: dict[str, Any]) -> PriceBook:
    prices = {name: Price.model_validate(price) for name, price in overrides.items()}
    return PriceBook(prices, lambda: NOW)


def configured(price: dict[str, Any]) -> PriceBook:
    return PriceBook({"local/m": Price.model_validate(price)}, lambda: NOW)


# -- recorded usage


def objects(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Every object that holds a usage, with what stands beside it."""
    if isinstance(value, dict):
        if isinstance(value.get(key), dict):
            yield value
        for inner in value.values():
            yield from objects(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner, key)


def texts(row: dict[str, Any]) -> Iterator[str]:
    yield from row.get("chunks") or ()
    for whole in (row.get("body"), row.get("resp")):
        if isinstance(whole, str):
            yield whole
            yield from (line.removeprefix("data:").strip() for line in whole.splitlines())


def recorded() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(the recording's provider, an object with a usage in it, the model asked for)."""
    for name in ("provider_fixtures", "exchanges"):
        for row in vectors(name):
            if row["provider"] not in READ:
                continue
            key = READ[row["provider"]][2]
            try:
                asked = json.loads(row.get("req") or "{}")
            except ValueError:
                asked = {}
            model = asked.get("model") if isinstance(asked, dict) else None
            if model is None and "/model/" in (row.get("path") or ""):
                model = row["path"].split("/model/")[1].split("/")[0].replace("%3A", ":")
            if model is None and "/models/" in (row.get("path") or ""):
                model = row["path"].split("/models/")[1].split(":")[0]
            for text in texts(row):
                try:
                    value = json.loads(text)
                except ValueError:
                    continue
                for holder in objects(value, key):
                    yield row["provider"], holder, str(model or "")


def apart(raw: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in raw["iterations"] if one["type"] in ("compaction", "advisor_message")]


def number(holder: Any, *path: str) -> int:
    for step in path:
        holder = holder.get(step) if isinstance(holder, dict) else None
    return holder if type(holder) is int and holder >= 0 else 0


def modality(rows: Any, name: str) -> int:
    return sum(number(row, "tokenCount") for row in rows or () if row.get("modality") == name)


def by_hand(shape: str, raw: dict[str, Any]) -> dict[str, int]:
    """The list's usage from the raw object, written down here a second time."""
    if shape == "anthropic.messages":
        read, written = number(raw, "cache_read_input_tokens"), number(raw, "cache_creation_input_tokens")
        return {
            "input_tokens": number(raw, "input_tokens") + read + written, "output_tokens": number(raw, "output_tokens"),
            "cache_read_tokens": read, "cache_write_tokens": written,
            "cache_write_1h_tokens": number(raw, "cache_creation", "ephemeral_1h_input_tokens"),
        }  # fmt: skip
    if shape == "gemini.generate":
        return {
            "input_tokens": number(raw, "promptTokenCount") + number(raw, "toolUsePromptTokenCount"),
            "output_tokens": number(raw, "candidatesTokenCount") + number(raw, "thoughtsTokenCount"),
            "cache_read_tokens": number(raw, "cachedContentTokenCount"),
            "input_audio_tokens": modality(raw.get("promptTokensDetails"), "AUDIO"),
            "output_audio_tokens": modality(raw.get("candidatesTokensDetails"), "AUDIO"),
        }
    if shape == "bedrock.converse":
        read = number(raw, "cacheReadInputTokens") or number(raw, "cacheReadInputTokenCount")
        written = number(raw, "cacheWriteInputTokens") or number(raw, "cacheWriteInputTokenCount")
        return {
            "input_tokens": number(raw, "inputTokens") + read + written, "output_tokens": number(raw, "outputTokens"),
            "cache_read_tokens": read, "cache_write_tokens": written,
        }  # fmt: skip
    if shape == "cohere.chat":
        units = "billed_units" if "billed_units" in raw else "tokens"
        return {
            "input_tokens": int(raw.get(units, {}).get("input_tokens", 0)),
            "output_tokens": int(raw.get(units, {}).get("output_tokens", 0)),
        }
    given = number(raw, "prompt_tokens") or number(raw, "input_tokens")
    made = number(raw, "completion_tokens") or number(raw, "output_tokens")
    inside = raw.get("prompt_tokens_details") or raw.get("input_tokens_details") or {}
    outside = raw.get("completion_tokens_details") or raw.get("output_tokens_details") or {}
    reasoning = number(outside, "reasoning_tokens")
    if reasoning and number(raw, "total_tokens") == given + made + reasoning:
        made += reasoning  # xAI
    cached = number(inside, "cached_tokens") or number(raw, "prompt_cache_hit_tokens") or number(raw, "cached_tokens")
    return {
        "input_tokens": given, "output_tokens": made, "cache_read_tokens": cached,
        "cache_write_tokens": number(inside, "cache_write_tokens"),
        "input_audio_tokens": number(inside, "audio_tokens"), "output_audio_tokens": number(outside, "audio_tokens"),
    }  # fmt: skip


def list_price(kind: str, model: str, usage: dict[str, int]) -> int | None:
    """Nano-dollars by the list's own engine, which decomposes and sums in Decimals."""
    for listed in LISTED[kind]:
        try:
            _, info = get_snapshot().find_provider_model(model.removeprefix("models/").lower(), None, listed, None)
        except LookupError:
            continue
        prices = info.get_prices(NOW)
        if prices.input_mtok is None and prices.output_mtok is None:
            continue
        total = prices.calc_price(ListUsage(**{key: n for key, n in usage.items() if n}))["total_price"]
        return int((total * 10**9).quantize(Decimal(1), ROUND_HALF_UP))
    return None


def test_every_recorded_usage_is_priced_to_the_nano_dollar() -> None:
    prices = book()
    exact: Counter[str] = Counter()
    unpriced: Counter[str] = Counter()
    wrong = []
    for provider, holder, asked in recorded():
        kind, shape, key = READ[provider]
        raw = holder[key]
        used = READERS[shape].read_body(json.dumps({key: raw}).encode())
        if used is None:
            continue
        model = str(holder.get("model") or holder.get("modelVersion") or asked)
        tariff = prices.tariff(kind, kind, model, None, None)
        usage = by_hand("openai.chat" if "prompt_tokens" in raw else shape, raw)
        try:
            expected = list_price(kind, model, usage) if model else None
        except ValueError:
            continue  # the list refuses parts that overlap without saying how
        if tariff is None or expected is None:
            assert (tariff is None) == (expected is None), (kind, model)
            unpriced[kind] += 1
            continue
        exact[kind] += 1
        if raw.get("iterations"):  # inferences that are billed beside the top level's
            expected += sum(list_price(kind, model, by_hand(shape, one)) or 0 for one in apart(raw))
        if tariff.cost(used) != expected:
            wrong.append((kind, model, raw, tariff.cost(used), expected))
    print("\npriced exactly:", dict(exact), "unpriced:", dict(unpriced))
    assert not wrong, wrong
    assert sum(exact.values()) > 800
    assert {"openai", "azure", "anthropic", "gemini", "groq", "bedrock"} <= set(exact)


# -- what is priced apart

PLAIN = {"input": 2, "output": 8}


@pytest.mark.parametrize(
    ("price", "usage", "nusd"),
    [
        (PLAIN, Usage(1_000_000, 1_000_000), 10 * 10**9),
        ({"input": 0.0375, "output": 0.15}, Usage(1, 0), 38),  # 37.5: half up
        ({"input": 0.0375, "output": 0.15}, Usage(2, 0), 75),
        ({**PLAIN, "cache_read": 0.5}, Usage(100, 0, 60), 40 * 2000 + 60 * 500),
        (PLAIN, Usage(100, 0, 60), 100 * 2000),
        ({**PLAIN, "cache_write": 2.5}, Usage(100, 0, 0, 30), 70 * 2000 + 30 * 2500),
        (
            {**PLAIN, "cache_write": 2.5, "cache_write_1h": 4},
            Usage(100, 0, 0, 30, cache_write_1h_tokens=10),
            70 * 2000 + 20 * 2500 + 10 * 4000,
        ),
        ({**PLAIN, "reasoning": 20}, Usage(0, 100, 0, 0, 40), 60 * 8000 + 40 * 20_000),
        (PLAIN, Usage(0, 100, 0, 0, 40), 100 * 8000),
        ({**PLAIN, "input_audio": 40}, Usage(100, 0, audio_input_tokens=25), 75 * 2000 + 25 * 40_000),
        ({**PLAIN, "output_audio": 80}, Usage(0, 100, audio_output_tokens=25), 75 * 8000 + 25 * 80_000),
        (
            {**PLAIN, "cache_read": 1, "input_audio": 40, "cache_audio": 3},
            Usage(100, 0, 50, audio_input_tokens=30, cache_audio_tokens=10),
            30 * 2000 + 40 * 1000 + 20 * 40_000 + 10 * 3000,
        ),
        ({**PLAIN, "request": 5}, Usage(1, 0), 2000 + 5_000_000),
        ({**PLAIN, "above": [{"tokens": 200, "input": 4}]}, Usage(200, 10), 200 * 2000 + 10 * 8000),
        ({**PLAIN, "above": [{"tokens": 200, "input": 4}]}, Usage(201, 10), 201 * 4000 + 10 * 8000),
        (PLAIN, Usage(2**53, 2**53), 2**53 * 10_000),
        (PLAIN, Usage(10, 10, 10, 10, 10, audio_input_tokens=10, audio_output_tokens=9), 10 * 2000 + 10 * 8000),
    ],
)  # fmt: skip
def test_each_part_has_its_price(price: dict[str, Any], usage: Usage, nusd: int) -> None:
    tariff = configured(price).tariff("local", "openai", "m", None, None)
    assert tariff is not None
    assert tariff.cost(usage) == nusd


@pytest.mark.parametrize(("tier", "nusd"), [(None, 2000), ("batch", 1000), ("priority", 5000), ("unheard-of", 2000)])
def test_each_tier_has_its_prices(tier: str | None, nusd: int) -> None:
    price = {**PLAIN, "tiers": {"batch": {"input": 1, "output": 4}, "priority": {"input": 5, "output": 9}}}
    tariff = configured(price).tariff("local", "openai", "m", None, tier)
    assert tariff is not None
    assert tariff.cost(Usage(1, 0)) == nusd


@pytest.mark.parametrize(
    ("kind", "model", "tier", "share"),
    [
        ("openai", "gpt-5.4-mini", "flex", Fraction(1, 2)),
        ("openai", "gpt-5.4-mini", "priority", Fraction(2)),
        ("openai", "gpt-5.4-mini", "batch", Fraction(1, 2)),
        ("anthropic", "claude-sonnet-4-5", "batch", Fraction(1, 2)),
        ("gemini", "gemini-2.5-pro", "batch", Fraction(1, 2)),
    ],
)
def test_the_lists_tiers_are_priced_apart(kind: str, model: str, tier: str, share: Fraction) -> None:
    prices = book()
    usual, other = (prices.tariff(kind, kind, model, None, one) for one in (None, tier))
    assert usual is not None
    assert other is not None
    assert other.cost(Usage(1_000_000, 0)) == usual.cost(Usage(1_000_000, 0)) * share


def test_a_long_input_is_priced_by_its_step() -> None:
    tariff = book().tariff("gemini", "gemini", "gemini-2.5-pro", None, None)
    assert tariff is not None
    assert tariff.cost(Usage(200_000, 1000)) == 200_000 * 1250 + 1000 * 10_000
    assert tariff.cost(Usage(200_001, 1000)) == 200_001 * 2500 + 1000 * 15_000


def test_what_the_answer_names_counts_before_what_was_asked() -> None:
    prices = book(**{"local/a": {"input": 1}, "local/b": {"input": 2}})
    costs = [
        prices.tariff("local", "vllm", *names, None) for names in (("a", "b"), ("x", "b"), (None, "a"), ("x", "y"))
    ]
    assert [tariff and tariff.cost(Usage(1, 0)) for tariff in costs] == [1000, 2000, 1000, None]


def test_the_longest_pattern_counts_and_config_beats_the_list() -> None:
    prices = book(**{"openai/gpt*": {"input": 1}, "openai/gpt-5*": {"input": 2}, "openai/gpt-5-mini": {"input": 3}})
    found = [prices.tariff("openai", "openai", model, None, None) for model in ("GPT-4o", "gpt-5.9", "gpt-5-mini")]
    assert [tariff and tariff.cost(Usage(1, 0)) for tariff in found] == [1000, 2000, 3000]


@pytest.mark.parametrize("model", ["", "nobody-knows", "x" * 10_000, "\0", "gpt-5/../.."])
def test_an_unknown_model_is_unpriced(model: str) -> None:
    assert book().tariff("vllm", "vllm", model, None, None) is None


def test_a_look_up_is_remembered_for_a_quarter_of_an_hour() -> None:
    now = NOW
    asked = []
    prices = PriceBook({}, lambda: now)
    find = prices._list.find_provider_model
    prices._listed = lambda *about: asked.append(about)  # type: ignore[method-assign, func-returns-value, assignment]
    for minutes in (0, 1, 14, 15, 16):
        now = NOW + timedelta(minutes=minutes)
        prices.tariff("openai", "openai", "gpt-5", None, None)
    assert len(asked) == 2
    assert callable(find)


def test_nobody_pays_for_the_list_who_counts_no_money() -> None:
    assert pricing_of((), {}) is None


@pytest.mark.parametrize("build", both("tariff"), ids=["compiled", "interpreted"])
@given(
    counts=st.lists(st.integers(0, 10**6) | st.integers(0, 2**53), min_size=9, max_size=9),
    row=st.lists(st.integers(0, 10**6) | st.integers(0, 2**40), min_size=10, max_size=10),
    denominator=st.integers(1, 1000),
)
def test_a_cost_is_the_exact_sum_rounded_once(build: Any, counts: list[int], row: list[int], denominator: int) -> None:
    given_, made, read, written, thought, hour, heard, said, before = counts
    usage = Usage(given_, made, read, written, thought, False, None, hour, heard, said, before)
    read = min(read, given_)
    written, before = min(written, given_ - read), min(before, read)
    hour, heard = min(hour, written), min(max(heard - before, 0), given_ - read - written)
    said = min(said, made)
    thought = min(thought, made - said)
    amounts = (
        given_ - read - written - heard, read - before, written - hour, hour, made - thought - said,
        thought, heard, said, before, 1,
    )  # fmt: skip
    exact = sum((Fraction(n * price, denominator) for n, price in zip(amounts, row, strict=True)), Fraction(0))
    assert build.Tariff(((-1, tuple(row)),), denominator).cost(usage) == (exact + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize(
    "rows", [(), ((0, (1,) * 10),), ((-1, (1,) * 9),), ((-1, (-1,) * 10),), ((-1, (1,) * 10),) * 2]
)
def test_a_tariff_that_makes_no_sense_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="tariff"):
        Tariff(rows, 1)
    assert len(PARTS) == 10
