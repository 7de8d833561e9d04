"""What a model is known not to do."""

import pytest

from outrider.providers.capabilities import LACKS, lacks
from outrider.upstream.targets import EVERYTHING


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        ("gpt-3.5-turbo", {"vision", "reasoning"}), ("gpt-4o", set()), ("GPT-OSS-120b", {"vision"}),
        ("openai/gpt-oss-20b", {"vision"}), ("anthropic.claude-v2:1", {"vision", "tools", "reasoning"}),
        ("kimi-k2-0905-preview", {"vision"}), ("kimi-k2.5", set()), ("command-a-vision-07-2025", set()),
        ("command-a-03-2025", {"vision"}), ("of-our-own", set()), ("", set()),
    ],
)  # fmt: skip
def test_a_model_does_everything_but_what_it_is_known_not_to_do(model: str, missing: set[str]) -> None:
    assert lacks(model) == missing


def test_the_table_speaks_of_what_calls_need() -> None:
    assert all(missing <= EVERYTHING for missing in LACKS.values())
