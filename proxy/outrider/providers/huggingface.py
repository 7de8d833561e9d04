"""Hugging Face: the router, the older inference API and dedicated endpoints.

Source: huggingface.co/docs/inference-providers and huggingface_hub. huggingface.co is the whole hub; of it only
reading models, files and one's own name is in the table, so nothing else there gets the credential.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import RESPONSES, chat, compatible, completions

_INFERENCE: Final = Operation("inference", "", "path", "", "sse", "none")
_GENERATE: Final = Operation("completions", "tgi.generate", "", "", "sse", "none")
_ROWS: Final = (
    *compatible("/v1", "inject", extra=(Endpoint("POST", "/responses", RESPONSES),)),
    # The router's providers, each under its name, with that provider's own path behind it.
    Endpoint("POST", "/{id}/models/{model*}/v1/chat/completions", chat("inject")),
    Endpoint("POST", "/{id}/v1/chat/completions", chat("inject")),
    Endpoint("POST", "/{id}/v1/completions", completions("inject")),
    Endpoint("POST", "/{id}/openai/v1/chat/completions", chat("sent")),
    Endpoint("POST", "/models/{model*}/v1/chat/completions", chat("inject")),
    Endpoint("POST", "/{id}/models/{model*}", _INFERENCE),
    Endpoint("POST", "/models/{model*}", _INFERENCE),
    Endpoint("POST", "/pipeline/{id}/{model*}", _INFERENCE),
    # Text Generation Inference on a dedicated endpoint.
    Endpoint("POST", "/", _GENERATE),
    Endpoint("POST", "/generate", _GENERATE),
    Endpoint("POST", "/generate_stream", _GENERATE),
    Endpoint("POST", "/embed", Operation("embeddings")),
    Endpoint("POST", "/rerank", Operation("rerank")),
    Endpoint("GET", "/info", Operation("models")),
    Endpoint("GET", "/health", Operation("models")),
    Endpoint("GET", "/api/whoami-v2", Operation("account")),
    Endpoint("GET HEAD", "/{id}/{id}/resolve/**", Operation("files")),
    Endpoint("GET HEAD", "/{id}/resolve/**", Operation("files")),
    Endpoint("GET", "/api/models", Operation("models")),
    Endpoint("GET", "/api/models/{model*}", Operation("models")),
)

PROVIDER: Final = Provider(
    name="huggingface",
    title="Hugging Face",
    otel_name="huggingface",
    hosts=("router.huggingface.co", "api-inference.huggingface.co", "huggingface.co", "*.endpoints.huggingface.cloud"),
    origin="https://router.huggingface.co",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="",
    env=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_API_KEY"),
)
