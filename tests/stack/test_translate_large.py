"""A translated answer that comes whole may be as large as a body that is held, and no larger."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from support.running import client_of, post, running

INPUTS = [f"text {number}" for number in range(60)]


@pytest.mark.parametrize(("cap_bytes", "status"), [(8 << 20, b"200"), (100_000, b"502")])
async def test_an_answer_of_many_vectors(tmp_path: Path, cap_bytes: int, status: bytes) -> None:
    """60 × 3,072 numbers: over a megabyte of JSON, which is more than is kept for counting."""
    async with MockProvider(tls=False) as mock:
        reach = {"connect_to": mock.http_url, "credential": {"env": "OPENAI_API_KEY"}}
        sections: dict[str, Any] = {"caps": {"held_body_bytes": cap_bytes, "usage_bytes": 65_536}}
        async with running(tmp_path, {"openai": reach, "gemini": reach}, **sections) as sidecar:
            asked = {"model": "gemini/gemini-embedding-001", "input": INPUTS, "dimensions": 3072}
            shown = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
            peer = await client_of(sidecar)
            more = shown + b"content-type: application/json\r\n"
            await peer.send(post(sidecar, json.dumps(asked).encode(), b"/v1/embeddings", more))
            head, body = await peer.answer()
            peer.close()
    assert head.split(b" ")[1] == status
    if status == b"200":
        assert [len(row["embedding"]) for row in json.loads(body)["data"]] == [3072] * 60
    else:
        assert b"caps.held_body_bytes" in body
