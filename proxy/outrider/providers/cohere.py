"""Cohere.

Source: docs.cohere.com/reference. v1 streams JSON lines, v2 streams SSE; the OpenAI-compatible API is under
`/compatibility/v1`.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import compatible

_CHAT_V1: Final = Operation("chat", "cohere.chat_v1", "body", "cohere.chat_v1", "ndjson", "sent")
_CHAT: Final = Operation("chat", "cohere.chat", "body", "cohere.chat", "sse", "sent")
_GENERATE: Final = Operation("completions", "cohere.generate", "body", "cohere.chat_v1", "ndjson", "sent")
_EMBED: Final = Operation("embeddings", "cohere.embed", "body", "cohere.meta")
RERANK: Final = Operation("rerank", "cohere.rerank", "body", "cohere.meta")
_META: Final = Operation("classify", "", "body", "cohere.meta")
_BOTH: Final = ("/v2", "/v1")  # the first is where calls go that were not addressed here
_ROWS: Final = (
    Endpoint("POST", "/v2/chat", _CHAT),
    Endpoint("POST", "/v1/chat", _CHAT_V1),
    Endpoint("POST", "/v1/generate", _GENERATE),
    Endpoint("POST", "/embed", _EMBED, _BOTH),
    Endpoint("POST", "/rerank", RERANK, _BOTH),
    Endpoint("POST", "/v1/classify", _META),
    Endpoint("POST", "/v1/summarize", _META),
    Endpoint("POST", "/tokenize", Operation("count_tokens", model_in="body"), _BOTH),
    Endpoint("POST", "/detokenize", Operation("count_tokens", model_in="body"), _BOTH),
    Endpoint("GET", "/v1/models", Operation("models")),
    Endpoint("GET", "/v1/models/{model}", Operation("models")),
    Endpoint("GET POST", "/v1/embed-jobs", Operation("batches")),
    Endpoint("GET POST", "/v1/embed-jobs/**", Operation("batches")),
    Endpoint("GET POST", "/v2/batches", Operation("batches")),
    Endpoint("GET POST", "/v2/batches/**", Operation("batches")),
    Endpoint("GET POST", "/v1/datasets", Operation("files")),
    Endpoint("GET DELETE", "/v1/datasets/**", Operation("files")),
    Endpoint("GET POST", "/v1/connectors", Operation("connectors")),
    Endpoint("GET POST PATCH DELETE", "/v1/connectors/**", Operation("connectors")),
    Endpoint("GET POST", "/v1/finetuning/finetuned-models", Operation("fine_tuning")),
    Endpoint("GET PATCH DELETE", "/v1/finetuning/**", Operation("fine_tuning")),
    Endpoint("POST", "/v1/check-api-key", Operation("models")),
    *compatible("/compatibility/v1", "sent"),
)

PROVIDER: Final = Provider(
    name="cohere",
    title="Cohere",
    otel_name="cohere",
    hosts=("api.cohere.com", "api.cohere.ai"),
    origin="https://api.cohere.com",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="cohere",
    endpoints=_ROWS,
    ratelimit="",
    env=("CO_API_KEY", "COHERE_API_KEY"),
)
