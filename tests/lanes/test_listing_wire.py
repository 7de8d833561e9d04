"""Which models there are: the sidecar's own listing in both shapes, and each provider's own at its own address."""

import json
from pathlib import Path
from typing import Any

from outrider.mock import MockProvider
from support.running import client_of, get, running


async def test_the_listing_of_all_and_a_providers_own(tmp_path: Path) -> None:
    async with MockProvider(keys={"openai": "key-openai"}, tls=False) as mock:
        providers = {"openai": {"connect_to": mock.http_url, "credential": {"env": "OPENAI_KEY"}}}
        models = {"smart": {"targets": ["openai/gpt-4o"]}}
        async with running(tmp_path, providers, environ={"OPENAI_KEY": "key-openai"}, models=models) as sidecar:
            peer = await client_of(sidecar)
            key = b"authorization: Bearer %b\r\n" % sidecar.placeholder.value.encode()

            async def asked(path: bytes, more: bytes = b"") -> Any:
                await peer.send(get(sidecar, path, key + more))
                head, body = await peer.answer()
                assert b" 200 " in head, body
                return json.loads(body)

            listed = await asked(b"/v1/models")
            assert listed["object"] == "list"
            rows = {row["id"]: row for row in listed["data"]}
            assert rows["smart"] == {
                "id": "smart", "object": "model", "created": 0, "owned_by": "outrider", "context_length": 128_000,
                "targets": ["openai/gpt-4o"],
            }  # fmt: skip
            assert rows["openai/gpt-4o"]["pricing"]["unit"] == "usd_per_million_tokens"
            told = await asked(b"/v1/models", b"anthropic-version: 2023-06-01\r\n")
            assert [row["id"] for row in told["data"]] == list(rows)
            assert (told["first_id"], told["last_id"], told["has_more"]) == ("smart", list(rows)[-1], False)
            assert {row["type"] for row in told["data"]} == {"model"}
            assert (await asked(b"/v1/models/openai/gpt-4o")) == rows["openai/gpt-4o"]
            assert not mock.journal
            assert {row["id"] for row in (await asked(b"/openai/v1/models"))["data"]}.isdisjoint(rows)
            assert mock.journal[-1].target == "/v1/models"
            peer.close()
