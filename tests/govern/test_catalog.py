"""Which models can be asked for, and what is known of each."""

from outrider.dialects.models import written_model
from outrider.govern.catalog import Catalog, as_model


def test_aliases_come_first_and_hold_what_all_their_targets_hold() -> None:
    catalog = Catalog(
        {"smart": ["anthropic/claude-sonnet-4-5", "openai/gpt-4o"], "own": ["local/llama"]},
        [("openai", "openai"), ("anthropic", "anthropic"), ("local", "vllm")],
    )
    ids = [listed.id for listed in catalog.all()]
    assert ids[:2] == ["smart", "own"]
    assert "openai/gpt-4o" in ids
    assert len(ids) == len(set(ids))
    smart, gpt = catalog.find("smart"), catalog.find("openai/gpt-4o")
    assert smart is not None
    assert gpt is not None
    assert smart.context_tokens == gpt.context_tokens == 128_000
    assert smart.targets == ("anthropic/claude-sonnet-4-5", "openai/gpt-4o")
    own = catalog.find("own")
    assert own is not None
    assert own.context_tokens is None
    assert catalog.find("nobody/x") is None


def test_an_entry_has_the_shape_of_its_dialect_and_prices_as_the_list_has_them() -> None:
    found = Catalog({}, [("work", "openai")]).find("work/gpt-4o")
    assert found is not None
    entry = written_model("openai", as_model(found))
    assert (entry["object"], entry["owned_by"], entry["context_length"]) == ("model", "work", 128_000)
    assert entry["pricing"] == {
        "unit": "usd_per_million_tokens", "input": "2.5", "output": "10", "cache_read": "1.25"
    }  # fmt: skip
    assert entry["name"] == "gpt 4o"
    other = written_model("anthropic", as_model(found))
    assert (other["type"], other["display_name"], other["max_input_tokens"]) == ("model", "gpt 4o", 128_000)
    assert "pricing" not in other
