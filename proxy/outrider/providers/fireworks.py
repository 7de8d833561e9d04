"""Fireworks AI.

Source: docs.fireworks.ai/api-reference. Inference is under `/inference/v1`, accounts (which hold API keys) under `/v1`.
Some models send a stream's usage unasked, others only when asked: it is asked for.
"""

from typing import Final

from outrider.providers.anthropic import MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import ADMIN, AUDIO, RERANK, RESPONSES, RESPONSES_STORED, compatible

_ANY: Final = "GET POST PUT PATCH DELETE"
_ACCOUNT: Final = "/v1/accounts/{id}"
_ROWS: Final = (
    *compatible(
        "/inference/v1",
        "inject",
        extra=(
            Endpoint("POST", "/responses", RESPONSES),
            Endpoint("GET DELETE", "/responses/{id}", RESPONSES_STORED),
            Endpoint("POST", "/messages", MESSAGES),
            Endpoint("POST", "/rerank", RERANK),
            Endpoint("POST", "/workflows/**", Operation("images")),
            Endpoint("POST", "/image_generation/**", Operation("images")),
        ),
    ),
    Endpoint("POST", "/v1/audio/transcriptions", AUDIO),
    Endpoint("POST", "/v1/audio/translations", AUDIO),
    Endpoint("GET", "/v1/accounts", Operation("account")),
    Endpoint(_ANY, f"{_ACCOUNT}/models", Operation("models")),
    Endpoint(_ANY, f"{_ACCOUNT}/models/**", Operation("models")),
    Endpoint(_ANY, f"{_ACCOUNT}/datasets", Operation("files")),
    Endpoint(_ANY, f"{_ACCOUNT}/datasets/**", Operation("files")),
    Endpoint(_ANY, f"{_ACCOUNT}/supervisedFineTuningJobs", Operation("fine_tuning")),
    Endpoint(_ANY, f"{_ACCOUNT}/supervisedFineTuningJobs/**", Operation("fine_tuning")),
    Endpoint(_ANY, f"{_ACCOUNT}/batchInferenceJobs", Operation("batches")),
    Endpoint(_ANY, f"{_ACCOUNT}/batchInferenceJobs/**", Operation("batches")),
    Endpoint(_ANY, f"{_ACCOUNT}/deployments", Operation("endpoints")),
    Endpoint(_ANY, f"{_ACCOUNT}/deployments/**", Operation("endpoints")),
    Endpoint(_ANY, f"{_ACCOUNT}/users/**", ADMIN),
    Endpoint(_ANY, f"{_ACCOUNT}/secrets", ADMIN),
    Endpoint(_ANY, f"{_ACCOUNT}/secrets/**", ADMIN),
)

PROVIDER: Final = Provider(
    name="fireworks",
    title="Fireworks AI",
    otel_name="fireworks",
    hosts=("api.fireworks.ai", "audio-prod.api.fireworks.ai", "audio-turbo.api.fireworks.ai"),
    origin="https://api.fireworks.ai",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("FIREWORKS_API_KEY",),
)
