"""Listings of models, each shape from each, read by the official SDKs."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import UnreadableError
from outrider.dialects.models import Listing, Model, Shape, read_listing, read_model, written_listing, written_model
from support import sdk_judges

SHAPES: tuple[Shape, ...] = ("openai", "anthropic", "gemini")
MODELS = [
    Model("big-1", "Big One", "acme", 1_700_000_000, 200_000, 8_192, "A model."),
    Model("unknown-2"),
]


@pytest.mark.parametrize("source", SHAPES)
@pytest.mark.parametrize("target", SHAPES)
def test_ids_and_order_survive_every_shape(source: Shape, target: Shape) -> None:
    there = read_listing(source, written_listing(source, Listing(MODELS)))
    back = read_listing(target, written_listing(target, there))
    assert [model.id for model in back.models] == ["big-1", "unknown-2"]
    assert back.models[0].context_tokens == 200_000


def test_openais_sdk_reads_a_listing() -> None:
    client, transport = sdk_judges._openai()
    sdk_judges._set(transport, orjson.dumps(written_listing("openai", Listing(MODELS))), False)
    rows = list(client.models.list())
    assert [(row.id, row.object, row.created, row.owned_by) for row in rows] == [
        ("big-1", "model", 1_700_000_000, "acme"),
        ("unknown-2", "model", 0, "unknown"),
    ]


def test_anthropics_sdk_reads_a_listing() -> None:
    client, transport = sdk_judges._anthropic()
    sdk_judges._set(transport, orjson.dumps(written_listing("anthropic", Listing(MODELS))), False)
    rows = client.models.list().data
    assert [(row.id, row.display_name, row.created_at.year, row.lifecycle) for row in rows] == [
        ("big-1", "Big One", 2023, "active"),
        ("unknown-2", "unknown-2", 1970, "active"),
    ]
    assert (rows[0].max_input_tokens, rows[1].max_input_tokens) == (200_000, None)


def test_googles_types_take_a_model() -> None:
    from google.genai import types

    row = written_model("gemini", MODELS[0])
    row["supportedActions"] = row.pop("supportedGenerationMethods")  # as the SDK itself does it
    model = types.Model.model_validate(row)
    assert (model.name, model.display_name, model.input_token_limit) == ("models/big-1", "Big One", 200_000)


def test_the_mark_of_the_next_page_is_kept() -> None:
    assert read_listing("gemini", {"models": [], "nextPageToken": "t"}).next_page == "t"
    page = {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}
    assert read_listing("anthropic", page).next_page == "a"
    assert read_listing("anthropic", page | {"has_more": False}).next_page is None
    assert written_listing("anthropic", Listing(MODELS, "x"))["has_more"] is True


def test_compatible_servers_tell_the_length_of_the_context_in_their_own_words() -> None:
    for name in ("context_length", "context_window", "max_model_len"):
        assert read_model("openai", {"id": "a", name: 5}).context_tokens == 5


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(
    st.sampled_from(["id", "name", "created", "created_at", "display_name", "max_input_tokens", "inputTokenLimit"]),
    ANYTHING,
)


@given(st.sampled_from(SHAPES), st.sampled_from(SHAPES), st.lists(ROWS | ANYTHING, max_size=3))
def test_rows_that_are_none_are_left_out(source: Shape, target: Shape, rows: list[Any]) -> None:
    listing = read_listing(source, {"models": rows, "data": rows})
    orjson.dumps(written_listing(target, listing))
    assert all(model.id for model in listing.models)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_no_listing_is_a_sentence(shape: Shape) -> None:
    with pytest.raises(UnreadableError, match="The listing of models is none"):
        read_listing(shape, {"data": 5})
