"""Embeddings and rankings: official SDKs, unmodified, at every provider that makes them, through aliases."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import cohere
import httpx
import ollama
import openai
import pytest
from botocore.config import Config
from google import genai
from google.genai import types as genai_types

from e2e.test_unified_api import EMBEDDERS, api, embedder

WORDS = ["hello", "big world"]
# At their own provider their bodies go on as they are, and the other family's model does not know them.
OTHER_BODY = {("boto3 titan", "bedrock"), ("boto3 cohere", "titan")}


def by_openai(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    with openai.OpenAI(base_url=f"{url}/openai/v1", api_key=key, max_retries=0) as sdk:
        return [row.embedding for row in sdk.embeddings.create(model=model, input=texts).data]


def by_google(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    sdk = genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=f"{url}/gemini"))
    try:
        made = sdk.models.embed_content(model=model, contents=texts)  # type: ignore[arg-type]
        return [list(row.values or ()) for row in made.embeddings or ()]
    finally:
        sdk.close()


def by_cohere(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    with httpx.Client(trust_env=False) as http:
        base = f"{url}/cohere"
        sdk = cohere.ClientV2(key, base_url=base, httpx_client=http, log_warning_experimental_features=False)
        made = sdk.embed(model=model, texts=texts, input_type="search_document", embedding_types=["float"])
        return list(made.embeddings.float_ or ())


def by_ollama(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    sdk = ollama.Client(host=f"{url}/ollama", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    try:
        return [list(row) for row in sdk.embed(model=model, input=texts).embeddings]
    finally:
        sdk._client.close()


def by_boto3(url: str, key: str, model: str, body: dict[str, Any]) -> Any:
    access, _, secret = key.partition(":")
    sdk = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=f"{url}/bedrock",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    try:
        return json.loads(sdk.invoke_model(modelId=model, body=json.dumps(body))["body"].read())
    finally:
        sdk.close()


def by_boto3_titan(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    return [by_boto3(url, key, model, {"inputText": text})["embedding"] for text in texts]


def by_boto3_cohere(url: str, key: str, model: str, texts: list[str]) -> list[list[float]]:
    body = {"texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
    found = by_boto3(url, key, model, body)["embeddings"]
    return list(found["float"] if isinstance(found, dict) else found)


SDKS: dict[str, Callable[[str, str, str, list[str]], list[list[float]]]] = {
    "openai": by_openai, "google-genai": by_google, "cohere": by_cohere, "ollama": by_ollama,
    "boto3 titan": by_boto3_titan, "boto3 cohere": by_boto3_cohere,
}  # fmt: skip


@pytest.mark.parametrize("name", SDKS)
async def test_every_sdk_gets_embeddings_of_every_provider(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # google-genai asks otherwise where the name has a "gemini" in it.
    named = {provider: f"words-{number}" for number, provider in enumerate(EMBEDDERS)}
    models = {alias: {"targets": [embedder(provider)]} for provider, alias in named.items()}
    failures, cells = [], []
    async with api(tmp_path, models=models) as ride:
        shown = ride.sidecar.placeholder
        pair = f"{shown.aws_access_key_id}:{shown.aws_secret_access_key}"
        key = pair if name.startswith("boto3") else shown.value
        for provider in EMBEDDERS:
            if (name, provider) in OTHER_BODY:
                cells.append("-")
                continue
            try:
                made = await asyncio.to_thread(SDKS[name], ride.url, key, named[provider], WORDS)
                assert len(made) == len(WORDS)
                assert all(sum(vector) == 1.0 for vector in made), made
                assert made[0] != made[1]
                assert set(ride.served()) == {"bedrock" if provider == "titan" else provider}
                cells.append("ok")
            except Exception as exc:
                ride.served()
                cells.append("FAILED")
                failures.append(f"{name} at {provider}: {type(exc).__name__}: {str(exc)[:300]}")
    with capsys.disabled():
        print(f"\n{name:14}" + "".join(f"{one:>10}" for one in EMBEDDERS))
        print(" " * 14 + "".join(f"{cell:>10}" for cell in cells))
    assert not failures, "\n".join(failures)


RANKERS = ("cohere/rerank-v3.5", "bedrock/cohere.rerank-v3-5:0", "bedrock/amazon.rerank-v1:0")
DOCUMENTS = ["small", "a big world", "big"]


def ranked_by_cohere(url: str, key: str, model: str) -> list[tuple[int, float]]:
    with httpx.Client(trust_env=False) as http:
        base = f"{url}/cohere"
        sdk = cohere.ClientV2(key, base_url=base, httpx_client=http, log_warning_experimental_features=False)
        made = sdk.rerank(model=model, query="big world", documents=DOCUMENTS, top_n=2)
        return [(row.index, row.relevance_score) for row in made.results]


def ranked_by_boto3(url: str, key: str, model: str) -> list[tuple[int, float]]:
    body = {"query": "big world", "documents": DOCUMENTS, "top_n": 2, "api_version": 2}
    made = by_boto3(url, key, model, body)
    assert made.keys() == {"results"}
    return [(row["index"], row["relevance_score"]) for row in made["results"]]


@pytest.mark.parametrize("name", ["cohere", "boto3"])
async def test_every_sdk_gets_rankings_of_every_provider(name: str, tmp_path: Path) -> None:
    models = {f"ranker-{at}": {"targets": [target]} for at, target in enumerate(RANKERS)}
    ask = ranked_by_cohere if name == "cohere" else ranked_by_boto3
    async with api(tmp_path, models=models) as ride:
        shown = ride.sidecar.placeholder
        pair = f"{shown.aws_access_key_id}:{shown.aws_secret_access_key}"
        for alias, target in zip(models, RANKERS, strict=True):
            if name == "boto3" and target == "bedrock/amazon.rerank-v1:0":
                continue  # at its own provider a body goes on as it is, and this is Cohere's
            made = await asyncio.to_thread(ask, ride.url, pair if name == "boto3" else shown.value, alias)
            assert made == [(1, 1.0), (2, 0.5)]
            assert ride.served() == [target.partition("/")[0]]
