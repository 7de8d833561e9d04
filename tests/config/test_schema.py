"""The schema's defaults, its marks and the annotated example that documents it."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config import Config, ConfigError, load
from outrider.config.document import DocumentError, read_document
from outrider.config.reload import reload_marks
from outrider.config.schema import PROVIDER_KINDS, Onnx
from outrider.config.values import Rate, host_name, host_pattern, rate
from outrider.providers import BUILT_IN

EXAMPLE = Path(__file__).parents[2] / "docs" / "config.yaml"


def keys_of(data: Any, path: str = "") -> set[str]:
    if path in ("state.fleet_key", "state.password"):
        return {path}
    if path == "redact.key":  # null there, since `check` asks for the file
        return {"redact.key.file"}
    if path == "cache.semantic.onnx":  # in the place of a provider
        return {f"{path}.{key}" for key in Onnx.model_fields}
    if isinstance(data, dict) and data and path != "redact.words":
        step = "*" if path in ("providers", "models", "prices", "prices.*.tiers", "redact.patterns") else None
        return set().union(*(keys_of(v, f"{path}.{step or k}".lstrip(".")) for k, v in data.items()))
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return set().union(*(keys_of(item, f"{path}[]") for item in data))
    return {path}


def test_the_example_shows_every_key_and_no_other() -> None:
    data = read_document(EXAMPLE.read_text()).data
    assert keys_of(data) == set(reload_marks())


def test_the_example_loads_and_shows_the_defaults() -> None:
    config = load(EXAMPLE, {"HOME": "/h"})
    default = Config.model_validate({"ca": {}}, context={"home": Path("/h")})
    for name in ("listen", "egress", "http2", "upstream", "ca", "cache", "timeouts", "caps", "usage", "telemetry"):
        shown = getattr(config, name)
        if name == "cache":  # off, and shown as it could be
            shown = shown.model_copy(update={"semantic": None})
        assert shown == getattr(default, name), name
    assert set(config.providers) == {"openai", "anthropic", "bedrock", "vertex", "azure", "local"}


def test_the_example_says_live_and_restart_as_the_schema_does() -> None:
    marks, section, said = reload_marks(), "", ""
    for line in EXAMPLE.read_text().splitlines():
        if ":" not in line or line.lstrip().startswith("#"):
            continue
        key = line.split(":")[0].strip()
        here = next((word for word in ("live", "restart") if f"[{word}]" in line), None)
        if not line.startswith(" "):
            section, said = key, here or ""
        name = f"{section}.{key}" if line.startswith(" ") else key
        if name in marks and (here or said):
            assert marks[name] == (here or said), name


def test_the_kinds_are_the_built_in_providers() -> None:
    assert set(PROVIDER_KINDS) == set(BUILT_IN)


def test_every_key_is_marked_live_or_restart() -> None:
    marks = reload_marks()
    assert set(marks.values()) == {"live", "restart"}
    assert {marks[key] for key in marks if key.startswith(("listen.proxy", "ca.", "upstream.pool"))} == {"restart"}
    assert {marks[key] for key in marks if key.startswith(("providers", "limits", "egress", "timeouts", "caps"))} == {
        "live"
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("yes", "yes"), ("No", "No"), ("true", True), ("False", False), ("", None), ("~", None),
        ("12", 12), ("-3", -3), ("1.5", 1.5), ("1e3", 1000.0), ("0x10", "0x10"), ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"), ("'12'", "12"), ("600/min", "600/min"), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2_and_words_stay_words(text: str, value: object) -> None:
    assert read_document(f"k: {text}").data == {"k": value}


@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*<>!|'\"\n #,?", max_size=80))
def test_any_text_is_a_document_or_the_declared_error(text: str) -> None:
    with contextlib.suppress(DocumentError):
        assert () in read_document(text).lines


KEYS = st.sampled_from([*Config.model_fields, "openai", "credential", "hosts", "name", "env", "proxy", "requests"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
    ),
    max_size=5,
)


@given(DATA)
def test_any_data_is_a_config_or_problems(data: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(json.dumps(data))
        assert load(path, {"HOME": "/h"}).path == path


@pytest.mark.parametrize(("text", "value"), [("600/min", Rate(600, 60)), ("1 / s", Rate(1, 1)), ("5/h", Rate(5, 3600))])
def test_a_rate_is_a_count_per_period(text: str, value: Rate) -> None:
    assert rate(text) == value
    assert rate(str(value)) == value


@pytest.mark.parametrize("text", ["", "600", "600/m", "0/s", "-1/s", "1.5/s", "1/min/h", "٣/s", 600, None, True])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a count"):
        rate(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("API.OpenAI.com.", "api.openai.com"), ("*.X.internal", "*.x.internal"), ("h.x:8443", "h.x:8443"),
        ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("[::1]:80", "[::1]:80"), ("::1", "::1"), ("llm", "llm"),
    ],
)  # fmt: skip
def test_a_host_has_one_form(text: str, value: str) -> None:
    assert host_pattern(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "http://h", "h/x", "a..b", "-a", "1.2.3", "0x7f.1", "a b", "é.com", "u@h", "h%25", "a" * 300, None, 5],
)
def test_what_is_no_host_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a host name"):
        host_name(text)
