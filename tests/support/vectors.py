"""Test vectors made by others: read from beside the project, never copied into it."""

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(os.environ.get("OUTRIDER_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))


@cache
def rows(name: str) -> list[dict[str, Any]]:
    """The rows of NAME.jsonl.gz; the test that asks is skipped when they are not there."""
    file = VECTORS / f"{name}.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"the test vectors {file} are not here; set OUTRIDER_VECTORS to their folder")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
