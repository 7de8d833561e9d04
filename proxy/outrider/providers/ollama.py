"""Ollama, self-hosted: it exists only where config names it.

Source: github.com/ollama/ollama docs/api.md and docs/openai.md; ollama-python (_types.py). Its own API streams JSON
lines, the OpenAI-compatible one SSE. Pulling, pushing, creating and deleting models changes the host: they are `admin`.
"""

from typing import Final

from outrider.providers.anthropic import COUNT_TOKENS, MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import RESPONSES, compatible

_ADMIN: Final = Operation("admin", model_in="body", stream="ndjson")
_MODELS: Final = Operation("models")

ENDPOINTS: Final = (
    Endpoint("POST", "/api/chat", Operation("chat", "ollama.chat", "body", "ollama.chat", "ndjson", "sent")),
    Endpoint(
        "POST", "/api/generate", Operation("completions", "ollama.generate", "body", "ollama.chat", "ndjson", "sent")
    ),
    Endpoint("POST", "/api/embed", Operation("embeddings", "ollama.embed", "body", "ollama.embed")),
    Endpoint("POST", "/api/embeddings", Operation("embeddings", "ollama.embeddings", "body")),
    Endpoint("GET HEAD", "/", _MODELS),
    Endpoint("GET", "/api/tags", _MODELS),
    Endpoint("GET", "/api/ps", _MODELS),
    Endpoint("GET", "/api/version", _MODELS),
    Endpoint("POST", "/api/show", Operation("models", model_in="body")),
    Endpoint("POST", "/api/pull", _ADMIN),
    Endpoint("POST", "/api/push", _ADMIN),
    Endpoint("POST", "/api/create", _ADMIN),
    Endpoint("POST", "/api/copy", _ADMIN),
    Endpoint("DELETE", "/api/delete", _ADMIN),
    Endpoint("HEAD POST", "/api/blobs/{id}", _ADMIN),
    *compatible("/v1", "inject", extra=(Endpoint("POST", "/responses", RESPONSES),)),
    Endpoint("POST", "/v1/messages", MESSAGES),
    Endpoint("POST", "/v1/messages/count_tokens", COUNT_TOKENS),
)

PROVIDER: Final = Provider(
    name="ollama",
    title="Ollama",
    otel_name="ollama",
    hosts=(),
    origin="http://127.0.0.1:11434",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="ollama",
    endpoints=ENDPOINTS,
    ratelimit="",
    env=("OLLAMA_API_KEY",),
    needs_config=True,
)
