"""Perplexity.

Source: docs.perplexity.ai/api-reference. Chat stands bare; every chunk of a stream holds the usage so far, unasked.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import EMBEDDINGS, MODELS, RESPONSES, RESPONSES_STORED, chat

_CHAT: Final = chat("sent")
_ROWS: Final = (
    Endpoint("POST", "/chat/completions", _CHAT, ("", "/v1")),
    Endpoint("POST", "/v1/sonar", _CHAT),
    Endpoint("GET POST", "/async/chat/completions", Operation("batches", model_in="body"), ("", "/v1")),
    Endpoint("GET", "/async/chat/completions/{id}", Operation("batches"), ("", "/v1")),
    Endpoint("POST", "/search", Operation("search"), ("", "/v1")),
    Endpoint("POST", "/responses", RESPONSES, ("", "/v1")),
    Endpoint("POST", "/v1/agent", RESPONSES),
    Endpoint("GET", "/responses/{id}", RESPONSES_STORED, ("", "/v1")),
    Endpoint("POST", "/v1/embeddings", EMBEDDINGS),
    Endpoint("POST", "/v1/contextualizedembeddings", EMBEDDINGS),
    Endpoint("GET", "/models", MODELS, ("", "/v1")),
    Endpoint("POST", "/generate_auth_token", Operation("admin", mints_secrets=True)),
    Endpoint("POST", "/revoke_auth_token", Operation("admin", mints_secrets=True)),
)

PROVIDER: Final = Provider(
    name="perplexity",
    title="Perplexity",
    otel_name="perplexity",
    hosts=("api.perplexity.ai",),
    origin="https://api.perplexity.ai",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="",
    env=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
)
